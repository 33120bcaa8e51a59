"""Servers whose disk is really full: clear errors, a whole log, and on they go."""

from __future__ import annotations

import hashlib
import http.client
import signal
import time
from pathlib import Path

import pytest
from cluster import Cluster, Node
from full_disk import TinyDisk, TinyDisks

pytestmark = [
    pytest.mark.skipif(not TinyDisk.possible(), reason="may not mount file systems"),
    pytest.mark.timeout(400),
]
MIB = 1 << 20
VALUE = 200_000
REASON = "the log cannot be written"


def tiny(cluster: Cluster, disks: TinyDisks) -> Cluster:
    """Have the servers keep their data on the small disks."""
    for number in disks.disks:
        node = cluster.servers[number - 1]
        folder = cluster.folder / f"disk{number}"
        node.flags = [*node.flags, f"-data-dir={folder}"]
    return cluster


class Writer:
    """Writes keys ``k0``, ``k1``, ... and knows which were acknowledged."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        """Key and hash of the value."""
        self._next = 0

    def write(self, node: Node) -> tuple[int, str]:
        key = f"k{self._next:04d}"
        value = hashlib.shake_128(key.encode()).digest(VALUE)
        status, answer, _ = node.request("PUT", f"/v1/kv/{key}", value)
        self._next += 1
        if status == 200:
            self.done[key] = hashlib.sha256(value).hexdigest()
        return status, str(answer)

    def until_refused(self, node: Node, most: int = 200) -> str:
        """Write until it fails; return the error."""
        for _ in range(most):
            status, answer = self.write(node)
            if status != 200:
                assert status == 500
                return answer
        raise AssertionError("the disk was never full")

    def until_accepted(self, node: Node, seconds: float = 100.0) -> None:
        """Write until it works again."""
        end = time.monotonic() + seconds
        while (answer := self.write(node))[0] != 200:
            assert time.monotonic() < end, (answer, node.tail())
            time.sleep(0.05)

    def check(self, node: Node, query: str = "") -> None:
        """Every acknowledged value is there."""
        for key, wanted in self.done.items():
            found = raw(node, f"/v1/kv/{key}?raw{query}")
            assert hashlib.sha256(found).hexdigest() == wanted, key


def served_or_ended(node: Node, seconds: float = 100.0) -> None:
    """Wait until a server that was started serves, or has given up."""
    end = time.monotonic() + seconds
    while node.running:
        try:
            if node.request("GET", "/v1/status/leader", timeout=2)[1]:
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < end, node.tail()
        time.sleep(0.05)


def raw(node: Node, path: str) -> bytes:
    connection = node.connection()
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_lone_server_refuses_writes_and_recovers(tmp_path: Path) -> None:
    disks = TinyDisks(tmp_path, {1: 40 * MIB})
    cluster = tiny(Cluster(tmp_path, 1, network=disks), disks)
    (server,) = cluster.servers
    disk = disks.disks[1]
    writer = Writer()
    try:
        cluster.start()
        writer.write(server)
        disk.fill()
        assert REASON in writer.until_refused(server)
        # It says so at once, every time, to everybody; reads go on.
        for _ in range(3):
            assert REASON in writer.write(server)[1]
        status, answer, _ = server.request("PUT", "/v1/session/create", {})
        assert (status, REASON in answer) == (500, True)
        writer.check(server)
        assert server.get("/v1/status/leader")
        disk.free()
        writer.until_accepted(server)
        writer.check(server)

        # Power is cut while it is full, and comes back before there is room.
        disk.fill()
        writer.until_refused(server)
        server.kill()
        server.start()
        served_or_ended(server)
        disk.free()
        if not server.running:
            assert "No space left" in server.tail()
            server.start()
        server.eventually("/v1/status/leader", bool, 60)
        writer.until_accepted(server)
        writer.check(server)

        # Stopping it does not wait for room either.
        disk.fill()
        writer.until_refused(server)
        server.signal(signal.SIGTERM)
        assert server.process is not None
        server.process.wait(100)
        disk.free()
        server.start()
        server.eventually("/v1/status/leader", bool, 60)
        writer.until_accepted(server)
        writer.check(server)
        assert "damaged" not in server.tail(1 << 20)
    except BaseException:
        print(server.tail())
        raise
    finally:
        cluster.close()


def test_others_lead_while_the_disk_of_the_leader_is_full(tmp_path: Path) -> None:
    disks = TinyDisks(tmp_path, {1: 60 * MIB, 2: 60 * MIB, 3: 60 * MIB})
    cluster = tiny(Cluster(tmp_path, 3, network=disks), disks)
    writer = Writer()
    try:
        cluster.start()
        old = cluster.leader(60)
        disk = disks.disks[old.number]
        disk.fill()
        writer.until_refused(old)
        others = [node for node in cluster.servers if node is not old]
        new = cluster.leader(60, others)
        for _ in range(5):
            writer.until_accepted(new)
        writer.check(new)
        # Whom clients ask does not matter: the one without room passes it on.
        writer.until_accepted(old)
        disk.free()
        status, _, _ = new.request("PUT", "/v1/kv/last", b"1")
        assert status == 200
        old.eventually("/v1/kv/last?stale", bool, 120)
        writer.check(old, "&stale")
        cluster.leader(60).eventually(
            "/v1/operator/autopilot/health", lambda found: found["Healthy"], 120
        )
    except BaseException:
        for node in cluster.servers:
            print(node.name, node.tail())
        raise
    finally:
        cluster.close()
