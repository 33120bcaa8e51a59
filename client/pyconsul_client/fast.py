"""A kept-alive HTTP/1.1 connection on asyncio alone: httptools, GET only.

Does what ``connection.Connection`` does, with a quarter of the work a question;
a thousand long polls have one each. That one stays for trio.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import httptools

from .errors import (
    ConnectionRefusedByLimitError,
    ProtocolError,
    TransportError,
    UnansweredError,
)
from .responses import (
    CONNECT_TIMEOUT,
    MAX_BODY,
    MAX_HEAD,
    Response,
    of_the_limiter,
)

_TARGET = re.compile(r"/[!-~]*")

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Connects a protocol made by the factory."""


class _NoAnswerError(Exception):
    """The connection ended before the first byte of an answer."""


class _Exchange(asyncio.Protocol):
    """One connection; answers come as the result of ``ask``."""

    __slots__ = (
        "_body",
        "_future",
        "_has_head",
        "_head_size",
        "_headers",
        "_is_framed",
        "_max_body",
        "_parser",
        "_received",
        "_size",
        "_touched",
        "transport",
    )

    def __init__(self, max_body: int) -> None:
        self.transport: asyncio.Transport | None = None
        self._max_body = max_body
        self._future: asyncio.Future[Response] | None = None
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = self._head_size = self._received = 0
        self._touched = self._is_framed = self._has_head = False

    async def ask(self, question: bytes) -> Response:
        """Send a request and return its answer."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise _NoAnswerError("closed")
        self._start()
        self._future = asyncio.get_running_loop().create_future()
        transport.write(question)
        try:
            return await self._future
        finally:
            self._future = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assertion: uvloop's transports are no subclass.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._future is None:
            # Nobody asked: what comes now could pass for the next answer.
            self._close()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ProtocolError(f"malformed HTTP: {error}"))
            return
        self._received += len(data)
        if not self._has_head and self._received > MAX_HEAD:
            self._fail(ProtocolError("an answer's head is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._future is None or self._future.done():
            return
        if not self._touched:
            self._fail(_NoAnswerError(str(exc or "EOF")))
        elif self._has_head and self._is_ended_by(exc):
            self._finish()
        elif exc is not None:
            self._fail(TransportError("connection reset by peer"))
        else:
            self._fail(ProtocolError("the connection ended early"))

    def _is_ended_by(self, exc: Exception | None) -> bool:
        """Whether the end of the connection may be the end of the answer."""
        if exc is None:
            return not self._is_framed
        # The limiter does not read the question: its bare 429 ends in a reset.
        return self._parser.get_status_code() == 429 and not self._body

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            self._fail(ProtocolError("an answer's head is too large"))
            return
        key = name.decode("latin-1").lower()
        if key in ("content-length", "transfer-encoding"):
            self._is_framed = True
        self._headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._has_head = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._size += len(body)
        if self._size > self._max_body:
            self._fail(ProtocolError(f"an answer over {self._max_body} bytes"))
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._parser.get_status_code() < 200:
            self._headers, self._body, self._is_framed = {}, [], False
            return
        self._finish()
        if not self._parser.should_keep_alive():
            self._close()

    def _finish(self) -> None:
        future, body = self._future, self._body
        if future is not None and not future.done():
            content = body[0] if len(body) == 1 else b"".join(body)
            status = self._parser.get_status_code()
            future.set_result(Response(status, self._headers, content))

    def _fail(self, error: Exception) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
        self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class FastConnection:
    """Asks one question at a time; connects when first used."""

    __slots__ = ("_connect", "_exchange", "_tail", "max_body")

    def __init__(
        self,
        connect: Connect,
        headers: Sequence[tuple[bytes, bytes]],
        max_body: int = MAX_BODY,
    ) -> None:
        self._connect = connect
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self._tail = b" HTTP/1.1\r\n" + lines + b"\r\n"
        self._exchange: _Exchange | None = None
        self.max_body = max_body

    @property
    def is_open(self) -> bool:
        """Whether a connection is held."""
        return self._exchange is not None and self._exchange.transport is not None

    async def get(self, target: str, within: float) -> Response:
        """Return the answer to ``GET target``; ``within`` is in seconds, for all of it.

        Raises TransportError; ConnectionRefusedByLimitError when a new
        connection was turned away. After any error, cancellation included, the
        connection is closed and the next call opens another.
        """
        if _TARGET.fullmatch(target) is None:
            raise ProtocolError("malformed HTTP: illegal target characters")
        question = b"GET " + target.encode("ascii") + self._tail
        fresh = not self.is_open
        try:
            async with asyncio.timeout(within):
                try:
                    response = await (await self._opened()).ask(question)
                except _NoAnswerError:
                    await self.aclose()
                    if fresh:
                        raise
                    fresh = True
                    response = await (await self._opened()).ask(question)
        except TimeoutError as error:
            await self.aclose()
            raise TransportError(f"no answer within {within:g} s") from error
        except _NoAnswerError as error:
            await self.aclose()
            text = f"the connection was closed without an answer: {error}"
            raise UnansweredError(text) from error
        except BaseException:
            await self.aclose()
            raise
        if fresh and of_the_limiter(response):
            await self.aclose()
            raise ConnectionRefusedByLimitError("too many concurrent connections")
        return response

    async def aclose(self) -> None:
        """Close without ceremony; safe under cancellation."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.transport is not None:
            exchange.transport.abort()

    async def _opened(self) -> _Exchange:
        if self._exchange is not None and self._exchange.transport is not None:
            return self._exchange
        exchange = _Exchange(self.max_body)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._connect(lambda: exchange)
        except TimeoutError as error:
            raise TransportError("connecting timed out") from error
        except OSError as error:
            raise TransportError(f"cannot connect: {error}") from error
        self._exchange = exchange
        return exchange
