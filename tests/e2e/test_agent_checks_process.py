"""Checks of a real agent: each kind reports, and none can hurt the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent

Agents = Callable[..., RunningAgent]


def script(folder: Path, name: str, text: str, mode: int = 0o700) -> list[str]:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return [str(path)]


def state(pid: int) -> str:
    """Return a process's state; empty when it is no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ""
    return text.rpartition(")")[2].split()[0]


def test_scripts_that_misbehave_harm_nobody(agents: Agents, tmp_path: Path) -> None:
    agent = agents("-dev", "-enable-script-checks")
    pid_file = tmp_path / "pid"
    scripts = {
        "good": script(tmp_path, "good", "echo all fine"),
        "warn": script(tmp_path, "warn", "echo careful; exit 1"),
        "flood": script(tmp_path, "flood", "exec yes 0123456789"),
        "hang": script(tmp_path, "hang", f"sleep 99 & echo $! > {pid_file}; wait"),
        "fork": script(tmp_path, "fork", "sleep 99 & echo left one behind"),
        "noexec": script(tmp_path, "noexec", "true", 0o600),
        "missing": ["/nowhere/at/all"],
    }
    for name, args in scripts.items():
        body = {"ID": name, "Name": name, "Args": args, "Interval": "1s"}
        agent.put("/v1/agent/check/register", body | {"Timeout": "1s"})

    def done(checks: dict[str, Any]) -> bool:
        return all(checks[name]["Output"] for name in scripts)

    checks = agent.eventually("/v1/agent/checks", done)
    found = {name: (one["Status"], one["Output"]) for name, one in checks.items()}
    assert found["good"] == ("passing", "all fine\n")
    assert found["warn"] == ("warning", "careful\n")
    assert found["fork"] == ("passing", "left one behind\n")
    status, output = found["flood"]
    assert status == "critical"
    assert output.startswith("Timed out (1s) running check\n\nCaptured 4096 of ")
    assert len(output) < 4300
    assert found["hang"] == ("critical", "Timed out (1s) running check")
    path = scripts["noexec"][0]
    assert found["noexec"] == ("critical", f"fork/exec {path}: permission denied")
    assert found["missing"] == (
        "critical",
        "fork/exec /nowhere/at/all: no such file or directory",
    )
    agent.put("/v1/kv/still", b"here")
    for name in scripts:
        agent.put(f"/v1/agent/check/deregister/{name}")
    hung = int(pid_file.read_text())
    deadline = time.monotonic() + 60
    while state(hung) not in ("", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_network_checks_see_what_is_there(agents: Agents) -> None:
    agent = agents("-dev")
    closed = "127.0.0.1:1"
    own = f"127.0.0.1:{agent.ports['http']}"
    kinds: dict[str, dict[str, Any]] = {
        "http": {"HTTP": f"http://{own}/v1/status/leader"},
        "nothttp": {"HTTP": f"http://{closed}/"},
        "tcp": {"TCP": own},
        "nottcp": {"TCP": closed},
        "udp": {"UDP": f"127.0.0.1:{agent.ports['dns']}", "Timeout": "100ms"},
        "grpc": {"GRPC": closed, "Timeout": "1s"},
        "h2ping": {"H2PING": closed, "H2PingUseTLS": False},
    }
    for name, fields in kinds.items():
        body = {"ID": name, "Name": name, "Interval": "1s"}
        agent.put("/v1/agent/check/register", body | fields)

    def done(checks: dict[str, Any]) -> bool:
        return all(checks[name]["Output"] for name in kinds)

    checks = agent.eventually("/v1/agent/checks", done)
    found = {name: (one["Status"], one["Output"]) for name, one in checks.items()}
    refused = f"dial tcp {closed}: connect: connection refused"
    status, output = found["http"]
    assert status == "passing"
    assert output.startswith(f"HTTP GET http://{own}/v1/status/leader: 200 OK Output: ")
    assert found["nothttp"] == ("critical", f'Get "http://{closed}/": {refused}')
    assert found["tcp"] == ("passing", f"TCP connect {own}: Success")
    assert found["nottcp"] == ("critical", refused)
    assert found["udp"][0] == "passing"
    assert found["grpc"][0] == "critical"
    assert refused in found["grpc"][1]
    assert found["h2ping"] == ("critical", f"Failed to dial to {closed}: {refused}")


@pytest.mark.parametrize("allowed", [False, True])
def test_scripts_of_files_have_to_be_allowed(
    agents: Agents, tmp_path: Path, allowed: bool
) -> None:
    path = tmp_path / "checks.hcl"
    path.write_text(
        'check { id = "s" name = "s" args = ["echo", "hi"] interval = "1s" }'
    )
    flags = ["-dev", f"-config-file={path}"]
    if not allowed:
        with pytest.raises(AssertionError, match="enable_local_script_checks"):
            agents(*flags)
        return
    agent = agents(*flags, "-enable-local-script-checks")
    agent.eventually("/v1/agent/checks", lambda checks: checks["s"]["Output"] == "hi\n")
    body = {"Name": "r", "Args": ["true"], "Interval": "1s"}
    status, text = agent.request("PUT", "/v1/agent/check/register", body)
    assert status == 500
    assert "from remote calls" in text
