"""What a thousand checks cost an agent: CPU of one process, by kind.

Run as ``python tests/bench/checks.py [--seconds 30] [--kind http]``. A local
stub answers as fast as it can; the agent runs as a user's does. Shown are the
agent's share of a core while the checks run (less what it uses without any),
and how the first probes are spread over the interval.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Iterator
from typing import Any

from harness import LOAD_CORE, Agent, agent

CHECKS = 1000
INTERVAL_S = 10
KINDS = ("http", "tcp", "ttl", "script")
SCRIPTS = 50
"""Checks of the script kind: processes cost the machine, not the agent."""


def stub(port: Any, hits: Any) -> None:
    """Answer HTTP requests and count them by second of the interval."""
    import asyncio
    import os

    import uvloop

    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {int(LOAD_CORE)})
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            hits[int(time.monotonic()) % INTERVAL_S] += 1

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer)
            self.transport.close()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    uvloop.run(serve())


@contextlib.contextmanager
def serving() -> Iterator[tuple[int, Any]]:
    """Run the stub in a process; yields its port and its counters."""
    port = multiprocessing.Value("i", 0)
    hits = multiprocessing.Array("i", INTERVAL_S)
    process = multiprocessing.Process(target=stub, args=(port, hits), daemon=True)
    process.start()
    try:
        while not port.value:
            time.sleep(0.01)
        yield port.value, hits
    finally:
        process.terminate()
        process.join()


def definition(kind: str, number: int, port: int) -> dict[str, Any]:
    """Return the body that registers one check."""
    body: dict[str, Any] = {"ID": f"c{number}", "Name": f"c{number}"}
    if kind == "ttl":
        return body | {"TTL": "10m"}
    fields: dict[str, dict[str, Any]] = {
        "http": {"HTTP": f"http://127.0.0.1:{port}/health"},
        "tcp": {"TCP": f"127.0.0.1:{port}"},
        "script": {"Args": ["true"]},
    }
    return body | fields[kind] | {"Interval": f"{INTERVAL_S}s", "Timeout": "5s"}


def measure(running: Agent, seconds: float) -> float:
    """Return the share of a core the agent uses, per cent."""
    before, start = running.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return 100 * (running.cpu_s() - before) / (time.monotonic() - start)


def run(kind: str, seconds: float) -> None:
    """Measure one kind and print a line."""
    count = SCRIPTS if kind == "script" else CHECKS
    with serving() as (port, hits), agent("-enable-script-checks") as running:
        time.sleep(3)
        idle = measure(running, 5)
        for number in range(count):
            running.http(
                "PUT", "/v1/agent/check/register", definition(kind, number, port)
            )
        for at in range(count if kind == "ttl" else 0):
            running.http("PUT", f"/v1/agent/check/pass/c{at}")
        # One interval for the first results, which all are news to the servers.
        time.sleep(INTERVAL_S + 2)
        hits[:] = [0] * INTERVAL_S
        busy = measure(running, seconds)
        spread = sorted(hits[:])
        line = f"{count} {kind} checks at {INTERVAL_S} s: {busy - idle:.1f} % of a core"
        line += f" (idle {idle:.1f} %), {running.rss_mb():.0f} MB"
        if kind in ("http", "tcp"):
            probes = sum(spread)
            line += f"; {probes / seconds:.0f} probes/s,"
            line += f" {spread[0]}..{spread[-1]} in one second of the interval"
        print(line, flush=True)


def main() -> int:
    """Measure the kinds asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kind", action="append", choices=KINDS)
    options = parser.parse_args()
    for kind in options.kind or KINDS:
        run(kind, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
