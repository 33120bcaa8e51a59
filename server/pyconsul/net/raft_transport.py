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
from collections.abc import Iterator

import msgspec

from pyconsul.net.raft_connections import (
    RAFT_TAG,
    Link,
    Receiver,
    Served,
    Slot,
    split_address,
)
from pyconsul.raft import wire, wire_readers
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

IDLE_S = 60.0
MAX_SNAPSHOT_BYTES = 64 << 30
SNAPSHOT_TIMEOUT_S = 10.0
SNAPSHOT_TIMEOUT_BYTES = 256 << 10
_READ = 1 << 18
_PIECE = 1 << 20
_ANSWERS = (AppendResponse, HeartbeatResponse, VoteResponse, TimeoutNowResponse)


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
        self.pre_voters: set[str] = set()
        """Addresses of servers that have answered a pre-vote."""
        self._receiver: Receiver | None = None
        self._links: dict[tuple[str, str], Link] = {}
        self._served: set[Served] = set()
        self._slots: dict[int, Slot] = {}
        self._tag = 0
        self._dirty: list[Link | Served] = []
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
            link = self._links[address, kind] = Link(self, address, kind)
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
                answers = wire_readers.ResponseReader()
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
        served = Served(self, writer)
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

    def mark(self, what: Link | Served) -> None:
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

    async def _serve(self, reader: asyncio.StreamReader, served: Served) -> None:
        requests = wire_readers.RequestReader()
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
        requests: wire_readers.RequestReader,
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
