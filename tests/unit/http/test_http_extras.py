"""Coordinates, the Raft configuration, prepared queries, UI data and page."""

from __future__ import annotations

import json

import pytest
from http_fakes import FakeCaller, ask, make_face

from pyconsul.http.ui_data import summaries
from pyconsul.types.coordinates import Coordinate, origin
from pyconsul.types.messages import QuerySource, Reply, Row
from pyconsul.types.queries import PreparedQuery, QueryDns, QueryResult, ServiceQuery
from pyconsul.types.records import CheckServiceNode, HealthCheck, Node, NodeService
from pyconsul.types.ui import NodeInfo, RaftConfiguration, RaftServer, ServiceDump


def instance(service_id: str, status: str) -> Row:
    node = Node(node="n1", datacenter="dc1", meta={"external-source": "k8s"})
    service = NodeService(id=service_id, service="web", tags=[service_id])
    checks = [
        HealthCheck(node="n1", check_id="serfHealth", status="passing"),
        HealthCheck(node="n1", check_id=service_id, service_id="x", status=status),
    ]
    return Row(CheckServiceNode(node=node, service=service, checks=checks))


def test_coordinates() -> None:
    caller = FakeCaller()
    found = [Coordinate(node="a", coord=origin()), Coordinate(node="a", segment="s")]
    caller.answers["Coordinate.ListNodes"] = Reply(found, 7)
    caller.answers["Coordinate.Node"] = Reply([], 7)
    caller.answers["Coordinate.ListDatacenters"] = Reply([("dc1", found[:1])])
    caller.answers["Coordinate.Update"] = Reply(True)
    face = make_face(caller)
    answer = ask(face, "GET /v1/coordinate/nodes?segment=")
    assert [one["Segment"] for one in json.loads(answer.body)] == [""]
    assert b"X-Consul-Index: 7\r\n" in answer.headers
    assert len(json.loads(ask(face, "GET /v1/coordinate/nodes").body)) == 2
    unknown = ask(face, "GET /v1/coordinate/node/b")
    assert (unknown.status, unknown.body) == (404, b"")
    (area,) = json.loads(ask(face, "GET /v1/coordinate/datacenters").body)
    assert (area["AreaID"], area["Coordinates"][0]["Coord"]["Error"]) == ("wan", 1.5)
    body = b'{"Node": "a", "Coord": {"Vec": [1, 0.5], "Height": 2}}'
    assert ask(face, "PUT /v1/coordinate/update", body).status == 200
    sent = caller.calls[-1][1]
    assert (sent.coord.vec, sent.coord.height) == ([1.0, 0.5], 2.0)
    bad = ask(face, "PUT /v1/coordinate/update", b'{"Coord": {"Vec": ["x"]}}')
    assert bad.status == 400


def test_coordinates_that_are_disabled() -> None:
    refused = ask(make_face(disable_coordinates=True), "GET /v1/coordinate/nodes")
    assert (refused.status, refused.body) == (401, b"Coordinate support disabled")


def test_raft_configuration() -> None:
    caller = FakeCaller()
    server = RaftServer(
        id="i",
        node="n1",
        address="10.0.0.1:8300",
        leader=True,
        protocol_version="3",
        voter=True,
    )
    caller.answers["Operator.RaftGetConfiguration"] = Reply(
        RaftConfiguration(servers=[server], index=4), 1
    )
    answer = ask(make_face(caller), "GET /v1/operator/raft/configuration")
    assert json.loads(answer.body) == {
        "Servers": [
            {
                "ID": "i",
                "Node": "n1",
                "Address": "10.0.0.1:8300",
                "Leader": True,
                "ProtocolVersion": "3",
                "Voter": True,
            }
        ],
        "Index": 4,
    }
    assert b"X-Consul-Index" not in answer.headers


def test_summaries_count_a_nodes_checks_once() -> None:
    (summary,) = summaries([instance("a", "warning"), instance("b", "critical")])
    assert summary["Nodes"] == ["n1"]
    assert summary["Tags"] == ["a", "b"]
    assert summary["ExternalSources"] == ["k8s"]
    counts = ("InstanceCount", "ChecksPassing", "ChecksWarning", "ChecksCritical")
    assert [summary[name] for name in counts] == [2, 1, 1, 1]


def test_summaries_are_sorted() -> None:
    (summary,) = summaries([instance("b", "passing"), instance("a", "passing")])
    assert summary["Tags"] == ["a", "b"]


def test_tags_that_were_not_given_are_null_in_queries_and_the_ui() -> None:
    caller = FakeCaller()
    service = NodeService(id="web", service="web")
    check = HealthCheck(node="n1", check_id="c", status="passing")
    found = CheckServiceNode(node=Node(node="n1"), service=service, checks=[check])
    result = QueryResult(service="web", nodes=[found], dns=QueryDns(), datacenter="dc1")
    caller.answers["PreparedQuery.Execute"] = Reply(result, 1)
    info = NodeInfo(node="n1", services=[service], checks=[check])
    caller.answers["Internal.NodeDump"] = Reply([info], 1)
    caller.answers["Health.ServiceNodes"] = Reply([Row(found)], 1)
    face = make_face(caller)
    (row,) = json.loads(ask(face, "GET /v1/query/web/execute").body)["Nodes"]
    assert (row["Service"]["Tags"], row["Checks"][0]["ServiceTags"]) == (None, None)
    (node,) = json.loads(ask(face, "GET /v1/internal/ui/nodes").body)
    assert node["Services"][0]["Tags"] is None
    assert node["Checks"][0]["ServiceTags"] is None
    (row,) = json.loads(ask(face, "GET /v1/health/service/web").body)
    assert (row["Service"]["Tags"], row["Checks"][0]["ServiceTags"]) == ([], [])


def test_ui_nodes() -> None:
    caller = FakeCaller()
    info = NodeInfo(node="n1", services=[NodeService(id="w", service="web")])
    caller.answers["Internal.NodeDump"] = Reply([info], 3)
    caller.answers["Internal.NodeInfo"] = Reply([], 3)
    face = make_face(caller)
    (view,) = json.loads(ask(face, "GET /v1/internal/ui/nodes").body)
    assert (view["Node"], view["Services"][0]["ID"]) == ("n1", "w")
    assert ask(face, "GET /v1/internal/ui/node/n2").status == 404
    assert ask(face, "GET /v1/internal/ui/node/").status == 400


def test_the_page_escapes_what_it_shows_and_loads_nothing() -> None:
    caller = FakeCaller()
    evil = NodeInfo(node="<script>alert(1)</script>", address="a&b")
    caller.answers["Internal.ServiceDump"] = Reply(
        ServiceDump([instance("a", "critical")], [])
    )
    caller.answers["Internal.NodeDump"] = Reply([evil])
    page = ask(make_face(caller), "GET /ui/dc1/services")
    assert page.status == 200
    assert b"<script" not in page.body
    assert b"&lt;script&gt;" in page.body
    assert b"a&amp;b" in page.body
    assert b"critical (1 passing, 0 warning, 1 critical)" in page.body
    assert b"default-src 'none'" in page.headers


def test_queries() -> None:
    caller = FakeCaller()
    query = PreparedQuery(id="q", name="web", service=ServiceQuery(service="web"))
    caller.answers["PreparedQuery.Apply"] = Reply("q")
    caller.answers["PreparedQuery.Get"] = Reply([], 4)
    caller.answers["PreparedQuery.List"] = Reply([query], 4)
    face = make_face(caller)
    body = b'{"Name": "web", "Service": {"Service": "web", "Tags": ["!a"]}}'
    assert json.loads(ask(face, "POST /v1/query", body).body) == {"ID": "q"}
    assert caller.calls[-1][1].query.service.tags == ["!a"]
    assert ask(face, "PUT /v1/query/id1", body).body == b""
    assert caller.calls[-1][1].query.id == "id1"
    bad = ask(face, "POST /v1/query", b'{"name": "x", "snake_case": 1}')
    assert (bad.status, bad.body[:22]) == (400, b"Request decode failed:")
    missing = ask(face, "GET /v1/query/id1")
    assert (missing.status, missing.body) == (404, b"Query not found")
    (view,) = json.loads(ask(face, "GET /v1/query").body)
    assert view["Service"]["Failover"] == {"NearestN": 0, "Datacenters": None}
    refused = ask(face, "DELETE /v1/query/web/execute")
    assert (refused.status, refused.headers) == (405, b"Allow: GET\r\n")
    caller.answers["PreparedQuery.Execute"] = Reply(None, 1)
    for line, name in (("web", "web"), ("a/b", "a/b"), ("", "execute")):
        path = f"{line}/execute" if line else "execute"
        none = ask(face, f"GET /v1/query/{path}")
        assert (none.status, none.body) == (404, b"Query not found")
        assert b"X-Consul-Effective-Consistency: leader\r\n" in none.headers
        assert caller.calls[-1][1].query_id_or_name == name
    limit = ask(face, "GET /v1/query/web/execute?limit=x")
    assert limit.status == 500
    assert limit.body.startswith(b"Bad limit: ")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("catalog/nodes", "Catalog.ListNodes"),
        ("catalog/service/web", "Catalog.ServiceNodes"),
        ("catalog/connect/web", "Catalog.ServiceNodes"),
        ("health/service/web", "Health.ServiceNodes"),
        ("health/connect/web", "Health.ServiceNodes"),
        ("health/checks/web", "Health.ServiceChecks"),
        ("health/state/any", "Health.ChecksInState"),
    ],
)
def test_near_travels_in_the_request(path: str, method: str) -> None:
    caller = FakeCaller()
    caller.answers[method] = Reply([], 4)
    face = make_face(caller, segment="alpha")
    for near, node in (("?near=n9", "n9"), ("?near=_agent", "node1"), ("", "")):
        assert ask(face, f"GET /v1/{path}{near}").status == 200
        source = caller.calls[-1][1].source
        assert source.node == node
        assert (source.segment, source.datacenter) == (
            ("alpha", "dc1") if near else ("", "")
        )


def test_where_an_executed_query_comes_from() -> None:
    caller = FakeCaller()
    caller.answers["PreparedQuery.Execute"] = Reply(None, 1)
    face = make_face(caller, segment="alpha")
    for forwarded, remote, ip in (
        (b"", "10.0.0.9", "10.0.0.9"),
        (b"", "fe80::1%eth0", "fe80::1"),
        (b"192.0.2.7, 10.0.0.1", "10.0.0.9", "192.0.2.7"),
        (b"unknown, 10.0.0.1", "10.0.0.9", "10.0.0.9"),
    ):
        headers = {b"x-forwarded-for": forwarded} if forwarded else {}
        line = "GET /v1/query/q/execute?near=_ip&dc=dc1"
        assert ask(face, line, headers=headers, remote=remote).status == 404
        args = caller.calls[-1][1]
        assert args.source == QuerySource(
            datacenter="dc1", segment="alpha", node="_ip", ip=ip
        )
        assert args.agent == QuerySource(
            datacenter="dc1", segment="alpha", node="node1"
        )
