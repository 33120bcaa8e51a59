"""One kept-alive HTTP/1.1 connection: h11 over an anyio stream, GET only.

A request that fails on a reused connection before the first byte of an answer
is sent once more on a new one: the agent may have closed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import h11
from anyio.abc import ByteStream

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

RECEIVE_SIZE = 64 * 1024


class _NoAnswerError(Exception):
    """The connection ended before the first byte of an answer."""


class Connection:
    """Asks one question at a time; connects when first used."""

    __slots__ = ("_connect", "_headers", "_http", "_stream", "max_body")

    def __init__(
        self,
        connect: Callable[[], Awaitable[ByteStream]],
        headers: Sequence[tuple[bytes, bytes]],
        max_body: int = MAX_BODY,
    ) -> None:
        self._connect = connect
        self._headers = headers
        self._stream: ByteStream | None = None
        self._http: h11.Connection | None = None
        self.max_body = max_body

    @property
    def is_open(self) -> bool:
        """Whether a connection is held."""
        return self._stream is not None

    async def get(self, target: str, within: float) -> Response:
        """Return the answer to ``GET target``; ``within`` is in seconds, for all of it.

        Raises TransportError; ConnectionRefusedByLimitError when a new
        connection was turned away. After any error, cancellation included, the
        connection is closed and the next call opens another.
        """
        fresh = self._stream is None
        try:
            with anyio.fail_after(within):
                try:
                    response = await self._exchange(target)
                except _NoAnswerError as error:
                    await self.aclose()
                    if fresh:
                        raise _end_of_fresh(error) from error
                    fresh = True
                    response = await self._exchange(target)
        except TimeoutError as error:
            await self.aclose()
            raise TransportError(f"no answer within {within:g} s") from error
        except _NoAnswerError as error:
            await self.aclose()
            raise _end_of_fresh(error) from error
        except BaseException:
            await self.aclose()
            raise
        if fresh and of_the_limiter(response):
            await self.aclose()
            raise ConnectionRefusedByLimitError("too many concurrent connections")
        return response

    async def aclose(self) -> None:
        """Close without ceremony; safe under cancellation."""
        stream, self._stream, self._http = self._stream, None, None
        if stream is not None:
            await anyio.aclose_forcefully(stream)

    async def _exchange(self, target: str) -> Response:
        if self._stream is None:
            self._stream = await self._open()
            self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        assert self._http is not None
        http, stream = self._http, self._stream
        try:
            question = http.send(
                h11.Request(method="GET", target=target, headers=[*self._headers])
            )
            ending = http.send(h11.EndOfMessage())
            assert question is not None
            assert ending is not None
            try:
                await stream.send(question + ending)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                # A server that turns us away answers before it reads.
                pass
            response = await self._receive(http, stream)
            if http.our_state is h11.DONE and http.their_state is h11.DONE:
                http.start_next_cycle()
            else:
                await self.aclose()
        except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
            raise ProtocolError(f"malformed HTTP: {error}") from error
        return response

    async def _open(self) -> ByteStream:
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                return await self._connect()
        except TimeoutError as error:
            raise TransportError("connecting timed out") from error
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise TransportError(f"cannot connect: {error}") from error

    async def _receive(self, http: h11.Connection, stream: ByteStream) -> Response:
        head: h11.Response | None = None
        parts: list[bytes] = []
        size = 0
        touched = False
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await stream.receive(RECEIVE_SIZE)
                except anyio.EndOfStream:
                    data = b""
                except (anyio.BrokenResourceError, OSError) as error:
                    if not touched:
                        raise _NoAnswerError(str(error)) from error
                    if head is not None and head.status_code == 429 and not parts:
                        # The limiter does not read the question: it ends in a reset.
                        return Response(429, {}, b"")
                    raise TransportError("connection reset by peer") from error
                if not data and not touched:
                    raise _NoAnswerError("EOF")
                touched = True
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self.max_body:
                    raise ProtocolError(f"an answer over {self.max_body} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in head.headers
                }
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                return Response(head.status_code, headers, body)
            elif not isinstance(event, h11.InformationalResponse):
                raise ProtocolError("the connection ended early")


def _end_of_fresh(error: _NoAnswerError) -> UnansweredError:
    return UnansweredError(f"the connection was closed without an answer: {error}")
