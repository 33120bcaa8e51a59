"""pyconsul-template's groups of commands, its children, and what systemd hears."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import Start, run, starter, until

ONE = {"contents": "{{ key('a') }}", "destination": "out"}
LOOP = "while kill -0 $PPID; do sleep 0.02; done"


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps({"template": templates, **more}))
    return "-config=c.json"


def test_a_group_runs_its_command_once_for_a_burst(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    blocks = [
        {
            "contents": f"{{{{ key('g/{n}') }}}}",
            "destination": f"out{n}",
            "notify": "lb",
            # Each has its own quiescence, so they are due one after another.
            "wait": f"{200 + 40 * n}ms:60s",
        }
        for n in range(5)
    ]
    group = {
        "command": "cat out? >> ran; echo >> ran",
        "command_timeout": "20s",
        "window": "1s",
        "all_rendered_first": True,
    }
    one = start(write(tmp_path, *blocks, notify={"lb": group}))
    for n in range(4):
        agent.put(f"/v1/kv/g/{n}", b"a")
        one.wrote(f"out{n}", "a")
    # Not before the last is there.
    time.sleep(0.1)
    assert not (tmp_path / "ran").exists()
    agent.put("/v1/kv/g/4", b"a")
    until("the command", lambda: (tmp_path / "ran").read_text() == "aaaaa\n")
    for turn in range(4):
        for n in range(5):
            agent.put(f"/v1/kv/g/{n}", str(turn).encode())
    until("one more", lambda: (tmp_path / "ran").read_text().endswith("33333\n"))
    assert (tmp_path / "ran").read_text() == "aaaaa\n33333\n"
    # What a group holds back is run before an end, or a reload.
    agent.put("/v1/kv/g/0", b"b")
    one.wrote("out0", "b")
    assert one.end() == 0
    assert (tmp_path / "ran").read_text() == "aaaaa\n33333\nb3333\n"


def test_members_with_commands_of_their_own(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/b", b"1")
    blocks = [
        {**ONE, "notify": "g", "command": "echo own >> ran"},
        {"contents": "{{ key('b') }}", "destination": "b", "notify": "g"},
        {"contents": "{{ key('none') }}", "destination": "c", "notify": "g"},
    ]
    group = {"command": "echo group >> ran", "all_rendered_first": False}
    (tmp_path / "notify.hcl").write_text('notify "g" { window = "50ms" }')
    config = write(tmp_path, *blocks, notify={"g": group})
    one = start(config, "-config=notify.hcl")
    until("both", lambda: (tmp_path / "ran").read_text().split() == ["own", "group"])
    agent.put("/v1/kv/b", b"2")
    until("a second", lambda: (tmp_path / "ran").read_text().count("group") == 2)
    assert (tmp_path / "ran").read_text().count("own") == 1
    assert one.end() == 0
    done = run(tmp_path, write(tmp_path, ONE, notify={"nobody": {}}))
    assert done.returncode == 15
    assert "nobody" in done.stderr


def test_a_child_starts_again(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    script = "code=$(cat status); echo started; exit $code"
    (tmp_path / "status").write_text("3")
    for when, count, status in (("never", 1, 3), ("on-failure", 2, 0)):
        (tmp_path / "status").write_text("3")
        block = {"command": ["sh", "-c", script], "restart": when}
        one = start(write(tmp_path, ONE, exec=block))
        until("a start", lambda one=one: "started" in one.text())
        if when != "never":
            (tmp_path / "status").write_text("0")
        assert one.process.wait(60) == status
        assert one.text().count("started") >= count
    one = start(write(tmp_path, ONE, exec={**block, "restart": "always"}))
    until("a third start", lambda: one.text().count("started") == 3)
    assert one.end() == 0


def test_a_command_instead_of_a_signal(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    block = {
        "command": ["sh", "-c", f"echo started; {LOOP}"],
        "reload_command": 'echo "for $CHILD_PID: $(cat out)"',
    }
    one = start(write(tmp_path, ONE, exec=block))
    one.said("started")
    agent.put("/v1/kv/a", b"2")
    one.said(": 2")
    pid = int(re.findall(r"for (\d+): 2", one.text())[0])
    os.kill(pid, 0)
    agent.put("/v1/kv/a", b"3")
    one.said(f"for {pid}: 3")
    assert one.text().count("started") == 1
    assert one.end() == 0
    wrong = {**block, "reload_signal": "HUP"}
    assert run(tmp_path, write(tmp_path, ONE, exec=wrong)).returncode == 15


def says(name: str) -> list[str]:
    """Return a child that tells of its signals, and ends at USR1."""
    traps = "".join(f"trap 'echo {name} {s}' {s}; " for s in ("INT", "HUP"))
    end = f"trap 'echo {name} USR1; exit 7' USR1; "
    return ["sh", "-c", f"{traps}{end}echo {name} started $X $OURS; {LOOP}"]


def test_children_by_name(tmp_path: Path, start: Start, agent: RunningAgent) -> None:
    env = {
        "pristine": False,
        "custom": ["X=1"],
        "allowlist": ["PATH", "OURS"],
        "denylist": ["O*"],
        "whitelist": [],
        "blacklist": [],
    }
    execs = {
        "web": {
            "command": says("web"),
            "enabled": True,
            "kill_signal": "USR1",
            "kill_timeout": "20s",
            "reload_signal": "HUP",
            "splay": "1ms",
            "timeout": 0,
            "env": env,
        },
        "side": {
            "command": says("side"),
            "kill_signal": "USR1",
            "restart": "on-failure",
            "reload_command": "echo side told",
        },
        "off": {"command": says("off"), "enabled": False},
    }
    config = write(tmp_path, ONE, execs=execs, status_addr=f"unix:{tmp_path}/s")
    one = start(config, OURS="ours")
    one.said("web started 1\n")
    one.said("side started ours\n")
    agent.put("/v1/kv/a", b"2")
    one.said("web HUP")
    one.said("side told")
    assert "off" not in one.text()
    # One that fails starts again, the others do not notice.
    pids = pids_of(tmp_path)
    os.kill(pids["side"], signal.SIGUSR1)
    one.said("side started", 2)
    assert pids_of(tmp_path)["web"] == pids["web"]
    # A reload changes only the child whose block changed.
    execs["side"]["command"] = says("new")
    write(tmp_path, ONE, execs=execs, status_addr=f"unix:{tmp_path}/s")
    one.send(signal.SIGHUP)
    one.said("new started")
    assert pids_of(tmp_path)["web"] == pids["web"]
    # One that ends for good ends all, with its status.
    os.kill(pids["web"], signal.SIGUSR1)
    assert one.process.wait(30) == 7
    assert "new USR1" in one.text()
    (tmp_path / "c.hcl").write_text(
        'exec "a" { command = ["sh", "-c", "echo from a; exec sleep 60"] }\n'
        'exec "b" { command = ["sh", "b.sh"] }\n'
    )
    (tmp_path / "b.sh").write_text("until [ -e go ]; do sleep 0.02; done; exit 5")
    (tmp_path / "t.j2").write_text("{{ key('a') }}")
    one = start("-config=c.hcl", "-template=t.j2:out")
    one.said("from a")
    (tmp_path / "go").touch()
    assert one.process.wait(30) == 5


def pids_of(folder: Path) -> dict[str, int]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(folder / "s"))
        client.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(65536), b""))
    status = json.loads(data.partition(b"\r\n\r\n")[2])
    return {child["name"]: child["pid"] for child in status["children"]}


def test_systemd_hears_of_it(tmp_path: Path, start: Start, agent: RunningAgent) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        late = {"contents": "{{ key('late') }}", "destination": "late"}
        child = {"command": ["sh", "-c", f'echo "child [$NOTIFY_SOCKET]"; {LOOP}']}
        config = write(tmp_path, ONE, late, exec=child, status_addr="127.0.0.1:0")
        port = free_port()
        one = start(
            config,
            f"-status-addr=127.0.0.1:{port}",
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="400000",
        )
        heard: list[str] = []

        def hear(words: str) -> None:
            while words not in heard:
                heard.extend(manager.recv(4096).decode().splitlines())

        hear("STATUS=1 of 2 rendered, 1 waiting")
        hear("WATCHDOG=1")
        assert ready(port) == 503
        assert "READY=1" not in heard
        agent.put("/v1/kv/late", b"now")
        hear("READY=1")
        hear("STATUS=2 of 2 rendered")
        assert ready(port) == 200
        one.said("child []")
        for text in (None, '{"no_such_key": 1}'):
            heard.clear()
            if text is not None:
                (tmp_path / "c.json").write_text(text)
            one.send(signal.SIGHUP)
            hear("RELOADING=1")
            assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in heard)
            hear("READY=1")
        assert one.end() == 0
        hear("STOPPING=1")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ready(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
