"""Records of memberlist: settings, nodes, wire messages, outputs, the delegate.

Source: ``wire-gossip.md`` 3 (messages), 7.1 (settings). Addresses are
``(ip, port)``; times are float seconds of the shell's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

import msgspec

from pyconsul.types.errors import ConsulError

Address: TypeAlias = tuple[str, int]

VERSIONS_DEFAULT = b"\x01\x05\x02\x02\x05\x04"
"""pmin, pmax, pcur, dmin, dmax, dcur of a Consul agent."""

META_BYTES_MAX = 512
MESSAGE_BYTES_MAX = 20 << 20
"""Decoded bytes of one stream message; an encrypted one may be no longer."""
STREAMS_MAX = 128
"""Incoming streams a shell serves at a time; it closes what is beyond."""


class GossipError(ConsulError):
    """A gossip operation could not be done."""


class MergeRefusedError(GossipError):
    """The layer above (or the protocol versions) refuses nodes."""


class DecodeError(GossipError):
    """Bytes from another node are malformed, oversized, or fail to decrypt."""


class MessageType(IntEnum):
    """First byte of a message."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    CRC = 12
    ERROR = 13
    LABEL = 244


class NodeState(IntEnum):
    """State of a node; the numbers are those of push/pull."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Tunables; durations in seconds. Presets: ``LAN``, ``WAN``, ``LOCAL``."""

    tcp_timeout: float = 10.0
    """Whole exchange over a stream."""
    indirect_checks: int = 3
    """Nodes asked to probe for us when a direct ping fails."""
    retransmit_mult: int = 4
    """A broadcast is sent ``retransmit_mult * ceil(log10(n + 1))`` times;
    events and queries more where that leaves nodes out: ``queue.sure_limit``."""
    suspicion_mult: int = 4
    """Shortest suspicion: ``suspicion_mult * log10(n) * probe_interval``."""
    suspicion_max_timeout_mult: int = 6
    """Longest suspicion, in shortest ones; used while nobody confirms."""
    push_pull_interval: float = 30.0
    """Between full exchanges with a random node; grows with log2 n above 32."""
    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    """Wait for a direct ack before asking others."""
    awareness_max_multiplier: int = 8
    """The probe interval is stretched at most this many times."""
    gossip_nodes: int = 3
    gossip_interval: float = 0.2
    gossip_to_the_dead_time: float = 30.0
    """How long the dead still get gossip (so that they can refute)."""
    dead_node_reclaim_time: float = 0.0
    """After it a dead node's name may come back with another address; 0: never."""
    udp_buffer_size: int = 1400
    """Largest packet built."""
    label: str = ""
    compression: bool = False
    """Compress what is sent, where that is shorter. Costs much more time than
    it saves on local networks; compressed packets are read in any case."""
    tcp_pings: bool = True
    """Ping over TCP too when a direct UDP ping fails."""
    verify_incoming: bool = True
    """With a keyring: drop what is not encrypted."""
    verify_outgoing: bool = True
    """With a keyring: encrypt what is sent."""


LAN = Settings()
WAN = Settings(
    tcp_timeout=30.0,
    suspicion_mult=6,
    push_pull_interval=60.0,
    probe_interval=5.0,
    probe_timeout=3.0,
    gossip_nodes=4,
    gossip_interval=0.5,
    gossip_to_the_dead_time=60.0,
)
LOCAL = Settings(
    tcp_timeout=1.0,
    indirect_checks=1,
    retransmit_mult=2,
    suspicion_mult=3,
    push_pull_interval=15.0,
    probe_timeout=0.2,
    gossip_interval=0.1,
    gossip_to_the_dead_time=15.0,
)


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A node as memberlist knows it; the core changes it in place."""

    name: str
    host: str
    port: int
    meta: bytes = b""
    versions: bytes = VERSIONS_DEFAULT
    """pmin, pmax, pcur, dmin, dmax, dcur; six bytes."""
    incarnation: int = 0
    state: NodeState = NodeState.ALIVE
    changed_at: float = 0.0

    @property
    def address(self) -> Address:
        """Where its packets and streams go."""
        return (self.host, self.port)

    @property
    def protocol_max(self) -> int:
        """Highest memberlist protocol it speaks; 3: TCP ping, 4: nack, 5: CRC."""
        return self.versions[1]


class Delegate(Protocol):
    """The layer above memberlist.

    The constructor of ``Memberlist`` already calls ``node_meta`` and
    ``on_join`` (for the local node).
    """

    def node_meta(self) -> bytes:
        """Return the local node's meta, at most ``META_BYTES_MAX`` bytes."""
        ...

    def on_message(self, payload: bytes) -> None:
        """Take a user message (without the type byte)."""
        ...

    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        """Return payloads to piggyback; sum of lengths + overheads <= limit."""
        ...

    def local_state(self, join: bool) -> bytes:
        """Return the user state for a push/pull."""
        ...

    def merge_state(self, state: bytes, join: bool) -> None:
        """Take the other side's user state."""
        ...

    def on_join(self, node: Node) -> None:
        """A node is alive that was not (or not known) before."""
        ...

    def on_leave(self, node: Node) -> None:
        """A node is dead or has left; ``node.state`` tells which."""
        ...

    def on_update(self, node: Node) -> None:
        """A node's meta changed."""
        ...

    def on_conflict(self, known: Node, other: Node) -> None:
        """Another address claims the name of a node that is known."""
        ...

    def check_alive(self, node: Node) -> None:
        """Raise ``MergeRefusedError`` to ignore an alive message."""
        ...

    def check_merge(self, nodes: list[Node]) -> None:
        """Raise ``MergeRefusedError`` to refuse a join's push/pull."""
        ...

    def ack_payload(self) -> bytes:
        """Return what to put in acks."""
        ...

    def on_ping(self, node: Node, rtt_s: float, payload: bytes) -> None:
        """A direct ping was answered."""
        ...


# Outputs.


class SendPacket(msgspec.Struct, frozen=True, gc=False):
    """Send one UDP packet."""

    address: Address
    data: bytes


class OpenStream(msgspec.Struct, frozen=True, gc=False):
    """Dial, write ``data``; then ``stream_done(id, message, now)``.

    ``message`` is what ``Memberlist.stream_reader(reply=True)`` gives;
    ``None`` when nothing came until ``deadline``. Without ``wants_reply``
    close after writing and report ``b""``.
    """

    id: int
    address: Address
    data: bytes
    wants_reply: bool
    deadline: float


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The join ``id`` is over; ``error`` is empty when it worked."""

    id: int
    error: str


class LeaveSent(msgspec.Struct, frozen=True, gc=False):
    """The leave was told often enough; the node may shut down."""


Output: TypeAlias = SendPacket | OpenStream | Joined | LeaveSent


# Messages on the wire.


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Type 0; an empty ``source_host`` means the packet's source."""

    seq: int
    node: str = ""
    source_host: str = ""
    source_port: int = 0
    source_node: str = ""


class IndirectPing(msgspec.Struct, frozen=True, gc=False):
    """Type 1: "ping the target for me"."""

    seq: int
    target_host: str
    target_port: int
    node: str
    nack: bool = False
    source_host: str = ""
    source_port: int = 0
    source_node: str = ""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Type 2."""

    seq: int
    payload: bytes = b""


class Nack(msgspec.Struct, frozen=True, gc=False):
    """Type 11."""

    seq: int


class Suspect(msgspec.Struct, frozen=True, gc=False):
    """Type 3: ``accuser`` believes ``node`` failed."""

    incarnation: int
    node: str
    accuser: str


class Alive(msgspec.Struct, frozen=True, gc=False):
    """Type 4."""

    incarnation: int
    node: str
    host: str
    port: int
    meta: bytes
    versions: bytes


class Dead(msgspec.Struct, frozen=True, gc=False):
    """Type 5; ``accuser == node`` means that it left."""

    incarnation: int
    node: str
    accuser: str


class RemoteNode(msgspec.Struct, frozen=True, gc=False):
    """One node of a push/pull."""

    name: str
    host: str
    port: int
    meta: bytes
    incarnation: int
    state: NodeState
    versions: bytes


class PushPull(msgspec.Struct, frozen=True):
    """Type 6: all nodes and the user state of one side."""

    join: bool
    nodes: list[RemoteNode]
    user_state: bytes
