"""Saving and restoring the state of three servers, through any agent."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Node, running

REAL = Path(__file__).parents[1] / "data" / "state" / "snapshot.json"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("snapshots"), 3, 1) as made:
        yield made


def cli(node: Node, *words: str) -> tuple[int, str, str]:
    """Run a command against an agent; exit status, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "CONSUL_HTTP_ADDR": f"unix://{node.socket}"},
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def everywhere(cluster: Cluster, path: str, right: Any) -> None:
    for node in cluster.nodes:
        node.eventually(f"{path}?stale", right)


def follower(cluster: Cluster) -> Node:
    leader = cluster.leader()
    return next(node for node in cluster.servers if node is not leader)


def value_is(value: bytes) -> Any:
    encoded = base64.b64encode(value).decode()
    return lambda found: found[0]["Value"] == encoded


def test_a_state_saved_through_a_client_is_restored_through_a_follower(
    cluster: Cluster, tmp_path: Path
) -> None:
    client, path = cluster.clients[0], str(tmp_path / "backup.snap")
    client.put("/v1/kv/snap/a", b"before")
    big = os.urandom(300_000)
    for number in range(20):
        client.put(f"/v1/kv/snap/big/{number}", big)
    client.put(
        "/v1/catalog/register",
        {"Node": "outside", "Address": "10.9.9.9", "Service": {"Service": "kept"}},
    )
    session = client.put("/v1/session/create", {"TTL": "10s"})["ID"]
    assert client.put(f"/v1/kv/snap/lock?acquire={session}", b"held") is True
    status, out, err = cli(client, "snapshot", "save", path)
    assert (status, err) == (0, "")
    assert out.startswith("Saved and verified snapshot to index ")
    assert os.path.getsize(path) > 20 * 300_000

    client.put("/v1/kv/snap/a", b"after")
    client.put("/v1/kv/snap/b", b"new")
    client.request("DELETE", "/v1/kv/snap/big?recurse")
    client.put("/v1/catalog/deregister", {"Node": "outside"})
    client.put(f"/v1/session/destroy/{session}")

    waiting = {}

    def wait(node: Node) -> None:
        _, _, headers = node.request("GET", "/v1/kv/snap/b")
        index = headers["x-consul-index"]
        began = time.monotonic()
        path = f"/v1/kv/snap/b?index={index}&wait=60s"
        status, _, _ = node.request("GET", path, timeout=70)
        waiting[node.name] = (status, time.monotonic() - began)

    threads = [threading.Thread(target=wait, args=(node,)) for node in cluster.nodes]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert cli(follower(cluster), "snapshot", "restore", path) == (
        0,
        "Restored snapshot\n",
        "",
    )
    for thread in threads:
        thread.join(30)
    assert {name: status for name, (status, _) in waiting.items()} == {
        node.name: 404 for node in cluster.nodes
    }
    assert max(seconds for _, seconds in waiting.values()) < 30

    def check() -> None:
        everywhere(cluster, "/v1/kv/snap/a", value_is(b"before"))
        everywhere(cluster, "/v1/kv/snap/big/7", value_is(big))
        everywhere(cluster, "/v1/catalog/service/kept", bool)
        for node in cluster.nodes:
            assert node.request("GET", "/v1/kv/snap/b?stale")[0] == 404

    check()
    found = client.get("/v1/kv/snap/lock")[0]
    assert found["Session"] == session
    # The members are in the catalog again, and new writes go on from there.
    client.eventually(
        "/v1/catalog/nodes",
        lambda nodes: (
            {node.name for node in cluster.nodes} <= {one["Node"] for one in nodes}
        ),
        90,
    )
    index = found["ModifyIndex"]
    client.put("/v1/kv/snap/later", b"x")
    assert client.get("/v1/kv/snap/later")[0]["ModifyIndex"] > index
    # The session's time began anew: nobody renews it, so it ends.
    client.eventually("/v1/kv/snap/lock", lambda found: "Session" not in found[0], 45)

    for node in cluster.servers:
        node.kill()
    for node in cluster.servers:
        node.start()
    cluster.settle()
    check()
    everywhere(cluster, "/v1/kv/snap/later", value_is(b"x"))


def test_a_bad_archive_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    client = cluster.clients[0]
    client.put("/v1/kv/stays", b"here")
    path = tmp_path / "good.snap"
    assert cli(client, "snapshot", "save", str(path))[0] == 0
    good = path.read_bytes()
    for body, text in (
        (b"not a snapshot", "failed to decompress snapshot: gzip: invalid header"),
        (good[: len(good) // 2], "failed reading snapshot: unexpected EOF"),
        (good[:-8] + bytes(8), "gzip: invalid checksum"),
        (b"", "failed to decompress snapshot: EOF"),
    ):
        for node in cluster.nodes:
            status, answer, _ = node.request("PUT", "/v1/snapshot", body)
            assert (status, text in answer) == (500, True), (node.name, answer)
    status, answer, _ = client.request("PUT", "/v1/snapshot?stale", good)
    assert (status, answer) == (500, "stale not allowed for restore")
    everywhere(cluster, "/v1/kv/stays", value_is(b"here"))


def test_a_real_archive_is_restored(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "real.snap"
    vectors = json.loads(REAL.read_text())
    path.write_bytes(base64.b64decode(vectors["archive_base64"]))
    client = cluster.clients[0]
    assert cli(client, "snapshot", "restore", str(path))[0] == 0
    everywhere(cluster, "/v1/kv/a/b", value_is(b"v1"))
    everywhere(cluster, "/v1/catalog/service/db", bool)


def test_a_follower_alone_saves_a_stale_snapshot(
    cluster: Cluster, tmp_path: Path
) -> None:
    client = cluster.clients[0]
    client.put("/v1/kv/stale", b"saved")
    alone = follower(cluster)
    alone.eventually("/v1/kv/stale?stale", value_is(b"saved"))
    others = [node for node in cluster.servers if node is not alone]
    for node in others:
        node.kill()
    path = str(tmp_path / "stale.snap")
    status, out, err = cli(alone, "snapshot", "save", "-stale", path)
    assert (status, err) == (0, "")
    assert out.startswith("Saved and verified snapshot to index ")
    status, out, err = cli(alone, "snapshot", "save", path)
    assert (status, out) == (1, "")
    assert "Unexpected response code: 500 (No cluster leader)" in err or (
        "failed to get conn" in err
    )
    for node in others:
        node.start()
    cluster.settle()
    _, out, _ = cli(alone, "snapshot", "inspect", "-kvdetails", path)
    assert " stale " in out


def test_the_leadership_is_transferred(cluster: Cluster) -> None:
    leader, target = cluster.leader(), follower(cluster)
    cluster.wait_voters(3)
    found = leader.get("/v1/operator/raft/configuration")["Servers"]
    node_id = next(one["ID"] for one in found if one["Node"] == target.name)
    command = ("operator", "raft", "transfer-leader")
    assert cli(cluster.clients[0], *command, f"-id={node_id}") == (0, "Success\n", "")
    assert cluster.leader() is target
    assert cli(target, *command) == (0, "Success\n", "")
    assert cluster.leader() is not target
    status, _, err = cli(target, *command, "-id=nobody")
    assert status == 1
    assert 'id "nobody" was not found in the Raft configuration' in err
