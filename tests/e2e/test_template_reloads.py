"""Reloads of pyconsul-template one after another, each once the last is healthy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import Start, run, starter, until

LOOP = "while kill -0 $PPID; do sleep 0.02; done"
WEB = {"service": "web", "timeout": "60s", "stable": "100ms"}
CHECK = {"check": "service:web", "timeout": "60s", "stable": "100ms"}
TELL = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], method="PUT")
urllib.request.urlopen(request, timeout=20).close()
open("ran", "a").write("a told\\n")
"""


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent, on which ``web`` is critical."""
    for key in ("a", "b"):
        agent.put(f"/v1/kv/{key}", b"1")
    check = {"CheckID": "service:web", "TTL": "10m", "Status": "critical"}
    agent.put("/v1/agent/service/register", {"Name": "web", "Check": check})
    yield from starter(tmp_path, agent.ports["http"])


def says(agent: RunningAgent, status: str) -> None:
    """Set the status of the service's check: pass, warn or fail."""
    agent.put(f"/v1/agent/check/{status}/service:web")


def block(key: str, command: str = "", **more: Any) -> dict[str, Any]:
    found = {"contents": f"{{{{ key('{key}') }}}}", "destination": f"out-{key}", **more}
    return found | ({"command": command} if command else {})


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps({"template": templates, **more}))
    return "-config=c.json"


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().splitlines()


@pytest.mark.parametrize("healthy", [WEB, CHECK])
def test_a_command_waits_for_what_the_last_one_reloaded(
    tmp_path: Path, start: Start, agent: RunningAgent, healthy: dict[str, str]
) -> None:
    first = block("a", "echo a >> ran", healthy=healthy)
    config = write(tmp_path, first, block("b", "echo b >> ran"))
    one = start(config, "-log-level=info", "-status-addr=unix:s")
    one.said("the next reload waits until")
    name = "service web" if "service" in healthy else "check service:web"
    shown = run(tmp_path, "status", "-status-addr=unix:s").stdout
    assert f"reloads wait for {name}" in shown
    # The files go on all the while.
    agent.put("/v1/kv/a", b"2")
    one.wrote("out-a", "2")
    # A warning is not good enough.
    says(agent, "warn")
    agent.put("/v1/kv/a", b"3")
    one.wrote("out-a", "3")
    assert ran(tmp_path) == ["a"]
    says(agent, "pass")
    until("the rest", lambda: ran(tmp_path) == ["a", "b", "a"])
    one.said(f"{name} is healthy", 2)
    shown = run(tmp_path, "status", "-status-addr=unix:s").stdout
    assert "reloads wait" not in shown


def test_no_reload_waits_for_ever(tmp_path: Path, start: Start) -> None:
    healthy = {"check": "no-such-check", "timeout": "500ms", "stable": "100ms"}
    blocks = block("a", "echo a >> ran", healthy=healthy), block("b", "echo b >> ran")
    one = start(write(tmp_path, *blocks))
    one.said("check no-such-check is not healthy after 0.5s; reloads go on")
    until("the second", lambda: ran(tmp_path) == ["a", "b"])


def test_an_end_does_not_wait(tmp_path: Path, start: Start) -> None:
    blocks = block("a", "echo a >> ran", healthy=WEB), block("b", "echo b >> ran")
    one = start(write(tmp_path, *blocks), "-log-level=info")
    one.said("the next reload waits until")
    assert one.end() == 0
    assert ran(tmp_path) == ["a", "b"]


def test_a_failed_command_is_not_waited_for(tmp_path: Path, start: Start) -> None:
    first = block("a", "test -e good && echo a >> ran", healthy=WEB)
    one = start(write(tmp_path, first, block("b", "echo b >> ran")))
    until("the second", lambda: ran(tmp_path) == ["b"])
    (tmp_path / "good").touch()
    until("it is run again", lambda: ran(tmp_path) == ["b", "a"])
    assert one.end() == 0


@pytest.mark.parametrize("healthy", [WEB, CHECK])
def test_groups_and_a_single_run(
    tmp_path: Path, start: Start, agent: RunningAgent, healthy: dict[str, str]
) -> None:
    groups = {
        "one": {"command": "echo a >> ran", "healthy": healthy},
        "two": {"command": "echo b >> ran"},
    }
    blocks = block("a", notify="one"), block("b", notify="two")
    config = write(tmp_path, *blocks, notify=groups)
    one = start(config, "-once", "-log-level=info")
    one.said("the next reload waits until")
    assert ran(tmp_path) == ["a"]
    says(agent, "pass")
    assert one.process.wait(60) == 0
    assert ran(tmp_path) == ["a", "b"]


def test_children_are_told_one_after_another(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    says(agent, "pass")
    (tmp_path / "tell.py").write_text(TELL)
    address = f"http://127.0.0.1:{agent.ports['http']}/v1/agent/check/fail/service:web"
    scripts = {
        name: f"trap 'echo {name} HUP >> ran' HUP; echo {name} start >> ran; {LOOP}"
        for name in ("a", "b")
    }
    keys = {
        "execs": {
            "a": {
                "command": ["sh", "-c", scripts["a"]],
                "reload_command": [sys.executable, "tell.py", address],
                "healthy": WEB,
            },
            "b": {
                "command": ["sh", "-c", scripts["b"]],
                "reload_signal": "HUP",
                "healthy": CHECK,
            },
        }
    }
    one = start(write(tmp_path, block("a"), **keys), "-log-level=info")
    one.said("check service:web is healthy")
    until("both", lambda: sorted(ran(tmp_path)) == ["a start", "b start"])
    agent.put("/v1/kv/a", b"2")
    one.said("the next reload waits until", 3)
    assert ran(tmp_path)[2:] == ["a told"]
    # Changes that come meanwhile are told once, in the same order.
    for value in (b"3", b"4"):
        agent.put("/v1/kv/a", value)
        one.wrote("out-a", value.decode())
    assert ran(tmp_path)[2:] == ["a told"]
    says(agent, "pass")
    until("the next", lambda: ran(tmp_path)[2:] == ["a told", "b HUP", "a told"])
    assert one.end() == 0


@pytest.mark.parametrize("healthy", [WEB, CHECK])
def test_a_single_child(
    tmp_path: Path, start: Start, agent: RunningAgent, healthy: dict[str, str]
) -> None:
    script = f"trap 'echo HUP >> ran' HUP; echo start >> ran; {LOOP}"
    child = {"command": ["sh", "-c", script], "reload_signal": "HUP"}
    one = start(
        write(tmp_path, block("a"), exec={**child, "healthy": healthy}),
        "-log-level=info",
    )
    one.said("the next reload waits until")
    until("the start", lambda: ran(tmp_path) == ["start"])
    agent.put("/v1/kv/a", b"2")
    one.wrote("out-a", "2")
    assert ran(tmp_path) == ["start"]
    says(agent, "pass")
    until("the reload", lambda: ran(tmp_path) == ["start", "HUP"])


def test_a_file_chooses_what_its_change_does(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    script = f"trap 'echo HUP >> ran' HUP; echo start >> ran; {LOOP}"
    child = {"command": ["sh", "-c", script], "reload_signal": "HUP"}
    agent.put("/v1/kv/c", b"1")
    blocks = (
        block("a", on_change="none"),
        block("b", on_change="reload"),
        block("c", on_change="restart"),
    )
    one = start(write(tmp_path, *blocks, exec=child))
    until("the start", lambda: ran(tmp_path) == ["start"])
    agent.put("/v1/kv/a", b"2")
    one.wrote("out-a", "2")
    agent.put("/v1/kv/b", b"2")
    until("the signal", lambda: ran(tmp_path) == ["start", "HUP"])
    agent.put("/v1/kv/c", b"2")
    until("the restart", lambda: ran(tmp_path) == ["start", "HUP", "start"])


def test_wrong_blocks(tmp_path: Path) -> None:
    for healthy, words in (
        ({}, "give either service or check"),
        ({"service": "a", "check": "b"}, "give either service or check"),
        ({"service": "a", "timeout": "1s"}, "timeout is not over stable"),
        ({"name": "a"}, "unknown field `name`"),
    ):
        done = run(tmp_path, write(tmp_path, block("a", healthy=healthy)))
        assert done.returncode == 15
        assert words in done.stderr
