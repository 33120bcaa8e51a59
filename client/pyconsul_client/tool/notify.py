"""Tells a service manager how it goes: the datagrams of ``sd_notify(3)``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

NAMES = (b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID")
"""The variables that are for who was started, and not for its child."""
STATUS_S = 5.0
"""How often a status text is told at most."""


class Notifier:
    """Sends to ``NOTIFY_SOCKET``; without one it does nothing. Never raises."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        pause = environ.get("WATCHDOG_USEC", "")
        # As process 1 of a container we are the child of who was started.
        pids = ("", str(os.getpid()), str(os.getppid()))
        ours = environ.get("WATCHDOG_PID", "") in pids
        given = pause.isascii() and pause.isdecimal() and len(pause) < 16
        self._watchdog_s = int(pause) / 1e6 if given and ours else 0.0
        self._is_ready = False

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    @property
    def pause_s(self) -> float:
        """Seconds between two signs of life: half of what the manager allows."""
        if self._watchdog_s:
            return max(0.01, min(STATUS_S, self._watchdog_s / 2))
        return STATUS_S

    def ready(self) -> None:
        """Say that it runs: once, and again after ``reloading``."""
        if not self._is_ready:
            self._is_ready = True
            self.send("READY=1")

    def reloading(self) -> None:
        """Say that settings are read again; ``ready`` ends it."""
        self._is_ready = False
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that it ends."""
        self.send("STOPPING=1")

    def alive(self, status: str) -> None:
        """Give a sign of life, with a line about the state."""
        line = "".join(c if c.isprintable() else "?" for c in status)
        self.send(f"STATUS={line}" + ("\nWATCHDOG=1" if self._watchdog_s else ""))

    async def keep_telling(self, status: Callable[[], str]) -> None:
        """Give signs of life until cancelled, if anybody listens."""
        while self._address:
            self.alive(status())
            await asyncio.sleep(self.pause_s)

    def send(self, text: str) -> None:
        """Send one datagram."""
        address = self._address
        if not address or address[0] not in "/@":
            return
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.setblocking(False)
            # An address that begins with @ has no file.
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(text.encode())
