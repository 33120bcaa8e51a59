"""The process that child processes of tests are forked from.

It has imported all that an agent needs, so that a child begins with it and not
with the start of Python. ``python -m pyconsul.testing.forkserver FD`` reads
requests from the socket ``FD``: one byte each, with four descriptors: the
child's orders, where to tell of it, and its stdout and stderr. Told are its
process id and, when it has ended, its status (negative: the signal). It has one
thread and no event loop, and so may fork; it ends when the socket does, and its
children with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from pyconsul.agent.main import loop_factory
from pyconsul.testing import child

NUMBER = struct.Struct("=q")
"""What the server tells of a child: its process id, then its status."""
DESCRIPTORS = 4
LATE = (
    "encodings.idna",
    "pyconsul.http.agent_checks",
    "pyconsul.http.agent_events",
    "pyconsul.http.agent_filter",
    "pyconsul.http.agent_info",
    "pyconsul.http.agent_services",
)
"""What an agent imports no sooner than it starts."""
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """Forks a child for each request on ``control``."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pid = os.getpid()
        self._told: dict[int, int] = {}
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        self._woken.setblocking(False)

    def serve(self) -> None:
        """Fork until ``control`` ends."""
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        loop_factory()
        for module in LATE:
            importlib.import_module(module)
        # The memory of what was imported stays shared with the children.
        gc.freeze()
        # Not epoll, which a child would share.
        with selectors.PollSelector() as ready:
            ready.register(self._control, selectors.EVENT_READ)
            ready.register(self._wakes, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._wakes:
                        self._reap()
                    elif not self._answer():
                        # Children end while the interpreter closes the descriptor.
                        signal.set_wakeup_fd(-1)
                        return

    def _answer(self) -> bool:
        """Answer a request; false at the end of them."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, DESCRIPTORS)
        if data and len(descriptors) == DESCRIPTORS:
            self._fork(*descriptors)
        return bool(data)

    def _fork(self, orders: int, told: int, stdout: int, stderr: int) -> None:
        try:
            pid = os.fork()
        except OSError:
            # The requester sees that both ends are closed.
            traceback.print_exc()
            os.close(told)
        else:
            if pid == 0:
                self._child(orders, told, (stdout, stderr))
            self._told[pid] = told
            _tell(told, pid)
        for descriptor in (orders, stdout, stderr):
            os.close(descriptor)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakes.recv(4096):
                pass
        for pid in list(self._told):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                told = self._told.pop(pid)
                _tell(told, os.waitstatus_to_exitcode(status))
                os.close(told)

    def _child(self, orders: int, told: int, outputs: Sequence[int]) -> None:
        """Be a child; does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _die_with(self._pid)
            for held in (self._control, self._wakes, self._woken):
                held.close()
            for descriptor in (told, *self._told.values()):
                os.close(descriptor)
            for place, descriptor in enumerate(outputs, 1):
                os.dup2(descriptor, place)
                os.close(descriptor)
            child.run(socket.socket(fileno=orders))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Neither the server's loop nor its exit handlers are the child's.
            os._exit(status)


def _wake(_signal: int, _frame: FrameType | None) -> None:
    """Let the signal reach the wakeup descriptor, as an ignored one does not."""


def _tell(told: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(told, NUMBER.pack(number))


def _die_with(server: int) -> None:
    """Have the kernel kill this process when the fork server ends.

    Elsewhere than on Linux the end of the orders has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)


if __name__ == "__main__":
    ForkServer(socket.socket(fileno=int(sys.argv[1]))).serve()
