"""``ChildHost``: agents in a child process, which ends with this one."""

from __future__ import annotations

import os
import threading

import msgspec

from pyconsul.testing.child import Order, Outcome
from pyconsul.testing.forks import forks
from pyconsul.testing.settings import Spec


def prepare() -> None:
    """Begin to start the process that children are forked from; do not wait.

    For tests whose first ``process=True`` shall not wait for the start of Python.
    """
    forks.prepare()


class ChildHost:
    """Agents in a child process, forked from one that has imported all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child = forks.fork()
        self._outcomes = self._child.orders.makefile("rb")
        try:
            folder = os.getcwdb()
        except FileNotFoundError:
            folder = b""
        environ = tuple(os.environb.items())
        try:
            self._order(Order(action="settle", environ=environ, folder=folder))
        except RuntimeError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the child process."""
        return self._child.pid

    def _order(self, order: Order) -> str:
        with self._lock:
            try:
                self._child.orders.sendall(msgspec.json.encode(order) + b"\n")
                line = self._outcomes.readline()
            except (BrokenPipeError, ConnectionResetError):
                line = b""
        if not line:
            raise RuntimeError(f"the child process ended, status {self._child.wait()}")
        outcome = msgspec.json.decode(line, type=Outcome)
        if outcome.error:
            raise RuntimeError(outcome.error)
        return outcome.text

    def start(self, spec: Spec) -> None:
        """Begin to start an agent."""
        self._order(Order(action="start", name=spec.name, spec=spec))

    def problem(self, name: str) -> str:
        """Return why an agent has ended, empty while it runs."""
        return self._order(Order(action="problem", name=name))

    def kill(self, name: str) -> None:
        """End an agent; nothing if it has ended."""
        self._order(Order(action="kill", name=name))

    def close(self) -> None:
        """End all agents and the child."""
        self._outcomes.close()
        self._child.end()
