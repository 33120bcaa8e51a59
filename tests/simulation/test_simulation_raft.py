"""Seeded runs of the production Raft core over a hostile network and disk.

Messages travel as the bytes of ``raft/wire.py`` and are lost, delayed, doubled,
reordered and cut off; servers crash and lose what was not synced. After each
step: one leader a term, committed entries never change, a leader has them all,
logs match. Every request gets exactly one answer. Each run ends healed and must
make progress. A failure names the seed that repeats it.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

import msgspec
import pytest

from pyconsul.raft import wire, wire_readers
from pyconsul.raft.codec import decode_configuration, encode_configuration
from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    COMMAND,
    CONFIGURATION,
    NONVOTER,
    VOTER,
    AppendRequest,
    AppendResponse,
    Configuration,
    ConfigurationError,
    Entry,
    HardState,
    HeartbeatResponse,
    Message,
    NotLeaderError,
    Peer,
    Ready,
    Settings,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNowResponse,
    VoteResponse,
)

SETTINGS = Settings(
    election_timeout=0.3,
    heartbeat_interval=0.05,
    lease_timeout=0.2,
    snapshot_retry=0.5,
    max_append_entries=4,
    max_inflight=3,
    max_apply_entries=5,
    cache_entries=3,
)
STEP = 0.01
ANSWERS = (AppendResponse, HeartbeatResponse, TimeoutNowResponse, VoteResponse)


class Packet(NamedTuple):
    """Bytes under way; ``asked`` belongs to the connection, not to the bytes."""

    due: float
    serial: int
    source: str
    target: str
    asked: wire.Asked
    is_answer: bool
    data: bytes
    state: bytes


class Waiting(NamedTuple):
    """A request that was delivered and not answered yet."""

    since: float
    server: str
    asked: wire.Asked


class Disk:
    """What survives a crash."""

    def __init__(self, configuration: Configuration) -> None:
        self.state = HardState(term=1)
        self.first = 1
        data = encode_configuration(configuration)
        self.entries = [Entry(1, 1, CONFIGURATION, data)]
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_data = b""

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        found = self.entries[first - self.first : last - self.first + 1]
        assert found
        assert found[0].index == first
        return found

    def write(self, ready: Ready, arrived: dict[int, bytes]) -> None:
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot.meta
            self.snapshot_data = arrived.pop(ready.snapshot.tag)
            self.first = self.snapshot.index + 1
            self.entries = []
        if ready.hard_state is not None:
            self.state = ready.hard_state
        if ready.entries:
            at = ready.entries[0].index - self.first
            assert 0 <= at <= len(self.entries)
            self.entries[at:] = ready.entries

    def compact(self, meta: SnapshotMeta, data: bytes, first_kept: int) -> None:
        self.snapshot = meta
        self.snapshot_data = data
        drop = first_kept - self.first
        if drop > 0:
            del self.entries[:drop]
            self.first = first_kept


class Server:
    def __init__(self, name: str, configuration: Configuration, world: World) -> None:
        self.name = name
        self.world = world
        self.disk = Disk(configuration)
        self.encoder = wire.Encoder(name, f"{name}:8300")
        self.arrived: dict[int, bytes] = {}
        self.core: Raft | None = None
        self.applied: list[str] = []
        self.syncing: deque[tuple[float, Ready]] = deque()
        self.start()

    def start(self) -> None:
        disk = self.disk
        meta = disk.snapshot
        runs: list[tuple[int, int]] = []
        known: list[tuple[int, Configuration]] = []
        if meta is not None:
            known.append((meta.configuration_index, meta.configuration))
        for entry in disk.entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
            if entry.type == CONFIGURATION and (not meta or entry.index > meta.index):
                known.append((entry.index, decode_configuration(entry.data)))
        self.applied = msgspec.json.decode(disk.snapshot_data) if meta else []
        log = RaftLog(
            disk,
            first_index=disk.first,
            last_index=disk.last,
            terms=runs,
            snapshot_index=meta.index if meta else 0,
            snapshot_term=meta.term if meta else 0,
        )
        self.core = Raft(
            self.name,
            log,
            hard_state=disk.state,
            configurations=known,
            snapshot=meta,
            settings=SETTINGS,
            rng=random.Random(self.world.rng.random()),
            now=self.world.now,
        )

    def crash(self) -> None:
        self.core = None
        self.syncing.clear()
        self.arrived.clear()
        self.world.forget(self.name)

    def run(self) -> None:
        core = self.core
        if core is None:
            return
        now = self.world.now
        while self.syncing and self.syncing[0][0] <= now:
            _, ready = self.syncing.popleft()
            self.disk.write(ready, self.arrived)
            core.persisted(ready)
            self.world.send(self, ready.after_persist)
        due = core.next_deadline()
        if due is not None and now >= due:
            core.tick(now)
        while (ready := core.ready()) is not None:
            self.world.send(self, ready.messages)
            if ready.snapshot is not None:
                self.applied = msgspec.json.decode(self.arrived[ready.snapshot.tag])
            for entry in ready.committed:
                self.world.check_applied(self, entry)
                if entry.type == COMMAND:
                    self.applied.append(entry.data.decode())
            if ready.committed:
                core.applied_to(ready.committed[-1].index)
            delay = self.world.rng.choice((0.0, 0.0, 0.01, 0.05))
            last = self.syncing[-1][0] if self.syncing else 0.0
            self.syncing.append((max(now + delay, last), ready))
        self.maybe_compact(core)

    def maybe_compact(self, core: Raft) -> None:
        # Only what is on disk already may be cut there.
        installing = any(ready.snapshot for _, ready in self.syncing)
        index = min(core.log.applied, self.disk.last)
        if installing or index - core.log.snapshot_index < 12:
            return
        if index != core.log.applied:
            return
        where, configuration = core.applied_configuration()
        term = core.log.term(index)
        assert term is not None
        meta = SnapshotMeta(
            index=index,
            term=term,
            configuration=configuration,
            configuration_index=where,
        )
        first_kept = index - self.world.rng.randrange(6)
        self.disk.compact(meta, msgspec.json.encode(self.applied), first_kept)
        core.compact(meta, first_kept)


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.faulty = True
        self.wire: list[Packet] = []
        self.waiting: dict[int, Waiting] = {}
        self.serial = 0
        self.cut: set[tuple[str, str]] = set()
        self.leaders: dict[int, str] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        names = [f"n{i}" for i in range(self.rng.choice((3, 4, 5)))]
        peers = tuple(Peer(id=n, address=f"{n}:8300") for n in names)
        configuration = Configuration(servers=peers)
        self.servers = {n: Server(n, configuration, self) for n in names}
        self.proposed = 0

    def send(self, source: Server, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, ANSWERS):
                self.send_answer(source, message)
            else:
                self.send_request(source, message)

    def send_answer(self, source: Server, message: Message) -> None:
        found = self.waiting.pop(message.tag, None)
        assert found is not None, f"answered twice, or nobody asked: {message}"
        asked = found.asked
        data = source.encoder.response(asked.kind, message)
        self.put(source.name, asked.me, asked, is_answer=True, data=data)

    def send_request(self, source: Server, message: Message) -> None:
        state = b""
        core = source.core
        assert core is not None
        if isinstance(message, SnapshotRequest):
            if source.disk.snapshot != message.meta:
                core.snapshot_failed(message.target)
                return
            state = source.disk.snapshot_data
        data = source.encoder.request(message, size=len(state))
        sent = self.put(
            source.name,
            message.target,
            wire.ask(message),
            is_answer=False,
            data=data,
            state=state,
        )
        told = not sent and self.rng.random() < 0.5
        if told and isinstance(message, AppendRequest):
            core.appends_lost(message.target, retry=self.rng.random() < 0.5)

    def put(
        self,
        source: str,
        target: str,
        asked: wire.Asked,
        *,
        is_answer: bool,
        data: bytes,
        state: bytes = b"",
    ) -> bool:
        """Send it on its way, or lose it; tell which."""
        copies = 1
        if self.faulty:
            if self.rng.random() < 0.05:
                return False
            copies += self.rng.random() < 0.05
        for _ in range(copies):
            slow = self.faulty and self.rng.random() < 0.1
            delay = self.rng.uniform(0.0, 0.4 if slow else 0.02)
            self.serial += 1
            self.wire.append(
                Packet(
                    self.now + delay,
                    self.serial,
                    source,
                    target,
                    asked,
                    is_answer,
                    data,
                    state,
                )
            )
        return True

    def deliver(self, packet: Packet, server: Server) -> None:
        core = server.core
        assert core is not None
        if packet.is_answer:
            answers = wire_readers.ResponseReader()
            answers.feed(packet.data)
            found = answers.next()
            assert found is not None
            core.step(wire.decode_response(packet.asked, found[1]), self.now)
            return
        requests = wire_readers.RequestReader()
        requests.feed(packet.data)
        request = requests.next()
        assert request is not None
        tag = packet.serial
        message = wire.decode_request(*request, server.name, tag).message
        assert message.sender == packet.source
        self.waiting[tag] = Waiting(self.now, server.name, packet.asked)
        if isinstance(message, SnapshotRequest):
            server.arrived[tag] = packet.state
        core.step(message, self.now)
        if isinstance(message, SnapshotRequest) and not core.wants_snapshot(message):
            del server.arrived[tag]

    def forget(self, name: str) -> None:
        """Nobody answers what a server took before it crashed."""
        for tag, waiting in list(self.waiting.items()):
            if waiting.server == name:
                del self.waiting[tag]

    def check_applied(self, server: Server, entry: Entry) -> None:
        found = self.committed.setdefault(entry.index, (entry.term, entry.data))
        assert found == (entry.term, entry.data), "a committed entry changed"

    def check(self) -> None:
        logs: list[RaftLog] = []
        for server in self.servers.values():
            core = server.core
            if core is None:
                continue
            logs.append(core.log)
            if core.leadership is not None:
                known = self.leaders.setdefault(core.term, server.name)
                assert known == server.name, "two leaders in one term"
                newest = max(self.leaders)
                if core.term == newest:
                    for index, (term, _) in list(self.committed.items())[-20:]:
                        if index >= core.log.first_index:
                            assert core.log.term(index) == term, "leader lost an entry"
        for waiting in self.waiting.values():
            assert self.now - waiting.since < 1.0, f"never answered: {waiting}"
        for one in logs:
            for two in logs:
                self.check_match(one, two)

    def check_match(self, one: RaftLog, two: RaftLog) -> None:
        last = min(one.last_index, two.last_index)
        while last and one.term(last) != two.term(last):
            last -= 1
        for index in range(last, max(last - 8, 0), -1):
            a, b = one.term(index), two.term(index)
            assert a is None or b is None or a == b, "logs do not match"

    def upset(self) -> None:
        rng = self.rng
        names = list(self.servers)
        chance = rng.random()
        if chance < 0.01:
            server = self.servers[rng.choice(names)]
            if server.core is None:
                server.start()
            else:
                server.crash()
        elif chance < 0.02:
            self.cut = {
                (a, b) for a in names for b in names if a != b and rng.random() < 0.4
            }
        elif chance < 0.03:
            lonely = rng.choice(names)
            self.cut = {(lonely, n) for n in names} | {(n, lonely) for n in names}
        elif chance < 0.05:
            self.cut = set()
        elif chance < 0.06:
            self.on_leader(lambda core: core.transfer_leadership())
        elif chance < 0.07:
            self.on_leader(self.toggle)

    def toggle(self, core: Raft) -> None:
        peer = self.rng.choice(list(self.servers))
        found = core.configuration.get(peer)
        suffrage = self.rng.choice((VOTER, NONVOTER))
        new = Peer(id=peer, address=f"{peer}:8300", suffrage=suffrage)
        if found is not None and self.rng.random() < 0.3:
            core.change_configuration(core.configuration.without(peer))
        elif found != new:
            core.change_configuration(core.configuration.with_server(new))

    def on_leader(self, act) -> None:
        for server in self.servers.values():
            if server.core is not None and server.core.leadership is not None:
                try:
                    act(server.core)
                except (NotLeaderError, ConfigurationError):
                    pass

    def propose(self) -> None:
        def act(core: Raft) -> None:
            count = self.rng.randrange(1, 4)
            batch = [b"%d" % (self.proposed + i) for i in range(count)]
            core.propose_many(batch)
            self.proposed += count

        self.on_leader(act)

    def step(self) -> None:
        self.now += STEP
        if self.faulty:
            self.upset()
        if self.rng.random() < 0.3:
            self.propose()
        due = sorted(p for p in self.wire if p.due <= self.now)
        self.wire = [p for p in self.wire if p.due > self.now]
        for packet in due:
            target = self.servers[packet.target]
            if target.core is None or (packet.source, packet.target) in self.cut:
                continue
            self.deliver(packet, target)
        for server in self.servers.values():
            server.run()
        self.check()

    def heal(self) -> None:
        self.faulty = False
        self.cut = set()
        for server in self.servers.values():
            if server.core is None:
                server.start()


def run(seed: int, steps: int) -> World:
    world = World(seed)
    for _ in range(steps):
        world.step()
    world.heal()
    before = max(world.committed, default=0)
    for _ in range(1500):
        world.step()
        leader = [
            s.core
            for s in world.servers.values()
            if s.core is not None and s.core.leadership is not None
        ]
        if leader and leader[-1].log.committed > before + 20:
            members = {p.id for p in leader[-1].configuration.servers}
            behind = [
                n
                for n in members
                if (core := world.servers[n].core) and core.log.applied <= before
            ]
            if not behind:
                break
    else:
        raise AssertionError("no progress after healing")
    by_index: dict[int, list[str]] = {}
    for server in world.servers.values():
        if server.core is not None:
            state = by_index.setdefault(server.core.log.applied, server.applied)
            assert state == server.applied, "states differ at an equal index"
    return world


# 2282: a leader that demoted itself was the only one who could be elected.
@pytest.mark.parametrize("seed", [*range(24), 2282])
def test_safety_and_progress(seed: int) -> None:
    try:
        world = run(seed, 800)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    assert world.committed
