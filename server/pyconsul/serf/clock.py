"""The Lamport clock of members, events and queries (``wire-gossip.md`` 8.2)."""

from __future__ import annotations

from typing import Final

LTIME_MAX: Final = 1 << 62
"""Larger times are not believed: they would use up everybody's clock."""


class LamportClock:
    """A logical time; ``time`` is what the next message of ours carries."""

    __slots__ = ("time",)

    def __init__(self, time: int = 1) -> None:
        """Start at 1: 0 means "never" on the wire."""
        self.time = time

    def increment(self) -> int:
        """Count one on, and return the time before that."""
        before = self.time
        self.time = before + 1
        return before

    def witness(self, time: int) -> None:
        """Move past a time seen elsewhere."""
        if self.time <= time < LTIME_MAX:
            self.time = time + 1
