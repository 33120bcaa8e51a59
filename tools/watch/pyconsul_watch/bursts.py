"""When a burst of changes is over. No clock, no I/O: times are passed in."""

from __future__ import annotations


class Burst:
    """Changes that come one after the other, to be handled as one.

    Over when ``quiet`` seconds passed without another change, and at the latest
    ``most`` seconds after the first.
    """

    def __init__(self, quiet: float, most: float, now: float) -> None:
        self._quiet = quiet
        self._end = now + most
        self._last = now

    def changed(self, now: float) -> None:
        """Note another change."""
        self._last = now

    def left(self, now: float) -> float:
        """Return the seconds until it is over; zero or less when it is."""
        return min(self._last + self._quiet, self._end) - now
