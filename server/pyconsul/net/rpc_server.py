"""The RPC port: the first byte of a connection says what it carries.

Tags (``wire-rpc.md`` section 1): 0 calls on the bare connection, 1 Raft, 4
calls on yamux streams, 5 a snapshot stream. Everything else is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol, cast

import msgspec

from pyconsul.net.rpc_conversation import Service
from pyconsul.net.rpc_links import (
    READER_LIMIT,
    CountedStreams,
    ServerLink,
    SingleLink,
    SnapshotHook,
    SnapshotStart,
)
from pyconsul.net.rpc_stream import (
    MIB,
    Methods,
    known_methods,
)
from pyconsul.types.errors import StartError
from pyconsul.types.messages import Caller
from pyconsul.yamux import YamuxSettings

_log = logging.getLogger(__name__)

TAG_SINGLE = 0
TAG_RAFT = 1
TAG_MULTIPLEX_OLD = 2
TAG_MULTIPLEX = 4
TAG_SNAPSHOT = 5
_POLL_S = 0.01  # while stopping
_REFUSED = {
    TAG_MULTIPLEX_OLD: "the old multiplexing is not served",
    3: "TLS is not configured",
    6: "gossip over RPC is not served",
    7: "TLS is not configured",
    8: "gRPC is not served",
    0x16: "TLS is not configured",
}


class RaftAcceptor(Protocol):
    """Who takes connections with the Raft tag (``net/raft_transport.py``)."""

    def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        """Serve the connection until it ends; run in a task of the server."""
        ...


class RpcServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the RPC port; seconds, bytes, counts (0: no limit)."""

    max_conns_per_client: int = 100
    handshake_timeout_s: float = 5.0
    max_message: int = 64 * MIB
    max_buffered: int = 256 * MIB
    """Incomplete messages of one connection."""
    max_held: int = 256 * 1024
    """Bytes read ahead on a bare connection while a call runs."""
    stop_grace_s: float = 0.5
    tick_s: float = 1.0
    yamux: YamuxSettings = YamuxSettings()


class RpcServer:
    """Listens on the RPC port and serves ``caller`` there."""

    def __init__(
        self,
        caller: Caller,
        *,
        raft: RaftAcceptor | None = None,
        snapshot: SnapshotHook | None = None,
        limits: RpcServerLimits | None = None,
        methods: Methods | None = None,
    ) -> None:
        self.limits = limits or RpcServerLimits()
        self.service = Service(
            caller,
            known_methods() if methods is None else methods,
            self.limits.max_message,
        )
        self.raft = raft
        self.snapshot = snapshot
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_ip: Counter[str] = Counter()
        self._transports: dict[asyncio.BaseTransport, str] = {}
        self._links: set[ServerLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._transports)

    @property
    def most_connections(self) -> int:
        """How many connections the client with the most of them has."""
        return max(self._by_ip.values(), default=0)

    @property
    def address(self) -> tuple[str, int]:
        """The address bound, once started: (ip, port)."""
        assert self._server is not None, "the server is not started"
        name = self._server.sockets[0].getsockname()
        return cast(str, name[0]), cast(int, name[1])

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises ``StartError``."""
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await self._loop.create_server(
                lambda: _FirstByte(self), host, port, backlog=1024
            )
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise StartError(
                f"Failed to start RPC layer: listen tcp {host}:{port}: bind: {reason}"
            ) from None
        self._timer = self._loop.call_later(self.limits.tick_s, self._tick)

    async def stop(self) -> None:
        """Listen no more, let running calls finish briefly, close everything."""
        if self._server is None or self._loop is None:
            return
        self._server.close()
        for link in list(self._links):
            link.go_away()
        for _ in range(int(self.limits.stop_grace_s / _POLL_S)):
            if not self.service.running:
                break
            await asyncio.sleep(_POLL_S)
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for transport in list(self._transports):
            transport.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A peer that reads nothing must not hold the stop up.
        for _ in range(100):
            if not self._transports:
                break
            await asyncio.sleep(_POLL_S)
        for transport in list(self._transports):
            cast(asyncio.Transport, transport).abort()
        await asyncio.sleep(0)

    # For the protocols.

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the server runs on."""
        assert self._loop is not None, "the server is not started"
        return self._loop

    def admit(self, transport: asyncio.BaseTransport) -> bool:
        """Count a connection; whether its source may have another one."""
        peer = transport.get_extra_info("peername")
        ip = str(peer[0]) if peer else ""
        limit = self.limits.max_conns_per_client
        if limit > 0 and self._by_ip[ip] >= limit:
            return False
        self._by_ip[ip] += 1
        self._transports[transport] = ip
        return True

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection out."""
        ip = self._transports.pop(transport, None)
        if ip is not None:
            self._by_ip[ip] -= 1
            if not self._by_ip[ip]:
                del self._by_ip[ip]

    def serve(self, transport: asyncio.Transport, tag: int, rest: bytes) -> None:
        """Go on with a connection whose first byte was ``tag``."""
        if tag == TAG_MULTIPLEX:
            link = ServerLink(self, transport)
            self._links.add(link)
            _switch(transport, link, rest)
        elif tag == TAG_SINGLE:
            _switch(transport, SingleLink(self, transport), rest)
        elif tag == TAG_RAFT and self.raft is not None:
            reader, writer = self.open_streams(transport, rest)
            self.run("raft", writer, self.raft.accept(reader, writer))
        elif tag == TAG_SNAPSHOT and self.snapshot is not None:
            _switch(transport, SnapshotStart(self, transport, self.snapshot), rest)
        else:
            reason = _REFUSED.get(tag, "unrecognized RPC byte")
            peer = transport.get_extra_info("peername")
            _log.warning("rpc: %s: byte=%d from=%s", reason, tag, peer)
            transport.close()

    def open_streams(
        self, transport: asyncio.Transport, rest: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Hand a connection over to asyncio streams; ``rest`` was read already."""
        reader = asyncio.StreamReader(limit=READER_LIMIT, loop=self.loop)
        protocol = CountedStreams(self, transport, reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            reader.feed_data(rest)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self.loop)

    def run(
        self,
        what: str,
        writer: asyncio.StreamWriter,
        serving: Coroutine[Any, Any, None],
    ) -> None:
        """Run a connection's coroutine in a task, and close after it."""

        async def whole() -> None:
            try:
                await serving
            except (OSError, EOFError) as error:
                _log.debug("rpc: %s connection ended: %s", what, error)
            except Exception:
                _log.exception("rpc: %s connection failed", what)
            finally:
                writer.close()

        task = self.loop.create_task(whole())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget_link(self, link: ServerLink) -> None:
        """Tick a link no more."""
        self._links.discard(link)

    def _tick(self) -> None:
        now = self.loop.time()
        for link in list(self._links):
            link.tick(now)
        self._timer = self.loop.call_later(self.limits.tick_s, self._tick)


def _switch(
    transport: asyncio.Transport, protocol: asyncio.Protocol, rest: bytes
) -> None:
    """Give the connection to ``protocol``, with what was read of it."""
    transport.set_protocol(protocol)
    if rest:
        protocol.data_received(rest)


class _FirstByte(asyncio.Protocol):
    """Waits for the tag."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(transport):
            # Consul closes the excess connection without a word.
            self._transport.abort()
            return
        self._timer = self._server.loop.call_later(
            self._server.limits.handshake_timeout_s, self._transport.abort
        )

    def data_received(self, data: bytes) -> None:
        if self._timer is None or self._transport is None:
            return
        self._timer.cancel()
        self._timer = None
        self._server.serve(self._transport, data[0], data[1:])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._server.forget(self._transport)
