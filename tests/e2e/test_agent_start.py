"""Starts that fail after the banner, and the ways an agent leaves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_agent import free_port


@pytest.mark.parametrize(
    ("fragment", "text"),
    [
        (
            'services { name = "" }',
            'Failed to register service "": Service name missing',
        ),
        (
            'services { name = "a" check { ttl = "1s" interval = "1s" } }',
            'Failed to validate checks for service "a": '
            "Interval and TTL cannot both be specified",
        ),
        (
            'checks { name = "a" ttl = "1s" service_id = "nope" }',
            "Failed to register check 'a': ServiceID \"nope\" does not exist",
        ),
        (
            'watches { type = "key" args = ["true"] }',
            "Must specify a single key to watch",
        ),
        ('watches { type = "nodes" }', "Must define a watch handler"),
        (
            'acl { enabled = true default_policy = "maybe" }',
            "Failed to start Consul server: Unsupported default ACL policy: maybe",
        ),
        (
            'addresses { http = "unix:///nope/http.sock" }',
            "listen unix /nope/http.sock: bind: no such file or directory",
        ),
        (
            'services { name = "a" tagged_addresses { lan_ipv4 { address = "::1" } } }',
            'Service tagged address "lan_ipv4" must be a valid ipv4 address',
        ),
        ('checks { ttl = "1s" }', "Failed to register check '': CheckID missing"),
        (
            'retry_join = ["127.0.0.1:1"] retry_max = 1 retry_interval = "10ms" '
            "ports { http = -1 }",
            "max join LAN retry exhausted, exiting",
        ),
    ],
)
def test_why_an_agent_does_not_start(
    agents: Callable[..., Any], fragment: str, text: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        agents("-dev", "-hcl", fragment)
    assert text in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("node-id", None, "failed to setup node ID: open {data}/node-id: is a dir"),
        ("node-id", "x", "failed to setup node ID: {data}/node-id: badly formed"),
        ("services", "x", 'failed reading services dir "{data}/services": open {data}'),
        ("checks", "x", 'failed reading checks dir "{data}/checks": open {data}/chec'),
        ("serf/local.snapshot", None, "Failed to open snapshot: open {data}/serf/loc"),
        ("serf/local.keyring", None, "Failed to configure keyring: open {data}/serf/"),
        ("serf/local.keyring", "{", "Failed to configure keyring: {data}/serf/local."),
        (
            "serf/local.keyring",
            '["YWJj"]',
            "Failed to configure keyring: Invalid key: key size must be 16, 24 or 32 "
            "bytes (in {data}/serf/local.keyring)",
        ),
        ("serf", "x", "open {data}/serf: file exists"),
        ("raft", "x", "{data}/raft: "),
        ("raft/snapshots", "x", "raft: cannot open the log: open {data}/raft/snapsh"),
        ("raft/raft.db", "x", "{data}/raft/raft.db is the log of a Consul server"),
        ("raft/wal", None, "{data}/raft/wal is the log of a Consul server"),
    ],
)
def test_a_data_dir_that_cannot_be_used_is_named(
    agents: Callable[..., Any],
    tmp_path: Path,
    name: str,
    content: str | None,
    text: str,
) -> None:
    data = tmp_path / "data"
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(AssertionError) as caught:
        agents("-server", "-bootstrap", f"-data-dir={data}")
    assert text.replace("{data}", str(data)) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_key_of_a_wrong_size_is_refused(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError) as caught:
        agents(f"-data-dir={tmp_path / 'data'}", "-encrypt=YWJj")
    text = "Failed to configure keyring: Invalid key: key size must be 16, 24 or 32"
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("fragment", "number", "status"),
    [
        ("leave_on_terminate = true", signal.SIGTERM, 0),
        ("leave_on_terminate = false", signal.SIGTERM, 1),
        ("skip_leave_on_interrupt = false", signal.SIGINT, 0),
        ("skip_leave_on_interrupt = true", signal.SIGINT, 1),
    ],
)
def test_signals_leave_as_configured(
    agents: Callable[..., Any], fragment: str, number: int, status: int
) -> None:
    agent = agents("-dev", "-hcl", fragment)
    assert agent.stop(number) == status
    assert ("Requesting agent leave" in agent.output()) == (status == 0)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")]
)
def test_signals_during_a_start(tmp_path: Path, number: int, name: str) -> None:
    # The one to join takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        flags = [
            "-bind=127.0.0.1",
            f"-join=127.0.0.1:{silent.getsockname()[1]}",
            f"-data-dir={tmp_path / 'data'}",
            "-http-port=-1",
            "-dns-port=-1",
            f"-serf-lan-port={free_port()}",
        ]
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pyconsul.cli.main", "agent", *flags],
                stdout=out,
                stderr=out,
            )
        try:
            _until(lambda: "joining: lan_addresses" in log.read_text(), log)
            process.send_signal(signal.SIGHUP)
            early = 'signal=hangup error="cannot reload before agent started"'
            _until(lambda: early in log.read_text(), log)
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(60) == 1
        finally:
            process.kill()
            process.wait()
    said = log.read_text()
    assert f"Caught: signal={name}" in said
    assert "Exit code: code=1" in said
    assert "Traceback" not in said
    assert "agent running" not in said


def _until(right: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not right():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("rejoin", [True, False])
def test_who_left_rejoins_only_if_told_to(
    agents: Callable[..., Any], tmp_path: Path, rejoin: bool
) -> None:
    first = agents("-dev")
    second = agents(
        "-server",
        "-bootstrap",
        f"-data-dir={tmp_path / 'data'}",
        "-datacenter=dc2",
        f"-rejoin={str(rejoin).lower()}",
        "-hcl",
        'performance { raft_multiplier = 1 leave_drain_time = "10ms" }',
        node="n2",
    )
    second.put(f"/v1/agent/join/127.0.0.1:{first.ports['serf_wan']}?wan=1")

    def alive() -> int:
        found = second.get("/v1/agent/members?wan=1")
        return sum(one["Status"] == 1 for one in found)

    assert alive() == 2
    second.put("/v1/agent/leave")
    assert second.process.wait(60) == 0
    second.start()
    deadline = time.monotonic() + (10 if rejoin else 0.5)
    while alive() != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive() == (2 if rejoin else 1)
