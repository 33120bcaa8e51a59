"""A server killed at any moment under load loses no acknowledged write."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROUNDS = int(os.environ.get("PYCONSUL_KILLS", "50"))
WRITERS = 4
KEYS_A_WRITER = 25


class Writer(threading.Thread):
    """Writes counters to its own keys until the server is gone.

    ``acknowledged`` has the last value the server said ``true`` to, by key;
    ``attempted`` the last one sent, which may or may not have been kept.
    """

    def __init__(self, number: int, port: int, start: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._number = number
        self._next = start
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            while True:
                key = f"kill/{self._number}/{self._next % KEYS_A_WRITER}"
                value = self._next
                self._next += 1
                self.attempted[key] = value
                connection.request("PUT", f"/v1/kv/{key}", str(value))
                reply = connection.getresponse()
                if reply.read().strip() == b"true" and reply.status == 200:
                    self.acknowledged[key] = value
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


@pytest.mark.timeout(600)
def test_kill_9_under_load_loses_no_acknowledged_write(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    draw = random.Random(seed)
    folder = tmp_path / "data"
    # A low threshold, so that snapshots and truncation are hit by kills too.
    settings = tmp_path / "settings.json"
    settings.write_text(
        '{"raft_snapshot_threshold": 500, "raft_snapshot_interval": "1s",'
        ' "raft_trailing_logs": 100, "performance": {"raft_multiplier": 1}}'
    )
    agent = agents(
        "-server", "-bootstrap-expect=1", f"-data-dir={folder}",
        f"-config-file={settings}", "-log-level=warn",
    )  # fmt: skip
    held: dict[str, int] = {}
    counter = 0
    for round_ in range(ROUNDS):
        where = f"seed {seed}, round {round_}"
        writers = [Writer(n, agent.ports["http"], counter) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(draw.uniform(0.02, 0.25))
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
        for writer in writers:
            writer.join(60)
        agent.start()
        status, entries = agent.request("GET", "/v1/kv/kill/?recurse")
        found = {} if status == 404 else {e["Key"]: _value(e) for e in entries}
        for writer in writers:
            held.update(writer.acknowledged)
            for key, value in writer.attempted.items():
                acknowledged = held.get(key, -1)
                # At least what was acknowledged, at most what was sent.
                assert acknowledged <= found.get(key, -1) <= value, (where, key)
                if key in found:
                    held[key] = found[key]
        for key, value in held.items():
            assert found.get(key) == value, (where, key)
        counter += max((len(w.attempted) for w in writers), default=0) + 10_000
    assert held, "no write was acknowledged at all"


def _value(entry: dict[str, Any]) -> int:
    import base64

    return int(base64.b64decode(entry["Value"]))


@pytest.mark.timeout(300)
def test_the_data_directory_stays_bounded(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    """Overwriting few keys many times does not grow the directory.

    The full million of writes runs with ``PYCONSUL_WRITES=1000000``.
    """
    writes = int(os.environ.get("PYCONSUL_WRITES", "60000"))
    folder = tmp_path / "data"
    settings = tmp_path / "settings.json"
    settings.write_text('{"raft_snapshot_interval": "1s"}')
    agent = agents(
        "-server", "-bootstrap-expect=1", f"-data-dir={folder}",
        f"-config-file={settings}", "-log-level=warn",
    )  # fmt: skip
    share = writes // 4
    biggest = 0
    threads = [
        threading.Thread(target=_pipeline, args=(agent.ports["http"], n, share))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        biggest = max(biggest, _size(folder))
    for thread in threads:
        thread.join()
    assert biggest < 200 << 20
    status, keys = agent.request("GET", "/v1/kv/bounded/?keys")
    assert status == 200
    assert len(keys) == 1000


def _pipeline(port: int, number: int, count: int) -> None:
    """Send ``count`` writes, many at a time on one connection."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as sock:
        reader = sock.makefile("rb")
        for start in range(0, count, 64):
            batch = range(start, min(count, start + 64))
            lines = [
                f"PUT /v1/kv/bounded/{(number * 250) + i % 250} HTTP/1.1\r\n"
                f"Host: x\r\nContent-Length: 64\r\n\r\n{i:064d}"
                for i in batch
            ]
            sock.sendall("".join(lines).encode())
            for _ in batch:
                length = 0
                assert b" 200 " in reader.readline()
                while (line := reader.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                reader.read(length)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # a segment was dropped while we looked
    return total
