"""The one blocking loop (``http-api.md`` 1.3).

A query that must wait joins the group of equal queries. A group holds the
last reply, subscribes once to the cells it read, and is evaluated once when
they fire, however many wait. A waiter costs a future, a timer and one small
object; nothing runs until something the query read has changed.

Reads that only the leader may answer have a ``Role``: once it is lost, who
waits is handed over to the next leader with the time that is left.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from pyconsul.endpoints.deadlines import GRAIN_S, Deadlines
from pyconsul.endpoints.futures import follow
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Cell, Reply

DEFAULT_QUERY_TIME_S = 300.0
MAX_QUERY_TIME_S = 600.0
JITTER_FRACTION = 16
"""Up to wait/16 is added, so that equal waiters do not return in one wave."""

Evaluate = Callable[[], Reply]


class Role(Protocol):
    """Whether this server may answer a query, and who does otherwise."""

    def may_answer(self) -> bool:
        """Tell whether an answer from this server's state is a true one now."""
        ...

    def ask_again(self, min_index: int, left_s: float) -> Future[Reply]:
        """Ask whoever may answer, waiting for at most ``left_s``."""
        ...


class _Waiter:
    """One blocked query: answered above ``min_index``, or at its deadline."""

    __slots__ = ("future", "group", "min_index", "slot")

    def __init__(self, group: _Group, future: Future[Reply], min_index: int) -> None:
        self.group = group
        self.future = future
        self.min_index = min_index
        self.slot = 0

    def answer(self) -> None:
        """Answer with the last evaluation; at a deadline none is made."""
        if self.future.done():
            return
        group = self.group
        if group.role is None or group.role.may_answer():
            self.future.set_result(group.reply)
        else:
            group.hand_over(self, group.role)

    def on_done(self, _: Future[Reply]) -> None:
        """Leave nothing behind, whether answered or cancelled."""
        self.group.leave(self)


class _Group:
    """Equal queries waiting for the same thing."""

    __slots__ = (
        "_owner",
        "_scheduled",
        "cells",
        "evaluate",
        "key",
        "reply",
        "role",
        "waiters",
    )

    def __init__(
        self,
        owner: BlockingQueries,
        key: bytes,
        evaluate: Evaluate,
        reply: Reply,
        role: Role | None,
    ) -> None:
        self.role = role
        self._owner = owner
        self._scheduled = False
        self.key = key
        self.evaluate = evaluate
        self.reply = reply
        self.cells: Sequence[Cell] = ()
        self.waiters: dict[_Waiter, None] = {}
        self._watch(reply.cells)

    def fire(self) -> None:
        """Something read has changed: evaluate soon, once for all changes."""
        if not self._scheduled:
            self._scheduled = True
            self._owner.loop.call_soon(self._run)

    def _watch(self, cells: Sequence[Cell]) -> None:
        for cell in self.cells:
            cell.unsubscribe(self)
        self.cells = cells
        for cell in cells:
            cell.subscribe(self)

    def _run(self) -> None:
        self._scheduled = False
        if not self.waiters:
            return
        try:
            reply = self.evaluate()
        except ConsulError as error:
            # Nobody may join any more: this group watches nothing now.
            self._watch(())
            self._owner.forget(self)
            for waiter in self.waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            return
        # Indexes run backwards only when the whole state was replaced.
        restored = reply.index < self.reply.index
        self.reply = reply
        self._watch(reply.cells)
        due = [w for w in self.waiters if restored or reply.index > w.min_index]
        role = self.role
        if role is not None and due and not role.may_answer():
            for waiter in due:
                self.hand_over(waiter, role)
            return
        for waiter in due:
            if not waiter.future.done():
                waiter.future.set_result(reply)

    def hand_over(self, waiter: _Waiter, role: Role) -> None:
        """Have another server answer, in the time that is left."""
        left_s = waiter.slot * GRAIN_S - self._owner.loop.time()
        self.leave(waiter)
        if not waiter.future.done():
            follow(role.ask_again(waiter.min_index, left_s), waiter.future)

    def release(self) -> None:
        """Answer everybody now: the whole state was replaced."""
        self._run()
        for waiter in list(self.waiters):
            waiter.answer()

    def leave(self, waiter: _Waiter) -> None:
        """Forget ``waiter``; the last one takes the subscriptions along."""
        self._owner.deadlines.remove(waiter, waiter.slot)
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self._watch(())
            self._owner.forget(self)


class BlockingQueries:
    """All waiting queries of a server, grouped by what they ask."""

    def __init__(
        self,
        random: Random,
        *,
        default_query_time_s: float = DEFAULT_QUERY_TIME_S,
        max_query_time_s: float = MAX_QUERY_TIME_S,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        self._random = random
        self._default_s = default_query_time_s
        self._max_s = max_query_time_s
        self._loop = loop
        self._groups: dict[bytes, _Group] = {}
        self.deadlines = Deadlines()

    @property
    def loop(self) -> AbstractEventLoop:
        """The loop the waiters live in."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def waiters(self) -> int:
        """How many queries wait; ``len()`` are the groups they form."""
        return sum(len(group.waiters) for group in self._groups.values())

    def wait(
        self,
        key: bytes,
        evaluate: Evaluate,
        reply: Reply,
        min_index: int,
        max_query_time_ns: int,
        role: Role | None = None,
    ) -> Reply | Future[Reply]:
        """Return ``reply`` when it is new enough, else a future of a later one.

        ``key`` is the query without its timing; ``reply`` its evaluation of
        this moment, whose index is not greater than ``min_index`` if waiting.
        """
        if reply.index > min_index:
            return reply
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self, key, evaluate, reply, role)
        else:
            # An index may grow without a cell firing (a missing key has its
            # table's); a timeout must not answer with an older one.
            group.reply = reply
        loop = self.loop
        future: Future[Reply] = loop.create_future()
        waiter = _Waiter(group, future, min_index)
        group.waiters[waiter] = None
        wait_s = max_query_time_ns / 1e9
        wait_s = min(wait_s, self._max_s) if wait_s > 0 else self._default_s
        wait_s += self._random.random() * wait_s / JITTER_FRACTION
        waiter.slot = self.deadlines.add(loop, waiter, wait_s)
        future.add_done_callback(waiter.on_done)
        return future

    def forget(self, group: _Group) -> None:
        """Drop an empty group."""
        if self._groups.get(group.key) is group:
            del self._groups[group.key]

    def hand_over_all(self) -> None:
        """The role was lost: whoever needs it waits elsewhere from now on."""
        for group in list(self._groups.values()):
            if group.role is not None:
                for waiter in list(group.waiters):
                    group.hand_over(waiter, group.role)

    def release_all(self) -> None:
        """Answer every waiter: a snapshot was restored, or the server stops."""
        for group in list(self._groups.values()):
            group.release()
