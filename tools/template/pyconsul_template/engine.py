"""When to render which template: the dependency engine, without any I/O.

A render reports the queries it used (``Outcome``). The engine keeps, for each
template, that set, and says after a change which templates are due:

* A template is not rendered while one of its queries was never answered, for
  its output would be thrown away; the last answer makes it due. Rendering,
  learning new queries and waiting for them repeats until a render is complete.
* A complete render replaces the set of queries; an incomplete one only adds to
  it, because a loop over data not yet there hides what its body will ask.
* With a ``Wait``, a template that was rendered once is due ``min`` seconds after
  the last change, never later than ``max`` seconds after the first.

``now`` is monotonic time in seconds. Work is O(templates using the query) for a
change and O(1) for everything else but ``wanted`` and ``next_timer``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct, field

Q = TypeVar("Q", bound=Hashable)

HELD_REPORT_AFTER_S = 10.0
"""A template that waits this long is reported with the names it waits for."""
HELD_REPORT_EVERY_S = 60.0
CAUSES_MAX = 8
"""Changed queries remembered for the log line of a render."""


class Wait(Struct, frozen=True):
    """Quiescence of a template, in seconds; ``min_s`` 0 renders at once."""

    min_s: float
    max_s: float


class Outcome(Struct, Generic[Q], frozen=True):
    """What one render asked for."""

    used: frozenset[Q]
    waiting: frozenset[Q]
    """Queries that have no answer yet."""
    missing: frozenset[Q]
    """Queries answered with nothing, which the template cannot do without."""
    failed: bool = False
    """The template itself is wrong; only a change of its data can help."""

    @property
    def complete(self) -> bool:
        """Whether the text may be written."""
        return not (self.waiting or self.missing or self.failed)


class _Template(Struct, Generic[Q]):
    wait: Wait | None
    used: frozenset[Q] = frozenset()
    waiting: set[Q] = field(default_factory=set[Q])
    missing: frozenset[Q] = frozenset()
    is_rendered: bool = False
    is_changed: bool = True
    first_change: float | None = None
    last_change: float = 0.0
    held_since: float | None = None
    report_at: float = 0.0
    causes: dict[Q, None] = field(default_factory=dict[Q, None])

    def due_at(self) -> float | None:
        """Return when to render; ``None`` while there is nothing to do."""
        if not self.is_changed or self.waiting:
            return None
        if self.wait is None or not self.is_rendered or self.first_change is None:
            return 0.0
        return min(
            self.last_change + self.wait.min_s, self.first_change + self.wait.max_s
        )


class Engine(Generic[Q]):
    """The state of all templates, addressed by their index in the configuration."""

    def __init__(self, waits: Sequence[Wait | None], now: float) -> None:
        self._templates = [_Template[Q](wait, held_since=now) for wait in waits]
        for template in self._templates:
            template.report_at = now + HELD_REPORT_AFTER_S
        self._users: dict[Q, set[int]] = {}
        self._changed = set(range(len(waits)))
        self._unrendered = len(waits)
        self.has_dropped = False
        """Whether ``wanted`` has shrunk; for the caller to clear."""

    def changed(self, query: Q, now: float) -> bool:
        """Take note that ``query`` has a new answer (or its first).

        Returns whether a template may be due, now or by its timer.
        """
        may_be_due = False
        for index in self._users.get(query, ()):
            template = self._templates[index]
            template.waiting.discard(query)
            self._touch(index, template, now)
            may_be_due |= not template.waiting
            if len(template.causes) < CAUSES_MAX:
                template.causes[query] = None
        return may_be_due

    def touch(self, index: int, now: float) -> None:
        """Ask for a render although no query changed (a watched file did)."""
        self._touch(index, self._templates[index], now)

    def _touch(self, index: int, template: _Template[Q], now: float) -> None:
        template.is_changed = True
        template.last_change = now
        if template.first_change is None:
            template.first_change = now
        self._changed.add(index)

    def due(self, now: float) -> list[int]:
        """Return the templates to render now, in the configuration's order."""
        due: list[int] = []
        for index in sorted(self._changed):
            at = self._templates[index].due_at()
            if at is not None and at <= now:
                due.append(index)
        return due

    def rendered(self, index: int, outcome: Outcome[Q], now: float) -> tuple[Q, ...]:
        """Record a render; returns the queries whose change caused it."""
        template = self._templates[index]
        used = outcome.used if outcome.complete else template.used | outcome.used
        for query in template.used - used:
            self._forget(query, index)
        for query in used - template.used:
            self._users.setdefault(query, set()).add(index)
        template.used = used
        template.waiting = set(outcome.waiting)
        template.missing = outcome.missing
        template.is_changed = False
        template.first_change = None
        self._changed.discard(index)
        if outcome.complete:
            template.held_since = None
            if not template.is_rendered:
                template.is_rendered = True
                self._unrendered -= 1
        elif template.held_since is None:
            template.held_since = now
            template.report_at = now + HELD_REPORT_AFTER_S
        causes = tuple(template.causes)
        template.causes = {}
        return causes

    def _forget(self, query: Q, index: int) -> None:
        users = self._users[query]
        users.discard(index)
        if not users:
            del self._users[query]
            self.has_dropped = True

    def wanted(self) -> set[Q]:
        """Return every query some template needs; all others may be dropped."""
        return set(self._users)

    def is_rendered(self, index: int) -> bool:
        """Whether a template was complete once."""
        return self._templates[index].is_rendered

    def due_at(self, index: int) -> float | None:
        """Return when a template is to be rendered; ``None`` for nothing to do."""
        return self._templates[index].due_at()

    def all_rendered(self) -> bool:
        """Whether each template was complete once."""
        return self._unrendered == 0

    def is_idle(self) -> bool:
        """Whether every template is rendered and no change is outstanding."""
        return self._unrendered == 0 and not self._changed

    def all_fetched(self) -> bool:
        """Whether no template waits for a first answer or for a render."""
        return not self._changed and not any(t.waiting for t in self._templates)

    def missing(self) -> dict[int, frozenset[Q]]:
        """Return, by template, what is absent or not yet answered."""
        return {
            index: template.missing | template.waiting
            for index, template in enumerate(self._templates)
            if template.missing or template.waiting
        }

    def held_for(self, now: float) -> float:
        """Return for how many seconds the longest held template is held."""
        since = [t.held_since for t in self._templates if t.held_since is not None]
        return max((now - at for at in since), default=0.0)

    def reports(self, now: float) -> dict[int, frozenset[Q]]:
        """Return the held templates to tell the user about now, with their needs."""
        due: dict[int, frozenset[Q]] = {}
        for index, template in enumerate(self._templates):
            needs = template.missing | template.waiting
            if template.held_since is None or not needs or template.report_at > now:
                continue
            template.report_at = now + HELD_REPORT_EVERY_S
            due[index] = needs
        return due

    def next_timer(self) -> float | None:
        """Return when ``due`` or ``reports`` may next have something; may be past."""
        times = [
            at
            for index in self._changed
            if (at := self._templates[index].due_at()) is not None
        ]
        times += [t.report_at for t in self._templates if t.held_since is not None]
        return min(times, default=None)

    def users(self, query: Q) -> Iterable[int]:
        """Return the templates that use ``query``."""
        return self._users.get(query, ())
