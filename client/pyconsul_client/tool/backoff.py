"""Pauses between tries: doubling up to a cap, with jitter, at most so many."""

from __future__ import annotations

DEFAULT_ATTEMPTS = 12
DEFAULT_BASE = 0.25
DEFAULT_CAP = 60.0
MAX_CAP = 24 * 3600.0
MAX_EXPONENT = 32
"""Beyond it every cap is reached, and a float may overflow."""


class Backoff:
    """Counts failures in a row; times in seconds.

    ``attempts`` 0 is for ever, ``enabled`` false never tries again.
    """

    def __init__(
        self,
        attempts: int = DEFAULT_ATTEMPTS,
        base: float = DEFAULT_BASE,
        cap: float = DEFAULT_CAP,
        *,
        enabled: bool = True,
    ) -> None:
        self._attempts = attempts
        self._base = base
        self._cap = min(cap, MAX_CAP)
        self._enabled = enabled
        self.failures = 0

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0

    def failed(self, jitter: float = 1.0) -> float | None:
        """Note a failure; return the pause, ``None`` when tries are used up.

        ``jitter`` from 0 to 1 shortens the pause by up to a half.
        """
        self.failures += 1
        used_up = self._attempts and self.failures > self._attempts
        if not self._enabled or used_up:
            return None
        exponent = min(self.failures - 1, MAX_EXPONENT)
        return min(self._base * 2**exponent, self._cap) * (0.5 + jitter / 2)
