"""The connections of the RPC port, by what their first byte said.

Calls on yamux streams or on the bare connection, and the streams that Raft and
snapshots are handed. All are counted out by the server when they end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pyconsul.net.rpc_conversation import Conversation
from pyconsul.net.rpc_stream import (
    MALFORMED,
    FramingError,
    msgpack,
    new_unpacker,
)
from pyconsul.net.yamux_link import YamuxLink
from pyconsul.yamux import (
    Event,
    StreamData,
    StreamDrained,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

if TYPE_CHECKING:
    from pyconsul.net.rpc_server import RpcServer

_log = logging.getLogger(__name__)

READER_LIMIT = 256 * 1024
_MAX_SNAPSHOT_REQUEST = 64 * 1024

SnapshotHook = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter, Any], Coroutine[Any, Any, None]
]
"""Serves a snapshot stream: reader, writer, the plain request map."""


class ServerLink(YamuxLink):
    """A yamux connection: one conversation a stream."""

    def __init__(self, server: RpcServer, transport: asyncio.Transport) -> None:
        super().__init__(server.loop, client=False, settings=server.limits.yamux)
        self.buffered = 0
        self._server = server
        self._accepted = transport
        self._conversations: dict[int, Conversation] = {}
        self.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._server.forget(self._accepted)
        super().connection_lost(exc)

    def go_away(self) -> None:
        """Ask the client to open no more streams."""
        self.session.go_away()
        self.schedule_flush()

    def on_event(self, event: Event) -> None:
        """Take an event of the session."""
        conversations = self._conversations
        match event:
            case StreamData(stream, data):
                conversation = conversations.get(stream)
                if conversation is None:
                    self.session.consumed(stream, len(data))
                    return
                try:
                    conversation.receive(data)
                except FramingError as error:
                    self._malformed(stream, conversation, error)
            case StreamOpened(stream):
                self.session.accept(stream)
                conversations[stream] = Conversation(self._server.service, self, stream)
            case StreamEnded(stream):
                conversation = conversations.pop(stream, None)
                if conversation is not None and conversation.busy:
                    # Nobody waits for the answer any more.
                    conversation.cancel()
                    self.session.reset(stream)
                else:
                    if conversation is not None:
                        conversation.cancel()
                    self.session.finish(stream)
            case StreamReset(stream):
                conversation = conversations.pop(stream, None)
                if conversation is not None:
                    conversation.cancel()
            case StreamDrained(stream):
                conversation = conversations.get(stream)
                if conversation is not None:
                    try:
                        conversation.resume()
                    except FramingError as error:
                        self._malformed(stream, conversation, error)
            case _:
                pass

    def after_events(self) -> None:
        """Drop a client that keeps too much unfinished."""
        if self.buffered > self._server.limits.max_buffered:
            self.drop("too many incomplete requests")

    def on_gone(self, reason: str) -> None:
        """Cancel what runs for a client that has gone."""
        if reason != "EOF":
            _log.warning("rpc: multiplexed connection dropped: %s", reason)
        self._server.forget_link(self)
        conversations, self._conversations = self._conversations, {}
        for conversation in conversations.values():
            conversation.cancel()

    # The channel of the conversations.

    def write(self, stream: int, data: bytes) -> bool:
        """Send bytes of an answer; whether more may follow at once."""
        self.session.send(stream, data)
        self.schedule_flush()
        return not self.session.pending(stream)

    def consumed(self, stream: int, size: int) -> None:
        """Note that the conversation has taken ``size`` bytes."""
        self.session.consumed(stream, size)

    def finish(self, stream: int) -> None:
        """End it once everything is sent."""
        self.session.finish(stream)
        self.schedule_flush()

    def _malformed(
        self, stream: int, conversation: Conversation, error: FramingError
    ) -> None:
        _log.warning("rpc: stream dropped: %s", error)
        del self._conversations[stream]
        conversation.cancel()
        self.session.reset(stream)


class SingleLink(asyncio.Protocol):
    """A bare connection: one conversation."""

    def __init__(self, server: RpcServer, transport: asyncio.Transport) -> None:
        self.buffered = 0
        self._server = server
        self._transport = transport
        self._conversation = Conversation(server.service, self)
        self._full = False
        self._held = 0
        self._paused = False

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._held += len(data)
        try:
            self._conversation.receive(data)
        except FramingError as error:
            self._malformed(error)
        if self._held > self._server.limits.max_held and self._conversation.busy:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._server.forget(self._transport)
        self._conversation.cancel()

    def pause_writing(self) -> None:
        """Hear that the client takes too little."""
        self._full = True

    def resume_writing(self) -> None:
        """Hear that the client takes more again."""
        self._full = False
        try:
            self._conversation.resume()
        except FramingError as error:
            self._malformed(error)

    # The channel of the conversation.

    def write(self, stream: int, data: bytes) -> bool:
        """Send bytes of an answer; whether more may follow at once."""
        self._transport.write(data)
        return not self._full

    def consumed(self, stream: int, size: int) -> None:
        """Note that the conversation has taken ``size`` bytes."""
        self._held -= size
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def finish(self, stream: int) -> None:
        """End it once everything is sent."""
        self._transport.close()

    def _malformed(self, error: FramingError) -> None:
        _log.warning("rpc: connection dropped: %s", error)
        self._transport.abort()


class CountedStreams(asyncio.StreamReaderProtocol):
    """asyncio's stream protocol, counted by the server."""

    def __init__(
        self,
        server: RpcServer,
        transport: asyncio.Transport,
        reader: asyncio.StreamReader,
    ) -> None:
        super().__init__(reader, loop=server.loop)
        self._server = server
        self._counted = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._server.forget(self._counted)
        super().connection_lost(exc)


class SnapshotStart(asyncio.Protocol):
    """Reads the request of a snapshot stream, then hands the rest over."""

    def __init__(
        self, server: RpcServer, transport: asyncio.Transport, hook: SnapshotHook
    ) -> None:
        self._server = server
        self._transport = transport
        self._hook = hook
        self._data = b""
        self._timer = server.loop.call_later(
            server.limits.handshake_timeout_s, transport.abort
        )

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._data += data
        unpacker = new_unpacker(2 * READER_LIMIT + _MAX_SNAPSHOT_REQUEST)
        try:
            unpacker.feed(self._data)
            request = unpacker.unpack()
        except msgpack.OutOfData:
            if len(self._data) > _MAX_SNAPSHOT_REQUEST:
                self._transport.abort()
            return
        except MALFORMED:
            self._transport.abort()
            return
        self._timer.cancel()
        rest = self._data[unpacker.tell() :]
        reader, writer = self._server.open_streams(self._transport, rest)
        self._server.run("snapshot", writer, self._hook(reader, writer, request))

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._timer.cancel()
        self._server.forget(self._transport)
