"""Two datacenters of one agent each, and pyconsul-replicate run between them.

What the agents are asked is seen by a face in front of each (``wan_front.py``).
The fixtures are those of ``tests/e2e/conftest.py``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent, free_port
from wan_front import WanFront

REPLICATE = [sys.executable, "-m", "pyconsul_replicate.cli"]
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("CONSUL_")}


def until(ready: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait for a condition; return what fulfilled it."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class Place:
    """A datacenter of one agent."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.agent = RunningAgent(folder, "-dev", f"-datacenter={name}", node=name)

    def connect(self, timeout: float) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.agent.ports["http"], timeout=timeout)

    def put(self, key: str, value: str = "v") -> None:
        answer = self.agent.request("PUT", f"/v1/kv/{key}", value.encode())
        assert answer == (200, True), (key, answer)

    def delete(self, key: str) -> None:
        assert self.agent.request("DELETE", f"/v1/kv/{key}")[0] == 200

    def fill(self, prefix: str, count: int) -> None:
        for at in range(0, count, 64):
            ops = [
                {"KV": {"Verb": "set", "Key": f"{prefix}{n:04d}", "Value": "dg=="}}
                for n in range(at, min(at + 64, count))
            ]
            assert self.agent.request("PUT", "/v1/txn", ops)[0] == 200

    def rows(self, prefix: str) -> list[dict[str, Any]]:
        status, rows = self.agent.request("GET", f"/v1/kv/{prefix}?recurse")
        return rows if status == 200 else []

    def pairs(self, prefix: str) -> dict[str, str]:
        return {
            row["Key"].removeprefix(prefix): base64.b64decode(row["Value"]).decode()
            for row in self.rows(prefix)
        }


class World:
    """dc1 to read from, dc2 to write to, and their faces while one test runs."""

    def __init__(self, one: Place, two: Place) -> None:
        self.one = one
        self.two = two
        self.ways = {"dc1": one.connect, "dc2": two.connect}
        self.source: WanFront
        self.into: WanFront

    @property
    def both(self) -> tuple[str, str]:
        """The flags that name both agents."""
        return (
            f"-source-addr={self.source.address}",
            f"-consul-addr={self.into.address}",
        )

    @contextlib.contextmanager
    def faced(self) -> Generator[World]:
        """Put the faces in front while entered."""
        with WanFront("dc1", self.ways) as source, WanFront("dc2", self.ways) as into:
            self.source, self.into = source, into
            yield self


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    """Run dc1 and dc2 for the tests of a file."""
    folder = tmp_path_factory.mktemp("places")
    with contextlib.ExitStack() as stack:
        found: list[Place] = []
        for name in ("dc1", "dc2"):
            found.append(Place(folder, name))
            stack.callback(found[-1].agent.stop)
        yield found[0], found[1]


@pytest.fixture
def world(places: tuple[Place, Place]) -> Iterator[World]:
    """Put faces in front of them for one test."""
    with World(*places).faced() as made:
        yield made


def started(
    *flags: str, environ: dict[str, str] | None = None, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """Start it."""
    env = {**ENVIRON, **(environ or {})}
    return subprocess.Popen([*REPLICATE, *flags], env=env, stderr=stderr)


class Instance:
    """A running replicator with a status page."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self.process = started(*flags, f"-status-addr=127.0.0.1:{self.port}")

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            return json.loads(page(self.port, "status"))[0]
        return {}

    @property
    def leads(self) -> bool:
        return self.status().get("leading", False)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def run(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*REPLICATE, *flags], env={**ENVIRON, **environ},
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def good(*flags: str, **environ: str) -> str:
    """Run it; it must succeed. Returns what it said."""
    done = run(*flags, **environ)
    assert done.returncode == 0, (flags, done.stderr)
    return done.stdout + done.stderr


@contextlib.contextmanager
def daemon(
    *flags: str, ends: int = signal.SIGTERM
) -> Generator[subprocess.Popen[bytes]]:
    process = started(*flags)
    try:
        yield process
        process.send_signal(ends)
        assert process.wait(30) == 12
    finally:
        process.kill()
        process.wait()


def file(folder: Path, text: str, name: str = "c.hcl") -> str:
    (folder / name).write_text(text)
    return f"-config={folder / name}"


def page(port: int, name: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=20) as found:
        return found.read().decode()
