"""The dependency engine: what is due, when, and which queries stay wanted."""

from __future__ import annotations

from pyconsul_template.engine import (
    HELD_REPORT_AFTER_S,
    HELD_REPORT_EVERY_S,
    Engine,
    Outcome,
    Wait,
)


def outcome(used: str, waiting: str = "", missing: str = "") -> Outcome[str]:
    return Outcome(frozenset(used), frozenset(waiting), frozenset(missing))


def engine(*waits: Wait | None) -> Engine[str]:
    return Engine(waits or (None,), now=0.0)


def test_every_template_is_due_at_the_start() -> None:
    assert engine(None, None).due(0.0) == [0, 1]


def test_a_template_is_due_again_only_after_its_last_answer() -> None:
    e = engine()
    e.rendered(0, outcome("ab", waiting="ab"), 0.0)
    e.changed("a", 0.0)
    assert e.due(0.0) == []
    e.changed("b", 0.0)
    assert e.due(0.0) == [0]


def test_passes_repeat_until_nothing_new_is_asked() -> None:
    e = engine()
    e.rendered(0, outcome("a", waiting="a"), 0.0)
    e.changed("a", 0.0)
    e.rendered(0, outcome("ab", waiting="b"), 0.0)
    assert not e.all_rendered()
    e.changed("b", 0.0)
    assert e.due(0.0) == [0]
    e.rendered(0, outcome("ab"), 0.0)
    assert e.is_idle()


def test_a_change_makes_only_its_users_due() -> None:
    e = engine(None, None)
    e.rendered(0, outcome("a"), 0.0)
    e.rendered(1, outcome("b"), 0.0)
    e.changed("b", 1.0)
    assert e.due(1.0) == [1]
    e.changed("unknown", 1.0)
    assert e.due(1.0) == [1]


def test_a_complete_render_drops_what_it_no_longer_uses() -> None:
    e = engine()
    e.rendered(0, outcome("ab"), 0.0)
    e.rendered(0, outcome("b"), 1.0)
    assert e.wanted() == {"b"}


def test_an_incomplete_render_keeps_what_was_used_before() -> None:
    """A loop over absent data hides the lookups in its body (no flapping)."""
    e = engine()
    e.rendered(0, outcome("ab"), 0.0)
    e.rendered(0, outcome("c", waiting="c"), 1.0)
    assert e.wanted() == {"a", "b", "c"}


def test_a_shared_query_stays_while_one_template_uses_it() -> None:
    e = engine(None, None)
    e.rendered(0, outcome("a"), 0.0)
    e.rendered(1, outcome("a"), 0.0)
    e.rendered(0, outcome(""), 1.0)
    assert e.wanted() == {"a"}
    e.rendered(1, outcome(""), 1.0)
    assert e.wanted() == set()


def test_quiescence_waits_min_after_the_last_change() -> None:
    e = engine(Wait(1.0, 3.0))
    e.rendered(0, outcome("a"), 0.0)
    e.changed("a", 10.0)
    e.changed("a", 10.5)
    assert e.due(11.4) == []
    assert e.next_timer() == 11.5
    assert e.due(11.5) == [0]


def test_quiescence_never_waits_longer_than_max() -> None:
    e = engine(Wait(1.0, 3.0))
    e.rendered(0, outcome("a"), 0.0)
    for step in range(8):
        e.changed("a", 10.0 + step * 0.5)
    assert e.next_timer() == 13.0
    assert e.due(13.0) == [0]


def test_the_first_render_does_not_wait() -> None:
    e = engine(Wait(5.0, 20.0))
    e.rendered(0, outcome("a", waiting="a"), 0.0)
    e.changed("a", 1.0)
    assert e.due(1.0) == [0]


def test_quiescence_is_armed_though_another_template_is_held() -> None:
    """Issue consul-template 1814: one blocked template disabled all timers."""
    e = engine(Wait(1.0, 3.0), None)
    e.rendered(0, outcome("a"), 0.0)
    e.rendered(1, outcome("x", missing="x"), 0.0)
    e.changed("a", 5.0)
    assert e.due(5.0) == []
    assert e.due(6.0) == [0]


def test_a_held_template_is_reported_with_all_its_needs() -> None:
    e = engine()
    e.rendered(0, outcome("ab", waiting="a", missing="b"), 0.0)
    assert e.reports(HELD_REPORT_AFTER_S - 0.1) == {}
    assert e.reports(HELD_REPORT_AFTER_S) == {0: {"a", "b"}}
    later = HELD_REPORT_AFTER_S + HELD_REPORT_EVERY_S
    assert e.reports(later - 0.1) == {}
    assert e.reports(later) == {0: {"a", "b"}}


def test_a_rendered_template_is_held_by_no_one() -> None:
    e = engine()
    e.rendered(0, outcome("a", missing="a"), 0.0)
    assert e.held_for(4.0) == 4.0
    e.rendered(0, outcome("a"), 4.0)
    assert e.held_for(9.0) == 0.0
    assert e.missing() == {}


def test_the_causes_of_a_render_are_told_once() -> None:
    e = engine()
    e.rendered(0, outcome("ab"), 0.0)
    e.changed("b", 1.0)
    assert e.rendered(0, outcome("ab"), 1.0) == ("b",)
    assert e.rendered(0, outcome("ab"), 2.0) == ()


def test_a_failed_template_waits_for_a_change_of_its_data() -> None:
    e = engine()
    used = frozenset("a")
    e.rendered(0, Outcome(used, frozenset(), frozenset(), failed=True), 0.0)
    assert e.due(100.0) == []
    e.changed("a", 101.0)
    assert e.due(101.0) == [0]
