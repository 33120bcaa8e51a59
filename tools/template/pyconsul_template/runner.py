"""The shell around the engine: views wake it, it renders, writes and runs commands.

One pass renders every template that is due, replaces the files that differ,
and then runs each distinct command of those once, in the configuration's order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.lowlevel

from pyconsul_client.queries import Query
from pyconsul_template.actions import Change, Commands, RunError
from pyconsul_template.config import ConfigError, Settings, TemplatePlan
from pyconsul_template.dry import print_to_stdout
from pyconsul_template.each import EachTemplate, Ledger, Made
from pyconsul_template.engine import Engine
from pyconsul_template.folders import listing
from pyconsul_template.groups import Groups
from pyconsul_template.haproxy_socket import HaproxyError, apply
from pyconsul_template.looking import Limits, named, stamp
from pyconsul_template.many import write_all
from pyconsul_template.output import OutputError
from pyconsul_template.plans import NONE, strongest
from pyconsul_template.render import TemplateError
from pyconsul_template.shape import RefusedError
from pyconsul_template.sinks import Sinks
from pyconsul_template.source import Entry, Reader, Source, describe
from pyconsul_template.syntax import TemplateLike, open_template
from pyconsul_template.variables import without_values
from pyconsul_template.writing import TemplateState, Writer

__all__ = ["RunError", "Runner", "TemplateState", "ViewsLike", "print_to_stdout"]

log = logging.getLogger("pyconsul_template")

OUTAGE_CHECK_S = 2.0
"""How often watched files are looked at, and failing queries reported."""


class ViewsLike(Reader, Protocol):
    """What the runner needs of ``pyconsul_client``'s ``Views``."""

    def keep(self, queries: set[Query]) -> None:
        """Stop all other views."""
        ...


class Runner:
    """Keeps the files of ``settings`` up to date until cancelled."""

    def __init__(
        self,
        settings: Settings,
        print_dry: Callable[[str], None],
        on_fetched: Callable[[], None] = lambda: None,
        on_pass: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare nothing yet.

        ``on_fetched`` is told when all data came once; ``on_pass``, after each
        pass from the one that completed the last template, what the changed
        files do to the children: ``none``, ``reload`` or ``restart``.
        """
        self._on_fetched = on_fetched
        self._on_pass = on_pass
        self._settings = settings
        self._print_dry = print_dry
        self.groups = Groups(settings.groups, once=settings.once)
        self._limits = Limits()
        self._ledgers: dict[int, Ledger] = {}
        self._listings: dict[Path, frozenset[str]] = {}
        self.on_folder: Callable[[], None] = lambda: None
        """Called when a folder of templates has other files."""
        self._wake = anyio.Event()
        self._views: ViewsLike | None = None
        self._source: Source | None = None
        self._templates: list[TemplateLike] = []
        self.engine: Engine[Entry] = Engine([], 0.0)
        self.states = [TemplateState() for _ in settings.templates]
        self.commands = Commands(settings.consul, once=settings.once)
        self.commands.gate.on_open = self._wake_up
        self.writer = Writer(settings, self.commands, print_dry)
        self.sinks = Sinks(settings, self.states, self.commands, print_dry)
        self._action = NONE
        """What changed files do to the children, once variables have settled."""
        self._stats: dict[Path, tuple[int, int, int] | None] = {}
        self._outage = False
        self._checks_at = 0.0
        self._failures: dict[Query, int] = {}
        self._given_up: str | None = None
        self.renders = 0
        """Renders done, complete or not."""

    @property
    def settings(self) -> Settings:
        """What is run."""
        return self._settings

    def changed(self, query: Query) -> None:
        """Note a change of a view; wakes the runner in the same loop turn."""
        entry = None if self._source is None else self._source.find(query)
        if entry is None:
            return
        entry.changed_at = anyio.current_time()
        if self.engine.changed(entry, entry.changed_at):
            self._wake.set()

    def failed(self, query: Query, error: Exception) -> None:
        """Note a question without an answer; too many in a row end the run."""
        self._failures[query] = failures = self._failures.get(query, 0) + 1
        if self._settings.attempts and failures >= self._settings.attempts:
            self._given_up = f"{describe(query)}: given up after {failures}: {error}"
            self._wake.set()

    def failures(self, query: Query) -> int:
        """Return how often in a row a query was not answered, up to now."""
        found = None if self._source is None else self._source.find(query)
        is_failing = found is not None and found.view.error is not None
        return self._failures.get(query, 0) if is_failing else 0

    def _wake_up(self) -> None:
        self._wake.set()

    def look_now(self) -> None:
        """Look at the watched files without waiting for the next time."""
        self._checks_at = 0.0
        self._wake.set()

    def prepare(self, views: ViewsLike) -> None:
        """Compile the templates; raises ``TemplateError``."""
        self._views = views
        self._source = Source(views)
        plans = self._settings.templates
        self._templates = [open_template(plan.source, self._source) for plan in plans]
        now = anyio.current_time()
        self.engine = Engine([plan.wait for plan in plans], now)
        self._checks_at = now + OUTAGE_CHECK_S

    def forget_unused(self) -> None:
        """Stop all views that no template uses."""
        assert self._views is not None
        assert self._source is not None
        self._views.keep(self._source.keep(self.engine.wanted()))

    def watched_files(self) -> set[Path]:
        """Return the files that a change of makes a template render again."""
        found: set[Path] = set()
        for template in self._templates:
            found |= template.files() | self._parts(template)
        return found

    def watched_folders(self) -> set[Path]:
        """Return the folders in which files of templates may appear."""
        folders = {path.parent for path in self.watched_files()}
        for plan in self._settings.templates:
            folders.update(plan.source.include_path)
        return folders

    def _parts(self, template: TemplateLike) -> frozenset[Path]:
        """Return the files the template itself is made of."""
        return template.parts() if self._settings.watch_templates else frozenset()

    async def run(self) -> None:
        """Render for ever, or with ``once`` until all is rendered.

        Raises ``RunError`` or ``TemplateError`` when the run cannot go on.
        """
        try:
            await self._run()
        except asyncio.CancelledError:
            # What is held back is of files that are written already.
            with anyio.CancelScope(shield=True):
                await self._run_commands(self.groups.release_all(), at_end=True)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self.commands.gate.aclose()

    async def _run(self) -> None:
        timeout = self._settings.once_timeout_s
        if not (self._settings.once and timeout):
            await self._loop()
            return
        try:
            with anyio.fail_after(timeout):
                await self._loop()
        except TimeoutError:
            raise RunError(f"no end after {timeout:g}s; {self._needs()}") from None

    async def _loop(self) -> None:
        while True:
            self._wake = anyio.Event()
            action = await self._pass()
            self._action = strongest({action, self._action})
            if self.engine.all_rendered():
                if self.sinks.settle(self.engine, anyio.current_time()):
                    self._on_pass(self._action)
                    self._action = NONE
                if self._settings.once:
                    return
            if self._settings.explain and self.engine.all_fetched():
                return
            self._give_up_on_missing()
            if self.engine.all_fetched():
                self._on_fetched()
            delay = self._next_timer() - anyio.current_time()
            if delay > 0:
                with anyio.move_on_after(delay):
                    await self._wake.wait()
            else:
                # Let the views' tasks run even when passes follow one another.
                await anyio.lowlevel.checkpoint()
            self._look_around()

    # One pass

    async def _pass(self) -> str:
        """Return what the replaced files do to the children."""
        actions = {NONE}
        for index in self.engine.due(anyio.current_time()):
            for change in await self._render(index):
                if await self._told_haproxy(index, change):
                    continue
                actions.add(change.plan.child_action)
                if not self.groups.take(change, anyio.current_time()):
                    self.commands.add(change)
        now = anyio.current_time()
        for change in await self.sinks.release(self.engine, now):
            actions.add(change.plan.child_action)
            self.commands.add(change)
        if self.engine.has_dropped:
            self.forget_unused()
            self.engine.has_dropped = False
        await self._run_commands(self.groups.release(self.engine, anyio.current_time()))
        return strongest(actions)

    async def _told_haproxy(self, index: int, change: Change) -> bool:
        """Set HAProxy's servers at run time; ``False`` when it has to reload."""
        plan = change.plan
        if change.update is None:
            return False
        if self.groups.holds(plan.group) or self.commands.is_owed(plan.command):
            return False  # It does not run the old file yet.
        try:
            count = await apply(plan.haproxy, change.update)
        except HaproxyError as error:
            log.warning("haproxy at %s; it is reloaded", error)
            return False
        self.states[index].runtime_updates += 1
        log.info("haproxy at %s: set by %d commands, no reload", plan.haproxy, count)
        return True

    async def _run_commands(
        self, changes: Iterable[Change], *, at_end: bool = False
    ) -> None:
        for change in changes:
            self.commands.add(change)
        await self.commands.run(at_end=at_end)

    async def _render(self, index: int) -> list[Change]:
        """Render one template; return what changed on disk."""
        plan, template = self._settings.templates[index], self._templates[index]
        state = self.states[index]
        self.renders += 1
        state.renders += 1
        now = anyio.current_time()
        try:
            made: Made | None = None
            if isinstance(template, EachTemplate):
                made = template.make()
                outcome, content = made.outcome, b""
            else:
                rendered = template.render()
                outcome, content = rendered.outcome, rendered.content
        except TemplateError as raised:
            error = without_values(raised) if plan.variable else raised
            self.engine.rendered(index, template.failed(), now)
            state.error = str(error)
            if plan.error_fatal or self._settings.once:
                raise error from None
            log.error("%s; the old output stays", error)
            return []
        finally:
            self._watch(template.files() | self._parts(template))
        causes = self.engine.rendered(index, outcome, now)
        self._limits.note(index, outcome.missing, template.limits(), now)
        is_first = not state.rendered_at
        if outcome.complete:
            state.rendered_at = time.time()
        elif made is None:
            log.debug("%s: incomplete", plan.name)
            return []
        state.error = ""

        async def write(plan: TemplatePlan, content: bytes) -> Change | None:
            change = await self.writer.write(
                plan, state, content, causes, is_first=is_first
            )
            if change is not None:
                state.written += 1
                state.written_at = time.time()
            return change

        try:
            if self.sinks.take(index, plan, made, content, now):
                return []
            if made is not None:
                return await self._write_each(index, plan, made, write)
            change = await write(plan, content)
        except OutputError as error:
            state.error = str(error)
            once = self._settings.once
            ends = once or plan.error_fatal
            if isinstance(error, RefusedError):
                ends = error.ends(plan.shape.on_empty, once=once)
            if ends:
                raise RunError(str(error)) from error
            log.error("%s", error)
            return []
        return [] if change is None else [change]

    async def _write_each(
        self,
        index: int,
        plan: TemplatePlan,
        made: Made,
        write: Callable[[TemplatePlan, bytes], Awaitable[Change | None]],
    ) -> list[Change]:
        if self._settings.explain:
            return []
        ledger = self._ledgers.get(index)
        if ledger is None:
            ledger = self._ledgers[index] = Ledger(plan.source)

        def show(path: Path) -> None:
            self._print_dry(f"- {path}")

        changes = await write_all(
            plan, made, ledger, write, show if self._settings.dry else None
        )
        texts = self.states[index].texts
        for path in texts.keys() - (made.names or texts.keys()):
            del texts[path]
        return changes

    # What time brings

    def _next_timer(self) -> float:
        timers = (
            self.engine.next_timer(),
            self.commands.next_retry(),
            self.groups.next_timer(self.engine),
            self._limits.next_timer(),
            self.sinks.next_timer(self.engine),
        )
        times = [self._checks_at, *(timer for timer in timers if timer is not None)]
        if self._settings.missing_timeout_s:
            now = anyio.current_time()
            held = self.engine.held_for(now)
            if held:
                times.append(now + self._settings.missing_timeout_s - held)
        return min(times)

    def _look_around(self) -> None:
        """Do what is due by the clock: reports, outages, watched files."""
        now = anyio.current_time()
        if self._given_up is not None:
            raise RunError(self._given_up)
        for index, needs in self.engine.reports(now).items():
            name = self._settings.templates[index].name
            log.warning("%s waits for %s", name, named(needs))
        if now < self._checks_at:
            return
        self._checks_at = now + OUTAGE_CHECK_S
        self._report_outage()
        self._look_at_folders()
        for path, stat in self._stats.items():
            current = stamp(path)
            if current != stat:
                self._stats[path] = current
                self._file_changed(path, now)

    def _file_changed(self, path: Path, now: float) -> None:
        for index, template in enumerate(self._templates):
            if path in self._parts(template):
                self._open_again(index, now)
            elif path in template.files():
                self.engine.touch(index, now)

    def _look_at_folders(self) -> None:
        for folder in self._settings.folders:
            if not self._settings.watch_templates:
                return
            try:
                found = listing(folder.path, folder.exclude)
            except ConfigError as error:
                log.error("%s", error)
                continue
            if found != self._listings.get(folder.path, folder.found):
                self._listings[folder.path] = found
                log.warning("%s: templates came or went", folder.path)
                self.on_folder()

    def _open_again(self, index: int, now: float) -> None:
        assert self._source is not None
        plan = self._settings.templates[index]
        try:
            self._templates[index] = open_template(plan.source, self._source)
        except TemplateError as error:
            self.states[index].source_error = str(error)
            if self._settings.dies_on_reload_error:
                raise
            log.error("%s; the old template stays in use", error)
            return
        self.states[index].source_error = ""
        log.warning("%s: the template was read again", plan.name)
        self.engine.touch(index, now)

    def _watch(self, files: Iterable[Path]) -> None:
        for path in files:
            if path not in self._stats:
                self._stats[path] = stamp(path)

    def _report_outage(self) -> None:
        wanted = self.engine.wanted()
        errors = [e.view.error for e in wanted if e.view.error is not None]
        failing = {e.query for e in wanted if e.view.error is not None}
        self._failures = {q: n for q, n in self._failures.items() if q in failing}
        if errors and not self._outage:
            log.warning(
                "%d of %d queries fail, files stay as they are; for one: %s",
                *(len(errors), len(wanted), errors[0]),
            )
        elif self._outage and not errors:
            log.warning("all queries are answered again")
        self._outage = bool(errors)

    def _give_up_on_missing(self) -> None:
        settings, engine = self._settings, self.engine
        if settings.fail_on_missing and engine.all_fetched() and engine.missing():
            raise RunError(self._needs())
        limit = settings.missing_timeout_s
        if limit and engine.held_for(anyio.current_time()) >= limit:
            raise RunError(f"given up after {limit:g}s; {self._needs()}")
        if late := self._limits.passed(anyio.current_time()):
            raise RunError(f"given up: {late}")

    def _needs(self) -> str:
        """Return what each held template waits for."""
        parts = [
            f"{self._settings.templates[index].name} waits for {named(needs)}"
            for index, needs in self.engine.missing().items()
        ]
        return "; ".join(parts)
