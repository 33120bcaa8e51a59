"""Members into the catalog, as the leader does it."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest
from endpoints_fakes import run, settle
from endpoints_pool import Fleet, client, node_id, peers, server

from pyconsul.serf.member import Status
from pyconsul.types import gomsgpack
from pyconsul.types.errors import CommandError
from pyconsul.types.messages import RegisterRequest
from pyconsul.types.operations import EventFireRequest, KeyringRequest
from pyconsul.types.records import HealthCheck, NodeService


def test_alive_members_are_registered_once() -> None:
    async def main() -> None:
        fleet = Fleet(client(1))
        fleet.log.lead(True)
        await settle()
        node = fleet.state.get_node("c1")
        assert node is not None
        assert (node.id, node.address) == (node_id(101), "10.0.1.1")
        check = fleet.state.get_check("c1", "serfHealth")
        assert check is not None
        assert (check.name, check.status, check.output) == (
            "Serf Health Status",
            "passing",
            "Agent alive and reachable",
        )
        assert fleet.state.get_service("c1", "consul") is None
        service = fleet.state.get_service("n1", "consul")
        assert service is not None
        assert service.port == 8300
        assert (service.meta or {})["version"] == "1.10.11"
        assert fleet.pool.events == [("consul:new-leader", b"n1")]
        proposed = len(fleet.log.commands)
        await asyncio.sleep(200)
        assert len(fleet.log.commands) == proposed
        fleet.server.stop()

    run(main)


def test_an_agent_that_wrote_itself_first_is_not_overwritten() -> None:
    # Both writes may be under way at once; the leader has seen no node then.
    async def main() -> None:
        fleet = Fleet(client(1))
        fleet.log.lead(True)
        await settle()
        requests = [
            gomsgpack.decode(command[1:], RegisterRequest)
            for command in fleet.log.commands
            if command[0] == 0
        ]
        assert {one.node for one in requests} == {"c1", "n1"}
        assert all(one.skip_node_update for one in requests)
        fleet.server.stop()

    run(main)


def test_what_the_agent_wrote_about_its_node_is_kept() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.lead(True)
        await fleet.ask(
            "Catalog.Register",
            RegisterRequest(
                id=node_id(101),
                node="c1",
                address="10.9.9.9",
                node_meta={"rack": "r1"},
                tagged_addresses={"lan": "10.9.9.9"},
            ),
        )
        fleet.tell("join", client(1))
        await settle()
        node = fleet.state.get_node("c1")
        assert node is not None
        assert node.address == "10.0.1.1"
        assert node.meta == {"rack": "r1"}
        assert node.tagged_addresses == {"lan": "10.9.9.9"}
        fleet.server.stop()

    run(main)


def test_failed_members_are_critical_until_they_return() -> None:
    async def main() -> None:
        fleet = Fleet(client(1))
        fleet.log.lead(True)
        await settle()
        fleet.tell("failed", client(1, Status.FAILED))
        await settle()
        check = fleet.state.get_check("c1", "serfHealth")
        assert check is not None
        assert (check.status, check.output) == (
            "critical",
            "Agent not live or unreachable",
        )
        proposed = len(fleet.log.commands)
        await asyncio.sleep(130)
        assert len(fleet.log.commands) == proposed
        fleet.tell("join", client(1))
        await settle()
        assert fleet.status("c1") == "passing"
        # One that the catalog has never had is not entered as failed.
        fleet.tell("failed", client(2, Status.FAILED))
        await settle()
        assert fleet.state.get_node("c2") is None
        fleet.server.stop()

    run(main)


@pytest.mark.parametrize("kind", ["leave", "reap"])
def test_members_that_left_are_deregistered(kind: str) -> None:
    async def main() -> None:
        fleet = Fleet(client(1), server(2))
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        await settle()
        await fleet.ask(
            "Catalog.Register",
            RegisterRequest(
                node="c1", skip_node_update=True, service=NodeService(service="web")
            ),
        )
        status = Status.LEFT if kind == "leave" else Status.FAILED
        fleet.tell(kind, client(1, status), server(2, status), server(1, status))
        await settle()
        assert fleet.state.get_node("c1") is None
        assert fleet.state.get_node("n2") is None
        assert "10.0.0.2:8300" not in fleet.all_peers()
        # A leader does not remove itself.
        assert fleet.state.get_node("n1") is not None
        assert "10.0.0.1:8300" in fleet.all_peers()
        fleet.server.stop()

    run(main)


def test_nodes_that_nobody_owns_are_reaped() -> None:
    async def main() -> None:
        fleet = Fleet()
        serf = HealthCheck(check_id="serfHealth", status="passing")
        for name, check in (("gone", serf), ("external", None)):
            request = RegisterRequest(node=name, address="10.0.0.9", check=check)
            await fleet.ask("Catalog.Register", request)
        fleet.log.lead(True)
        await settle()
        assert fleet.state.get_node("gone") is not None
        await asyncio.sleep(61)
        assert fleet.state.get_node("gone") is None
        assert fleet.state.get_node("external") is not None
        fleet.server.stop()

    run(main)


def test_a_server_with_a_new_name_stays_a_peer() -> None:
    async def main() -> None:
        fleet = Fleet(server(2), server(3))
        fleet.log.configuration = peers(1, 2, 3)
        fleet.well(2, 3)
        fleet.log.lead(True)
        await settle()
        # It left and came back; its old name is remembered for a day.
        fleet.tell("leave", server(3, Status.LEFT))
        await settle()
        assert fleet.log.configuration == peers(1, 2)
        renamed = msgspec.structs.replace(server(3), name="new")
        fleet.tell("join", renamed)
        await asyncio.sleep(15)
        assert fleet.log.configuration == peers(1, 2, 3)
        changes = fleet.log.changes
        await asyncio.sleep(200)
        assert fleet.log.changes == changes
        assert fleet.status("new") == "passing"
        assert fleet.state.get_node("n3") is None
        fleet.server.stop()

    run(main)


def test_only_the_leader_and_only_members_of_the_datacenter() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.lead(False)
        fleet.tell("join", client(1))
        fleet.tell("join", server(2, dc="dc2"), server(3, role="other"))
        await asyncio.sleep(100)
        assert fleet.log.commands == []
        fleet.log.lead(True)
        await settle()
        names = [row.record.node for row in fleet.state.nodes().value]
        assert names == ["c1", "n1"]
        fleet.server.stop()

    run(main)


def test_a_failed_write_is_made_up_at_the_next_pass() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.log.lead(True)
        await settle()
        fleet.log.failures = 1
        fleet.tell("join", client(1))
        await settle()
        assert fleet.state.get_node("c1") is None
        await asyncio.sleep(61)
        assert fleet.status("c1") == "passing"
        fleet.server.stop()

    run(main)


def test_a_second_bootstrap_server_does_not_become_a_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.pool.known["n1"] = server(1, bootstrap="1")
        fleet.log.lead(True)
        await settle()
        with caplog.at_level(logging.ERROR):
            fleet.tell("join", server(2, bootstrap="1"))
            await settle()
        assert fleet.all_peers() == {"10.0.0.1:8300"}
        assert "Two nodes are in bootstrap mode." in caplog.text
        fleet.server.stop()

    run(main)


def test_a_name_of_a_living_node_is_not_taken_over() -> None:
    async def main() -> None:
        fleet = Fleet(client(1))
        fleet.log.lead(True)
        await settle()
        other = RegisterRequest(id=node_id(999), node="C1", address="10.0.1.9")
        text = (
            f"Node name C1 is reserved by node {node_id(101)} with name c1 "
            r"\(10\.0\.1\.1\)"
        )
        with pytest.raises(CommandError, match=text):
            await fleet.ask("Catalog.Register", other)
        fleet.tell("failed", client(1, Status.FAILED))
        await settle()
        await fleet.ask("Catalog.Register", other)
        node = fleet.state.get_node("c1")
        assert node is not None
        assert node.id == node_id(999)
        fleet.server.stop()

    run(main)


def test_a_member_that_was_replaced_unseen_gives_up_its_name() -> None:
    async def main() -> None:
        fleet = Fleet(server(2), server(3))
        fleet.log.configuration = peers(1, 2, 3)
        fleet.log.lead(True)
        await settle()
        fleet.tell("update", server(3, id=node_id(33)))
        await settle()
        node = fleet.state.get_node("n3")
        assert node is not None
        assert node.id == node_id(33)
        assert fleet.status("n3") == "passing"
        fleet.server.stop()

    run(main)


def test_events_and_keys_reach_the_pools() -> None:
    async def main() -> None:
        fleet = Fleet()
        await fleet.ask(
            "Internal.EventFire", EventFireRequest(name="deploy", payload=b"x")
        )
        assert fleet.pool.events == [("consul:event:deploy", b"x")]
        fleet.server.cluster.wan = fleet.pool
        reply = await fleet.ask(
            "Internal.KeyringOperation", KeyringRequest(operation="list")
        )
        assert [(one.wan, one.keys) for one in reply.value] == [
            (True, {"k": 1}),
            (False, {"k": 1}),
        ]
        local = KeyringRequest(operation="list", local_only=True)
        reply = await fleet.ask("Internal.KeyringOperation", local)
        assert [one.wan for one in reply.value] == [False]
        bad = KeyringRequest(operation="use", key="!")
        reply = await fleet.ask("Internal.KeyringOperation", bad)
        assert reply.value[0].error == "illegal base64 data at input byte 0"

    run(main)
