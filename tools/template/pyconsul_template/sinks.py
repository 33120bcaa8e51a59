"""Where texts go that are no file by themselves: variables, and sets of files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from pyconsul_template.actions import Change, Commands
from pyconsul_template.addresses import NO
from pyconsul_template.each import Made
from pyconsul_template.groups import Timers
from pyconsul_template.plans import Settings, TemplatePlan
from pyconsul_template.shape import RefusedError
from pyconsul_template.swaps import Swaps
from pyconsul_template.variables import Variables
from pyconsul_template.writing import TemplateState

log = logging.getLogger("pyconsul_template")


class Sinks:
    """The variables and sets of a run. Times are monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        states: Sequence[TemplateState],
        commands: Commands,
        print_dry: Callable[[str], None],
    ) -> None:
        """``states`` are the templates', in their order."""
        plans, once = settings.templates, settings.once
        self._settings = settings
        self._states = states
        self._print_dry = print_dry
        self.variables = Variables(plans, once=once)
        self._swaps = Swaps(settings.swaps, plans, commands, once=once)

    def take(
        self,
        index: int,
        plan: TemplatePlan,
        made: Made | None,
        content: bytes,
        now: float,
    ) -> bool:
        """Take what a template made; ``False`` when its file is not of ours.

        A refused text is told of in its state, or raises ``OutputError`` where
        that is to end the run.
        """
        try:
            return self._take(index, plan, made, content, now)
        except RefusedError as error:
            if error.ends(plan.shape.on_empty, once=self._settings.once):
                raise
            self._states[index].error = str(error)
            log.error("%s", error)
            return True

    def _take(
        self,
        index: int,
        plan: TemplatePlan,
        made: Made | None,
        content: bytes,
        now: float,
    ) -> bool:
        settings = self._settings
        if plan.variable:
            if settings.dry:
                # Its value is nobody's business but the child's.
                self._print_dry(f"> ${plan.variable}\n({len(content)} bytes)")
            elif not settings.explain and self.variables.take(index, content, now):
                self._note(index, "")
                log.info("$%s is rendered", plan.variable)
            return True
        if not plan.folder or settings.dry or settings.explain:
            return False
        if made is None:
            assert plan.target is not None
            files = {plan.target.path: content}
        elif made.outcome.complete:
            files = made.files
        else:
            return True
        texts = self._swaps.take(index, plan, files, now)
        if settings.shows_renders != NO:
            self._states[index].texts = texts
        return True

    async def release(self, timers: Timers, now: float) -> list[Change]:
        """Switch sets that have come to rest; return the changes."""
        return await self._swaps.release(timers, now, self._note)

    def settle(self, timers: Timers, now: float) -> bool:
        """Give out variables that have come to rest; whether none is held back."""
        if self._settings.dry or self._settings.explain:
            return True
        return self.variables.settle(timers, now)

    def next_timer(self, timers: Timers) -> float | None:
        """Return when there may be something to release or to settle."""
        times = self.variables.next_timer(timers), self._swaps.next_timer(timers)
        return min((at for at in times if at is not None), default=None)

    def _note(self, index: int, error: str) -> None:
        state = self._states[index]
        state.error = error
        if not error:
            state.written += 1
            state.written_at = time.time()
