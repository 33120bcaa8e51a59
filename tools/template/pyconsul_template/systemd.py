"""Telling systemd, or whoever gave ``NOTIFY_SOCKET``, how the run is.

Datagrams of ``NAME=value`` lines, as sd_notify(3) has them: ``READY``,
``RELOADING``, ``STOPPING``, ``STATUS`` and ``WATCHDOG``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping

STATUS_S = 5.0
"""How often the text for people is looked at."""
_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Systemd:
    """The service manager that started us; silent when there is none."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take the variables out of ``environ``: they are not for our children."""
        address, usec, pid = (environ.pop(name, "") for name in _NAMES)
        self._address = ""
        if address.startswith(("/", "@")) and len(address) > 1:
            self._address = "\0" + address[1:] if address[0] == "@" else address
        # As process 1 of a container we are the child of who was started.
        is_ours = pid in ("", str(os.getpid()), str(os.getppid()))
        self._watchdog_s = 0.0
        if usec.isascii() and usec.isdecimal() and is_ours:
            self._watchdog_s = int(usec) / 1e6
        self._status = ""
        self._is_ready = False

    def send(self, *lines: str) -> None:
        """Send lines; whoever does not listen is left alone."""
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, kind) as sender,
        ):
            sender.sendto("\n".join(lines).encode(), self._address)

    def ready(self) -> None:
        """Say once, and again after a reload, that all is rendered."""
        if not self._is_ready:
            self._is_ready = True
            self.send("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; ``ready`` has to follow."""
        self._is_ready = False
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.send("RELOADING=1", f"MONOTONIC_USEC={micros}")

    def stopping(self) -> None:
        """Say that we end."""
        self.send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show a line about us, when it is another one."""
        if text != self._status:
            self._status = text
            self.send("STATUS=" + text.replace("\n", " "))

    async def keep_telling(self, text: Callable[[], str]) -> None:
        """Feed the watchdog and show the status until cancelled."""
        if not self._address:
            return
        pause = min(STATUS_S, self._watchdog_s / 2 or STATUS_S)
        while True:
            self.status(text())
            if self._watchdog_s:
                self.send("WATCHDOG=1")
            await asyncio.sleep(pause)
