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
from collections.abc import Callable
from random import Random
from typing import Any

from pyconsul.agent.local import LocalState
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import Caller, NodeSpecificRequest, Reply, Row
from pyconsul.types.records import HealthCheck, NodeService, NodeServices

FULL_SYNC_S = 60.0
RETRY_S = 15.0
SERVER_UP_S = 3.0
SCALE_FROM = 128
"""Members up to which nothing is stretched."""
MAX_STALENESS_NS = 2_000_000_000

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
        self._pushing = asyncio.Lock()
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
        async with self._pushing:
            self._local.compare(found.node if found else None, listed, records)

    async def push(self) -> bool:
        """Push everything that is out of sync; ``False`` when a call failed."""
        async with self._pushing:
            while (step := self._local.next_step()) is not None:
                try:
                    await answer(self._caller, step.method, step.args)
                except PermissionDeniedError:
                    log.warning("Registration blocked by ACLs: %s", step.what)
                    self._local.blocked(step)
                except ConsulError as error:
                    if "ACL not found" in str(error):
                        self._local.blocked(step)
                        continue
                    if step.method == "Catalog.Deregister" and "Unknown" in str(error):
                        self._local.done(step)
                        continue
                    log.error('anti_entropy: failed to sync changes: error="%s"', error)
                    return False
                else:
                    self._local.done(step)
                    word = (
                        "Deregistered"
                        if step.method == "Catalog.Deregister"
                        else "Synced"
                    )
                    log.info("%s %s", word, step.what)
        return True


def _record(value: Any) -> Any:
    return value.record if isinstance(value, Row) else value
