"""One rendered text to its file: compared, checked, replaced in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct, field

from pyconsul_template import dry
from pyconsul_template.actions import Change, Commands, RunError
from pyconsul_template.addresses import NO
from pyconsul_template.commands import Command, CommandError, run_command
from pyconsul_template.haproxy import update_of
from pyconsul_template.output import (
    OutputError,
    Target,
    commit,
    discard,
    fix_attributes,
    line_changes,
    read_current,
    stage,
)
from pyconsul_template.plans import Settings, TemplatePlan
from pyconsul_template.source import Entry, describe

log = logging.getLogger("pyconsul_template")


class TemplateState(Struct):
    """What the status says of one template; times are the wall clock's."""

    renders: int = 0
    rendered_at: float = 0.0
    """When it last was complete."""
    written: int = 0
    written_at: float = 0.0
    error: str = ""
    """Why the last render, check or write failed."""
    runtime_updates: int = 0
    """How often HAProxy was told instead of reloaded."""
    source_error: str = ""
    """Why the newest text of the template is not in use."""
    texts: dict[Path, bytes] = field(default_factory=dict[Path, bytes])
    """The newest whole text of each file, where ``/render`` may show it."""


class Writer:
    """Writes texts to files, or in a dry run shows them."""

    def __init__(
        self,
        settings: Settings,
        commands: Commands,
        print_dry: Callable[[str], None],
    ) -> None:
        """``commands`` gives a check its environment."""
        self._settings = settings
        self._commands = commands
        self._print_dry = print_dry
        self.shows_diff = False
        """Whether a dry run shows a diff instead of the text."""

    async def write(
        self,
        plan: TemplatePlan,
        state: TemplateState,
        content: bytes,
        causes: Iterable[Entry],
        *,
        is_first: bool,
    ) -> Change | None:
        """Write a text; return the change unless the file stays as it is.

        A refused text is told of in ``state.error``; raises ``OutputError`` or
        ``RunError`` when the run cannot go on.
        """
        target = plan.target
        if self._settings.explain:
            return None
        content = plan.shape.encoded(content)
        if self._settings.shows_renders != NO and target is not None:
            state.texts[target.path] = content
        current = None if target is None else read_current(target)
        if current == content and target is not None:
            if not self._settings.dry:
                fix_attributes(target)
            log.debug("%s: %s is up to date", plan.name, target.path)
            if plan.runs_at_start and is_first and not self._settings.dry:
                return Change(plan, target, current if plan.rolls_back else None)
            return None
        if self._settings.dry or target is None:
            path = None if target is None else target.path
            if self.shows_diff:
                self._print_dry(dry.diff(path, current, content))
            else:
                self._print_dry(dry.whole(path, content))
            return None
        if reason := plan.shape.refusal(current, content):
            state.error = reason
            is_blank = not content.strip()
            if plan.shape.on_empty == "fail" if is_blank else self._settings.once:
                raise OutputError(f"{target.path}: {reason}")
            log.error("%s stays as it is: %s", target.path, reason)
            return None
        if not await self._replaced(plan, target, state, content):
            return None
        if log.isEnabledFor(logging.INFO):
            came, went = line_changes(current, content)
            why = ", ".join(describe(entry.query) for entry in causes)
            why = why or ("a file changed" if state.written else "first render")
            log.info("wrote %s: +%d -%d lines (%s)", target.path, came, went, why)
        update = None
        if plan.haproxy and current is not None:
            update = update_of(current, content)
        return Change(plan, target, current if plan.rolls_back else None, update)

    async def _replaced(
        self, plan: TemplatePlan, target: Target, state: TemplateState, content: bytes
    ) -> bool:
        """Check the new file and put it in place; ``False`` when it is refused."""
        staged = stage(target, content)
        try:
            if plan.check is not None:
                await self._check(plan, plan.check, staged.temporary, target)
        except CommandError as error:
            discard(staged)
            state.error = f"check {error}"
            if self._settings.once:
                raise RunError(f"{target.path} stays as it is: check {error}") from None
            log.error("%s stays as it is: check %s", target.path, error)
            return False
        except BaseException:
            discard(staged)
            raise
        commit(staged)
        return True

    async def _check(
        self, plan: TemplatePlan, check: Command, staged: Path, target: Target
    ) -> None:
        words = (word.replace("{{ path }}", str(staged)) for word in check.argv)
        environment = self._commands.environment(plan, [target.path])
        environment["CHECK_FILE"] = str(staged)
        await run_command(Command(tuple(words), check.timeout_s), environment)
