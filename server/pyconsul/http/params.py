"""Parameters that nearly all endpoints share, and the headers of reads (1.2-1.5).

``read_options`` and ``write_options`` return keyword arguments for the request
records of ``types/messages.py``. ``read`` calls and turns the reply into an
answer with its index headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from pyconsul.http.encoding import body_response, encode, join_rows
from pyconsul.http.hot import ANY_CONTACT
from pyconsul.http.numbers import NumberError, parse_uint
from pyconsul.http.routing import Answer, Request, Response, then
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.errors import (
    BadRequestError,
    ConsulError,
    PermissionDeniedError,
)
from pyconsul.types.messages import NOWHERE, QueryOptions, QuerySource, Reply

_MS = 1_000_000
_QUERY = "PreparedQuery."
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")

View = Callable[[Request, Reply, bytes], Response]
"""Makes the answer of a request, a reply and the header lines of reads."""


def token_of(request: Request) -> str:
    """Return the token: query, header, bearer, then the agent's own."""
    query, headers = request.query, request.headers
    if query:
        token = query.get("token")
        if token:
            return token
    if b"x-consul-token" in headers:
        token = request.header(b"x-consul-token")
        if token:
            return token
    if b"authorization" in headers:
        words = request.header(b"authorization").split()
        if len(words) > 1 and words[0].lower() == "bearer":
            return words[1]
    return request.face.default_token


def check_edition(request: Request) -> None:
    """Refuse namespaces, which this edition does not have."""
    if request.query and request.query.get("ns"):
        raise BadRequestError(
            'Bad request: Invalid query parameter: "ns" - '
            "Namespaces are a Consul Enterprise feature"
        )
    if request.headers.get(b"x-consul-namespace"):
        raise BadRequestError(
            'Bad request: Invalid header: "X-Consul-Namespace" - '
            "Namespaces are a Consul Enterprise feature"
        )


def write_options(request: Request) -> dict[str, Any]:
    """Return ``datacenter`` and ``token`` of a write."""
    check_edition(request)
    return {"datacenter": request.query.get("dc"), "token": token_of(request)}


def read_options(
    request: Request, *, discovery: bool = False, filtered: bool = False
) -> dict[str, Any]:
    """Return the options of a read.

    ``discovery`` for catalog and health, where ``discovery_max_stale``
    applies; ``filtered`` for endpoints that take ``?filter``.
    """
    check_edition(request)
    options: dict[str, Any] = {"token": token_of(request)}
    query = request.query
    if b"cache-control" in request.headers:
        cache_control(request)
    max_stale = request.face.options.discovery_max_stale if discovery else 0
    if not query:
        if max_stale:
            options["allow_stale"] = True
            options["max_stale_duration"] = max_stale
        return options
    options["datacenter"] = query.get("dc")
    stale, consistent = "stale" in query, "consistent" in query
    cached = "cached" in query and request.face.options.use_cache
    given = _max_stale(query.get("max_stale"))
    if given <= 0 and not (stale or consistent or cached or "leader" in query):
        given = max_stale
    if given > 0:
        stale = True
        options["max_stale_duration"] = given
    if stale and consistent:
        raise BadRequestError(
            "Cannot specify ?stale with ?consistent, conflicting semantics."
        )
    if consistent and cached:
        raise BadRequestError(
            "Cannot specify ?cached with ?consistent, conflicting semantics."
        )
    options["allow_stale"] = stale
    options["require_consistent"] = consistent
    options |= wait_options(request)
    if filtered:
        options["filter"] = query.get("filter")
    return options


def _max_stale(text: str) -> int:
    try:
        return parse_duration(text) if text else 0
    except DurationError:
        raise BadRequestError(f'Invalid max_stale value "{text}"') from None


def wait_options(request: Request) -> dict[str, Any]:
    """Return the options of a blocking query: index, and how long to wait."""
    options: dict[str, Any] = {}
    query = request.query
    index = query.get("index")
    if index:
        try:
            options["min_query_index"] = parse_uint(index)
        except NumberError:
            raise BadRequestError("Invalid index") from None
    wait = query.get("wait")
    if wait:
        try:
            options["max_query_time"] = max(parse_duration(wait), 0)
        except DurationError:
            raise BadRequestError("Invalid wait time") from None
    return options


def cache_control(request: Request) -> bool:
    """Return whether a cached answer must be made anew; checks the header."""
    revalidate = False
    for part in request.header(b"cache-control").lower().split(","):
        name, given, value = part.strip().partition("=")
        if name == "must-revalidate" and not given:
            revalidate = True
        elif name in ("max-age", "stale-if-error") and given:
            digits = value[1:] if value[:1] in ("-", "+") else value
            if not (digits.isascii() and digits.isdigit()):
                raise BadRequestError("Invalid Cache-Control header.")
            if name == "max-age" and not digits.strip("0"):
                revalidate = True
    return revalidate


def node_meta(request: Request) -> dict[str, str] | None:
    """Return the ``node-meta`` filters, ``None`` when there are none."""
    pairs = request.query.all("node-meta")
    if not pairs:
        return None
    return {name: value for name, _, value in (p.partition(":") for p in pairs)}


def source_of(request: Request) -> QuerySource:
    """Return where ``?near`` wants distances to begin; ``_agent`` is this agent."""
    near = request.query.get("near") if request.query else ""
    if not near:
        return NOWHERE
    options = request.face.options
    return QuerySource(
        datacenter=options.datacenter,
        segment=options.segment,
        node=options.node_name if near == "_agent" else near,
    )


def parse_bool(text: str) -> bool | None:
    """Return Go's reading of a boolean, ``None`` if it is none."""
    return True if text in _TRUE else False if text in _FALSE else None


def meta_headers(reply: Reply, mode: bytes | None = None) -> bytes:
    """Return index, leader and contact lines; ``mode`` is the consistency."""
    lines = (
        b"X-Consul-Index: %d\r\n"
        b"X-Consul-Knownleader: %b\r\nX-Consul-Lastcontact: %d\r\n"
        b"X-Consul-Query-Backend: blocking-query\r\n"
    ) % (
        reply.index or 1,
        b"true" if reply.known_leader else b"false",
        reply.last_contact_ms,
    )
    if mode is None:
        return lines
    return b"%bX-Consul-Effective-Consistency: %b\r\n" % (lines, mode)


def _mode(args: QueryOptions) -> bytes:
    if args.require_consistent:
        return b"consistent"
    return b"stale" if args.allow_stale else b"leader"


def read(
    request: Request,
    method: str,
    args: QueryOptions,
    view: View,
    *,
    discovery: bool = False,
    cacheable: bool = False,
) -> Answer:
    """Call a read and answer with ``view``; may answer later.

    ``discovery`` adds the consistency header; ``cacheable`` heeds ``?cached``.
    """
    if cacheable and "cached" in request.query and request.face.options.use_cache:
        return _read_cached(request, method, args, view, discovery)
    if args.max_stale_duration and (discovery or method.startswith(_QUERY)):
        return _read_bounded(request, method, args, view, discovery)
    reply = request.face.caller.call(method, args)
    if isinstance(reply, Reply):
        return _finish(request, args, view, discovery, reply)
    return then(reply, partial(_finish, request, args, view, discovery))


def _read_bounded(
    request: Request, method: str, args: QueryOptions, view: View, discovery: bool
) -> Answer:
    """Answer a stale read; one older than ``max_stale`` is asked of the leader."""

    def judge(reply: Reply) -> Answer:
        if reply.last_contact_ms * _MS <= args.max_stale_duration:
            return _finish(request, args, view, discovery, reply)
        anew = replace(args, allow_stale=False, max_stale_duration=0)
        return read(request, method, anew, view, discovery=discovery)

    return then(request.face.caller.call(method, args), judge)


def _finish(
    request: Request, args: QueryOptions, view: View, discovery: bool, reply: Reply
) -> Response:
    headers = meta_headers(reply, _mode(args) if discovery else None)
    response = view(request, reply, headers)
    if (
        reply.cells
        and reply.keeps
        and reply.known_leader
        and not args.min_query_index
        and not args.require_consistent
        and not request.face.options.acl_enabled
    ):
        response.cells = reply.cells
        if args.allow_stale:
            bound = args.max_stale_duration
            response.max_contact_ms = bound // _MS if bound else ANY_CONTACT
    return response


def _read_cached(
    request: Request, method: str, args: QueryOptions, view: View, discovery: bool
) -> Answer:
    """Answer from the agent cache: true replies, or the last when a call fails."""
    recent = request.face.recent
    # A waiting read and its plain form share one view of the data.
    asked = request.query.encode(("index", "wait"))
    key = (method, request.path, asked, token_of(request))
    known = recent.get(key)
    if cache_control(request):
        known = None

    def finish(reply: Reply, age: int | None) -> Response:
        headers = meta_headers(reply, _mode(args) if discovery else None)
        if age is None:
            headers += b"X-Cache: MISS\r\n"
        else:
            headers += b"X-Cache: HIT\r\nAge: %d\r\n" % age
        return view(request, reply, headers)

    def fresh(reply: Reply) -> Response:
        recent.put(key, reply)
        return finish(reply, None if known is None else 0)

    if known is not None and known.fresh and not args.min_query_index:
        return finish(known.reply, 0)
    if known is not None and not recent.may_fetch(known):
        return finish(known.reply, recent.age(known))
    try:
        reply = request.face.caller.call(method, args)
    except (BadRequestError, PermissionDeniedError):
        raise
    except ConsulError:
        if known is None:
            raise
        return finish(known.reply, recent.age(known))
    if isinstance(reply, Reply):
        return fresh(reply)
    if known is None:
        return then(reply, fresh)
    last = known
    return then(
        _or_last(reply, last.reply),
        lambda got: finish(got, recent.age(last)) if got is last.reply else fresh(got),
    )


def _or_last(future: asyncio.Future[Reply], last: Reply) -> asyncio.Future[Reply]:
    """Return a future of the reply, or of the last one when the call fails."""
    result: asyncio.Future[Reply] = future.get_loop().create_future()

    def settle(done: asyncio.Future[Reply]) -> None:
        if result.done():
            return
        if done.cancelled():
            result.cancel()
            return
        error = done.exception()
        if error is None:
            result.set_result(done.result())
        elif isinstance(error, ConsulError) and not isinstance(
            error, BadRequestError | PermissionDeniedError
        ):
            result.set_result(last)
        else:
            result.set_exception(error)

    def abandon(done: asyncio.Future[Reply]) -> None:
        if done.cancelled() and not future.done():
            future.cancel()

    future.add_done_callback(settle)
    result.add_done_callback(abandon)
    return result


def by_datacenter(near: View, far: View) -> View:
    """Return the view of a read: ``far`` when ``?dc`` names another datacenter.

    Only with ``translate_wan_addrs``; else ``near`` always.
    """

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        options = request.face.options
        if options.translate_wan_addrs and request.query:
            datacenter = request.query.get("dc")
            if datacenter and datacenter != options.datacenter:
                return far(request, reply, headers)
        return near(request, reply, headers)

    return view


def rows_view(encoder: Callable[[Any], bytes]) -> View:
    """Return the view of a list of rows; equal waiters share the encoding."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        encoded: tuple[object, bytes] | None = reply.encoded
        if encoded is None or encoded[0] is not encoder:
            encoded = (encoder, join_rows(reply.value, encoder))
            reply.encoded = encoded
        return body_response(request, encoded[1], headers)

    return view


def value_view(convert: Callable[[Any], Any]) -> View:
    """Return the view of a value that ``convert`` makes JSON-like."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        encoded: tuple[object, bytes] | None = reply.encoded
        if encoded is None or encoded[0] is not convert:
            encoded = (convert, encode(convert(reply.value)))
            reply.encoded = encoded
        return body_response(request, encoded[1], headers)

    return view
