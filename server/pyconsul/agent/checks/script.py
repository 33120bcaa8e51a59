"""Script checks: exit 0 passes, 1 warns, all else is critical. No shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pyconsul.agent.checks.process import Command
from pyconsul.agent.checks.runner import OverdueError, Probe
from pyconsul.agent.checks.status import captured
from pyconsul.types.durations import format_duration


class ScriptProbe(Probe):
    """Runs ``args`` in a process group of its own, which a timeout kills."""

    is_command = True

    def __init__(self, args: Sequence[str], timeout: float, output_max: int) -> None:
        self.timeout = timeout + 5.0
        self._limit = timeout
        self._args = args
        self._output_max = output_max

    async def run(self) -> tuple[str, str]:
        """Start, read until it ends, judge the exit status."""
        command = Command(self._args, self._output_max)
        try:
            async with asyncio.timeout(self._limit):
                code = await command.wait()
        except TimeoutError:
            text = overdue_text(self._limit)
            output = captured(command.kept, command.total, self._output_max)
            raise OverdueError(f"{text}\n\n{output}" if output else text) from None
        finally:
            await command.end()
        output = captured(command.kept, command.total, self._output_max)
        if code < 0 and not output:
            output = f"signal: {-code}"
        return exit_status(code), output


def exit_status(code: int) -> str:
    """Return the status an exit code stands for."""
    return {0: "passing", 1: "warning"}.get(code, "critical")


def overdue_text(limit: float) -> str:
    """Return what is shown of a command that took longer than ``limit`` seconds."""
    return f"Timed out ({format_duration(int(limit * 1e9))}) running check"
