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

CONCURRENT_PROBES = 128

log = logging.getLogger("agent")


class Runner(Protocol):
    """What the agent keeps for a check that does something."""

    def start(self) -> None:
        """Begin; needs a running loop."""
        ...

    def stop(self) -> None:
        """End; nothing is reported afterwards."""
        ...


class Probe(ABC):
    """One kind of timed check."""

    timeout: float
    """Seconds a probe may take."""

    @abstractmethod
    async def run(self) -> tuple[str, str]:
        """Return status and output; raise ``OSError`` for a failure's text."""


class Gate:
    """Bounds how many probes run at once."""

    def __init__(self, limit: int = CONCURRENT_PROBES) -> None:
        self.slots = asyncio.Semaphore(limit)


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
        self._probe = probe
        self._interval = interval
        self._thresholds = thresholds
        self._notify = notify
        self._gate = gate
        self._random = random
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

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
        self._task = loop.create_task(self._once(), name=f"check {self._check_id}")

    async def _once(self) -> None:
        async with self._gate.slots:
            status, output = await self.probe()
        self._task = None
        if self._stopped:
            return
        self.report(status, output)
        self._schedule(self._interval)

    async def probe(self) -> tuple[str, str]:
        """Run the probe within its time; every failure is a critical result."""
        try:
            async with asyncio.timeout(self._probe.timeout):
                return await self._probe.run()
        except TimeoutError:
            return "critical", self.timeout_text()
        except (OSError, ValueError) as error:
            return "critical", str(error) or type(error).__name__

    def timeout_text(self) -> str:
        """Return the output of a probe that took too long."""
        return f"Timed out after {self._probe.timeout:g}s"

    def report(self, status: str, output: str) -> None:
        """Show a result, once enough of them agree."""
        shown = self._thresholds.take(status)
        if shown is None:
            return
        if shown == "critical":
            log.warning("Check is now critical: check=%s", self._check_id)
        self._notify(shown, output)
