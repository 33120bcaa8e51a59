"""Counters, gauges and samples, shown an interval at a time.

``/v1/agent/metrics`` shows the last complete interval of ten seconds. Names
are dotted (``consul.http.request``); labels are name and value pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

INTERVAL_S = 10
NAMES_MAX = 4096
"""Series kept an interval; further new ones are dropped."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


class _Aggregate:
    __slots__ = ("count", "high", "low", "squares", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.squares += value * value
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    def view(self, key: Key) -> dict[str, Any]:
        mean = self.total / self.count
        spread = 0.0
        if self.count > 1:
            top = self.count * self.squares - self.total * self.total
            spread = math.sqrt(max(top, 0.0) / (self.count * (self.count - 1)))
        return {
            "Name": key[0],
            "Count": self.count,
            "Rate": self.total / INTERVAL_S,
            "Sum": self.total,
            "Min": self.low,
            "Max": self.high,
            "Mean": mean,
            "Stddev": spread,
            "Labels": dict(key[1]),
        }


class _Interval:
    __slots__ = ("counters", "gauges", "number", "samples")

    def __init__(self, number: int) -> None:
        self.number = number
        self.gauges: dict[Key, float] = {}
        self.counters: dict[Key, _Aggregate] = {}
        self.samples: dict[Key, _Aggregate] = {}


class Metrics:
    """The registry; ``clock`` gives Unix seconds."""

    def __init__(
        self, prefix: str = "consul", clock: Callable[[], float] = time.time
    ) -> None:
        self._prefix = prefix
        self._clock = clock
        self._now = _Interval(self._number())
        self._last = self._now

    def _number(self) -> int:
        return int(self._clock()) // INTERVAL_S

    def _current(self) -> _Interval:
        number = self._number()
        if number != self._now.number:
            self._last, self._now = self._now, _Interval(number)
            self._now.gauges = dict(self._last.gauges)
        return self._now

    def gauge(self, name: str, value: float, labels: Labels = ()) -> None:
        """Set a value that stays until it is set again."""
        gauges = self._current().gauges
        key = (f"{self._prefix}.{name}", labels)
        if key in gauges or len(gauges) < NAMES_MAX:
            gauges[key] = value

    def count(self, name: str, value: float = 1, labels: Labels = ()) -> None:
        """Add to a counter."""
        self._add(self._current().counters, name, value, labels)

    def sample(self, name: str, value: float, labels: Labels = ()) -> None:
        """Add a measurement, times in milliseconds."""
        self._add(self._current().samples, name, value, labels)

    def _add(
        self, table: dict[Key, _Aggregate], name: str, value: float, labels: Labels
    ) -> None:
        key = (f"{self._prefix}.{name}", labels)
        found = table.get(key)
        if found is None:
            if len(table) >= NAMES_MAX:
                return
            found = table[key] = _Aggregate()
        found.add(value)

    def view(self) -> dict[str, Any]:
        """Return the JSON of the last complete interval (the first: of now)."""
        self._current()
        shown = self._last
        when = time.gmtime(shown.number * INTERVAL_S)
        return {
            "Timestamp": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", when),
            "Gauges": [
                {"Name": key[0], "Value": value, "Labels": dict(key[1])}
                for key, value in sorted(shown.gauges.items())
            ],
            "Points": [],
            "Counters": [one.view(key) for key, one in sorted(shown.counters.items())],
            "Samples": [one.view(key) for key, one in sorted(shown.samples.items())],
        }

    def prometheus(self) -> str:
        """Return the text exposition of the current interval."""
        shown = self._current()
        lines: list[str] = []
        for key, value in sorted(shown.gauges.items()):
            name = _flat(key[0])
            lines += [f"# TYPE {name} gauge", f"{name}{_labels(key[1])} {value:g}"]
        for key, one in sorted(shown.counters.items()):
            name = _flat(key[0])
            lines += [f"# TYPE {name} counter"]
            lines += [f"{name}{_labels(key[1])} {one.total:g}"]
        for key, one in sorted(shown.samples.items()):
            name = _flat(key[0])
            lines += [f"# TYPE {name} summary"]
            lines += [f"{name}_sum{_labels(key[1])} {one.total:g}"]
            lines += [f"{name}_count{_labels(key[1])} {one.count}"]
        return "\n".join(lines) + "\n"


def _flat(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}"
