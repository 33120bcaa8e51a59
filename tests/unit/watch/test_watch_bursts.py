"""When changes that follow each other are over."""

from __future__ import annotations

from pyconsul_watch.bursts import Burst


def test_it_is_over_when_nothing_changes() -> None:
    burst = Burst(2.0, 8.0, 100.0)
    assert burst.left(100.0) == 2.0
    burst.changed(101.5)
    assert burst.left(101.5) == 2.0
    assert burst.left(103.0) == 0.5
    assert burst.left(103.5) == 0.0


def test_changes_without_end_are_cut_short() -> None:
    burst = Burst(2.0, 5.0, 100.0)
    for tenth in range(0, 50, 5):
        now = 100.0 + tenth / 10
        assert burst.left(now) > 0
        burst.changed(now)
    assert burst.left(104.5) == 0.5
    assert burst.left(105.0) == 0.0
