"""Lock-delay: keys of an ended session refuse new locks for a while.

Kept in the leader's memory and judged before a lock is proposed, so that
applying commands needs no clock (``agent-behaviour.md`` section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyconsul.types.records import Session

LOCK_DELAY_MAX_S = 60.0


class LockDelays:
    """Deadlines by key; expired ones go when looked at or swept."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, session: Session, keys: Sequence[str]) -> None:
        """A session that held ``keys`` has ended."""
        delay_s = min(session.lock_delay / 1e9, LOCK_DELAY_MAX_S)
        if delay_s <= 0 or not keys:
            return
        now = self._now()
        if len(self._until) > 1024:  # a sweep keeps the table to live deadlines
            self._until = {k: t for k, t in self._until.items() if t > now}
        for key in keys:
            self._until[key] = now + delay_s

    def delays(self, key: str) -> bool:
        """Say whether ``key`` may not be locked now."""
        until = self._until.get(key)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._until[key]
        return False
