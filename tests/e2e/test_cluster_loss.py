"""A cluster whose links lose three packets in ten, in one direction only.

TCP and UDP alike: what Raft and RPC send is sent again later, what gossip sends
is gone. Answers come back whole, so that each side sees another network.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cluster import Namespaces, running
from cluster_load import STAY, under_load
from lossy_link import LossyLink

SHARE = 0.3
PACKETS = {"tcp": 1000, "udp": 40}
"""What must have crossed the lossy links before they heal."""

pytestmark = [
    pytest.mark.skipif(
        not Namespaces.possible(), reason="may not make network namespaces"
    ),
    pytest.mark.skipif(
        not LossyLink.possible(), reason="cannot open /dev/net/tun for a lossy link"
    ),
    pytest.mark.timeout(400),
]


def wait_for_traffic(link: LossyLink, seconds: float = 150) -> dict[str, list[int]]:
    """Wait until enough has crossed; return the counts."""
    deadline = time.monotonic() + seconds
    while True:
        counts = link.counts()
        if all(counts[kind][0] >= least for kind, least in PACKETS.items()):
            return counts
        assert time.monotonic() < deadline, f"only {counts} crossed the link"
        time.sleep(0.1)


@pytest.mark.parametrize(
    "direction",
    ["from the leader", pytest.param("to the leader", marks=pytest.mark.slow)],
)
def test_a_share_of_packets_is_lost_one_way(tmp_path: Path, direction: str) -> None:
    network = Namespaces()
    with (
        running(tmp_path, 3, 1, network=network, settings=STAY) as cluster,
        under_load(cluster) as load,
    ):
        leader = cluster.leader()
        ways = [(leader, node) for node in cluster.nodes if node is not leader]
        if direction == "to the leader":
            ways = [(node, leader) for _, node in ways]
        before = load.writes()
        with network.lossy(ways, SHARE, load.seed) as link:
            counts = wait_for_traffic(link)
            # It serves all the while, be it under another leader.
            load.resumes(cluster.servers, 60)
            assert load.writes() > before
        print(f"seed {load.seed}, packets seen and dropped: {counts}")
        seen, dropped = counts["tcp"]
        assert abs(dropped / seen - SHARE) < 0.1
        assert 0 < counts["udp"][1] < counts["udp"][0]
        # Healed, it is as fast as ever, by itself.
        load.resumes(cluster.nodes, 60)
        cluster.settle()


@pytest.mark.slow
def test_a_follower_hears_little_and_says_all(tmp_path: Path) -> None:
    network = Namespaces()
    with (
        running(tmp_path, 3, 1, network=network, settings=STAY) as cluster,
        under_load(cluster) as load,
    ):
        leader = cluster.leader()
        deaf = next(server for server in cluster.servers if server is not leader)
        others = [node for node in cluster.nodes if node is not deaf]
        with network.lossy([(node, deaf) for node in others], 0.6, load.seed) as link:
            wait_for_traffic(link)
            # A majority has whole links among itself.
            load.resumes([s for s in cluster.servers if s is not deaf], 60)
        load.resumes(cluster.nodes, 60)
        cluster.settle()
        # What it missed it has caught up with: its own state says so.
        mark = f"after {load.seed}".encode()
        leader = cluster.leader()
        leader.put("/v1/kv/mark", mark)
        deaf.eventually("/v1/kv/mark?stale&raw", lambda found: found == mark.decode())
