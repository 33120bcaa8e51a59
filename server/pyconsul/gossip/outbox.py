"""What leaves a node: sealed packets, with broadcasts in their free space."""

from __future__ import annotations

from pyconsul.gossip.keyring import OVERHEAD_BYTES, Keyring
from pyconsul.gossip.messages import (
    Address,
    Delegate,
    MessageType,
    OpenStream,
    Output,
    SendPacket,
    Settings,
)
from pyconsul.gossip.packet import (
    COMPOUND_HEADER_BYTES,
    COMPOUND_PART_BYTES,
    COMPOUND_PARTS_MAX,
    CRC_BYTES,
    label_header,
    make_compound,
    seal_packet,
)
from pyconsul.gossip.queue import BroadcastQueue
from pyconsul.gossip.stream import seal_stream
from pyconsul.gossip.table import NodeTable

_USER = bytes((MessageType.USER,))
CRC_PROTOCOL = 5
"""A node whose highest protocol is this or more reads checksums."""


class Outbox:
    """Collects outputs in order; owns the queue of memberlist's broadcasts."""

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        delegate: Delegate,
        table: NodeTable,
    ) -> None:
        self.queue = BroadcastQueue(settings.retransmit_mult)
        self.outputs: list[Output] = []
        self._settings = settings
        self._keyring = keyring
        self._delegate = delegate
        self._table = table
        self._streams = 0
        self._limit_plain = settings.udp_buffer_size - COMPOUND_HEADER_BYTES
        self._limit_plain -= CRC_BYTES + len(label_header(settings.label))

    def packet(self, address: Address, message: bytes, *, crc: bool = False) -> None:
        """Send a message or compound as it is."""
        data = seal_packet(message, self._keyring, self._settings, crc=crc)
        self.outputs.append(SendPacket(address, data))

    def compound(
        self, address: Address, messages: list[bytes], *, crc: bool = False
    ) -> None:
        """Send messages in as few packets as their number allows."""
        for start in range(0, len(messages), COMPOUND_PARTS_MAX):
            part = messages[start : start + COMPOUND_PARTS_MAX]
            self.packet(address, make_compound(part), crc=crc)

    def direct(self, address: Address, message: bytes) -> None:
        """Send a message, and broadcasts in the packet's free space."""
        extra = self.broadcasts(len(message) + COMPOUND_PART_BYTES)
        if extra:
            self.compound(address, [message, *extra])
        else:
            self.packet(address, message)

    def broadcasts(self, used: int = 0) -> list[bytes]:
        """Return broadcasts for one packet, ours first, then the delegate's."""
        limit = self._limit_plain - used
        if self._keyring and self._settings.verify_outgoing:
            limit -= OVERHEAD_BYTES
        taken: list[bytes] = []
        if self.queue:
            count = len(self._table.nodes)
            taken = self.queue.take(COMPOUND_PART_BYTES, limit, count)
            limit -= sum(map(len, taken)) + COMPOUND_PART_BYTES * len(taken)
        overhead = COMPOUND_PART_BYTES + len(_USER)
        if limit > overhead:
            for payload in self._delegate.broadcasts(overhead, limit):
                taken.append(_USER + payload)
        return taken

    def stream(
        self, address: Address, message: bytes, deadline: float, *, wants_reply: bool
    ) -> int:
        """Dial and write a message; return the stream's id."""
        self._streams += 1
        data = seal_stream(message, self._keyring, self._settings, dialing=True)
        self.outputs.append(
            OpenStream(self._streams, address, data, wants_reply, deadline)
        )
        return self._streams

    def answer(self, message: bytes) -> bytes:
        """Return the bytes to write on a stream that was accepted."""
        return seal_stream(message, self._keyring, self._settings, dialing=False)
