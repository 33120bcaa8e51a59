"""``atomic_dir``: sets of files that change together, by one link.

Each template of a set gives its newest files; when all of them have come to
rest, a folder with all is made, checked and switched to, and its command is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from pyconsul_template import swapping
from pyconsul_template.actions import Change, Commands, RunError
from pyconsul_template.commands import Command, CommandError, run_command
from pyconsul_template.groups import Timers
from pyconsul_template.output import OutputError, fix_attributes
from pyconsul_template.plans import SwapPlan, TemplatePlan
from pyconsul_template.quiet import Quiet, limit_s
from pyconsul_template.shape import RefusedError
from pyconsul_template.swapping import Swap, Text

log = logging.getLogger("pyconsul_template")


class _Set(Struct):
    """What is known of one set."""

    plan: SwapPlan
    members: dict[int, TemplatePlan]
    quiet: Quiet
    texts: dict[int, dict[str, Text]]
    """The newest files of each template, by their name below the folder."""
    was_due: bool = False


class Swaps:
    """The sets of a run. Times are monotonic seconds."""

    def __init__(
        self,
        swaps: Sequence[SwapPlan],
        plans: Sequence[TemplatePlan],
        commands: Commands,
        *,
        once: bool,
    ) -> None:
        """``commands`` gives a check its environment; nothing is done yet."""
        self._commands = commands
        self._once = once
        self._sets: dict[str, _Set] = {}
        for swap in swaps:
            members = {i: p for i, p in enumerate(plans) if p.folder == swap.name}
            waits = [p.wait.max_s for p in members.values() if p.wait is not None]
            quiet = Quiet(members, swap.window_s, limit_s(swap.window_s, waits))
            self._sets[swap.name] = _Set(swap, members, quiet, {})

    def take(
        self, index: int, plan: TemplatePlan, files: Mapping[Path, bytes], now: float
    ) -> dict[Path, bytes]:
        """Take the newest files of a template; return their bytes, encoded.

        Raises ``RefusedError`` for one its ``on_empty`` or ``min_ratio`` refuses:
        then those from before stay.
        """
        one = self._sets[plan.folder]
        target = plan.target
        assert target is not None
        before = one.texts.get(index)
        live = None if before is not None else swapping.live_files(one.plan.path)
        found: dict[str, Text] = {}
        encoded: dict[Path, bytes] = {}
        for path, content in files.items():
            content = plan.shape.encoded(content)
            name = str(path.relative_to(one.plan.path))
            old = _old_bytes(name, before, live)
            if reason := plan.shape.refusal(old, content):
                text = f"{path} stays as it is: {reason}"
                raise RefusedError(text, is_blank=not content.strip())
            found[name] = Text(content, replace(target, path=path))
            encoded[path] = content
        count = len(before or ())
        if count and len(files) < count * plan.shape.min_ratio:
            text = f"{len(files)} files instead of {count} are less than min_ratio"
            text = f"{one.plan.path} stays as it is: {text}"
            raise RefusedError(text, is_blank=not files)
        if count and not files and plan.shape.on_empty != "render":
            text = f"{one.plan.path} stays as it is: there is no item"
            raise RefusedError(text, is_blank=True)
        if found != before:
            one.texts[index] = found
            one.quiet.changed(now)
        return encoded

    def next_timer(self, timers: Timers) -> float | None:
        """Return when ``release`` may next have something."""
        times = [
            at
            for one in self._sets.values()
            if one.was_due and (at := one.quiet.at(timers)) is not None
        ]
        return min(times, default=None)

    async def release(
        self, timers: Timers, now: float, note: Callable[[int, str], None]
    ) -> list[Change]:
        """Switch to what has come to rest; return the changes, for the commands.

        ``note`` is told of each template whose files changed, or of an error.
        Raises ``RunError`` for a failure that ends the run.
        """
        changes: list[Change] = []
        for one in self._sets.values():
            at = one.quiet.at(timers)
            is_due = self._once or not one.was_due or (at is not None and at <= now)
            if at is None or len(one.texts) < len(one.members) or not is_due:
                continue
            one.quiet.done()
            one.was_due = True
            try:
                changes += await self._switched(one, note)
            except OutputError as error:
                for index in one.members:
                    note(index, str(error))
                is_fatal = any(plan.error_fatal for plan in one.members.values())
                if self._once or is_fatal:
                    raise RunError(str(error)) from error
                log.error("%s", error)
        return changes

    async def _switched(
        self, one: _Set, note: Callable[[int, str], None]
    ) -> list[Change]:
        plan = one.plan
        texts: dict[str, Text] = {}
        for index, files in one.texts.items():
            for name in files.keys() & texts.keys():
                where = one.members[index].name
                raise OutputError(f"{plan.path}: {name} is made twice, also by {where}")
            texts |= files
        live = swapping.live_files(plan.path)
        changed = swapping.changed_names(live, texts)
        if not changed and live is not None:
            for text in texts.values():
                fix_attributes(text.target)
            log.debug("%s is up to date", plan.path)
            return []
        swap = swapping.prepare(plan.path, texts, live, mode=plan.mode, root=plan.root)
        try:
            if plan.check is not None:
                await self._check(one, plan.check, swap)
        except CommandError as error:
            swapping.discard(swap)
            reason = f"{plan.path} stays as it is: check {error}"
            for index in one.members:
                note(index, reason)
            if self._once:
                raise RunError(reason) from None
            log.error("%s", reason)
            return []
        except BaseException:
            swapping.discard(swap)
            raise
        swapping.switch(swap)
        swapping.tidy(plan.path, plan.keep)
        log.info("switched %s to %s", plan.path, swap.folder.name)
        for index, files in one.texts.items():
            if not files.keys().isdisjoint(changed):
                note(index, "")
        return self._changes(one, swap, changed)

    async def _check(self, one: _Set, check: Command, swap: Swap) -> None:
        words = (word.replace("{{ path }}", str(swap.folder)) for word in check.argv)
        environment = self._commands.environment(_as_plan(one), [one.plan.path])
        environment["CHECK_FILE"] = str(swap.folder)
        await run_command(Command(tuple(words), check.timeout_s), environment)

    def _changes(self, one: _Set, swap: Swap, names: list[str]) -> list[Change]:
        plan = _as_plan(one)
        target = plan.target
        assert target is not None

        def undo() -> None:
            swapping.undo(swap)

        # What a change does to the children is each template's own.
        actions = {
            one.plan.path / name: one.members[index].child_action
            for index, files in one.texts.items()
            for name in files
        }
        # A set without files, at its start, has only the folder to tell of.
        paths = [one.plan.path / name for name in names] or [one.plan.path]
        return [
            Change(
                replace(plan, child_action=actions.get(path, plan.child_action)),
                replace(target, path=path),
                None,
                undo=undo,
            )
            for path in paths
        ]


def _old_bytes(
    name: str, before: Mapping[str, Text] | None, live: Mapping[str, Path] | None
) -> bytes | None:
    if before is not None:
        return before[name].content if name in before else None
    try:
        return live[name].read_bytes() if live and name in live else None
    except OSError:
        return None


def _as_plan(one: _Set) -> TemplatePlan:
    """Return a plan whose command is the set's, for those that run commands."""
    first, plan = next(iter(one.members.values())), one.plan
    assert first.target is not None
    return replace(
        first,
        target=replace(first.target, path=plan.path),
        command=plan.command,
        command_error_fatal=plan.command_error_fatal,
        rolls_back=plan.rolls_back,
        health=plan.health,
    )
