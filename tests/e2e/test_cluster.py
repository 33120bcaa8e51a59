"""Three servers and three client agents, as a user meets them."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import Cluster, Node, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), 3, 3) as made:
        yield made


def names(members: list[dict[str, Any]], status: int = 1) -> set[str]:
    return {one["Name"] for one in members if one["Status"] == status}


def health(node: Node, of: str) -> Any:
    found = node.get(f"/v1/health/node/{of}")
    return next((c["Status"] for c in found if c["CheckID"] == "serfHealth"), None)


def test_everybody_is_in_the_pool_and_in_the_catalog(cluster: Cluster) -> None:
    everybody = {node.name for node in cluster.nodes}
    for node in cluster.nodes:
        assert names(node.get("/v1/agent/members")) == everybody
        found = node.eventually(
            "/v1/catalog/nodes", lambda all_: {n["Node"] for n in all_} == everybody
        )
        assert {n["Address"] for n in found} == {n.address for n in cluster.nodes}
        assert health(node, "c1") == "passing"
    servers = cluster.clients[0].get("/v1/catalog/service/consul")
    assert {s["Node"] for s in servers} == {s.name for s in cluster.servers}


def test_servers_flood_the_wan_pool(cluster: Cluster) -> None:
    wanted = {f"{server.name}.dc1" for server in cluster.servers}
    for server in cluster.servers:
        server.eventually(
            "/v1/agent/members?wan=1", lambda found: names(found) == wanted, 30
        )


def test_all_agree_who_leads(cluster: Cluster) -> None:
    leader = cluster.leader()
    for node in cluster.nodes:
        assert node.get("/v1/status/leader") == f"{leader.address}:8300"
        peers = sorted(f"{s.address}:8300" for s in cluster.servers)
        assert sorted(node.get("/v1/status/peers")) == peers


@pytest.mark.parametrize("mode", ["", "?consistent", "?stale"])
def test_a_write_anywhere_is_read_everywhere(cluster: Cluster, mode: str) -> None:
    for writer in cluster.nodes:
        key = f"everywhere/{writer.name}{mode[1:]}"
        assert writer.put(f"/v1/kv/{key}", b"value") is True
        for reader in cluster.nodes:
            if mode == "?stale":
                reader.eventually(f"/v1/kv/{key}{mode}", bool, 5)
            assert reader.get(f"/v1/kv/{key}{mode}")[0]["Value"] == "dmFsdWU="


def test_headers_say_where_the_answer_is_from(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(s for s in cluster.servers if s is not leader)
    leader.put("/v1/kv/headers", b"x")
    follower.eventually("/v1/kv/headers?stale", bool)
    for node, query, consistency in (
        (leader, "", "leader"),
        (follower, "", "leader"),
        (follower, "?stale", "stale"),
        (cluster.clients[0], "?consistent", "consistent"),
    ):
        _, _, headers = node.request("GET", f"/v1/kv/headers{query}")
        assert headers["x-consul-knownleader"] == "true"
        assert headers.get("x-consul-effective-consistency", consistency) == consistency
        assert int(headers["x-consul-lastcontact"]) < 2000
    _, _, headers = leader.request("GET", "/v1/kv/headers")
    assert headers["x-consul-lastcontact"] == "0"


def test_a_blocking_query_through_a_client_agent(cluster: Cluster) -> None:
    reader, writer = cluster.clients[0], cluster.clients[1]
    writer.put("/v1/kv/blocked", b"1")
    _, _, headers = reader.request("GET", "/v1/kv/blocked")
    index = headers["x-consul-index"]
    connection = reader.connection(timeout=60)
    connection.request("GET", f"/v1/kv/blocked?index={index}&wait=300s")
    assert not select.select([connection.sock], [], [], 0.3)[0], "it does not block"
    writer.put("/v1/kv/blocked", b"2")
    answer = connection.getresponse()
    assert b'"Mg=="' in answer.read()
    connection.close()


def test_a_service_of_a_client_agent_is_seen_everywhere(cluster: Cluster) -> None:
    home = cluster.clients[0]
    home.put(
        "/v1/agent/service/register",
        {"Name": "web", "Port": 80, "Check": {"TTL": "60s", "Status": "passing"}},
    )
    for node in cluster.nodes:
        found = node.eventually("/v1/health/service/web?passing", bool)
        assert found[0]["Node"]["Node"] == home.name
    home.put("/v1/agent/check/fail/service:web")
    for node in cluster.nodes:
        node.eventually("/v1/health/service/web?passing", lambda found: not found)
    home.put("/v1/agent/service/deregister/web")
    cluster.servers[0].eventually("/v1/catalog/service/web", lambda found: not found)


def test_an_event_reaches_everybody(cluster: Cluster) -> None:
    fired = cluster.clients[2].put("/v1/event/fire/deploy?node=.*", b"now")
    for node in cluster.nodes:
        found = node.eventually("/v1/event/list?name=deploy", bool)
        assert (found[0]["ID"], found[0]["Payload"]) == (fired["ID"], "bm93")


def test_names_that_are_taken_are_refused_clearly(cluster: Cluster) -> None:
    owner = cluster.clients[1].get("/v1/agent/self")["Config"]["NodeID"]
    node = {
        "ID": "00000000-0000-4000-8000-000000000001",
        "Node": "C2",
        "Address": "127.0.0.1",
    }
    status, text, _ = cluster.clients[0].request("PUT", "/v1/catalog/register", node)
    assert status == 500
    assert f"Node name C2 is reserved by node {owner} with name c2" in text


def test_a_killed_client_turns_critical_and_comes_back(cluster: Cluster) -> None:
    victim, watcher = cluster.clients[2], cluster.clients[0]
    victim.put("/v1/agent/service/register", {"Name": "kept", "Port": 1})
    watcher.eventually("/v1/catalog/service/kept", bool)
    victim.kill()
    watcher.eventually(
        "/v1/agent/members", lambda found: victim.name in names(found, 4), 30
    )
    watcher.eventually(
        f"/v1/health/node/{victim.name}",
        lambda found: any(
            c["CheckID"] == "serfHealth"
            and c["Status"] == "critical"
            and c["Output"] == "Agent not live or unreachable"
            for c in found
        ),
    )
    victim.start()
    watcher.eventually(
        f"/v1/health/node/{victim.name}",
        lambda found: any(
            c["CheckID"] == "serfHealth" and c["Status"] == "passing" for c in found
        ),
    )
    # Its services were kept on its disk, and in the catalog.
    assert "kept" in victim.eventually("/v1/agent/services", bool)


def test_a_client_that_leaves_is_forgotten(cluster: Cluster) -> None:
    victim, watcher = cluster.clients[1], cluster.clients[0]
    victim.signal(signal.SIGINT)
    assert victim.process is not None
    assert victim.process.wait(30) == 0
    watcher.eventually(
        "/v1/agent/members", lambda found: victim.name in names(found, 3)
    )
    watcher.eventually(
        "/v1/catalog/nodes", lambda found: victim.name not in {n["Node"] for n in found}
    )
    victim.start()
    watcher.eventually(
        "/v1/catalog/nodes", lambda found: victim.name in {n["Node"] for n in found}
    )


def test_the_command_line_sees_the_cluster(cluster: Cluster) -> None:
    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "pyconsul.cli.main", *words],
            env={"CONSUL_HTTP_ADDR": f"unix://{cluster.clients[0].socket}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    listed = run("members").splitlines()
    assert len(listed) == 1 + len(cluster.nodes)
    peers = run("operator", "raft", "list-peers")
    assert peers.count("follower") == 2
    assert peers.count("leader") == 1
