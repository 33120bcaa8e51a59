"""What children of an agent leave behind, when it is process 1."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyconsul.agent.orphans import Orphans

NAMESPACES = ["unshare", "--user", "--map-root-user", "--pid", "--net", "--fork"]


def until(right: Callable[[], bool], what: object) -> None:
    deadline = time.monotonic() + 60
    while not right():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_the_second_look_lets_go_of_those_that_ended() -> None:
    orphans = Orphans(os.getpid())
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", ":"], {})
    until(lambda: state(pid) == "Z", pid)
    assert pid not in orphans.look()
    assert state(pid) == "Z"
    assert pid in orphans.look()
    assert state(pid) == ""
    assert pid not in orphans.look()


def test_others_and_those_that_run_are_left_alone(tmp_path: Path) -> None:
    for pid, text in (
        (10, "10 (a) b) S 7 10"),
        (11, "11 (sh) Z 8 11"),
        (12, "torn"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(text)
    orphans = Orphans(7, tmp_path)
    assert orphans.look() == orphans.look() == []


def usable() -> bool:
    """Whether this machine lets us make namespaces of our own."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(
        [*NAMESPACES, "--mount-proc", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def first(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "enable_local_script_checks": True,
        "addresses": {"http": f"unix://{tmp_path / 'http.sock'}"},
        "checks": [
            {
                "id": "forks",
                "name": "forks",
                "args": ["sh", "-c", "sleep 600 & echo left $!"],
                "interval": "1s",
            }
        ],
    }
    (tmp_path / "agent.json").write_text(json.dumps(settings))
    flags = ["-dev", "-dns-port=-1", f"-config-file={tmp_path / 'agent.json'}"]
    # The loopback of a new network namespace is down.
    script = 'ip link set lo up && exec "$@"'
    argv = [sys.executable, "-m", "pyconsul.cli.main", "agent", *flags]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [
                *NAMESPACES,
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                script,
                "-",
                *argv,
            ],
            stdout=log,
            stderr=log,
        )
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(
    not usable() or shutil.which("ip") is None, reason="no namespaces here"
)
def test_an_agent_that_is_process_1_has_no_zombies(
    first: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    def agent() -> int:
        kids = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text()
        return int(kids.split()[0]) if kids.split() else 0

    def children() -> set[int]:
        kids = Path(f"/proc/{agent()}/task/{agent()}/children")
        return {int(kid) for kid in kids.read_text().split()}

    def said() -> str:
        return (tmp_path / "log").read_text()

    until(lambda: "Consul agent running!" in said(), said)
    seen: set[int] = set()

    def one_is_gone() -> bool:
        zombies = {kid for kid in children() if state(kid) == "Z"}
        gone = any(state(kid) == "" for kid in seen)
        seen.update(zombies)
        return gone

    until(one_is_gone, said)
    until(lambda: "orphans: ended: count=" in said(), said)
