"""Lifeguard's local health: how much to trust our own view.

A node that misses answers suspects itself first and probes more slowly.
"""

from __future__ import annotations


class Awareness:
    """A score from 0 (healthy) to ``max_multiplier - 1``."""

    def __init__(self, max_multiplier: int) -> None:
        self._max = max(0, max_multiplier - 1)
        self.score = 0

    def apply(self, delta: int) -> None:
        """Change the score within its bounds."""
        self.score = min(self._max, max(0, self.score + delta))

    def scaled(self, duration_s: float) -> float:
        """Stretch a duration by the score."""
        return duration_s * (self.score + 1)
