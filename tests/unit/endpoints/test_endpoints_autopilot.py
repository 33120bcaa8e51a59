"""Autopilot: newcomers vote after a while, the dead are removed, in numbers."""

from __future__ import annotations

import asyncio

import pytest
from endpoints_fakes import run, settle
from endpoints_pool import FakePool, Fleet, node_id, peer, peers, server

from pyconsul.endpoints import autopilot_rules as rules
from pyconsul.endpoints.pool import server_of
from pyconsul.raft.messages import VOTER, Configuration
from pyconsul.serf.member import Status
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import DCSpecificRequest, EmptyRequest
from pyconsul.types.operations import (
    DEFAULT_AUTOPILOT,
    AutopilotConfig,
    AutopilotHealth,
    AutopilotSetConfigRequest,
    RaftRemovePeerRequest,
    RaftStats,
    RaftTransferLeaderRequest,
)

LEADER = RaftStats(last_contact="0", last_term=5, last_index=1000)


@pytest.mark.parametrize(
    ("contact", "term", "index", "healthy"),
    [
        ("0", 5, 1000, True),
        ("200ms", 5, 750, True),
        ("201ms", 5, 1000, False),
        ("never", 5, 1000, False),
        ("", 5, 749, False),
        ("0", 4, 1000, False),
    ],
)
def test_who_is_healthy(contact: str, term: int, index: int, healthy: bool) -> None:
    stats = RaftStats(last_contact=contact, last_term=term, last_index=index)
    config = DEFAULT_AUTOPILOT
    assert rules.is_healthy(config, Status.ALIVE, stats, LEADER) is healthy
    late = rules.is_healthy(config, Status.ALIVE, stats, LEADER, heartbeat_ns=10**6)
    assert late is (healthy or contact == "201ms")
    assert not rules.is_healthy(config, Status.FAILED, stats, LEADER)
    assert not rules.is_healthy(config, Status.ALIVE, None, LEADER)


@pytest.mark.parametrize(
    ("failed", "missing", "min_quorum", "removed"),
    [
        ((3,), (), 0, 1),
        ((2, 3), (), 0, 1),  # of three at most one
        ((3,), (), 3, 0),  # three are to stay
        ((), (3,), 0, 1),
        ((2,), (3,), 0, 1),
    ],
)
def test_how_many_dead_voters_go(
    failed: tuple[int, ...], missing: tuple[int, ...], min_quorum: int, removed: int
) -> None:
    members = [
        server(n, Status.FAILED if n in failed else Status.ALIVE)
        for n in (1, 2, 3)
        if n not in missing
    ]
    infos = [server_of(member, "dc1") for member in members]
    known = rules.by_id([info for info in infos if info is not None])
    found = rules.removals(peers(1, 2, 3), known, node_id(1), min_quorum)
    assert len(found.failed) + len(found.stale) == removed
    if missing and removed:
        assert found.stale == [node_id(3)]
    assert len(found.refused) == len(failed) + len(missing) - removed


def test_dead_servers_without_a_vote_always_go() -> None:
    config = Configuration(servers=(peer(1), peer(2), peer(4, votes=False)))
    infos = [
        server_of(m, "dc1") for m in (server(1), server(2), server(4, Status.FAILED))
    ]
    known = rules.by_id([info for info in infos if info is not None])
    assert rules.removals(config, known, node_id(1), 3).failed == ["n4"]


async def health_of(fleet: Fleet) -> AutopilotHealth:
    return (await fleet.ask("Operator.ServerHealth", DCSpecificRequest())).value


def test_a_forming_cluster_gets_its_voters_at_once() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.lead(True)
        fleet.well(2, 3)
        fleet.tell("join", server(2), server(3))
        await settle()
        assert len(fleet.all_peers()) == 3
        assert fleet.voters() == {"10.0.0.1:8300"}
        await asyncio.sleep(4.5)
        assert len(fleet.voters()) == 3
        health = await health_of(fleet)
        assert (health.healthy, health.failure_tolerance) == (True, 1)
        assert [one.leader for one in health.servers] == [True, False, False]
        assert health.servers[1].last_contact == 12_000_000
        changes, commands = fleet.log.changes, len(fleet.log.commands)
        await asyncio.sleep(200)
        assert (fleet.log.changes, len(fleet.log.commands)) == (changes, commands)
        fleet.server.stop()

    run(main)


def test_a_server_of_another_cluster_is_no_peer() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        fleet.well(2, 3, 4, 5)
        fleet.remote.leaders = {
            "10.0.0.4:8300": "10.0.0.4:8300",
            "10.0.0.5:8300": "10.9.9.9:8300",
            "10.0.0.6:8300": ConsulError("not listening yet"),
            "10.0.0.7:8300": "10.0.0.2:8300",
        }
        fleet.tell("join", *(server(number) for number in range(2, 8)))
        await asyncio.sleep(40)
        # The last was a peer once, and has not heard yet that it is none.
        added = {"10.0.0.7:8300"}
        assert fleet.all_peers() == {f"10.0.0.{n}:8300" for n in (1, 2, 3)} | added
        # Emptied and started anew it is led by nobody.
        fleet.remote.leaders.clear()
        await asyncio.sleep(11)
        assert len(fleet.all_peers()) == 7
        fleet.server.stop()

    run(main)


def test_a_cluster_of_its_own_at_the_address_of_a_peer_replaces_nobody() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        fleet.well(2, 3)
        # Its disk was lost, and -bootstrap is still among its flags.
        again = server(3, id=node_id(9))
        fleet.remote.leaders["10.0.0.3:8300"] = "10.0.0.3:8300"
        fleet.tell("join", server(2), again)
        await asyncio.sleep(0.5)
        assert fleet.log.configuration == peers(1, 2, 3)
        await asyncio.sleep(40)
        # The one that had the address is gone for good; it leaves a place.
        assert fleet.log.configuration == peers(1, 2)
        fleet.remote.leaders.clear()
        await asyncio.sleep(11)
        assert fleet.log.configuration.get(node_id(9)) is not None
        fleet.server.stop()

    run(main)


def test_a_later_newcomer_must_be_stable_first() -> None:
    async def main() -> None:
        times = [0]
        fleet = Fleet()
        fleet.server.cluster.autopilot._clock_ns = lambda: times[0]  # pyright: ignore[reportPrivateUsage]
        fleet.log.lead(True)
        fleet.well(2)
        for at in range(60):
            times[0] = at * 1_000_000_000
            if at == 30:
                fleet.tell("join", server(2), server(4, read_replica="1"))
                fleet.well(4)
            if at == 35:
                fleet.remote.stats["10.0.0.2:8300"] = ConsulError("timeout")
            if at == 37:
                fleet.well(2)
            if at == 46:
                assert len(fleet.voters()) == 1
            await asyncio.sleep(1)
        assert fleet.voters() == {"10.0.0.1:8300", "10.0.0.2:8300"}
        assert len(fleet.all_peers()) == 3
        fleet.server.stop()

    run(main)


def test_a_dead_server_leaves_within_seconds() -> None:
    async def main() -> None:
        fleet = Fleet(server(2), server(3))
        fleet.log.configuration = peers(1, 2, 3)
        wan = FakePool()
        fleet.server.cluster.attach(fleet.pool, wan, fleet.remote)
        fleet.well(2, 3)
        fleet.log.lead(True)
        await asyncio.sleep(15)
        fleet.tell("failed", server(3, Status.FAILED))
        await asyncio.sleep(3)
        health = await health_of(fleet)
        assert (health.healthy, health.failure_tolerance) == (False, 0)
        await asyncio.sleep(8)
        assert fleet.pool.gone == ["n3"]
        assert wan.gone == ["n3.dc1"]
        fleet.tell("leave", server(3, Status.LEFT))
        await settle()
        assert len(fleet.voters()) == 2
        assert fleet.state.get_node("n3") is None
        fleet.server.stop()

    run(main)


def test_cleanup_can_be_switched_off() -> None:
    async def main() -> None:
        fleet = Fleet(server(2), server(3, Status.FAILED))
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        await settle()
        args = AutopilotSetConfigRequest(config=AutopilotConfig())
        assert (await fleet.ask("Operator.AutopilotSetConfiguration", args)).value
        await asyncio.sleep(30)
        assert fleet.pool.gone == []
        fleet.server.stop()

    run(main)


def test_a_newcomer_replaces_the_peer_at_its_address() -> None:
    async def main() -> None:
        fleet = Fleet(server(2), server(3))
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        fleet.tell("update", server(3, id=node_id(33)))
        await settle()
        configuration = fleet.log.configuration
        assert configuration.get(node_id(3)) is None
        found = configuration.get(node_id(33))
        assert found is not None
        assert found.address == "10.0.0.3:8300"
        # The same server at another address keeps its vote.
        fleet.tell("update", server(2, port="9300"))
        await settle()
        moved = fleet.log.configuration.get(node_id(2))
        assert moved is not None
        assert (moved.address, moved.suffrage) == ("10.0.0.2:9300", VOTER)
        fleet.server.stop()

    run(main)


def test_a_replacement_that_would_cost_the_quorum_is_refused() -> None:
    async def main() -> None:
        fleet = Fleet(server(2))
        fleet.log.configuration = peers(1, 2)
        fleet.log.lead(True)
        fleet.tell("update", server(2, id=node_id(22)))
        await settle()
        assert fleet.log.configuration == peers(1, 2)
        fleet.server.stop()

    run(main)


def test_a_failed_addition_is_tried_again() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.lead(True)
        await settle()
        # The registration of the member is lost, and its addition as a peer.
        fleet.log.failures = 2
        fleet.tell("join", server(2))
        await settle()
        assert len(fleet.all_peers()) == 1
        await asyncio.sleep(12)
        assert len(fleet.all_peers()) == 2
        fleet.server.stop()

    run(main)


def test_nothing_runs_without_leadership() -> None:
    async def main() -> None:
        fleet = Fleet(server(2))
        fleet.log.configuration = peers(1, 2)
        fleet.well(2)
        fleet.log.lead(True)
        await asyncio.sleep(5)
        fleet.log.lead(False)
        asked = len(fleet.remote.asked)
        await asyncio.sleep(60)
        assert len(fleet.remote.asked) == asked
        assert fleet.server.cluster.autopilot.health().servers == []

    run(main)


def test_operators_see_and_remove_peers() -> None:
    async def main() -> None:
        fleet = Fleet(server(2))
        fleet.log.configuration = peers(1, 2, 3)
        for method, args, text in (
            ("ByID", RaftRemovePeerRequest(id="zz"), 'id "zz"'),
            ("ByAddress", RaftRemovePeerRequest(address="1.2.3.4:1"), "address"),
        ):
            with pytest.raises(ConsulError, match=f"{text} .*was not found|{text}"):
                await fleet.ask(f"Operator.RaftRemovePeer{method}", args)
        await fleet.ask(
            "Operator.RaftRemovePeerByID", RaftRemovePeerRequest(id=node_id(3))
        )
        await fleet.ask(
            "Operator.RaftRemovePeerByAddress",
            RaftRemovePeerRequest(address="10.0.0.2:8300"),
        )
        assert fleet.log.configuration == peers(1)
        stats = (await fleet.ask("Status.RaftStats", EmptyRequest())).value
        assert (stats.last_contact, stats.last_term) == ("0", 2)
        assert (await fleet.ask("Status.Ping", EmptyRequest())).value is True

    run(main)


def test_the_leadership_is_handed_over() -> None:
    async def main() -> None:
        fleet = Fleet(server(2))
        fleet.log.configuration = peers(1, 2, 3)
        unknown = RaftTransferLeaderRequest(id="zz")
        with pytest.raises(ConsulError, match='id "zz" was not found'):
            await fleet.ask("Operator.TransferLeader", unknown)
        callbacks = len(fleet.log.on_leader_change)
        args = RaftTransferLeaderRequest(id=node_id(3))
        asked = asyncio.ensure_future(fleet.ask("Operator.TransferLeader", args))
        await settle()
        assert fleet.log.transfers == [node_id(3)]
        assert not asked.done()
        fleet.log.lead(False)
        assert (await asked).value is True
        fleet.log.lead(True)
        with pytest.raises(ConsulError, match="leadership transfer timeout"):
            await fleet.ask("Operator.TransferLeader", RaftTransferLeaderRequest())
        assert len(fleet.log.on_leader_change) == callbacks
        fleet.server.stop()

    run(main)


def test_the_first_settings_are_the_agents_own() -> None:
    async def main() -> None:
        fleet = Fleet(autopilot=AutopilotConfig(max_trailing_logs=7))
        fleet.log.lead(True)
        await settle()
        read = await fleet.ask(
            "Operator.AutopilotGetConfiguration", DCSpecificRequest()
        )
        assert read.value.max_trailing_logs == 7
        assert read.value.modify_index > 0
        fleet.server.stop()

    run(main)
