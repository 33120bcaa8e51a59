"""A cluster of real processes under faults, watched by clients all the while.

In each test clients set, cas and get a few keys and take a lock through every
node while something breaks. Afterwards: the histories are linearizable (so no
acknowledged write is lost and no read was stale), a lock had one holder at a
time, and the cluster serves again by itself. Longer runs:
``PYCONSUL_LEADER_KILLS=30``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cluster import Namespaces, running
from cluster_load import STAY, under_load

# Longer than a follower waits for its leader before it stands itself.
CUT_S = 1.5
# It takes a second or two; the cores may be busy with other tests.
PATIENCE_S = 60
LEADER_KILLS = int(os.environ.get("PYCONSUL_LEADER_KILLS", "3"))

needs_namespaces = pytest.mark.skipif(
    not Namespaces.possible(), reason="may not make network namespaces"
)
pytestmark = pytest.mark.timeout(300)


def test_rolling_restart(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1, settings=STAY) as cluster, under_load(cluster) as load:
        for server in cluster.servers:
            server.signal(signal.SIGTERM)
            assert server.process is not None
            server.process.wait(PATIENCE_S)
            server.start()
            cluster.settle()
            load.resumes(cluster.nodes, PATIENCE_S)


@pytest.mark.timeout(240 + 60 * LEADER_KILLS)
def test_the_leader_is_killed_again_and_again(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1, settings=STAY) as cluster, under_load(cluster) as load:
        times: list[float] = []
        for _ in range(LEADER_KILLS):
            leader = cluster.leader()
            leader.kill()
            others = [node for node in cluster.nodes if node is not leader]
            times.append(load.resumes(others, PATIENCE_S))
            leader.start()
            cluster.settle()
        print("writes again after", " ".join(f"{one:.2f}" for one in times), "s")


def test_the_leader_is_paused(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1, settings=STAY) as cluster, under_load(cluster) as load:
        old = cluster.leader()
        old.signal(signal.SIGSTOP)
        others = [node for node in cluster.servers if node is not old]
        load.resumes(others, PATIENCE_S)
        load.works(100)
        old.signal(signal.SIGCONT)
        load.resumes(cluster.nodes, PATIENCE_S)


def test_a_power_cut_of_all(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1, settings=STAY) as cluster, under_load(cluster) as load:
        load.works(50)
        for node in cluster.nodes:
            node.signal(signal.SIGKILL)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.settle()
        load.resumes(cluster.nodes, PATIENCE_S)
        load.works(50)


def test_a_server_is_replaced_by_an_empty_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "autopilot": {"server_stabilization_time": "1s"},
        "raft_snapshot_threshold": 200,
        "raft_snapshot_interval": "1s",
        "raft_trailing_logs": 50,
    }
    with running(tmp_path, 3, 1, settings=settings) as cluster:
        with under_load(cluster, 100) as load:
            load.works(100)
            victim = next(s for s in cluster.servers if s is not cluster.leader())
            victim.kill()
            victim.wipe()
            fresh = cluster.add_server("s9")
            fresh.start()
            survivors = [n for n in cluster.nodes if n not in (victim, fresh)]
            load.resumes([*survivors, fresh], PATIENCE_S)
            cluster.wait_voters(3)
            peers = cluster.leader().get("/v1/operator/raft/configuration")["Servers"]
            assert fresh.name in {peer["Node"] for peer in peers}
        # The newcomer has everything: its own state says so.
        leader = cluster.leader()
        wanted = leader.get("/v1/kv/chaos/?recurse")
        fresh.eventually("/v1/kv/chaos/?recurse&stale", lambda found: found == wanted)


@needs_namespaces
def test_a_partition_isolates_the_leader(tmp_path: Path) -> None:
    network = Namespaces()
    with (
        running(tmp_path, 3, 1, network=network, settings=STAY) as cluster,
        under_load(cluster) as load,
    ):
        old = cluster.leader()
        network.isolate(old, cluster.nodes)
        others = [node for node in cluster.nodes if node is not old]
        load.resumes(others, PATIENCE_S)
        new = cluster.leader(among=[s for s in cluster.servers if s is not old])
        assert new is not old
        # Cut off, it must answer neither a write nor a default read.
        status, _, _ = old.request("GET", "/v1/kv/chaos/0", timeout=15)
        assert status == 500
        status, _, headers = old.request("GET", "/v1/kv/chaos/0?stale", timeout=5)
        assert status in (200, 404)
        assert headers["x-consul-knownleader"] == "false"
        network.rejoin(old, cluster.nodes)
        load.resumes(cluster.nodes, PATIENCE_S)
        cluster.settle()


@needs_namespaces
def test_packets_get_lost_one_way(tmp_path: Path) -> None:
    network = Namespaces()
    with (
        running(tmp_path, 3, 1, network=network, settings=STAY) as cluster,
        under_load(cluster) as load,
    ):
        for _ in range(3):
            leader = cluster.leader()
            follower = next(s for s in cluster.servers if s is not leader)
            for source, target in ((leader, follower), (follower, leader)):
                network.cut(source, target)
                time.sleep(CUT_S)
                load.resumes(
                    [s for s in cluster.servers if s is not follower], PATIENCE_S
                )
                network.heal(source, target)
        load.resumes(cluster.nodes, PATIENCE_S)
        cluster.settle()


def test_what_is_registered_without_servers_is_not_lost(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1, settings=STAY) as cluster:
        client = cluster.clients[0]
        for server in cluster.servers:
            server.kill()
        # The agent takes it, and tells why nobody else knows of it yet.
        body = {"Name": "late", "Port": 7, "Check": {"TTL": "10m"}}
        client.put("/v1/agent/service/register", body)
        client.put("/v1/agent/check/pass/service:late")
        assert "late" in client.get("/v1/agent/services")
        status, text, _ = client.request("GET", "/v1/catalog/services", timeout=30)
        assert status == 500
        assert text in ("No cluster leader", "No known Consul servers") or (
            text.startswith("rpc error")
        )
        assert "failed to sync" in client.tail(20000)
        # Nor is it lost with the process: it is on the agent's disk.
        client.kill()
        for node in cluster.nodes:
            node.start()
        cluster.settle()
        for node in cluster.nodes:
            node.eventually("/v1/health/service/late?passing", bool, 30)


def test_sessions_outlive_a_leader_change_and_then_end(tmp_path: Path) -> None:
    settings = {**STAY, "session_ttl_min": "1s"}
    with running(tmp_path, 3, settings=settings) as cluster:
        leader = cluster.leader()
        other = next(server for server in cluster.servers if server is not leader)
        body = {"TTL": "4s", "LockDelay": "0s", "NodeChecks": []}
        kept, left = (other.put("/v1/session/create", body)["ID"] for _ in range(2))
        assert other.put(f"/v1/kv/held?acquire={left}", b"x") is True
        leader.kill()
        begun = time.monotonic()
        new = cluster.leader(among=[s for s in cluster.servers if s is not leader])
        # The new leader gives every session its whole time again: twice the TTL.
        while time.monotonic() - begun < 7:
            with contextlib.suppress(AssertionError):
                new.put(f"/v1/session/renew/{kept}")
            assert new.get(f"/v1/session/info/{left}")
            time.sleep(0.5)
        while new.get(f"/v1/session/info/{left}"):
            new.put(f"/v1/session/renew/{kept}")
            assert time.monotonic() - begun < 30
            time.sleep(0.5)
        assert new.get(f"/v1/session/info/{kept}")
        assert "Session" not in new.get("/v1/kv/held")[0]
