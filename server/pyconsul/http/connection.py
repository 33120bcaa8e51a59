"""One client connection: bytes to requests and answers to bytes, in order.

An ``asyncio.Protocol`` on httptools; a held (blocking) request is a future and
needs no task. Requests of one connection are answered one after the other, so
pipelined ones keep their order. A client that goes away cancels the future it
waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from pyconsul.http.errors import error_response
from pyconsul.http.face import STATUS_LINES
from pyconsul.http.flights import Flight
from pyconsul.http.hot import MAX_REQUEST, TIMED_HITS
from pyconsul.http.request_line import respelled
from pyconsul.http.routing import TEXT, Request, Response
from pyconsul.http.stream import Stream
from pyconsul.http.uploads import close_upload, spool

if TYPE_CHECKING:
    from pyconsul.http.server import HttpServer

MAX_BACKLOG = 64
"""Pipelined requests a connection may have waiting before it is not read."""

HEAD_SECONDS = 60.0
"""Time a client has to send a request's head."""

_DRAIN = 1 << 20
_JOINED = 4096
_CLOSE = b"Connection: close\r\n"
_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_backlog",
        "_began",
        "_body",
        "_close_after",
        "_counted",
        "_face",
        "_final",
        "_flight",
        "_flights",
        "_head_bytes",
        "_head_done",
        "_headers",
        "_held",
        "_hot",
        "_in_message",
        "_method",
        "_paused",
        "_pending",
        "_raw_bytes",
        "_reading",
        "_remote",
        "_request",
        "_server",
        "_started",
        "_stream",
        "_target",
        "_transport",
        "parser",
        "riding",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._face = server.face
        self._hot = server.face.hot.answers
        self._flights = server.flights
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.parser: Any = httptools.HttpRequestParser(self)
        self._method = ""  # one that the parser does not know
        self._remote = ""
        self._counted = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._in_message = False
        self._head_done = False
        self._head_bytes = 0
        self._raw_bytes = 0
        self._started = 0.0
        self._began = 0.0
        # What waits to be answered: request, keep-alive, HTTP/1.0, hot key.
        self._backlog: deque[tuple[Request, bool, bool, bytes | None]] = deque()
        self._held: asyncio.Future[Response] | None = None
        self._flight: Flight | None = None  # others wait for what is held
        self.riding: Flight | None = None
        self._stream: Stream | None = None
        self._paused = False
        self._reading = True
        self._close_after = False
        self._final = False

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client; one above the limit gets a bare 429."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._remote = str(cast("tuple[Any, ...]", peer)[0])
        if not self._server.admit(self, self._remote):
            self._transport.write(_TOO_MANY)
            self._transport.close()
            self._close_after = True
            return
        self._counted = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the client waited for."""
        if self._counted:
            self._server.leave(self, self._remote)
        self._close_after = True
        for waiting, *_ in self._backlog:
            close_upload(waiting)
        self._backlog.clear()
        if self._request is not None:
            close_upload(self._request)
        if self._held is not None:
            self._held.cancel()
            self._held = None
        self.riding = None
        if self._flight is not None:
            flight, self._flight = self._flight, None
            flight.lost()
        if self._stream is not None:
            self._stream.lost()
            self._stream = None
        self.parser = None

    def data_received(self, data: bytes) -> None:
        """Answer a known request at once; else parse."""
        if self._close_after or self._final:
            return
        if self.riding is not None:
            # Pipelined: the request that waits unread goes first.
            flight, self.riding = self.riding, None
            self.ask(flight.key)
        idle = not self._in_message and self._held is None and not self._backlog
        if idle and len(data) <= MAX_REQUEST and self._stream is None:
            answer = self._hot.get(data)
            if answer is not None and not self._paused:
                head = self._server.kept_head(answer)
                if head is not None:
                    hits = answer.hits
                    answer.hits = hits + 1
                    began = 0.0 if hits % TIMED_HITS else time.perf_counter()
                    if answer.body is None:
                        self._transport.write(head)
                    else:
                        self._transport.writelines([head, answer.body])
                    if began:
                        answer.seconds = time.perf_counter() - began
                    return
            flight = self._flights.get(data)
            if flight is not None and not self._paused:
                self._began = time.perf_counter()
                flight.board(self)
                return
        else:
            idle = False
        self._take(data, idle)

    def ask(self, data: bytes) -> None:
        """Answer a whole request that waited unread."""
        if not self._close_after and not self._final:
            self._take(data, True)

    def landed(self, request: Request, data: bytes) -> None:
        """Take an answer that another connection asked for."""
        if self._server.measure is not None:
            self._server.measure(request, self._began)
        self._transport.write(data)

    def _take(self, data: bytes, idle: bool) -> None:
        if self._in_message:
            self._raw_bytes += len(data)
            if not self._head_done:
                self._head_bytes += len(data)
        else:
            self._raw_bytes = self._head_bytes = len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                plain = respelled(data) if idle else None
                if plain is None:
                    raise
                self._method, data = plain
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Upgrades are not spoken; the request itself is answered.
            self._give_up(None)
        except httptools.HttpParserError:
            self._give_up(400)
            self._pump()
            return
        if idle and not self._in_message and len(self._backlog) == 1:
            request, alive, old, _ = self._backlog[0]
            if alive and not old and request.method == "GET":
                self._backlog[0] = (request, alive, old, data)
        if self._in_message and self._over_limits():
            return
        self._pump()

    def pause_writing(self) -> None:
        """The client reads slowly: stop answering."""
        self._paused = True
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._stream is not None:
            self._stream.resume()
        self._pump()

    # --- httptools' callbacks

    def on_message_begin(self) -> None:
        """A request starts."""
        self._in_message = True
        self._head_done = False
        self._target = b""
        self._headers = {}
        self._request = None
        self._body = []
        self._started = self._server.loop.time()
        self._began = time.perf_counter()

    def on_url(self, url: bytes) -> None:
        """A piece of the target came."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came; trailers are ignored."""
        if not self._head_done:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Find the route, whose limit the body has to keep."""
        self._head_done = True
        method = self._method or self.parser.get_method().decode("latin-1")
        self._method = ""
        request = self._request = self._face.open(
            method, self._target, self._headers, self._remote
        )
        length = self._headers.get(b"content-length")
        if length is not None and length.isdigit():
            request.body_length = int(length)
        elif b"transfer-encoding" in self._headers:
            request.chunked = True
        if b"expect" in self._headers and not self._backlog and self._held is None:
            limit = request.route.body_limit if request.route else 0
            if request.body_length <= limit:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, unless there is too much of it."""
        request = self._request
        if request is None or request.route is None:
            return
        if request.chunked:
            request.body_length += len(body)
        if request.body_length > request.route.body_limit:
            self._body.clear()
            close_upload(request)
        elif request.route.spooled:
            spool(request, body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is complete; it is answered in its turn."""
        self._in_message = False
        request = self._request
        if request is None:
            return
        if self._body:
            body, self._body = self._body, []
            request.body = body[0] if len(body) == 1 else b"".join(body)
        old = self.parser.get_http_version() == "1.0"
        self._backlog.append((request, self.parser.should_keep_alive(), old, None))
        self._request = None

    # --- limits

    def _over_limits(self) -> bool:
        if not self._head_done:
            if self._head_bytes > self._face.options.max_head_bytes:
                self._give_up(431)
                return True
            return False
        request = self._request
        if request is None:
            return False
        limit = request.route.body_limit if request.route else 0
        if request.body_length > limit + _DRAIN:
            # Too much to read and throw away: answer now, then close.
            answer = request.early or self._face.too_large(request)
            self._backlog.append((request, False, False, None))
            request.route, request.early = None, answer
            self._in_message = False
            self._pump()
            return True
        head = self._face.options.max_head_bytes
        if request.chunked and self._raw_bytes > head + 32 * request.body_length:
            self._give_up(400)
            return True
        return False

    def overdue(self, now: float) -> bool:
        """Say whether a head has been under way for too long."""
        return (
            self._in_message
            and not self._head_done
            and now - self._started > HEAD_SECONDS
        )

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def _give_up(self, status: int | None) -> None:
        """Read no more: answer what is due, or say ``status``, then close."""
        self._final = True
        if self._backlog or self._held is not None:
            return
        if status is not None and self._stream is None:
            text = STATUS_LINES[status].removeprefix(b"HTTP/1.1 ").rstrip()
            self._transport.write(
                b"%b%b%bContent-Length: %d\r\n\r\n%b"
                % (STATUS_LINES[status], TEXT, _CLOSE, len(text), text)
            )
        self._close_after = True
        self._transport.close()

    # --- answers

    def _pump(self) -> None:
        """Answer what is next, as long as nothing has to be waited for."""
        backlog = self._backlog
        while backlog and self._held is None and self._stream is None:
            if self._paused or self._close_after:
                break
            request, alive, old, key = backlog.popleft()
            answer = self._face.answer(request)
            if request.upload is not None:
                close_upload(request)
            if isinstance(answer, Response):
                self._send(request, answer, alive, old, key)
            elif answer.done():
                self._send(request, self._outcome(answer), alive, old, None)
            else:
                self._hold(request, answer, alive, old)
                if key is not None:
                    self._flight = self._server.begin_flight(key, request)
        if len(backlog) > MAX_BACKLOG:
            if self._reading:
                self._reading = False
                self._transport.pause_reading()
        elif not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _hold(
        self,
        request: Request,
        answer: asyncio.Future[Response],
        alive: bool,
        old: bool,
    ) -> None:
        self._held = answer

        def settled(done: asyncio.Future[Response]) -> None:
            if self._held is not done:
                if not done.cancelled():
                    done.exception()
                return
            self._held = None
            flight, self._flight = self._flight, None
            self._send(request, self._outcome(done), alive, old, None, flight)
            self._pump()

        answer.add_done_callback(settled)

    @staticmethod
    def _outcome(done: asyncio.Future[Response]) -> Response:
        if done.cancelled():
            return Response(503)
        error = done.exception()
        return done.result() if error is None else error_response(error)

    def _send(
        self,
        request: Request,
        response: Response,
        alive: bool,
        old: bool,
        key: bytes | None,
        flight: Flight | None = None,
    ) -> None:
        """Write an answer; keep it if it may be given again."""
        transport = self._transport
        if transport.is_closing():
            if flight is not None:
                flight.lost()
            return
        if self._server.measure is not None:
            self._server.measure(request, self._began)
        head, body = self._face.render(request, response)
        lead = self._server.lead(response.status)
        if self._final and not self._backlog:
            alive = False
        if key is not None and response.cells and response.status in (200, 404):
            self._face.hot.offer(
                key,
                response.status,
                head + b"\r\n",
                body,
                response.cells,
                response.max_contact_ms,
                self._server.tally(request),
            )
        if flight is not None:
            data = b"%b%b\r\n%b" % (lead, head, body)
            if alive:
                transport.write(data)
                flight.land(request, data)
                return
            flight.land(request, data)
        if response.stream is not None:
            self._start_stream(response, lead + head, alive, old)
            return
        if not alive:
            head += _CLOSE
            self._close_after = True
        elif old:
            head += b"Connection: keep-alive\r\n"
        if request.method == "HEAD":
            body = b""
        if len(body) <= _JOINED:
            transport.write(b"%b%b\r\n%b" % (lead, head, body))
        else:
            transport.writelines([b"%b%b\r\n" % (lead, head), body])
        if not alive:
            transport.close()

    def _start_stream(
        self, response: Response, head: bytes, alive: bool, old: bool
    ) -> None:
        assert response.stream is not None
        alive = alive and not old
        head += _CLOSE if not alive else b""
        if not old:
            head += b"Transfer-Encoding: chunked\r\n"
        self._transport.write(head + b"\r\n")

        def ended() -> None:
            self._stream = None
            if alive:
                self._pump()
            else:
                self._close_after = True
                self._transport.close()

        self._stream = Stream(self._transport, not old, ended)
        response.stream(self._stream)
