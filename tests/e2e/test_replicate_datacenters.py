"""``src@dc:dst`` through one agent, between two clusters of three servers.

``wan_front.py`` stands for the WAN: an agent's HTTP face that sends ``?dc=`` to
the other cluster.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Node, running
from replicate_world import REPLICATE, until
from wan_front import WanFront

FAST = (
    "-consul-retry-backoff=50ms",
    "-consul-retry-max-backoff=300ms",
    "-reconcile-interval=2s",
)
pytestmark = pytest.mark.timeout(400)
STATUS = "service/consul-replicate/statuses/"


class Site:
    """A cluster with the front of its agents."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.front: WanFront

    def node(self) -> Node:
        """Return a server that runs, none that has just gone."""
        alive = [node for node in self.cluster.servers if node.running]
        if not alive:
            raise ConnectionRefusedError("no server runs")
        return alive[-1]

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        return self.node().connection(timeout)

    def rows(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return all pairs below a prefix; waits for a leader."""
        found: dict[str, dict[str, Any]] = {}

        def asked() -> bool:
            status, rows, _ = self.node().request("GET", f"/v1/kv/{prefix}?recurse")
            found.update({row["Key"]: row for row in rows} if status == 200 else {})
            return status in (200, 404)

        until(asked)
        return found

    def texts(self, prefix: str) -> dict[str, str]:
        """Return names below the prefix and their values."""
        return {
            key.removeprefix(prefix): base64.b64decode(row["Value"] or "").decode()
            for key, row in self.rows(prefix).items()
        }

    def put(self, key: str, value: str) -> None:
        """Write until it is accepted: there may be no leader for a moment."""
        path, body = f"/v1/kv/{key}", value.encode()
        until(lambda: self.node().request("PUT", path, body)[0] == 200)

    def delete(self, key: str) -> None:
        path = f"/v1/kv/{key}"
        until(lambda: self.node().request("DELETE", path)[0] == 200)

    def change_leader(self) -> None:
        """Kill the leader, and have it back as a follower once another leads."""
        old = self.cluster.leader()
        old.kill()
        others = [node for node in self.cluster.servers if node is not old]
        self.cluster.leader(among=others)
        old.start()
        self.cluster.settle()

    def stop(self) -> None:
        for node in self.cluster.servers:
            node.kill()

    def start(self) -> None:
        for node in self.cluster.servers:
            node.start()
        self.cluster.settle()


Sites = tuple[Site, Site]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with contextlib.ExitStack() as stack:
        built: list[Site] = []
        for name in ("dc1", "dc2"):
            folder = tmp_path_factory.mktemp(name)
            made = running(folder, 3, settings={"datacenter": name})
            built.append(Site(stack.enter_context(made)))
        ways = {"dc1": built[0].connect, "dc2": built[1].connect}
        for name, site in zip(ways, built, strict=True):
            site.front = stack.enter_context(WanFront(name, ways))
        yield built[0], built[1]


def once(site: Site, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*REPLICATE, f"-consul-addr={site.front.address}", "-once", *flags],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@contextlib.contextmanager
def daemon(site: Site, *flags: str) -> Generator[subprocess.Popen[bytes]]:
    command = [*REPLICATE, f"-consul-addr={site.front.address}", *FAST, *flags]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 12
        finally:
            process.kill()
            process.wait()


def test_a_prefix_names_its_datacenter(sites: Sites) -> None:
    one, two = sites
    for number in range(150):
        one.put(f"named/app/{number:03d}", str(number))
    two.put("named/app/neighbour", "of dc2")
    two.put("copies/app/stale", "goes")
    two.put("copies/apple", "stays")
    done = once(two, "-prefix=named/app@dc1:copies/app", "-max-deletes=1")
    assert done.returncode == 0, done.stderr
    assert two.texts("copies/app/") == one.texts("named/app/")
    assert two.texts("copies/apple") == {"": "stays"}
    assert two.texts("named/app/") == {"neighbour": "of dc2"}
    # It read through the agent it wrote to, and wrote nowhere else.
    asked = two.front.asked()
    assert ("GET", "dc1", "/v1/kv/named/app/") in {one[:3] for one in asked}
    assert {one.datacenter for one in asked if one.method == "PUT"} == {"dc2"}
    # The status says between which clusters, and the source got none.
    marks = [json.loads(text) for text in two.texts(STATUS).values()]
    (mark,) = [mark for mark in marks if mark["Source"] == "named/app"]
    assert (mark["Datacenter"], mark["Into"]) == ("dc1", "dc2")
    assert mark["Destination"] == "copies/app"
    assert not [text for text in one.texts(STATUS).values() if "named/app" in text]


def test_what_a_datacenter_may_not_be(sites: Sites) -> None:
    _, two = sites
    own = once(two, "-prefix=any@dc2")
    assert own.returncode == 14
    assert "local datacenter cannot be the source datacenter" in own.stderr
    few = ("-consul-retry-attempts=1", "-consul-retry-backoff=10ms")
    unknown = once(two, "-prefix=any@dc9", *few)
    assert unknown.returncode == 14
    assert "No path to datacenter" in unknown.stderr
    assert not two.texts("any")


def test_both_directions_at_once(sites: Sites, tmp_path: Path) -> None:
    one, two = sites
    one.put("east/a", "1")
    two.put("west/b", "2")
    file = tmp_path / "west.hcl"
    file.write_text(
        'prefix {\n  source = "west/"\n  datacenter = "dc2"\n'
        '  destination = "mirror/west/"\n}\n'
    )
    into_two = "-prefix=east/@dc1:mirror/east/"
    with daemon(two, into_two), daemon(one, f"-config={file}"):
        until(lambda: two.texts("mirror/east/") == {"a": "1"})
        until(lambda: one.texts("mirror/west/") == {"b": "2"})
        for number in range(30):
            one.put(f"east/n{number}", f"e{number}")
            two.put(f"west/n{number}", f"w{number}")
        one.delete("east/a")
        until(lambda: two.texts("mirror/east/") == one.texts("east/"))
        until(lambda: one.texts("mirror/west/") == two.texts("west/"))
        assert len(two.texts("mirror/east/")) == 30
    # Back where it came from would go round for ever.
    back = once(one, "-prefix=mirror/east/@dc2:east/")
    assert back.returncode == 14
    assert re.search(r'a loop: "mirror/east/" of dc2 .* "east/" of dc1', back.stderr)
    assert len(one.texts("east/")) == 30


def test_outages_of_either_side_lose_and_repeat_nothing(sites: Sites) -> None:
    one, two = sites
    for number in range(200):
        one.put(f"long/k{number:03d}", "0")
    with daemon(two, "-prefix=long/@dc1:kept/"):
        until(lambda: two.texts("kept/") == one.texts("long/"))
        untouched = {
            key: row for key, row in two.rows("kept/").items() if key >= "kept/k100"
        }
        two.change_leader()
        for number in range(20):
            one.put(f"long/k{number:03d}", "1")
        one.change_leader()
        for number in range(20, 40):
            one.put(f"long/k{number:03d}", "2")
        one.delete("long/k050")
        until(lambda: two.texts("kept/") == one.texts("long/"))

        # The whole source is away: an empty or missing answer deletes nothing.
        one.stop()
        assert len(two.rows("kept/")) == 199
        one.start()
        for number in range(40, 50):
            one.put(f"long/k{number:03d}", "3")
        one.delete("long/k051")
        until(lambda: two.texts("kept/") == one.texts("long/"))

        # The whole destination is away.
        two.stop()
        for number in range(60, 70):
            one.put(f"long/k{number:03d}", "4")
        one.delete("long/k052")
        two.start()
        until(lambda: two.texts("kept/") == one.texts("long/"))
        assert len(two.rows("kept/")) == 197
    after = two.rows("kept/")
    assert {key: after[key] for key in untouched} == untouched
    # Nothing is left to do, not even a new mark.
    marks = two.rows(STATUS)
    done = once(two, "-prefix=long/@dc1:kept/")
    assert done.returncode == 0, done.stderr
    assert two.rows("kept/") == after
    assert two.rows(STATUS) == marks
