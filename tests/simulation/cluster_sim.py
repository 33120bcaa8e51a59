"""Whole servers in a simulation: production code but for sockets and files.

Each server is a ``RaftDriver`` on a ``SimStore``, the ``StateStore``, the
endpoints' ``Server`` with its leader duties (session timers, lock-delay,
autopilot, members into the catalog) and ``LeaderForwarder``, on an event loop
of its own in virtual time. Gossip is replaced by a failure detector that sees
who can be reached; its constants are shortened with those of autopilot.
"""

from __future__ import annotations

import contextlib
import logging
import random
import uuid
from asyncio import Future
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec.structs import replace
from sim_checks import Checks, SimFsm, Violation
from sim_disk import SimDisk, SimStore
from sim_loop import SimMachine
from sim_network import Clock, Network, Weather
from sim_wire import SimRpc, SimTransport, Waiting

from pyconsul.endpoints import autopilot, members, session
from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.net import raft_driver, raft_pump, raft_snapshots
from pyconsul.net.forwarder import LeaderForwarder
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.raft import wire
from pyconsul.raft.messages import Configuration, Peer, Settings
from pyconsul.raft.replication import Leadership
from pyconsul.serf.keys import KeyResponse
from pyconsul.serf.member import Member, MemberEvent, Status
from pyconsul.state.store import StateStore
from pyconsul.types.coordinates import Coord
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply
from pyconsul.types.operations import DEFAULT_AUTOPILOT

SETTINGS = Settings(
    election_timeout=0.4,
    heartbeat_interval=0.06,
    lease_timeout=0.2,
    snapshot_retry=1.0,
    max_append_entries=8,
    max_inflight=6,
    max_apply_entries=16,
    cache_entries=16,
)
"""Consul's proportions: the lease is half of the election timeout."""
HOLD_S = 2.0
FAILED_AFTER_S = 1.0
GOSSIP_S = 0.2
CALM = Weather()


@dataclass(kw_only=True)
class Options:
    """How a cluster is made."""

    servers: int = 3
    weather: Weather = CALM
    skew: float = 0.01
    """Clocks run up to this much too fast or too slow."""
    snapshot_every: int = 60
    trailing: int = 20
    sync_s: float = 0.001
    cleanup: bool = True
    """Autopilot removes servers that are dead."""
    mutate: list[Callable[[SimCluster], None]] = field(
        default_factory=list[Callable[["SimCluster"], None]]
    )


class SimServer:
    """One machine with its disk, and the server that runs on it."""

    def __init__(self, cluster: SimCluster, place: int, server_id: str) -> None:
        self.cluster = cluster
        self.place = place
        self.name = f"s{place + 1}"
        self.host = f"10.0.0.{place + 1}"
        self.address = f"{self.host}:8300"
        self.id = server_id
        self.disk = SimDisk()
        cluster.disks[server_id] = self.disk
        rng = random.Random(cluster.rng.random())
        skew = cluster.options.skew
        self.machine = SimMachine(
            cluster.clock,
            rng,
            1 + rng.uniform(-skew, skew),
            lambda what: cluster.checks.fail(f"{self.name}: {what}"),
            lambda: cluster.checks.after_turn(self),
        )
        self.rng = rng
        self.driver: RaftDriver | None = None
        self.server: Server | None = None
        self.transport: SimTransport | None = None
        self.store: SimStore | None = None
        self.state: StateStore | None = None
        self.seen_lead: Leadership | None = None
        self.seen_commit = 0
        self.crashes = 0

    # --- life ---

    def start(self) -> None:
        """Boot; Raft opens its store a moment later."""
        if self.machine.up:
            return
        cluster, options = self.cluster, self.cluster.options
        checks = cluster.checks
        loop = self.machine.boot()
        self.seen_commit = 0
        self.seen_lead = None
        self.state = StateStore()
        self.store = SimStore(
            self.disk,
            loop,
            self.rng,
            options.sync_s,
            checks.on_entries,
            lambda state: checks.on_vote(self, state),
        )
        self.transport = SimTransport(self)
        self.driver = RaftDriver(
            self.store,
            SimFsm(self, self.state),
            self.id,
            self.address,
            bootstrap=False,
            transport=self.transport,
            settings=SETTINGS,
            snapshot_threshold=options.snapshot_every,
            snapshot_interval=0.0,
            trailing_logs=options.trailing,
            rng=random.Random(self.rng.random()),
            clock=self.machine.local_time,
        )
        rpc = SimRpc(self)
        self.server = Server(
            self.driver,
            self.state,
            ServerOptions(
                datacenter="dc1",
                node_name=self.name,
                node_id=self.id,
                address=self.host,
                session_ttl_min_s=0.1,
                rpc_hold_timeout_s=HOLD_S,
                heartbeat_s=SETTINGS.heartbeat_interval,
                autopilot=replace(
                    DEFAULT_AUTOPILOT,
                    cleanup_dead_servers=options.cleanup,
                    server_stabilization_time=500_000_000,
                ),
            ),
            random=random.Random(self.rng.random()),
            forwarder=LeaderForwarder(rpc, HOLD_S),
        )
        # Wall time, for how long a server has been healthy.
        pilot = self.server.cluster.autopilot
        pilot._clock_ns = lambda: int(self.machine.local_time() * 1e9)
        self.server.cluster.attach(SimPool(self), None, rpc)
        driver = self.driver
        driver.on_restored.append(self.server.on_restored)
        self.machine.run(lambda: loop.create_task(driver.start()))

    def crash(self) -> None:
        """Lose power; what was not synced may be gone."""
        if not self.machine.up:
            return
        self.crashes += 1
        self.machine.cut_power()
        if self.store is not None:
            self.store.crash()
        self.driver = None
        self.server = None
        self.transport = None
        self.store = None
        self.state = None

    def wipe(self, server_id: str) -> None:
        """Replace the machine's disk by an empty one: another server, then."""
        self.crash()
        self.id = server_id
        self.disk = SimDisk()
        self.cluster.disks[server_id] = self.disk

    @property
    def leads(self) -> bool:
        """It leads, and can do something about it."""
        return self.driver is not None and self.driver.is_leader

    # --- what arrives ---

    def take_raft(
        self, data: bytes, asked: wire.Asked, asker: SimServer, boot: int
    ) -> None:
        assert self.transport is not None
        self.transport.take(data, asked, asker, boot)

    def take_raft_answer(self, data: bytes, asked: wire.Asked, address: str) -> None:
        assert self.transport is not None
        self.transport.take_answer(data, asked, address)

    def take_snapshot(
        self,
        data: bytes,
        state: bytes,
        asked: wire.Asked,
        asker: SimServer,
        answer: Callable[[bytes | None], None],
    ) -> None:
        assert self.transport is not None
        assert self.machine.loop is not None
        task = self.machine.loop.create_task(
            self.transport.take_snapshot(data, state, asked, asker)
        )
        task.add_done_callback(lambda done: answer(done.result()))

    def serve(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer a request; raises ``ConsulError``."""
        if self.server is None or self.driver is None or self.driver.core is None:
            raise ConsulError("No cluster leader")
        return self.server.call(method, args)


class SimPool:
    """The members one server sees; see ``SimCluster.gossip``."""

    def __init__(self, server: SimServer) -> None:
        self._server = server
        self._cluster = server.cluster

    def members(self) -> Sequence[Member]:
        return [
            self._cluster.member(self._server, other) for other in self._cluster.servers
        ]

    def user_event(self, name: str, payload: bytes) -> None:
        pass

    def coordinate_of(self, name: str) -> Coord | None:
        return None

    def force_leave(self, name: str, prune: bool = False) -> None:
        self._cluster.force_leave(name)

    async def key_operation(
        self, operation: str, key: str, relay_factor: int = 0
    ) -> KeyResponse:
        raise ConsulError("no keyring here")


class SimCluster:
    """The world: time, network, servers, and what must hold."""

    def __init__(self, seed: int, options: Options) -> None:
        self.rng = random.Random(seed)
        self.options = options
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, options.weather)
        self.checks = Checks(self)
        self.faulty = True
        self.disks: dict[str, SimDisk] = {}
        self.servers: list[SimServer] = []
        self.uuids = 0
        self._serial = 0
        self._perf = 0.0
        self._unseen: dict[tuple[int, int], float] = {}
        self._left: set[str] = set()
        self._told: dict[tuple[int, int], Status] = {}
        for place in range(options.servers):
            self.servers.append(SimServer(self, place, self.new_id()))
        peers = tuple(Peer(id=s.id, address=s.address) for s in self.servers)
        for server in self.servers:
            server.disk.begin(Configuration(servers=peers))
        for mutate in options.mutate:
            mutate(self)

    # --- time ---

    def start(self) -> None:
        """Boot every server, at about the same time."""
        for server in self.servers:
            self.clock.at(self.rng.uniform(0, 0.1), server.start)
        self._gossip()

    def run(self, seconds: float, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass, or until ``done()``; raises ``Violation``."""
        checks = self.checks

        def stop() -> bool:
            return bool(checks.failure) or (done is not None and done())

        found = self.clock.run_until(self.clock.now + seconds, stop)
        checks.raise_failure()
        self._check_answers()
        return found

    def _check_answers(self) -> None:
        """Every request gets an answer soon."""
        for server in self.servers:
            if server.transport is None or server.machine.paused:
                continue
            for waiting in server.transport.waiting.values():
                self._check_answer(server, waiting)

    def _check_answer(self, server: SimServer, waiting: Waiting) -> None:
        if self.clock.now - waiting.since > 6.0:
            raise Violation(f"{server.name} never answered {waiting.asked}")

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial

    # --- servers ---

    def new_id(self) -> str:
        return f"aaaaaaaa-0000-0000-0000-{self.next_serial():012d}"

    def by_address(self, address: str) -> SimServer | None:
        for server in self.servers:
            if server.address == address:
                return server
        return None

    def leader(self) -> SimServer | None:
        """The leader of the newest term, if it runs."""
        leading = [s for s in self.servers if s.leads and not s.machine.paused]
        return max(
            leading, key=lambda s: s.driver.term if s.driver else 0, default=None
        )

    # --- gossip ---

    def _gossip(self) -> None:
        """See who reaches whom; tell servers of members that changed."""
        for one in self.servers:
            reach = self._reachable(one)
            for other in self.servers:
                pair = (one.place, other.place)
                if other.place in reach:
                    self._unseen.pop(pair, None)
                else:
                    self._unseen.setdefault(pair, self.clock.now)
        for one in self.servers:
            for other in self.servers:
                self._tell(one, other)
        self.clock.at(self.clock.now + GOSSIP_S, self._gossip)

    def _reachable(self, one: SimServer) -> set[int]:
        """Places with a way there and back, over others if need be."""
        alive = [s.place for s in self.servers if s.machine.up and not s.machine.paused]
        found = {one.place} & set(alive)
        todo = list(found)
        while todo:
            here = todo.pop()
            for there in alive:
                if there not in found and (
                    self.network.open(here, there) and self.network.open(there, here)
                ):
                    found.add(there)
                    todo.append(there)
        return found

    def _tell(self, one: SimServer, other: SimServer) -> None:
        seen = self.member(one, other)
        pair = (one.place, other.place)
        if self._told.get(pair) == seen.status:
            return
        self._told[pair] = seen.status
        kinds = {Status.ALIVE: "join", Status.FAILED: "failed", Status.LEFT: "leave"}
        event = MemberEvent(kind=kinds[seen.status], members=[seen])

        def take() -> None:
            if one.server is not None:
                one.server.cluster.on_members(event)

        one.machine.run(take)

    def member(self, viewer: SimServer, other: SimServer) -> Member:
        """What one server knows of another."""
        unseen = self._unseen.get((viewer.place, other.place))
        gone = unseen is not None and self.clock.now - unseen > FAILED_AFTER_S
        if not gone:
            self._left.discard(other.name)
        status = Status.ALIVE
        if gone:
            status = Status.LEFT if other.name in self._left else Status.FAILED
        return Member(
            name=other.name,
            host=other.host,
            port=8301,
            status=status,
            tags={
                "role": "consul",
                "dc": "dc1",
                "id": other.id,
                "port": "8300",
                "build": "1.10.11:abc",
                "raft_vsn": "3",
                "vsn": "2",
            },
        )

    def force_leave(self, name: str) -> None:
        self._left.add(name)

    # --- the runtime ---

    def _perf_counter(self) -> float:
        """Real time inside a slice: now and then a slice is used up."""
        self._perf += 0.01 if self.rng.random() < 0.01 else 0.0
        return self._perf

    def _uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Replace what production code takes of the real machine."""
        collector = SimpleNamespace(collect=lambda: 0, freeze=lambda: None)
        real = SimpleNamespace(perf_counter=self._perf_counter)
        patches: list[tuple[Any, str, Any]] = [
            (raft_driver, "gc", collector),
            (raft_pump, "gc", collector),
            (raft_pump, "time", real),
            (raft_snapshots, "time", real),
            (session, "uuid", SimpleNamespace(uuid4=self._uuid4)),
            (autopilot, "HEALTH_S", 0.4),
            (autopilot, "STATS_TIMEOUT_S", 0.35),
            (autopilot, "CLEANUP_S", 1.5),
            (autopilot, "NEWCOMER_S", 0.5),
            (members, "RECONCILE_S", 2.0),
        ]
        quiet = logging.root.manager.disable
        handler = _Swallowed(self.checks)
        with contextlib.ExitStack() as stack:
            for where, name, value in patches:
                stack.enter_context(mock.patch.object(where, name, value))
            logging.disable(logging.WARNING)
            stack.callback(logging.disable, quiet)
            logging.root.addHandler(handler)
            stack.callback(logging.root.removeHandler, handler)
            yield


class _Swallowed(logging.Handler):
    """Production code logs an exception and goes on: here it is a failure."""

    def __init__(self, checks: Checks) -> None:
        super().__init__(logging.ERROR)
        self._checks = checks

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._checks.fail(f"{record.getMessage()}: {record.exc_info[1]!r}")
