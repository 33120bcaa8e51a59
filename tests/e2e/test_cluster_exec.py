"""``pyconsul exec`` on six agents: three servers, three clients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from cluster import Cluster, Node, running

NAMES = {"s1", "s2", "s3", "c1", "c2", "c3"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("exec")
    with running(folder, 3, 3, settings={"disable_remote_exec": False}) as cluster:
        yield cluster


def begin(node: Node, *words: str, stdin: int | IO[bytes] = subprocess.DEVNULL):
    """Start ``pyconsul exec`` against an agent."""
    return subprocess.Popen(
        [sys.executable, "-m", "pyconsul.cli.main", "exec", *words],
        env=os.environ | {"CONSUL_HTTP_ADDR": f"unix://{node.socket}"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(node: Node, *words: str) -> tuple[int, list[str]]:
    """Run ``pyconsul exec``; its exit status and lines."""
    with begin(node, *words) as process:
        out, _ = process.communicate(timeout=60)
    return process.returncode, out.splitlines()


def nothing_is_left(cluster: Cluster) -> None:
    leader = cluster.leader()
    assert leader.request("GET", "/v1/kv/_rexec/?keys&consistent")[0] == 404
    assert leader.get("/v1/session/list") == []


def test_all_six_answer(cluster: Cluster) -> None:
    began = time.monotonic()
    said: dict[str, float] = {}
    with begin(cluster.clients[0], "-verbose", "echo hi from $$") as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if ": hi from" in line:
                said[line.split(":")[0].strip()] = time.monotonic() - began
    ended = time.monotonic() - began
    print(f"last answer after {max(said.values()):.2f} s, ended after {ended:.2f} s")
    assert process.returncode == 0
    assert set(said) == NAMES
    assert {f"==> {name}: acknowledged" for name in NAMES} <= set(lines)
    assert {f"==> {name}: finished with exit code 0" for name in NAMES} <= set(lines)
    assert lines[-2] == "6 / 6 node(s) completed / acknowledged"
    nothing_is_left(cluster)


def test_filters_statuses_and_scripts(cluster: Cluster) -> None:
    c1, c2 = cluster.clients[:2]
    c1.put("/v1/agent/service/register", {"Name": "web", "Tags": ["v1"]})
    c2.put("/v1/agent/service/register", {"Name": "web", "Tags": ["v2"]})
    status, lines = run(c1, "-wait=500ms", "-service=^web$", "-tag=2", "echo here")
    assert (status, lines) == (
        0,
        [
            "    c2: here",
            "    c2:",
            "==> c2: finished with exit code 0",
            "1 / 1 node(s) completed / acknowledged",
        ],
    )
    status, lines = run(
        c1, "-wait=10s", "-node=^c", "case $(hostname) in *) exit 4; esac"
    )
    assert status == 2
    assert "==> c3: finished with exit code 4" in lines
    assert lines[-1] == "3 / 3 node(s) completed / acknowledged"
    status, lines = run(c1, "-node=^c1$", "kill -9 $$")
    assert (status, lines[0]) == (2, "==> c1: finished with exit code -1")
    status, lines = run(c1, "-node=^c1$", "-shell=false", "no-such-program")
    assert (status, lines[0]) == (2, "==> c1: finished with exit code 255")
    read, write = os.pipe()
    os.write(write, b"#!/bin/sh\nfor i in 1 2; do echo line $i; done\n")
    os.close(write)
    with os.fdopen(read, "rb") as script:
        process = begin(c1, "-node=^s1$", "-", stdin=script)
        out, _ = process.communicate(timeout=60)
    assert out.splitlines()[:3] == ["    s1: line 1", "    s1: line 2", "    s1:"]
    nothing_is_left(cluster)


def test_a_service_is_over_when_its_nodes_are(cluster: Cluster) -> None:
    """``-wait`` is far beyond the time limit: silence ends none of these."""
    c1, c2 = cluster.clients[:2]
    for node, tag in ((c1, "blue"), (c2, "green"), (cluster.servers[1], "green")):
        service = {"Name": "pond", "ID": "duck-1", "Tags": [tag]}
        node.put("/v1/agent/service/register", service)
    c1.eventually("/v1/catalog/service/pond", lambda found: len(found) == 3)

    def finished(*words: str) -> list[str]:
        status, lines = run(c1, "-wait=20m", *words, "true")
        assert status == 0
        return sorted(lines)

    def end(*names: str) -> list[str]:
        count = f"{len(names)} / {len(names)} node(s) completed / acknowledged"
        return [count, *(f"==> {name}: finished with exit code 0" for name in names)]

    assert finished("-service=^duck") == end("c1", "c2", "s2")
    assert finished("-service=duck", "-tag=^gr") == end("c2", "s2")
    assert finished("-service=duck", "-tag=gr", "-node=^c") == end("c2")
    assert finished("-datacenter=dc1", "-service=duck", "-node=^s") == end("s2")
    assert finished("-node=[23]$") == end("c2", "c3", "s2", "s3")
    nothing_is_left(cluster)


def test_output_comes_while_the_command_runs(cluster: Cluster) -> None:
    command = "echo first; sleep 4; head -c 9000 /dev/zero | tr '\\0' x; sleep 60 &"
    began = time.monotonic()
    with begin(
        cluster.clients[1], "-verbose", "-wait=1s", "-node=^s2$", command
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip() == "s2: first":
                assert time.monotonic() - began < 60
                assert "==> s2: finished with exit code 0" not in lines
    assert process.returncode == 0
    assert "==> s2: heartbeat received" in lines
    chunks = [line for line in lines if line.startswith("s2: x")]
    assert [len(chunk) - 4 for chunk in chunks] == [4096, 4096, 808]
    assert lines.index("s2: first") < lines.index("==> s2: heartbeat received")
    # What goes on in the background holds nobody up.
    assert lines[-2] == "1 / 1 node(s) completed / acknowledged"
    nothing_is_left(cluster)


def test_an_interrupt_ends_everything(cluster: Cluster, tmp_path: Path) -> None:
    command = f"echo $$ > {tmp_path}/$$; sleep 300; true"
    with begin(cluster.clients[0], "-verbose", "-wait=1s", command) as process:
        assert process.stdout is not None
        acks = 0
        for line in process.stdout:
            acks += line.endswith("acknowledged\n")
            if acks == len(NAMES):
                break
        deadline = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < len(NAMES):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 1
    nothing_is_left(cluster)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "commands go on though nobody listens"
        time.sleep(0.1)
    nothing_is_left(cluster)


def test_a_flood_ends_when_nobody_reads_it(cluster: Cluster) -> None:
    command = "echo pid $$; exec yes"
    with begin(cluster.clients[0], "-node=^c1$", command) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[-1])
        process.stdout.close()
        process.wait(30)
    nothing_is_left(cluster)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it goes on though nobody listens"
        time.sleep(0.05)


def test_a_leader_that_dies_costs_nothing(cluster: Cluster) -> None:
    leader = cluster.leader()
    command = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 1; done; exit 5"
    with begin(cluster.clients[0], "-node=^c", command) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip() == "c2: line 2":
                leader.kill()
    leader.start()
    cluster.settle()
    assert process.returncode == 2
    for name in ("c1", "c2", "c3"):
        told = [line for line in lines if line.startswith(f"{name}: line")]
        assert told == [f"{name}: line {number}" for number in range(1, 9)]
        assert f"==> {name}: finished with exit code 5" in lines
    assert lines[-1] == "3 / 3 node(s) completed / acknowledged"
    nothing_is_left(cluster)


def test_nodes_that_die_or_hang_hold_nobody_up(cluster: Cluster) -> None:
    c1, c2, c3 = cluster.clients
    c2.signal(signal.SIGSTOP)
    try:
        with begin(c1, "-wait=1s", "-node=^c", "echo go; sleep 4; echo end") as process:
            assert process.stdout is not None
            began = time.monotonic()
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.strip() == "c3: go":
                    c3.kill()
            assert time.monotonic() - began < 50
    finally:
        c2.signal(signal.SIGCONT)
        c3.start()
    assert process.returncode == 2
    assert "c1: end" in lines
    assert lines[-1] == "1 / 2 node(s) completed / acknowledged"
    nothing_is_left(cluster)
