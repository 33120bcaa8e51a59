"""Replication between two servers: cold copy, one change, CPU of a change.

    python tests/bench/replicate.py [keys]

Goals at 10,000 keys: cold ``-once`` 0.5 s, one change visible in the other
cluster 12 ms (p50), CPU of the replicator for it 2 ms.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import subprocess
import sys
import time
from collections.abc import Iterator

from harness import BIN, Agent, agent, cpu_s, quantile, rss_mb

CHANGES = 200
COLD_RUNS = 3


def fill(server: Agent, count: int) -> None:
    """Write the keys in transactions."""
    value = base64.b64encode(b"v" * 20).decode()
    for start in range(0, count, 64):
        names = [f"app/k{n:05d}" for n in range(start, min(start + 64, count))]
        server.http(
            "PUT",
            "/v1/txn",
            [{"KV": {"Verb": "set", "Key": name, "Value": value}} for name in names],
        )


def command(source: Agent, destination: Agent, *extra: str) -> list[str]:
    """Return the replicator's command line."""
    return [
        str(BIN / "pyconsul-replicate"), "-prefix=app/@dc1:copy/",
        f"-source-addr=127.0.0.1:{source.http_port}",
        f"-dest-addr=127.0.0.1:{destination.http_port}", *extra,
    ]  # fmt: skip


@contextlib.contextmanager
def daemon(source: Agent, destination: Agent) -> Iterator[int]:
    """Run the replicator; yields its process id once it follows."""
    process = subprocess.Popen(command(source, destination, "-log-level=info"))
    try:
        time.sleep(2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


class Seen:
    """Waits at the destination until a key has a new value."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def index(self, key: str) -> int:
        """Return the key's index."""
        self._connection.request("GET", f"/v1/kv/{key}")
        reply = self._connection.getresponse()
        reply.read()
        return int(reply.headers["X-Consul-Index"])

    def ask(self, key: str, index: int) -> None:
        """Send the blocking query."""
        self._connection.request("GET", f"/v1/kv/{key}?index={index}&wait=30s")

    def wait(self) -> None:
        """Return once it is answered."""
        self._connection.getresponse().read()


def main() -> None:
    """Print the three figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with agent(pin=False) as source, agent("-datacenter=dc2", pin=False) as target:
        fill(source, count)
        source.http("GET", "/v1/kv/app/?recurse")
        times: list[float] = []
        for _ in range(COLD_RUNS):
            target.http("DELETE", "/v1/kv/?recurse")
            started = time.perf_counter()
            subprocess.run(command(source, target, "-once"), check=True)
            times.append(time.perf_counter() - started)
        print(f"cold -once, {count} keys: {min(times):.3f} s (best of {COLD_RUNS})")
        started = time.perf_counter()
        subprocess.run(command(source, target, "-once"), check=True)
        print(f"again, nothing to do: {time.perf_counter() - started:.3f} s")
        with daemon(source, target) as pid:
            seen, delays = Seen(target.http_port), list[float]()
            before = cpu_s(pid)
            for number in range(CHANGES):
                name = f"k{random.randrange(count):05d}"
                index = seen.index(f"copy/{name}")
                seen.ask(f"copy/{name}", index)
                time.sleep(0.02)
                started = time.perf_counter()
                source.http("PUT", f"/v1/kv/app/{name}", f"n{number}")
                seen.wait()
                delays.append((time.perf_counter() - started) * 1000)
            used = (cpu_s(pid) - before) / CHANGES * 1000
            print(
                f"one change visible: p50 {quantile(delays, 0.5):.1f} ms, "
                f"p99 {quantile(delays, 0.99):.1f} ms"
            )
            print(f"CPU of one change: {used:.2f} ms; memory {rss_mb(pid):.0f} MB")
            before = cpu_s(pid)
            time.sleep(3)
            print(f"idle: {(cpu_s(pid) - before) / 3 * 100:.1f} % CPU")


if __name__ == "__main__":
    main()
