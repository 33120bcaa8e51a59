"""Questions outside our zones, forwarded as they came (``dns.md`` section 7)."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Sequence
from random import Random

from pyconsul.dns.codec import NOERROR, NXDOMAIN, QR, TC

IN_FLIGHT_MAX = 512
"""Forwarded questions at once; one more is answered SERVFAIL."""


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, expected: bytes, question: bytes) -> None:
        self._expected = expected
        self._question = question
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        # Another ID or question is a stray or a forgery: keep waiting.
        if data[:2] != self._expected or len(data) < 12 or self.reply.done():
            return
        if data[12 : 12 + len(self._question)].lower() == self._question.lower():
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


class Recursor:
    """Asks the configured servers in turn, in an order of ``random`` if given."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        timeout_s: float,
        random: Random | None = None,
    ) -> None:
        self._servers = list(servers)
        self._random = random
        self._timeout_s = timeout_s
        self._in_flight = 0

    def __bool__(self) -> bool:
        return bool(self._servers)

    async def forward(self, data: bytes, question: bytes, *, tcp: bool) -> bytes | None:
        """Return the first usable reply to ``data``; ``None`` when none came.

        NOERROR, NXDOMAIN and truncated replies are usable. The reply carries
        the client's ID; towards the server a fresh one is drawn.
        """
        if self._in_flight >= IN_FLIGHT_MAX:
            return None
        self._in_flight += 1
        try:
            order = self._servers
            if self._random is not None:
                order = self._random.sample(order, len(order))
            for host, port in order:
                try:
                    reply = await asyncio.wait_for(
                        self._ask(data, question, host, port, tcp=tcp), self._timeout_s
                    )
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
                flags = struct.unpack_from("!H", reply, 2)[0]
                usable = flags & 0xF in (NOERROR, NXDOMAIN) or flags & TC
                if flags & QR and usable:
                    return data[:2] + reply[2:]
        finally:
            self._in_flight -= 1
        return None

    async def _ask(
        self, data: bytes, question: bytes, host: str, port: int, *, tcp: bool
    ) -> bytes:
        ident = secrets.token_bytes(2)
        request = ident + data[2:]
        if tcp:
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack("!H", len(request)) + request)
                size = struct.unpack("!H", await reader.readexactly(2))[0]
                reply = await reader.readexactly(size)
            finally:
                writer.close()
            if reply[:2] != ident or len(reply) < 12:
                raise OSError("the recursor answered another question")
            return reply
        loop = asyncio.get_running_loop()
        transport, exchange = await loop.create_datagram_endpoint(
            lambda: _Exchange(ident, question), remote_addr=(host, port)
        )
        try:
            transport.sendto(request)
            return await exchange.reply
        finally:
            transport.close()
