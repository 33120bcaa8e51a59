"""How questions reach the agent: ordinary requests, first fetches, long polls.

``request`` is for ordinary calls and runs on httpx. Long polls each have a
connection of their own (a *lane*): one httpx pool takes 38 s for 500 polls of
one second (`libraries.md` section 2). First fetches share a few connections, so
1,500 views settle within a server's limit of connections per client, 200 by
default; when lanes meet that limit, the surplus views poll through the pool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from .errors import (
    ConnectionRefusedByLimitError,
    ProtocolError,
    TransportError,
    UnansweredError,
)
from .fast import FastConnection
from .first_fetches import Fetch, FirstFetches, Question
from .options import Options
from .responses import MAX_BODY, MAX_REDIRECTS, Response, redirected

if TYPE_CHECKING:
    import ssl

    import httpx
    from anyio.abc import ByteStream

    from .connection import Connection

POOL_SIZE = 8
MAX_LANES = 4096
RESERVED_MAX = 16
"""Lanes that may be had beyond ``max_lanes``."""
LIMIT_HINT = 100
"""Lanes open from which a connection closed unanswered counts as turned away."""
REQUEST_TIMEOUT = 60.0
USER_AGENT = "pyconsul-client"


class Lane(Protocol):
    """A connection of its own for one view's long polls."""

    @property
    def surplus(self) -> bool:
        """Whether the server's limit asks to give this lane up."""
        ...

    async def get(self, target: str, within: float) -> Response:
        """Return the answer to ``GET target``; raises TransportError."""
        ...

    async def aclose(self) -> None:
        """Close the connection and free the lane."""
        ...


class Transport(Protocol):
    """What the client needs; a test may put its own in place."""

    async def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        within: float = REQUEST_TIMEOUT,
    ) -> Response:
        """Return the answer to any request; raises TransportError."""
        ...

    async def fetch(self, target: str, within: float) -> Response:
        """Return the answer to a ``GET`` that is answered at once."""
        ...

    def lane(self) -> Lane | None:
        """Return a lane for long polls, ``None`` when there is none left."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class HttpTransport:
    """The transport over TCP, TLS or a unix socket."""

    def __init__(self, options: Options, max_lanes: int | None = None) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._httpx: httpx.AsyncClient | None = None
        # Few lanes were asked for to have few connections: the pool is no larger.
        pool = min(POOL_SIZE, max_lanes or POOL_SIZE)
        self._slots = anyio.Semaphore(pool, fast_acquire=True)
        self._first = FirstFetches(self._shared)
        self._idle: list[Connection | FastConnection] = []
        self._lanes: set[_HttpLane] = set()
        self.max_lanes: int = _lanes_by_files() if max_lanes is None else max_lanes
        """Lanes allowed; lowered when the server turns connections away."""
        self.trims: int = 0
        """How often ``max_lanes`` was lowered."""
        named = {"Host": options.authority, "User-Agent": USER_AGENT}
        self._headers = tuple(
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in (named | options.headers()).items()
        )

    async def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        within: float = REQUEST_TIMEOUT,
    ) -> Response:
        """Return the answer to any request; raises TransportError."""
        import httpx

        client = self._client()
        server_name = self._options.server_name
        extensions = {"sni_hostname": server_name} if server_name else None
        for _ in range(MAX_REDIRECTS):
            try:
                async with client.stream(
                    method,
                    self._options.url + target,
                    content=body or None,
                    headers=headers,
                    timeout=within,
                    extensions=extensions,
                ) as answer:
                    parts: list[bytes] = []
                    size = 0
                    async for part in answer.aiter_bytes():
                        size += len(part)
                        if size > MAX_BODY:
                            raise ProtocolError(f"an answer over {MAX_BODY} bytes")
                        parts.append(part)
                    response = Response(
                        answer.status_code, dict(answer.headers), b"".join(parts)
                    )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                label = f'{method.capitalize()} "{self._options.url}{target}"'
                reason = _reason(error, self._options)
                raise TransportError(f"{label}: {reason}") from error
            onward = redirected(response, self._options.url, target)
            if onward is None or method not in ("GET", "HEAD"):
                return response
            target = onward
        raise ProtocolError(f"stopped after {MAX_REDIRECTS} redirects")

    async def fetch(self, target: str, within: float) -> Response:
        """Return the answer to a ``GET`` over one of a few shared connections."""
        async with self._shared() as fetch:
            return await fetch(target, within)

    def soon(self, question: Question) -> bool:
        """Ask like ``fetch`` without a task for it; false where that cannot be."""
        if not _is_asyncio():
            return False
        self._first.add(question)
        return True

    @asynccontextmanager
    async def _shared(self) -> AsyncGenerator[Fetch]:
        """Lend one of the shared connections."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else self.connection()
            try:
                yield lambda target, within: self._fetch(connection, target, within)
            finally:
                if connection.is_open:
                    self._idle.append(connection)

    async def _fetch(
        self, connection: Connection | FastConnection, target: str, within: float
    ) -> Response:
        trims = self.trims
        try:
            return await self.follow(connection, target, within)
        except ConnectionRefusedByLimitError as error:
            raise self._full(error, trims) from error
        except UnansweredError as error:
            if self.lanes > LIMIT_HINT:
                raise self._full(error, trims) from error
            raise

    def lane(self) -> Lane | None:
        """Return a lane, ``None`` when ``max_lanes`` are in use."""
        if len(self._lanes) >= self.max_lanes:
            return None
        lane = _HttpLane(self)
        self._lanes.add(lane)
        return lane

    def reserve(self) -> Lane | None:
        """Return a lane though ``max_lanes`` are in use: another is given up.

        At once, for its question may be open for minutes, and what is left to
        other programs is theirs. ``None`` when there are too few lanes.
        """
        reserved = sum(lane.is_reserved for lane in self._lanes)
        if reserved >= min(RESERVED_MAX, self.max_lanes // 4):
            return None
        lane = _HttpLane(self, is_reserved=True)
        if len(self._lanes) >= self.max_lanes:
            for one in self._lanes:
                if one.is_asking and not one.is_reserved:
                    one.give_up()
                    break
        self._lanes.add(lane)
        return lane

    def release(self, lane: _HttpLane) -> None:
        """Forget a lane that is closing."""
        self._lanes.discard(lane)

    @property
    def lanes(self) -> int:
        """Lanes in use."""
        return len(self._lanes)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._first.aclose()
        for lane in list(self._lanes):
            await lane.aclose()
        while self._idle:
            await self._idle.pop().aclose()
        if self._httpx is not None:
            client, self._httpx = self._httpx, None
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._httpx is None:
            import httpx

            options = self._options
            self._httpx = httpx.AsyncClient(
                headers=options.headers() | {"User-Agent": USER_AGENT},
                transport=httpx.AsyncHTTPTransport(
                    uds=options.socket_path or None,
                    verify=self._tls() if options.tls else False,
                ),
                # A proxy from the environment must not see the token.
                trust_env=False,
            )
        return self._httpx

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._options.ssl_context()
        return self._context

    def connection(self) -> Connection | FastConnection:
        """Return a connection not yet opened."""
        if _is_asyncio():
            return FastConnection(self._connect_asyncio, self._headers)
        # Only trio needs it, and what it imports takes a while.
        from .connection import Connection

        return Connection(self._connect, self._headers)

    async def _connect_asyncio(self, factory: Callable[[], asyncio.Protocol]) -> object:
        options, loop = self._options, asyncio.get_running_loop()
        if options.socket_path:
            return await loop.create_unix_connection(factory, options.socket_path)
        if not options.tls:
            return await loop.create_connection(factory, options.host, options.port)
        name = options.server_name or options.host
        return await loop.create_connection(
            *(factory, options.host, options.port),
            ssl=self._tls(),
            server_hostname=name,
        )

    async def _connect(self) -> ByteStream:
        options = self._options
        if options.socket_path:
            return await anyio.connect_unix(options.socket_path)
        if not options.tls:
            return await anyio.connect_tcp(options.host, options.port)
        return await anyio.connect_tcp(
            options.host,
            options.port,
            ssl_context=self._tls(),
            tls_hostname=options.server_name or options.host,
            # HTTP frames its messages: no need to wait for a close_notify.
            tls_standard_compatible=False,
        )

    async def follow(
        self, connection: Connection | FastConnection, target: str, within: float
    ) -> Response:
        """Return the answer to a ``GET``, redirects within the origin followed."""
        options = self._options
        for _ in range(MAX_REDIRECTS):
            response = await connection.get(options.prefix + target, within)
            onward = redirected(response, options.url, target)
            if onward is None:
                return response
            target = onward
        raise ProtocolError(f"stopped after {MAX_REDIRECTS} redirects")

    def _full(self, error: TransportError, trims: int) -> TransportError:
        """Return what to raise for a fetch that met the limit of connections.

        When lanes of ours are in the way some are closed: nothing is wrong. Else
        others have taken all connections, which is worth telling.
        """
        if sum(lane.is_open for lane in self._lanes) < 2:
            return TransportError(str(error))
        self.turned_away(trims)
        return ConnectionRefusedByLimitError(str(error))

    def turned_away(self, trims: int) -> None:
        """Lower ``max_lanes``, and close lanes until no more than that are open.

        ``trims`` is the count from before the refused connection was begun: what
        was under way during the last trim says nothing about the new limit.
        """
        if trims != self.trims:
            return
        self.trims += 1
        held = [lane for lane in self._lanes if lane.is_open]
        # A tenth is left to other programs on this machine, and to ours.
        self.max_lanes = max(1, min(self.max_lanes, len(held) * 9 // 10))
        given_up = len(held) - self.max_lanes
        for lane in [lane for lane in held if not lane.is_reserved][:given_up]:
            lane.give_up()


def _is_asyncio() -> bool:
    """Whether we run on asyncio, be it under anyio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _reason(error: Exception, options: Options) -> str:
    """Return Go's words for why a request failed, as ``oneshot`` has them."""
    cause = system_error(error)
    if cause is None:
        return str(error) or type(error).__name__
    text = os.strerror(cause).lower()
    if type(error).__name__ != "ConnectError":
        return text
    if options.socket_path:
        return f"dial unix {options.socket_path}: connect: {text}"
    return f"dial tcp {options.authority}: connect: {text}"


def system_error(error: BaseException | None) -> int | None:
    """Return the number of the operating system's error behind another."""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            # One failure an address tried; the first says enough.
            error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        # The numbers of TLS errors are OpenSSL's; their texts say what is wrong.
        is_tls = hasattr(error, "library")
        if isinstance(error, OSError) and not is_tls and (error.errno or 0) > 0:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _lanes_by_files() -> int:
    """Return the lanes the limit of open files allows; some are left for others."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return MAX_LANES
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return MAX_LANES
    return max(1, min(MAX_LANES, files - max(files // 4, 32)))


class _HttpLane:
    """A lane of an ``HttpTransport``."""

    __slots__ = ("_connection", "_scope", "_transport", "is_reserved")

    def __init__(self, transport: HttpTransport, *, is_reserved: bool = False) -> None:
        self.is_reserved = is_reserved
        self._transport = transport
        self._connection = transport.connection()
        self._scope: anyio.CancelScope | None = None

    @property
    def is_open(self) -> bool:
        return self._connection.is_open

    @property
    def surplus(self) -> bool:
        transport = self._transport
        return not self.is_reserved and transport.lanes > transport.max_lanes

    @property
    def is_asking(self) -> bool:
        """Whether a question is under way, not given up."""
        return self._scope is not None and not self._scope.cancel_called

    def give_up(self) -> None:
        """End the question under way with ConnectionRefusedByLimitError."""
        if self._scope is not None:
            self._scope.cancel()

    async def get(self, target: str, within: float) -> Response:
        transport = self._transport
        fresh = not self._connection.is_open
        trims = transport.trims
        try:
            with anyio.CancelScope() as self._scope:
                return await transport.follow(self._connection, target, within)
        except ConnectionRefusedByLimitError:
            transport.turned_away(trims)
            raise
        except UnansweredError as error:
            if fresh and transport.lanes > LIMIT_HINT:
                # The limiter's 429 is often lost to the reset that follows it.
                transport.turned_away(trims)
                raise ConnectionRefusedByLimitError(str(error)) from error
            raise
        finally:
            self._scope = None
        raise ConnectionRefusedByLimitError("given up for the server's limit")

    async def aclose(self) -> None:
        self._transport.release(self)
        await self._connection.aclose()
