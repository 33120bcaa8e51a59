"""Memberlists that talk to each other in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from pyconsul.gossip import codec
from pyconsul.gossip.core import Memberlist
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    LAN,
    Ack,
    Address,
    Alive,
    Joined,
    LeaveSent,
    MergeRefusedError,
    Node,
    OpenStream,
    SendPacket,
    Settings,
)
from pyconsul.gossip.packet import open_packet
from pyconsul.gossip.stream import StreamError

LATENCY_S = 0.001
PORT = 7946
PEER: Address = ("10.9.9.9", PORT)
VSN = b"\1\5\2\2\5\4"


@dataclass
class Layer:
    """A delegate that notes what it hears; ``refuse`` names are not let in."""

    meta: bytes = b"meta"
    events: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    messages: list[bytes] = field(default_factory=list[bytes])
    outgoing: list[bytes] = field(default_factory=list[bytes])
    states: list[tuple[bytes, bool]] = field(default_factory=list[tuple[bytes, bool]])
    pings: list[tuple[str, float, bytes]] = field(
        default_factory=list[tuple[str, float, bytes]]
    )
    refuse: set[str] = field(default_factory=set[str])

    def node_meta(self) -> bytes:
        return self.meta

    def on_message(self, payload: bytes) -> None:
        self.messages.append(payload)

    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        taken: list[bytes] = []
        while self.outgoing and len(self.outgoing[0]) + overhead <= limit:
            taken.append(self.outgoing.pop(0))
            limit -= len(taken[-1]) + overhead
        return taken

    def local_state(self, join: bool) -> bytes:
        return b"state of " + self.meta

    def merge_state(self, state: bytes, join: bool) -> None:
        self.states.append((state, join))

    def on_join(self, node: Node) -> None:
        self.events.append(("join", node.name))

    def on_leave(self, node: Node) -> None:
        self.events.append((node.state.name.lower(), node.name))

    def on_update(self, node: Node) -> None:
        self.events.append(("update", node.name))

    def on_conflict(self, known: Node, other: Node) -> None:
        self.events.append(("conflict", f"{known.host} {other.host}"))

    def check_alive(self, node: Node) -> None:
        if node.name in self.refuse:
            raise MergeRefusedError(f"Member '{node.name}' is refused")

    def check_merge(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.check_alive(node)

    def ack_payload(self) -> bytes:
        return b"\x01ack"

    def on_ping(self, node: Node, rtt_s: float, payload: bytes) -> None:
        self.pings.append((node.name, rtt_s, payload))


class Net:
    """A network of memberlists; ``drops(kind, from, to)`` loses traffic.

    ``kind`` is ``udp`` or ``tcp``; names are those of the nodes.
    """

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.lists: dict[str, Memberlist] = {}
        self.layers: dict[str, Layer] = {}
        self.joined: list[str] = []
        self.leave_sent: list[str] = []
        self.packets: list[tuple[str, str, bytes]] = []
        self.drops: Callable[[str, str, str], bool] = lambda kind, a, b: False
        self._names: dict[Address, str] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def add(
        self,
        name: str,
        *,
        settings: Settings = LAN,
        keys: Iterable[bytes] = (),
        host: str = "",
        meta: bytes = b"",
    ) -> Memberlist:
        """Start a node (again)."""
        host = host or f"10.0.{len(self._names) >> 8}.{len(self._names) & 255}"
        layer = self.layers[name] = Layer(meta=meta or name.encode())
        self._names[(host, PORT)] = name
        self.lists[name] = Memberlist(
            name,
            host,
            PORT,
            settings=settings,
            keyring=Keyring(keys, random_bytes=self.rng.randbytes),
            delegate=layer,
            rng=random.Random(self.rng.random()),
            now=self.now,
        )
        return self.lists[name]

    def pool(self, count: int) -> list[Memberlist]:
        """Start nodes ``n0`` ... that all joined ``n0``."""
        lists = [self.add(f"n{i}") for i in range(count)]
        for one in lists[1:]:
            one.join(lists[0].local.address, self.now)
        self.run(3.0)
        return lists

    def crash(self, name: str) -> None:
        """Stop a node without a word."""
        del self.lists[name]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._flush()
        while True:
            due = min(
                [one.next_deadline() for one in self.lists.values()]
                + [entry[0] for entry in self._queue[:1]]
            )
            if due > end:
                break
            self.now = max(self.now, due)
            while self._queue and self._queue[0][0] <= self.now:
                heappop(self._queue)[2]()
            for one in list(self.lists.values()):
                if one.next_deadline() <= self.now:
                    one.tick(self.now)
            self._flush()
        self.now = end

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._queue, (self.now + delay_s, self._number, action))

    def _flush(self) -> None:
        for name, one in list(self.lists.items()):
            for output in one.take_outputs():
                if isinstance(output, SendPacket):
                    self._send(name, one, output)
                elif isinstance(output, OpenStream):
                    self._dial(name, one, output)
                elif isinstance(output, Joined):
                    self.joined.append(output.error)
                else:
                    assert isinstance(output, LeaveSent)
                    self.leave_sent.append(name)

    def _send(self, name: str, one: Memberlist, packet: SendPacket) -> None:
        target = self._names.get(packet.address, "")
        self.packets.append((name, target, packet.data))
        if self.drops("udp", name, target):
            return
        source = one.local.address

        def deliver() -> None:
            if target in self.lists:
                self.lists[target].receive_packet(packet.data, source, self.now)

        self._later(LATENCY_S, deliver)

    def _dial(self, name: str, one: Memberlist, stream: OpenStream) -> None:
        target = self._names.get(stream.address, "")
        if target not in self.lists or self.drops("tcp", name, target):
            wait_s = stream.deadline - self.now
            self._later(wait_s, lambda: one.stream_done(stream.id, None, self.now))
            return

        def serve() -> None:
            other = self.lists[target]
            reader = other.stream_reader()
            try:
                message = feed_all(reader.feed, stream.data)
                assert message is not None
                answer = other.receive_stream(message, self.now)
            except StreamError as error:
                answer = error.answer
            self._later(LATENCY_S, lambda: finish(answer))

        def finish(answer: bytes | None) -> None:
            reader = one.stream_reader(reply=True)
            try:
                reply = feed_all(reader.feed, answer or b"")
            except StreamError:
                reply = None
            one.stream_done(stream.id, reply, self.now)

        self._later(LATENCY_S, serve)


def feed_all(feed: Callable[[bytes], bytes | None], data: bytes) -> bytes | None:
    """Feed in odd pieces; the result of the piece that completes it."""
    for start in range(0, len(data), 97):
        result = feed(data[start : start + 97])
        if result is not None:
            return result
    return None


class Alone:
    """One memberlist under test; the peers are written by hand."""

    def __init__(self, settings: Settings = LAN) -> None:
        self.layer = Layer()
        self.now = 50.0
        self.one = Memberlist(
            "me",
            "10.0.0.1",
            PORT,
            settings=settings,
            keyring=Keyring(),
            delegate=self.layer,
            rng=random.Random(4),
            now=self.now,
        )

    def receive(self, *messages: bytes, source: Address = PEER) -> None:
        for message in messages:
            self.one.receive_packet(message, source, self.now)

    def peer(self, name: str, inc: int = 1, host: str = PEER[0], **more: bytes) -> None:
        meta, versions = more.get("meta", b""), more.get("versions", VSN)
        alive = Alive(inc, name, host, PORT, meta, versions)
        self.receive(codec.encode_alive(alive))

    def run(self, seconds: float) -> list[tuple[Address, bytes]]:
        """Let time pass; the messages sent, and stream requests, in order."""
        end = self.now + seconds
        sent = self.sent()
        while self.one.next_deadline() <= end:
            self.now = max(self.now, self.one.next_deadline())
            self.one.tick(self.now)
            sent += self.sent()
        self.now = end
        return sent

    def answer(self, sent: list[tuple[Address, bytes]]) -> None:
        """Ack all pings among what was sent."""
        for to, message in sent:
            if message[0] == 0:
                seq = codec.decode_ping(message[1:]).seq
                self.receive(codec.encode_ack(Ack(seq)), source=to)

    def sent(self) -> list[tuple[Address, bytes]]:
        found: list[tuple[Address, bytes]] = []
        for output in self.one.take_outputs():
            if isinstance(output, SendPacket):
                messages = open_packet(output.data, Keyring(), LAN)
                found += [(output.address, message) for message in messages]
            elif isinstance(output, OpenStream):
                found.append((output.address, b"stream" + output.data))
        return found

    def kinds(self, seconds: float) -> set[int]:
        return {message[0] for _, message in self.run(seconds)}
