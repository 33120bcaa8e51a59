"""What 500 views cost: pyconsul-template with 500 keys, from start to idle.

    python tests/bench/views.py [VIEWS]

Shown are the seconds until the file is there, wall and CPU, what the process
takes of a CPU over the next seconds while nothing changes, and the time of one
change: of a view beyond the connections an agent takes, a sentinel tells.
Nothing here asserts a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import BIN, LOAD_CORE, agent, cpu_s, pinned, rss_mb

VIEWS = 500
MANY_CONNECTIONS = '{"limits": {"http_max_conns_per_client": 4000}}'
SETTLE_S = 3.0
IDLE_S = 10.0


def until(right: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 60
    while not right():
        if time.monotonic() > deadline:
            raise RuntimeError("it did not come")
        time.sleep(0.001)


def measure(views: int, *flags: str) -> None:
    """Print one line a figure, against an agent with the flags."""
    with agent(*flags) as server, tempfile.TemporaryDirectory() as folder:
        for number in range(views):
            server.http("PUT", f"/v1/kv/view/{number}", b"x")
        out, source = Path(folder, "out"), Path(folder, "many.j2")
        text = "".join(f"{{{{ key('view/{number}') }}}}\n" for number in range(views))
        source.write_text(text)
        command = [str(BIN / "pyconsul-template"), f"-template={source}:{out}"]
        environ = os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{server.http_port}"}
        begun = time.perf_counter()
        process = subprocess.Popen(pinned(LOAD_CORE, command), env=environ)
        try:
            until(out.exists)
            print(f"  the file after {time.perf_counter() - begun:.2f} s,", end=" ")
            print(f"{cpu_s(process.pid):.2f} s of CPU")
            time.sleep(SETTLE_S)
            before = cpu_s(process.pid)
            time.sleep(IDLE_S)
            idle = (cpu_s(process.pid) - before) / IDLE_S * 100
            print(f"  idle: {idle:.2f} % of a CPU, {rss_mb(process.pid):.0f} MB")
            begun = time.perf_counter()
            server.http("PUT", f"/v1/kv/view/{views - 1}", b"y")
            until(lambda: out.read_text().endswith("y\n"))
            print(f"  a change: {(time.perf_counter() - begun) * 1000:.1f} ms")
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    """Measure with a connection a view, then under an agent's limit of 200."""
    views = int(sys.argv[1]) if len(sys.argv) > 1 else VIEWS
    print(f"{views} views, each its connection")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(MANY_CONNECTIONS)
        file.flush()
        measure(views, f"-config-file={file.name}")
    print(f"{views} views, 200 connections")
    measure(views)


if __name__ == "__main__":
    main()
