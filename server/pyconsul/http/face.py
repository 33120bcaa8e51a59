"""The HTTP face without sockets: from a request's parts to an answer.

``Face.open`` resolves a target to a ``Request`` (whose ``early`` answer is set
when no handler is needed), ``Face.answer`` runs the handler, ``Face.render``
makes head and body for the wire.
"""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address

from pyconsul.http.errors import error_response
from pyconsul.http.hot import HotAnswers, RecentReplies
from pyconsul.http.routing import (
    NO_QUERY,
    TEXT,
    Answer,
    MalformedPath,
    MalformedQuery,
    Query,
    Request,
    Response,
    Route,
    Routes,
    clean_path,
    decode_path,
    header_line,
    parse_query,
    redirect,
    text_response,
)
from pyconsul.types.messages import Caller

GZIP_MIN = 1400
"""Bytes from which a body is compressed for clients that accept it."""

DEFAULT_HEAD_BYTES = 1 << 20
"""``http_config.max_header_bytes`` where it is 0."""

_MAX_TARGET = 512
_MAX_TARGETS = 4096
_TRANSLATES = b"X-Consul-Translate-Addresses: true\r\n"

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Settings of the face; durations in nanoseconds, sizes in bytes."""

    node_name: str = ""
    datacenter: str = ""
    segment: str = ""
    default_policy: str = "allow"
    acl_enabled: bool = False
    pretty: bool = False
    """Always indent JSON (dev mode)."""
    kv_max_value_size: int = 524288
    txn_max_req_len: int = 524288
    max_conns_per_client: int = 200
    discovery_max_stale: int = 0
    use_cache: bool = True
    cache_fetch_rate: float = math.inf
    """How often a second one request of ``?cached`` asks servers."""
    cache_fetch_burst: int = 2
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    dns_domain: str = "consul"
    """Without dots at its ends."""
    block_endpoints: tuple[str, ...] = ()
    allow_write_from: tuple[IPv4Network | IPv6Network, ...] = ()
    unprintable_char_filter: bool = True
    disable_coordinates: bool = False
    max_head_bytes: int = DEFAULT_HEAD_BYTES
    """Of a request's line and headers; above that the answer is a 431."""
    translate_wan_addrs: bool = False
    """What lives in another datacenter is shown with its WAN addresses."""
    server: bool = True
    """This agent is a server; a client answers some operator calls otherwise."""


class Face:
    """Routes, options and kept answers over one ``Caller``.

    ``default_token`` (the agent's) may be set at any time. ``hot`` and
    ``recent`` are kept answers: the agent calls ``forget()`` when leadership,
    tokens or settings change.
    """

    def __init__(self, caller: Caller, routes: Routes, options: HttpOptions) -> None:
        self.caller = caller
        self.routes = routes
        self.hot = HotAnswers()
        self.recent = RecentReplies(
            time.monotonic,
            rate=options.cache_fetch_rate,
            burst=options.cache_fetch_burst,
        )
        self.leads: Callable[[], bool] = lambda: False
        """Says whether kept answers to default reads may be given: this agent's
        server leads and holds its lease. Asked at most once a millisecond."""
        self.contact_ms: Callable[[], int] = lambda: -1
        """Milliseconds since this agent's server heard the leader, for kept
        answers to stale reads; -1 if none may be given (no known leader)."""
        self._default_token = ""
        self.options = options
        user = b"".join(
            header_line(name, value) for name, value in options.response_headers.items()
        )
        self._other_headers = user
        self._v1_headers = (
            b"Vary: Accept-Encoding\r\n"
            + header_line("X-Consul-Default-Acl-Policy", options.default_policy)
            + (_TRANSLATES if options.translate_wan_addrs else b"")
            + user
        )
        self._targets: dict[bytes, tuple[str, Query, Route, str]] = {}
        """Targets resolved before (routes must be complete by then)."""
        self._guarded = bool(options.block_endpoints or options.allow_write_from)

    @property
    def default_token(self) -> str:
        """The token of requests that bring none."""
        return self._default_token

    @default_token.setter
    def default_token(self, token: str) -> None:
        if token != self._default_token:
            self._default_token = token
            self.forget()

    def forget(self) -> None:
        """Drop all kept answers."""
        self.hot.clear()

    def open(
        self,
        method: str,
        target: bytes,
        headers: Mapping[bytes, bytes],
        remote: str = "",
    ) -> Request:
        """Return the request for a target such as ``/v1/kv/a?raw``."""
        known = self._targets.get(target)
        if known is not None:
            path, query, route, argument = known
            request = Request(self, method, path, query, headers, remote)
            request.route, request.argument = route, argument
            return request
        raw_path, _, raw_query = target.partition(b"?")
        if raw_path[:1] != b"/":
            raw_path = _absolute(raw_path)
        try:
            path = decode_path(raw_path)
        except MalformedPath:
            malformed = Response(400, b"400 Bad Request", TEXT)
            return self._early(method, "", headers, malformed)
        if self.options.unprintable_char_filter and not path.isprintable():
            return self._early(method, path, headers, Response(400))
        if "//" in path or "/." in path:
            cleaned = clean_path(path)
            if cleaned != path:
                if self.routes.find(cleaned) is None:
                    cleaned += "/" * self.routes.wants_slash(cleaned)
                moved = redirect(cleaned, raw_query, method)
                return self._early(method, path, headers, moved)
        found = self.routes.find(path)
        if found is None:
            missing = Response(404)
            if self.routes.wants_slash(path):
                missing = redirect(path + "/", raw_query, method)
            return self._early(method, path, headers, missing)
        try:
            query = parse_query(raw_query) if raw_query else NO_QUERY
        except MalformedQuery:
            return self._early(method, path, headers, Response(500))
        request = Request(self, method, path, query, headers, remote)
        request.route, request.argument = found
        if len(target) <= _MAX_TARGET:
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[target] = (path, query, *found)
        return request

    def _early(
        self, method: str, path: str, headers: Mapping[bytes, bytes], answer: Response
    ) -> Request:
        request = Request(self, method, path, NO_QUERY, headers)
        request.early = answer
        return request

    def answer(self, request: Request) -> Answer:
        """Run the handler; expected and unexpected errors become answers."""
        route = request.route
        if route is None:
            return request.early or Response(404)
        if self._guarded:
            refusal = self._guard(request)
            if refusal is not None:
                return refusal
        handler = route.handlers.get(request.method) or route.other
        if handler is None:
            allow = b"Allow: " + route.allow + b"\r\n"
            if request.method == "OPTIONS":
                return Response(200, headers=allow)
            refused = text_response(405, f"method {request.method} not allowed")
            refused.headers = allow
            return refused
        if request.body_length > route.body_limit:
            return self.too_large(request)
        try:
            return handler(request)
        except Exception as error:
            return error_response(error)

    def too_large(self, request: Request) -> Response:
        """Return the 413 of a body above its route's limit."""
        assert request.route is not None
        limit = request.route.body_limit
        size = "" if request.chunked else f"({request.body_length} bytes)"
        text = f"Request body{size} too large, max size: {limit} bytes."
        option = request.route.body_option
        if option:
            text += f" See https://www.consul.io/docs/agent/options.html#{option}."
        return text_response(413, text)

    def _guard(self, request: Request) -> Response | None:
        options = self.options
        if request.path.startswith(options.block_endpoints):
            return text_response(403, "Endpoint is blocked by agent configuration")
        if options.allow_write_from and request.method not in (
            "GET",
            "HEAD",
            "OPTIONS",
        ):
            try:
                address = ip_address(request.remote.partition("%")[0])
            except ValueError:
                return None  # a Unix socket: its file mode is the guard
            if not any(address in network for network in options.allow_write_from):
                return text_response(403, "Access is restricted")
        return None

    def render(self, request: Request, response: Response) -> tuple[bytes, bytes]:
        """Return the header lines after status and date, and the body.

        Compresses the body when the client takes gzip. The blank line that
        ends the head is not included, nor are ``Connection`` lines.
        """
        route = request.route
        v1 = route is not None and route.v1
        body = response.body
        lines = self._v1_headers if v1 else self._other_headers
        if len(body) >= GZIP_MIN and v1 and accepts_gzip(request):
            body = gzip.compress(body, 1, mtime=0)
            lines += b"Content-Encoding: gzip\r\n"
        if response.stream is not None:
            return lines + response.content_type + response.headers, b""
        return (
            b"%b%b%bContent-Length: %d\r\n"
            % (lines, response.content_type, response.headers, len(body)),
            body,
        )


def accepts_gzip(request: Request) -> bool:
    """Say whether the client takes gzip (``q=0`` refuses it)."""
    value = request.headers.get(b"accept-encoding")
    if not value or b"gzip" not in value:
        return False
    for part in value.split(b","):
        coding, _, quality = part.partition(b";")
        if coding.strip() == b"gzip":
            name, _, number = quality.strip().partition(b"=")
            return not (name == b"q" and number.strip(b"0.") == b"")
    return False


def _absolute(raw: bytes) -> bytes:
    """Return the path of an absolute-form target (``http://host/path``)."""
    _, scheme, rest = raw.partition(b"://")
    if scheme:
        _, slash, path = rest.partition(b"/")
        return slash + path or b"/"
    return b"/" + raw


def index_routes(routes: Routes, ui_path: str) -> None:
    """Add ``/``: on to the UI when ``ui_path`` is given, else a greeting.

    All methods are answered alike. Robots are sent away from the UI.
    """

    def index(request: Request) -> Response:
        if ui_path:
            return redirect(ui_path, b"", request.method)
        return Response(200, b"Consul Agent", TEXT)

    def robots(request: Request) -> Response:
        return Response(200, b"User-agent: *\nDisallow: /\n", TEXT)

    routes.add("/", GET=index, other=index)
    if ui_path:
        routes.add("/robots.txt", GET=robots, HEAD=robots)
