"""Locks on a real cluster: never two holders, whatever dies or sleeps."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from cluster import Cluster, Node, running

from pyconsul_client import Client, Lock, LockLostError, LockRules

TAKEN = 99
"""What ``flock`` ends with when somebody else has the file."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("lock"), 3, 2) as cluster:
        yield cluster


def client(node: Node) -> Client:
    return Client(f"unix://{node.socket}", environ={})


def begin(node: Node, *words: str) -> subprocess.Popen[str]:
    """Start ``pyconsul lock`` against an agent."""
    return subprocess.Popen(
        [sys.executable, "-m", "pyconsul.cli.main", "lock", *words],
        env=os.environ | {"CONSUL_HTTP_ADDR": f"unix://{node.socket}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def exclusive(folder: Path, work: str) -> str:
    """Return a command that works, or notes that another does at this moment.

    The kernel's file lock ends with the process that has it, however that ends.
    """
    return (
        f"flock -n -E {TAKEN} {folder}/kernel sh -c '{work}';"
        f" test $? = {TAKEN} && echo both >> {folder}/overlap; true"
    )


@contextlib.contextmanager
def kernel_lock(path: Path) -> Iterator[None]:
    """Take the same file lock; BlockingIOError when somebody else has it."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def until(path: Path, text: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, (path, text)
        time.sleep(0.05)


def test_one_holder_through_leader_kills(cluster: Cluster, tmp_path: Path) -> None:
    """Commands and library contend for one lock while leaders are killed."""
    c1, c2 = cluster.clients
    done = tmp_path / "done"
    work = exclusive(tmp_path, f"echo command >> {done}; sleep 0.2")
    turns = {"library": 0}
    stop = time.monotonic() + 20.0
    rules = LockRules(ttl=10.0, lock_delay=1.0)

    async def contend(node: Node) -> None:
        async with client(node) as consul:
            while time.monotonic() < stop:
                try:
                    async with consul.lock("contended/.lock", rules=rules):
                        with kernel_lock(tmp_path / "kernel"):
                            turns["library"] += 1
                            await anyio.sleep(0.1)
                except LockLostError:
                    continue

    async def command(node: Node) -> None:
        while time.monotonic() < stop:
            process = await anyio.to_thread.run_sync(begin, node, "contended", work)
            out, _ = await anyio.to_thread.run_sync(process.communicate)
            assert process.returncode in (0, 1), out

    async def kill_leaders() -> None:
        for _ in range(2):
            await anyio.sleep(4.0)
            leader = await anyio.to_thread.run_sync(cluster.leader)
            leader.kill()
            await anyio.sleep(4.0)
            leader.start()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for node in (c1, c1, c2):
                group.start_soon(contend, node)
            for node in (c1, c2):
                group.start_soon(command, node)
            group.start_soon(kill_leaders)

    anyio.run(main)
    cluster.settle()
    commands = len(done.read_text().splitlines())
    print(f"turns: {turns['library']} of the library, {commands} of commands")
    assert not (tmp_path / "overlap").exists()
    assert turns["library"] >= 5
    assert commands >= 2


def test_a_place_for_two(cluster: Cluster) -> None:
    inside: set[int] = set()
    most = turns = 0

    async def contend(number: int, two: anyio.Event) -> None:
        nonlocal most, turns
        async with client(cluster.nodes[number % 5]) as consul:
            for _ in range(2):
                async with consul.semaphore("places", 2, rules=LockRules(tidy=True)):
                    inside.add(number)
                    most, turns = max(most, len(inside)), turns + 1
                    assert len(inside) <= 2
                    if most == 2:
                        two.set()
                    with anyio.move_on_after(20):  # somebody comes in beside the first
                        await two.wait()
                    await anyio.sleep(0.1)
                    inside.discard(number)

    async def main() -> None:
        two = anyio.Event()
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(contend, number, two)

    anyio.run(main)
    assert (most, turns) == (2, 10)
    assert cluster.leader().request("GET", "/v1/kv/places?keys&consistent")[0] == 404


def test_holders_that_sleep(cluster: Cluster, tmp_path: Path) -> None:
    """One keeper is suspended alone, another with all that belongs to it."""
    node = cluster.clients[0]
    first: dict[str, subprocess.Popen[str]] = {}
    second: dict[str, subprocess.Popen[str]] = {}
    for name in ("alone", "whole"):
        folder = tmp_path / name
        folder.mkdir()
        tick = f"while true; do echo 1 >> {folder}/ticks; sleep 0.05; done"
        work = exclusive(folder, tick)
        first[name] = begin(node, f"asleep/{name}", f"echo $$ > {folder}/pid; {work}")
        until(folder / "ticks", "1")
        work = exclusive(folder, f"echo 1 > {folder}/second; sleep 0.5")
        second[name] = begin(cluster.clients[1], f"asleep/{name}", work)
    group = int((tmp_path / "whole" / "pid").read_text())
    guard = guard_of(first["whole"].pid)
    first["alone"].send_signal(signal.SIGSTOP)
    os.kill(guard, signal.SIGSTOP)
    first["whole"].send_signal(signal.SIGSTOP)
    os.killpg(group, signal.SIGSTOP)
    # Nobody keeps the session of either now. The child of the one that sleeps
    # alone must be gone before another gets the lock; the other one's cannot run.
    until(tmp_path / "alone" / "second", "1")
    out, _ = second["alone"].communicate(timeout=60)
    assert (second["alone"].returncode, out) == (0, "")
    assert not (tmp_path / "alone" / "overlap").exists()
    first["alone"].send_signal(signal.SIGCONT)
    out, _ = first["alone"].communicate(timeout=20)
    assert first["alone"].returncode == 0, out
    ticks = tmp_path / "whole" / "ticks"
    before = len(ticks.read_text())
    first["whole"].send_signal(signal.SIGCONT)
    os.kill(guard, signal.SIGCONT)
    os.killpg(group, signal.SIGCONT)
    resumed = time.monotonic()
    out, _ = first["whole"].communicate(timeout=20)
    took = time.monotonic() - resumed
    more = (len(ticks.read_text()) - before) // 2
    print(f"ended {took:.2f} s after it woke, {more} ticks later")
    # Whoever is awake first, the keeper or its guard, ends the child.
    ends = ("Lock lost, killing child", "Error running handler: signal: ")
    assert out.startswith(ends), out
    assert more <= 20
    second["whole"].send_signal(signal.SIGTERM)
    second["whole"].communicate(timeout=30)


def guard_of(keeper: int) -> int:
    """Return the process id of the guard that a keeper started."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                told = path.read_text().rpartition(")")[2].split()
                line = (path.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if int(told[1]) == keeper and b"guard.py" in line:
                return int(path.parent.name)
        time.sleep(0.05)
    raise AssertionError("the keeper has no guard")


def test_a_session_that_ends_ends_the_block(cluster: Cluster) -> None:
    leader = cluster.leader()

    async def main() -> None:
        async with client(cluster.clients[0]) as consul:
            began = time.monotonic()
            lock = consul.lock("ended")

            async def hold() -> None:
                async with lock:
                    assert lock.held
                    leader.put(f"/v1/session/destroy/{lock.session}")
                    await anyio.sleep(60)

            with pytest.raises(LockLostError):
                await hold()
            assert time.monotonic() - began < 20
            assert not lock.held

    anyio.run(main)


def test_a_leader_that_is_deposed_leads_again(cluster: Cluster) -> None:
    terms: list[int] = []

    async def main() -> None:
        async with client(cluster.clients[0]) as consul:

            async def work(lock: Lock) -> str:
                terms.append(lock.fence)
                who = await consul.leader("elected")
                assert who is not None
                assert who.raw == b"me"
                if len(terms) == 2:
                    return "done"
                await consul.session.destroy(lock.session)
                await anyio.sleep(60)
                return "never"

            rules = LockRules(lock_delay=0.5, tidy=True)
            assert await consul.lead("elected", work, b"me", rules=rules) == "done"
            assert await consul.leader("elected") is None

    anyio.run(main)
    assert terms[0] < terms[1]


def test_the_keeper_killed_takes_its_child_along(
    cluster: Cluster, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    keeper = begin(cluster.clients[0], "killed", f"echo $$ > {pid}; sleep 300; true")
    until(pid, "\n")
    child = Path("/proc") / pid.read_text().strip()
    assert child.exists()
    guard_of(keeper.pid)  # begins after the child
    keeper.kill()
    keeper.wait()
    deadline = time.monotonic() + 60
    while child.exists() and "(Z)" not in (child / "status").read_text():
        if "zombie" in (child / "status").read_text():
            break
        assert time.monotonic() < deadline, "the child outlives the lock"
        time.sleep(0.05)
    assert keeper.stdout is not None
    keeper.stdout.close()
