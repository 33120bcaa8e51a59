"""A run: the views, the runner, the child, signals, reloads and the status.

SIGHUP reads the configuration and the templates again; when they are wrong the
old ones stay in use. The child stays, too, unless its own settings changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError
from pyconsul_client.queries import Query
from pyconsul_client.tool.notify import NAMES, Notifier
from pyconsul_client.tool.signals import forwarded
from pyconsul_client.view import Views
from pyconsul_template.actions import RunError, consul_environment
from pyconsul_template.brain import Brain, same_for
from pyconsul_template.child import Child
from pyconsul_template.config import ConfigError, Settings
from pyconsul_template.dedup import SharedViews
from pyconsul_template.endpoint import Texts, serving
from pyconsul_template.fetches import Fetches
from pyconsul_template.logs import set_up
from pyconsul_template.plans import NONE
from pyconsul_template.render import TemplateError
from pyconsul_template.rolling import Rolling
from pyconsul_template.runner import Runner, ViewsLike, print_to_stdout
from pyconsul_template.status import (
    Status,
    WatchStatus,
    explanation,
    status_of,
    summary,
    watches_of,
)
from pyconsul_template.telemetry import send
from pyconsul_template.watching import watch_config

log = logging.getLogger("pyconsul_template")

EXPLAIN_S = 30.0
"""An explanation waits this long for answers, then says what did not come."""
EXIT_OK = 0
EXIT_RUN = 14
EXIT_CONFIG = 15


class Service:
    """One process's work, over all its configurations."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        """``load`` reads the configuration again; ConfigError or TemplateError."""
        self._settings = settings
        self._load = load
        self._children: list[Child] = []
        self._rolling = Rolling(lambda: self._settings.consul)
        self._runner: Runner | None = None
        self._brain: Brain | None = None
        self._shared_views: SharedViews | None = None
        self._leads: bool | None = None
        self._started_at = 0.0
        self._systemd = Notifier(os.environ)
        for name in NAMES:
            os.environ.pop(os.fsdecode(name), None)

    async def run(self) -> int:
        """Run until done or stopped; return the exit status."""
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        self._stop: asyncio.Future[int] = loop.create_future()
        self._hang_up = asyncio.Event()
        self._handle_signals()
        try:
            async with serving(self._settings.status_addr, self.status, self._texts):
                telling = asyncio.create_task(
                    self._systemd.keep_telling(lambda: summary(self.status()))
                )
                watching = asyncio.create_task(
                    watch_config(self._watched, self._hang_up.set)
                )
                try:
                    return await self._run()
                finally:
                    telling.cancel()
                    watching.cancel()
        except ConfigError as error:
            log.error("%s", error)
            return EXIT_CONFIG
        finally:
            await self._rolling.aclose()
            if self._brain is not None:
                await self._brain.aclose()
            await asyncio.gather(*(child.aclose() for child in self._children))

    def status(self) -> Status | None:
        """Return what is going on, ``None`` before there is anything."""
        if self._runner is None:
            return None
        waits = (self._runner.commands.gate.waits_for, self._rolling.waits_for)
        return status_of(
            self._runner,
            self._started_at,
            self._children,
            self._leads,
            [name for name in waits if name],
            self._watches(self._runner),
        )

    def _watches(self, runner: Runner) -> WatchStatus | None:
        brain = self._brain
        follows = self._shared_views is not None and not self._leads
        if brain is None or follows:
            return None
        held, guarded = brain.transport.lanes, brain.views.guarded
        blocking = [
            entry
            for entry in runner.engine.wanted()
            if entry.query.blocking and entry.view.index
        ]
        polled = len(blocking) - held - guarded
        return watches_of(len(brain.views), held, guarded, polled)

    def _watched(self) -> tuple[str, ...]:
        """Return what of the configuration is read again when it changes."""
        settings = self._settings
        return settings.config_paths if settings.watch_config else ()

    def _texts(self) -> Texts:
        """Return what was rendered, and whom it may be shown to."""
        runner = self._runner
        if runner is None:
            return Texts(self._settings.shows_renders)
        return Texts(
            runner.settings.shows_renders,
            [plan.shape.encoding for plan in runner.settings.templates],
            [state.texts for state in runner.states],
        )

    def _handle_signals(self) -> None:
        loop, settings = asyncio.get_running_loop(), self._settings

        def stop(status: int) -> None:
            if not self._stop.done():
                self._stop.set_result(status)

        ours = set(settings.stop_signals)
        for number, status in settings.stop_signals.items():
            loop.add_signal_handler(number, stop, status)
            if not settings.children:
                # With a child it goes on to that; alone it is a stop in order.
                loop.add_signal_handler(signal.SIGTERM, stop, status)
        if settings.reload_signal:
            ours.add(settings.reload_signal)
            loop.add_signal_handler(settings.reload_signal, self._hang_up.set)
        if settings.children:
            for number in set(forwarded()) - ours:
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    loop.add_signal_handler(number, self._pass_on, number)

    def _pass_on(self, number: int) -> None:
        for child in self._children:
            child.send(number)

    async def _run(self) -> int:
        environment = consul_environment(self._settings.consul)
        self._children = [Child(plan, environment) for plan in self._settings.children]
        while True:
            work = asyncio.create_task(self._work(self._settings))
            reload = asyncio.create_task(self._reloaded())
            status = await self._first(work, reload)
            for task in (work, reload):
                task.cancel()
            await asyncio.gather(work, reload, return_exceptions=True)
            if status is not None:
                return status
            error = reload.exception()
            if error is not None:
                log.error("%s", error)
                is_config = isinstance(error, ConfigError)
                return await self._stop_children(EXIT_CONFIG if is_config else EXIT_RUN)
            await self._take(reload.result())

    async def _first(
        self, work: asyncio.Task[int], reload: asyncio.Task[Settings]
    ) -> int | None:
        """Wait for what ends this configuration; ``None`` is a reload."""
        while True:
            waited: set[asyncio.Future[int] | asyncio.Task[Settings]]
            waited = {self._stop, reload}
            waited |= {work} if not work.done() else set()
            children = self._children
            waited |= {child.done for child in children}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for child in children:
                if child.done.done():
                    return await self._stop_children(child.done.result())
            if self._stop.done():
                log.info("stopped")
                self._systemd.stopping()
                return await self._stop_children(self._stop.result())
            if work.done():
                status = work.result()
                if status or not any(child.is_started for child in children):
                    return await self._stop_children(status)
            if reload.done():
                return None

    async def _take(self, settings: Settings) -> None:
        """Go on with new settings."""
        old, self._settings = self._settings, settings
        try:
            set_up(settings)
        except ConfigError as error:
            log.error("%s", error)
        self._handle_signals()
        gone = {*old.stop_signals, old.reload_signal} - {0}
        for number in gone - {*settings.stop_signals, settings.reload_signal}:
            asyncio.get_running_loop().remove_signal_handler(number)
        for text in settings.warnings:
            log.warning("%s", text)
        log.warning("configuration read again")
        kept = {c.plan: c for c in self._children if c.plan in settings.children}
        self._children = [c for c in self._children if c.plan not in kept]
        await self._stop_children(EXIT_OK)
        environment = consul_environment(settings.consul)
        self._children = [
            kept[plan] if plan in kept else Child(plan, environment)
            for plan in settings.children
        ]

    async def _stop_children(self, status: int) -> int:
        """End every child; return the status, for one child as it has it."""
        children = [child for child in self._children if not child.done.done()]
        ended = await asyncio.gather(*(child.stop(status) for child in children))
        for child in children:
            await child.aclose()
        return ended[0] if len(ended) == len(self._children) == 1 else status

    async def _reloaded(self) -> Settings:
        """Return the settings of the next reload that is right.

        Raises for a wrong one where the settings say so.
        """
        while True:
            await self._hang_up.wait()
            self._hang_up.clear()
            self._systemd.reloading()
            try:
                return self._load()
            except (ConfigError, TemplateError) as error:
                if self._settings.dies_on_reload_error:
                    raise
                log.error("%s; the old configuration stays in use", error)
                if self._runner is not None and self._runner.engine.all_rendered():
                    self._systemd.ready()

    def _passed(self, action: str) -> None:
        assert self._runner is not None
        variables, given = self._runner.sinks.variables, action
        for child in self._children:
            action = child.take(variables.of(child.plan.name), given)
            if not child.is_started:
                child.start()
                self._rolling.started(child)
            elif action != NONE:
                self._rolling.changed(child, action)
        self._systemd.ready()

    async def _work(self, settings: Settings) -> int:
        before = self._brain
        brain = await self._brain_for(settings)

        def fetched() -> None:
            nonlocal is_first
            if not is_first:
                return
            is_first = False
            if brain.is_new:
                brain.is_new = False
                # Nothing of this goes away soon: no collection need look at it.
                gc.freeze()
                brain.views.begin()
            if brain is before:
                runner.forget_unused()

        is_first = True
        runner = Runner(settings, print_to_stdout, fetched, self._passed)
        runner.on_folder = self._hang_up.set
        runner.writer.shows_diff = sys.stdout.isatty()
        self._runner = runner
        work = asyncio.create_task(self._supervised(runner, brain.client, brain.views))
        try:
            await asyncio.wait({work, brain.task}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                brain.task.result()  # It never ends by itself but by an error.
            return await work
        except (RunError, TemplateError, ClientError) as error:
            log.error("%s", error)
            return EXIT_RUN
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _brain_for(self, settings: Settings) -> Brain:
        """Return the views: those there are, when they ask in the same way."""
        brain = self._brain
        if brain is not None and brain.same_for != same_for(settings):
            await brain.aclose()
            brain = None
        if brain is None:
            brain = self._brain = Brain(settings, self._changed, self._failed)
            await brain.opened()
        return brain

    def _failed(self, query: Query, error: Exception) -> None:
        if self._runner is not None:
            self._runner.failed(query, error)

    def _changed(self, query: Query) -> None:
        if self._shared_views is not None:
            self._shared_views.changed(query)
        elif self._runner is not None:
            self._runner.changed(query)

    async def _supervised(self, runner: Runner, client: Client, views: Views) -> int:
        settings = self._settings
        async with (
            self._shared(runner, client, views) as consul,
            Fetches(consul, runner.changed, runner.failed) as source,
        ):
            runner.prepare(source)
            if settings.explain:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EXPLAIN_S):
                        await runner.run()
                print(explanation(status_of(runner, self._started_at)), end="")
                return EXIT_OK if runner.engine.all_rendered() else EXIT_RUN
            side: list[asyncio.Task[None]] = []
            if settings.watch_templates and not settings.once:
                side.append(asyncio.create_task(_watch_files(runner)))
            if settings.telemetry is not None and settings.telemetry.statsd_address:
                side.append(asyncio.create_task(send(settings.telemetry, self.status)))
            try:
                await runner.run()
            finally:
                for task in side:
                    task.cancel()
                await asyncio.gather(*side, return_exceptions=True)
        return EXIT_OK

    @contextlib.asynccontextmanager
    async def _shared(
        self, runner: Runner, client: Client, views: Views
    ) -> AsyncGenerator[ViewsLike]:
        """Give what the runner reads: the views, or those shared among instances."""
        plan = self._settings.dedup
        if plan is None:
            yield views
            return
        shared = SharedViews(client, views, runner.changed, plan, self._settings)
        self._shared_views = shared
        task = asyncio.create_task(shared.run(self._note_lead))
        try:
            yield shared
        finally:
            self._shared_views = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _note_lead(self, leads: bool) -> None:
        self._leads = leads


async def _watch_files(runner: Runner) -> None:
    """Wake the runner when a file of a template changes.

    What the operating system does not tell of shows at the runner's own look at
    the files, every 2 s.
    """
    folders = sorted(path for path in runner.watched_folders() if path.is_dir())
    if not folders:
        return
    # Only now: the first render does not wait for it.
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

    # It logs every event, and with the log in a watched folder without end.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)

    def is_watched(_: object, path: str) -> bool:
        return Path(path) in runner.watched_files()

    async for _ in awatch(
        *folders, watch_filter=is_watched, recursive=False, debounce=100, step=50
    ):
        runner.look_now()
