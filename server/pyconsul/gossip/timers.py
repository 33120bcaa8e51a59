"""Timers of a core: a heap of what to call when; time enters as ``now``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

Action = Callable[[float], None]


@dataclass(slots=True, eq=False)
class Timer:
    """What is to happen at ``deadline``; cancelled when ``action`` is None."""

    deadline: float
    action: Action | None

    def cancel(self) -> None:
        """Do not call it any more; its entry is dropped when it comes up."""
        self.action = None


class Timers:
    """All timers of one core; equal deadlines run in order of creation."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = 0

    def at(self, deadline: float, action: Action) -> Timer:
        """Call ``action(now)`` once ``deadline`` is reached."""
        timer = Timer(deadline, action)
        self._number += 1
        heappush(self._heap, (deadline, self._number, timer))
        return timer

    def next_deadline(self) -> float:
        """Return the earliest deadline; infinity when there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def run(self, now: float) -> None:
        """Call everything due; what these calls add waits for the next run."""
        heap = self._heap
        last = self._number
        while heap and heap[0][0] <= now and heap[0][1] <= last:
            action = heappop(heap)[2].action
            if action is not None:
                action(now)
