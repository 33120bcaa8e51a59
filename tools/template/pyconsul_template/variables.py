"""``env_template``: variables of the child's environment, from templates. No I/O.

A value is only ever given to children: it is in no log, no status and no dry run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyconsul_template.groups import Timers
from pyconsul_template.lookups import BadLookupError
from pyconsul_template.output import OutputError
from pyconsul_template.plans import TemplatePlan
from pyconsul_template.quiet import WINDOW_S, Quiet, limit_s
from pyconsul_template.render import TemplateError
from pyconsul_template.shape import RefusedError

VARIABLE_BYTES_MAX = 128 * 1024 - 1
"""What Linux takes of ``NAME=value`` with its end."""


class Variables:
    """The values of a run's variables. Times are monotonic seconds."""

    def __init__(self, plans: Sequence[TemplatePlan], *, once: bool) -> None:
        """Those of ``plans`` that are variables are meant; none has a value yet."""
        self._plans = {i: plan for i, plan in enumerate(plans) if plan.variable}
        waits = [p.wait.max_s for p in self._plans.values() if p.wait is not None]
        self._quiet = Quiet(self._plans, WINDOW_S, limit_s(WINDOW_S, waits))
        self._once = once
        self._new: dict[int, str] = {}
        self._given: dict[int, str] | None = None

    def take(self, index: int, content: bytes, now: float) -> bool:
        """Take a variable's newest text; whether it is another than before.

        One line end at its end is not part of the value. Raises ``OutputError``
        for a value that no process can have, ``RefusedError`` for a refused one.
        """
        plan = self._plans[index]
        content = content.removesuffix(b"\n")
        before = self._new.get(index)
        if b"\0" in content:
            raise OutputError(f"${plan.variable}: the value has a NUL byte")
        if len(plan.variable) + 1 + len(content) > VARIABLE_BYTES_MAX:
            raise OutputError(f"${plan.variable}: over {VARIABLE_BYTES_MAX} bytes")
        old = None if before is None else before.encode("utf-8", "surrogateescape")
        if reason := plan.shape.refusal(old, content):
            text = f"${plan.variable} stays as it is: {reason}"
            raise RefusedError(text, is_blank=not content.strip())
        value = content.decode("utf-8", "surrogateescape")
        if value == before:
            return False
        self._new[index] = value
        self._quiet.changed(now)
        return True

    def settle(self, timers: Timers, now: float) -> bool:
        """Give out what has come to rest; whether nothing is held back.

        The first values are given out at once, when there is one of each.
        """
        if len(self._new) < len(self._plans):
            return False
        at = self._quiet.at(timers)
        is_due = self._once or self._given is None or (at is not None and at <= now)
        if is_due:
            self._given = dict(self._new)
            self._quiet.done()
        return not self._quiet.has_changed

    def next_timer(self, timers: Timers) -> float | None:
        """Return when ``settle`` may next give something out."""
        return None if self._given is None else self._quiet.at(timers)

    def of(self, child: str) -> dict[str, str]:
        """Return the variables that a child has, by name."""
        return {
            plan.variable: value
            for index, value in (self._given or {}).items()
            if child in (plan := self._plans[index]).children or not plan.children
        }


def without_values(error: TemplateError) -> TemplateError:
    """Return the error of a variable's template without what may be a value."""
    cause = error.__cause__
    if cause is None or isinstance(cause, BadLookupError):
        return error
    kind = type(cause).__name__
    text = f"{kind}; its text is not shown, for it may have a part of the value"
    return TemplateError(error.path, error.line, text)
