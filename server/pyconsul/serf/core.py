"""Serf, pure: membership with intents, user events and queries (section 8).

A ``Serf`` owns a memberlist and is its delegate. Bytes, ends of streams and
``now`` go in; outputs (``take_outputs``) come out in the order they must take
effect. Nothing here does I/O; randomness comes from the ``rng`` given. The
query side is in ``asking.py``, the leave in ``leaving.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from enum import Enum
from heapq import heappop, heappush

from pyconsul.gossip import messages as gossip
from pyconsul.gossip.core import Memberlist
from pyconsul.gossip.keyring import Keyring
from pyconsul.serf import codec
from pyconsul.serf.delegate import MergeCheck, PoolDelegate
from pyconsul.serf.leaving import Leaving
from pyconsul.serf.member import Member, MemberEvent, Status, UserEvent
from pyconsul.serf.members import MemberTable
from pyconsul.serf.messages import (
    EventMessage,
    JoinIntent,
    LeaveIntent,
)
from pyconsul.serf.outputs import OwnOutput, QueryEvent
from pyconsul.serf.queries import QueryParams, Search, simple_search
from pyconsul.serf.rejoining import Rejoining
from pyconsul.serf.settings import USER_EVENT_BYTES_MAX, Settings
from pyconsul.serf.snapshot import SnapshotState
from pyconsul.serf.tags import encode_tags
from pyconsul.types.coordinates import Coord
from pyconsul.types.errors import ConfigError, TooLargeError

Output = gossip.Output | MemberEvent | UserEvent | OwnOutput

__all__ = ["MergeCheck", "Output", "QueryParams", "Serf", "SerfState"]


class SerfState(Enum):
    """How far a node is from having left."""

    ALIVE = "alive"
    LEAVING = "leaving"
    LEFT = "left"


class Serf:
    """One node of a pool."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        settings: Settings,
        memberlist_settings: gossip.Settings,
        keyring: Keyring | None,
        tags: Mapping[str, str],
        rng: random.Random,
        now: float,
        snapshot: SnapshotState | None = None,
        merge: MergeCheck | None = None,
        search: Search = simple_search,
        versions: bytes = gossip.VERSIONS_DEFAULT,
    ) -> None:
        """Start alone; with a ``snapshot`` (even an empty one), write its lines
        and try to rejoin its members. ``search`` matches tag filters.

        Raises ``TooLargeError`` for the tags, ``ConfigError`` for the settings.
        """
        if settings.user_event_bytes_max > USER_EVENT_BYTES_MAX:
            raise ConfigError(
                f"user event size limit exceeds limit of {USER_EVENT_BYTES_MAX} bytes"
            )
        self.name = name
        self.address = (host, port)
        self.settings = settings
        self.memberlist_settings = memberlist_settings
        self.keyring = Keyring() if keyring is None else keyring
        self.rng = rng
        self.now = now
        self._outputs: list[Output] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._joins: dict[int, bool] = {}  # by id: whether old events are ignored
        self._own_joins: dict[int, Callable[[str], None]] = {}
        self._table = MemberTable(
            name,
            settings,
            emit=self._on_member_event,
            on_accused=self._tell_join,
            on_prune=self._prune,
            on_forgotten=self._forget,
        )
        self._leaving = Leaving(self, self._table)
        self._rejoining = Rejoining(self, self._table, writes=snapshot is not None)
        self.delegate = PoolDelegate(
            self,
            self._table,
            self._rejoining,
            meta=encode_tags(tags),
            merge=merge,
            search=search,
            ignores_old=lambda: any(self._joins.values()),
        )
        self._asking = self.delegate.asking
        if snapshot is not None:
            self._restore(snapshot)
        self.memberlist = Memberlist(
            name,
            host,
            port,
            settings=memberlist_settings,
            keyring=self.keyring,
            delegate=self.delegate,
            rng=rng,
            now=now,
            versions=versions,
        )
        self._every(settings.reap_interval_s, self._reap)
        self._every(settings.reconnect_interval_s, self._rejoining.reconnect)
        self._every(settings.queue_check_interval_s, self._check_queues)
        self._finish()

    # Inputs: those of the memberlist.

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        self.memberlist.tick(now)
        while self._timers and self._timers[0][0] <= now:
            heappop(self._timers)[2]()
        self._finish()

    def receive_packet(self, data: bytes, source: gossip.Address, now: float) -> None:
        """Take a UDP packet."""
        self.now = now
        self.memberlist.receive_packet(data, source, now)
        self._finish()

    def receive_stream(self, message: bytes, now: float) -> bytes | None:
        """Take an incoming stream's message; return the reply, if any."""
        self.now = now
        reply = self.memberlist.receive_stream(message, now)
        self._finish()
        return reply

    def stream_done(self, stream_id: int, reply: bytes | None, now: float) -> None:
        """Take the reply to an ``OpenStream``; ``None``: it failed."""
        self.now = now
        self.memberlist.stream_done(stream_id, reply, now)
        self._finish()

    def next_deadline(self) -> float:
        """Return when ``tick`` has something to do."""
        return min(self.memberlist.next_deadline(), self._timers[0][0])

    def take_outputs(self) -> list[Output]:
        """Return and forget the outputs so far, in order."""
        outputs = self._outputs
        self._outputs = []
        return outputs

    # Calls.

    def join(
        self,
        address: gossip.Address,
        now: float,
        *,
        node_name: str = "",
        ignore_old: bool = False,
    ) -> int:
        """Push/pull with a node; ``Joined`` with the returned id tells the end."""
        self.now = now
        join_id = self.memberlist.join(address, now, node_name=node_name)
        self._joins[join_id] = ignore_old
        self._finish()
        return join_id

    def leave(self, now: float) -> None:
        """Leave gracefully; ``LeaveDone`` tells the end. Again: no effect."""
        self.now = now
        if not self._leaving.has_begun:
            self._rejoining.note_leave()
            self._leaving.begin()
        self._finish()

    def force_leave(self, name: str, prune: bool, now: float) -> None:
        """Make a failed member a left one; with ``prune``, forget it."""
        self.now = now
        ltime = self._table.clock.increment()
        intent = LeaveIntent(ltime=ltime, node=name, prune=prune)
        self._table.leave_intent(intent, now)
        if self.has_alive_peers():
            self.delegate.intents.add(codec.encode(intent))
        self._finish()

    def set_tags(self, tags: Mapping[str, str], now: float) -> None:
        """Replace the tags and tell the pool; raises ``TooLargeError``."""
        self.now = now
        self.delegate.meta = encode_tags(tags)
        self.memberlist.update_meta(now)
        if self._table.states[self.name].member.tags != dict(tags):
            self._table.updated(self.memberlist.local)
        self._finish()

    def user_event(self, name: str, payload: bytes, coalesce: bool, now: float) -> None:
        """Send an event to all, ourselves too; raises ``TooLargeError``."""
        self.now = now
        limit = self.settings.user_event_bytes_max
        size = len(name.encode("utf-8", "surrogateescape")) + len(payload)
        what = "user event exceeds configured limit of {} bytes {} encoding"
        if size > limit:
            raise TooLargeError(what.format(limit, "before"))
        message = EventMessage(
            ltime=self.delegate.event_clock.time,
            name=name,
            payload=payload,
            coalesce=coalesce,
        )
        encoded = codec.encode(message)
        if len(encoded) > limit:
            raise TooLargeError(what.format(limit, "after"))
        self.delegate.event_clock.increment()
        self.delegate.take_event(message)
        self.delegate.user_events.add(encoded)
        self._finish()

    def query(self, params: QueryParams, now: float) -> int:
        """Ask all; ``QueryAck``, ``QueryAnswer`` and ``QueryDone`` carry the id.

        Raises ``TooLargeError`` and, for the relay factor, ``BadRequestError``.
        """
        self.now = now
        handle = self._asking.ask(params)
        self._finish()
        return handle

    def respond(self, query: QueryEvent, payload: bytes, now: float) -> None:
        """Answer a query, once; raises ``TooLargeError`` and ``ConsulError``."""
        self.now = now
        self._asking.respond(query, payload)
        self._finish()

    def key_operation(
        self, operation: str, key: str, now: float, *, relay_factor: int = 0
    ) -> int:
        """Ask all to ``list``, ``install``, ``use`` or ``remove`` a base64 key.

        ``KeysDone`` carries the id. Raises ``BadRequestError``.
        """
        self.now = now
        handle = self._asking.ask_keys(operation, key, relay_factor)
        self._finish()
        return handle

    # Views.

    @property
    def state(self) -> SerfState:
        """Whether this node stays, leaves or has left."""
        if not self._leaving.has_begun:
            return SerfState.ALIVE
        return SerfState.LEFT if self._leaving.is_over else SerfState.LEAVING

    def members(self) -> list[Member]:
        """Return all members, also failed and left ones."""
        return list(self._table)

    def member(self, name: str) -> Member | None:
        """Return one member."""
        return self._table.get(name)

    def local_member(self) -> Member:
        """Return this node."""
        return self._table.states[self.name].member

    @property
    def coordinate(self) -> Coord:
        """This node's network coordinate."""
        return self.delegate.coordinates.coordinate

    def coordinate_of(self, name: str) -> Coord | None:
        """Return a member's coordinate as last seen in a ping's ack."""
        return self.delegate.coordinate_of(name)

    @property
    def encrypted(self) -> bool:
        """Whether gossip is encrypted."""
        return bool(self.keyring)

    def stats(self) -> dict[str, str]:
        """Return what ``consul info`` shows of a pool."""
        numbers = {
            "coordinate_resets": self.delegate.coordinates.resets,
            "event_queue": len(self.delegate.user_events),
            "event_time": self.delegate.event_clock.time,
            "failed": len(self._table.failed),
            "health_score": self.memberlist.health_score,
            "intent_queue": len(self.delegate.intents),
            "left": len(self._table.left),
            "member_time": self._table.clock.time,
            "members": len(self._table),
            "query_queue": len(self.delegate.queries),
            "query_time": self._asking.clock.time,
        }
        stats = {key: str(number) for key, number in numbers.items()}
        stats["encrypted"] = "true" if self.encrypted else "false"
        return dict(sorted(stats.items()))

    # What the parts use (``host.Host``).

    def emit(self, output: OwnOutput | MemberEvent | UserEvent) -> None:
        """Add an output."""
        self._outputs.append(output)

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back in the first tick from ``when`` on."""
        self._timer_number += 1
        heappush(self._timers, (when, self._timer_number, callback))

    def send(self, address: gossip.Address, payload: bytes) -> None:
        """Send a Serf message to one node; to ourselves without a packet."""
        if address == self.address:
            self.delegate.on_message(payload)
        else:
            self.memberlist.send_user(address, payload)

    def has_alive_peers(self) -> bool:
        """Whether anybody else would hear us."""
        return any(node.name != self.name for node in self.memberlist.alive_nodes())

    def note_query(self, ltime: int) -> None:
        """Remember a query's time in the snapshot."""
        self._rejoining.note_query(ltime)

    def queue_intent(
        self, payload: bytes, done: Callable[[], None] | None = None
    ) -> None:
        """Broadcast an intent."""
        self.delegate.intents.add(payload, done)

    def join_quietly(
        self, name: str, address: gossip.Address, done: Callable[[str], None]
    ) -> None:
        """Join without an output; ``done`` gets the error, or an empty text."""
        join_id = self.memberlist.join(address, self.now, node_name=name)
        self._own_joins[join_id] = done

    # Inside.

    def _finish(self) -> None:
        for output in self.memberlist.take_outputs():
            if isinstance(output, gossip.Joined):
                self._joined(output)
            elif isinstance(output, gossip.LeaveSent):
                self._leaving.memberlist_left()
            else:
                self._outputs.append(output)
        self._rejoining.note_clock()

    def _joined(self, output: gossip.Joined) -> None:
        done = self._own_joins.pop(output.id, None)
        if done is not None:
            done(output.error)
            return
        self._joins.pop(output.id, None)
        if not output.error:
            self._tell_join()
        self._outputs.append(output)

    def _tell_join(self) -> None:
        """Broadcast that we are here, with a time newer than any of a leave."""
        intent = JoinIntent(ltime=self._table.clock.time, node=self.name)
        self._table.join_intent(intent, self.now)
        self.delegate.intents.add(codec.encode(intent))

    def _on_member_event(self, event: MemberEvent) -> None:
        self._rejoining.note_members(event)
        self.emit(event)

    def _prune(self, member: Member) -> None:
        if member.status is not Status.LEAVING:
            self._table.forget(member.name)
            return
        delay = (
            self.settings.broadcast_timeout_s + self.settings.leave_propagate_delay_s
        )
        self.at(self.now + delay, lambda: self._table.forget_unless_alive(member.name))

    def _forget(self, name: str) -> None:
        self.delegate.forget(name)

    def _reap(self) -> None:
        self._table.reap(self.now)

    def _check_queues(self) -> None:
        depth = self.settings.queue_depth_max
        if self.settings.queue_depth_min:
            depth = max(2 * len(self._table), self.settings.queue_depth_min)
        for queue in self.delegate.queues:
            queue.prune(depth)

    def _every(self, interval_s: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self.at(self.now + interval_s, run)
            call()

        self.at(self.now + interval_s, run)

    def _restore(self, snapshot: SnapshotState) -> None:
        self._table.clock.witness(snapshot.clock)
        self.delegate.event_clock.witness(snapshot.event_clock)
        self._asking.clock.witness(snapshot.query_clock)
        self.delegate.events.minimum = snapshot.event_clock + 1
        self._asking.buffer.minimum = snapshot.query_clock + 1
        self._rejoining.begin(snapshot)
