"""The clock of timed checks: a random start, then a probe each interval.

Between probes a check costs one timer of the loop, not a task, so a thousand
idle checks are cheap. ``Gate`` bounds the probes under way at once.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from random import Random
from typing import Protocol

from pyconsul.agent.checks.status import Notify, Thresholds

CONCURRENT_PROBES = 512
"""Connections of checks under way at once; further probes wait their turn."""
CONCURRENT_COMMANDS = 64
"""Processes of checks under way at once; further ones wait their turn."""

log = logging.getLogger("agent")


class Runner(Protocol):
    """What the agent keeps for a check that does something."""

    def start(self) -> None:
        """Begin; needs a running loop."""
        ...

    def stop(self) -> None:
        """End; nothing is reported afterwards."""
        ...


class OverdueError(Exception):
    """A command ran out of time: critical now, whatever the thresholds say."""


class Probe(ABC):
    """One kind of timed check."""

    timeout: float
    """Seconds a probe may take."""
    is_command = False
    """Whether a probe is a process."""

    @abstractmethod
    async def run(self) -> tuple[str, str]:
        """Return status and output.

        Raises ``OSError`` or ``ValueError`` with a failure's text, and
        ``OverdueError``.
        """

    def timeout_text(self) -> tuple[str, str]:
        """Return the result of a probe that took too long."""
        return "critical", f"Timed out after {self.timeout:g}s"


class Gate:
    """Bounds how many probes run at once."""

    def __init__(
        self, limit: int = CONCURRENT_PROBES, commands: int = CONCURRENT_COMMANDS
    ) -> None:
        self.limit = limit
        self.command_limit = commands
        self.slots = asyncio.Semaphore(limit)
        self.commands = asyncio.Semaphore(commands)
        self.running = 0
        self.running_commands = 0


class TimedRunner:
    """Runs a probe each ``interval`` seconds and reports what counts."""

    def __init__(
        self,
        check_id: str,
        probe: Probe,
        interval: float,
        thresholds: Thresholds,
        notify: Notify,
        gate: Gate,
        random: Random,
    ) -> None:
        self._check_id = check_id
        self._name = f"check {check_id}"
        self._probe = probe
        self._interval = interval
        self._thresholds = thresholds
        self._notify = notify
        self._gate = gate
        self._random = random
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._shown = ""

    def start(self) -> None:
        """Schedule the first probe at a random part of the interval."""
        self._schedule(self._random.random() * self._interval)

    def stop(self) -> None:
        """Cancel the timer and a probe under way."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _schedule(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._begin)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._once(), name=self._name)

    async def _once(self) -> None:
        gate = self._gate
        command = self._probe.is_command
        async with gate.commands if command else gate.slots:
            gate.running += 1
            gate.running_commands += command
            try:
                status, output, at_once = await self.probe()
            finally:
                gate.running -= 1
                gate.running_commands -= command
        self._task = None
        if self._stopped:
            return
        self.report(status, output, at_once=at_once)
        # What a report leads to may have ended this check.
        if not self._stopped:
            self._schedule(self._interval)

    async def probe(self) -> tuple[str, str, bool]:
        """Run the probe within its time; every failure is a critical result.

        The third value says that thresholds do not matter.
        """
        try:
            async with asyncio.timeout(self._probe.timeout):
                return (*await self._probe.run(), False)
        except TimeoutError:
            return (*self._probe.timeout_text(), False)
        except OverdueError as error:
            return "critical", str(error), True
        except (OSError, ValueError) as error:
            return "critical", str(error) or type(error).__name__, False
        except Exception as error:
            # A fault of ours must not end the check silently.
            log.error("check failed: check=%s", self._check_id, exc_info=error)
            return "critical", f"internal error: {type(error).__name__}", False

    def report(self, status: str, output: str, *, at_once: bool = False) -> None:
        """Show a result, once enough of them agree."""
        shown = self._thresholds.take(status)
        if at_once:
            shown = status
        if shown is None:
            return
        if shown == "critical" and self._shown != shown:
            log.warning("Check is now critical: check=%s", self._check_id)
        self._shown = shown
        self._notify(shown, output)
