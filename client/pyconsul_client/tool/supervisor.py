"""A supervised child in the main thread: signals, timers, calls, zombies.

Synchronous on purpose: the child starts before asyncio would be imported.
Other threads hand in work with :meth:`Supervisor.call`. The rules are those of
``supervision``. As process 1 it reaps every orphan.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from .exits import FAILED, ToolError
from .signals import forwarded
from .supervision import LEAVE, SEND, SPAWN, SWEEP, Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from .journal import Journal
    from .supervision import Action, ChildRules

SHELL = "/bin/sh"
CHUNK = 4096
MAX_WAIT = 3600.0


class Program:
    """What to run: ``argv`` as it is, or a text for the shell."""

    __slots__ = ("argv", "shell")

    def __init__(self, argv: list[str], *, shell: bool = False) -> None:
        self.argv = argv
        self.shell = shell

    @classmethod
    def of(cls, command: str | list[str]) -> Program:
        """Make it of a setting: text, also as a list of one, is for the shell."""
        if isinstance(command, str):
            return cls([SHELL, "-c", command], shell=True)
        if len(command) == 1 and " " in command[0]:
            return cls([SHELL, "-c", command[0]], shell=True)
        return cls(command)


def spawn(argv: list[str], env: Mapping[bytes, bytes], *, group: bool = True) -> int:
    """Start a program found by our PATH; return its process id.

    Input, output and errors are ours. ``group`` gives it a process group of its
    own. Raises ToolError (14), which names the program and no other argument.
    """
    reset = [n for n in (signal.SIGPIPE, signal.SIGXFSZ) if n]
    try:
        if group:
            return os.posix_spawnp(
                argv[0], argv, env, setpgroup=0, setsigmask=(), setsigdef=reset
            )
        return os.posix_spawnp(argv[0], argv, env, setsigmask=(), setsigdef=reset)
    except FileNotFoundError as error:
        text = f'exec: "{argv[0]}": executable file not found in $PATH'
        raise ToolError(FAILED, text) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(FAILED, f"exec {argv[0]}: {reason.lower()}") from error


class Supervisor:
    """Runs a child until it ends by itself or we are told to stop.

    ``environment`` is asked at every start. Signals in ``handlers`` are ours,
    and call their function; those in ``stops`` stop the child and end with 12;
    all others go to the child: to its group when the shell runs it.
    """

    def __init__(
        self,
        program: Program,
        rules: ChildRules,
        environment: Callable[[], Mapping[bytes, bytes]],
        journal: Journal,
        *,
        handlers: Mapping[int, Callable[[], None]] | None = None,
        stops: frozenset[int] = frozenset(),
        reap: bool | None = None,
    ) -> None:
        self.core = Supervision(rules)
        self.program = program
        self.pid = 0
        """The child's, 0 while there is none."""
        self._environment = environment
        self._journal = journal
        self._handlers = dict(handlers or {})
        self._stops = stops
        self._reap = os.getpid() == 1 if reap is None else reap
        self._calls: list[Callable[[], None]] = []
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._helpers: set[int] = set()
        self._ended = 0
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        # In the foreground of a terminal the child has to stay in our group.
        self._group = not _foreground()
        self._status: int | None = None

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the supervisor's loop; from any thread."""
        self._calls.append(function)
        self._wake()

    def later(self, name: str, when: float, function: Callable[[], None]) -> None:
        """Run a function at a monotonic time; replaces the timer of that name."""
        self._timers[name] = (when, function)

    def restart(self, *, force: bool = False) -> None:
        """Let the child start again with its newest environment."""
        chance = 0.0
        if self.core.rules.splay and not force:
            import random

            chance = random.random()
        self._do(self.core.changed(time.monotonic(), chance, force=force))

    def send(self, number: int) -> None:
        """Send the child a signal."""
        self._do(self.core.passed(number))

    def stop(self, status: int) -> None:
        """Stop the child, then end with ``status``."""
        self._do(self.core.quit(time.monotonic(), status))

    @property
    def helping(self) -> bool:
        """Whether a helper is running."""
        return bool(self._helpers)

    def helper(self, program: Program) -> None:
        """Run a program beside the child; how it ends is logged."""
        try:
            self._helpers.add(spawn(program.argv, self._environment()))
        except ToolError as error:
            self._journal.error(str(error))

    def run(self) -> int:
        """Run until it is over; return the exit status.

        Raises ToolError when the child cannot start. Handlers of signals are
        put back afterwards.
        """
        previous: dict[int, object] = {}
        wanted = {*forwarded(), *self._handlers, *self._stops, int(signal.SIGCHLD)}
        wakeup = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        try:
            for number in wanted:
                previous[number] = signal.signal(number, _noted)
            self._do(self.core.start())
            while self._status is None:
                self._turn()
            return self._status
        finally:
            if self.pid:
                self._signal_child(signal.SIGKILL)
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
            os.close(self._wake_r)
            os.close(self._wake_w)

    def _turn(self) -> None:
        times = [when for when, _ in self._timers.values()]
        if self.core.deadline is not None:
            times.append(self.core.deadline)
        within = None
        if times:
            # A longer wait, of years say, is more than select takes.
            within = min(max(min(times) - time.monotonic(), 0.0), MAX_WAIT)
        select.select([self._wake_r], [], [], within)
        try:
            numbers = os.read(self._wake_r, CHUNK)
        except BlockingIOError:
            numbers = b""
        for number in numbers:
            self._signalled(number)
        if numbers:
            # A full pipe drops SIGCHLD's byte: look whenever anything came.
            self._collect()
        while self._calls:
            self._calls.pop(0)()
        now = time.monotonic()
        for name, (when, function) in list(self._timers.items()):
            if when <= now:
                del self._timers[name]
                function()
        self._do(self.core.tick(now))

    def _signalled(self, number: int) -> None:
        if number in self._stops:
            self._journal.info(f"stopped by {signal.Signals(number).name}")
            self._do(self.core.quit(time.monotonic()))
        elif number in self._handlers:
            self._handlers[number]()
        elif number not in (0, signal.SIGCHLD):
            self._do(self.core.passed(number))

    def _collect(self) -> None:
        targets = [-1] if self._reap else [self.pid, *self._helpers]
        for target in targets:
            while target:
                try:
                    pid, raw = os.waitpid(target, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                status = os.waitstatus_to_exitcode(raw)
                if pid == self.pid:
                    self.pid = 0
                    self._ended = pid
                    self._do(self.core.exited(status))
                elif pid in self._helpers:
                    self._helpers.discard(pid)
                    if status:
                        self._journal.warn(f"the change command ended with {status}")
                if not self._reap:
                    break

    def _do(self, actions: list[Action]) -> None:
        for kind, number in actions:
            if kind == SPAWN:
                self._spawn()
            elif kind == SEND:
                self._journal.debug(f"sending the child {signal.Signals(number).name}")
                self._signal_child(number)
            elif kind == SWEEP:
                self._sweep()
            elif kind == LEAVE and self._status is None:
                self._status = number

    def _spawn(self) -> None:
        sys.stdout.flush()
        group = self._group
        self.pid = spawn(self.program.argv, self._environment(), group=group)
        self._journal.debug(f"started the child, process {self.pid}")

    def _signal_child(self, number: int) -> None:
        whole = self.program.shell or number == signal.SIGKILL
        try:
            if whole and self._group:
                os.killpg(self.pid, number)
            elif self.pid:
                os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # It has ended, or (macOS) only its zombie is left.

    def _sweep(self) -> None:
        if not self._group:
            return
        try:
            os.killpg(self._ended, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # Nobody is left of the group.

    def _wake(self) -> None:
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            pass  # Full: the loop will wake up anyhow.
        except OSError:
            pass  # The supervisor is over.


def _noted(number: int, frame: FrameType | None) -> None:
    """Take the signal: its number is in the wake-up pipe."""


def _foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
