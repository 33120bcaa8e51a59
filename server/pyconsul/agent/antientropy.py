"""The shell around ``local.py``: when to push, when to compare with the servers.

Edge: any change is pushed at once. Time: a full comparison every minute and a
random part of another; the random part grows with the pool, so that servers see
a steady trickle. After a failed full sync it is tried again after fifteen
seconds and a random part of fifteen, or soon after a server came up.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Future
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from pyconsul.agent.entries import CheckEntry, ServiceEntry, Step
from pyconsul.agent.local import LocalState
from pyconsul.types.errors import ConsulError, NoLeaderError, PermissionDeniedError
from pyconsul.types.messages import (
    Caller,
    DeregisterRequest,
    NodeSpecificRequest,
    Reply,
    Row,
)
from pyconsul.types.records import HealthCheck, NodeService, NodeServices

FULL_SYNC_S = 60.0
RETRY_S = 15.0
SERVER_UP_S = 3.0
SCALE_FROM = 128
"""Members up to which nothing is stretched."""
MAX_STALENESS_NS = 2_000_000_000
MAX_CALLS = 64
"""Calls to the servers under way at once."""

log = logging.getLogger("agent")


def scale(members: int) -> int:
    """Return the factor of the random parts (``agent-behaviour.md`` 1)."""
    if members <= SCALE_FROM:
        return 1
    return math.ceil(math.log2(members) - math.log2(SCALE_FROM)) + 1


async def answer(caller: Caller, method: str, args: Any) -> Reply:
    """Await a call, whichever way it answers."""
    reply = caller.call(method, args)
    return reply if isinstance(reply, Reply) else await reply


class AntiEntropy:
    """Keeps the servers' copy equal to ``local``; ``run`` is its one task."""

    def __init__(
        self,
        local: LocalState,
        caller: Caller,
        random: Random,
        clock: Callable[[], float],
    ) -> None:
        self._local = local
        self._caller = caller
        self._random = random
        self._clock = clock
        self._edge = asyncio.Event()
        self._full_wanted = False
        self._server_up_at: float | None = None
        self.members: Callable[[], int] = lambda: 1
        """How many members the LAN pool has."""
        self._pusher = Pusher(local, caller)
        self._paused = 0

    def trigger(self) -> None:
        """Push what has changed, soon."""
        self._edge.set()

    def leads(self) -> None:
        """This very server leads now: compare at once."""
        self._full_wanted = True
        self._edge.set()

    def server_up(self) -> None:
        """Compare soon with a server that came up; the more members, the later."""
        if self._server_up_at is None:
            members = self.members()
            spread = SERVER_UP_S * min(1.0, members / SCALE_FROM) * scale(members)
            self._server_up_at = self._clock() + self._random.random() * spread
            self._edge.set()

    def pause(self) -> None:
        """Hold back while several changes are made; calls nest."""
        self._paused += 1

    def resume(self) -> None:
        """End one ``pause``; the last one pushes."""
        self._paused -= 1
        if self._paused == 0:
            self.trigger()

    async def run(self) -> None:
        """Sync until cancelled."""
        try:
            await self._run()
        finally:
            self._pusher.stop()

    async def _run(self) -> None:
        ok = await self._full()
        due = self._next_full(ok)
        while True:
            deferred = self._local.next_deferred()
            now = self._clock()
            until = due if deferred is None else min(due, deferred)
            if self._server_up_at is not None:
                until = min(until, self._server_up_at)
            try:
                async with asyncio.timeout(max(0.0, until - now)):
                    await self._edge.wait()
            except TimeoutError:
                pass
            self._edge.clear()
            if self._paused:
                continue
            now = self._clock()
            self._local.release_deferred(now)
            if self._server_up_at is not None and now >= self._server_up_at:
                self._server_up_at = None
                self._full_wanted = True
            if self._full_wanted or now >= due:
                self._full_wanted = False
                ok = await self._full()
                due = self._next_full(ok)
            else:
                await self.push()

    def _next_full(self, ok: bool) -> float:
        base = FULL_SYNC_S if ok else RETRY_S
        spread = base * scale(self.members())
        return self._clock() + base + self._random.random() * spread

    async def _full(self) -> bool:
        try:
            await self._compare()
        except ConsulError as error:
            log.error('anti_entropy: failed to sync remote state: error="%s"', error)
            return False
        return await self.push()

    async def _compare(self) -> None:
        own = self._local.options
        args = NodeSpecificRequest(
            node=own.node,
            datacenter=own.datacenter,
            token=own.agent_token,
            allow_stale=True,
            max_stale_duration=MAX_STALENESS_NS,
        )
        services = await answer(self._caller, "Catalog.NodeServices", args)
        checks = await answer(self._caller, "Health.NodeChecks", args)
        found: NodeServices | None = _record(services.value)
        listed: list[NodeService] = found.services if found else []
        records: list[HealthCheck] = [_record(row) for row in checks.value]
        await self._pusher.alone(
            lambda: self._local.compare(found.node if found else None, listed, records)
        )

    async def push(self) -> bool:
        """Push everything that is out of sync; ``False`` when a call failed."""
        return await self._pusher.push()


class Pusher:
    """Makes the calls that repair what is out of sync, several at a time.

    Two that are about the same service or check go one after the other, and the
    node's own goes before those of services and checks. A refused entry does
    not hold up the others; without a server nothing more is tried.
    """

    def __init__(self, local: LocalState, caller: Caller) -> None:
        self._local = local
        self._caller = caller
        self._busy: set[str] = set()
        self._calls = 0
        self._replies: set[Future[Reply]] = set()
        self._steps: Iterator[Step] = iter(())
        self._skipped = False
        """A call of this pass had to wait for another about the same."""
        self._refused: set[str] = set()
        """What has failed since everybody was answered."""
        self._waiting: dict[int, list[_Push]] = {}
        """Who waits for an entry, by its identity."""
        self._alone: list[Callable[[], None]] = []

    async def push(self) -> bool:
        """Return once each entry out of sync by now was pushed, or failed."""
        push = _Push(asyncio.get_running_loop().create_future())
        for entry in self._local.unsynced():
            push.left[id(entry)] = entry
            self._waiting.setdefault(id(entry), []).append(push)
        if not push.left:
            return True
        self._steps = self._local.steps()
        self._pump()
        await push.done
        return push.ok

    async def alone(self, work: Callable[[], None]) -> None:
        """Do ``work`` while no call is under way."""
        done: Future[None] = asyncio.get_running_loop().create_future()

        def run() -> None:
            if done.done():
                return
            try:
                work()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._alone.append(run)
        self._pump()
        await done

    def _pump(self) -> None:
        """Start what may start."""
        if self._alone:
            if self._calls:
                return
            works, self._alone = self._alone, []
            for work in works:
                work()
            self._settle_gone()
            self._refused.clear()
            self._steps = self._local.steps()
        while self._calls < MAX_CALLS and "node" not in self._busy:
            step = next(self._steps, None)
            if step is None:
                if self._skipped and not self._calls:
                    self._skipped = False
                    self._steps = self._local.steps()
                    continue
                break
            keys = step.keys()
            if keys & self._refused:
                self._settle(step, ok=False)
            elif keys & self._busy:
                self._skipped = True
            else:
                self._start(step, keys)
        if not self._calls and self._waiting:
            self._settle_gone()
            if self._waiting:
                self._give_up()
        if not self._waiting:
            self._refused.clear()

    def _start(self, step: Step, keys: set[str]) -> None:
        try:
            reply = self._caller.call(step.method, step.args)
        except ConsulError as error:
            self._calls += 1
            self._ended(step, keys, error)
            return
        self._calls += 1
        self._busy |= keys
        if isinstance(reply, Reply):
            self._ended(step, keys, None)
        else:
            self._replies.add(reply)
            reply.add_done_callback(partial(self._answered, step, keys))

    def stop(self) -> None:
        """Give up the calls under way, and whoever waits."""
        self._give_up()
        for reply in list(self._replies):
            reply.cancel()

    def _answered(self, step: Step, keys: set[str], reply: Future[Reply]) -> None:
        self._replies.discard(reply)
        if reply.cancelled():
            self._calls -= 1
            self._busy -= keys
            self._settle(step, ok=False)
            return
        self._ended(step, keys, reply.exception())
        self._pump()

    def _ended(self, step: Step, keys: set[str], error: BaseException | None) -> None:
        self._calls -= 1
        self._busy -= keys
        if self._skipped:
            # Others about the same may go now.
            self._skipped = False
            self._steps = self._local.steps()
        ok = True
        if error is None:
            self._local.done(step)
            word = "Deregistered" if step.method == "Catalog.Deregister" else "Synced"
            log.info("%s %s", word, step.what)
        elif isinstance(error, PermissionDeniedError):
            log.warning("Registration blocked by ACLs: %s", step.what)
            self._local.blocked(step)
        elif "ACL not found" in str(error):
            self._local.blocked(step)
        elif step.method == "Catalog.Deregister" and "Unknown" in str(error):
            self._local.done(step)
        else:
            log.error('anti_entropy: failed to sync changes: error="%s"', error)
            ok = False
            if step.node or isinstance(error, NoLeaderError) or hasattr(error, "sent"):
                # The others would fail alike.
                self._give_up()
                return
            self._refused |= keys
        self._settle(step, ok=ok)

    def _give_up(self) -> None:
        self._steps = iter(())
        self._skipped = False
        for pushes in list(self._waiting.values()):
            for push in pushes:
                push.end(ok=False)
        self._waiting.clear()

    def _settle(self, step: Step, *, ok: bool) -> None:
        """Tell those who wait for what the step was about."""
        for entry in step.entries():
            if ok and self._local.waits(entry):
                # It changed meanwhile: another step is due.
                self._steps = self._local.steps()
                continue
            self._release(id(entry), ok=ok)
        if isinstance(step.args, DeregisterRequest):
            self._settle_gone()  # a service takes its checks along

    def _settle_gone(self) -> None:
        """Tell those who wait for entries that need nothing any more."""
        for push in {push for pushes in self._waiting.values() for push in pushes}:
            for key, entry in list(push.left.items()):
                if not self._local.waits(entry):
                    self._release(key, ok=True)

    def _release(self, key: int, *, ok: bool) -> None:
        for push in self._waiting.pop(key, ()):
            push.attempted(key, ok=ok)


class _Push:
    """One who waits, and for which entries; holding them keeps their ids."""

    __slots__ = ("done", "left", "ok")

    def __init__(self, done: Future[None]) -> None:
        self.done = done
        self.left: dict[int, ServiceEntry | CheckEntry | None] = {}
        self.ok = True

    def attempted(self, key: int, *, ok: bool) -> None:
        """Note the end of one entry's push."""
        self.left.pop(key, None)
        self.ok = self.ok and ok
        if not self.left:
            self.end(ok=self.ok)

    def end(self, *, ok: bool) -> None:
        """Answer."""
        self.ok = ok
        if not self.done.done():
            self.done.set_result(None)


def _record(value: Any) -> Any:
    return value.record if isinstance(value, Row) else value
