"""Requests, answers and the route table (reference 1.1 and 10).

Register with ``Routes.add("kv/", GET=read, PUT=write)``: a pattern is below
``/v1/`` unless it starts with ``/``; one that ends in a slash matches every
longer path and its handler finds the rest in ``Request.argument``; the order
of the keywords is the order of the ``Allow`` header. A handler is a plain
function ``(Request) -> Response | Future[Response]``; it may raise
``ConsulError``s, which ``errors.py`` turns into answers.

No sockets here: everything can be driven with plain values.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeVar, cast
from urllib.parse import quote, quote_plus, unquote_to_bytes

from pyconsul.types.messages import Cell

if TYPE_CHECKING:
    from pyconsul.http.face import Face

JSON = b"Content-Type: application/json\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
PLAIN = b"Content-Type: text/plain\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"
NO_TYPE = b""

DEFAULT_BODY_LIMIT = 8 << 20
"""Bytes of a request body where the route names no limit of its own."""

T = TypeVar("T")


class StreamSink(Protocol):
    """Where a streaming answer goes: chunks, until one side closes."""

    def write(self, data: bytes) -> None:
        """Send a piece (nothing happens once the client has gone)."""
        ...

    def close(self) -> None:
        """End the answer."""
        ...

    def abort(self) -> None:
        """Break off: the client must see that the answer is not whole."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read enough, or has gone."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the client goes or ``close`` was called."""
        ...


class Response:
    """An answer: status, body, the content type line, further header lines.

    ``headers`` is ready-made lines, each ended by CRLF. ``cells`` (a read's,
    when its answer may be kept) is for ``hot.py``; ``max_contact_ms`` is how old
    the last contact with the leader may be for a kept stale answer, -1 for an
    answer that only the leader may give. With ``stream`` the body is
    ignored and the function is given the ``StreamSink`` after the head is sent.
    """

    __slots__ = (
        "body",
        "cells",
        "content_type",
        "headers",
        "max_contact_ms",
        "status",
        "stream",
    )

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: bytes = NO_TYPE,
        headers: bytes = b"",
        cells: Sequence[Cell] | None = None,
        stream: Callable[[StreamSink], None] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.cells = cells
        self.max_contact_ms = -1
        self.stream = stream


Answer: TypeAlias = "Response | asyncio.Future[Response]"
Handler: TypeAlias = "Callable[[Request], Answer]"


def text_response(status: int, text: str) -> Response:
    """Return a plain text answer, as errors are sent."""
    return Response(status, text.encode(), TEXT)


def header_line(name: str, value: str) -> bytes:
    """Return one header line; line breaks in the value become blanks."""
    clean = value.replace("\r", " ").replace("\n", " ")
    return f"{name}: {clean}\r\n".encode("utf-8", "replace")


class Query:
    """Parameters of a query string, in Go's way: first value, or all."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> str:
        """Return the first value, or ``""``."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        """Return every value of a repeatable parameter."""
        return self._values.get(name) or []

    def encode(self, without: Sequence[str] = ()) -> str:
        """Return the query sorted by name and escaped, as Go prints it."""
        return "&".join(
            f"{quote_plus(name)}={quote_plus(value)}"
            for name in sorted(self._values)
            if name not in without
            for value in self._values[name]
        )


NO_QUERY = Query({})


class MalformedQuery(ValueError):
    """A percent-escape in the query string is broken."""


class MalformedPath(ValueError):
    """A percent-escape in the path is broken, or it is no UTF-8."""


def _valid_escapes(data: bytes) -> bool:
    at = data.find(b"%")
    while at >= 0:
        pair = data[at + 1 : at + 3]
        if len(pair) != 2 or not all(c in b"0123456789abcdefABCDEF" for c in pair):
            return False
        at = data.find(b"%", at + 3)
    return True


def parse_query(raw: bytes) -> Query:
    """Parse a query string; raises ``MalformedQuery``."""
    if not raw:
        return NO_QUERY
    if b"%" in raw and not _valid_escapes(raw):
        raise MalformedQuery
    values: dict[str, list[str]] = {}
    for part in raw.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        values.setdefault(_plus(name), []).append(_plus(value))
    return Query(values)


def _plus(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return raw.decode("utf-8", "replace")


def decode_path(raw: bytes) -> str:
    """Percent-decode a path; raises ``MalformedPath``."""
    if b"%" in raw:
        if not _valid_escapes(raw):
            raise MalformedPath
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MalformedPath from None


def clean_path(path: str) -> str:
    """Return the path without ``//``, ``/./`` and ``/../``."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            if kept:
                kept.pop()
        elif part and part != ".":
            kept.append(part)
    cleaned = "/" + "/".join(kept)
    if cleaned != "/" and path.endswith("/"):
        cleaned += "/"
    return cleaned


def redirect(path: str, raw_query: bytes, method: str) -> Response:
    """Return a 301 to a path with the query kept."""
    location = quote(path, safe="/$&+,:;=@~-._")
    if raw_query:
        location += "?" + raw_query.decode("latin-1")
    headers = header_line("Location", location)
    if method not in ("GET", "HEAD"):
        return Response(301, headers=headers)
    shown = html.escape(location).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    body = f'<a href="{shown}">Moved Permanently</a>.\n\n'.encode()
    return Response(301, body, HTML, headers)


class Route:
    """A pattern's handlers by method, and the limit of its bodies.

    ``body_option`` is the configuration key named when a body is too large.
    A ``spooled`` body goes to a file, ``Request.upload``. ``other`` answers the
    methods without a handler, in place of the common 405 and ``OPTIONS``.
    """

    __slots__ = (
        "allow",
        "body_limit",
        "body_option",
        "handlers",
        "other",
        "spooled",
        "v1",
    )

    def __init__(
        self,
        handlers: dict[str, Handler],
        v1: bool,
        body_limit: int,
        body_option: str,
        spooled: bool = False,
        other: Handler | None = None,
    ) -> None:
        self.spooled = spooled
        self.handlers = handlers
        self.other = other
        self.allow = ",".join(["OPTIONS", *handlers]).encode()
        self.v1 = v1
        self.body_limit = body_limit
        self.body_option = body_option


class Routes:
    """The route table: exact patterns, and prefixes by noun, longest first."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._prefixes: dict[str, list[tuple[str, Route]]] = {}
        self._all_prefixes: set[str] = set()

    def add(
        self,
        pattern: str,
        *,
        body_limit: int = DEFAULT_BODY_LIMIT,
        body_option: str = "",
        spooled: bool = False,
        other: Handler | None = None,
        **handlers: Handler,
    ) -> None:
        """Add a pattern: ``add("session/create", PUT=create)``."""
        absolute = pattern.startswith("/")
        path = pattern if absolute else "/v1/" + pattern
        route = Route(handlers, not absolute, body_limit, body_option, spooled, other)
        if path.endswith("/") and path != "/":
            entries = self._prefixes.setdefault(_noun(path), [])
            entries.append((path, route))
            entries.sort(key=lambda entry: -len(entry[0]))
            self._all_prefixes.add(path)
        else:
            self._exact[path] = route

    def find(self, path: str) -> tuple[Route, str] | None:
        """Return the route and the argument (rest of the path)."""
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        if path + "/" in self._all_prefixes:
            # Not the argument of a shorter prefix: only its slash is missing.
            return None
        for prefix, prefixed in self._prefixes.get(_noun(path), ()):
            if path.startswith(prefix):
                return prefixed, path[len(prefix) :]
        return None

    def wants_slash(self, path: str) -> bool:
        """Say whether only the slash is missing."""
        return path + "/" in self._all_prefixes


def _noun(path: str) -> str:
    """Return the word that groups patterns: ``kv`` of ``/v1/kv/a``."""
    if not path.startswith("/v1/"):
        return path[: path.find("/", 1) + 1]
    end = path.find("/", 4)
    return path[4:] if end < 0 else path[4:end]


class Request:
    """A request as handlers see it.

    ``headers`` has lower-case names; ``body_length`` is what the client sent
    (``body`` is empty when that exceeded the route's limit); ``remote`` is the
    peer's address, empty on a Unix socket; ``chunked`` bodies had no length.
    """

    __slots__ = (
        "argument",
        "body",
        "body_length",
        "chunked",
        "early",
        "face",
        "headers",
        "method",
        "path",
        "query",
        "remote",
        "route",
        "upload",
    )

    def __init__(
        self,
        face: Face,
        method: str,
        path: str,
        query: Query,
        headers: Mapping[bytes, bytes],
        remote: str = "",
    ) -> None:
        self.face = face
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.remote = remote
        self.argument = ""
        self.body: bytes = b""
        self.upload: BinaryIO | None = None
        """The body where the route is ``spooled``; who takes it closes it."""
        self.body_length = 0
        self.chunked = False
        self.route: Route | None = None
        self.early: Response | None = None
        """The answer when no handler has to be asked (404, 301, ...)."""

    def header(self, name: bytes) -> str:
        """Return a header by its lower-case name, or ``""``."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""


def then(value: T | asyncio.Future[T], function: Callable[[T], Answer]) -> Answer:
    """Apply ``function`` to a value now, or when its future has it.

    Cancelling the returned future (the client left) cancels the one below.
    """
    if not isinstance(value, asyncio.Future):
        return function(value)
    return _Chain(cast("asyncio.Future[Any]", value), function)


class _Chain(asyncio.Future[Response]):
    """The outcome of a function of another future's.

    A class rather than closures: one that refers to itself is a cycle, which
    only the garbage collector would free, and every request would leave it.
    """

    def __init__(
        self, source: asyncio.Future[Any], function: Callable[[Any], Answer]
    ) -> None:
        super().__init__(loop=source.get_loop())
        self._below: asyncio.Future[Any] | None = source
        self._function: Callable[[Any], Answer] | None = function
        source.add_done_callback(self._settle)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel, and what it waits for."""
        if not super().cancel(msg):
            return False
        below, self._below = self._below, None
        if below is not None and not below.done():
            below.cancel()
        return True

    def _settle(self, done: asyncio.Future[Any]) -> None:
        self._below = None
        function, self._function = self._function, None
        if self.done():
            if not done.cancelled():
                done.exception()
            return
        if done.cancelled():
            self.cancel()
            return
        error = done.exception()
        if error is not None:
            self.set_exception(error)
            return
        answer = done.result()
        if function is not None:
            try:
                answer = function(answer)
            except Exception as raised:
                self.set_exception(raised)
                return
            if isinstance(answer, asyncio.Future):
                self._below = answer
                answer.add_done_callback(self._settle)
                return
        self.set_result(answer)
