"""Which results of a check count: thresholds before a status changes.

``success_before_passing`` results in a row turn a check passing,
``failures_before_warning`` warning, ``failures_before_critical`` critical.
The first result after the start obeys the same rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Thresholds:
    """Counts results in a row; ``take`` says whether a result counts now."""

    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    successes: int = 0
    failures: int = 0

    def take(self, status: str) -> str | None:
        """Return the status to show now, or ``None`` while it is too early.

        Failures beyond the warning limit and below the critical one show as a
        warning.
        """
        if status == "passing":
            self.successes += 1
            self.failures = 0
            return status if self.successes >= self.success_before_passing else None
        self.failures += 1
        self.successes = 0
        critical = max(self.failures_before_critical, 1)
        if self.failures >= critical:
            return status
        if self.failures >= (self.failures_before_warning or critical):
            return "warning"
        return None


Notify = Callable[[str, str], None]
"""``notify(status, output)``: the local state's side of a runner."""


def tail(data: bytes, limit: int) -> str:
    """Return the last ``limit`` bytes as text."""
    return data[-limit:].decode("utf-8", "replace")
