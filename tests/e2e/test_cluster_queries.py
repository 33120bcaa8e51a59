"""Prepared queries and coordinates of three servers and a client agent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import Cluster, Node, running

SENT_S = 60.0
"""An agent tells where it is every 15 to 30 s; servers write after 5 s more."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("queries"), 3, 1) as made:
        agent = made.clients[0]
        for number in range(1, 13):
            node = {"Node": f"n{number:02}", "Address": f"10.9.0.{number}"}
            service = {"Service": "web", "Port": 80, "Tags": ["v1", f"t{number % 2}"]}
            agent.put("/v1/catalog/register", {**node, "Service": service})
            place = {"Vec": [number / 100] + [0] * 7, "Error": 1.5, "Height": 1e-5}
            agent.put("/v1/coordinate/update", {"Node": node["Node"], "Coord": place})
        agent.eventually("/v1/coordinate/nodes", lambda all_: len(all_) >= 12)
        yield made


def raw(node: Node, path: str) -> tuple[int, bytes]:
    connection = node.connection()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def query(node: Node, **fields: Any) -> str:
    status, answer, _ = node.request("POST", "/v1/query", fields)
    assert status == 200, answer
    return answer["ID"]


def others(cluster: Cluster) -> list[Node]:
    leader = cluster.leader()
    return [node for node in cluster.nodes if node is not leader]


@pytest.mark.parametrize(
    "path",
    [
        "catalog/nodes?near=n05&filter=Node+contains+n",
        "catalog/service/web?near=n07",
        "health/service/web?near=n12",
        "health/state/any?near=n01&filter=Node+contains+n",
    ],
)
def test_a_sorted_read_is_the_same_through_every_agent(
    cluster: Cluster, path: str
) -> None:
    leaders = raw(cluster.leader(), f"/v1/{path}")
    assert leaders[0] == 200
    for node in others(cluster):
        assert raw(node, f"/v1/{path}") == leaders


def test_rows_are_by_distance_from_the_node(cluster: Cluster) -> None:
    found = cluster.clients[0].get("/v1/catalog/service/web?near=n11")
    assert found[0]["Node"] == "n11"
    assert {one["Node"] for one in found[1:3]} == {"n10", "n12"}
    assert found[-1]["Node"] == "n01"


def test_a_query_through_any_agent_has_the_bytes_of_the_leader(
    cluster: Cluster,
) -> None:
    agent, leader = cluster.clients[0], cluster.leader()
    service = {
        "Service": "${match(1)}",
        "Tags": ["t${match(2)}", "!${match(3)}"],
        "Near": "n03",
        "Failover": {"NearestN": 2, "Datacenters": ["dc7"]},
    }
    regexp = "^near-(.*?)-([01])(?:-(.*))?$"
    template = {"Type": "name_prefix_match", "Regexp": regexp}
    query(agent, Name="near-", Service=service, Template=template, DNS={"TTL": "3s"})
    for path in (
        "near-web-1/execute?limit=4",
        "near-web-0/execute?near=n12",
        "near-web-0-t0/execute",
        "near-web-1/explain",
        "nothing/execute",
    ):
        leaders = raw(leader, f"/v1/query/{path}")
        for node in others(cluster):
            assert raw(node, f"/v1/query/{path}") == leaders, (node.name, path)
    found = agent.get("/v1/query/near-web-1/execute?limit=4")
    assert found["Nodes"][0]["Node"]["Node"] == "n03"
    assert found["DNS"] == {"TTL": "3s"}
    assert agent.get("/v1/query/near-web-0-t0/execute")["Nodes"] == []


def test_agents_tell_where_they_are_and_sort_by_it(cluster: Cluster) -> None:
    agent = cluster.clients[0]
    everybody = {node.name for node in cluster.nodes}
    found = agent.eventually(
        "/v1/coordinate/nodes",
        lambda all_: everybody <= {one["Node"] for one in all_},
        SENT_S,
    )
    measured = [one["Coord"] for one in found if one["Node"] in everybody]
    assert all(0 < one["Error"] <= 1.5 for one in measured)
    assert any(any(one["Vec"]) for one in measured)  # they gossiped
    for node in cluster.nodes:
        near = node.get("/v1/catalog/nodes?near=_agent")
        first = [one["Node"] for one in near[: len(everybody)]]
        assert set(first) == everybody
    query(agent, Name="own", Service={"Service": "consul", "Near": "_agent"})
    for server in cluster.servers:
        found = server.get("/v1/query/own/execute")
        assert found["Nodes"][0]["Node"]["Node"] == server.name


def rtt(node: Node, *words: str) -> str:
    command = [sys.executable, "-m", "pyconsul.cli.main", "rtt"]
    done = subprocess.run(
        [*command, f"-http-addr=unix://{node.socket}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rtt_in_both_pools(cluster: Cluster) -> None:
    agent = cluster.clients[0]
    assert rtt(agent, "n01", "n03") == (
        "Estimated n01 <-> n03 rtt: 20.020 ms (using LAN coordinates)\n"
    )
    for server in cluster.servers[1:]:
        cluster.servers[0].put(f"/v1/agent/join/{server.address}:8302?wan=1")
    cluster.servers[0].eventually(
        "/v1/coordinate/datacenters",
        lambda all_: len(all_[0]["Coordinates"]) == 3,
        SENT_S,
    )
    text = rtt(cluster.servers[0], "-wan", "s2.dc1")
    assert text.startswith("Estimated s2.dc1 <-> s1.dc1 rtt: ")
    assert text.endswith(" ms (using WAN coordinates)\n")
