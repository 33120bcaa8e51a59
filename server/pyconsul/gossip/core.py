"""Memberlist without I/O: who is alive, and telling everyone.

The shell hands in packets, streams and the time, sends what ``take_outputs``
gives after each call, and calls ``tick`` at ``next_deadline``. The parts:
``rules`` decides about nodes, ``probe`` detects failures, ``merge`` exchanges
whole states, ``outbox`` sends. Source: ``wire-gossip.md`` 1 to 7.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pyconsul.gossip.awareness import Awareness
from pyconsul.gossip.codec import (
    decode_ack,
    decode_alive,
    decode_dead,
    decode_error,
    decode_indirect_ping,
    decode_nack,
    decode_ping,
    decode_push_pull,
    decode_suspect,
    decode_user_stream,
    encode_ack,
    encode_error,
)
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.merge import Merger, push_pull_interval_s
from pyconsul.gossip.messages import (
    META_BYTES_MAX,
    VERSIONS_DEFAULT,
    Ack,
    Address,
    DecodeError,
    Delegate,
    GossipError,
    Joined,
    MergeRefusedError,
    MessageType,
    Node,
    NodeState,
    Output,
    Settings,
)
from pyconsul.gossip.outbox import CRC_PROTOCOL, Outbox
from pyconsul.gossip.packet import LABEL_BYTES_MAX, open_packet
from pyconsul.gossip.probe import Prober
from pyconsul.gossip.rules import StateRules
from pyconsul.gossip.stream import StreamReader
from pyconsul.gossip.table import NodeTable
from pyconsul.gossip.timers import Timers

_PING = MessageType.PING.value
_INDIRECT_PING = MessageType.INDIRECT_PING.value
_ACK = MessageType.ACK.value
_SUSPECT = MessageType.SUSPECT.value
_ALIVE = MessageType.ALIVE.value
_DEAD = MessageType.DEAD.value
_PUSH_PULL = MessageType.PUSH_PULL.value
_USER = MessageType.USER.value
_NACK = MessageType.NACK.value
_ERROR = MessageType.ERROR.value


@dataclass(slots=True)
class _Exchange:
    """A push/pull that we began."""

    address: Address
    node_name: str
    join: bool


class Memberlist:
    """One node of a gossip pool.

    ``host`` and ``port`` are what others are told (the advertised address).
    The constructor calls ``delegate.node_meta`` and ``delegate.on_join`` for
    the local node. Raises ``GossipError`` for meta or a label too long.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        settings: Settings,
        keyring: Keyring,
        delegate: Delegate,
        rng: random.Random,
        now: float,
        versions: bytes = VERSIONS_DEFAULT,
    ) -> None:
        if len(settings.label.encode()) > LABEL_BYTES_MAX:
            raise GossipError(f"label is longer than {LABEL_BYTES_MAX} bytes")
        self._settings = settings
        self._keyring = keyring
        self._delegate = delegate
        self._rng = rng
        self._exchanges: dict[int, _Exchange] = {}  # by stream id
        self.packets_dropped = 0
        """Packets and messages that did not decode, decrypt, or fit the label."""
        self.merges_refused = 0
        """Push/pulls of others that were not merged."""

        table = self._table = NodeTable(rng)
        self.nodes = table.nodes
        """Every known node by name, the dead and left ones included."""
        self.local = Node(
            name=name, host=host, port=port, versions=versions, changed_at=now
        )
        table.add_local(self.local)
        timers = self._timers = Timers()
        awareness = self._awareness = Awareness(settings.awareness_max_multiplier)
        outbox = self._outbox = Outbox(settings, keyring, delegate, table)
        self._rules = StateRules(
            self.local, settings, delegate, table, outbox, timers, awareness
        )
        self._prober = Prober(
            self.local,
            settings,
            delegate,
            table,
            outbox,
            timers,
            awareness,
            self._rules,
            rng,
        )
        self._merger = Merger(self.local, delegate, table, self._rules)

        self._read_meta()
        self._rules.announce(now)
        delegate.on_join(self.local)
        self._prober.start(now)
        timers.at(now + rng.random() * settings.gossip_interval, self._gossip)
        interval_s = settings.push_pull_interval
        timers.at(now + rng.random() * interval_s, self._push_pull)

    # Time.

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._timers.run(now)

    def next_deadline(self) -> float:
        """Return when ``tick`` is due next."""
        return self._timers.next_deadline()

    def take_outputs(self) -> list[Output]:
        """Return and forget what is to be done, in order."""
        outputs = self._outbox.outputs
        if not outputs:
            return []
        taken = outputs.copy()
        outputs.clear()
        return taken

    def _gossip(self, now: float) -> None:
        settings = self._settings
        self._timers.at(now + settings.gossip_interval, self._gossip)
        candidates = self._table.gossip
        if not candidates:
            return
        messages = self._outbox.broadcasts()
        if not messages:
            return
        for node in candidates.turns(self._rng, settings.gossip_nodes):
            # Each gets its own: what it says counts as sent once.
            messages = messages or self._outbox.broadcasts()
            if not messages:
                return
            crc = node.protocol_max >= CRC_PROTOCOL
            self._outbox.compound(node.address, messages, crc=crc)
            messages = []

    def _push_pull(self, now: float) -> None:
        interval_s = push_pull_interval_s(
            self._settings.push_pull_interval, len(self.nodes)
        )
        self._timers.at(now + interval_s, self._push_pull)
        for node in self._table.alive.pick(self._rng, 1):
            self._exchange(node.address, node.name, False, now)

    def _exchange(self, address: Address, name: str, join: bool, now: float) -> int:
        message = self._merger.local_message(join)
        deadline = now + self._settings.tcp_timeout
        stream_id = self._outbox.stream(address, message, deadline, wants_reply=True)
        self._exchanges[stream_id] = _Exchange(address, name, join)
        return stream_id

    # Packets.

    def receive_packet(self, data: bytes, source: Address, now: float) -> None:
        """Take a UDP packet; what cannot be understood is dropped."""
        try:
            messages = open_packet(data, self._keyring, self._settings)
        except DecodeError:
            self.packets_dropped += 1
            return
        for message in messages:
            try:
                self._handle(message, source, now)
            except DecodeError:  # one bad part does not spoil the others
                self.packets_dropped += 1

    def _handle(self, message: bytes, source: Address, now: float) -> None:
        kind = message[0]
        if kind == _USER:
            self._delegate.on_message(message[1:])
            return
        body = message[1:]
        if kind == _ACK:
            self._prober.on_ack(decode_ack(body), now)
        elif kind == _PING:
            self._prober.on_ping(decode_ping(body), source)
        elif kind == _ALIVE:
            self._rules.alive(decode_alive(body), now)
        elif kind == _SUSPECT:
            self._rules.suspect(decode_suspect(body), now)
        elif kind == _DEAD:
            self._rules.dead(decode_dead(body), now)
        elif kind == _INDIRECT_PING:
            self._prober.on_indirect_ping(decode_indirect_ping(body), source, now)
        elif kind == _NACK:
            self._prober.on_nack(decode_nack(body))
        else:
            raise DecodeError(f"message type {kind} in a packet")

    def send_user(self, address: Address, payload: bytes) -> None:
        """Send a user message in a packet (unreliable, not piggybacked)."""
        self._outbox.packet(address, bytes((_USER,)) + payload)

    # Streams.

    def stream_reader(self, *, reply: bool = False) -> StreamReader:
        """Return a reader for a stream: incoming, or ``reply`` to ours."""
        settings = self._settings
        return StreamReader(
            self._keyring,
            settings.label,
            reply=reply,
            verify_incoming=settings.verify_incoming,
            verify_outgoing=settings.verify_outgoing,
        )

    def receive_stream(self, message: bytes, now: float) -> bytes | None:
        """Take an incoming stream's message; return the bytes to answer."""
        try:
            return self._serve(message, now)
        except DecodeError as error:
            return self._outbox.answer(encode_error(str(error)))

    def _serve(self, message: bytes, now: float) -> bytes | None:
        kind, body = message[0], message[1:]
        if kind == _PUSH_PULL:
            remote = decode_push_pull(body)
            # Before the merge: the other side merges what we knew until now.
            answer = self._outbox.answer(self._merger.local_message(remote.join))
            try:
                self._merger.merge(remote, now)
            except MergeRefusedError:
                self.merges_refused += 1
            return answer
        if kind == _PING:
            ping = decode_ping(body)
            if ping.node and ping.node != self.local.name:
                return None
            return self._outbox.answer(encode_ack(Ack(ping.seq)))
        if kind == _USER:
            self._delegate.on_message(decode_user_stream(body))
            return None
        raise DecodeError(f"message type {kind} in a stream")

    def stream_done(self, stream_id: int, reply: bytes | None, now: float) -> None:
        """End an ``OpenStream``; ``reply`` is the reader's message or ``None``."""
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is None:
            self._prober.on_stream(stream_id, _ack_in(reply))
            return
        error = ""
        try:
            self._finish_exchange(reply, now)
        except GossipError as problem:
            error = str(problem)
        if exchange.join:
            if error:
                host, port = exchange.address
                where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                if exchange.node_name:
                    error = f"{error} (node '{exchange.node_name}')"
                error = f"Failed to join {where}: {error}"
            self._outbox.outputs.append(Joined(stream_id, error))

    def _finish_exchange(self, reply: bytes | None, now: float) -> None:
        if not reply:
            raise GossipError("no answer")
        kind, body = reply[0], reply[1:]
        if kind == _ERROR:
            raise GossipError(f"remote error: {decode_error(body)}")
        if kind != _PUSH_PULL:
            raise GossipError(f"received invalid msgType ({kind})")
        self._merger.merge(decode_push_pull(body), now)

    # What the layer above asks for.

    def join(self, address: Address, now: float, *, node_name: str = "") -> int:
        """Push/pull with an address; ``Joined(id, error)`` tells the end.

        ``node_name`` only makes the error clearer.
        """
        return self._exchange(address, node_name, True, now)

    def update_meta(self, now: float) -> None:
        """Broadcast the delegate's new ``node_meta``, unless we are leaving.

        Raises ``GossipError`` when it is too long.
        """
        if self._rules.leaving:
            return
        before = self.local.meta
        self._read_meta()
        self._rules.announce(now)
        if self.local.meta != before:
            self._delegate.on_update(self.local)

    def _read_meta(self) -> None:
        meta = self._delegate.node_meta()
        if len(meta) > META_BYTES_MAX:
            raise GossipError(
                f"Encoded length of tags exceeds limit of {META_BYTES_MAX} bytes"
            )
        self.local.meta = meta

    def leave(self, now: float) -> None:
        """Tell that we leave; ``LeaveSent`` follows. Keep running until then."""
        self._rules.leave(now)

    def alive_nodes(self) -> list[Node]:
        """Return nodes that are alive or suspect, the local one included."""
        nodes = self.nodes.values()
        return [node for node in nodes if node.state <= NodeState.SUSPECT]

    @property
    def health_score(self) -> int:
        """0 is healthy; at most ``awareness_max_multiplier - 1``."""
        return self._awareness.score

    @property
    def queue_length(self) -> int:
        """Memberlist's own broadcasts that wait to be sent."""
        return len(self._outbox.queue)


def _ack_in(reply: bytes | None) -> Ack | None:
    if not reply or reply[0] != _ACK:
        return None
    try:
        return decode_ack(reply[1:])
    except DecodeError:
        return None
