"""Script checks: exit 0 passes, 1 warns, all else is critical. No shell."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from pyconsul.agent.checks.runner import Probe
from pyconsul.agent.checks.status import tail
from pyconsul.types.durations import format_duration

CHUNK = 65536


class ScriptProbe(Probe):
    """Runs ``args`` in a process group of its own, which a timeout kills."""

    def __init__(self, args: Sequence[str], timeout: float, output_max: int) -> None:
        self.timeout = timeout + 5.0
        self._limit = timeout
        self._args = args
        self._output_max = output_max

    async def run(self) -> tuple[str, str]:
        """Start, read until it ends, judge the exit status."""
        process = await asyncio.create_subprocess_exec(
            *self._args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        kept, total = b"", 0
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._limit):
                while chunk := await process.stdout.read(CHUNK):
                    total += len(chunk)
                    kept = (kept + chunk)[-self._output_max :]
                code = await process.wait()
        except TimeoutError:
            text = format_duration(int(self._limit * 1e9))
            return "critical", f"Timed out ({text}) running check"
        finally:
            await _end(process)
        output = tail(kept, self._output_max)
        if total > self._output_max:
            output = f"Captured {len(kept)} of {total} bytes\n...\n{output}"
        status = {0: "passing", 1: "warning"}.get(code, "critical")
        return status, output


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the process group, so that nothing outlives a probe."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await asyncio.shield(process.wait())
