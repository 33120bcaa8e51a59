"""The one call: routing, writes, error texts, leadership, timers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from endpoints_fakes import Cluster, blocked, run, settle, waits

from pyconsul.state import commands
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import (
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
)
from pyconsul.types.messages import (
    DCSpecificRequest,
    DeregisterRequest,
    EmptyRequest,
    KeyRequest,
    KVSRequest,
    NodeSpecificRequest,
    RegisterRequest,
    Reply,
    ServiceSpecificRequest,
    SessionRequest,
    SessionSpecificRequest,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnReadRequest,
    TxnRequest,
    TxnServiceOp,
)
from pyconsul.types.records import DirEntry, HealthCheck, Node, NodeService, Session

UNKNOWN = "11111111-2222-3333-4444-555555555555"


async def session(cluster: Cluster, **fields: Any) -> str:
    fields = {"node": "n1", "node_checks": ["serfHealth"], **fields}
    request = SessionRequest(op="create", session=Session(**fields))
    return (await cluster.ask("Session.Apply", request)).value


async def destroy(cluster: Cluster, session_id: str) -> Any:
    request = SessionRequest(op="destroy", session=Session(id=session_id))
    return (await cluster.ask("Session.Apply", request)).value


def test_reads_answer_at_once_and_other_datacenters_have_no_path() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        reply = cluster.call("KVS.Get", KeyRequest(key="a", datacenter="dc1"))
        assert isinstance(reply, Reply)
        assert (reply.consistency, reply.known_leader) == ("leader", True)
        for method, args in (
            ("KVS.Get", KeyRequest(key="a", datacenter="dc2")),
            ("KVS.Apply", KVSRequest(op="set", datacenter="dc2")),
            ("Status.Leader", EmptyRequest(datacenter="dc2")),
        ):
            with pytest.raises(NoPathToDatacenterError):
                cluster.call(method, args)
        with pytest.raises(ConsulError, match="can't find method"):
            cluster.call("KVS.Nope", EmptyRequest())
        status = cluster.call("Status.Peers", EmptyRequest())
        assert isinstance(status, Reply)
        assert status.value == ["127.0.0.1:8300"]

    run(main)


def test_locks_and_their_error_texts() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        held = await session(cluster)
        assert await cluster.put("k", op="lock", session=held) is True
        assert await cluster.put("k", op="lock", session=held) is True
        assert await cluster.put("k", op="cas", modify_index=1) is False
        for bad, text in (
            ("", "raft apply failed: missing session"),
            (UNKNOWN, f'raft apply failed: invalid session "{UNKNOWN}"'),
            (
                "x",
                "raft apply failed: failed session lookup: index error: "
                "UUID must be 36 characters",
            ),
        ):
            with pytest.raises(ConsulError) as caught:
                await cluster.put("k", op="lock", session=bad)
            assert str(caught.value) == text
        with pytest.raises(ConsulError, match=r"^Must provide key$"):
            await cluster.put("")
        assert await cluster.put("", op="delete-tree") is True

    run(main)


def test_lock_delay_holds_until_it_is_over() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        for asked_s, real_s in ((3, 3), (500, 60)):
            first = await session(cluster, lock_delay=asked_s * SECOND)
            second = await session(cluster)
            assert await cluster.put("k", op="lock", session=first)
            assert await destroy(cluster, first) is True
            assert await cluster.put("k", op="lock", session=second) is False
            kv = TxnKVOp(verb="lock", dir_ent=DirEntry(key="k", session=second))
            reply = await cluster.ask("Txn.Apply", TxnRequest(ops=[TxnOp(kv=kv)]))
            assert [error.what for error in reply.value.errors] == [
                'failed to lock key "k" due to lock delay'
            ]
            await asyncio.sleep(real_s - 0.1)
            assert await cluster.put("k", op="lock", session=second) is False
            await asyncio.sleep(0.2)
            assert await cluster.put("k", op="lock", session=second) is True
            assert await cluster.put("k", op="unlock", session=second) is True
            assert await cluster.put("k", op="lock", session=second) is True
            await destroy(cluster, second)

    run(main)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"node": ""}, "Must provide Node"),
        ({"behavior": "explode"}, "Invalid Behavior setting 'explode'"),
        (
            {"ttl": "1s"},
            "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]",
        ),
        (
            {"ttl": "25h"},
            "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]",
        ),
        (
            {"ttl": "soon"},
            "Session TTL 'soon' invalid: time: invalid duration \"soon\"",
        ),
        ({"node": "zz"}, "apply failed: Missing node registration"),
        ({"node_checks": ["c"]}, "apply failed: Missing check 'c' registration"),
    ],
)
def test_sessions_that_are_refused(fields: dict[str, Any], text: str) -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        with pytest.raises(ConsulError) as caught:
            await session(cluster, **fields)
        assert str(caught.value) == text

    run(main)


def test_a_leader_without_a_lease_writes_only_once_it_is_confirmed() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        one = await session(cluster, ttl="10s")
        cluster.log.lease = False
        for method, args in (
            ("KVS.Apply", KVSRequest(op="set", dir_ent=DirEntry(key="a"))),
            ("Session.Renew", SessionSpecificRequest(session_id=one)),
        ):
            verified = cluster.log.verified
            assert (await cluster.ask(method, args)).value
            assert cluster.log.verified == verified + 1

    run(main)


def test_a_renewal_is_refused_once_the_end_of_a_session_is_under_way() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        one = await session(cluster, ttl="10s")
        asked: list[Any] = []

        def renew() -> None:
            assert cluster.state.get_session(one) is not None
            request = SessionSpecificRequest(session_id=one)
            reply = cluster.call("Session.Renew", request)
            assert isinstance(reply, Reply)
            asked.append(reply.value)

        # In the loop's turn in which its time is up, but after that.
        loop = asyncio.get_running_loop()
        loop.call_at(cluster.server.session_timers._timers[one].when(), renew)
        await asyncio.sleep(30)
        assert asked == [[]]
        assert cluster.state.get_session(one) is None
        assert not cluster.server.session_timers.is_ending(one)

    run(main)


def test_sessions_end_after_twice_their_ttl_unless_renewed() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        one = await session(cluster, ttl="10s")
        untimed = await session(cluster)
        await asyncio.sleep(19)
        renewed = await cluster.ask(
            "Session.Renew", SessionSpecificRequest(session_id=one)
        )
        assert [found.id for found in renewed.value] == [one]
        await asyncio.sleep(19.5)
        assert cluster.state.get_session(one) is not None
        cluster.log.failures = 1  # the first destroy fails; the second follows
        await asyncio.sleep(1)
        assert cluster.state.get_session(one) is not None
        await asyncio.sleep(10)
        assert cluster.state.get_session(one) is None
        assert cluster.state.get_session(untimed) is not None
        gone = await cluster.ask(
            "Session.Renew", SessionSpecificRequest(session_id=one)
        )
        assert gone.value == []
        assert await destroy(cluster, UNKNOWN) is True
        with pytest.raises(ConsulError, match=r"^apply failed: failed session lookup"):
            await destroy(cluster, "x")

    run(main)


def test_a_new_leader_gives_every_session_a_full_period() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        one = await session(cluster, ttl="10s")
        await asyncio.sleep(15)
        cluster.log.lead(False)
        await asyncio.sleep(100)
        assert cluster.state.get_session(one) is not None
        cluster.log.lead(True)
        await asyncio.sleep(19)
        assert cluster.state.get_session(one) is not None
        await asyncio.sleep(2)
        assert cluster.state.get_session(one) is None
        cluster.server.stop()

    run(main)


def test_a_session_whose_client_went_away_still_expires() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.node()
        request = SessionRequest(op="create", session=Session(node="n1", ttl="10s"))
        waits(cluster.call("Session.Apply", request)).cancel()
        await settle()
        assert len(cluster.state.all_sessions()) == 1
        await asyncio.sleep(21)
        assert cluster.state.all_sessions() == []

    run(main)


def test_requests_wait_for_a_leader_and_then_fail() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        cluster.log.lead(False)
        read = waits(cluster.call("KVS.Get", KeyRequest(key="a")))
        write = waits(
            cluster.call("KVS.Apply", KVSRequest(op="set", dir_ent=DirEntry(key="b")))
        )
        stale = cluster.call("KVS.Get", KeyRequest(key="a", allow_stale=True))
        assert isinstance(stale, Reply)
        assert (stale.consistency, stale.last_contact_ms) == ("stale", 40)
        await asyncio.sleep(6)
        blocking = waits(cluster.call("KVS.Get", blocked("a", 99_999, wait_s=100)))
        cluster.log.lead(True)
        assert (await read).value.record.key == "a"
        assert (await write).value is True
        await asyncio.sleep(20)
        assert not blocking.done()
        assert (await blocking).index > 1
        cluster.log.lead(False)
        start = asyncio.get_running_loop().time()
        with pytest.raises(NoLeaderError):
            await cluster.ask("KVS.Get", KeyRequest(key="a"))
        assert asyncio.get_running_loop().time() - start == pytest.approx(7)
        cluster.server.stop()

    run(main)


def test_a_quorum_is_asked_for_consistent_reads_and_without_a_lease() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        reply = await cluster.ask(
            "KVS.Get", KeyRequest(key="a", require_consistent=True)
        )
        assert (reply.consistency, cluster.log.verified) == ("consistent", 1)
        cluster.log.lease = False
        reply = await cluster.ask("KVS.Get", KeyRequest(key="a"))
        assert (reply.consistency, cluster.log.verified) == ("leader", 2)

    run(main)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"node": ""}, "Must provide node"),
        ({"address": ""}, "Must provide address if SkipNodeUpdate is not set"),
        ({"id": "x"}, "Bad node ID: uuid string is wrong length"),
        ({"service": NodeService(id="x")}, "Must provide service name with ID"),
        (
            {"service": NodeService(service="x", address="::")},
            "Invalid service address",
        ),
        (
            {"check": HealthCheck(check_id="c", service_id="absent")},
            'failed inserting check: Missing service registration on node "e"',
        ),
        (
            {"check": HealthCheck(check_id="c", node="other")},
            'check node "other" does not match node "e"',
        ),
        (
            {"service": NodeService(service="p", kind="connect-proxy")},
            "2 errors occurred:\n\t* Proxy.DestinationServiceName must be non-empty "
            "for Connect proxy services\n\t* Port or SocketPath must be set for a "
            "Connect proxy\n\n",
        ),
    ],
)
def test_registrations_that_are_refused(fields: dict[str, Any], text: str) -> None:
    async def main() -> None:
        cluster = Cluster()
        given: dict[str, Any] = {"node": "e", "address": "10.0.0.2", **fields}
        request = RegisterRequest(**given)
        with pytest.raises(ConsulError) as caught:
            await cluster.ask("Catalog.Register", request)
        assert str(caught.value) == text
        assert cluster.state.get_node("e") is None

    run(main)


def test_catalog_and_health_with_filters() -> None:
    async def main() -> None:
        cluster = Cluster()
        for at in (1, 2):
            request = RegisterRequest(
                node=f"e{at}",
                address=f"10.0.0.{at}",
                service=NodeService(service="web", port=80 + at, tags=[f"v{at}"]),
                check=HealthCheck(
                    check_id="c",
                    service_id="web",
                    status="passing" if at == 1 else "critical",
                ),
            )
            await cluster.ask("Catalog.Register", request)

        async def rows(method: str, args: Any) -> list[str]:
            found = (await cluster.ask(method, args)).value
            return [getattr(row.record.node, "node", row.record.node) for row in found]

        port = ServiceSpecificRequest(service_name="web", filter="ServicePort == 82")
        assert await rows("Catalog.ServiceNodes", port) == ["e2"]
        bad = ServiceSpecificRequest(
            service_name="web", filter="Checks.Status != passing"
        )
        assert await rows("Health.ServiceNodes", bad) == ["e2"]
        passing = ServiceSpecificRequest(service_name="web", passing_only=True)
        assert await rows("Health.ServiceNodes", passing) == ["e1"]
        node = DCSpecificRequest(filter='Node matches "1$"')
        assert await rows("Catalog.ListNodes", node) == ["e1"]
        checks = NodeSpecificRequest(node="e2", filter="Status == critical")
        assert await rows("Health.NodeChecks", checks) == ["e2"]
        reply = await cluster.ask(
            "Catalog.NodeServices", NodeSpecificRequest(node="e1", filter="Port == 1")
        )
        assert reply.value.services == []
        again = await cluster.ask(
            "Catalog.NodeServices", NodeSpecificRequest(node="e1")
        )
        assert len(again.value.services) == 1
        with pytest.raises(ConsulError, match='Selector "Absent" is not valid'):
            await rows("Catalog.ListNodes", DCSpecificRequest(filter="Absent == 1"))
        await cluster.ask("Catalog.Deregister", DeregisterRequest(node="e1"))
        assert await rows("Catalog.ListNodes", DCSpecificRequest()) == ["e2"]

    run(main)


def test_transactions() -> None:
    async def main() -> None:
        cluster = Cluster()

        def kv(verb: str, key: str, **more: Any) -> TxnOp:
            return TxnOp(kv=TxnKVOp(verb=verb, dir_ent=DirEntry(key=key, **more)))

        done = await cluster.ask(
            "Txn.Apply", TxnRequest(ops=[kv("set", "a", value=b"1"), kv("get", "a")])
        )
        assert [result.kv.value for result in done.value.results] == [b"", b"1"]
        ops = [kv("set", "b"), kv("get", "none"), kv("check-not-exists", "a")]
        failed = (await cluster.ask("Txn.Apply", TxnRequest(ops=ops))).value
        assert [error.op_index for error in failed.errors] == [1, 2]
        assert cluster.state.get_key("b") is None
        proposed = len(cluster.log.commands)
        service = TxnServiceOp(verb="delete-cas", node="n", service=NodeService(id="w"))
        refused = (
            await cluster.ask(
                "Txn.Apply", TxnRequest(ops=[kv("set", ""), TxnOp(service=service)])
            )
        ).value
        assert [error.what for error in refused.errors] == [
            "Must provide key",
            "Must provide service name with ID",
        ]
        everything = TxnReadRequest(ops=[kv("get-tree", "")])
        tree = (await cluster.ask("Txn.Read", everything)).value
        assert [error.what for error in tree.errors] == ["Must provide key"]
        nodes = [
            TxnNodeOp(verb="set", node=Node(address="10.0.0.1")),
            TxnNodeOp(verb="delete", node=Node(node="n", id="short")),
        ]
        service = TxnServiceOp(
            verb="set", node="n", service=NodeService(service="w", address="0.0.0.0")
        )
        ops = [*(TxnOp(node=op) for op in nodes), TxnOp(service=service)]
        refused = (await cluster.ask("Txn.Apply", TxnRequest(ops=ops))).value
        assert [error.what for error in refused.errors] == [
            "Must provide node",
            "Bad node ID: uuid string is wrong length",
            "Invalid service address",
        ]
        read = await cluster.ask("Txn.Read", TxnReadRequest(ops=[kv("get-tree", "a")]))
        assert read.value.results[0].kv.value == b"1"
        unknown = await cluster.ask("Txn.Read", TxnReadRequest(ops=[kv("nope", "a")]))
        assert unknown.value.errors[0].what == 'unknown KV verb "nope"'
        assert len(cluster.log.commands) == proposed
        cluster.log.lead(False)
        stale = TxnReadRequest(ops=[kv("get", "a")], allow_stale=True)
        reply = cluster.call("Txn.Read", stale)
        assert isinstance(reply, Reply)
        assert reply.last_contact_ms == 40

    run(main)


def test_tokens_do_not_reach_the_log() -> None:
    async def main() -> None:
        cluster = Cluster()
        secret = "5ec4e700"
        await cluster.node()
        for method, args in (
            (
                "KVS.Apply",
                KVSRequest(op="set", dir_ent=DirEntry(key="a"), token=secret),
            ),
            ("Catalog.Deregister", DeregisterRequest(node="x", token=secret)),
            ("Catalog.Register", RegisterRequest(node="x", address="a", token=secret)),
            ("Txn.Apply", TxnRequest(token=secret)),
            (
                "Session.Apply",
                SessionRequest(op="create", session=Session(node="n1"), token=secret),
            ),
        ):
            await cluster.ask(method, args)
            assert secret.encode() not in cluster.log.commands[-1], method

    run(main)


def test_tombstones_are_reaped_after_their_time() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.log.lead(True)
        await cluster.put("d/a")
        await cluster.put("d/a", op="delete")
        await asyncio.sleep(890)
        assert cluster.state.tombstone_max()
        await asyncio.sleep(70)
        assert cluster.state.tombstone_max() == 0
        reaped = [c for c in cluster.log.commands if c[0] == commands.TOMBSTONE]
        assert len(reaped) == 1
        cluster.server.stop()

    run(main)


def test_the_leader_keeps_its_own_entry() -> None:
    async def main() -> None:
        node_id = "aaaaaaaa-0000-0000-0000-000000000001"
        cluster = Cluster(node_id=node_id, address="10.0.0.1", server_port=8300)
        cluster.log.lead(True)
        await settle()
        node = cluster.state.get_node("n1")
        assert node is not None
        assert (node.id, node.address, node.datacenter) == (node_id, "10.0.0.1", "dc1")
        check = cluster.state.get_check("n1", "serfHealth")
        assert check is not None
        assert (check.name, check.status, check.output) == (
            "Serf Health Status",
            "passing",
            "Agent alive and reachable",
        )
        service = cluster.state.get_service("n1", "consul")
        assert service is not None
        assert (service.service, service.port) == ("consul", 8300)
        proposed = len(cluster.log.commands)
        await asyncio.sleep(200)
        assert len(cluster.log.commands) == proposed
        await cluster.ask("Catalog.Deregister", DeregisterRequest(node="n1"))
        await asyncio.sleep(61)
        assert cluster.state.get_check("n1", "serfHealth") is not None
        cluster.server.stop()

    run(main)
