"""Notify groups: the commands of several templates, run once all are written.

Templates of a group that change together, each after its own quiescence, give
one run of their commands: the group waits for members whose timer runs and then
for a short window without another write. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from pyconsul_template.actions import Change
from pyconsul_template.plans import GroupPlan


class Timers(Protocol):
    """What a group asks the engine."""

    def is_rendered(self, index: int) -> bool:
        """Whether a template was complete once."""
        ...

    def due_at(self, index: int) -> float | None:
        """When a template is to be rendered; ``None`` for nothing to do."""
        ...


class _Held(Struct):
    """The changes a group holds, by path, and when they were made."""

    first_at: float
    last_at: float
    changes: dict[Path, Change] = field(default_factory=dict[Path, Change])


class Groups:
    """The groups of a run. Times are monotonic seconds."""

    def __init__(self, plans: Sequence[GroupPlan], *, once: bool) -> None:
        """With ``once`` no command waits for a window."""
        self._plans = {plan.name: plan for plan in plans}
        self._once = once
        self._held: dict[str, _Held] = {}

    def take(self, change: Change, now: float) -> bool:
        """Hold a change for its group; ``False`` when it has none."""
        name = change.plan.group
        if not name:
            return False
        held = self._held.setdefault(name, _Held(now, now))
        held.last_at = now
        path = change.target.path
        before = held.changes.get(path)
        if before is not None:
            # A roll-back returns to what the command last saw.
            change = replace(change, previous=before.previous)
        held.changes[path] = change
        return True

    def holds(self, name: str) -> bool:
        """Whether the commands of a group are still to run."""
        return name in self._held

    def release(self, timers: Timers, now: float) -> list[Change]:
        """Return the changes whose commands are due."""
        found: list[Change] = []
        for name in list(self._held):
            at = self._at(name, timers)
            if at is not None and at <= now:
                found += self._held.pop(name).changes.values()
        return found

    def release_all(self) -> list[Change]:
        """Return every change held: the run ends."""
        held, self._held = self._held, {}
        return [change for one in held.values() for change in one.changes.values()]

    def next_timer(self, timers: Timers) -> float | None:
        """Return when ``release`` may next have something."""
        times = (self._at(name, timers) for name in self._held)
        return min((at for at in times if at is not None), default=None)

    def _at(self, name: str, timers: Timers) -> float | None:
        plan, held = self._plans[name], self._held[name]
        if plan.all_first and not all(map(timers.is_rendered, plan.members)):
            return None
        if self._once:
            return 0.0
        due = (timers.due_at(index) for index in plan.members)
        last = max((at for at in due if at is not None), default=0.0)
        return min(
            max(last, held.last_at) + plan.window_s, held.first_at + plan.limit_s
        )
