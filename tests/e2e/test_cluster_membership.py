"""Real servers come and go: a copied id, a graceful leave, a lost quorum."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from cluster import Cluster, Node, running


def alive(node: Node) -> set[str]:
    members: list[dict[str, Any]] = node.get("/v1/agent/members")
    return {member["Name"] for member in members if member["Status"] == 1}


def wait_for_log(node: Node, text: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while text not in node.log.read_text(errors="replace"):
        assert time.monotonic() < deadline, (text, node.tail())
        time.sleep(0.05)


def refuse_a_copied_id(cluster: Cluster) -> None:
    """A copied data directory keeps its owner's pool as it was."""
    (client,) = cluster.clients
    clone = Node(cluster, 150, "clone", False, [])
    (clone.folder / "data").mkdir()
    shutil.copy(client.folder / "data" / "node-id", clone.folder / "data" / "node-id")
    cluster.nodes.append(clone)
    clone.start()
    wait_for_log(clone, "Member 'c1' has conflicting node ID")
    for server in cluster.servers:
        assert "clone" not in alive(server)
    clone.kill()
    cluster.nodes.remove(clone)
    # With both in the pool nobody new could get in.
    late = Node(cluster, 151, "late", False, [])
    cluster.nodes.append(late)
    late.start()
    cluster.leader().eventually("/v1/catalog/node/late", bool)
    late.kill()
    cluster.nodes.remove(late)


def keep_out_a_cluster_of_its_own(cluster: Cluster) -> None:
    """A new server with ``-bootstrap`` by mistake takes over nothing."""
    stranger = cluster.add_server("stranger")
    stranger.flags = ["-server", "-bootstrap"]
    stranger.start()
    stranger.eventually(
        "/v1/status/leader", lambda who: who.startswith(stranger.address)
    )
    leader = cluster.leader(among=cluster.servers[:3])
    wait_for_log(leader, "Server belongs to another cluster, not adding Raft peer")
    wait_for_log(stranger, "Server belongs to another cluster, not adding Raft peer")
    assert leader.get("/v1/kv/kept?raw") == "for ever"
    assert len(stranger.get("/v1/status/peers")) == 1
    assert len(leader.get("/v1/status/peers")) == 3
    stranger.kill()
    stranger.wipe()
    stranger.flags = ["-server"]
    stranger.start()
    cluster.wait_voters(4)
    assert stranger.request("PUT", "/v1/agent/leave", timeout=60)[0] == 200
    cluster.wait_voters(3)
    stranger.kill()
    cluster.nodes.remove(stranger)


def leave_with_the_leaders_word(cluster: Cluster) -> None:
    """A server that leaves hears that it is out, and waits no longer."""
    newcomer = cluster.add_server("s4")
    newcomer.start()
    cluster.wait_voters(4)
    assert newcomer.request("PUT", "/v1/agent/leave", timeout=60)[0] == 200
    assert newcomer.process is not None
    assert newcomer.process.wait(60) == 0
    cluster.wait_voters(3)
    assert "failed to leave raft" not in newcomer.log.read_text()
    cluster.nodes.remove(newcomer)


def move_everybody(cluster: Cluster) -> None:
    """All agents restart with other addresses, as containers do."""
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        node.address, _ = cluster.network.add(node.number + 20)
    for node in cluster.nodes:
        node.start()
    cluster.settle()
    assert cluster.clients[0].put("/v1/kv/moved", b"yes") is True
    wanted = {f"{server.address}:8300" for server in cluster.servers}
    cluster.leader().eventually(
        "/v1/operator/raft/configuration",
        lambda found: {one["Address"] for one in found["Servers"]} == wanted,
    )
    cluster.leader().eventually(
        f"/v1/catalog/node/{cluster.clients[0].name}",
        lambda found: found["Node"]["Address"] == cluster.clients[0].address,
    )


def recover_from_a_lost_quorum(cluster: Cluster) -> None:
    """One server of three goes on with what all had acknowledged."""
    survivor = cluster.servers[0]
    for node in cluster.nodes:
        node.kill()
    peers = survivor.folder / "data" / "raft" / "peers.json"
    peers.write_text(json.dumps([f"{survivor.address}:8300"]))
    survivor.start()
    # Reads wait for nobody: it is the only voter.
    survivor.eventually("/v1/kv/kept?raw", lambda text: text == "for ever")
    assert survivor.put("/v1/kv/new", b"again") is True
    assert not peers.exists()
    voters = [
        server["Node"]
        for server in survivor.get("/v1/operator/raft/configuration")["Servers"]
        if server["Voter"]
    ]
    assert voters == ["s1"]


def test_membership_of_a_real_cluster(tmp_path: Path) -> None:
    with running(tmp_path, servers=3, clients=1) as cluster:
        cluster.wait_voters(3)
        assert cluster.servers[2].put("/v1/kv/kept", b"for ever") is True
        refuse_a_copied_id(cluster)
        keep_out_a_cluster_of_its_own(cluster)
        leave_with_the_leaders_word(cluster)
        move_everybody(cluster)
        recover_from_a_lost_quorum(cluster)
