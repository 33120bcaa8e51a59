"""Whole servers through faults, and proof that the checks see broken rules.

A failing run prints the line that repeats it (``soak.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_sim import Options, SimCluster, SimServer
from scenario import EXPECTS, Run, ScenarioError, load, parse
from sim_checks import Violation
from sim_clients import NODE, Asking, Outcome
from soak import DATA, FILES, run_cluster, scenario

from pyconsul.acl.authorizer import OpenResolver
from pyconsul.endpoints.autopilot import raft_stats
from pyconsul.endpoints.server import LOCAL, WRITES, Server
from pyconsul.endpoints.session_timers import SessionTimers
from pyconsul.net import raft_waiting
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_pump import RaftPump
from pyconsul.raft.core import Raft
from pyconsul.raft.elections import Elections
from pyconsul.raft.following import Following
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import AppendRequest, Ready, VoteRequest
from pyconsul.raft.replication import Leadership
from pyconsul.state.kv import KVTable
from pyconsul.types.messages import KVSRequest, RegisterRequest, Reply, SessionRequest
from pyconsul.types.records import DirEntry, Session

Break = Callable[[pytest.MonkeyPatch, Run], None]
FOUND = sorted((DATA / "found").glob("*.txt"))
OPEN = OpenResolver().resolve("")
BOUND = 30
"""A broken rule must be seen by one of this many seeds."""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_scenarios(name: str, seed: int) -> None:
    run_cluster(name, seed)


@pytest.mark.parametrize("seed", range(32))
def test_anything_may_happen(seed: int) -> None:
    run_cluster("chaos", seed)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *(("chaos", seed) for seed in range(8)),
        *((name, 3) for name in ("leader-crash", "power-cut", "far-behind")),
    ],
)
def test_commands_in_chunks(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Most commands take two to four entries: leaders change amid them, and
    # snapshots are taken.
    monkeypatch.setattr(raft_waiting, "CHUNK_BYTES", 64)
    run = run_cluster(name, seed)
    logs = [server.disk.entries for server in run.cluster.servers]
    assert any(entry.extensions for log in logs for entry in log)


# Seeds that found something, each with what it was.
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        # Renewed while the command that ends the session was under way.
        ("ttl-partition", 12),
        ("ttl-partition", 19),
        ("ttl-partition", 94),
    ],
)
def test_seeds_that_failed_once(name: str, seed: int) -> None:
    run_cluster(name, seed)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_drawn_scenarios_that_failed_once(path: Path) -> None:
    """Each file is named by its seed and says what it found."""
    Run(load(path), int(path.stem.rpartition("-")[2])).go()


def ask(cluster: SimCluster, server: SimServer, method: str, args: Any) -> Any:
    """Return the value of an answer."""
    answers: list[Outcome] = []
    Asking(cluster, server, method, args, answers.append)
    assert cluster.run(5.0, lambda: bool(answers))
    assert isinstance(answers[0], Reply), answers[0]
    return answers[0].value


@pytest.mark.parametrize("seed", range(4))
def test_lock_delay_outlives_the_leader(seed: int) -> None:
    cluster = SimCluster(seed, Options(servers=3))
    with cluster.running():
        cluster.start()
        assert cluster.run(5.0, lambda: cluster.leader() is not None)
        follower = next(s for s in cluster.servers if not s.leads)
        cluster.run(0.5)

        def session(delay_s: float) -> str:
            made = Session(node=NODE, lock_delay=int(delay_s * 1e9), ttl="500ms")
            request = SessionRequest(op="create", session=made)
            return ask(cluster, follower, "Session.Apply", request)

        def acquire(one: str) -> bool:
            entry = DirEntry(key="lock", session=one)
            request = KVSRequest(op="lock", dir_ent=entry)
            return ask(cluster, follower, "KVS.Apply", request)

        register = RegisterRequest(node=NODE, address="10.1.0.1")
        assert ask(cluster, follower, "Catalog.Register", register)
        dying = session(3.0)
        assert acquire(dying)
        assert follower.state is not None
        state = follower.state
        assert not acquire(session(0.0)), "held"
        ended = cluster.run(2.0, lambda: state.get_session(dying) is None)
        assert ended, "a session nobody renews outlives its TTL"
        begin = cluster.clock.now
        assert not acquire(session(0.0)), "the lock-delay has begun"
        leader = cluster.leader()
        assert leader is not None
        leader.crash()
        while cluster.clock.now - begin < 2.9:
            assert not acquire(session(0.0)), cluster.clock.now - begin
        cluster.run(0.3)
        assert acquire(session(0.0))


def trace(seed: int) -> list[Any]:
    run = run_cluster("chaos", seed)
    ops = [str(op) for client in run.clients for op in client.history]
    return [*run.log, *ops, *run.cluster.checks.committed.items()]


def test_a_seed_repeats_itself() -> None:
    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def test_without_faults_there_is_one_leader_and_nothing_unknown() -> None:
    text = "servers 5\nload kv 4 80/s\nload locks 2 20/s\nrun 5\nexpect done 350"
    run = Run(parse("calm", text), 1).go()
    assert len(run.cluster.checks.leaders) == 1
    history = [op for client in run.clients for op in client.history]
    assert all(op.back < math.inf for op in history)
    assert EXPECTS["crashes"](run) == 0


@pytest.mark.parametrize(
    "line", ["servers many", "at 1.0 explode s1", "load tea 1 2/s", "expect tea 1"]
)
def test_a_line_that_means_nothing_is_named(line: str) -> None:
    with pytest.raises(ScenarioError, match=f"bad:2: {line}"):
        parse("bad", f"servers 3\n{line}\n")


# --- rules broken on purpose ---


def two_votes(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    honest = Elections._on_vote_request

    def vote(self: Elections, message: VoteRequest) -> None:
        self.vote = self.leader_id = ""
        honest(self, message)

    monkeypatch.setattr(Elections, "_on_vote_request", vote)


def forgotten_votes(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Term and vote are not on disk before a vote is given."""
    honest = SimServer.start

    def start(self: SimServer) -> None:
        self.disk.state = type(self.disk.state)(term=max(self.disk.state.term - 1, 1))
        honest(self)

    monkeypatch.setattr(SimServer, "start", start)


def votes_for_old_logs(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    honest = Elections._on_vote_request

    def vote(self: Elections, message: VoteRequest) -> None:
        last = (self.log.last_term, self.log.last_index)
        new = type(message)(
            sender=message.sender,
            target=message.target,
            term=message.term,
            tag=message.tag,
            last_term=last[0],
            last_index=last[1],
            pre=message.pre,
            transfer=message.transfer,
        )
        honest(self, new)

    monkeypatch.setattr(Elections, "_on_vote_request", vote)


def commit_alone(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(Leadership, "quorum_index", lambda self: self.log.stable)


def count_before_sync(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Answers leave before what they promise is on disk."""
    honest = RaftPump._handle

    def handle(self: RaftPump, ready: Ready) -> None:
        ready.messages = [*ready.messages, *ready.after_persist]
        ready.after_persist = []
        honest(self, ready)

    monkeypatch.setattr(RaftPump, "_handle", handle)


def lose_synced_entries(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    for server in run.cluster.servers:
        server.disk.lose_synced = 5


def append_unseen(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A follower takes entries without looking at what stands before them."""
    honest = Following._on_append

    def append(self: Following, message: AppendRequest) -> None:
        previous = self.log.term(message.prev_index)
        if previous is not None:
            message = type(message)(
                sender=message.sender,
                target=message.target,
                term=message.term,
                tag=message.tag,
                prev_index=message.prev_index,
                prev_term=previous,
                entries=message.entries,
                commit=message.commit,
            )
        honest(self, message)

    monkeypatch.setattr(Following, "_on_append", append)


def trust_old_terms(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A leader takes entries of earlier terms for committed and applied."""
    honest = Leadership.__init__

    def begin(self: Leadership, *args: Any) -> None:
        honest(self, *args)
        self.term_start = 0

    monkeypatch.setattr(Leadership, "__init__", begin)


def read_without_lease(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    run.cluster.checks.leases = False
    monkeypatch.setattr(RaftDriver, "has_lease", lambda self: self.is_leader)


def lease_too_long(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """The lease outlives the time after which others elect."""

    def has_lease(self: Raft, now: float) -> bool:
        lead = self.leadership
        return lead is not None and now - lead.lease_start < 3.0

    def tick(self: Raft, now: float) -> None:
        lead = self.leadership
        if lead is not None and now - lead.lease_start < 3.0:
            self._now = max(self._now, now)
            if now >= lead.heartbeat_due:
                self._messages.extend(lead.begin_round(now))
            return
        honest(self, now)

    honest = Raft.tick
    monkeypatch.setattr(Raft, "has_lease", has_lease)
    monkeypatch.setattr(Raft, "tick", tick)


def confirm_reads_alone(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A consistent read is answered by a leader without asking anybody."""
    run.cluster.checks.leases = False

    def verify(self: RaftDriver) -> Any:
        future = self._loop.create_future()
        future.set_result(None)
        return future

    monkeypatch.setattr(RaftDriver, "verify_leader", verify)
    monkeypatch.setattr(RaftDriver, "has_lease", lambda self: self.is_leader)


def lead_before_caught_up(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A new leader reads and writes before it has applied the old terms."""
    monkeypatch.setattr(Raft, "caught_up", lambda self: self.leadership is not None)


def two_holders(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A lock is given to whoever asks."""

    def lock(self: KVTable, index: int, entry: DirEntry) -> DirEntry | None:
        return self._write(index, entry, entry.session, 1)

    monkeypatch.setattr(KVTable, "lock", lock)


def private_state(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Applying depends on something that is not in the command."""
    counter = itertools.count()
    honest = KVTable.set

    def put(self: KVTable, index: int, entry: DirEntry) -> DirEntry:
        flags = int(next(counter) % 97 == 0)
        fresh = DirEntry(key=entry.key, value=entry.value, flags=flags)
        return honest(self, index, fresh)

    monkeypatch.setattr(KVTable, "set", put)


def lost_truncation(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A follower keeps its own entries where the leader has others."""
    monkeypatch.setattr(RaftLog, "conflict", _by_index)


def _by_index(self: RaftLog, entries: Any) -> int:
    for position, entry in enumerate(entries):
        if entry.index > self.last_index:
            return position
    return len(entries)


def renew_the_dying(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A session is renewed although its end is under way."""
    monkeypatch.setattr(SessionTimers, "is_ending", lambda self, session: False)


class _AtLeast(int):
    """An index that takes every lower one for itself."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) >= other

    __hash__ = int.__hash__


def read_behind(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A follower answers default reads from what it has, however old."""
    monkeypatch.setattr(Server, "_applied_index", lambda self: _AtLeast(1 << 60))


def read_ahead(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """A follower answers default reads although it is ahead of its leader."""
    honest = Server._applied_index
    index = lambda self: _AtLeast(honest(self))  # noqa: E731
    monkeypatch.setattr(Server, "_applied_index", index)

    def stats(server: Server, args: Any, who: Any) -> Reply:
        return Reply(raft_stats(server.log))

    monkeypatch.setitem(LOCAL, "Status.RaftStats", stats)


def trust_old_leaders(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Writes are taken by whoever thinks it leads, though its lease is over."""
    honest = Server.lead

    def lead(self: Server, method: str, args: Any) -> Any:
        write = WRITES.get(method)
        return honest(self, method, args) if write is None else write(self, args, OPEN)

    monkeypatch.setattr(Server, "lead", lead)


# What breaks which rule, where to look, what is then said, and the first seed.
BROKEN: list[tuple[Break, str, str, int]] = [
    (two_votes, "chaos", "votes twice|two leaders|reads", 0),
    (forgotten_votes, "chaos", "", 0),
    (votes_for_old_logs, "behind-candidate", "lost the entry|has not the entry", 5),
    (commit_alone, "leader-isolated", "is committed, but", 0),
    (count_before_sync, "power-cut", "", 0),
    (lose_synced_entries, "power-cut", "", 0),
    (append_unseen, "behind-candidate", "", 0),
    (trust_old_terms, "chaos", "", 0),
    (read_without_lease, "pause-leader", "not linearizable", 1),
    (lease_too_long, "leader-isolated", "both hold a lease|not linearizable", 0),
    (confirm_reads_alone, "pause-leader", "not linearizable", 5),
    (lead_before_caught_up, "chaos", "not linearizable", 1),
    (two_holders, "leader-crash", "not linearizable: lock", 0),
    (private_state, "rolling-restart", "another state", 0),
    (read_behind, "chaos", "not linearizable", 0),
    (read_ahead, "pause-leader", "not linearizable", 2),
    (trust_old_leaders, "pause-ttl", "ended before its TTL", 32),
    (renew_the_dying, "ttl-partition", "ended before its TTL", 12),
    (lost_truncation, "leader-isolated", "", 0),
]


@pytest.mark.parametrize(
    ("broken", "name", "what", "first"),
    BROKEN,
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_rule_is_seen(
    broken: Break, name: str, what: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(first, first + BOUND):
        run = Run(scenario(name, seed), seed)
        with monkeypatch.context() as patch:
            broken(patch, run)
            try:
                run.go()
            except (Violation, AssertionError) as found:
                print(seed, str(found)[:300])
                if not what or any(part in str(found) for part in what.split("|")):
                    return
    pytest.fail(f"{BOUND} seeds did not see it")


def test_cluster_of_unequal_clocks() -> None:
    """A lease holds although clocks differ by as much as it tolerates."""
    text = "servers 5\nskew 0.2\nload kv 4 80/s\nat 1 isolate leader\nat 3 heal\n"
    run = Run(parse("skew", text + "at 4 pause leader 1\nrun 6\nexpect leaders 2"), 3)
    assert isinstance(run.cluster, SimCluster)
    run.go()
