"""What crosses the RPC wire beyond the captured calls."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pyconsul.net.rpc_codec import METHODS, is_read
from pyconsul.net.rpc_values import RowMemo, healthy_from_plain
from pyconsul.types import (
    config_entries,
    messages,
    operations,
    queries,
    records,
)
from pyconsul.types.errors import BadRequestError, NotFoundError
from pyconsul.types.gomsgpack import pack, unpack
from pyconsul.types.messages import Reply, Row
from pyconsul.types.operations import AutopilotHealth, ServerHealth


def crossed(name: str, reply: Reply, args: Any = None) -> Reply:
    """A reply as it arrives on the other side."""
    method = METHODS[name]
    args = method.kind() if args is None else args
    plain = unpack(pack(method.reply_to_plain(reply, args)))
    return method.reply_from_plain(plain, args)


def sent(name: str, args: Any) -> Any:
    """Arguments as they arrive on the other side."""
    method = METHODS[name]
    return method.args_from_plain(unpack(pack(method.args_to_plain(args))))


def test_query_options_cross_and_consistency_follows_from_them():
    args = messages.ServiceSpecificRequest(
        datacenter="dc2",
        token="secret",
        min_query_index=(1 << 64) - 1,
        max_query_time=5,
        allow_stale=True,
        max_stale_duration=7,
        filter="a == b",
        service_name="web",
        service_tags=["a"],
        node_meta_filters={"k": "v"},
        tag_filter=True,
        connect=True,
        passing_only=True,
    )
    assert sent("Health.ServiceNodes", args) == msgspec.structs.replace(
        args, passing_only=False
    )
    old = Reply([], 9, known_leader=False, last_contact_ms=41, consistency="stale")
    reply = crossed("Health.ServiceNodes", old, args)
    assert (reply.index, reply.known_leader, reply.last_contact_ms) == (9, False, 41)
    assert reply.consistency == "stale"
    sure = messages.KeyRequest(require_consistent=True)
    assert crossed("KVS.Get", Reply(None, 3), sure).consistency == "consistent"
    assert crossed("KVS.Get", Reply(None, 3)).consistency == "leader"


def test_only_passing_instances_are_kept_where_the_client_asked_for_them():
    def instance(name: str, *states: str) -> Row:
        return Row(
            records.CheckServiceNode(
                node=records.Node(node=name),
                service=records.NodeService(service="web"),
                checks=[records.HealthCheck(status=state) for state in states],
            )
        )

    found = [
        instance("a", "passing", "warning"),
        instance("b", "passing"),
        instance("c"),
    ]
    args = messages.ServiceSpecificRequest(service_name="web", passing_only=True)
    kept = crossed("Health.ServiceNodes", Reply(found, 1), args).value
    assert [row.record.node.node for row in kept] == ["b", "c"]
    kept = crossed("Health.ServiceNodes", Reply(found, 1)).value
    assert [row.record for row in kept] == [row.record for row in found]


def test_a_tag_of_old_agents_and_other_look_ups_are_read():
    read = METHODS["Catalog.ServiceNodes"].args_from_plain
    assert read({"ServiceTag": "a", "TagFilter": True}).service_tags == ["a"]
    assert read({"Ingress": True}).ingress
    assert read({"ServiceAddress": "10.0.0.1"}).service_address == "10.0.0.1"


def test_a_wanted_kind_of_service_becomes_a_filter():
    read = METHODS["Internal.ServiceDump"].args_from_plain
    assert read({"UseServiceKind": True}).filter == 'Service.Kind == ""'
    both = read({"UseServiceKind": True, "ServiceKind": "mesh-gateway", "Filter": "x"})
    assert both.filter == '(x) and Service.Kind == "mesh-gateway"'
    with pytest.raises(BadRequestError, match="Invalid service kind"):
        read({"UseServiceKind": True, "ServiceKind": '" or x'})


def test_only_operations_that_tell_something_answer_true():
    for op in ("set", "delete", "delete-tree"):
        args = messages.KVSRequest(op=op)
        assert METHODS["KVS.Apply"].reply_to_plain(Reply(True), args) is False
        assert crossed("KVS.Apply", Reply(True), args).value is True
    for op in ("cas", "lock", "unlock", "delete-cas"):
        for value in (True, False):
            args = messages.KVSRequest(op=op)
            assert crossed("KVS.Apply", Reply(value), args).value is value


def test_an_absent_query_is_an_error_on_the_wire_and_a_reply_again():
    for name, absent in (("Execute", None), ("Explain", None), ("Get", [])):
        method = METHODS[f"PreparedQuery.{name}"]
        with pytest.raises(NotFoundError) as raised:
            method.reply_to_plain(Reply(absent, 1), method.kind())
        reply = method.absent_reply(f"rpc error making call: {raised.value}")
        assert reply is not None
        assert reply.value == absent
        assert method.absent_reply("No cluster leader") is None
    assert METHODS["KVS.Get"].absent_reply("Query not found") is None


def test_where_a_query_comes_from_crosses():
    args = queries.PreparedQueryExecuteRequest(
        query_id_or_name="q",
        limit=-1,
        connect=True,
        source=messages.QuerySource(datacenter="dc1", node="_ip", ip="10.0.0.1"),
        agent=messages.QuerySource(datacenter="dc1", segment="s", node="n1"),
    )
    assert sent("PreparedQuery.Execute", args) == args


def test_keyrings_autopilot_and_statistics_cross():
    keyring = operations.KeyringResponse(
        wan=True,
        datacenter="dc1",
        messages={"n1": "no"},
        keys={"k=": 2},
        primary_keys={},
        num_nodes=3,
        error="1/3 nodes reported failure",
    )
    reply = crossed("Internal.KeyringOperation", Reply([keyring], 0))
    assert reply.value == [keyring]
    request = operations.KeyringRequest(
        operation="use", key="k=", relay_factor=3, local_only=True, forwarded=True
    )
    assert sent("Internal.KeyringOperation", request) == request
    fire = operations.EventFireRequest(name="e", payload=bytes(range(256)))
    assert sent("Internal.EventFire", fire) == fire
    assert crossed("Internal.EventFire", Reply(True)).value is True
    config = operations.DEFAULT_AUTOPILOT
    assert crossed("Operator.AutopilotGetConfiguration", Reply(config)).value == config
    change = operations.AutopilotSetConfigRequest(config=config, cas=True)
    assert sent("Operator.AutopilotSetConfiguration", change) == change
    gone = operations.RaftRemovePeerRequest(id="a", address="10.0.0.1:8300")
    assert sent("Operator.RaftRemovePeerByID", gone) == gone
    lead = operations.RaftTransferLeaderRequest(id="a")
    assert sent("Operator.TransferLeader", lead) == lead
    stats = operations.RaftStats(last_contact="5ms", last_term=2, last_index=9)
    assert crossed("Status.RaftStats", Reply(stats)).value == stats
    assert crossed("Status.Ping", Reply(True)).value is True


def test_server_health_has_times():
    servers = [
        ServerHealth(id="a", stable_since=1_700_000_000_123_456_789, healthy=True),
        ServerHealth(id="b", serf_status=4, last_contact=-1),
    ]
    health = AutopilotHealth(healthy=True, failure_tolerance=1, servers=servers)
    assert crossed("Operator.ServerHealth", Reply(health)).value == health
    method = METHODS["Operator.ServerHealth"]
    plain = method.reply_to_plain(Reply(health), method.kind())
    since = [server["StableSince"] for server in plain["Servers"]]
    # 2023-11-14T22:13:20.123456789Z, and Go's zero time (``wire-rpc.md`` 2).
    seconds = (1_700_000_000 + 62_135_596_800).to_bytes(8)
    assert since[0] == b"\1" + seconds + (123_456_789).to_bytes(4) + b"\xff\xff"
    assert since[1].hex() == "01" + "00" * 12 + "ffff"
    bad = {"Servers": [{"StableSince": "short"}]}
    with pytest.raises(BadRequestError, match="time"):
        method.reply_from_plain(bad, method.kind())


def test_lists_of_entries_of_every_kind_cross():
    kinds = ("service-splitter", "proxy-defaults", "mesh", "service-intentions")
    entries = [
        config_entries.ConfigEntry(
            kind=kind,
            name=config_entries.FIXED_NAMES.get(kind, "n"),
            fields=config_entries.complete(
                config_entries.KINDS.get(kind, ()),
                {} if kind == "mesh" else {"Kind": kind, "Name": "n"},
            ),
            create_index=4,
            modify_index=5,
        )
        for kind in kinds
    ]
    entries[1].fields["Name"] = "global"
    entries[0].fields["Splits"] = [
        {"Namespace": "", "Service": "s", "ServiceSubset": "", "Weight": 12.5}
    ]
    every = config_entries.ConfigEntryQuery()
    reply = crossed("ConfigEntry.List", Reply([Row(e) for e in entries], 7), every)
    assert reply.index == 7
    found = [row.record for row in reply.value]
    assert [entry.kind for entry in found] == list(kinds)
    assert found[:3] == entries[:3]
    for entry in entries[:3]:
        one = crossed("ConfigEntry.Get", Reply(Row(entry), 8)).value
        assert one.record == entry
        change = config_entries.ConfigEntryRequest(
            op="upsert-cas", entry=entry, token="t", datacenter="dc1"
        )
        assert sent("ConfigEntry.Apply", change) == change


def test_methods_that_may_be_repeated():
    assert is_read("KVS.Get")
    assert is_read("Session.Renew")
    assert not is_read("KVS.Apply")
    assert not is_read("Internal.EventFire")
    assert not is_read("Nope.Bogus")
    changes = {name for name, method in METHODS.items() if not method.reads}
    verbs = (
        "Apply",
        "Register",
        "Delete",
        "Update",
        "Fire",
        "Set",
        "Remove",
        "Keyring",
        "Transfer",
        "Bootstrap",
        "Clone",
        "Log",
        "Sign",
    )
    assert changes == {n for n in METHODS if any(v in n for v in verbs)} | {
        "Catalog.Deregister"
    }


def test_an_unchanged_instance_is_the_same_row_on_the_client():
    method = METHODS["Health.ServiceNodes"]

    def read(status: str, node: str = "n") -> Row:
        found = records.CheckServiceNode(
            node=records.Node(node=node),
            service=records.NodeService(id="memo", service="memo"),
            checks=[records.HealthCheck(status=status)],
        )
        return crossed("Health.ServiceNodes", Reply([Row(found)], 1)).value[0]

    first = read("passing")
    assert read("passing") is first
    changed = read("critical")
    assert changed.record.checks[0].status == "critical"
    assert first.record.checks[0].status == "passing"
    assert read("passing", "other").record.node.node == "other"
    # A relaying server hands on what it was given.
    plain = method.reply_to_plain(Reply([changed], 1), method.kind())
    assert method.reply_from_plain(plain, method.kind()).value[0] is changed


def test_rows_read_before_are_limited():
    memo = RowMemo(healthy_from_plain, lambda plain: plain["Service"]["ID"], limit=4)
    for at in range(50):
        plain = {"Node": {"Node": "n"}, "Service": {"ID": str(at)}, "Checks": None}
        assert memo.row(plain) is memo.row(dict(plain))
    odd = {"Service": {"ID": []}}
    with pytest.raises(BadRequestError, match=r"NodeService\.ID"):
        memo.row(odd)
