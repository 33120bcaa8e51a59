"""The shell around the engine: views wake it, it renders, writes and runs commands.

One pass renders every template that is due, replaces the files that differ,
and then runs each distinct command of those once, in the configuration's order.
A failed command is tried again with backoff until it succeeds, for the file on
disk is newer than what the service has loaded.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio

from pyconsul_client.queries import Query
from pyconsul_template.commands import Command, CommandError, run_command
from pyconsul_template.config import Settings, TemplatePlan
from pyconsul_template.engine import Engine
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
from pyconsul_template.render import TemplateError
from pyconsul_template.source import Entry, Reader, Source, describe
from pyconsul_template.syntax import TemplateLike, open_template

log = logging.getLogger("pyconsul_template")

COMMAND_RETRY_S = 1.0
COMMAND_RETRY_MAX_S = 60.0
FILE_POLL_S = 2.0
OUTAGE_CHECK_S = 2.0
NAMES_MAX = 20
"""Missing things named in one message."""


class RunError(Exception):
    """The run cannot go on: exit status 14."""


class ViewsLike(Reader, Protocol):
    """What the runner needs of ``pyconsul_client``'s ``Views``."""

    def keep(self, queries: set[Query]) -> None:
        """Stop all other views."""
        ...


@dataclass(slots=True)
class _Retry:
    """A command that failed."""

    failures: int
    at: float
    environment: dict[str, str]
    is_fatal: bool


@dataclass(slots=True)
class _Due:
    """A command to run at the end of the pass."""

    plan: TemplatePlan
    changed: list[Path] = field(default_factory=list[Path])
    is_fatal: bool = False


class Runner:
    """Keeps the files of ``settings`` up to date until cancelled."""

    def __init__(
        self,
        settings: Settings,
        print_dry: Callable[[str], None],
        on_fetched: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare nothing yet; ``on_fetched`` is told when all data came once."""
        self._on_fetched = on_fetched
        self._settings = settings
        self._print_dry = print_dry
        self._wake = anyio.Event()
        self._views: ViewsLike | None = None
        self._source: Source | None = None
        self._templates: list[TemplateLike] = []
        self._engine: Engine[Entry] = Engine([], 0.0)
        self._retries: dict[Command, _Retry] = {}
        self._stats: dict[Path, tuple[int, int, int] | None] = {}
        self._outage = False
        self._checks_at = 0.0
        self.renders = 0
        """Renders done, complete or not."""

    def changed(self, query: Query) -> None:
        """Note a change of a view; wakes the runner in the same loop turn."""
        entry = None if self._source is None else self._source.find(query)
        if entry is not None and self._engine.changed(entry, anyio.current_time()):
            self._wake.set()

    def prepare(self, views: ViewsLike) -> None:
        """Compile the templates; raises ``TemplateError``."""
        self._views = views
        self._source = Source(views)
        plans = self._settings.templates
        self._templates = [open_template(plan.source, self._source) for plan in plans]
        now = anyio.current_time()
        self._engine = Engine([plan.wait for plan in plans], now)
        self._checks_at = now + OUTAGE_CHECK_S

    async def run(self) -> None:
        """Render for ever, or with ``once`` until all is rendered.

        Raises ``RunError`` or ``TemplateError`` when the run cannot go on.
        """
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
            await self._pass()
            if self._settings.once and self._engine.all_rendered():
                return
            self._give_up_on_missing()
            if self._engine.all_fetched():
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

    async def _pass(self) -> None:
        commands: dict[Command, _Due] = {}
        due = self._engine.due(anyio.current_time())
        for index in due:
            changed = await self._render(index)
            plan = self._settings.templates[index]
            if changed is not None and plan.command is not None:
                run = commands.setdefault(plan.command, _Due(plan))
                run.changed.append(changed)
                run.is_fatal |= plan.command_error_fatal
        if self._engine.has_dropped:
            assert self._views is not None
            assert self._source is not None
            self._views.keep(self._source.keep(self._engine.wanted()))
            self._engine.has_dropped = False
        await self._run_commands(commands)

    async def _render(self, index: int) -> Path | None:
        """Render one template; return the file if its bytes changed."""
        plan, template = self._settings.templates[index], self._templates[index]
        self.renders += 1
        now = anyio.current_time()
        try:
            rendered = template.render()
        except TemplateError as error:
            self._engine.rendered(index, template.failed(), now)
            if plan.error_fatal or self._settings.once:
                raise
            log.error("%s; the old output stays", error)
            return None
        finally:
            self._watch(template.files())
        causes = self._engine.rendered(index, rendered.outcome, now)
        if not rendered.outcome.complete:
            log.debug("%s: incomplete", plan.name)
            return None
        try:
            return await self._output(plan, rendered.content, causes)
        except OutputError as error:
            if self._settings.once or plan.error_fatal:
                raise RunError(str(error)) from error
            log.error("%s", error)
            return None

    async def _output(
        self, plan: TemplatePlan, content: bytes, causes: Iterable[Entry]
    ) -> Path | None:
        target = plan.target
        current = None if target is None else read_current(target)
        if current == content and target is not None:
            if not self._settings.dry:
                fix_attributes(target)
            log.debug("%s: %s is up to date", plan.name, target.path)
            return None
        if self._settings.dry or target is None:
            path = "(no destination)" if target is None else target.path
            self._print_dry(f"> {path}\n{content.decode('utf-8', 'surrogateescape')}")
            return None
        staged = stage(target, content)
        try:
            if plan.check is not None:
                await self._check(plan, plan.check, staged.temporary, target)
        except CommandError as error:
            discard(staged)
            if self._settings.once:
                raise RunError(f"{target.path} stays as it is: check {error}") from None
            log.error("%s stays as it is: check %s", target.path, error)
            return None
        except BaseException:
            discard(staged)
            raise
        commit(staged)
        if log.isEnabledFor(logging.INFO):
            came, went = line_changes(current, content)
            why = ", ".join(describe(entry.query) for entry in causes)
            why = why or "first render"
            log.info("wrote %s: +%d -%d lines (%s)", target.path, came, went, why)
        return target.path

    async def _check(
        self, plan: TemplatePlan, check: Command, staged: Path, target: Target
    ) -> None:
        words = (
            word.replace("{{ path }}", str(staged)).replace("{{path}}", str(staged))
            for word in check.argv
        )
        environment = self._environment(plan, [target.path])
        environment["CHECK_FILE"] = str(staged)
        await run_command(Command(tuple(words), check.timeout_s), environment)

    # Commands

    async def _run_commands(self, due: dict[Command, _Due]) -> None:
        now = anyio.current_time()
        for command, retry in list(self._retries.items()):
            if command not in due and retry.at <= now:
                await self._run(command, retry.environment, is_fatal=retry.is_fatal)
        failed: list[str] = []
        for command, one in due.items():
            environment = self._environment(one.plan, one.changed)
            error = await self._run(command, environment, is_fatal=one.is_fatal)
            if error is not None and (one.is_fatal or self._settings.once):
                failed.append(str(error))
        if failed:
            raise RunError(f"command {'; '.join(failed)}")

    async def _run(
        self, command: Command, environment: dict[str, str], *, is_fatal: bool
    ) -> CommandError | None:
        try:
            await run_command(command, environment)
        except CommandError as error:
            before = self._retries.get(command)
            failures = 1 if before is None else before.failures + 1
            delay = min(COMMAND_RETRY_S * 2 ** (failures - 1), COMMAND_RETRY_MAX_S)
            at = anyio.current_time() + delay
            self._retries[command] = _Retry(failures, at, environment, is_fatal)
            log.error("command %s; again in %gs", error, delay)
            return error
        self._retries.pop(command, None)
        log.info("ran %s", command)
        return None

    def _environment(self, plan: TemplatePlan, changed: list[Path]) -> dict[str, str]:
        consul = self._settings.consul
        environment = {
            "CONSUL_HTTP_ADDR": consul.url,
            "CT_TEMPLATE": plan.name,
            "CT_DESTINATION": str(plan.target.path) if plan.target else "",
            "CT_CHANGED": "\n".join(str(path) for path in changed),
        }
        if consul.socket_path:
            environment["CONSUL_HTTP_ADDR"] = f"unix://{consul.socket_path}"
        if consul.token:
            environment["CONSUL_HTTP_TOKEN"] = consul.token
        return environment

    # What time brings

    def _next_timer(self) -> float:
        times = [self._checks_at]
        timer = self._engine.next_timer()
        if timer is not None:
            times.append(timer)
        times += [retry.at for retry in self._retries.values()]
        if self._settings.missing_timeout_s:
            now = anyio.current_time()
            held = self._engine.held_for(now)
            if held:
                times.append(now + self._settings.missing_timeout_s - held)
        return min(times)

    def _look_around(self) -> None:
        """Do what is due by the clock: reports, outages, watched files."""
        now = anyio.current_time()
        for index, needs in self._engine.reports(now).items():
            name = self._settings.templates[index].name
            log.warning("%s waits for %s", name, _named(needs))
        if now < self._checks_at:
            return
        self._checks_at = now + OUTAGE_CHECK_S
        self._report_outage()
        for path, stat in self._stats.items():
            current = _stat(path)
            if current != stat:
                self._stats[path] = current
                for index, template in enumerate(self._templates):
                    if path in template.files():
                        self._engine.touch(index, now)

    def _watch(self, files: Iterable[Path]) -> None:
        for path in files:
            if path not in self._stats:
                self._stats[path] = _stat(path)

    def _report_outage(self) -> None:
        wanted = self._engine.wanted()
        errors = [e.view.error for e in wanted if e.view.error is not None]
        if errors and not self._outage:
            log.warning(
                "%d of %d queries fail, files stay as they are; for one: %s",
                *(len(errors), len(wanted), errors[0]),
            )
        elif self._outage and not errors:
            log.warning("all queries are answered again")
        self._outage = bool(errors)

    def _give_up_on_missing(self) -> None:
        settings, engine = self._settings, self._engine
        if settings.fail_on_missing and engine.all_fetched() and engine.missing():
            raise RunError(self._needs())
        limit = settings.missing_timeout_s
        if limit and engine.held_for(anyio.current_time()) >= limit:
            raise RunError(f"given up after {limit:g}s; {self._needs()}")

    def _needs(self) -> str:
        """Return what each held template waits for."""
        parts = [
            f"{self._settings.templates[index].name} waits for {_named(needs)}"
            for index, needs in self._engine.missing().items()
        ]
        return "; ".join(parts)


def _named(entries: Iterable[Entry]) -> str:
    names = sorted(describe(entry.query) for entry in entries)
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def print_to_stdout(text: str) -> None:
    """Print a dry run's file, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()
