"""The failure detector (``wire-gossip.md`` 7.2).

A ping; without an ack in time indirect pings and one over TCP; without any
answer until the interval's end, suspicion. Also answers others' pings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pyconsul.gossip.awareness import Awareness
from pyconsul.gossip.codec import (
    encode_ack,
    encode_indirect_ping,
    encode_nack,
    encode_ping,
    encode_suspect,
)
from pyconsul.gossip.messages import (
    Ack,
    Address,
    Delegate,
    IndirectPing,
    Nack,
    Node,
    NodeState,
    Ping,
    Settings,
    Suspect,
)
from pyconsul.gossip.outbox import CRC_PROTOCOL, Outbox
from pyconsul.gossip.rules import StateRules
from pyconsul.gossip.table import NodeTable
from pyconsul.gossip.timers import Timer, Timers

TCP_PING_PROTOCOL = 3
NACK_PROTOCOL = 4
RELAYS_MAX = 4096
"""Indirect pings served at a time; more are ignored."""
SEQ_MAX = 0xFFFFFFFF
NACK_PART = 0.8
"""When a relay gives up, in probe timeouts (the Lifeguard paper's figure). A
whole one would bring the nack just after the end of the requester's probe."""


@dataclass(slots=True, eq=False)
class Probe:
    """A probe under way."""

    node: Node
    seq: int
    incarnation: int
    sent_at: float
    deadline: float
    timer: Timer | None = None
    direct: bool = True  # nobody else was asked yet
    nacks_expected: int = 0
    nacks: int = 0
    tcp_answered: bool = False


@dataclass(slots=True, eq=False)
class _Relay:
    """A ping made for someone else."""

    requester: Address
    seq: int
    timer: Timer | None = None


@dataclass(slots=True)
class _Pending:
    probes: dict[int, Probe] = field(default_factory=dict[int, Probe])
    relays: dict[int, _Relay] = field(default_factory=dict[int, _Relay])


class Prober:
    """Probes one node after the other, and serves the probes of others."""

    def __init__(
        self,
        local: Node,
        settings: Settings,
        delegate: Delegate,
        table: NodeTable,
        outbox: Outbox,
        timers: Timers,
        awareness: Awareness,
        rules: StateRules,
        rng: random.Random,
    ) -> None:
        self._local = local
        self._settings = settings
        self._delegate = delegate
        self._table = table
        self._outbox = outbox
        self._timers = timers
        self._awareness = awareness
        self._rules = rules
        self._rng = rng
        self._seq = 0
        self._pending = _Pending()
        self._tcp_pings: dict[int, Probe] = {}  # by stream id

    def start(self, now: float) -> None:
        """Begin after a random part of the interval: nodes must not march."""
        delay_s = self._rng.random() * self._settings.probe_interval
        self._timers.at(now + delay_s, self._next)

    def _next(self, now: float) -> None:
        interval_s = self._awareness.scaled(self._settings.probe_interval)
        self._timers.at(now + interval_s, self._next)
        node = self._table.next_target(now, self._settings.gossip_to_the_dead_time)
        if node is not None:
            self._begin(node, now, now + interval_s)

    def _begin(self, node: Node, now: float, deadline: float) -> None:
        probe = Probe(node, self._next_seq(), node.incarnation, now, deadline)
        self._pending.probes[probe.seq] = probe
        ping = self._ping(probe.seq, node.name)
        if node.state is NodeState.ALIVE:
            self._outbox.direct(node.address, ping)
        else:
            # It hears at once that it is suspected, and can refute.
            suspect = Suspect(node.incarnation, node.name, self._local.name)
            crc = node.protocol_max >= CRC_PROTOCOL
            messages = [ping, encode_suspect(suspect)]
            self._outbox.compound(node.address, messages, crc=crc)
        wait_s = self._settings.probe_timeout
        probe.timer = self._timers.at(
            min(now + wait_s, deadline), lambda then: self._ask_others(probe, then)
        )

    def _next_seq(self) -> int:
        self._seq = self._seq % SEQ_MAX + 1
        return self._seq

    def _ping(self, seq: int, name: str) -> bytes:
        local = self._local
        return encode_ping(Ping(seq, name, local.host, local.port, local.name))

    def _ask_others(self, probe: Probe, now: float) -> None:
        probe.direct = False
        node, local = probe.node, self._local
        count = self._settings.indirect_checks
        for peer in self._table.alive.pick(self._rng, count, skip=node):
            nack = peer.protocol_max >= NACK_PROTOCOL
            probe.nacks_expected += nack
            message = IndirectPing(
                probe.seq,
                node.host,
                node.port,
                node.name,
                nack,
                local.host,
                local.port,
                local.name,
            )
            self._outbox.direct(peer.address, encode_indirect_ping(message))
        if self._settings.tcp_pings and node.protocol_max >= TCP_PING_PROTOCOL:
            ping = self._ping(probe.seq, node.name)
            stream_id = self._outbox.stream(
                node.address, ping, probe.deadline, wants_reply=True
            )
            self._tcp_pings[stream_id] = probe
        probe.timer = self._timers.at(
            probe.deadline, lambda then: self._finish(probe, then)
        )

    def _finish(self, probe: Probe, now: float) -> None:
        del self._pending.probes[probe.seq]
        if probe.tcp_answered:
            self._awareness.apply(-1)
            return
        if probe.nacks_expected:
            self._awareness.apply(max(0, probe.nacks_expected - probe.nacks))
        else:
            self._awareness.apply(1)
        name = probe.node.name
        suspect = Suspect(probe.incarnation, name, self._local.name)
        self._rules.suspect(suspect, now)

    # Answers to our pings.

    def on_ack(self, ack: Ack, now: float) -> None:
        """Take an ack; the first for a ping counts, if it is in time."""
        probe = self._pending.probes.pop(ack.seq, None)
        if probe is not None:
            if probe.timer is not None:
                probe.timer.cancel()
            self._awareness.apply(-1)
            if probe.direct:
                rtt_s = now - probe.sent_at
                self._delegate.on_ping(probe.node, rtt_s, ack.payload)
            return
        relay = self._pending.relays.pop(ack.seq, None)
        if relay is not None:
            if relay.timer is not None:
                relay.timer.cancel()
            self._outbox.direct(relay.requester, encode_ack(Ack(relay.seq)))

    def on_nack(self, nack: Nack) -> None:
        """Take a nack: a peer works, but did not reach the node either."""
        probe = self._pending.probes.get(nack.seq)
        if probe is not None:
            probe.nacks += 1

    def on_stream(self, stream_id: int, ack: Ack | None) -> bool:
        """End a TCP ping; whether the stream was one."""
        probe = self._tcp_pings.pop(stream_id, None)
        if probe is None:
            return False
        probe.tcp_answered = ack is not None and ack.seq == probe.seq
        return True

    # Pings of others.

    def on_ping(self, ping: Ping, source: Address) -> None:
        """Answer a ping, unless it is meant for a node of another name."""
        if ping.node and ping.node != self._local.name:
            return
        address = _answer_to(ping.source_host, ping.source_port, source)
        payload = self._delegate.ack_payload()
        self._outbox.direct(address, encode_ack(Ack(ping.seq, payload)))

    def on_indirect_ping(
        self, request: IndirectPing, source: Address, now: float
    ) -> None:
        """Ping the target for someone else; its ack or a nack goes back."""
        relays = self._pending.relays
        if len(relays) >= RELAYS_MAX or not request.target_host:
            return
        requester = _answer_to(request.source_host, request.source_port, source)
        relay = _Relay(requester, request.seq)
        seq = self._next_seq()
        relays[seq] = relay
        target = (request.target_host, request.target_port or self._local.port)
        self._outbox.direct(target, self._ping(seq, request.node))

        timeout_s = self._settings.probe_timeout

        def expire(_: float) -> None:
            del relays[seq]

        def give_up(_: float) -> None:
            self._outbox.direct(requester, encode_nack(Nack(request.seq)))
            # An ack that comes yet is still worth passing on.
            relay.timer = self._timers.at(now + timeout_s, expire)

        if request.nack:
            relay.timer = self._timers.at(now + NACK_PART * timeout_s, give_up)
        else:
            relay.timer = self._timers.at(now + timeout_s, expire)


def _answer_to(host: str, port: int, source: Address) -> Address:
    return (host, port) if host and port else source
