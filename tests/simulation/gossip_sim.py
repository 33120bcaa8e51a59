"""Many production Serf cores on virtual time and a seeded network.

The simulator is the shell: it moves packets and streams between cores, fires
their timers, and watches. Nothing of ``gossip`` or ``serf`` is replaced.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sim_network import Clock, Machine, Network, Weather

from pyconsul.gossip.codec import encode_push_pull
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    LAN,
    Joined,
    Node,
    NodeState,
    OpenStream,
    RemoteNode,
    SendPacket,
    Settings,
)
from pyconsul.gossip.stream import StreamError, StreamReader
from pyconsul.serf.core import Serf
from pyconsul.serf.member import MemberEvent, Status, UserEvent
from pyconsul.serf.outputs import QueryAnswer, QueryDone, QueryEvent
from pyconsul.serf.settings import CONSUL
from pyconsul.serf.settings import Settings as SerfSettings
from pyconsul.serf.snapshot import SnapshotState

PORT = 8301
FIRST_TICK_SPREAD_S = 1.0


@dataclass
class SimNode:
    """One machine with an agent's pool on it."""

    index: int
    name: str
    host: str
    machine: Machine
    serf: Any = None
    life: int = 0  # counts restarts: what was sent to an earlier life is void
    wake_at: float = float("inf")
    has_left: bool = False
    changed_at: float = 0.0  # when it last went up or down
    events: list[UserEvent] = field(default_factory=list[UserEvent])
    joined: dict[int, str] = field(default_factory=dict[int, str])
    answers: list[QueryAnswer] = field(default_factory=list[QueryAnswer])
    queries_done: list[int] = field(default_factory=list[int])
    packets_sent: int = 0
    packet_bytes: int = 0
    stream_bytes: int = 0
    incarnations: dict[str, tuple[Node, int]] = field(
        default_factory=dict[str, tuple[Node, int]]
    )

    @property
    def up(self) -> bool:
        """Whether the agent runs and means to stay."""
        return self.machine.up and not self.has_left


@dataclass(frozen=True)
class Seen:
    """A member event as one node saw it."""

    at: float
    observer: str
    kind: str
    subject: str


class GossipSim:
    """A pool of ``count`` nodes; ``seed`` decides everything random."""

    def __init__(
        self,
        count: int,
        seed: int,
        *,
        weather: Weather | None = None,
        memberlist: Settings = LAN,
        serf: SerfSettings = CONSUL,
        key: bytes | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, weather or Weather())
        self.settings = memberlist
        self.serf_settings = serf
        self.key = key
        self.seen: list[Seen] = []
        self.on_user_event: Callable[[SimNode, UserEvent], None] | None = None
        self.nodes = [
            SimNode(
                index=i,
                name=f"node-{i}",
                host=f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}",
                machine=Machine(self.clock),
            )
            for i in range(count)
        ]
        for node in self.nodes:
            node.machine.up = False  # until started
        self._by_host = {node.host: node for node in self.nodes}

    def __repr__(self) -> str:
        return f"GossipSim(count={len(self.nodes)}, seed={self.seed})"

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.clock.now

    # -- life of nodes ----------------------------------------------------

    def start(self, node: SimNode, *, snapshot: SnapshotState | None = None) -> None:
        """Start (or start again) the agent of a machine."""
        node.life += 1
        node.machine.up = True
        node.has_left = False
        node.changed_at = self.now
        node.wake_at = float("inf")
        node.incarnations.clear()
        node.serf = Serf(
            node.name,
            node.host,
            PORT,
            settings=self.serf_settings,
            memberlist_settings=self.settings,
            keyring=Keyring([self.key]) if self.key else None,
            tags={"role": "node", "dc": "dc1", "id": f"{node.index:032x}"},
            rng=random.Random(self.rng.getrandbits(64)),
            now=self.now,
            snapshot=snapshot,
        )
        self._settle(node)

    def start_all(self) -> None:
        """Start every node within a second, and join each to the first."""
        first = self.nodes[0]
        self.start(first)
        for node in self.nodes[1:]:

            def begin(node: SimNode = node) -> None:
                self.start(node)
                self.join(node, first)

            self.clock.at(self.now + self.rng.random() * FIRST_TICK_SPREAD_S, begin)

    def start_joined(self) -> None:
        """Start every node with the full list of the others, long since told.

        Joining 1,000 nodes one by one is another measurement. Each core gets
        its list by an ordinary push/pull; then its queue of broadcasts, which
        would tell everybody what all know, is emptied.
        """
        for node in self.nodes:
            self.start(node)
        everyone: list[RemoteNode] = []
        for node in self.nodes:
            own = node.serf.memberlist.local
            everyone.append(
                RemoteNode(
                    own.name,
                    own.host,
                    own.port,
                    own.meta,
                    own.incarnation,
                    NodeState.ALIVE,
                    own.versions,
                )
            )
        told = encode_push_pull(False, everyone, b"")
        for node in self.nodes:
            node.serf.receive_stream(told, self.now)
            empty_queues(node.serf)
            self._settle(node)

    def join(self, node: SimNode, other: SimNode) -> int:
        """Let a node push/pull with another; see ``node.joined``."""
        join_id: int = node.serf.join((other.host, PORT), self.now)
        self._settle(node)
        return join_id

    def crash(self, node: SimNode) -> None:
        """Stop a node's process: packets vanish, streams are refused."""
        node.machine.up = False
        node.changed_at = self.now
        node.life += 1

    def leave(self, node: SimNode) -> None:
        """Begin a graceful leave; the node goes down when it is done."""
        node.has_left = True
        node.serf.leave(self.now)
        self._settle(node)

    def call(self, node: SimNode, action: Callable[[Any, float], Any]) -> Any:
        """Do something with a node's core, and what it says after."""
        result = action(node.serf, self.now)
        self._settle(node)
        return result

    def run(self, seconds: float, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass; ends early when ``done()`` becomes true."""
        return self.clock.run_until(self.now + seconds, done)

    def up(self) -> list[SimNode]:
        """Return nodes that run and mean to stay."""
        return [node for node in self.nodes if node.up]

    # -- the shell --------------------------------------------------------

    def _settle(self, node: SimNode) -> None:
        """Carry out a core's outputs and set its timer."""
        serf = node.serf
        while outputs := serf.take_outputs():
            for output in outputs:
                self._do(node, output)
                if not node.machine.up:
                    return
        due = serf.next_deadline()
        if due < node.wake_at:
            node.wake_at = due
            self._later(node, due, lambda: self._tick(node, due))

    def _later(self, node: SimNode, when: float, call: Callable[[], None]) -> None:
        life = node.life

        def unless_restarted() -> None:
            if node.life == life:
                call()

        self.clock.at(when, lambda: node.machine.run(unless_restarted))

    def _tick(self, node: SimNode, due: float) -> None:
        if node.wake_at == due:  # an earlier timer has not taken its place
            node.wake_at = float("inf")
            node.serf.tick(self.now)
            self._settle(node)

    def _do(self, node: SimNode, output: Any) -> None:
        kind = type(output)
        if kind is SendPacket:
            self._send(node, output)
        elif kind is OpenStream:
            self._open(node, output)
        elif kind is MemberEvent:
            for member in output.members:
                self.seen.append(Seen(self.now, node.name, output.kind, member.name))
        elif kind is UserEvent:
            node.events.append(output)
            if self.on_user_event is not None:
                self.on_user_event(node, output)
        elif kind is QueryEvent:
            node.serf.respond(output, output.payload[::-1], self.now)
        elif kind is QueryAnswer:
            node.answers.append(output)
        elif kind is QueryDone:
            node.queries_done.append(output.id)
        elif kind is Joined:
            node.joined[output.id] = output.error
        elif kind.__name__ == "LeaveDone":
            self.crash(node)

    def _send(self, node: SimNode, packet: SendPacket) -> None:
        node.packets_sent += 1
        node.packet_bytes += len(packet.data)
        target = self._by_host.get(packet.address[0])
        if target is None:
            return
        source, data = (node.host, PORT), packet.data

        def take() -> None:
            target.serf.receive_packet(data, source, self.now)
            self._settle(target)

        def arrive() -> None:
            target.machine.run(take)

        self.network.deliver(node.index, target.index, arrive)

    def _open(self, node: SimNode, stream: OpenStream) -> None:
        """Run a stream: connect, carry the bytes, answer; TCP mends losses."""
        node.stream_bytes += len(stream.data)
        target = self._by_host.get(stream.address[0])
        ends: list[bool] = []

        def end(reply: bytes | None) -> None:
            if not ends:
                ends.append(True)
                node.serf.stream_done(stream.id, reply, self.now)
                self._settle(node)

        self._later(node, stream.deadline, lambda: end(None))
        if target is None:
            return
        network = self.network
        way = sum(network.delay() for _ in range(3))  # handshake, then the data
        way += len(stream.data) / network.weather.bandwidth

        def serve() -> None:
            reply = self._serve(target, stream.data)
            target.stream_bytes += len(reply)
            back = self.now + network.delay() + len(reply) / network.weather.bandwidth

            def read() -> None:
                if network.open(target.index, node.index):
                    end(self._opened(reply) if stream.wants_reply else b"")

            self._later(node, back, read)

        def connect() -> None:
            there = network.open(node.index, target.index)
            if not (there and network.open(target.index, node.index)):
                return  # until the deadline
            if not target.machine.up:
                self._later(node, self.now, lambda: end(None))
            else:
                self._later(target, self.now, serve)

        self.clock.at(self.now + way, connect)

    def _serve(self, target: SimNode, data: bytes) -> bytes:
        try:
            message = self._reader(reply=False).feed(data)
        except StreamError as error:
            return error.answer
        assert message is not None, "a dialer wrote half a message"
        reply: bytes | None = target.serf.receive_stream(message, self.now)
        self._settle(target)
        return reply or b""

    def _opened(self, reply: bytes) -> bytes | None:
        try:
            return self._reader(reply=True).feed(reply)
        except StreamError:
            return None

    def _reader(self, *, reply: bool) -> StreamReader:
        keyring = Keyring([self.key] if self.key else [])
        return StreamReader(keyring, self.settings.label, reply=reply)

    # -- checks -----------------------------------------------------------

    def check(self) -> None:
        """Assert what must hold at any time."""
        for node in self.up():
            own = node.serf.local_member().status
            assert own is Status.ALIVE, f"{node.name} believes itself {own.name}"
            for name, known in node.serf.memberlist.nodes.items():
                # Long dead ones are dropped, and may come back as new records.
                record, before = node.incarnations.get(name, (known, 0))
                went_back = record is known and known.incarnation < before
                assert not went_back, f"{node.name}: incarnation of {name} fell"
                node.incarnations[name] = known, known.incarnation

    def disagreements(self, *, strict: bool = True) -> list[str]:
        """Return what running nodes still believe wrongly.

        Who started later than another went down need not know of it. Unless
        ``strict``, what is down may be failed, left or unknown: cut links let
        a leave be missed, or all of a short life.
        """
        wrong: list[str] = []
        subjects = [node for node in self.nodes if node.serf is not None]
        for node in self.up():
            found = {member.name: member.status for member in node.serf.members()}
            for subject in subjects:
                status = found.get(subject.name, Status.NONE)
                if subject.up:
                    wanted = {Status.ALIVE}
                elif strict:
                    wanted = {Status.LEFT if subject.has_left else Status.FAILED}
                else:
                    wanted = {Status.LEFT, Status.FAILED, Status.NONE}
                if not subject.up and node.changed_at >= subject.changed_at:
                    wanted.add(Status.NONE)
                if status not in wanted:
                    wrong.append(f"{node.name}: {subject.name} is {status.name}")
        return wrong

    def converge(self, limit: float, *, strict: bool = True) -> float:
        """Run until all agree; return how long; ``AssertionError`` if not."""
        begin = self.now
        while wrong := self.disagreements(strict=strict):
            assert self.now - begin < limit, wrong[:5]
            self.run(1.0)
            self.check()
        return self.now - begin

    def false_positives(self, since: float = 0.0) -> list[Seen]:
        """Return failures seen of nodes that ran; call while none crashed."""
        return [
            seen for seen in self.seen if seen.kind == "failed" and seen.at >= since
        ]

    # -- measures ---------------------------------------------------------

    def spread(self, node: SimNode, limit: float = 30.0) -> float:
        """Fire an event; return the seconds until every running node has it."""
        missing = {one.name for one in self.up()}
        name, begin = f"spread-{self.now}", self.now

        def note(one: SimNode, event: UserEvent) -> None:
            if event.name == name:
                missing.discard(one.name)

        self.on_user_event = note
        self.call(node, lambda serf, now: serf.user_event(name, b"x" * 100, False, now))
        reached = self.run(limit, lambda: not missing)
        self.on_user_event = None
        assert reached, f"{len(missing)} nodes never saw the event"
        return self.now - begin

    def detection(self, node: SimNode, limit: float = 120.0) -> tuple[float, float]:
        """Crash a node; return seconds until the first and the last know."""
        begin, start = self.now, len(self.seen)
        self.crash(node)
        watchers = {one.name for one in self.up()}
        first = 0.0
        while watchers and self.now - begin < limit:
            self.run(0.05)
            for seen in self.seen[start:]:
                if seen.subject == node.name and seen.kind == "failed":
                    first = first or seen.at - begin
                    watchers.discard(seen.observer)
            start = len(self.seen)
        assert not watchers, f"{len(watchers)} nodes never noticed"
        return first, self.now - begin

    def rates(self, seconds: float, events_per_s: float = 0.0) -> Rates:
        """Run; return what each node sent and cost a second meanwhile."""
        nodes = self.up()
        for node in nodes:
            node.packets_sent = node.packet_bytes = node.stream_bytes = 0
        begin_cpu, begin, next_event = time.process_time(), self.now, self.now
        while self.now - begin < seconds:
            self.run(min(1 / events_per_s if events_per_s else 1.0, seconds))
            if events_per_s and self.now >= next_event:
                next_event += 1 / events_per_s
                name = f"load-{self.now:.3f}"
                self.call(
                    self.rng.choice(nodes),
                    lambda serf, now, n=name: serf.user_event(
                        n, b"x" * 100, False, now
                    ),
                )
        share = len(nodes) * (self.now - begin)
        return Rates(
            packets=sum(node.packets_sent for node in nodes) / share,
            packet_bytes=sum(node.packet_bytes for node in nodes) / share,
            stream_bytes=sum(node.stream_bytes for node in nodes) / share,
            cpu=(time.process_time() - begin_cpu) / share,
        )


@dataclass(frozen=True)
class Rates:
    """Per node and second: packets, bytes, CPU seconds (the simulator's too)."""

    packets: float
    packet_bytes: float
    stream_bytes: float
    cpu: float


def empty_queues(serf: Any) -> None:
    """Drop the broadcasts of a core's queues."""
    serf.memberlist._outbox.queue.prune(0)


def kinds(seen: Iterable[Seen]) -> Counter[str]:
    """Count member events by kind."""
    return Counter(one.kind for one in seen)
