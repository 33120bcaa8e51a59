"""The fork server of ``pyconsul.testing`` and its children, without agents."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyconsul.testing.child import Order, Outcome
from pyconsul.testing.forks import Forked, Forks

PATIENCE_S = 60.0
# Its children take the script's stdout, its fork server its stderr: both pipes
# end when all of them have ended.
SCRIPT = """
import os, signal, sys
from pyconsul.testing.children import ChildHost
from pyconsul.testing.forks import forks
host = ChildHost()
host.problem("nobody")
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


def asked(child: Forked, order: Order) -> Outcome:
    child.orders.settimeout(PATIENCE_S)
    child.orders.sendall(msgspec.json.encode(order) + b"\n")
    with child.orders.makefile("rb") as outcomes:
        return msgspec.json.decode(outcomes.readline(), type=Outcome)


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def script(text: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + text],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_children_have_one_server_and_end_when_told(forks: Forks) -> None:
    first, second = forks.fork(), forks.fork()
    assert first.pid != second.pid
    assert {parent_of(first.pid), parent_of(second.pid)} == {forks.pid}
    first.end()
    assert first.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(first.pid, 0)
    assert asked(second, Order(action="problem", name="x")).text == "it was stopped"
    second.end()


def test_prepare_starts_the_server_once(fresh: Forks) -> None:
    assert fresh.pid is None
    fresh.prepare()
    server = fresh.pid
    assert server is not None
    fresh.prepare()
    child = fresh.fork()
    assert parent_of(child.pid) == server == fresh.pid
    child.end()


def test_a_killed_child_tells_its_signal_and_harms_no_other(forks: Forks) -> None:
    killed, other = forks.fork(), forks.fork()
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(PATIENCE_S) == -signal.SIGKILL
    killed.end()
    assert asked(other, Order(action="problem", name="x")).error == ""
    other.end()
    assert other.wait() == 0


def test_a_child_that_does_not_answer_is_killed(
    forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = forks.fork()
    asked(child, Order(action="problem", name="x"))
    os.kill(child.pid, signal.SIGSTOP)
    waits: list[float | None] = []
    wait = Forked.wait

    def hasty(self: Forked, seconds: float | None = None) -> int | None:
        waits.append(seconds)
        # It is stopped, and so the first wait is in vain however long it is.
        return wait(self, 0.01 if len(waits) == 1 else PATIENCE_S)

    monkeypatch.setattr(Forked, "wait", hasty)
    child.end()
    assert len(waits) == 2
    assert child.wait() == -signal.SIGKILL


def test_a_killed_server_takes_its_children_and_is_replaced(fresh: Forks) -> None:
    child = fresh.fork()
    asked(child, Order(action="problem", name="x"))
    server = fresh.pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    child.orders.settimeout(PATIENCE_S)
    assert child.orders.recv(1) == b""
    assert child.wait(PATIENCE_S) is None
    child.end()
    other = fresh.fork()
    assert parent_of(other.pid) == fresh.pid != server
    other.end()


def test_what_could_not_be_forked_is_an_error() -> None:
    told, tells = os.pipe()
    os.close(tells)
    ours, theirs = socket.socketpair()
    theirs.close()
    child = Forked(ours, told)
    with pytest.raises(RuntimeError, match="could not be started"):
        assert child.pid
    child.end()


def test_a_child_has_the_environment_and_the_folder_of_its_order(
    forks: Forks, tmp_path: Path
) -> None:
    child = forks.fork()
    environ = ((b"HOME", b"/\xff"), (b"PATH", b"/bin"))
    order = Order(action="settle", environ=environ, folder=bytes(tmp_path))
    assert asked(child, order) == Outcome()
    assert Path(f"/proc/{child.pid}/cwd").readlink() == tmp_path
    child.end()


def test_an_order_that_is_none_is_refused(forks: Forks) -> None:
    child = forks.fork()
    assert asked(child, Order(action="dance")).error == "unknown order: dance"
    child.end()


def test_nothing_outlives_a_process_that_is_killed() -> None:
    done = script("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == b""


def test_nothing_outlives_a_process_that_forgets_to_close() -> None:
    done = script("print(forks.pid == os.getpid(), flush=True)")
    assert done.stdout == b"False\n"
    assert done.returncode == 0


def test_a_stopped_child_dies_with_the_tests() -> None:
    done = script(
        "os.kill(host.pid, signal.SIGSTOP)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert done.returncode == -signal.SIGKILL


def test_a_process_forked_from_the_tests_has_its_own_server() -> None:
    done = script(
        """
pid = os.fork()
if pid == 0:
    assert forks.pid is None
    own = ChildHost()
    own.problem("nobody")
    own.close()
    forks.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
host.problem("nobody")
host.close()
print("both")
"""
    )
    assert (done.stdout, done.stderr) == (b"both\n", b"")
