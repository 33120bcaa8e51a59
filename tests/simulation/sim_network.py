"""A seeded network and clock for simulations: no sockets, no real time.

Packets are delayed, lost, doubled and reordered; any direction of any link can
be cut; a slow machine stalls for stretches and handles all that came meanwhile
late. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Weather:
    """How the network treats packets; seconds and shares."""

    delay_min: float = 0.0002
    delay_mean: float = 0.0005  # of the exponential part above the minimum
    loss: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0  # share of packets that come after an extra delay
    late_by: float = 0.05
    bandwidth: float = 100e6  # bytes/s, for streams


class Clock:
    """Virtual time: a heap of calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call at a time, at the earliest now; equal times in order."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, call))

    def run_until(self, end: float, done: Callable[[], bool] | None = None) -> bool:
        """Run up to ``end``, or until ``done()``; tells whether it was done."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, call = heapq.heappop(heap)
            call()
            if done is not None and done():
                return True
        self.now = end
        return False


class Network:
    """Decides about each packet; machines are small integers."""

    def __init__(self, clock: Clock, rng: random.Random, weather: Weather) -> None:
        self.clock = clock
        self.rng = rng
        self.weather = weather
        self._cut: set[tuple[int, int]] = set()

    def cut(self, source: int, target: int, *, both: bool = True) -> None:
        """Let nothing pass from source to target (nor back)."""
        self._cut.add((source, target))
        if both:
            self._cut.add((target, source))

    def split(self, left: set[int], right: set[int]) -> None:
        """Part two groups from each other."""
        for one in left:
            for other in right:
                self.cut(one, other)

    def heal(self) -> None:
        """Mend every link."""
        self._cut.clear()

    def open(self, source: int, target: int) -> bool:
        """Tell whether anything passes in that direction."""
        return (source, target) not in self._cut

    def delay(self) -> float:
        """Return the way time of one packet."""
        weather = self.weather
        return weather.delay_min + self.rng.expovariate(1 / weather.delay_mean)

    def deliver(self, source: int, target: int, call: Callable[[], None]) -> None:
        """Send a packet: the call happens never, once or twice, later."""
        weather, rng = self.weather, self.rng
        if self._cut and (source, target) in self._cut:
            return
        copies = 2 if weather.duplicates and rng.random() < weather.duplicates else 1
        for _ in range(copies):
            if weather.loss and rng.random() < weather.loss:
                continue
            wait = self.delay()
            if weather.late and rng.random() < weather.late:
                wait += rng.random() * weather.late_by
            self.clock.at(self.clock.now + wait, call)


class Machine:
    """One computer: runs calls at once, or late while it is stalled."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.up = True
        self.stalled_until = 0.0

    def run(self, call: Callable[[], None]) -> None:
        """Run the call if the machine is up, after its stall if it has one."""
        if not self.up:
            return
        if self.stalled_until > self.clock.now:
            self.clock.at(self.stalled_until, lambda: self.run(call))
        else:
            call()

    def be_slow(self, rng: random.Random, stall: float, work: float) -> None:
        """From now on stall up to ``stall`` s, then work up to ``work`` s."""

        def next_stall() -> None:
            if self.up:
                self.stalled_until = self.clock.now + rng.uniform(0.1, 1) * stall
                wake = self.stalled_until + rng.uniform(0.1, 1) * work
                self.clock.at(wake, next_stall)

        self.clock.at(self.clock.now + rng.random() * work, next_stall)
