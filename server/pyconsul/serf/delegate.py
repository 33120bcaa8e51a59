"""What memberlist asks and tells: a ``Serf``'s ``gossip.messages.Delegate``.

Everything that comes from other nodes comes through here; what cannot be read
is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from pyconsul.gossip import messages as gossip
from pyconsul.gossip.queue import sure_limit
from pyconsul.serf import codec, coordinate
from pyconsul.serf.asking import Asking
from pyconsul.serf.broadcasts import BroadcastQueue
from pyconsul.serf.clock import LamportClock
from pyconsul.serf.events import EventBuffer
from pyconsul.serf.host import Host
from pyconsul.serf.member import Member, Status, UserEvent
from pyconsul.serf.members import MemberTable, member_of
from pyconsul.serf.messages import (
    EventMessage,
    JoinIntent,
    Kind,
    LeaveIntent,
    PushPull,
    Query,
)
from pyconsul.serf.outputs import NameConflict
from pyconsul.serf.queries import Search
from pyconsul.serf.rejoining import Rejoining
from pyconsul.types.gomsgpack import MsgpackError

MergeCheck = Callable[[Sequence[Member]], None]
"""Raises ``MergeRefusedError`` when one of the members must stay outside."""

_RELAY = bytes((Kind.RELAY,))
_STATUSES = {
    gossip.NodeState.DEAD: Status.FAILED,
    gossip.NodeState.LEFT: Status.LEFT,
}
"""Of nodes that are not alive; one that is suspected is."""


class PoolDelegate:
    """The network's side of a ``Serf``, with the clocks, queues and buffers."""

    def __init__(
        self,
        host: Host,
        table: MemberTable,
        rejoining: Rejoining,
        *,
        meta: bytes,
        merge: MergeCheck | None,
        search: Search,
        ignores_old: Callable[[], bool],
    ) -> None:
        """``ignores_old``: whether a join under way wants no old events."""
        self.meta = meta
        self.ignores_old = ignores_old
        self.event_clock = LamportClock()
        self.events = EventBuffer(host.settings.event_buffer_slots)
        self.intents = BroadcastQueue()
        self.queries = BroadcastQueue()
        self.user_events = BroadcastQueue()
        self.asking = Asking(host, table, self.queries, search)
        self.coordinates = coordinate.CoordinateClient(host.rng)
        self._host = host
        self._table = table
        self._rejoining = rejoining
        self._merge = merge
        self._ack = b""
        self._peer_acks: dict[str, bytes] = {}  # coordinates, as they came

    @property
    def queues(self) -> tuple[BroadcastQueue, BroadcastQueue, BroadcastQueue]:
        """In the order in which they get space."""
        return self.intents, self.queries, self.user_events

    def coordinate_of(self, name: str) -> coordinate.Coord | None:
        """Return a member's coordinate as last seen in a ping's ack."""
        if name == self._host.name:
            return self.coordinates.coordinate
        return coordinate.decode_ack(self._peer_acks.get(name, b""))

    def forget(self, name: str) -> None:
        """Drop what is kept about a member."""
        self.coordinates.forget(name)
        self._peer_acks.pop(name, None)

    def node_meta(self) -> bytes:
        """Return the encoded tags."""
        return self.meta

    def on_message(self, payload: bytes) -> None:
        """Take a Serf message; what cannot be read is dropped."""
        try:
            if payload[:1] == _RELAY:
                address, inner = codec.decode_relay(payload)
                # Relays of relays would only serve to send us in circles.
                if inner[:1] not in (b"", _RELAY):
                    self._host.send(address, inner)
                return
            message = codec.decode(payload)
        except MsgpackError:
            return
        if isinstance(message, EventMessage):
            if self.take_event(message):
                self.user_events.add(payload)
        elif isinstance(message, Query):
            if self.asking.take_query(message):
                self.queries.add(payload)
        elif isinstance(message, LeaveIntent):
            if self._table.leave_intent(message, self._host.now):
                self.intents.add(payload)
        elif isinstance(message, JoinIntent):
            if self._table.join_intent(message, self._host.now):
                self.intents.add(payload)
        else:
            self.asking.take_response(message)

    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        """Return intents, then queries, then events, as space allows."""
        if not (self.intents or self.queries or self.user_events):
            return []
        mult = self._host.memberlist_settings.retransmit_mult
        transmits_max = sure_limit(mult, len(self._table))
        taken: list[bytes] = []
        for queue in self.queues:
            found = queue.take(overhead, limit, transmits_max)
            limit -= sum(map(len, found)) + overhead * len(found)
            taken += found
        return taken

    def local_state(self, join: bool) -> bytes:
        """Return clocks, status times and recent events (8.3)."""
        state = PushPull(
            ltime=self._table.clock.time,
            status_ltimes={
                name: state.status_ltime for name, state in self._table.states.items()
            },
            left_members=list(self._table.left),
            event_ltime=self.event_clock.time,
            # Only the slots in use: readers go through the array, whatever its
            # length, and an idle pool need not send 512 times nil.
            events=self.events.recent(),
            query_ltime=self.asking.clock.time,
        )
        return codec.encode_push_pull(state)

    def merge_state(self, state: bytes, join: bool) -> None:
        """Take the other side's clocks, status times and events (8.3)."""
        try:
            remote = codec.decode_push_pull(state)
        except MsgpackError:
            return
        # The clocks are one ahead of what was seen.
        self._table.clock.witness(remote.ltime - 1)
        self.event_clock.witness(remote.event_ltime - 1)
        self.asking.clock.witness(remote.query_ltime - 1)
        left = dict.fromkeys(remote.left_members)  # in order, each once
        for name in left:
            # One more than the join it ends, in case we missed the intent.
            ltime = remote.status_ltimes.get(name, 0) + 1
            intent = LeaveIntent(ltime=ltime, node=name)
            if self._table.leave_intent(intent, self._host.now):
                self._tell_accused(intent)
        for name, ltime in remote.status_ltimes.items():
            if name not in left and self._table.is_news(name, ltime):
                self._table.join_intent(
                    JoinIntent(ltime=ltime, node=name), self._host.now
                )
        if join and self.ignores_old():
            self.events.minimum = max(self.events.minimum, remote.event_ltime)
        for events in remote.events:
            for event in events.events:
                self.take_event(
                    EventMessage(
                        ltime=events.ltime, name=event.name, payload=event.payload
                    )
                )

    def _tell_accused(self, intent: LeaveIntent) -> None:
        """Let a live member refute what an old tombstone says of it.

        It may have come back since; without a word of its own it would stay
        *leaving* here for ever.
        """
        member = self._table.get(intent.node)
        if member is not None and member.status is Status.LEAVING:
            payload = codec.encode(intent)
            self._host.send((member.host, member.port), payload)
            self.intents.add(payload)

    def on_join(self, node: gossip.Node) -> None:
        """A node is alive that was not before."""
        self._table.joined(node)

    def on_leave(self, node: gossip.Node) -> None:
        """A node is dead or left."""
        self._table.gone(node, self._host.now)

    def on_update(self, node: gossip.Node) -> None:
        """A node's tags changed."""
        self._table.updated(node)

    def on_conflict(self, known: gossip.Node, other: gossip.Node) -> None:
        """Another address claims a name; if it is ours, ask the pool."""
        self._host.emit(
            NameConflict(name=known.name, known=known.address, other=other.address)
        )
        if known.name == self._host.name and self._host.settings.resolve_conflicts:
            self.asking.ask_conflict()

    def check_alive(self, node: gossip.Node) -> None:
        """Raise ``MergeRefusedError`` to ignore an alive message."""
        if self._merge is not None:
            self._merge([member_of(node)])

    def check_merge(self, nodes: list[gossip.Node]) -> None:
        """Raise ``MergeRefusedError`` to refuse a join."""
        if self._merge is not None:
            self._merge([_claimed(node) for node in nodes])

    def ack_payload(self) -> bytes:
        """Return our coordinate."""
        if not self._ack and self._host.settings.coordinates:
            self._ack = coordinate.encode_ack(self.coordinates.coordinate)
        return self._ack

    def on_ping(self, node: gossip.Node, rtt_s: float, payload: bytes) -> None:
        """Learn from a direct ping."""
        if not self._host.settings.coordinates:
            return
        other = coordinate.decode_ack(payload)
        if other is None or node.name not in self._table.states:
            return
        if self.coordinates.update(node.name, other, rtt_s):
            self._peer_acks[node.name] = payload
            self._ack = b""

    def take_event(self, message: EventMessage) -> bool:
        """Deliver an event unless it is known; tells whether it was not."""
        self.event_clock.witness(message.ltime)
        if not self.events.add(message, self.event_clock.time):
            return False
        self._rejoining.note_event(message.ltime)
        self._host.emit(
            UserEvent(
                ltime=message.ltime,
                name=message.name,
                payload=message.payload,
                coalesce=message.coalesce,
            )
        )
        return True


def _claimed(node: gossip.Node) -> Member:
    """Return a node of another's list, with the status it has there."""
    member = member_of(node)
    status = _STATUSES.get(node.state)
    return member if status is None else replace(member, status=status)
