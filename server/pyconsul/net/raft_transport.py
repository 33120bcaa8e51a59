"""Raft over TCP: connections to other servers, and theirs to us.

To each server lead three connections, dialed on demand: appends (pipelined),
heartbeats (which never wait behind entries) and votes; snapshots take one each.
Answers come in the order of the requests (``raft/wire.py``), so each connection
has a queue of what was asked, and for those that others opened a queue of what
is to be answered; a request's ``tag`` finds its place. What cannot be sent is
dropped: the core sends again, and hears of lost appends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import msgspec

from pyconsul.raft import wire
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    SnapshotRequest,
    TimeoutNowResponse,
    VoteResponse,
)
from pyconsul.types.errors import ConsulError

_log = logging.getLogger(__name__)

RAFT_TAG = b"\x01"
CONNECT_TIMEOUT_S = 2.0
APPEND_TIMEOUT_S = 10.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
IDLE_S = 60.0
MAX_ASKED = 512
"""Requests of a connection without an answer; the core keeps to fewer."""
MAX_BUFFERED = 16 << 20
"""Bytes that wait to be sent before appends are dropped."""
MAX_SNAPSHOT_BYTES = 64 << 30
SNAPSHOT_TIMEOUT_S = 10.0
SNAPSHOT_TIMEOUT_BYTES = 256 << 10
_READ = 1 << 18
_PIECE = 1 << 20
_ANSWERS = (AppendResponse, HeartbeatResponse, VoteResponse, TimeoutNowResponse)

Read = Callable[[], Awaitable[bytes]]
"""Gives the next bytes of an arriving snapshot; raises when it is cut off."""


class Receiver(Protocol):
    """Who takes the messages: the driver."""

    def receive(self, message: Message, address: str) -> None:
        """Take a message; raises ``ConsulError`` when it cannot."""
        ...

    async def receive_snapshot(
        self, message: SnapshotRequest, address: str, size: int, read: Read
    ) -> None:
        """Take a snapshot of ``size`` bytes; raises ``ConsulError``."""
        ...

    def appends_lost(self, server_id: str, *, retry: bool) -> None:
        """Hear that appends to a server were lost."""
        ...

    def id_of(self, address: str) -> str:
        """Return the id of the server at ``address``, empty when unknown."""
        ...


class RaftTransport:
    """One server's side of the Raft connections.

    ``timeout_s`` is how long a heartbeat or a vote waits for its answer before
    the connection is given up: about the election timeout.
    """

    def __init__(self, server_id: str, address: str, *, timeout_s: float = 5.0) -> None:
        self.server_id = server_id
        self.address = address
        self.timeout_s = timeout_s
        self.encoder = wire.Encoder(server_id, address)
        self._receiver: Receiver | None = None
        self._links: dict[tuple[str, str], _Link] = {}
        self._served: set[_Served] = set()
        self._slots: dict[int, _Slot] = {}
        self._tag = 0
        self._dirty: list[_Link | _Served] = []
        self._closed = False

    def attach(self, receiver: Receiver) -> None:
        """Name who takes the messages."""
        self._receiver = receiver

    @property
    def receiver(self) -> Receiver:
        """Who takes the messages."""
        assert self._receiver is not None, "attach() comes first"
        return self._receiver

    def send(self, address: str, message: Message) -> None:
        """Send a request to ``address``, or an answer to whoever asked."""
        if self._closed:
            return
        if isinstance(message, _ANSWERS):
            slot = self._slots.pop(message.tag, None)
            if slot is not None:
                slot.settle(self.encoder.response(slot.kind, message))
            return
        if isinstance(message, AppendRequest):
            kind = "append"
        elif isinstance(message, HeartbeatRequest):
            kind = "heartbeat"
        else:
            kind = "vote"
        link = self._links.get((address, kind))
        if link is None:
            self._forget_idle()
            link = self._links[address, kind] = _Link(self, address, kind)
        link.send(message)

    async def send_snapshot(
        self,
        address: str,
        message: SnapshotRequest,
        size: int,
        chunks: Iterator[bytes],
    ) -> Message:
        """Stream a snapshot; return the answer.

        Raises ``OSError`` (or ``TimeoutError``), ``ConsulError``.
        """
        loop = asyncio.get_running_loop()
        limit = SNAPSHOT_TIMEOUT_S * max(1.0, size / SNAPSHOT_TIMEOUT_BYTES)
        host, port = split_address(address)
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(RAFT_TAG + self.encoder.request(message, size=size))
                while piece := await loop.run_in_executor(None, next, chunks, b""):
                    writer.write(piece)
                    await writer.drain()
                answers = wire.ResponseReader()
                while (found := answers.next()) is None:
                    data = await reader.read(_READ)
                    if not data:
                        raise ConnectionResetError("closed before the answer")
                    answers.feed(data)
                error, plain = found
                if error:
                    raise ConsulError(error)
                return wire.decode_response(wire.ask(message), plain)
            except wire.WireError as error:
                raise ConsulError(str(error)) from error
            finally:
                writer.transport.abort()

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection whose tag byte has been read, until it ends."""
        served = _Served(self, writer)
        self._served.add(served)
        try:
            if not self._closed:
                await self._serve(reader, served)
        except (OSError, wire.WireError, TimeoutError) as error:
            _log.debug("raft: connection ended: error=%s", error)
        finally:
            self._served.discard(served)
            for slot in served.slots:
                self._slots.pop(slot.tag, None)
            served.end()

    def refuse_waiting(self, reason: str) -> None:
        """Answer every request that still waits with an error."""
        slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            slot.settle(self.encoder.error(reason))

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for link in self._links.values():
            link.close()
        self._links.clear()
        for served in list(self._served):
            served.end()
        # Transports are freed in the loop's next turn.
        await asyncio.sleep(0)

    # --- for links and served connections ---

    def mark(self, what: _Link | _Served) -> None:
        """Have ``what`` flushed once the current turn has gathered its bytes."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(what)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for what in dirty:
            what.flush()

    def deliver(self, message: Message, address: str) -> None:
        """Hand an answer to the receiver."""
        try:
            self.receiver.receive(message, address)
        except ConsulError:
            pass  # a stopped server needs no answers

    def stalled(self, address: str) -> None:
        """Give up the appends to a server whose heartbeats get no answer."""
        if (link := self._links.get((address, "append"))) is not None:
            link.broken(retry=False)

    def _forget_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for key, link in list(self._links.items()):
            if now - link.used_at > IDLE_S:
                link.close()
                del self._links[key]

    async def _serve(self, reader: asyncio.StreamReader, served: _Served) -> None:
        requests = wire.RequestReader()
        while True:
            while (found := requests.next()) is not None:
                kind, plain = found
                self._tag += 1
                slot = served.add(self._tag, kind)
                try:
                    asked = wire.decode_request(kind, plain, self.server_id, slot.tag)
                    if not asked.message.sender:
                        asked = self._name(asked)
                    self._slots[slot.tag] = slot
                    message = asked.message
                    if isinstance(message, SnapshotRequest):
                        await self._take(reader, requests, message, asked)
                    else:
                        self.receiver.receive(message, asked.address)
                except (wire.WireError, ConsulError) as error:
                    self._slots.pop(slot.tag, None)
                    slot.settle(self.encoder.error(str(error)))
                    if kind == wire.SNAPSHOT:
                        served.flush()
                        await served.drain()
                        return
            await served.room()
            data = await reader.read(_READ)
            if not data:
                return
            requests.feed(data)

    def _name(self, asked: wire.Incoming) -> wire.Incoming:
        """Name the sender by its address, as those before 1.3.7 need."""
        sender = self.receiver.id_of(asked.address) or asked.address
        message = msgspec.structs.replace(asked.message, sender=sender)
        return wire.Incoming(message, asked.address, asked.size)

    async def _take(
        self,
        reader: asyncio.StreamReader,
        requests: wire.RequestReader,
        message: SnapshotRequest,
        asked: wire.Incoming,
    ) -> None:
        size = asked.size
        if size > MAX_SNAPSHOT_BYTES:
            raise ConsulError("the snapshot is too large")
        left = size

        async def read() -> bytes:
            nonlocal left
            if not left:
                return b""
            data = requests.rest(min(left, _PIECE))
            if not data:
                data = await reader.read(min(left, _PIECE))
            if not data:
                raise ConnectionResetError("the snapshot was cut off")
            left -= len(data)
            return data

        limit = SNAPSHOT_TIMEOUT_S * max(1.0, size / SNAPSHOT_TIMEOUT_BYTES)
        async with asyncio.timeout(limit):
            try:
                await self.receiver.receive_snapshot(message, asked.address, size, read)
            except ConsulError:
                # The sender reads the answer only when it has sent everything.
                while left:
                    await read()
                raise


class _Link:
    """The way to one server for one kind of request."""

    def __init__(self, owner: RaftTransport, address: str, kind: str) -> None:
        self.owner = owner
        self.address = address
        self.kind = kind
        self.used_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._timeout = APPEND_TIMEOUT_S if kind == "append" else owner.timeout_s
        self._peer = ""
        self._asked: deque[tuple[float, wire.Asked]] = deque()
        self._out: list[bytes] = []
        self._marked = False
        self._connection: _Connection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._backoff = 0.0
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, message: Message) -> None:
        now = self.used_at = self._loop.time()
        self._peer = message.target
        connection = self._connection
        if connection is None and self._dial is None:
            if now < self._not_before and self.kind != "vote":
                self._tell_lost(retry=False)
                return
            self._dial = self._loop.create_task(self._connect())
        full = len(self._asked) >= MAX_ASKED
        if full or (connection is not None and connection.buffered() > MAX_BUFFERED):
            self._tell_lost(retry=False)
            return
        self._asked.append((now, wire.ask(message)))
        self._out.append(self.owner.encoder.request(message))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check)
        if connection is not None and not self._marked:
            self._marked = True
            self.owner.mark(self)

    def flush(self) -> None:
        self._marked = False
        if self._connection is not None and self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._connection.write(data)

    def answered(self, error: str, plain: object) -> None:
        if not self._asked:
            raise wire.WireError("an answer to nothing")
        _, asked = self._asked.popleft()
        self._backoff = 0.0
        if error:
            _log.debug("raft: refused: peer=%s error=%s", self.address, error)
            if self.kind == "append":
                self._tell_lost(retry=False)
            return
        self.owner.deliver(wire.decode_response(asked, plain), self.address)

    def ended(self, connection: _Connection, *, answered: bool) -> None:
        """Hear that a connection is gone."""
        if connection is self._connection:
            self.broken(retry=answered)

    def broken(self, *, retry: bool) -> None:
        """Forget the connection and all that waited on it."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
        self._asked.clear()
        self._out.clear()
        self._stop_timer()
        if not retry:
            now = self._loop.time()
            self._backoff = min(max(self._backoff * 2, BACKOFF_MIN_S), BACKOFF_MAX_S)
            self._not_before = now + self._backoff
        self._tell_lost(retry=retry)

    def close(self) -> None:
        self._stop_timer()
        if self._dial is not None:
            self._dial.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()

    def _tell_lost(self, *, retry: bool) -> None:
        if self.kind == "append" and self._peer:
            # Not in the midst of the core's own sending.
            self._loop.call_soon(self._lost, retry)

    def _lost(self, retry: bool) -> None:
        self.owner.receiver.appends_lost(self._peer, retry=retry)

    async def _connect(self) -> None:
        try:
            host, port = split_address(self.address)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), host, port
                )
        except (OSError, ValueError) as error:
            self._dial = None
            _log.debug("raft: cannot connect: peer=%s error=%s", self.address, error)
            self.broken(retry=False)
            return
        self._dial = None
        self._connection = connection
        connection.write(RAFT_TAG)
        self.flush()
        if self._asked and self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._asked:
            return
        due = self._asked[0][0] + self._timeout
        now = self._loop.time()
        if due > now:
            self._timer = self._loop.call_later(due - now, self._check)
            return
        if self._connection is not None:
            _log.debug("raft: no answer: peer=%s kind=%s", self.address, self.kind)
            self.broken(retry=False)
            if self.kind == "heartbeat":
                self.owner.stalled(self.address)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Connection(asyncio.Protocol):
    """One dialed connection: bytes in and out of a link."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._answers = wire.ResponseReader()
        self._answered = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def buffered(self) -> int:
        transport = self._transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._answers.feed(data)
            while (found := self._answers.next()) is not None:
                self._answered = True
                self._link.answered(*found)
        except wire.WireError as error:
            _log.warning(
                "raft: bad answer: peer=%s error=%s", self._link.address, error
            )
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.ended(self, answered=self._answered)


class _Slot:
    """The place of one answer among those of its connection."""

    __slots__ = ("data", "kind", "served", "tag")

    def __init__(self, served: _Served, tag: int, kind: int) -> None:
        self.served = served
        self.tag = tag
        self.kind = kind
        self.data: bytes | None = None

    def settle(self, data: bytes) -> None:
        self.data = data
        self.served.ready()


class _Served:
    """A connection another server opened: answers in the order of requests."""

    def __init__(self, owner: RaftTransport, writer: asyncio.StreamWriter) -> None:
        self.slots: deque[_Slot] = deque()
        self._owner = owner
        self._writer = writer
        self._marked = False
        self._room = asyncio.Event()

    def add(self, tag: int, kind: int) -> _Slot:
        slot = _Slot(self, tag, kind)
        self.slots.append(slot)
        return slot

    def ready(self) -> None:
        if not self._marked:
            self._marked = True
            self._owner.mark(self)

    def flush(self) -> None:
        self._marked = False
        parts: list[bytes] = []
        while self.slots and (data := self.slots[0].data) is not None:
            parts.append(data)
            self.slots.popleft()
        if parts and not self._writer.transport.is_closing():
            self._writer.write(b"".join(parts))
        if len(self.slots) < MAX_ASKED:
            self._room.set()

    async def room(self) -> None:
        """Wait until few enough requests wait for their answers."""
        if len(self.slots) >= MAX_ASKED:
            self._room.clear()
            await self._room.wait()
        await self._writer.drain()

    async def drain(self) -> None:
        await self._writer.drain()

    def end(self) -> None:
        self._room.set()
        self._writer.close()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``ip:port`` or ``[ip6]:port``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is no host:port")
    return host.strip("[]"), int(port)
