"""pyconsul-template's supervised child and sharing among instances, by process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import PROGRAM, Start, run, starter, until

ONE = {"contents": "{{ key('a') }}", "destination": "out"}
LOOP = "while kill -0 $PPID; do sleep 0.02; done"
SAYS = (
    "trap 'echo USR1; exit 3' USR1; trap 'echo TERM; exit 4' TERM; "
    "trap 'echo INT; exit 5' INT; trap 'echo HUP $(cat out)' HUP; "
    f"echo start $(cat out) $X; {LOOP}"
)


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    (tmp_path / "child.sh").write_text(SAYS)
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    text = json.dumps({"template": templates, **more})
    (folder / "c.json").write_text(text)
    return "-config=c.json"


def test_a_child_is_restarted_or_signalled(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    script = ["sh", "child.sh"]
    ways: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("-exec=sh child.sh", "-exec-kill-signal=USR1"), {}),
        ((), {"exec": {"command": script, "kill_signal": "USR1", "enabled": True}}),
    ]
    for flags, keys in ways:
        agent.put("/v1/kv/a", b"1")
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.said("start 1")
        agent.put("/v1/kv/a", b"2")
        one.said("start 2")
        assert "USR1" in one.text()
        assert one.end(signal.SIGINT) == 0
        assert one.text().count("USR1") == 2
    ways = [
        (("-exec=sh child.sh", "-exec-reload-signal=HUP"), {}),
        ((), {"exec": {"command": script, "reload_signal": "HUP"}}),
    ]
    for flags, keys in ways:
        agent.put("/v1/kv/a", b"1")
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.said("start 1")
        agent.put("/v1/kv/a", b"2")
        one.said("HUP 2")
        assert one.text().count("start") == 1
        # The default kill signal.
        assert one.end() == 0
        assert "INT" in one.text()
    # Switched off there is none: the files are all there is to do.
    off = {"exec": {"command": ["sh", "-c", "touch never"], "enabled": False}}
    one = start(write(tmp_path, ONE, **off))
    one.wrote("out", "2")
    agent.put("/v1/kv/a", b"3")
    one.wrote("out", "3")
    assert one.end() == 0
    assert not (tmp_path / "never").exists()


def test_a_child_that_does_not_end_is_killed(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    deaf = f"trap '' INT; echo start $(cat out); {LOOP}"
    ways: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((f"-exec={deaf}", "-exec-kill-timeout=50ms"), {}),
        ((), {"exec": {"command": deaf, "kill_timeout": "50ms"}}),
    ]
    for flags, keys in ways:
        agent.put("/v1/kv/a", b"1")
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.said("start 1")
        agent.put("/v1/kv/a", b"2")
        one.said("start 2")
        assert one.end(signal.SIGINT) == 0


def test_splay_and_a_time_limit(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    ways: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("-exec=sh child.sh", "-exec-splay=1000h"), {}),
        ((), {"exec": {"command": "sh child.sh", "splay": "1000h"}}),
    ]
    for flags, keys in ways:
        agent.put("/v1/kv/a", b"1")
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.said("start 1")
        agent.put("/v1/kv/a", b"2")
        one.wrote("out", "2")
        agent.put("/v1/kv/a", b"3")
        one.wrote("out", "3")
        # The restart is hours away, but the end does not wait.
        assert one.text().count("start") == 1
        assert one.end() == 0
    block = {"command": ["sh", "child.sh"], "timeout": "200ms"}
    one = start(write(tmp_path, ONE, exec=block))
    assert one.process.wait(30) == 14
    assert "the child ran for 0.2s" in one.text()


def test_the_environment_of_a_child(tmp_path: Path, start: Start) -> None:
    config = write(tmp_path, ONE)
    variables = {"KEPT": "k", "GONE": "g", "OTHER": "o"}
    show = "-exec=/usr/bin/env"
    one = start(
        config,
        show,
        "-exec-env-allowlist=KEPT",
        "-exec-env-allowlist=G*",
        "-exec-env-denylist=GO*",
        "-exec-env-custom=X=1",
        **variables,
    )
    assert one.process.wait(30) == 0
    assert sorted(one.text().split()) == ["KEPT=k", "X=1"]
    flags = (show, "-exec-env-pristine", "-exec-env-custom=X=1")
    one = start(config, *flags, **variables)
    assert one.process.wait(30) == 0
    assert one.text() == "X=1\n"
    envs: list[dict[str, Any]] = [
        {"allowlist": ["KEPT", "G*"], "denylist": ["GO*"], "custom": ["X=1"]},
        {"whitelist": ["KEPT", "G*"], "blacklist": ["GO*"], "custom": ["X=1"]},
        {"pristine": True, "custom": ["X=1", "KEPT=k"]},
    ]
    for env in envs:
        block = {"command": ["/usr/bin/env"], "env": env}
        one = start(write(tmp_path, ONE, exec=block), **variables)
        assert one.process.wait(30) == 0
        assert sorted(one.text().split()) == ["KEPT=k", "X=1"], env


def test_as_process_1_it_reaps_orphans(tmp_path: Path, agent: RunningAgent) -> None:
    unshare = shutil.which("unshare")
    namespaces = [unshare or "", "-Urpf", "--mount-proc", "--kill-child"]
    if not unshare or subprocess.run([*namespaces, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    agent.put("/v1/kv/a", b"1")
    # An orphan of process 1 that ends while the child runs must not stay a zombie.
    (tmp_path / "child.sh").write_text(
        "(sleep 0.1 & ) ; sleep 0.8; grep -h State /proc/[0-9]*/status; exit 6\n"
    )
    environ = os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    done = subprocess.run(
        [*namespaces, PROGRAM, write(tmp_path, ONE), "-exec=sh child.sh"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert "State:" in done.stdout
    assert "zombie" not in done.stdout


def test_as_process_1_signals_reach_it(tmp_path: Path, start: Start) -> None:
    unshare = shutil.which("unshare")
    namespaces = (unshare or "", "-Urpf", "--mount-proc", "--kill-child")
    if not unshare or subprocess.run([*namespaces, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    config = write(tmp_path, ONE, exec={"command": ["sh", "child.sh"]})
    one = start(config, program=(*namespaces, PROGRAM))
    one.said("start 1")
    (first,) = children_of(one.process.pid)
    os.kill(first, signal.SIGTERM)
    assert one.process.wait(30) == 0
    assert "INT" in one.text()


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]


def test_sharing_among_instances(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    block = {
        "enabled": True,
        "prefix": "my/dedup/",
        "ttl": "10s",
        "max_stale": "1s",
        "block_query_wait": "10s",
    }
    agent.put("/v1/kv/a", b"1")
    ways: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        ((), {"deduplicate": block}, "my/dedup/"),
        (("-dedup",), {}, "pyconsul-template/dedup/"),
    ]
    for flags, keys, prefix in ways:
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.wrote("out", "1")
        agent.eventually(
            f"/v1/kv/{prefix}?keys",
            lambda found: any(key.endswith("/data/head") for key in found),
        )
        assert one.end() == 0
        (tmp_path / "out").unlink()
    one = start(write(tmp_path, ONE, deduplicate={"enabled": False, **block}))
    one.wrote("out", "1")
    assert one.end() == 0
    bad = write(tmp_path, ONE, deduplicate={"ttl": "5s"})
    assert run(tmp_path, bad, "-dedup").returncode == 15


def connections(pid: int) -> int:
    """Return how many TCP connections a process has."""
    sockets = {
        os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")
    }
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(f"socket:[{line.split()[9]}]" in sockets for line in lines)


def many(folder: Path, count: int) -> dict[str, Any]:
    """Write a template of so many keys; return its block."""
    keys = "".join(f"{{{{ key('many/{n}', '-') }}}} " for n in range(count))
    (folder / "many.j2").write_text(keys)
    return {"source": "many.j2", "destination": "out"}


def test_few_connections_are_enough(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    consul = {"transport": {"max_conns_per_host": 4}}
    one = start(write(tmp_path, many(tmp_path, 40), consul=consul))
    one.wrote("out", "- " * 40)
    agent.put("/v1/kv/many/39", b"new")
    one.wrote("out", "- " * 39 + "new ")
    assert connections(one.process.pid) <= 8
    assert one.end() == 0


def test_a_thousand_dependencies_settle_under_an_agents_limit(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    # An agent takes 200 connections of one client.
    config = write(tmp_path, many(tmp_path, 1001), status_addr=f"unix:{tmp_path}/s")
    one = start(config)
    one.wrote("out", "- " * 1001)
    for number in (0, 500, 1000):
        agent.put(f"/v1/kv/many/{number}", b"new")
    words = ["new" if n in (0, 500, 1000) else "-" for n in range(1001)]
    one.wrote("out", "".join(f"{word} " for word in words))

    def errors() -> int:
        told = run(tmp_path, "status", f"-status-addr=unix:{tmp_path}/s")
        assert told.returncode == 0, told.stderr
        return told.stdout.count("error")

    until("no question fails", lambda: errors() == 0)
    assert connections(one.process.pid) <= 200
    assert "fail" not in one.text()
    assert one.end() == 0
