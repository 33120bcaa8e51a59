"""Deadlines of many waiters on one timer of the loop.

Deadlines are rounded up to ``GRAIN_S``, so that waiters share a slot; only the
earliest slot has a timer. Adding and removing cost a dict operation, where a
timer each costs an allocation and a place in the loop's heap.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from heapq import heappop, heappush
from math import ceil
from typing import Protocol

GRAIN_S = 0.02
"""How much later than asked a waiter may be woken."""


class Waiter(Protocol):
    """Who has a deadline; hashed by identity."""

    def answer(self) -> None:
        """The deadline has come."""
        ...


class Deadlines:
    """Slots of waiters by time."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[Waiter, None]] = {}
        self._order: list[int] = []
        self._timer: TimerHandle | None = None
        self._armed = 0

    def add(self, loop: AbstractEventLoop, waiter: Waiter, delay_s: float) -> int:
        """Wake ``waiter`` after ``delay_s``; returns the slot to remove it from."""
        slot = ceil((loop.time() + delay_s) / GRAIN_S)
        waiters = self._slots.get(slot)
        if waiters is None:
            waiters = self._slots[slot] = {}
            heappush(self._order, slot)
            if self._timer is None or slot < self._armed:
                self._arm(loop)
        waiters[waiter] = None
        return slot

    def remove(self, waiter: Waiter, slot: int) -> None:
        """Forget ``waiter``; an empty slot goes when its time comes."""
        waiters = self._slots.get(slot)
        if waiters is not None:
            waiters.pop(waiter, None)

    def _arm(self, loop: AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._order:
            self._armed = self._order[0]
            self._timer = loop.call_at(self._armed * GRAIN_S, self._run, loop)

    def _run(self, loop: AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        # A loop's clock may be a moment early; what it promised is due.
        while self._order and (
            self._order[0] <= self._armed or self._order[0] * GRAIN_S <= now
        ):
            for waiter in list(self._slots.pop(heappop(self._order))):
                waiter.answer()
        self._arm(loop)
