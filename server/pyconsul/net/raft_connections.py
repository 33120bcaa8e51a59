"""Single connections of the Raft transport: those we dial, those others opened.

A ``Link`` dials on demand and keeps what was asked, a ``Served`` connection
what is to be answered; both in order, since answers name nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from pyconsul.raft import wire, wire_readers
from pyconsul.raft.messages import Message, SnapshotRequest

_log = logging.getLogger(__name__)

RAFT_TAG = b"\x01"
CONNECT_TIMEOUT_S = 2.0
APPEND_TIMEOUT_S = 10.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
MAX_ASKED = 512
"""Requests of a connection without an answer; the core keeps to fewer."""
MAX_BUFFERED = 16 << 20
"""Bytes that wait to be sent before appends are dropped."""

UNHEARD_PRE_VOTES = 2
"""A peer that hung up on so many in a row, and never answered one, knows none."""

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


class Owner(Protocol):
    """What connections need of the transport."""

    encoder: wire.Encoder
    timeout_s: float
    pre_voters: set[str]
    """Addresses of servers that have answered a pre-vote."""

    @property
    def receiver(self) -> Receiver:
        """Who takes the messages."""
        ...

    def mark(self, what: Link | Served) -> None:
        """Have ``what`` flushed once the current turn has gathered its bytes."""
        ...

    def deliver(self, message: Message, address: str) -> None:
        """Hand an answer to the receiver."""
        ...

    def stalled(self, address: str) -> None:
        """Give up the appends to a server whose heartbeats get no answer."""
        ...


class Link:
    """The way to one server for one kind of request."""

    def __init__(self, owner: Owner, address: str, kind: str) -> None:
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
        self._unheard = 0
        """Pre-votes in a row that the peer hung up on."""

    def send(self, message: Message) -> None:
        """Send or queue a request; drop it when neither can be."""
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
        """Write what was gathered."""
        self._marked = False
        if self._connection is not None and self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._connection.write(data)

    def answered(self, error: str, plain: object) -> None:
        """Take the answer to the oldest request; raises ``WireError``."""
        if not self._asked:
            raise wire.WireError("an answer to nothing")
        _, asked = self._asked.popleft()
        self._backoff = 0.0
        if error:
            _log.debug("raft: refused: peer=%s error=%s", self.address, error)
            if asked.kind == wire.PRE_VOTE and wire.is_unknown_request(error):
                self.owner.deliver(wire.granted_unasked(asked), self.address)
            if self.kind == "append":
                self._tell_lost(retry=False)
            return
        try:
            answer = wire.decode_response(asked, plain)
        except wire.StrangerError as stranger:
            _log.debug("raft: refused: peer=%s error=%s", self.address, stranger)
            if self.kind == "append":
                self._tell_lost(retry=False)
            return
        if asked.kind == wire.PRE_VOTE:
            self.owner.pre_voters.add(self.address)
        self.owner.deliver(answer, self.address)

    def ended(self, connection: _Connection, *, answered: bool) -> None:
        """Hear that a connection is gone."""
        if connection is self._connection:
            unheard = self._hung_up_on()
            self.broken(retry=answered)
            if unheard is not None:
                self.owner.deliver(wire.granted_unasked(unheard), self.address)

    def _hung_up_on(self) -> wire.Asked | None:
        """Return the pre-vote that a peer without pre-votes hung up on, if so.

        Raft before 1.7 closes the connection at a request it does not know; to
        wait for its consent would leave a mixed cluster without a leader. One
        that is going down does the same, once: its kind has answered before, or
        will refuse the next connection.
        """
        asked = self._asked[0][1] if self._asked and not self._out else None
        if asked is None or asked.kind != wire.PRE_VOTE:
            return None
        self._unheard += 1
        if self.address in self.owner.pre_voters or self._unheard < UNHEARD_PRE_VOTES:
            return None
        return asked

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
        """End it without telling anybody."""
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
            self._unheard = 0
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

    def __init__(self, link: Link) -> None:
        self._link = link
        self._answers = wire_readers.ResponseReader()
        self._answered = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

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


class Slot:
    """The place of one answer among those of its connection."""

    __slots__ = ("data", "kind", "served", "tag")

    def __init__(self, served: Served, tag: int, kind: int) -> None:
        self.served = served
        self.tag = tag
        self.kind = kind
        self.data: bytes | None = None

    def settle(self, data: bytes) -> None:
        """Note the answer's bytes."""
        self.data = data
        self.served.ready()


class Served:
    """A connection another server opened: answers in the order of requests."""

    def __init__(self, owner: Owner, writer: asyncio.StreamWriter) -> None:
        self.slots: deque[Slot] = deque()
        self._owner = owner
        self._writer = writer
        self._marked = False
        self._room = asyncio.Event()

    def add(self, tag: int, kind: int) -> Slot:
        """Make the place of the next answer."""
        slot = Slot(self, tag, kind)
        self.slots.append(slot)
        return slot

    def ready(self) -> None:
        """Note that some answer is there."""
        if not self._marked:
            self._marked = True
            self._owner.mark(self)

    def flush(self) -> None:
        """Write the answers that are next in order."""
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
        """Wait until the peer has taken enough."""
        await self._writer.drain()

    def end(self) -> None:
        """Close it."""
        self._room.set()
        self._writer.close()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``ip:port`` or ``[ip6]:port``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is no host:port")
    return host.strip("[]"), int(port)
