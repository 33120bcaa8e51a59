"""Measure the agent beside a floor, on the same cores in the same run.

    make bench                      everything
    make bench ARGS="http dns"      some parts

Each row of a ratio is measured in turns with the floor (``floor.py``); shown
is the median. Wants wrk and dnsperf (Debian packages of these names). Nothing
here asserts a time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import (
    BIN,
    Agent,
    Http,
    agent,
    dnsperf,
    floor,
    quantile,
    wait_for,
    wrk,
)

ROUNDS = 3
MANY_CONNECTIONS = '{"limits": {"http_max_conns_per_client": 12000}}'
RANDOM_GET = """
request = function()
  return wrk.format("GET", "/v1/kv/many/" .. math.random(0, 9999))
end
"""
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


def row(name: str, goal: str, base: float, rates: list[float]) -> None:
    """Print a ratio to the floor."""
    rate = statistics.median(rates)
    say(f"| {name} | {goal} | {rate / base:.3f} | {rate:,.0f}/s |")


def seed_catalog(run: Agent) -> None:
    """100 instances of ``web100``, 3 of ``web3``, 1,000 services, 1,000 keys."""
    for i in range(100):
        register(run, f"n{i:03d}", f"10.3.{i}.1", "web100", i)
    for i in range(3):
        register(run, f"m{i}", f"10.4.{i}.1", "web3", i)
    for i in range(1000):
        register(run, f"n{i % 100:03d}", f"10.3.{i % 100}.1", f"svc{i:04d}", i)
    for start in range(0, 1000, 50):
        put_keys(run.http, [f"list/{i:06d}" for i in range(start, start + 50)])


def register(
    run: Agent, node: str, address: str, service: str, i: int, status: str = "passing"
) -> None:
    """Register an instance with one check of its own."""
    run.http(
        "PUT",
        "/v1/catalog/register",
        {
            "Node": node,
            "Address": address,
            "Service": {
                "ID": f"{service}-{i}",
                "Service": service,
                "Tags": ["v1", "primary"],
                "Port": 8000 + i,
                "Meta": {"version": "1.2.3"},
            },
            "Check": {
                "CheckID": f"{service}-{i}:http",
                "Name": "http",
                "Status": status,
                "ServiceID": f"{service}-{i}",
                "Output": "HTTP GET http://10.0.0.1/health: 200 OK",
            },
        },
    )


def put_keys(http: Http, keys: list[str]) -> None:
    """Write keys of 32 B in transactions of at most 64."""
    value = "dmFsdWUtdmFsdWUtdmFsdWUtdmFsdWUtdmFsdWUt"
    for start in range(0, len(keys), 64):
        ops = [
            {"KV": {"Verb": "set", "Key": key, "Value": value}}
            for key in keys[start : start + 64]
        ]
        http("PUT", "/v1/txn", ops)


def bench_http() -> None:
    """Requests a second of the hot paths, as shares of the floor."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        floor_port = stack.enter_context(floor())
        settings = stack.enter_context(many_connections())
        with agent(f"-config-file={settings}", data_dir=folder) as run:
            seed_catalog(run)
            run.http("PUT", "/v1/kv/bench/key", "v" * 32)
            put_keys(run.http, [f"many/{i}" for i in range(10000)])
            url = f"http://127.0.0.1:{run.http_port}"
            floor_url = f"http://127.0.0.1:{floor_port}/v1/kv/bench/key"
            base: list[float] = []

            def measure(name: str, goal: str, path: str, **load: object) -> None:
                rates: list[float] = []
                floors: list[float] = []
                for _ in range(ROUNDS):
                    floors.append(wrk(floor_url))
                    rates.append(wrk(url + path, **load))  # type: ignore[arg-type]
                base.extend(floors)
                row(name, goal, statistics.median(floors), rates)

            say("| what | goal | share of the floor | rate |\n|---|---|---|---|")
            measure("KV GET, hot", ">= 1.0", "/v1/kv/bench/key")
            measure("KV GET, random of 10,000", ">= 0.45", "/", script=RANDOM_GET)
            measure("health, 100 instances", ">= 0.10", "/v1/health/service/web100")
            with changing(run, 100):
                measure(
                    "health, one changing 100/s",
                    ">= 0.06",
                    "/v1/health/service/web100",
                )
            measure("catalog/services, 1,000", ">= 0.25", "/v1/catalog/services")
            measure("list of 1,000 keys", ">= 0.08", "/v1/kv/list/?recurse")
            measure("durable PUT, 64", ">= 0.15", "/", script=PUT)
            measure("durable PUT, 256", ">= 0.20", "/", script=PUT, connections=256)
            say(f"floor: {statistics.median(base):,.0f}/s")


@contextlib.contextmanager
def changing(run: Agent, times_a_second: int) -> Iterator[None]:
    """Change one instance's check at a rate while the body runs."""
    stop = threading.Event()
    other = Agent(run.process, run.http_port, run.dns_port)

    def work() -> None:
        at = 0
        while not stop.wait(1 / times_a_second):
            at += 1
            status = "warning" if at % 2 else "passing"
            register(other, "n000", "10.3.0.1", "web100", 0, status)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def bench_dns() -> None:
    """Queries a second of a 3-instance service."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        floor_port = stack.enter_context(floor())
        with agent(data_dir=folder) as run:
            for i in range(3):
                register(run, f"m{i}", f"10.4.{i}.1", "web3", i)
            say("| what | goal | share of the floor | rate |\n|---|---|---|---|")
            for rtype in ("A", "SRV"):
                floors: list[float] = []
                rates: list[float] = []
                for _ in range(ROUNDS):
                    floors.append(wrk(f"http://127.0.0.1:{floor_port}/v1/kv/a"))
                    rates.append(dnsperf(run.dns_port, "web3.service.consul", rtype))
                row(f"DNS {rtype}", ">= 0.8", statistics.median(floors), rates)


def bench_blocking() -> None:
    """10,000 waiters on one key and on 10,000 keys: wake-up and memory."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 200)
    with many_connections() as settings:
        for same in (True, False):
            with agent(f"-config-file={settings}", pin=False) as run:
                _waves(run, count, same=same)


@contextlib.contextmanager
def many_connections() -> Iterator[str]:
    """A configuration file that lets one client open thousands."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as settings:
        settings.write(MANY_CONNECTIONS)
        settings.flush()
        yield settings.name


def _waves(run: Agent, count: int, *, same: bool) -> None:
    put = run.http
    keys = ["one"] if same else [f"k{i}" for i in range(count)]
    put_keys(put, keys)
    selector = selectors.DefaultSelector()
    waiting: list[socket.socket] = []
    before = run.rss_mb()
    for i in range(count):
        key = keys[0 if same else i]
        sock = socket.create_connection(("127.0.0.1", run.http_port))
        waiting.append(sock)
        selector.register(sock, selectors.EVENT_READ, i)
        _park(sock, key, _index_of(put, key))
    time.sleep(1)
    each_kb = (run.rss_mb() - before) * 1024 / count
    delays: list[float] = []
    waves = 5 if same else 200
    for wave in range(waves):
        key = keys[0 if same else wave * 37 % count]
        expected = count if same else 1
        started = time.perf_counter()
        put("PUT", f"/v1/kv/{key}", f"v{wave}")
        while expected:
            for event, _ in selector.select(10):
                sock = event.fileobj
                assert isinstance(sock, socket.socket)
                sock.recv(65536)
                delays.append((time.perf_counter() - started) * 1000)
                expected -= 1
        now = _index_of(put, key)
        if same:
            for sock in waiting:
                _park(sock, key, now)
            time.sleep(0.5)
    kind = "one key" if same else f"{count:,} keys"
    say(
        f"blocking, {count:,} waiters on {kind}: p50 {quantile(delays, 0.5):.1f} ms,"
        f" p99 {quantile(delays, 0.99):.1f} ms, {each_kb:.1f} kB a waiter"
    )
    for sock in waiting:
        sock.close()


def _park(sock: socket.socket, key: str, index: int) -> None:
    line = f"GET /v1/kv/{key}?index={index}&wait=300s HTTP/1.1\r\nHost: x\r\n\r\n"
    sock.sendall(line.encode())


def _index_of(http: Http, key: str) -> int:
    import json

    return json.loads(http("GET", f"/v1/kv/{key}"))[0]["ModifyIndex"]


def bench_idle() -> None:
    """Start, memory and CPU of an idle dev agent; one command's wall time."""
    starts: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        with agent(pin=False, settle=False) as run:
            wait_for(run.http_port)
            starts.append(time.perf_counter() - started)
    say(f"start to first answer: {statistics.median(starts):.2f} s (goal 0.6)")
    with agent(pin=False) as run:
        time.sleep(3)
        before = run.cpu_s()
        time.sleep(10)
        share = (run.cpu_s() - before) / 10 * 100
        say(f"idle dev agent: RSS {run.rss_mb():.0f} MB (60), CPU {share:.2f} % (0.5)")
        run.http("PUT", "/v1/kv/a", "b")
        command = [str(BIN / "pyconsul"), "kv", "get", "a"]
        environment = {
            **os.environ,
            "CONSUL_HTTP_ADDR": f"127.0.0.1:{run.http_port}",
        }
        took: list[float] = []
        for _ in range(21):
            started = time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            took.append(time.perf_counter() - started)
        say(f"pyconsul kv get: {statistics.median(took) * 1000:.0f} ms (60)")


def bench_keys() -> None:
    """100,000 keys: memory, stall while a snapshot is read, restart."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))
        # So often that snapshots are taken while the polls below run.
        settings.write(
            '{"raft_snapshot_threshold": 200, "raft_snapshot_interval": "1s"}'
        )
        settings.flush()
        with agent(f"-config-file={settings.name}", data_dir=folder, pin=False) as run:
            put_keys(run.http, [f"app/{i % 100:02d}/{i:06d}" for i in range(100_000)])
            say(f"100,000 keys: RSS {run.rss_mb():.0f} MB")
            stalls: list[float] = []
            stop = threading.Event()

            def poll() -> None:
                http = Http(run.http_port)
                while not stop.is_set():
                    started = time.perf_counter()
                    http("GET", "/v1/status/leader")
                    stalls.append((time.perf_counter() - started) * 1000)

            before = _snapshots(folder)
            thread = threading.Thread(target=poll)
            thread.start()
            for _ in range(20):
                put_keys(run.http, [f"app/00/{i:06d}" for i in range(64 * 50)])
            time.sleep(8)
            stop.set()
            thread.join()
            if _snapshots(folder) == before:
                raise RuntimeError("no snapshot was taken while stalls were timed")
            say(f"longest stall seen by a client, snapshots: {max(stalls):.0f} ms")
        started = time.perf_counter()
        with agent(data_dir=folder, pin=False) as run:
            say(f"restart to first answer: {time.perf_counter() - started:.2f} s")
            say(f"RSS after restart: {run.rss_mb():.0f} MB")


def _snapshots(folder: str) -> list[str]:
    """Names of the snapshots on disk."""
    return sorted(path.name for path in Path(folder).rglob("snapshots/*"))


def bench_template() -> None:
    """The template tool; its figures are in a module of their own."""
    import template

    template.bench(template.ROUNDS)


PARTS: dict[str, Callable[[], None]] = {
    "http": bench_http,
    "dns": bench_dns,
    "blocking": bench_blocking,
    "idle": bench_idle,
    "keys": bench_keys,
    "template": bench_template,
}


def main() -> int:
    """Run the parts named on the command line, or all."""
    names = sys.argv[1:] or list(PARTS)
    for name in names:
        if name not in PARTS:
            say(f"unknown part {name!r}; there are: {', '.join(PARTS)}")
            return 1
    for name in names:
        wanted = {"http": ["wrk"], "dns": ["wrk", "dnsperf"]}.get(name, [])
        missing = [tool for tool in wanted if not shutil.which(tool)]
        if missing:
            say(f"{name}: left out, {' and '.join(missing)} not installed")
            continue
        say(f"\n## {name}")
        PARTS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
