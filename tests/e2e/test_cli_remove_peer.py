"""``operator raft remove-peer`` of servers that are gone, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pyconsul.testing import Cluster, run_cluster

PLAIN = {key: text for key, text in os.environ.items() if "CONSUL" not in key}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with run_cluster(5, process=True) as running:
        yield running


def cli(env: dict[str, str], *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env=PLAIN | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_servers_that_are_gone_are_removed(cluster: Cluster) -> None:
    leader = cluster.leader
    gone = [server for server in cluster.servers if server is not leader][:2]
    env = leader.environ
    raft = ("operator", "raft")
    # Else autopilot would be faster than we are.
    keep = ("operator", "autopilot", "set-config", "-cleanup-dead-servers=false")
    assert cli(env, *keep) == (0, "Configuration updated!\n", "")
    _, out, _ = cli(env, *raft, "list-peers")
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert set(rows) == {server.name for server in cluster.servers}
    for server in gone:
        server.kill()
    deadline = time.monotonic() + 60
    while cli(env, "members", "-status=failed")[1].count("\n") < 3:
        assert time.monotonic() < deadline, cli(env, "members")
        time.sleep(0.2)
    first, second = (rows[server.name] for server in gone)
    by_id, by_address = f"-id={first[1]}", f"-address={second[2]}"
    assert cli(env, *raft, "remove-peer", by_id) == (
        0,
        f'Removed peer with id "{first[1]}"\n',
        "",
    )
    assert cli(env, *raft, "remove-peer", by_address) == (
        0,
        f'Removed peer with address "{second[2]}"\n',
        "",
    )
    assert cli(env, *raft, "remove-peer", by_address) == (
        1,
        "",
        "Error removing peer: Unexpected response code: 500 "
        f'(address "{second[2]}" was not found in the Raft configuration)\n',
    )
    _, out, _ = cli(env, *raft, "list-peers")
    left = [line.split()[0] for line in out.splitlines()[1:]]
    assert set(left) == set(rows) - {server.name for server in gone}
