"""When the founder of a cluster stands for election."""

from __future__ import annotations

import random

import pytest

from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import Configuration, Entry, Peer, Settings, VoteRequest

SERVERS = Configuration(servers=tuple(Peer(id=name, address=name) for name in "abc"))
NOW = 100.0


class NoReader:
    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        raise AssertionError("these short logs stay in memory")


def founder(seed: int, spread: float | None) -> Raft:
    core = Raft(
        "a",
        RaftLog(NoReader()),
        settings=Settings(election_timeout=1.0, founding_spread=spread),
        rng=random.Random(seed),
        now=0.0,
    )
    core.tick(NOW)
    core.bootstrap(SERVERS)
    return core


def due(core: Raft) -> float:
    deadline = core.next_deadline()
    assert deadline is not None
    return deadline - NOW


def test_founders_stand_soon_and_at_different_times() -> None:
    times = {due(founder(seed, 0.25)) for seed in range(20)}
    assert len(times) == 20
    assert all(0 <= time <= 0.25 for time in times)


def test_without_a_spread_it_waits_as_a_follower_does() -> None:
    assert all(1 <= due(founder(seed, None)) <= 2 for seed in range(20))


@pytest.mark.parametrize("seed", range(5))
def test_one_that_nobody_votes_for_waits_as_others_do(seed: int) -> None:
    core = founder(seed, 0.25)
    core.tick(NOW + 0.25)
    ready = core.ready()
    assert ready is not None
    asked = [m.target for m in ready.after_persist if isinstance(m, VoteRequest)]
    assert asked == ["b", "c"]
    assert 1.25 <= due(core) <= 2.25
