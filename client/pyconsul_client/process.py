"""Child processes: each in its own process group, so that all of it can be told.

No shell is used unless :func:`shell_argv` is asked for one. A child that
outlives its timeout gets SIGTERM, then SIGKILL, with its whole group; so does
one whose caller is cancelled.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import anyio
import msgspec
from anyio.abc import Process

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


class Outcome(msgspec.Struct, frozen=True):
    """How a child ended."""

    code: int | None
    """Exit status, negative for a signal; ``None`` when it could not start."""
    timed_out: bool = False
    reason: str = ""
    """Why it could not start."""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.code == 0 and not self.timed_out

    def __str__(self) -> str:
        if self.timed_out:
            return "timed out"
        if self.code is None:
            return self.reason
        if self.code < 0:
            # Go has the same words, but for the case.
            words = (signal.strsignal(-self.code) or str(-self.code)).lower()
            return f"signal: {words}"
        return f"exit status {self.code}"


class StartError(Exception):
    """The program could not be started."""


class Child:
    """A running child with its process group."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        inherit_stdin: bool = False,
        cwd: str | None = None,
    ) -> Child:
        """Start a program; raises StartError. Output is inherited.

        ``env`` is added to our environment; without ``stdin`` input is empty, or
        ours with ``inherit_stdin``.
        """
        if not argv:
            raise StartError("no command given")
        feed = subprocess.PIPE if stdin else subprocess.DEVNULL
        if inherit_stdin:
            feed = None
        try:
            process = await anyio.open_process(
                list(argv),
                stdin=feed,
                stdout=None,
                stderr=None,
                env=os.environ | dict(env or {}),
                cwd=cwd,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            text = f'exec: "{argv[0]}": executable file not found in $PATH'
            if "/" in argv[0]:  # a path is not looked for in $PATH
                text = f"fork/exec {argv[0]}: no such file or directory"
            raise StartError(text) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StartError(f"fork/exec {argv[0]}: {reason.lower()}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id, also of the group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not been seen to end."""
        return self._process.returncode is None

    def send_signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing when it is gone."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # The group is gone, or (macOS) only its zombie leader is left.
            pass

    async def feed(self, data: bytes) -> None:
        """Write its input and close it; a child that does not read is fine."""
        stream = self._process.stdin
        if stream is None:
            return
        try:
            await stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(stream)

    async def wait(self) -> int:
        """Return the exit status, negative for a signal."""
        return await self._process.wait()

    async def stop(self, number: int = signal.SIGTERM, grace: float = GRACE) -> int:
        """Ask the group to end, after ``grace`` seconds kill it; return the status.

        Completes even when cancelled: no child stays behind.
        """
        if self.running:
            self.send_signal(number)
            with anyio.move_on_after(grace, shield=True):
                await self._process.wait()
        # Members of the group may have survived their leader.
        self.send_signal(signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await self._process.wait()
        await self.close()
        assert self._process.returncode is not None
        return self._process.returncode

    async def close(self) -> None:
        """Close our end of its input; safe under cancellation."""
        if self._process.stdin is not None:
            await anyio.aclose_forcefully(self._process.stdin)


class Runner:
    """Runs commands one at a time, and passes signals on to the current one."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._idle: anyio.Event | None = None
        self._early: list[int] = []

    @property
    def busy(self) -> bool:
        """Whether a child is running or about to."""
        return self._idle is not None

    def send_signal(self, number: int) -> None:
        """Send a signal to the running child's group, if there is one."""
        if self._child is not None:
            self._child.send_signal(number)
        elif self.busy:
            # The program may be running already while we wait to hear of it.
            self._early.append(number)

    async def wait_idle(self) -> None:
        """Return once no child is running."""
        if self._idle is not None:
            await self._idle.wait()

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the child is stopped, too
        grace: float = GRACE,
    ) -> Outcome:
        """Run a command to its end; ``timeout`` and ``grace`` in seconds.

        Never raises for what the command does.
        """
        assert not self.busy, "one command at a time"
        self._idle = anyio.Event()
        try:
            return await self._run(argv, stdin, env, timeout, grace)
        finally:
            self._child = None
            self._early.clear()
            self._idle.set()
            self._idle = None

    async def _run(
        self,
        argv: Sequence[str],
        stdin: bytes | None,
        env: Mapping[str, str] | None,
        within: float | None,
        grace: float,
    ) -> Outcome:
        child: Child | None = None
        try:
            # Cancelled half-way, a started program would be nobody's child.
            with anyio.CancelScope(shield=True):
                child = await Child.start(argv, env=env, stdin=stdin is not None)
        except StartError as error:
            return Outcome(None, reason=str(error))
        assert child is not None
        self._child = child
        for number in self._early:
            child.send_signal(number)
        code: int | None = None
        try:
            with anyio.move_on_after(within):
                async with anyio.create_task_group() as group:
                    if stdin is not None:
                        group.start_soon(child.feed, stdin)
                    code = await child.wait()
                    # A grandchild may hold the pipe open without reading it.
                    group.cancel_scope.cancel()
        finally:
            if code is None:
                await child.stop(grace=grace)
            else:
                await child.close()
        if code is None:
            return Outcome(-signal.SIGKILL, timed_out=True)
        return Outcome(code)


def shell_argv(command: str) -> list[str]:
    """Return the argument list that runs ``command`` in the user's shell."""
    return [os.environ.get("SHELL") or "/bin/sh", "-c", command]
