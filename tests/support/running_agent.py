"""One real agent on free ports, as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_S = 60.0


def _candidates() -> Iterator[int]:
    """Yield ports, other ones in each worker, round and round.

    They are below those the kernel gives to clients: a port of these could be
    some client's before the server that it was picked for is up.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    share = 2500
    first = 10_000 + int(worker) % 8 * share
    # Two runs at a time on one machine should not begin at the same one.
    start = random.SystemRandom().randrange(share)
    return (first + (start + at) % share for at in itertools.count())


_ports = _candidates()


def free_port() -> int:
    """Return a port nobody uses at this moment, neither for TCP nor for UDP."""
    for port in itertools.islice(_ports, 2500):
        with (
            contextlib.suppress(OSError),
            socket.socket() as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        ):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class RunningAgent:
    """A ``pyconsul agent`` process; ``ports`` has http, dns, serf_lan, ..."""

    def __init__(self, folder: Path, *flags: str, node: str = "n1") -> None:
        names = ("http", "dns", "serf_lan", "serf_wan", "server", "grpc")
        self.ports = {name: free_port() for name in names}
        self.node = node
        self.log = folder / f"{node}.log"
        ports = [
            f"-{name.replace('_', '-')}-port={port}"
            for name, port in self.ports.items()
        ]
        self._argv = [
            sys.executable,
            "-m",
            "pyconsul.cli.main",
            "agent",
            "-bind=127.0.0.1",
            f"-node={node}",
            *ports,
            *flags,
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start (again) and wait until somebody leads."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self._argv, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                status, leader = self.request("GET", "/v1/status/leader")
            except OSError:
                time.sleep(0.02)
                continue
            if status == 200 and leader:
                return
            time.sleep(0.02)
        raise AssertionError(f"the agent did not start: {self.output()}")

    def request(
        self, method: str, path: str, body: Any = None, timeout: float = 20.0
    ) -> tuple[int, Any]:
        """Return status and the answer: JSON decoded, else text."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.ports["http"], timeout=timeout
        )
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body)
            connection.request(method, path, data)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if "json" in (answer.getheader("Content-Type") or ""):
            return answer.status, json.loads(text)
        return answer.status, text

    def get(self, path: str) -> Any:
        """Return the answer of a GET that must succeed."""
        status, answer = self.request("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def put(self, path: str, body: Any = None) -> Any:
        """Return the answer of a PUT that must succeed."""
        status, answer = self.request("PUT", path, body)
        assert status == 200, (path, status, answer)
        return answer

    def eventually(
        self, path: str, right: Callable[[Any], bool], seconds: float = 30.0
    ) -> Any:
        """Repeat a GET until its answer is right; return that answer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.get(path)
            if right(answer):
                return answer
            assert time.monotonic() < deadline, (path, answer)
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def output(self) -> str:
        """Return what the process wrote so far."""
        return self.log.read_text()
