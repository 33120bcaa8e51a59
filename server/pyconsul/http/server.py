"""Listeners, their limits, and what connections share.

A connection is ``connection.py``; what is answered is the ``Face``'s matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from email.utils import formatdate
from typing import Protocol, cast

from pyconsul.http.connection import Connection
from pyconsul.http.face import STATUS_LINES, Face, HttpOptions
from pyconsul.http.flights import SLOW_S, Flight, Flights
from pyconsul.http.hot import HotAnswer, Tally
from pyconsul.http.routing import Request, Routes
from pyconsul.types.messages import Caller

ROLE_SECONDS = 0.001
"""How long what is known of lease and leader holds for kept answers; the
lease ends long before anybody else can lead."""

_SWEEP_SECONDS = 15.0


class Measure(Protocol):
    """Counts and times requests."""

    def __call__(self, request: Request, began: float) -> None:
        """Take a request that is answered now; ``began`` is ``perf_counter``'s."""
        ...

    def tally(self, request: Request) -> Tally:
        """Return what counts requests of this kind, for a kept answer."""
        ...


class HttpServer:
    """Listeners over one ``Face``; needs a running loop to start.

    ``start`` may be called for several addresses; a taken port raises
    ``OSError``. ``stop`` closes listeners and connections.
    """

    def __init__(self, caller: Caller, routes: Routes, options: HttpOptions) -> None:
        self.face = Face(caller, routes, options)
        self.loop: asyncio.AbstractEventLoop = cast("asyncio.AbstractEventLoop", None)
        self._servers: list[asyncio.Server] = []
        self._sockets: list[str] = []
        self.flights = Flights()
        self._watching_flights = False
        self._connections: set[Connection] = set()
        self._clients: dict[str, int] = {}
        self._leads: dict[int, bytes] = {}
        self._date_until = 0.0
        self._role_until = 0.0
        self._may_lead = False
        self._contact_ms = -1
        self._sweeper: asyncio.TimerHandle | None = None
        self.measure: Measure | None = None
        """Told of requests when they are answered; of those a kept answer was
        given to by ``HotAnswers.tell``."""

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @property
    def most_connections(self) -> int:
        """How many connections the client with the most of them has."""
        return max(self._clients.values(), default=0)

    async def start(
        self, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[str, int]:
        """Listen on TCP (with TLS if given); return the address bound to."""
        self._begin()
        server = await self.loop.create_server(
            lambda: Connection(self), host, port, ssl=tls, backlog=1024
        )
        self._servers.append(server)
        address = server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def start_unix(self, path: str, mode: int | None = None) -> None:
        """Listen on a Unix socket, replacing a stale file."""
        self._begin()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server = await self.loop.create_unix_server(lambda: Connection(self), path)
        if mode is not None:
            os.chmod(path, mode)
        self._servers.append(server)
        self._sockets.append(path)

    async def stop(self) -> None:
        """Close listeners and connections; held requests are cancelled."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        for path in self._sockets:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._sockets.clear()

    def _begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self._connections):
            if connection.overdue(now):
                connection.abort()
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def admit(self, connection: Connection, remote: str) -> bool:
        """Count a connection; say whether its client may have one more."""
        if remote:
            count = self._clients.get(remote, 0)
            limit = self.face.options.max_conns_per_client
            if limit and count >= limit:
                return False
            self._clients[remote] = count + 1
        self._connections.add(connection)
        return True

    def leave(self, connection: Connection, remote: str) -> None:
        """Forget a connection that was admitted."""
        self._connections.discard(connection)
        if remote:
            count = self._clients[remote] - 1
            if count:
                self._clients[remote] = count
            else:
                del self._clients[remote]

    def begin_flight(self, key: bytes, request: Request) -> Flight | None:
        """Let equal requests share the answer of one that waits."""
        flight = self.flights.begin(key, request, self.loop.time())
        if flight is not None and not self._watching_flights:
            self._watching_flights = True
            self.loop.call_later(SLOW_S, self._watch_flights)
        return flight

    def _watch_flights(self) -> None:
        self.flights.release_slow(self.loop.time())
        self._watching_flights = bool(self.flights)
        if self._watching_flights:
            self.loop.call_later(SLOW_S, self._watch_flights)

    def tally(self, request: Request) -> Tally | None:
        """Return what counts requests like this one."""
        return None if self.measure is None else self.measure.tally(request)

    def forget_role(self) -> None:
        """Ask anew who leads before the next kept answer is given."""
        self._role_until = 0.0

    def kept_head(self, answer: HotAnswer) -> bytes | None:
        """Return the head of a kept answer (with its body, if that is small).

        ``None`` when it may not be given now.
        """
        now = self.loop.time()
        if now >= self._role_until:
            self._role_until = now + ROLE_SECONDS
            self._may_lead = self.face.leads()
            self._contact_ms = self.face.contact_ms()
        lead = self.lead(answer.status)
        if answer.tail is None:
            return lead + answer.head if self._may_lead else None
        contact = self._contact_ms
        if not 0 <= contact <= answer.max_contact_ms:
            return None
        return b"%b%b%d%b" % (lead, answer.head, contact, answer.tail)

    def lead(self, status: int) -> bytes:
        """Return the status line and the date, made once a second."""
        now = self.loop.time()
        if now >= self._date_until:
            self._date_until = now + 1.0 - time.time() % 1.0
            self._leads.clear()
        lead = self._leads.get(status)
        if lead is None:
            date = formatdate(usegmt=True).encode()
            lead = STATUS_LINES[status] + b"Date: " + date + b"\r\n"
            self._leads[status] = lead
        return lead
