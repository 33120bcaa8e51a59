"""``limits.request_limits``: how many reads and writes a server takes a second.

Two token buckets for the whole server, whoever asks (``agent-behaviour.md``
section 6). What only the leader can do is refused with another error than what
other servers may still have time for. Requests that wait count once; methods
about this server itself (``Status.Ping``) do not count. Time comes in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyconsul.types.errors import TooManyRequestsError, TryLaterError

log = logging.getLogger("server")
BURST_S = 10.0
"""So many seconds' worth of requests may come at once."""
SAY_EVERY_S = 1.0

ELSEWHERE = "rate limit exceeded, try again later or against a different server"
LATER = (
    "rate limit exceeded for operation that can only be performed by the leader, "
    "try again later"
)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """``mode`` is ``disabled``, ``permissive`` (logs) or ``enforcing``.

    Rates are requests a second; below zero there is no limit.
    """

    mode: str = "disabled"
    read_rate: float = -1.0
    write_rate: float = -1.0


NO_LIMITS = RequestLimits()


class _Bucket:
    """Tokens, filled at a rate; begins full."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate * BURST_S, 1.0)
        self._tokens = self._most
        self._filled: float | None = None
        self.refused = 0
        self.said_at = -SAY_EVERY_S

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        if self._filled is not None:
            gained = (now - self._filled) * self._rate
            self._tokens = min(self._most, self._tokens + gained)
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class RequestLimiter:
    """Counts requests; ``active`` is false while nothing is limited."""

    def __init__(self, limits: RequestLimits = NO_LIMITS) -> None:
        self.configure(limits)

    def configure(self, limits: RequestLimits) -> None:
        """Take other limits; buckets begin full."""
        self._enforcing = limits.mode == "enforcing"
        on = limits.mode != "disabled"
        self._read = _Bucket(limits.read_rate) if on and limits.read_rate >= 0 else None
        self._write = (
            _Bucket(limits.write_rate) if on and limits.write_rate >= 0 else None
        )
        self.active = self._read is not None or self._write is not None

    @property
    def limits_reads(self) -> bool:
        """Whether reads count: answers must not come from elsewhere then."""
        return self._read is not None

    def check(self, method: str, now: float, *, writes: bool, leads: bool) -> None:
        """Count a request.

        Raises ``TooManyRequestsError``, or ``TryLaterError`` for a write at the
        leader, when there are too many and the limits are enforced.
        """
        bucket = self._write if writes else self._read
        if bucket is None or bucket.take(now):
            return
        self._say(bucket, method, now, "write" if writes else "read")
        if not self._enforcing:
            return
        if writes and leads:
            raise TryLaterError(LATER)
        raise TooManyRequestsError(ELSEWHERE)

    def _say(self, bucket: _Bucket, method: str, now: float, kind: str) -> None:
        """Log it, once a second at most: who floods us must not fill the disk."""
        bucket.refused += 1
        if now - bucket.said_at < SAY_EVERY_S:
            return
        bucket.said_at = now
        log.warning(
            "RPC exceeded allowed rate limit: rpc=%s limit_type=global/%s "
            "limit_enforced=%s requests=%d",
            method,
            kind,
            "true" if self._enforcing else "false",
            bucket.refused,
        )
        bucket.refused = 0
