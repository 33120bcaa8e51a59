"""Which results of a check count: thresholds before a status changes.

Passing and warning results are successes: ``success_before_passing`` of them
in a row are shown. Of critical ones ``failures_before_critical`` in a row are
shown, and as a warning after ``failures_before_warning``. The very first
result counts at once.
"""

from __future__ import annotations

from collections.abc import Callable


class Thresholds:
    """Counts results in a row; ``take`` says whether a result counts now."""

    __slots__ = ("_failures", "_passing", "_successes", "_warning", "critical")

    def __init__(
        self,
        success_before_passing: int = 0,
        failures_before_warning: int = 0,
        failures_before_critical: int = 0,
    ) -> None:
        self._passing = success_before_passing
        self.critical = failures_before_critical
        self._warning = failures_before_warning or failures_before_critical
        self._successes = self._passing
        self._failures = self.critical

    def take(self, status: str) -> str | None:
        """Return the status to show now, or ``None`` while it is too early."""
        if status != "critical":
            self._successes += 1
            self._failures = 0
            return status if self._successes >= self._passing else None
        self._failures += 1
        self._successes = 0
        if self._failures >= self.critical:
            return status
        return "warning" if self._failures >= self._warning else None


Notify = Callable[[str, str], None]
"""``notify(status, output)``: the local state's side of a runner."""


def tail(data: bytes, limit: int) -> str:
    """Return the last ``limit`` bytes as text."""
    return data[-limit:].decode("utf-8", "replace")


def captured(kept: bytes, total: int, limit: int) -> str:
    """Return a command's output; a long one says how much of it is shown."""
    output = tail(kept, limit)
    if total > limit:
        return f"Captured {limit} of {total} bytes\n...\n{output}"
    return output
