"""Operator routes: Raft peers, autopilot, the keyring."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from http_fakes import FakeCaller, make_face, opened

from pyconsul.http.keyring import problems
from pyconsul.http.operator import time_text
from pyconsul.http.routing import Response
from pyconsul.types.messages import Row
from pyconsul.types.operations import (
    DEFAULT_AUTOPILOT,
    AutopilotHealth,
    KeyringResponse,
    ServerHealth,
)
from pyconsul.types.records import Node, NodeService, ServiceInstance
from pyconsul.types.ui import NodeInfo

SERVER = ServerHealth(
    id="a",
    name="n1",
    address="10.0.0.1:8300",
    serf_status=1,
    version="1.10.11",
    leader=True,
    last_term=2,
    last_index=9,
    healthy=True,
    voter=True,
    stable_since=1_700_000_000_600_000_000,
)


def ask(
    caller: FakeCaller,
    method: str,
    path: str,
    query: str = "",
    body: bytes = b"",
    **options: Any,
) -> Response:
    """Run one request over the routes."""

    async def main() -> Response:
        face = make_face(caller, **options)
        line = f"{method} {path}?{query}" if query else f"{method} {path}"
        answer = face.answer(opened(face, line, body))
        return answer if isinstance(answer, Response) else await answer

    return asyncio.run(main())


def refused(status: int, text: str, *asked: Any, **options: Any) -> None:
    """Check that a request is answered by an error."""
    response = ask(*asked, **options)
    assert response.status == status
    assert text in response.body.decode()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Bad request: Must specify either"),
        ("id=a&address=b", "Bad request: Must specify only one"),
    ],
)
def test_a_peer_is_removed_by_one_name(query: str, text: str) -> None:
    refused(400, text, FakeCaller(), "DELETE", "/v1/operator/raft/peer", query)


def test_a_peer_is_removed() -> None:
    caller = FakeCaller()
    caller.answers["Operator.RaftRemovePeerByAddress"] = True
    response = ask(caller, "DELETE", "/v1/operator/raft/peer", "address=1.2.3.4:1")
    assert (response.status, response.body) == (200, b"")
    assert caller.calls[0][1].address == "1.2.3.4:1"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_leadership_is_transferred(method: str) -> None:
    caller = FakeCaller()
    caller.answers["Operator.TransferLeader"] = True
    path = "/v1/operator/raft/transfer-leader"
    assert ask(caller, method, path, "id=abc").body == b'{"Success":true}'
    assert caller.calls[0][1].id == "abc"


def test_usage_is_counted() -> None:
    caller = FakeCaller()
    kinds = ("", "", "connect-proxy", "mesh-gateway")
    caller.index = 12
    caller.answers["Internal.NodeDump"] = [
        NodeInfo(node="s1", services=[NodeService(id="consul", service="consul")]),
        NodeInfo(
            node="n1",
            services=[
                NodeService(id=f"s{at}", service=f"web{kind}", kind=kind)
                for at, kind in enumerate(kinds)
            ],
        ),
        NodeInfo(
            node="n2",
            services=[
                NodeService(id="db", service="db", connect={"Native": True}),
            ],
        ),
        NodeInfo(node="n3"),
    ]
    counts = {
        "Nodes": 4,
        "Services": 5,
        "ServiceInstances": 6,
        "ConnectServiceInstances": {
            "api-gateway": 0,
            "connect-native": 1,
            "connect-proxy": 1,
            "ingress-gateway": 0,
            "mesh-gateway": 1,
            "terminating-gateway": 0,
        },
        "BillableServiceInstances": 3,
    }
    path = "/v1/operator/usage"
    response = ask(caller, "GET", path, "stale&index=3")
    assert b"X-Consul-Index: 12" in response.headers
    assert json.loads(response.body) == {
        "Usage": {"dc1": counts},
        "Index": 12,
        "LastContact": 0,
        "KnownLeader": True,
        "ConsistencyLevel": "stale",
        "NotModified": False,
        "Backend": 0,
        "ResultsFilteredByACLs": False,
    }
    assert caller.calls[-1][1].min_query_index == 3
    caller.answers["Catalog.ListDatacenters"] = ["dc1"]
    body = json.loads(ask(caller, "GET", path, "global&index=3").body)
    assert (body["Usage"], body["ConsistencyLevel"]) == ({"dc1": counts}, "leader")
    assert caller.calls[-1][1].datacenter == "dc1"
    assert caller.calls[-1][1].min_query_index == 0
    refused(500, "No path to datacenter", caller, "GET", path, "dc=dc9")


def test_settings_are_read_and_written_whole() -> None:
    caller, path = FakeCaller(), "/v1/operator/autopilot/configuration"
    caller.answers["Operator.AutopilotGetConfiguration"] = DEFAULT_AUTOPILOT
    shown = json.loads(ask(caller, "GET", path).body)
    assert shown["LastContactThreshold"] == "200ms"
    assert shown["ServerStabilizationTime"] == "10s"
    caller.answers["Operator.AutopilotSetConfiguration"] = False
    body = b'{"LastContactThreshold": "5s", "MaxTrailingLogs": 100}'
    response = ask(caller, "PUT", path, "cas=7", body)
    assert response.body == b"false"
    args = caller.calls[-1][1]
    assert (args.cas, args.config.modify_index) == (True, 7)
    assert args.config.last_contact_threshold == 5_000_000_000
    assert args.config.cleanup_dead_servers is False
    for query, body, text in (
        ("cas=x", b"{}", "Error parsing cas value: strconv.ParseUint"),
        ("", b'{"LastContactThreshold": "soon"}', "Error parsing autopilot config: "),
        ("", b"{", "Error parsing autopilot config: "),
    ):
        refused(400, f"Bad request: {text}", caller, "PUT", path, query, body)


@pytest.mark.parametrize("healthy", [True, False])
def test_health_has_a_status_of_its_own(healthy: bool) -> None:
    caller = FakeCaller()
    health = AutopilotHealth(healthy=healthy, servers=[SERVER] if healthy else [])
    caller.answers["Operator.ServerHealth"] = health
    response = ask(caller, "GET", "/v1/operator/autopilot/health")
    assert response.status == (200 if healthy else 429)
    assert (b"text/plain" in response.content_type) is not healthy
    servers = json.loads(response.body)["Servers"]
    if healthy:
        assert servers[0]["SerfStatus"] == "alive"
        assert servers[0]["StableSince"] == "2023-11-14T22:13:21Z"
        assert servers[0]["LastContact"] == "0s"
    else:
        assert servers is None


def test_the_state_has_meta_and_replicas_of_the_catalog() -> None:
    caller = FakeCaller()
    replica = ServerHealth(id="b", name="n2", serf_status=4)
    caller.answers["Operator.ServerHealth"] = AutopilotHealth(
        healthy=True, failure_tolerance=1, servers=[SERVER, replica]
    )
    caller.answers["Catalog.ServiceNodes"] = [
        Row(
            ServiceInstance(
                node=Node(id=node_id, meta={"rack": "r"}),
                service=NodeService(meta={"read_replica": text}),
            )
        )
        for node_id, text in (("a", "false"), ("b", "true"))
    ]
    state = json.loads(ask(caller, "GET", "/v1/operator/autopilot/state").body)
    assert (state["Leader"], state["Voters"]) == ("a", ["a"])
    assert state["ReadReplicas"] == ["b"]
    first, second = state["Servers"]["a"], state["Servers"]["b"]
    assert (first["Status"], first["NodeType"]) == ("leader", "voter")
    assert first["Meta"] == {"rack": "r"}
    assert first["StableSince"] == "2023-11-14T22:13:20.6Z"
    assert (second["Status"], second["NodeType"]) == ("non-voter", "read-replica")
    assert second["NodeStatus"] == "failed"


def test_a_time_that_never_was() -> None:
    assert time_text(0) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("method", "operation"), [("POST", "install"), ("PUT", "use"), ("DELETE", "remove")]
)
def test_keys_are_changed(method: str, operation: str) -> None:
    caller = FakeCaller()
    caller.answers["Internal.KeyringOperation"] = [KeyringResponse()]
    path = "/v1/operator/keyring"
    response = ask(caller, method, path, "relay-factor=2", b'{"Key": "abc"}')
    assert (response.status, response.body) == (200, b"")
    args = caller.calls[0][1]
    assert (args.operation, args.key, args.relay_factor) == (operation, "abc", 2)
    text = "Invalid use of local-only"
    refused(400, text, caller, method, path, "local-only=1", b'{"Key": "abc"}')
    refused(400, "Request decode failed: EOF", caller, method, path)


def test_keys_are_listed_and_failures_told() -> None:
    caller, path = FakeCaller(), "/v1/operator/keyring"
    good = KeyringResponse(wan=True, datacenter="dc1", keys={"b": 1, "a": 1})
    caller.answers["Internal.KeyringOperation"] = [good]
    shown = json.loads(ask(caller, "GET", path, "local-only=true").body)
    assert list(shown[0]["Keys"]) == ["a", "b"]
    assert "Error" not in shown[0]
    assert "Messages" not in shown[0]
    assert caller.calls[0][1].local_only
    bad = KeyringResponse(datacenter="dc1", error="1/1 failed", messages={"n1": "no"})
    caller.answers["Internal.KeyringOperation"] = [good, bad]
    response = ask(caller, "GET", path)
    assert response.status == 500
    assert response.body == (
        b"2 errors occurred:\n\t* dc1 (LAN) error: 1/1 failed\n\t* n1: no\n\n"
    )
    assert problems([good]) == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("relay-factor=6", "Invalid relay-factor: Relay factor must be in range: [0"),
        ("relay-factor=-1", "Invalid relay-factor: Relay factor must be in range: [0"),
        ("relay-factor=" + "1" * 30, "Relay factor must be in range: [0, 5]"),
        ("relay-factor=x&local-only=y", "Bad request: Error parsing relay factor: "),
        ("local-only=maybe", "Bad request: Error parsing local-only: "),
    ],
)
def test_keyring_parameters_are_checked(query: str, text: str) -> None:
    refused(400, text, FakeCaller(), "GET", "/v1/operator/keyring", query)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/operator/autopilot/configuration"),
        ("POST", "/v1/operator/keyring"),
    ],
)
def test_unknown_fields_are_refused(method: str, path: str) -> None:
    text = 'json: unknown field "Bogus"'
    refused(400, text, FakeCaller(), method, path, "", b'{"Bogus": 1}')


def test_clients_have_no_keyring_to_change() -> None:
    text, path = "must run against a server node", "/v1/operator/keyring"
    refused(500, text, FakeCaller(), "GET", path, server=False)
