"""``bootstrap_expect``: who starts the cluster, and who does not."""

from __future__ import annotations

import asyncio

import pytest
from endpoints_fakes import run, settle
from endpoints_pool import FakePool, FakeRemote, client, node_id, peer, peers, server

from pyconsul.endpoints.bootstrap import (
    Bootstrap,
    Verdict,
    decide,
    first_configuration,
)
from pyconsul.raft.messages import Configuration
from pyconsul.serf.member import Member, Status


def three(number: int, status: Status = Status.ALIVE) -> Member:
    """A server that expects three."""
    return server(number, status, expect="3")


class FakeLog:
    def __init__(self) -> None:
        self.has_state = False
        self.started: list[Configuration] = []

    def bootstrap(self, configuration: Configuration) -> None:
        self.started.append(configuration)
        self.has_state = True


def bootstrap(log: FakeLog, pool: FakePool, remote: FakeRemote) -> Bootstrap:
    return Bootstrap(log, pool, remote, datacenter="dc1", node_id=node_id(1), expect=3)


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ([three(1), three(2)], Verdict.WAIT),
        ([three(n) for n in (1, 2, 3)], Verdict.ASK),
        ([three(n) for n in (1, 2)] + [client(1)], Verdict.WAIT),
        (
            [three(1), three(2), three(3, Status.FAILED)],
            Verdict.WAIT,
        ),
        ([three(1), server(2, expect="5")], Verdict.REFUSED),
        ([three(1), server(2, bootstrap="1")], Verdict.REFUSED),
        (
            [three(1), three(2), server(3, dc="dc2", expect="3")],
            Verdict.WAIT,
        ),
        (
            [three(n) for n in (1, 2)] + [server(3, read_replica="1", expect="3")],
            Verdict.WAIT,
        ),
    ],
)
def test_when_enough_are_there(members: list[Member], verdict: Verdict) -> None:
    assert decide(members, "dc1", 3).verdict is verdict


def test_all_start_with_the_same_configuration() -> None:
    one = decide([three(n) for n in (1, 2, 3)], "dc1", 3)
    other = decide([three(n) for n in (3, 1, 2)], "dc1", 3)
    assert first_configuration(one.servers) == peers(1, 2, 3)
    assert first_configuration(other.servers) == peers(1, 2, 3)
    replica = [*one.servers, *decide([server(4, read_replica="1")], "dc1", 0).servers]
    assert first_configuration(replica).servers[3] == peer(4, votes=False)


def test_it_starts_when_the_last_has_come() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(three(1), three(2))
        starter = bootstrap(log, pool, remote)
        starter.on_members()
        starter.start()
        await settle()
        assert log.started == []
        pool.known["n3"] = three(3)
        remote.peers = {"10.0.0.2:8300": [], "10.0.0.3:8300": []}
        starter.on_members()
        starter.on_members()
        await settle()
        assert log.started == [peers(1, 2, 3)]
        assert starter.expect == 0
        # Ourselves we need not ask.
        assert sorted(remote.asked) == [
            ("Status.Peers", "10.0.0.2:8300"),
            ("Status.Peers", "10.0.0.3:8300"),
        ]

    run(main)


def test_a_cluster_that_exists_is_waited_for() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(*(three(n) for n in (1, 2, 3)))
        remote.peers = {"10.0.0.2:8300": ["10.0.0.2:8300"], "10.0.0.3:8300": []}
        starter = bootstrap(log, pool, remote)
        starter.start()
        await settle()
        assert log.started == []
        assert starter.expect == 0

    run(main)


def test_servers_that_do_not_answer_are_asked_again() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(*(three(n) for n in (1, 2, 3)))
        remote.peers["10.0.0.3:8300"] = []
        starter = bootstrap(log, pool, remote)
        starter.start()
        await asyncio.sleep(2.5)
        assert log.started == []
        remote.peers["10.0.0.2:8300"] = []
        await asyncio.sleep(1)
        assert log.started == [peers(1, 2, 3)]

    run(main)


def test_after_six_tries_the_next_event_begins_anew() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(*(three(n) for n in (1, 2, 3)))
        starter = bootstrap(log, pool, remote)
        starter.start()
        await asyncio.sleep(100)
        assert len(remote.asked) == 6
        assert starter.expect == 3
        remote.peers = {"10.0.0.2:8300": [], "10.0.0.3:8300": []}
        starter.on_members()
        await settle()
        assert log.started == [peers(1, 2, 3)]

    run(main)


def test_after_six_tries_and_a_minute_it_begins_anew_by_itself() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(*(three(n) for n in (1, 2, 3)))
        starter = bootstrap(log, pool, remote)
        starter.start()
        await asyncio.sleep(100)
        assert log.started == []
        # Its RPC port was out of reach, which gossip does not see.
        remote.peers = {"10.0.0.2:8300": [], "10.0.0.3:8300": []}
        await asyncio.sleep(60)
        assert log.started == [peers(1, 2, 3)]

    run(main)


def test_a_leader_that_took_us_in_ends_it() -> None:
    async def main() -> None:
        log, remote = FakeLog(), FakeRemote()
        pool = FakePool(*(three(n) for n in (1, 2, 3)))
        starter = bootstrap(log, pool, remote)
        starter.start()
        await asyncio.sleep(1.5)
        log.has_state = True
        remote.peers = {"10.0.0.2:8300": [], "10.0.0.3:8300": []}
        await asyncio.sleep(10)
        assert log.started == []
        starter.on_members()
        assert starter.expect == 0

    run(main)
