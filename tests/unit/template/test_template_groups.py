"""Notify groups, on a clock of numbers."""

from __future__ import annotations

from pathlib import Path

from pyconsul_template.actions import Change
from pyconsul_template.config import settle
from pyconsul_template.groups import Groups
from pyconsul_template.plans import GroupPlan, Settings


class Timers:
    """When each template is due; those in ``rendered`` were complete once."""

    def __init__(self, *rendered: int) -> None:
        self.rendered = set(rendered)
        self.due: dict[int, float] = {}

    def is_rendered(self, index: int) -> bool:
        return index in self.rendered

    def due_at(self, index: int) -> float | None:
        return self.due.get(index)


def settings(**group: object) -> Settings:
    """Two templates of a group, and one of none."""
    blocks = [
        {"contents": "", "destination": f"/x/{n}", "notify": "g" if n < 2 else ""}
        for n in range(3)
    ]
    return settle({"template": blocks, "notify": {"g": group}}, environ={})


def change(one: Settings, index: int, previous: bytes | None = None) -> Change:
    plan = one.templates[index]
    assert plan.target is not None
    return Change(plan, plan.target, previous)


def paths(found: list[Change]) -> list[Path]:
    return [change.target.path for change in found]


def test_it_waits_for_the_last_write_and_for_timers() -> None:
    one = settings(window="1s")
    groups, timers = Groups(one.groups, once=False), Timers(0, 1)
    assert not groups.take(change(one, 2), 0.0)
    assert groups.take(change(one, 0), 10.0)
    assert groups.next_timer(timers) == 11.0
    timers.due[1] = 14.0
    assert groups.next_timer(timers) == 15.0
    assert groups.release(timers, 14.9) == []
    timers.due.clear()
    assert groups.take(change(one, 1), 14.0)
    assert groups.release(timers, 14.9) == []
    assert paths(groups.release(timers, 15.0)) == [Path("/x/0"), Path("/x/1")]
    assert groups.next_timer(timers) is None


def test_it_waits_no_longer_than_the_limit() -> None:
    one = settings(window="1s")
    assert one.groups == (
        GroupPlan(name="g", members=(0, 1), window_s=1, limit_s=20, all_first=True),
    )
    groups, timers = Groups(one.groups, once=False), Timers(0, 1)
    for now in range(20):
        groups.take(change(one, 0), float(now))
        assert groups.release(timers, float(now)) == []
    assert paths(groups.release(timers, 20.0)) == [Path("/x/0")]


def test_no_command_before_each_member_is_there() -> None:
    one = settings()
    groups, timers = Groups(one.groups, once=False), Timers(0)
    groups.take(change(one, 0), 0.0)
    assert groups.next_timer(timers) is None
    assert groups.release(timers, 1e6) == []
    timers.rendered.add(1)
    assert paths(groups.release(timers, 1e6)) == [Path("/x/0")]
    one = settings(all_rendered_first=False)
    groups, timers = Groups(one.groups, once=False), Timers(0)
    groups.take(change(one, 0), 0.0)
    assert paths(groups.release(timers, 0.05)) == [Path("/x/0")]


def test_a_roll_back_returns_to_what_the_command_saw() -> None:
    one = settings()
    groups, timers = Groups(one.groups, once=True), Timers(0, 1)
    groups.take(change(one, 0, b"seen"), 0.0)
    groups.take(change(one, 0, b"not seen"), 0.0)
    (found,) = groups.release(timers, 0.0)
    assert found.previous == b"seen"
    groups.take(change(one, 1), 0.0)
    assert paths(groups.release_all()) == [Path("/x/1")]
    assert groups.release_all() == []
