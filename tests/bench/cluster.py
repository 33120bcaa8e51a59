"""Measure a cluster of three servers on loopback, beside a single server.

    make bench-cluster                       everything
    make bench-cluster ARGS="puts reads"     some parts: failover puts reads
                                             services idle

Five rounds each, shown is the median; nothing here asserts a time. Wants wrk.
Nothing is pinned: three servers and the load share the cores there are.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cluster import Cluster, Node
from harness import cpu_s, rss_mb

ROUNDS = 5
KILLS = 20
STAY = {
    "autopilot": {"cleanup_dead_servers": False},
    "limits": {"http_max_conns_per_client": 2000},
}
PUT = """
wrk.method = "PUT"
wrk.body = string.rep("v", 64)
request = function()
  return wrk.format(nil, "/v1/kv/put/" .. math.random(0, 999))
end
"""


def say(text: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def cluster(servers: int, clients: int = 0):
    """Run a cluster that listens for HTTP on TCP."""
    with tempfile.TemporaryDirectory() as folder:
        made = Cluster(Path(folder), servers, clients, settings=STAY, tcp=True)
        try:
            yield made.start()
        finally:
            made.close()


def wrk(
    node: Node, path: str, connections: int, script: str = "", seconds: int = 2
) -> tuple[float, float, float]:
    """Return requests a second, and p50 and p99 in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", file.name]
        url = f"http://{node.address}:8500{path}"
        run = subprocess.run(
            [*command, url], capture_output=True, text=True, check=True
        )
    if "Non-2xx" in run.stdout or "Socket errors" in run.stdout:
        raise RuntimeError(run.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)
    assert rate is not None, run.stdout

    def percentile(name: str) -> float:
        found = re.search(rf"{name}%\s+([\d.]+)(us|ms|s)\b", run.stdout)
        assert found is not None, run.stdout
        return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]

    return float(rate[1]), percentile("50"), percentile("99")


def median_of(measure: Callable[[], tuple[float, float, float]]) -> tuple[float, ...]:
    """Return the medians of several rounds."""
    rounds = [measure() for _ in range(ROUNDS)]
    return tuple(statistics.median(column) for column in zip(*rounds, strict=True))


def bench_puts() -> None:
    """PUT/s of 64 bytes to 1,000 keys at the leader, and of a single server."""
    rates: dict[tuple[int, int], tuple[float, ...]] = {}
    for servers in (1, 3):
        with cluster(servers) as run:
            leader = run.leader()
            for connections in (1, 16, 64):
                rates[servers, connections] = median_of(
                    lambda leader=leader, c=connections: wrk(leader, "/", c, PUT)
                )
    say("| PUT 64 B | 3 servers /s | p50 ms | p99 ms | single /s | p50 | p99 | share |")
    say("|---|---|---|---|---|---|---|---|")
    for connections in (1, 16, 64):
        three, one = rates[3, connections], rates[1, connections]
        say(
            f"| {connections} connections | {three[0]:,.0f} | {three[1]:.2f} | "
            f"{three[2]:.2f} | {one[0]:,.0f} | {one[1]:.2f} | {one[2]:.2f} | "
            f"{three[0] / one[0]:.2f} |"
        )


def bench_reads() -> None:
    """GET/s of one key: the leader, a follower and a client agent."""
    with cluster(3, 1) as run:
        leader = run.leader()
        follower = next(s for s in run.servers if s is not leader)
        client = run.clients[0]
        leader.put("/v1/kv/bench/key", b"v" * 32)
        time.sleep(1)
        base = 0.0
        say("| GET of a key, 64 connections | goal | share | /s | p50 ms | p99 ms |")
        say("|---|---|---|---|---|---|")
        for name, node, query, goal in (
            ("leader, default", leader, "", "1"),
            ("follower, stale", follower, "?stale", "0.9"),
            ("follower, default", follower, "", "0.25"),
            ("client agent, default", client, "", "0.25"),
            ("client agent, stale", client, "?stale", ""),
        ):
            rate, p50, p99 = median_of(
                lambda node=node, query=query: wrk(node, "/v1/kv/bench/key" + query, 64)
            )
            base = base or rate
            say(
                f"| {name} | {goal} | {rate / base:.2f} | {rate:,.0f} | {p50:.2f} "
                f"| {p99:.2f} |"
            )


def bench_failover() -> None:
    """Seconds from kill -9 of the leader until a follower takes a write."""
    times: list[float] = []
    with cluster(3) as run:
        for _ in range(KILLS):
            leader = run.leader()
            other = next(s for s in run.servers if s is not leader)
            begun = time.monotonic()
            leader.kill()
            while True:
                with contextlib.suppress(OSError):
                    status, _, _ = other.request("PUT", "/v1/kv/f", b"x", timeout=10)
                    if status == 200:
                        break
                time.sleep(0.005)
            times.append(time.monotonic() - begun)
            leader.start()
            run.settle()
            time.sleep(1)
    say(
        f"failover over {KILLS} kills: p50 {statistics.median(times):.2f} s, "
        f"max {max(times):.2f} s (goal 2.0, 4)"
    )


def bench_services() -> None:
    """Seconds to register 1,000 services through a client agent, 4 at a time."""
    times: list[float] = []
    for _ in range(ROUNDS):
        with cluster(3, 1) as run:
            client, server = run.clients[0], run.servers[0]
            client.eventually("/v1/catalog/nodes", bool)
            begun = time.monotonic()

            def register(start: int, client: Node = client) -> None:
                connection = client.connection()
                for i in range(start, 1000, 4):
                    body = f'{{"Name": "svc{i}", "Port": {8000 + i}}}'
                    connection.request("PUT", "/v1/agent/service/register", body)
                    answer = connection.getresponse()
                    assert answer.read() == b""
                    assert answer.status == 200
                connection.close()

            threads = [threading.Thread(target=register, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            server.eventually(
                "/v1/catalog/services?stale", lambda found: len(found) >= 1001
            )
            times.append(time.monotonic() - begun)
    say(
        f"1,000 services through a client agent: {statistics.median(times):.2f} s "
        f"(goal 1.8; {' '.join(f'{t:.2f}' for t in times)})"
    )


def bench_idle() -> None:
    """What an idle client agent costs."""
    with cluster(3, 1) as run:
        time.sleep(10)
        process = run.clients[0].process
        assert process is not None
        before = cpu_s(process.pid)
        time.sleep(30)
        used = (cpu_s(process.pid) - before) / 30
        say(
            f"idle client agent: {rss_mb(process.pid):.0f} MB, CPU {used:.2%} "
            "(goal 60 MB, 0.5 %)"
        )
        process = run.servers[0].process
        assert process is not None
        say(f"idle server of three: {rss_mb(process.pid):.0f} MB")


PARTS = {
    "puts": bench_puts,
    "reads": bench_reads,
    "failover": bench_failover,
    "services": bench_services,
    "idle": bench_idle,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or list(PARTS):
        PARTS[part]()
