"""Equal reads that go to another process share round trips.

A read that arrives while an equal one is under way waits for the *next* round
trip, which answers all that came meanwhile. It begins after each of them did,
so a read still sees every write that was acknowledged before it: sharing is
linearizable. A consistent read keeps its promise in the same way. Without a
leader nobody waits for longer than the hold time, whichever trip it is in.

Blocking reads of equal key and index share one that is already waiting. When
it answers, those who joined share one round trip for what is there then; one
whose own time is up earlier asks without waiting, and those that may wait for
longer ask once more. Stale reads take the answer itself.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec

from pyconsul.endpoints.blocking import JITTER_FRACTION
from pyconsul.endpoints.deadlines import Deadlines
from pyconsul.endpoints.futures import follow
from pyconsul.endpoints.routed_calls import RPC_HOLD_TIMEOUT_S, CallTimes
from pyconsul.types.errors import NoLeaderError
from pyconsul.types.messages import QueryOptions, Reply

Start = Callable[[str, Any], "Future[Reply]"]
"""Begins a round trip; every failure is set on the future."""

_SECOND = 1_000_000_000


class _Trip:
    """A round trip under way, and who waits for the next."""

    __slots__ = ("_args", "_key", "_method", "_owner", "next", "now")

    def __init__(self, owner: SharedReads, key: Any, method: str, args: Any) -> None:
        self._owner = owner
        self._key = key
        self._method = method
        self._args = args
        self.now: list[Future[Reply]] = []
        self.next: list[tuple[float, Future[Reply]]] = []
        """When they came, and their futures."""

    def start(self) -> Future[Reply]:
        """Ask; the first reader takes this very future."""
        upstream = self._owner.start(self._method, self._args)
        upstream.add_done_callback(self._on_done)
        return upstream

    def _on_done(self, done: Future[Reply]) -> None:
        readers = self.now
        waiting = [(came, one) for came, one in self.next if not one.done()]
        self.now = [one for _, one in waiting]
        self.next = []
        if not done.cancelled() and isinstance(done.exception(), NoLeaderError):
            owner = self._owner
            for came, one in waiting:
                owner.loop.call_at(came + owner.hold_s, _give_up, one)
        if self.now:
            self.start()
        else:
            self._owner.forget(self._key)
        _settle(readers, done)


class _Joined:
    """A blocking read that joined another's."""

    __slots__ = ("_group", "before", "deadline", "future", "slot")

    def __init__(self, group: _Group, future: Future[Reply], deadline: float) -> None:
        self._group = group
        self.future = future
        self.deadline = deadline
        self.before = False
        """It was there before the call under way was made."""
        self.slot = 0

    def answer(self) -> None:
        """Time is up before the shared read answered: ask without waiting."""
        self._group.leave(self)
        if not self.future.done():
            follow(self._group.ask_now(), self.future)

    def on_done(self, _: Future[Reply]) -> None:
        """Leave nothing behind, whether answered or cancelled."""
        self._group.leave(self)


class _Group:
    """Equal blocking reads: one waits upstream for all."""

    __slots__ = (
        "_args",
        "_ends",
        "_for_joined",
        "_method",
        "_owner",
        "_upstream",
        "joined",
        "key",
    )

    def __init__(self, owner: SharedReads, key: Any, method: str, args: Any) -> None:
        self._owner = owner
        self.key = key
        self._method = method
        self._args: QueryOptions = args
        self._ends = 0.0
        self._for_joined = False
        self._upstream: Future[Reply] | None = None
        self.joined: dict[_Joined, None] = {}

    def start(self, args: QueryOptions) -> Future[Reply]:
        """Ask with the wait of ``args``; the first reader takes this future."""
        self._ends = self._owner.loop.time() + self._owner.times.wait_s(
            args.max_query_time
        )
        upstream = self._upstream = self._owner.start(self._method, args)
        upstream.add_done_callback(self._on_answer)
        return upstream

    def join(self, args: QueryOptions) -> Future[Reply]:
        """Return a future of the shared answer, in time for ``args``."""
        owner = self._owner
        loop = owner.loop
        wait = owner.times.wait_s(args.max_query_time)
        wait += owner.random.random() * wait / JITTER_FRACTION
        future: Future[Reply] = loop.create_future()
        one = _Joined(self, future, loop.time() + wait)
        self.joined[one] = None
        one.slot = owner.deadlines.add(loop, one, wait)
        future.add_done_callback(one.on_done)
        return future

    def ask_now(self) -> Future[Reply]:
        """Return a future of the present answer."""
        now = msgspec.structs.replace(self._args, min_query_index=0, max_query_time=0)
        return self._owner.call(self._method, now)

    def leave(self, one: _Joined) -> None:
        """Forget a reader; the last one ends a read that was made for them."""
        self._owner.deadlines.remove(one, one.slot)
        self.joined.pop(one, None)
        upstream = self._upstream
        if not self.joined and self._for_joined and upstream is not None:
            self._upstream = None
            self._owner.forget_group(self)
            upstream.cancel()

    def _on_answer(self, done: Future[Reply]) -> None:
        if done is not self._upstream:
            return  # nobody waits any more
        owner = self._owner
        self._upstream = None
        if not self.joined:
            owner.forget_group(self)
            return
        if done.cancelled() or self._only_timed_out(done):
            # Whom it was made for has gone, or its time was shorter.
            self._wait_on()
            return
        owner.forget_group(self)
        anyway = done.exception() is not None or self._args.allow_stale
        late: list[Future[Reply]] = []
        for one in list(self.joined):
            if anyway or one.before:
                _settle([one.future], done)
            else:
                late.append(one.future)
        if late:
            # On its way this answer may have been overtaken by a write that was
            # acknowledged before the last of them joined.
            self.ask_now().add_done_callback(partial(_settle, late))

    def _only_timed_out(self, done: Future[Reply]) -> bool:
        if done.exception() is not None or self._owner.loop.time() < self._ends:
            return False
        return done.result().index <= self._args.min_query_index

    def _wait_on(self) -> None:
        left = max(one.deadline for one in self.joined) - self._owner.loop.time()
        # All have a timer of their own, so a little too long does no harm.
        wait = max(int(left * _SECOND), _SECOND // 10)
        self._for_joined = True
        for one in self.joined:
            one.before = True
        self.start(msgspec.structs.replace(self._args, max_query_time=wait))


class SharedReads:
    """Reads under way by what they ask."""

    def __init__(
        self,
        start: Start,
        random: Random,
        hold_s: float = RPC_HOLD_TIMEOUT_S,
        times: CallTimes | None = None,
    ) -> None:
        self.times = times or CallTimes()
        self.start = start
        self.hold_s = hold_s
        self.random = random
        self.deadlines = Deadlines()
        self._trips: dict[Any, _Trip] = {}
        self._groups: dict[Any, _Group] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the readers live in."""
        return asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._trips) + len(self._groups)

    def call(self, method: str, args: Any) -> Future[Reply]:
        """Return a future of the answer; its ``Reply`` may be shared."""
        if args.min_query_index:
            return self._wait(method, args)
        key = _key(method, args)
        trip = self._trips.get(key)
        if trip is None:
            trip = self._trips[key] = _Trip(self, key, method, args)
            return trip.start()
        reader: Future[Reply] = self.loop.create_future()
        trip.next.append((self.loop.time(), reader))
        return reader

    def forget(self, key: Any) -> None:
        """Drop a round trip that is over."""
        self._trips.pop(key, None)

    def forget_group(self, group: _Group) -> None:
        """Drop a group that is over."""
        if self._groups.get(group.key) is group:
            del self._groups[group.key]

    def _wait(self, method: str, args: QueryOptions) -> Future[Reply]:
        if args.require_consistent:
            # Its answer must be confirmed after it came: it shares with nobody.
            return self.start(method, args)
        key = _key(method, msgspec.structs.replace(args, max_query_time=0))
        group = self._groups.get(key)
        if group is not None:
            return group.join(args)
        group = self._groups[key] = _Group(self, key, method, args)
        return group.start(args)


def _key(method: str, args: Any) -> Any:
    key = (method, args)
    try:
        hash(key)
    except TypeError:  # lists and maps
        return method, msgspec.msgpack.encode(args)
    return key


def _give_up(reader: Future[Reply]) -> None:
    if not reader.done():
        reader.set_exception(NoLeaderError())


def _settle(readers: list[Future[Reply]], done: Future[Reply]) -> None:
    """Give all ``readers`` the outcome of ``done``."""
    if done.cancelled():
        for reader in readers:
            reader.cancel()
        return
    error = done.exception()
    for reader in readers:
        if reader.done():
            continue
        if error is not None:
            reader.set_exception(error)
        else:
            reader.set_result(done.result())
