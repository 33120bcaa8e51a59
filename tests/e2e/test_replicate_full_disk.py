"""pyconsul-replicate into a server whose disk is really full, and out of one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Node
from full_disk import TinyDisk, TinyDisks
from replicate_world import REPLICATE, until
from running_agent import free_port

pytestmark = [
    pytest.mark.skipif(not TinyDisk.possible(), reason="may not mount file systems"),
    pytest.mark.timeout(400),
]
MIB = 1 << 20
SMALL = 200
LARGE = 120
"""Keys of 100 kB each: more than the log has made room for ahead of need."""


def value_of(number: int, size: int = 100_000) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(size)


def rows(node: Node, prefix: str) -> dict[str, dict[str, Any]]:
    status, found, _ = node.request("GET", f"/v1/kv/{prefix}?recurse", timeout=30)
    return {row["Key"]: row for row in found} if status == 200 else {}


def content(found: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {
        key.partition("/")[2]: (row["Value"], row["Flags"])
        for key, row in found.items()
    }


def put(node: Node, key: str, value: bytes) -> None:
    status, answer, _ = node.request("PUT", f"/v1/kv/{key}", value)
    assert (status, answer) == (200, True), (key, answer)


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[tuple[Node, Node, TinyDisk, TinyDisk]]:
    """A source and a destination of one server, each with a small disk."""
    built: list[tuple[Cluster, TinyDisk]] = []
    try:
        for name in ("dc1", "dc2"):
            folder = tmp_path / name
            folder.mkdir()
            disks = TinyDisks(folder, {1: 100 * MIB})
            cluster = Cluster(folder, 1, network=disks, settings={"datacenter": name})
            node = cluster.servers[0]
            node.flags = [*node.flags, f"-data-dir={folder / 'disk1'}"]
            built.append((cluster, disks.disks[1]))
            cluster.start()
        (source, full), (destination, filled) = built
        yield source.servers[0], destination.servers[0], full, filled
    except BaseException:
        for cluster, _ in built:
            print(cluster.servers[0].tail())
        raise
    finally:
        for cluster, _ in built:
            cluster.close()


class Daemon:
    """The replicator, with a status page."""

    def __init__(self, source: Node, destination: Node, log: Path, *flags: str) -> None:
        self._port = free_port()
        self.command = [
            *REPLICATE, f"-source-addr=unix://{source.socket}",
            f"-dest-addr=unix://{destination.socket}", "-prefix=app/:copy/",
            "-consul-retry-backoff=50ms", "-consul-retry-max-backoff=300ms", *flags,
        ]  # fmt: skip
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*self.command, f"-status-addr=127.0.0.1:{self._port}"], stderr=output
            )

    def status(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._port}/status"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                (row,) = json.load(answer)
                return row
        except OSError:
            return {"errors": 0, "written": 0, "last_error": ""}

    def stop(self) -> None:
        self.process.terminate()
        try:
            assert self.process.wait(20) == 12
        finally:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize("folder", ["service/consul-replicate/statuses", "mine/of/it"])
def test_a_full_destination_loses_and_repeats_nothing(
    clusters: tuple[Node, Node, TinyDisk, TinyDisk], tmp_path: Path, folder: str
) -> None:
    source, destination, _, disk = clusters
    for number in range(SMALL):
        put(source, f"app/small/{number:04d}", b"v%d" % number)
    daemon = Daemon(source, destination, tmp_path / "log", f"-status-dir={folder}")
    try:
        until(lambda: len(rows(destination, "copy/")) == SMALL)
        until(lambda: rows(destination, folder))
        before = rows(destination, "copy/")
        disk.fill()
        for number in range(LARGE):
            put(source, f"app/large/{number:04d}", value_of(number))
        # Every try meets the same wall, and says which.
        until(lambda: daemon.status()["errors"] >= 2)
        assert "No space left on device" in daemon.status()["last_error"]
        halfway = rows(destination, "copy/")
        assert len(halfway) < SMALL + LARGE
        mark = json.loads(raw(destination, next(iter(rows(destination, folder)))))
        assert mark["LastReplicated"] < int(
            source.request("GET", f"/v1/kv/app/large/{LARGE - 1:04d}")[2][
                "x-consul-index"
            ]
        )
        put(source, "app/small/0000", b"changed meanwhile")
        assert source.request("DELETE", "/v1/kv/app/small/0001")[0] == 200
        disk.free()
        wanted = content(rows(source, "app/"))
        assert len(wanted) == SMALL + LARGE - 1
        until(lambda: content(rows(destination, "copy/")) == wanted)
        after = rows(destination, "copy/")
        for known in (before, halfway):
            for key, row in known.items():
                if key not in ("copy/small/0000", "copy/small/0001"):
                    assert after[key] == row, f"{key} was written again"
    finally:
        daemon.stop()
    # A run of its own finds nothing to do, and leaves even its mark alone.
    marks = rows(destination, folder)
    done = subprocess.run(
        [*daemon.command, "-once"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rows(destination, "copy/") == after
    assert rows(destination, folder) == marks


def test_a_full_destination_ends_once_and_the_next_run_goes_on(
    clusters: tuple[Node, Node, TinyDisk, TinyDisk],
) -> None:
    source, destination, _, disk = clusters
    for number in range(LARGE):
        put(source, f"app/large/{number:04d}", value_of(number))
    disk.fill()
    command = [
        *REPLICATE, f"-source-addr=unix://{source.socket}",
        f"-dest-addr=unix://{destination.socket}", "-prefix=app/:copy/", "-once",
        "-consul-retry-attempts=2", "-consul-retry-backoff=20ms",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 14
    assert "the log cannot be written" in done.stderr
    assert not rows(destination, "service/consul-replicate/")
    disk.free()
    until(lambda: destination.request("PUT", "/v1/kv/ready", b"1")[0] == 200)
    # What a broken off run had under way may still have come through.
    first = rows(destination, "copy/")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = rows(destination, "copy/")
    assert content(after) == content(rows(source, "app/"))
    assert {key: after[key] for key in first} == first


def test_a_full_source_takes_nothing_away(
    clusters: tuple[Node, Node, TinyDisk, TinyDisk], tmp_path: Path
) -> None:
    source, destination, disk, _ = clusters
    for number in range(SMALL):
        put(source, f"app/small/{number:04d}", b"v%d" % number)
    daemon = Daemon(source, destination, tmp_path / "log")
    try:
        until(lambda: len(rows(destination, "copy/")) == SMALL)
        before = rows(destination, "copy/")
        disk.fill()
        number = 0
        while True:
            path = f"/v1/kv/app/large/{number:04d}"
            if source.request("PUT", path, value_of(number))[0] != 200:
                break
            number += 1
            assert number < 1000
        # What was accepted arrives while the source is full.
        until(lambda: f"copy/large/{number - 1:04d}" in rows(destination, "copy/"))
        assert before.items() <= rows(destination, "copy/").items()
        disk.free()
        until(lambda: source.request("PUT", "/v1/kv/app/last", b"1")[0] == 200)
        until(lambda: "copy/last" in rows(destination, "copy/"))
        wanted = content(rows(source, "app/"))
        until(lambda: content(rows(destination, "copy/")) == wanted)
        assert before.items() <= rows(destination, "copy/").items()
        assert daemon.status()["deleted"] == 0
    finally:
        daemon.stop()


def raw(node: Node, key: str) -> bytes:
    connection = node.connection()
    try:
        connection.request("GET", f"/v1/kv/{key}?raw")
        return connection.getresponse().read()
    finally:
        connection.close()
