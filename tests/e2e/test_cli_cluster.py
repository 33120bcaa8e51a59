"""The commands about agents and servers, as a user of a small cluster runs them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Node, running

KEY = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
OTHER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
PYCONSUL = [sys.executable, "-m", "pyconsul.cli.main"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cli")
    with running(folder, 3, 2, settings={"encrypt": KEY, "enable_debug": True}) as made:
        made.wait_voters(3)
        server = made.servers[0]
        for other in made.servers[1:]:
            server.put(f"/v1/agent/join/{other.address}?wan=1")
        for one in made.servers:
            one.eventually("/v1/agent/members?wan=1", lambda found: len(found) == 3)
        yield made


def environment(node: Node) -> dict[str, str]:
    return {**os.environ, "CONSUL_HTTP_ADDR": f"unix://{node.socket}"}


def cli(node: Node, *words: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run a command against an agent; exit status, stdout, stderr."""
    done = subprocess.run(
        [*PYCONSUL, *words],
        capture_output=True,
        text=True,
        env=environment(node),
        cwd=cwd,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def eventually(node: Node, words: list[str], text: str, seconds: float = 30) -> str:
    """Repeat a command until its output has ``text``; return the output."""
    deadline = time.monotonic() + seconds
    while True:
        _, out, err = cli(node, *words)
        if text in out:
            return out
        assert time.monotonic() < deadline, (words, text, out, err)
        time.sleep(0.2)


def follower(cluster: Cluster) -> Node:
    leader = cluster.leader()
    return next(node for node in cluster.servers if node is not leader)


def status_of(node: Node, name: str) -> str:
    _, out, _ = cli(node, "members")
    rows = [line.split() for line in out.splitlines()]
    return next((row[2] for row in rows if row[0] == name), "")


def test_members(cluster: Cluster) -> None:
    head = ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"]
    servers = [
        [s.name, f"{s.address}:8301", "alive", "server", "1.10.11", "2", "dc1", "<all>"]
        for s in cluster.servers
    ]
    clients = [
        [c.name, f"{c.address}:8301", "alive", "client", "1.10.11", "2", "dc1",
         "<default>"]
        for c in cluster.clients
    ]  # fmt: skip
    for node in cluster.nodes:
        assert cli(node, "members") == (0, table([head, *servers, *clients]), "")
    wan = [
        [f"{s.name}.dc1", f"{s.address}:8302", *found[2:]]
        for s, found in zip(cluster.servers, servers, strict=True)
    ]
    server = cluster.servers[0]
    assert cli(server, "members", "-wan") == (0, table([head, *wan]), "")
    assert cli(server, "members", "-status=fail") == (2, "", "")
    _, out, _ = cli(server, "members", "-detailed")
    assert out.splitlines()[0].split() == ["Node", "Address", "Status", "Tags"]
    assert "role=consul,segment=<all>" in out


def test_join(cluster: Cluster) -> None:
    first, second = cluster.servers[:2]
    text = "Successfully joined cluster by contacting {} nodes.\n"
    assert cli(first, "join", second.address) == (0, text.format(1), "")
    assert cli(first, "join", "-wan", second.address) == (0, text.format(1), "")
    status, out, err = cli(cluster.clients[0], "join", "127.0.0.1:1", second.address)
    assert (status, out) == (0, text.format(1))
    assert err.startswith("Error joining address '127.0.0.1:1': ")
    status, out, err = cli(first, "join", "127.0.0.1:1")
    assert (status, out) == (1, "")
    assert err.endswith("\nFailed to join any nodes.\n")


def test_info(cluster: Cluster) -> None:
    def sections(out: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        section: dict[str, str] = {}
        for line in out.splitlines():
            if line.startswith("\t"):
                key, _, value = line[1:].partition(" = ")
                section[key] = value
            else:
                section = found[line.removesuffix(":")] = {}
        return found

    _, out, _ = cli(cluster.leader(), "info")
    server = sections(out)
    assert list(server) == [
        "agent", "build", "consul", "raft", "runtime", "serf_lan", "serf_wan",
    ]  # fmt: skip
    assert server["consul"]["leader"] == "true"
    assert server["raft"]["num_peers"] == "2"
    assert server["raft"]["state"] == "Leader"
    assert server["serf_lan"]["members"] == "5"
    assert server["serf_lan"]["encrypted"] == "true"
    assert list(server["raft"]) == sorted(server["raft"])
    _, out, _ = cli(cluster.clients[0], "info")
    client = sections(out)
    assert list(client) == ["agent", "build", "consul", "runtime", "serf_lan"]
    assert client["consul"] == {
        "acl": "disabled",
        "known_servers": "3",
        "server": "false",
    }


def make_events(node: Node, logs: list[Path]) -> None:
    """Register something and take it back until each of ``logs`` tells of it."""
    deadline = time.monotonic() + 60
    while not all("watched" in log.read_text() for log in logs):
        assert time.monotonic() < deadline, [log.read_text() for log in logs]
        node.put("/v1/agent/service/register", {"Name": "watched", "Port": 1})
        node.put("/v1/agent/service/deregister/watched")
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["server", "client"])
def test_monitor(cluster: Cluster, kind: str, tmp_path: Path) -> None:
    node = cluster.leader() if kind == "server" else cluster.clients[0]
    # The quiet one first: once the others tell of events it follows as well.
    commands = {
        "quiet": [*PYCONSUL, "monitor", "-log-level=err"],
        "text": [*PYCONSUL, "monitor", "-log-level=debug"],
        "json": [*PYCONSUL, "monitor", "-log-json", "-log-level=DEBUG"],
    }
    logs = {name: tmp_path / name for name in commands}
    following: dict[str, subprocess.Popen[bytes]] = {}
    for name, words in commands.items():
        with open(logs[name], "wb") as log:
            following[name] = subprocess.Popen(
                words, env=environment(node), stdout=log, stderr=subprocess.PIPE
            )
    try:
        make_events(node, [logs["text"], logs["json"]])
        ended: dict[str, tuple[int, str, str]] = {}
        for name, process in following.items():
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            ended[name] = (process.returncode, logs[name].read_text(), err.decode())
    finally:
        for process in following.values():
            with contextlib.suppress(OSError):
                process.kill()
            process.communicate()
    assert all((status, err) == (0, "") for status, _, err in ended.values()), ended
    text = ended["text"][1]
    assert re.search(r"^\S+Z? \[(INFO|DEBUG)\] +agent: .*watched", text, re.MULTILINE)
    lines = [json.loads(line) for line in ended["json"][1].splitlines()]
    assert any("watched" in json.dumps(line) for line in lines)
    assert {line["@level"] for line in lines} <= {"debug", "info", "warn", "error"}
    assert ended["quiet"][1] == ""
    assert cli(node, "monitor", "-log-level=loud") == (
        1,
        "",
        "Error starting monitor: Unexpected response code: 400 "
        "(Bad request: Unknown log level: loud)\n",
    )


def test_reload(cluster: Cluster) -> None:
    for node in (cluster.servers[0], cluster.clients[0]):
        assert cli(node, "reload") == (0, "Configuration reload triggered\n", "")
        assert node.get("/v1/status/leader")


def test_maint(cluster: Cluster) -> None:
    node = cluster.clients[0]
    node.put("/v1/agent/service/register", {"Name": "web", "ID": "web2"})
    assert cli(node, "maint", "-enable", "-reason=because") == (
        0,
        "Node maintenance is now enabled\n",
        "",
    )
    assert cli(node, "maint", "-enable", "-service=web2") == (
        0,
        'Service maintenance is now enabled for "web2"\n',
        "",
    )
    assert cli(node, "maint") == (
        0,
        "Node:\n  Name:   c1\n  Reason: because\n\n"
        "Service:\n  ID:     web2\n  Reason: Maintenance mode is enabled for this "
        "service, but no reason was provided. This is a default message.\n\n",
        "",
    )
    cluster.servers[0].eventually(
        "/v1/health/service/web",
        lambda found: any(c["Status"] == "critical" for c in found[0]["Checks"]),
    )
    assert cli(node, "maint", "-disable") == (
        0,
        "Node maintenance is now disabled\n",
        "",
    )
    disabled = 'Service maintenance is now disabled for "web2"\n'
    assert cli(node, "maint", "-disable", "-service=web2") == (0, disabled, "")
    assert cli(node, "maint") == (0, "", "")
    status, _, err = cli(node, "maint", "-enable", "-service=nope")
    assert (status, err) == (
        1,
        "Error enabling service maintenance: Unexpected response code: 404 "
        '(No service registered with ID "nope")\n',
    )


def test_keyring(cluster: Cluster) -> None:
    node = follower(cluster)
    status, out, err = cli(cluster.clients[0], "keyring", "-list")
    assert (status, out) == (1, "==> Gathering installed encryption keys...\n")
    assert "keyring operations must run against a server node" in err

    def listed(*keys: str) -> str:
        def pool(name: str, count: int) -> str:
            return f"{name}:\n" + "".join(f"  {k} [{count}/{count}]\n" for k in keys)

        head = "==> Gathering installed encryption keys...\n\n"
        return head + pool("WAN", 3) + "\n" + pool("dc1 (LAN)", 5)

    assert cli(node, "keyring", "-list") == (0, listed(KEY), "")
    assert cli(node, "keyring", f"-install={OTHER_KEY}") == (
        0,
        "==> Installing new gossip encryption key...\n",
        "",
    )
    assert cli(node, "keyring", "-list") == (0, listed(OTHER_KEY, KEY), "")
    assert cli(node, "keyring", f"-use={OTHER_KEY}") == (
        0,
        "==> Changing primary gossip encryption key...\n",
        "",
    )
    _, out, _ = cli(node, "keyring", "-list-primary")
    assert f"  {OTHER_KEY} [5/5]\n" in out
    assert KEY not in out
    assert cli(node, "keyring", f"-remove={KEY}") == (
        0,
        "==> Removing gossip encryption key...\n",
        "",
    )
    assert cli(node, "keyring", "-list") == (0, listed(OTHER_KEY), "")


def test_operator_raft_and_autopilot(cluster: Cluster) -> None:
    leader = cluster.leader()
    ids = {
        node.name: node.get("/v1/agent/self")["Config"]["NodeID"]
        for node in cluster.servers
    }
    head = ["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]
    rows = {
        s.name: [
            s.name, ids[s.name], f"{s.address}:8300",
            "leader" if s is leader else "follower", "true", "3",
        ]
        for s in cluster.servers
    }  # fmt: skip
    for node in cluster.nodes:
        status, out, err = cli(node, "operator", "raft", "list-peers")
        assert (status, err) == (0, "")
        order = [line.split()[0] for line in out.splitlines()[1:]]
        assert out == table([head, *(rows[name] for name in order)])
        assert sorted(order) == ["s1", "s2", "s3"]
    node = cluster.clients[0]
    out = eventually(node, ["operator", "autopilot", "state"], "Healthy:          ")
    assert f"Leader:                       {ids[leader.name]}\n" in out
    _, out, _ = cli(node, "operator", "autopilot", "get-config")
    assert out.startswith("CleanupDeadServers = true\nLastContactThreshold = ")
    assert cli(node, "operator", "autopilot", "set-config", "-min-quorum=3") == (
        0,
        "Configuration updated!\n",
        "",
    )
    for other in cluster.nodes:
        _, out, _ = cli(other, "operator", "autopilot", "get-config")
        assert "\nMinQuorum = 3\n" in out
    status, out, err = cli(node, "operator", "raft", "remove-peer", "-id=zz")
    assert (status, out) == (1, "")
    assert err == (
        "Error removing peer: Unexpected response code: 500 "
        '(id "zz" was not found in the Raft configuration)\n'
    )


def test_debug(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.clients[0]
    words = ["debug", "-duration=10s", "-interval=10s", "-output=out"]
    with subprocess.Popen(
        [*PYCONSUL, *words],
        env=environment(node),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # All the while: nobody tells when the ten seconds begin.
        while process.poll() is None:
            node.put("/v1/agent/service/register", {"Name": "seen"})
            node.put("/v1/agent/service/deregister/seen")
            time.sleep(0.2)
        out, err = process.communicate()
    lines = out.decode().splitlines()
    assert (process.returncode, err) == (0, b"")
    assert lines[1:6] == [
        "     Agent Version: '1.10.11'",
        "          Interval: '10s'",
        "          Duration: '10s'",
        "            Output: 'out.tar.gz'",
        "           Capture: 'metrics, logs, pprof, host, agent, cluster'",
    ]
    assert lines[-1] == "    Saved debug archive: out.tar.gz"
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        files = {
            Path(member.name).name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    assert set(files) == {
        "agent.json", "cluster.json", "host.json", "index.json", "metrics.json",
        "consul.log", "heap.prof", "goroutine.prof", "profile.prof", "trace.out",
    }  # fmt: skip
    assert KEY.encode() not in b"".join(files.values())
    assert len(json.loads(files["cluster.json"])) == 5
    assert json.loads(files["metrics.json"])["Gauges"]
    assert b"seen" in files["consul.log"]
    assert b"MainThread" in files["goroutine.prof"]


def test_a_monitor_tells_that_its_agent_has_ended(
    cluster: Cluster, tmp_path: Path
) -> None:
    node = cluster.clients[1]
    seen = tmp_path / "seen"
    with (
        open(seen, "wb") as log,
        subprocess.Popen(
            [*PYCONSUL, "monitor", "-log-level=debug"],
            env=environment(node),
            stdout=log,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        make_events(node, [seen])
        node.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.decode() == (
        "\nRemote side ended the monitor! This usually means that the\n"
        "remote side exited or crashed.\n"
    )


def test_force_leave(cluster: Cluster) -> None:
    node, gone = cluster.servers[0], cluster.clients[1]
    gone.kill()
    deadline = time.monotonic() + 40
    while status_of(node, gone.name) != "failed":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert cli(node, "force-leave", gone.name) == (0, "", "")
    deadline = time.monotonic() + 20
    while any(status_of(one, gone.name) != "left" for one in cluster.servers):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert cli(cluster.clients[0], "force-leave", "-prune", gone.name) == (0, "", "")
    deadline = time.monotonic() + 20
    while any(status_of(one, gone.name) for one in cluster.servers):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    node.eventually(
        "/v1/catalog/nodes", lambda found: gone.name not in {n["Node"] for n in found}
    )
    status, out, err = cli(node, "force-leave", "nobody")
    assert (status, out) == (1, "")
    assert err == (
        "Error force leaving: Unexpected response code: 500 "
        "(agent: No node found with name 'nobody')\n"
    )


def test_leave(cluster: Cluster) -> None:
    client, server = cluster.clients[0], cluster.leader()
    for node in (client, server):
        assert cli(node, "leave") == (0, "Graceful leave complete\n", "")
        assert node.process is not None
        assert node.process.wait(20) == 0
        status, out, err = cli(node, "members")
        assert (status, out) == (1, "")
        assert err.startswith("Error retrieving members: ")
    others = [one for one in cluster.servers if one is not server]
    leader = cluster.leader(among=others)
    assert status_of(leader, client.name) == "left"
    assert status_of(leader, server.name) == "left"
    leader.eventually(
        "/v1/operator/raft/configuration",
        lambda found: (
            {one["Node"] for one in found["Servers"]} == {one.name for one in others}
        ),
    )
    leader.put("/v1/kv/after", b"x")
