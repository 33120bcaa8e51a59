"""When things that change together have come to rest. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from pyconsul_template.groups import Timers

WINDOW_S = 0.05
"""Pause after the last change before what it changed is used."""
WINDOWS_MAX = 20
"""Windows after the first change at which it is used in any case."""


class Quiet:
    """Changes of some templates, waiting for one another. Times: monotonic seconds."""

    def __init__(self, members: Iterable[int], window_s: float, limit_s: float) -> None:
        """``members`` are the templates, by their place in the configuration."""
        self._members = tuple(members)
        self._window_s = window_s
        self._limit_s = limit_s
        self._first_at: float | None = None
        self._last_at = 0.0

    @property
    def has_changed(self) -> bool:
        """Whether a change waits."""
        return self._first_at is not None

    def changed(self, now: float) -> None:
        """Note a change."""
        if self._first_at is None:
            self._first_at = now
        self._last_at = now

    def done(self) -> None:
        """Note that the changes are used."""
        self._first_at = None

    def at(self, timers: Timers) -> float | None:
        """Return when to use the changes; ``None`` when there are none."""
        if self._first_at is None:
            return None
        due = (timers.due_at(index) for index in self._members)
        last = max((at for at in due if at is not None), default=0.0)
        return min(
            max(last, self._last_at) + self._window_s, self._first_at + self._limit_s
        )


def limit_s(window_s: float, waits: Iterable[float]) -> float:
    """Return how long a change waits at most; ``waits`` are the templates' own."""
    return max([window_s * WINDOWS_MAX, *(wait + window_s for wait in waits)])
