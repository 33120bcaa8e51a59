"""The tests' side of the fork server: it is started once, and asked for children."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field

NUMBER_SIZE = 8
END_S = 10.0
"""How long a process may take to end by itself."""


@dataclass(slots=True)
class Forked:
    """A child: ``orders`` is a socket to it, ``_told`` what the server tells."""

    orders: socket.socket
    _told: int
    _numbers: list[int] = field(default_factory=list[int])

    @property
    def pid(self) -> int:
        """Its process id; raises ``RuntimeError`` when it could not be forked."""
        self._read(1, None)
        if not self._numbers:
            raise RuntimeError("the child process could not be started")
        return self._numbers[0]

    def wait(self, seconds: float | None = None) -> int | None:
        """Return its status, negative for a signal, once it has ended.

        ``None``: it has not within ``seconds``, or nobody is left to tell.
        """
        self._read(2, seconds)
        return self._numbers[1] if len(self._numbers) == 2 else None

    def end(self) -> None:
        """End it and wait for that; its orders end first."""
        with contextlib.suppress(OSError):
            # Also if a process that tests have forked has the socket open.
            self.orders.shutdown(socket.SHUT_WR)
        if self.wait(END_S) is None and self._numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._numbers[0], signal.SIGKILL)
            self.wait(END_S)
        self.orders.close()
        os.close(self._told)

    def _read(self, count: int, seconds: float | None) -> None:
        """Read until ``count`` numbers are known, or there are no more."""
        while len(self._numbers) < count:
            if not select.select([self._told], [], [], seconds)[0]:
                return
            data = os.read(self._told, NUMBER_SIZE)
            if not data:
                return
            self._numbers.append(int.from_bytes(data, sys.byteorder, signed=True))


class Forks:
    """The fork server of this process, started when first needed.

    A process forked from this one has its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    @property
    def pid(self) -> int | None:
        """Process id of the fork server, ``None`` while there is none."""
        return self._server.pid if self._server is not None else None

    def prepare(self) -> None:
        """Begin to start the fork server, if it does not run; does not wait."""
        with self._lock:
            self._running()

    def fork(self) -> Forked:
        """Return a new child; raises ``OSError``. Its start goes on meanwhile."""
        with self._lock:
            try:
                return self._ask(self._running())
            except (BrokenPipeError, ConnectionResetError):
                # Somebody has ended the server.
                self._close()
                return self._ask(self._running())

    def close(self) -> None:
        """End the fork server, and the children there may be."""
        with self._lock:
            self._close()

    def _running(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._server = subprocess.Popen(
                # What the current folder has is none of an agent's modules.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pyconsul.testing.forkserver",
                    f"{number}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[number],
                # An interrupt from the keyboard is for the tests.
                start_new_session=True,
            )
        self._control = ours
        return ours

    def _ask(self, control: socket.socket) -> Forked:
        told, tells = os.pipe()
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "wb") as nowhere:
            outputs = [
                number if _is_open(number) else nowhere.fileno() for number in (1, 2)
            ]
            try:
                given = [theirs.fileno(), tells, *outputs]
                socket.send_fds(control, [b"f"], given)
            except OSError:
                os.close(told)
                ours.close()
                raise
            finally:
                os.close(tells)
        return Forked(ours, told)

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            try:
                self._server.wait(END_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def _forget(self) -> None:
        self._lock = threading.Lock()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            # It is another's child; nobody here is to wait for it.
            self._server.returncode = 0
            self._server = None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


forks = Forks()
"""The one of this process."""
