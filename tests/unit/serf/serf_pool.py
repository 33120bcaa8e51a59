"""A pool of real ``Serf`` cores on a virtual network and clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from typing import Any

from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import LAN, OpenStream, SendPacket
from pyconsul.serf.core import Output, Serf
from pyconsul.serf.member import Status
from pyconsul.serf.settings import CONSUL, Settings
from pyconsul.serf.snapshot import SnapshotState

DELAY_S = 0.002


class VirtualPool:
    """Delivers packets and streams between cores, in time order."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 100.0
        self.seed = seed
        self.nodes: dict[str, Serf] = {}
        self.events: dict[str, list[Any]] = {}
        self.cut: set[str] = set()  # names whose packets are all lost
        self._by_address: dict[tuple[str, int], str] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def add(
        self,
        label: str,
        *,
        name: str = "",
        settings: Settings = CONSUL,
        tags: Mapping[str, str] | None = None,
        snapshot: SnapshotState | None = None,
        host: str = "",
        **options: Any,
    ) -> Serf:
        """Start a node; a label (and name) used before is started anew."""
        host = host or f"10.0.0.{len(self.nodes) + 1}"
        if label in self.nodes:
            host = self.nodes[label].address[0]
        self.cut.discard(label)
        serf = Serf(
            name or label,
            host,
            8301,
            settings=settings,
            memberlist_settings=LAN,
            keyring=options.pop("keyring", Keyring()),
            tags=tags or {},
            rng=random.Random(f"{self.seed} {label}"),
            now=self.now,
            snapshot=snapshot,
            **options,
        )
        self.nodes[label] = serf
        self.events[label] = []
        self._by_address[serf.address] = label
        self._collect(label)
        return serf

    def join(self, name: str, other: str, **options: Any) -> None:
        """Join, and run until that is over."""
        serf = self.nodes[name]
        serf.join(self.nodes[other].address, self.now, **options)
        self._collect(name)
        self.run(0.5)

    def do(self, name: str, call: Callable[[Serf], Any]) -> Any:
        """Call a node, and take what comes of it."""
        result = call(self.nodes[name])
        self._collect(name)
        return result

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; with ``until``, tell whether it came true."""
        end = self.now + seconds
        while True:
            if until is not None and until():
                return True
            live = [n for n in self.nodes if n not in self.cut]
            due, name = min((self.nodes[n].next_deadline(), n) for n in live)
            if self._heap and self._heap[0][0] <= due:
                when, _, call = self._heap[0]
                if when > end:
                    break
                heapq.heappop(self._heap)
                self.now = max(self.now, when)
                call()
                continue
            if due > end:
                break
            self.now = max(self.now, due)
            self.nodes[name].tick(self.now)
            self._collect(name)
        self.now = end
        return until is None or until()

    def of(self, name: str, kind: type[Any]) -> list[Any]:
        """Return the outputs of a kind so far."""
        return [event for event in self.events[name] if isinstance(event, kind)]

    def status(self, name: str, of: str) -> Status:
        """Return how ``name`` sees ``of``."""
        member = self.nodes[name].member(of)
        return Status.NONE if member is None else member.status

    def _collect(self, name: str) -> None:
        outputs: list[Output] = self.nodes[name].take_outputs()
        for output in outputs:
            if isinstance(output, SendPacket):
                self._later(DELAY_S, lambda o=output: self._packet(name, o))
            elif isinstance(output, OpenStream):
                self._later(DELAY_S, lambda o=output: self._stream(name, o))
            else:
                self.events[name].append(output)

    def _packet(self, name: str, packet: SendPacket) -> None:
        target = self._target(name, packet.address)
        if target is not None:
            source = self.nodes[name].address
            self.nodes[target].receive_packet(packet.data, source, self.now)
            self._collect(target)

    def _stream(self, name: str, stream: OpenStream) -> None:
        target = self._target(name, stream.address)
        if target is None:
            delay = max(0.0, stream.deadline - self.now)
            self._later(delay, lambda: self._end(name, stream.id, None))
            return
        there = self.nodes[target]
        message = there.memberlist.stream_reader().feed(stream.data)
        assert message is not None
        reply = there.receive_stream(message, self.now)
        self._collect(target)
        answer: bytes | None = b""
        if stream.wants_reply:
            reader = self.nodes[name].memberlist.stream_reader(reply=True)
            answer = None if reply is None else reader.feed(reply)
        self._later(DELAY_S, lambda: self._end(name, stream.id, answer))

    def _end(self, name: str, stream_id: int, answer: bytes | None) -> None:
        if name not in self.cut:
            self.nodes[name].stream_done(stream_id, answer, self.now)
            self._collect(name)

    def _target(self, name: str, address: tuple[str, int]) -> str | None:
        target = self._by_address.get(address)
        return None if target in self.cut or name in self.cut else target

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay, self._number, call))
