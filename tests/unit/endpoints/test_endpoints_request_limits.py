"""Token buckets of ``limits.request_limits``, on a clock of the test's."""

from __future__ import annotations

import logging

import pytest

from pyconsul.endpoints.request_limits import (
    BURST_S,
    RequestLimiter,
    RequestLimits,
)
from pyconsul.types.errors import TooManyRequestsError, TryLaterError


def taken(limiter: RequestLimiter, now: float, *, writes: bool = False) -> int:
    """Return how many requests pass at a time."""
    for count in range(10_000):
        try:
            limiter.check("KVS.Get", now, writes=writes, leads=False)
        except TooManyRequestsError:
            return count
    raise AssertionError("no limit")


def test_the_rate_holds_after_the_burst() -> None:
    limiter = RequestLimiter(RequestLimits("enforcing", read_rate=5))
    assert taken(limiter, 100.0) == 5 * BURST_S
    assert taken(limiter, 100.1) == 0
    assert taken(limiter, 101.1) == 5
    assert taken(limiter, 10_000.0) == 5 * BURST_S


def test_reads_and_writes_count_apart() -> None:
    limiter = RequestLimiter(RequestLimits("enforcing", read_rate=1, write_rate=2))
    assert taken(limiter, 0.0) == BURST_S
    assert taken(limiter, 0.0, writes=True) == 2 * BURST_S


def test_a_limit_below_zero_is_none_and_zero_is_one() -> None:
    limiter = RequestLimiter(RequestLimits("enforcing", write_rate=0))
    for _ in range(100):
        limiter.check("KVS.Get", 0.0, writes=False, leads=True)
    assert taken(limiter, 0.0, writes=True) == 1
    assert taken(limiter, 1e9, writes=True) == 0


def test_who_leads_says_that_no_other_server_can_help() -> None:
    limiter = RequestLimiter(RequestLimits("enforcing", write_rate=0))
    limiter.check("KVS.Apply", 0.0, writes=True, leads=True)
    with pytest.raises(TryLaterError, match="only be performed by the leader"):
        limiter.check("KVS.Apply", 0.0, writes=True, leads=True)
    with pytest.raises(TooManyRequestsError, match="against a different server"):
        limiter.check("KVS.Apply", 0.0, writes=True, leads=False)


def test_permissive_only_says_so_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = RequestLimiter(RequestLimits("permissive", read_rate=0))
    with caplog.at_level(logging.WARNING, "server"):
        for now in (0.0, 0.1, 0.2, 0.3, 1.2):
            limiter.check("KVS.Get", now, writes=False, leads=True)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        "RPC exceeded allowed rate limit: rpc=KVS.Get limit_type=global/read "
        "limit_enforced=false requests=1"
    )
    assert second.endswith("requests=3")


@pytest.mark.parametrize(
    ("limits", "active"),
    [
        (RequestLimits(), False),
        (RequestLimits("disabled", 1, 1), False),
        (RequestLimits("enforcing"), False),
        (RequestLimits("enforcing", read_rate=1), True),
        (RequestLimits("permissive", write_rate=1), True),
    ],
)
def test_it_is_active_where_something_is_limited(
    limits: RequestLimits, active: bool
) -> None:
    limiter = RequestLimiter(limits)
    assert limiter.active is active
    limiter.configure(RequestLimits())
    assert limiter.active is False
