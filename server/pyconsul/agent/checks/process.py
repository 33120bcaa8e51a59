"""Commands of checks: a process group of its own, bounded time and output.

The child is watched by a process descriptor and stays a zombie until its whole
group is killed, so its number can belong to nobody else. What it leaves behind
in its group never outlives the probe. A flood of output is read slowly: the
pipe holds the writer back, not the agent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence

CHUNK = 65536
SLOW_AFTER = 1 << 20
"""Bytes of output after which a command is read slowly."""
SLOW_S = 0.02
"""Seconds between two pieces of a flood."""
GRACE_S = 0.5
"""Seconds others may hold a command's output open after its end."""
END_S = 1.0
"""Seconds a killed child may take to be gone; afterwards nobody waits."""
POLL_S = 0.05
"""Seconds between two looks at a child, without process descriptors."""


class Command:
    """One run of ``args``, without a shell; needs a running loop.

    ``keep`` bytes of the end of its output are in ``kept``, ``total`` were
    written. Raises ``OSError`` when it cannot be started.
    """

    def __init__(self, args: Sequence[str], keep: int) -> None:
        self._keep = keep
        self.kept = b""
        self.total = 0
        self._loop = asyncio.get_running_loop()
        if not args:
            raise ValueError("exec: no command")
        try:
            self._child = subprocess.Popen(
                list(args),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except FileNotFoundError:
            raise _failure(args[0], "no such file or directory") from None
        except PermissionError:
            raise _failure(args[0], "permission denied") from None
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise _failure(args[0], text) from None
        assert self._child.stdout is not None
        self._out = self._child.stdout.fileno()
        os.set_blocking(self._out, False)
        self._closed = self._loop.create_future()
        self._exited = self._loop.create_future()
        self._killed = False
        self._slow: asyncio.TimerHandle | None = None
        self._process = _descriptor(self._child.pid)
        self._loop.add_reader(self._out, self._read)
        if self._process >= 0:
            self._loop.add_reader(self._process, self._ended)
        else:
            self._look()

    async def wait(self) -> int:
        """Return the exit status (negative: the signal); cancelling is allowed."""
        await asyncio.shield(self._exited)
        await asyncio.wait([self._closed], timeout=GRACE_S)
        self.kill()
        return self._child.wait()

    async def end(self) -> None:
        """Kill the group and wait, not for long, until the child is gone."""
        self.kill()
        if not self._exited.done():
            await asyncio.wait([self._exited], timeout=END_S)

    def kill(self) -> None:
        """Kill the group and let go of the pipe; may be called twice."""
        if self._slow is not None:
            self._slow.cancel()
        self._finish_reading()
        if self._child.returncode is not None:
            return
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._killed = True
        if self._exited.done():
            self._child.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._out, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._finish_reading()
            return
        self.total += len(data)
        self.kept = (self.kept + data)[-self._keep :]
        if self.total > SLOW_AFTER:
            self._loop.remove_reader(self._out)
            self._slow = self._loop.call_later(SLOW_S, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._out, self._read)

    def _finish_reading(self) -> None:
        if self._closed.done():
            return
        self._closed.set_result(None)
        self._loop.remove_reader(self._out)
        assert self._child.stdout is not None
        self._child.stdout.close()

    def _ended(self) -> None:
        self._loop.remove_reader(self._process)
        os.close(self._process)
        self._gone()

    def _gone(self) -> None:
        self._exited.set_result(None)
        if self._killed:
            self._child.wait()

    def _look(self) -> None:
        found = os.waitid(os.P_PID, self._child.pid, _LOOK)
        if found is None:
            self._loop.call_later(POLL_S, self._look)
        else:
            self._gone()


_LOOK = os.WEXITED | os.WNOWAIT | os.WNOHANG


def _descriptor(pid: int) -> int:
    """Return a descriptor that is readable when the process ended, or -1."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _failure(program: str, reason: str) -> OSError:
    what = "fork/exec" if "/" in program else "exec:"
    if what == "exec:" and reason.startswith("no such"):
        return OSError(f'exec: "{program}": executable file not found in $PATH')
    return OSError(f"{what} {program}: {reason}")
