"""The commands after a pass: each distinct one once, retried or rolled back.

A failed command is tried again with backoff until it succeeds, for the file on
disk is newer than what the service has loaded. With ``rollback`` the files go
back to what they were, and the command runs once more for the service to load
that.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from msgspec import Struct, field

from pyconsul_client.options import Options
from pyconsul_template.commands import Command, CommandError, run_command
from pyconsul_template.config import TemplatePlan
from pyconsul_template.haproxy import Update
from pyconsul_template.healthy import Gate
from pyconsul_template.output import OutputError, Target, restore
from pyconsul_template.plans import HealthPlan

log = logging.getLogger("pyconsul_template")

COMMAND_RETRY_S = 1.0
COMMAND_RETRY_MAX_S = 60.0


class RunError(Exception):
    """The run cannot go on: exit status 14."""


class Change(Struct, frozen=True):
    """A file that was replaced."""

    plan: TemplatePlan
    target: Target
    previous: bytes | None
    """The old bytes; ``None`` when there was no file, or it is not kept."""
    update: Update | None = None
    """What HAProxy can be told at run time instead of the command."""
    undo: Callable[[], None] | None = None
    """What puts the old files back, all of a set; more than once does no harm."""


class _Due(Struct):
    """A command to run at the end of the pass."""

    plan: TemplatePlan
    changes: list[Change] = field(default_factory=list[Change])
    is_fatal: bool = False
    rolls_back: bool = False
    health: HealthPlan | None = None


class _Retry(Struct):
    """A command that failed."""

    failures: int
    at: float
    environment: dict[str, str]
    due: _Due


class Commands:
    """Runs the templates' commands."""

    def __init__(self, consul: Options, *, once: bool) -> None:
        self._consul = consul_environment(consul)
        self._once = once
        self._due: dict[Command, _Due] = {}
        self._retries: dict[Command, _Retry] = {}
        self.gate = Gate(consul)
        """Closed while no command may run, as the last one's service is not healthy."""
        self.errors: dict[Command, str] = {}
        """Why a command's last run failed."""
        self.ran_at: dict[Command, float] = {}
        """When a command last succeeded, in wall clock time."""

    def add(self, change: Change) -> None:
        """Note a change: its command is due."""
        plan = change.plan
        if plan.command is None:
            return
        due = self._due.setdefault(plan.command, _Due(plan))
        due.changes.append(change)
        due.is_fatal |= plan.command_error_fatal
        due.rolls_back |= plan.rolls_back
        due.health = due.health or plan.health

    def is_owed(self, command: Command | None) -> bool:
        """Whether a command is still to run, or to run again."""
        return command is not None and (
            command in self._due or command in self._retries
        )

    async def run(self, *, at_end: bool = False) -> None:
        """Run what is due; raises ``RunError`` when a failure ends the run.

        What has to wait for another's health stays due; ``at_end`` nothing waits.
        """
        now = anyio.current_time()
        for command, retry in list(self._retries.items()):
            is_due = command not in self._due and retry.at <= now
            if is_due and await self._may_run(at_end):
                await self._run(command, retry.environment, retry.due)
        failed: list[str] = []
        for command in list(self._due):
            if not await self._may_run(at_end):
                break
            one = self._due.pop(command)
            paths = [change.target.path for change in one.changes]
            environment = self.environment(one.plan, paths)
            error = await self._run(command, environment, one)
            if error is not None and one.rolls_back:
                await self._roll_back(command, one, environment)
            if error is not None and (one.is_fatal or self._once):
                failed.append(str(error))
        if failed:
            raise RunError(f"command {'; '.join(failed)}")

    def next_retry(self) -> float | None:
        """Return when a failed command is due again."""
        if self.gate.is_closed:
            return None
        return min((retry.at for retry in self._retries.values()), default=None)

    async def _may_run(self, at_end: bool) -> bool:
        """Whether no service has to become healthy before; ``once`` waits for it."""
        if at_end or not self.gate.is_closed:
            return True
        if self._once:
            await self.gate.opened()
        return self._once

    async def _run(
        self, command: Command, environment: dict[str, str], due: _Due
    ) -> CommandError | None:
        try:
            if command.splay_s:
                await anyio.sleep(random.uniform(0, command.splay_s))
            await run_command(command, environment)
        except CommandError as error:
            self.errors[command] = str(error)
            if due.rolls_back:
                self._retries.pop(command, None)
                return error
            before = self._retries.get(command)
            failures = 1 if before is None else before.failures + 1
            delay = min(COMMAND_RETRY_S * 2 ** (failures - 1), COMMAND_RETRY_MAX_S)
            at = anyio.current_time() + delay
            self._retries[command] = _Retry(failures, at, environment, due)
            log.error("command %s; again in %gs", error, delay)
            return error
        self._retries.pop(command, None)
        self.errors.pop(command, None)
        self.ran_at[command] = time.time()
        log.info("ran %s", command)
        self.gate.close(due.health)
        return None

    async def _roll_back(
        self, command: Command, due: _Due, environment: dict[str, str]
    ) -> None:
        reason = self.errors.get(command, "")
        for change in due.changes:
            if not change.plan.rolls_back:
                continue
            path = change.target.path
            try:
                if change.undo is not None:
                    change.undo()
                else:
                    restore(change.target, change.previous)
            except OutputError as error:
                log.error("command %s; %s could not be put back", reason, error)
            else:
                log.error("command %s; %s is as it was before", reason, path)
        if any(
            change.previous is not None or change.undo is not None
            for change in due.changes
        ):
            try:
                await run_command(command, environment)
            except CommandError as error:
                log.error("command %s, with the old files too", error)
            else:
                self.gate.close(due.health)

    def environment(self, plan: TemplatePlan, changed: list[Path]) -> dict[str, str]:
        """Return what a command or a check gets beside our own environment."""
        return self._consul | {
            "CT_TEMPLATE": plan.name,
            "CT_DESTINATION": str(plan.target.path) if plan.target else "",
            "CT_CHANGED": "\n".join(str(path) for path in changed),
        }


def consul_environment(consul: Options) -> dict[str, str]:
    """Return the variables by which a program finds the same agent."""
    environment = {"CONSUL_HTTP_ADDR": consul.url}
    if consul.socket_path:
        environment["CONSUL_HTTP_ADDR"] = f"unix://{consul.socket_path}"
    more = (
        ("CONSUL_HTTP_TOKEN", consul.token),
        ("CONSUL_HTTP_AUTH", consul.auth),
        ("CONSUL_CACERT", consul.ca_file),
        ("CONSUL_CAPATH", consul.ca_path),
        ("CONSUL_CLIENT_CERT", consul.client_cert),
        ("CONSUL_CLIENT_KEY", consul.client_key),
        ("CONSUL_TLS_SERVER_NAME", consul.server_name),
    )
    environment |= {name: value for name, value in more if value}
    if consul.tls:
        environment["CONSUL_HTTP_SSL"] = "true"
        environment["CONSUL_HTTP_SSL_VERIFY"] = str(consul.verify).lower()
    return environment
