"""The language of scenario files, and how one is run.

A line is one statement; ``#`` begins a comment. Options first::

    servers 5                    weather loss 0.02 duplicates 0.02 late 0.1
    skew 0.01                    snapshots every 40 keep 10
    sync 5ms
    load kv 4 60/s               load locks 3 20/s      load ttl 2 8/s

Then what happens, at seconds after the cluster serves::

    at 1.0 isolate leader        at 1.0 partition s1 s2 | s3 s4 s5
    at 1.0 cut s1 s2             at 1.0 one-way leader follower
    at 1.0 flap s1 s2 2.0        at 5.0 heal
    at 1.0 crash leader          at 2.0 restart old-leader (or: all)
    at 1.0 power-cut             at 1.0 pause leader 1.5
    at 1.0 slow s3 2.0           at 1.0 wipe s3
    at 1.0 remove s2             at 1.0 demote s2
    at 1.0 transfer              at 1.0 transfer s3
    at 1.0 snapshot leader       at 1.0 disk-fails s1
    at 1.0 disk-full s1 2.0

``leader`` is who leads then, ``old-leader`` the last one named so, ``follower``
one that does not lead. ``run 8`` is how long all that takes. ``until progress``
ends every run: faults end, everybody is back, each server must serve a write
within 15 s, and all come to the same state. ``expect leaders 2`` (or
``snapshots``, ``crashes``, ``torn``, ``done``, ``voters``) asks for at least
that many, lest a scenario tests nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster_sim import CALM, Options, SimCluster, SimServer
from linearizability import check
from sim_checks import SimFsm, Violation
from sim_clients import Client, KvClient, LockClient, TtlClient, register_node
from sim_network import Weather

from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply

PROGRESS_S = 15.0
Action = tuple[float, list[str]]


class ScenarioError(Exception):
    """A line of a scenario says nothing this runner knows."""


@dataclass
class Scenario:
    """A parsed scenario."""

    name: str
    options: Options = field(default_factory=Options)
    loads: list[tuple[str, int, float]] = field(
        default_factory=list[tuple[str, int, float]]
    )
    actions: list[Action] = field(default_factory=list[Action])
    run_s: float = 8.0
    expects: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])


def load(path: Path) -> Scenario:
    """Read a scenario file."""
    return parse(path.stem, path.read_text())


def parse(name: str, text: str) -> Scenario:
    """Read a scenario; raises ``ScenarioError`` naming the line."""
    found = Scenario(name)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                _statement(found, words)
            except (ValueError, IndexError, KeyError, ScenarioError) as error:
                raise ScenarioError(
                    f"{name}:{number}: {line.strip()}: {error}"
                ) from None
    return found


def _statement(found: Scenario, words: list[str]) -> None:
    options = found.options
    match words:
        case ["servers", count]:
            options.servers = int(count)
        case ["weather", *pairs]:
            values = dict(zip(pairs[::2], map(float, pairs[1::2]), strict=True))
            options.weather = Weather(**values)
        case ["skew", share]:
            options.skew = float(share)
        case ["snapshots", "every", every, "keep", keep]:
            options.snapshot_every, options.trailing = int(every), int(keep)
        case ["sync", time]:
            options.sync_s = float(time.removesuffix("ms")) / 1000
        case ["load", kind, count, rate] if kind in ("kv", "locks", "ttl"):
            found.loads.append((kind, int(count), float(rate.removesuffix("/s"))))
        case ["at", when, verb, *rest] if verb in ACTIONS:
            found.actions.append((float(when), [verb, *rest]))
        case ["run", seconds]:
            found.run_s = float(seconds)
        case ["expect", what, count] if what in EXPECTS:
            found.expects.append((what, int(count)))
        case ["until", "progress"]:
            pass
        case _:
            raise ScenarioError("unknown statement")


class Run:
    """One scenario with one seed; raises ``Violation``."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.cluster = SimCluster(seed, scenario.options)
        self.rng = random.Random(self.cluster.rng.random())
        self.clients: list[Client] = []
        self.old_leader: SimServer | None = None
        self.log: list[str] = []

    def go(self) -> Run:
        """Run to the end."""
        cluster, scenario = self.cluster, self.scenario
        with cluster.running():
            cluster.start()
            if not cluster.run(10.0, lambda: cluster.leader() is not None):
                raise Violation("no first leader within 10 s")
            self._register()
            self._begin_load()
            begin = cluster.clock.now
            for when, words in scenario.actions:
                cluster.clock.at(begin + when, lambda words=words: self._act(words))
            cluster.run(scenario.run_s)
            self._recover()
            self._converge()
            self._expect()
        return self

    # --- load ---

    def _register(self) -> None:
        done: list[bool] = []
        for _ in range(20):
            register_node(self.cluster, lambda got: done.append(isinstance(got, Reply)))
            self.cluster.run(4.0, lambda: bool(done))
            if done and done.pop():
                return
        raise Violation("the first write fails")

    def _begin_load(self) -> None:
        written: set[str] = set()
        for kind, count, rate in self.scenario.loads:
            for number in range(count):
                pause, name = count / rate, f"{kind}{number}"
                client: Client
                if kind == "kv":
                    client = KvClient(self.cluster, name, pause, written)
                elif kind == "locks":
                    client = LockClient(self.cluster, name, pause)
                else:
                    client = TtlClient(self.cluster, name, pause)
                self.clients.append(client)
                client.start()

    # --- faults ---

    def _act(self, words: list[str]) -> None:
        if self.cluster.faulty:
            self.log.append(f"{self.cluster.clock.now:.3f} {' '.join(words)}")
            ACTIONS[words[0]](self, words[1:])

    def one(self, name: str) -> SimServer:
        """The server a word means."""
        cluster = self.cluster
        leader = cluster.leader()
        if name == "leader":
            if leader is not None:
                self.old_leader = leader
            return self.old_leader or cluster.servers[0]
        if name == "old-leader":
            return self.old_leader or cluster.servers[0]
        if name == "follower":
            others = [s for s in cluster.servers if s is not leader and s.machine.up]
            return self.rng.choice(others or cluster.servers)
        return cluster.servers[int(name.removeprefix("s")) - 1]

    # --- the end ---

    def _recover(self) -> None:
        """End all faults; each server must serve a write soon."""
        cluster = self.cluster
        cluster.faulty = False
        cluster.network.heal()
        cluster.network.weather = CALM
        for server in cluster.servers:
            server.disk.full = False
            server.machine.resume()
            if server.disk.failing:
                server.crash()
            server.start()
        self._clients_go_on()
        for client in self.clients:
            client.stopped = True
        if not cluster.run(10.0, lambda: all(c.idle for c in self.clients)):
            raise Violation("a client waits for ever")
        history = [op for client in self.clients for op in client.history]
        verdict = check(history)
        if not verdict.ok:
            raise Violation(str(verdict))

    def _clients_go_on(self) -> None:
        cluster = self.cluster
        for server in cluster.servers:
            if not cluster.run(PROGRESS_S, lambda s=server: self._serves(s)):
                raise Violation(f"{server.name} does not serve {PROGRESS_S} s later")
        before = [client.done for client in self.clients]

        def all_moved() -> bool:
            return all(
                client.done > then + 2
                for client, then in zip(self.clients, before, strict=True)
            )

        if not cluster.run(PROGRESS_S, all_moved):
            raise Violation("no progress after all faults have ended")

    def _serves(self, server: SimServer) -> bool:
        driver = server.driver
        return driver is not None and (driver.is_leader or bool(driver.leader_address))

    def _converge(self) -> None:
        """Everybody applies the same; sessions nobody renews have ended."""
        cluster = self.cluster

        def agreed() -> bool:
            marks = {self._mark(server) for server in cluster.servers}
            return len(marks) == 1 and None not in marks

        cluster.run(2.0)
        if not cluster.run(PROGRESS_S, agreed):
            raise Violation(f"no agreement: {list(map(self._mark, cluster.servers))}")
        for server in cluster.servers:
            assert server.driver is not None
            fsm = server.driver.fsm
            assert isinstance(fsm, SimFsm)
            cluster.checks.on_state(server, fsm.index, fsm.state)
            left = [s for s in fsm.state.all_sessions() if s.ttl]
            if left:
                raise Violation(f"sessions outlive their TTL: {left}")
        cluster.checks.raise_failure()

    def _mark(self, server: SimServer) -> tuple[int, int, int] | None:
        driver = server.driver
        if driver is None or driver.core is None:
            return None
        core, fsm = driver.core, driver.fsm
        assert isinstance(fsm, SimFsm)
        voter = core.id in core.configuration.voters()
        return (core.log.applied, core.log.last_index, fsm.index) if voter else None

    def _expect(self) -> None:
        for what, count in self.scenario.expects:
            found = EXPECTS[what](self)
            if found < count:
                raise Violation(f"expected {what} {count}, found {found}")


EXPECTS: dict[str, Callable[[Run], int]] = {
    "leaders": lambda run: len(run.cluster.checks.leaders),
    "snapshots": lambda run: run.cluster.checks.installs,
    "crashes": lambda run: sum(s.crashes for s in run.cluster.servers),
    "torn": lambda run: sum(d.torn for d in run.cluster.disks.values()),
    "done": lambda run: sum(c.done for c in run.clients),
    "voters": lambda run: min(
        len(s.driver.configuration.voters()) for s in run.cluster.servers if s.driver
    ),
}


def _isolate(run: Run, names: list[str]) -> None:
    lonely = run.one(names[0])
    for other in run.cluster.servers:
        if other is not lonely:
            run.cluster.network.cut(lonely.place, other.place)


def _partition(run: Run, names: list[str]) -> None:
    at = names.index("|")
    left = {run.one(name).place for name in names[:at]}
    right = {run.one(name).place for name in names[at + 1 :]}
    run.cluster.network.split(left, right)


def _cut(run: Run, names: list[str]) -> None:
    run.cluster.network.cut(run.one(names[0]).place, run.one(names[1]).place)


def _one_way(run: Run, names: list[str]) -> None:
    source, target = run.one(names[0]).place, run.one(names[1]).place
    run.cluster.network.cut(source, target, both=False)


def _flap(run: Run, words: list[str]) -> None:
    """A link that comes and goes, several times a second."""
    one, other = run.one(words[0]).place, run.one(words[1]).place
    cluster, ends = run.cluster, run.cluster.clock.now + float(words[2])

    def flip(down: bool) -> None:
        if not cluster.faulty:
            return
        down = down and cluster.clock.now < ends
        for pair in ((one, other), (other, one)):
            if down:
                cluster.network._cut.add(pair)
            else:
                cluster.network._cut.discard(pair)
        if cluster.clock.now < ends:
            wait = run.rng.uniform(0.02, 0.4)
            cluster.clock.at(cluster.clock.now + wait, lambda: flip(not down))

    flip(True)


def _heal(run: Run, words: list[str]) -> None:
    run.cluster.network.heal()


def _crash(run: Run, names: list[str]) -> None:
    run.one(names[0]).crash()


def _restart(run: Run, names: list[str]) -> None:
    if names[0] == "all":
        for server in run.cluster.servers:
            server.start()
    else:
        run.one(names[0]).start()


def _power_cut(run: Run, words: list[str]) -> None:
    for server in run.cluster.servers:
        server.crash()


def _pause(run: Run, words: list[str]) -> None:
    machine = run.one(words[0]).machine
    machine.pause()
    clock = run.cluster.clock
    clock.at(clock.now + float(words[1]), machine.resume)


def _slow(run: Run, words: list[str]) -> None:
    """A busy machine: it stands still for moments."""
    machine = run.one(words[0]).machine
    cluster, ends = run.cluster, run.cluster.clock.now + float(words[1])

    def stall() -> None:
        if cluster.faulty and cluster.clock.now < ends:
            machine.pause()
            wait = run.rng.uniform(0.01, 0.3)
            cluster.clock.at(cluster.clock.now + wait, go_on)

    def go_on() -> None:
        machine.resume()
        cluster.clock.at(cluster.clock.now + run.rng.uniform(0.01, 0.2), stall)

    stall()


def _disk_fails(run: Run, names: list[str]) -> None:
    """Every write fails from now on: the server stops, until it is restarted."""
    run.one(names[0]).disk.failing = True


def _disk_full(run: Run, words: list[str]) -> None:
    """No snapshot can be stored for a while."""
    disk = run.one(words[0]).disk
    disk.full = True
    clock = run.cluster.clock
    clock.at(clock.now + float(words[1]), lambda: setattr(disk, "full", False))


def _wipe(run: Run, names: list[str]) -> None:
    server = run.one(names[0])
    server.wipe(run.cluster.new_id())
    server.start()


def _on_leader(run: Run, act: Callable[[SimServer], None]) -> None:
    leader = run.cluster.leader()
    if leader is None:
        return

    def safely() -> None:
        try:
            act(leader)
        except ConsulError:
            pass

    leader.machine.run(safely)


def _remove(run: Run, names: list[str]) -> None:
    server_id = run.one(names[0]).id

    def act(leader: SimServer) -> None:
        assert leader.driver is not None
        leader.driver.remove_server(server_id).add_done_callback(_taken)

    _on_leader(run, act)


def _demote(run: Run, names: list[str]) -> None:
    server_id = run.one(names[0]).id

    def act(leader: SimServer) -> None:
        assert leader.driver is not None
        leader.driver.demote(server_id).add_done_callback(_taken)

    _on_leader(run, act)


def _taken(done: object) -> None:
    done.cancelled() or done.exception()  # type: ignore[attr-defined]


def _transfer(run: Run, names: list[str]) -> None:
    target = run.one(names[0]).id if names else ""

    def act(leader: SimServer) -> None:
        assert leader.driver is not None
        leader.driver.transfer_leadership(target)

    _on_leader(run, act)


def _snapshot(run: Run, names: list[str]) -> None:
    server = run.one(names[0])

    def act() -> None:
        assert server.driver is not None
        assert server.machine.loop is not None
        if server.driver.core is not None:
            server.machine.loop.create_task(server.driver.snapshot())

    server.machine.run(act)


ACTIONS: dict[str, Callable[[Run, list[str]], None]] = {
    "crash": _crash,
    "cut": _cut,
    "demote": _demote,
    "disk-fails": _disk_fails,
    "disk-full": _disk_full,
    "flap": _flap,
    "heal": _heal,
    "isolate": _isolate,
    "one-way": _one_way,
    "partition": _partition,
    "pause": _pause,
    "power-cut": _power_cut,
    "remove": _remove,
    "restart": _restart,
    "slow": _slow,
    "snapshot": _snapshot,
    "transfer": _transfer,
    "wipe": _wipe,
}
