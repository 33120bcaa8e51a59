"""Logging to the system's syslog (RFC 3164), which may come and go.

Messages go to ``/dev/log``; without one, to UDP port 514 of this host. What
cannot be sent is lost, never waited for, and a lost socket is opened again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")
UDP = ("127.0.0.1", 514)
MESSAGE_BYTES = 8192
"""Bytes of a message; a longer one is cut."""
AGAIN_S = 5.0
"""Seconds between two attempts to open the socket."""

_NAMED = (
    *("KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG"),
    *("LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP"),
)
FACILITIES = {name: number for number, name in enumerate(_NAMED)} | {
    f"LOCAL{number}": 16 + number for number in range(8)
}


def severity(level: int) -> int:
    """Return a message's severity; Consul's levels are one more quiet."""
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    if level >= logging.INFO:
        return 5
    return 6 if level >= logging.DEBUG else 7


class SyslogHandler(logging.Handler):
    """Sends each record; raises ``ValueError`` for an unknown facility."""

    def __init__(
        self,
        facility: str = "LOCAL0",
        *,
        tag: str = "consul",
        sockets: Sequence[str] = SOCKETS,
        udp: tuple[str, int] = UDP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        number = FACILITIES.get(facility.upper())
        if number is None:
            raise ValueError(f"invalid syslog facility: {facility}")
        self._facility = number
        self._tag = f"{tag}[{os.getpid()}]"
        self._paths = sockets
        self._udp = udp
        self._clock = clock
        self._socket: socket.socket | None = None
        self._again_at = 0.0
        self.lost = 0
        """Messages that were not taken."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        when = time.strftime("%b %e %H:%M:%S", time.localtime(record.created))
        priority = self._facility * 8 + severity(record.levelno)
        text = self.format(record)
        data = f"<{priority}>{when} {self._tag}: {text}".encode("utf-8", "replace")
        if not self._send(data[:MESSAGE_BYTES]):
            self.lost += 1

    def _send(self, data: bytes) -> bool:
        for _ in range(2):
            sock = self._socket or self._open()
            if sock is None:
                return False
            try:
                sock.send(data)
                return True
            except BlockingIOError:
                return False
            except OSError:
                # The daemon was started anew: once more, on a new socket.
                self._drop()
        return False

    def _open(self) -> socket.socket | None:
        now = self._clock()
        if now < self._again_at:
            return None
        for path in self._paths:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(path)
            except OSError:
                sock.close()
                continue
            self._socket = sock
            return sock
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.connect(self._udp)
        except OSError:
            sock.close()
            self._again_at = now + AGAIN_S
            return None
        self._socket = sock
        return sock

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the socket."""
        self.acquire()
        try:
            self._drop()
        finally:
            self.release()
        super().close()
