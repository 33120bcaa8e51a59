"""The supervised child of exec mode.

It starts once everything is rendered and is told of each later change by its
reload signal, or by a restart. Signals that are not ours go on to it. The rules
are the client library's ``Supervision``; this drives them with asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Callable, Mapping

from pyconsul_client.tool.supervision import (
    LEAVE,
    RUN,
    SEND,
    SPAWN,
    SWEEP,
    Action,
    ChildRules,
    Supervision,
)
from pyconsul_template.commands import Command, CommandError, Filter, run_command
from pyconsul_template.plans import RELOAD, RESTART, ChildPlan

log = logging.getLogger("pyconsul_template")

START_FAILED = 14
TIMED_OUT = 14


class Child:
    """One child; ``done`` gets our exit status when it is over."""

    def __init__(self, plan: ChildPlan, consul: Mapping[str, str]) -> None:
        """``consul`` is the environment that tells the child of the agent."""
        self.plan = plan
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        rules = ChildRules(
            plan.kill_signal,
            plan.kill_timeout_s,
            plan.splay_s,
            plan.reload_signal,
            plan.restart,
            runs_command=plan.reload_command is not None,
        )
        self._core = Supervision(rules)
        self._consul = consul
        self._configured = child_environment(plan, os.environ, consul)
        self._environment = self._configured
        self._variables: dict[str, str] = {}
        self._events: asyncio.Queue[Callable[[], list[Action]]] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._ended_group = 0
        self._is_shell = plan.command.argv[:2] == ("/bin/sh", "-c")
        # In the foreground of a terminal the child has to stay in our group.
        self._has_group = not _in_foreground()
        self._task: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Task[None]] = set()
        self._reloads = asyncio.Event()
        self._reloader: asyncio.Task[None] | None = None
        self._is_reloading = False
        self._moved = asyncio.Event()
        """Set by whatever was done to the child."""

    @property
    def is_started(self) -> bool:
        """Whether ``start`` was called."""
        return self._task is not None

    @property
    def pid(self) -> int:
        """The process id, 0 while there is no child."""
        return self._process.pid if self._process is not None else 0

    @property
    def restarts(self) -> int:
        """How often the child was started again."""
        return self._core.restarts

    def start(self) -> None:
        """Start the child."""
        if self._task is None:
            self._task = asyncio.create_task(self._drive())
            if self.plan.reload_command is not None:
                self._reloader = asyncio.create_task(
                    self._reload(self.plan.reload_command)
                )
            now = asyncio.get_running_loop().time()
            self._events.put_nowait(lambda: self._core.start(now))

    def take(self, variables: Mapping[str, str], action: str) -> str:
        """Take the variables its next start has beside the configured ones.

        Returns what is to be done to it when ``action`` was due: for others than
        it runs with, a start, as a running process's cannot be changed.
        """
        if variables == self._variables:
            return action
        self._variables = dict(variables)
        self._environment = {**self._configured, **variables}
        rules = self._core.rules
        is_told = rules.reload_signal or rules.runs_command
        return RESTART if is_told or action == RESTART else RELOAD

    def changed(self, *, force: bool = False) -> None:
        """Tell the child of a change, after the splay; ``force`` restarts at once."""
        now = asyncio.get_running_loop().time
        self._events.put_nowait(
            lambda: self._core.changed(now(), random.random(), force=force)
        )

    async def settled(self) -> None:
        """Return when the child runs and nothing is being done to it, or it is over.

        A change it was told of has reached it by then.
        """
        while not self.done.done() and not self._is_settled():
            self._moved.clear()
            await self._moved.wait()

    def _is_settled(self) -> bool:
        return (
            self._process is not None
            and self._events.empty()
            and self._core.running
            and self._core.deadline is None
            and not self._reloads.is_set()
            and not self._is_reloading
        )

    def send(self, number: int) -> None:
        """Pass a signal on."""
        self._events.put_nowait(lambda: self._core.passed(number))

    async def stop(self, status: int) -> int:
        """End the child, however long it is allowed to take; return our status."""
        if self._task is None:
            return status
        now = asyncio.get_running_loop().time
        self._events.put_nowait(lambda: self._core.quit(now(), status))
        return await asyncio.shield(self.done)

    async def aclose(self) -> None:
        """Leave no child behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reloader is not None:
            self._reloader.cancel()
            await asyncio.gather(self._reloader, return_exceptions=True)
        if self._process is not None:
            self._signal(signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                await self._process.wait()

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self.done.done():
                deadline = self._core.deadline
                delay = None if deadline is None else max(deadline - loop.time(), 0)
                actions: list[Action] = []
                try:
                    async with asyncio.timeout(delay):
                        event = await self._events.get()
                except TimeoutError:
                    pass
                else:
                    actions = event()
                await self._do(actions)
                await self._do(self._core.tick(loop.time()))
                self._moved.set()
        except (OSError, ValueError) as error:
            log.error("child %s: %s", self.plan.command, error)
            if not self.done.done():
                self.done.set_result(START_FAILED)
        finally:
            self._moved.set()

    async def _do(self, actions: list[Action]) -> None:
        for kind, number in actions:
            if kind == SPAWN:
                await self._spawn()
            elif kind == SEND:
                log.info("sending the child %s", signal.Signals(number).name)
                self._signal(number)
            elif kind == RUN:
                self._reloads.set()
            elif kind == SWEEP and self._ended_group and self._has_group:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._ended_group, signal.SIGKILL)
            elif kind == LEAVE and not self.done.done():
                self.done.set_result(number)

    async def _reload(self, command: Command) -> None:
        """Run the command for each change; those during a run make one more."""
        while True:
            await self._reloads.wait()
            self._is_reloading = True
            self._reloads.clear()
            environment = {**self._consul, "CHILD_PID": str(self.pid)}
            try:
                await run_command(command, environment)
            except CommandError as error:
                log.error("reload command %s", error)
            else:
                log.info("ran %s", command)
            finally:
                self._is_reloading = False
                self._moved.set()

    async def _spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self.plan.command.argv,
            env=self._environment,
            start_new_session=self._has_group,
        )
        self._process = process
        log.info("started the child %s, process %d", self.plan.command, process.pid)
        waiter = asyncio.create_task(self._wait(process))
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(self.plan.timeout_s or None):
                status = await process.wait()
        except TimeoutError:
            log.error("the child ran for %gs, stopping it", self.plan.timeout_s)
            late = asyncio.get_running_loop().time()
            self._events.put_nowait(lambda: self._core.quit(late, TIMED_OUT))
            status = await process.wait()
        self._ended_group = process.pid
        self._process = None
        log.info("the child ended with %d", status)
        now = asyncio.get_running_loop().time()
        self._events.put_nowait(lambda: self._core.exited(status, now))

    def _signal(self, number: int) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            whole = self._is_shell or number == signal.SIGKILL
            if whole and self._has_group:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)


def child_environment(
    plan: ChildPlan, ours: Mapping[str, str], consul: Mapping[str, str]
) -> dict[str, str]:
    """Return the child's variables: deny beats allow, custom beats both."""
    chosen = Filter(plan.pristine, plan.custom, plan.allowed, plan.denied)
    return chosen({**ours, **consul})


def _in_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
