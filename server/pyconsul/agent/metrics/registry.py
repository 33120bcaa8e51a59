"""Counters, gauges and samples, an interval of ten seconds at a time.

Names are dotted (``consul.http.request``), labels are name and value pairs,
times are milliseconds. A ``Series`` is asked for once and then only added to,
so that a measurement costs a few additions. No clock here: ``rotate`` ends an
interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

INTERVAL_S = 10
NAMES_MAX = 4096
"""Series kept; further new ones are dropped and counted in ``dropped``."""
KEPT = 64
"""Values of a sample kept an interval, for quantiles and for statsd."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


class Series:
    """A counter, or samples: sums of the interval, and of all time."""

    __slots__ = (
        "all_count",
        "all_total",
        "count",
        "high",
        "kept",
        "key",
        "low",
        "shown",
        "squares",
        "total",
        "updated",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.shown = True
        self.all_count = 0
        self.all_total = 0.0
        self.updated = 0
        """Number of the last interval in which something was added."""
        self.clear()

    def clear(self) -> None:
        """Begin an interval."""
        self.count = 0
        self.total = 0.0
        self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.kept: list[float] = []

    def add(self, value: float = 1.0) -> None:
        """Add a count, or a measurement."""
        self.count += 1
        self.total += value
        self.squares += value * value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value
        if len(self.kept) < KEPT:
            self.kept.append(value)
        else:
            self.kept[self.count * 40503 % KEPT] = value

    def add_many(self, count: int, value: float) -> None:
        """Add ``count`` equal measurements."""
        self.add(value)
        self.count += count - 1
        self.total += value * (count - 1)
        self.squares += value * value * (count - 1)


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a series was in one interval."""

    key: Key
    count: int
    total: float
    squares: float
    low: float
    high: float
    kept: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval; ``number`` times ``INTERVAL_S`` is its Unix time."""

    number: int
    gauges: list[tuple[Key, float]]
    counters: list[Frozen]
    samples: list[Frozen]


class Filter:
    """Which names are kept: the longest prefix decides, else ``default``."""

    def __init__(
        self,
        allowed: Iterable[str] = (),
        blocked: Iterable[str] = (),
        default: bool = True,
    ) -> None:
        rules = [(one, True) for one in allowed] + [(one, False) for one in blocked]
        # A prefix that is both allowed and blocked is blocked.
        self._rules = sorted(rules, key=lambda rule: (-len(rule[0]), rule[1]))
        self._default = default

    def allows(self, name: str) -> bool:
        """Say whether a name (without host name) is kept."""
        for prefix, verdict in self._rules:
            if name.startswith(prefix):
                return verdict
        return self._default


class Metrics:
    """The registry. Gauges have ``host`` between prefix and name, if it is set."""

    def __init__(
        self,
        prefix: str = "consul",
        host: str = "",
        name_filter: Filter | None = None,
    ) -> None:
        self._prefix = f"{prefix}." if prefix else ""
        self._gauge_prefix = f"{self._prefix}{host}." if host else self._prefix
        self._filter = name_filter or Filter()
        self._counters: dict[Key, Series] = {}
        self._samples: dict[Key, Series] = {}
        self._gauges: dict[Key, float] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._counters) + len(self._samples) + len(self._gauges)

    def set_filter(self, name_filter: Filter) -> None:
        """Use other rules from now on."""
        self._filter = name_filter
        for table in (self._counters, self._samples):
            for (name, _), series in table.items():
                series.shown = name_filter.allows(name)

    def gauge(self, name: str, value: float, labels: Labels = ()) -> None:
        """Set a value of this interval."""
        if not self._filter.allows(self._prefix + name):
            return
        key = (self._gauge_prefix + name, labels)
        if key in self._gauges or self._room():
            self._gauges[key] = value

    def counter(self, name: str, labels: Labels = ()) -> Series:
        """Return a counter to add to."""
        return self._series(self._counters, name, labels)

    def samples(self, name: str, labels: Labels = ()) -> Series:
        """Return a series of measurements to add to."""
        return self._series(self._samples, name, labels)

    def _series(self, table: dict[Key, Series], name: str, labels: Labels) -> Series:
        key = (self._prefix + name, labels)
        found = table.get(key)
        if found is None:
            found = Series(key)
            found.shown = self._filter.allows(key[0])
            if self._room():
                table[key] = found
        return found

    def _room(self) -> bool:
        if len(self) < NAMES_MAX:
            return True
        self.dropped += 1
        return False

    def look(self, number: int) -> Interval:
        """Return the interval as it is by now."""
        return Interval(
            number,
            sorted(self._gauges.items()),
            _frozen(self._counters),
            _frozen(self._samples),
        )

    def rotate(self, number: int) -> Interval:
        """End the interval and return it."""
        ended = self.look(number)
        self._gauges.clear()
        for table in (self._counters, self._samples):
            for series in table.values():
                if series.count:
                    series.all_count += series.count
                    series.all_total += series.total
                    series.updated = number
                    series.clear()
        return ended

    def totals(
        self, since: int
    ) -> tuple[list[tuple[Key, float]], list[tuple[Key, int, float]]]:
        """Return counters and samples of all time, if updated ``since``."""

        def recent(table: dict[Key, Series]) -> list[Series]:
            shown = [
                one
                for one in table.values()
                if one.shown and (one.count or (one.all_count and one.updated >= since))
            ]
            return sorted(shown, key=lambda one: one.key)

        counters = [
            (one.key, one.all_total + one.total) for one in recent(self._counters)
        ]
        samples = [
            (one.key, one.all_count + one.count, one.all_total + one.total)
            for one in recent(self._samples)
        ]
        return counters, samples


def _frozen(table: dict[Key, Series]) -> list[Frozen]:
    return [
        Frozen(
            one.key, one.count, one.total, one.squares, one.low, one.high, (*one.kept,)
        )
        for _, one in sorted(table.items())
        if one.count and one.shown
    ]
