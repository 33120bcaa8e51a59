"""Clients of every node of a cluster at once, and the judgement at the end."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Generator

from cluster import Cluster, Node
from linearizability import check
from workload import KvClient, LockClient, histories, unknown

KEYS = [f"chaos/{number}" for number in range(6)]
# Dead servers come back here, so that they must keep their places.
STAY = {"autopilot": {"cleanup_dead_servers": False}}


class Load:
    """Clients of every node, and what is asked of them at the end."""

    def __init__(self, cluster: Cluster, nodes: list[Node]) -> None:
        self.cluster = cluster
        self.seed = random.SystemRandom().getrandbits(32)
        self.kv = [
            KvClient(node, f"{node.name}{letter}", KEYS, self.seed + at)
            for at, (node, letter) in enumerate(
                (node, letter) for node in nodes for letter in "ab"
            )
        ]
        self.locks = [
            LockClient(node, f"lock-{node.name}", "chaos/lock", self.seed + at)
            for at, node in enumerate(nodes)
        ]

    def start(self) -> None:
        for client in (*self.kv, *self.locks):
            client.start()

    def writes(self) -> int:
        """Operations that succeeded so far."""
        return sum(client.done for client in self.kv)

    def works(self, count: int, seconds: float = 60) -> None:
        """Wait until so many more operations have succeeded."""
        wanted, deadline = self.writes() + count, time.monotonic() + seconds
        while self.writes() < wanted:
            assert time.monotonic() < deadline, "the clients make no progress"
            time.sleep(0.02)

    def resumes(self, nodes: list[Node], seconds: float) -> float:
        """Wait until each of ``nodes`` takes a write; return how long it took."""
        begun = time.monotonic()
        for node in nodes:
            while True:
                with contextlib.suppress(Exception):
                    status, _, _ = node.request(
                        "PUT", f"/v1/kv/probe/{node.name}", b"x", timeout=5
                    )
                    if status == 200:
                        break
                assert time.monotonic() - begun < seconds, f"{node.name} is stuck"
                time.sleep(0.02)
        return time.monotonic() - begun

    def judge(self, minimum: int) -> None:
        """Stop, read everything once more, and check it all."""
        history = histories([*self.kv, *self.locks])
        reader = KvClient(self.cluster.leader(), "final", KEYS, 1)
        reader.read_all()
        history += reader.history
        assert len(reader.history) == len(KEYS)
        done = self.writes()
        print(f"seed {self.seed}: {done} done, {unknown(history)} unknown")
        assert done > minimum, f"only {done} operations succeeded"
        assert sum(client.held for client in self.locks) > 0
        verdict = check(history)
        assert verdict.ok, f"seed {self.seed}: {verdict}"


@contextlib.contextmanager
def under_load(cluster: Cluster, minimum: int = 50) -> Generator[Load]:
    """Run clients of all nodes during the block, then judge."""
    load = Load(cluster, cluster.nodes)
    load.start()
    yield load
    load.judge(minimum)
