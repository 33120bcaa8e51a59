"""pyconsul-replicate in both directions: policies, crashes, marks of origin."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from replicate_world import (
    Instance,
    Place,
    World,
    file,
    good,
    page,
    run,
    started,
    until,
)

pytestmark = pytest.mark.timeout(300)
KEPT = "service/consul-replicate/conflicts/"
FAST = ("-consul-retry-backoff=50ms", "-consul-retry-max-backoff=300ms")


def equal(world: World, prefix: str) -> bool:
    return world.one.pairs(prefix) == world.two.pairs(prefix)


@contextlib.contextmanager
def instance(*flags: str) -> Iterator[Instance]:
    made = Instance(*flags, *FAST)
    try:
        yield made
        assert made.end() == 12
    finally:
        made.process.kill()
        made.process.wait()


@pytest.mark.parametrize("as_flag", [True, False])
@pytest.mark.parametrize("policy", ["source", "destination", "refuse", "last"])
def test_conflicts(world: World, tmp_path: Path, policy: str, as_flag: bool) -> None:
    tree = f"{policy}{as_flag}/"
    way = f"-conflict={policy}" if as_flag else file(tmp_path, f'conflict = "{policy}"')
    once = ("-once", f"-prefix={tree}", *world.both, way)
    world.one.put(f"{tree}a", "1")
    world.two.put(f"{tree}b", "2")
    good(*once)
    assert world.one.pairs(tree) == world.two.pairs(tree) == {"a": "1", "b": "2"}
    world.one.delete(f"{tree}b")
    world.two.put(f"{tree}c", "3")
    good(*once)
    assert world.one.pairs(tree) == world.two.pairs(tree) == {"a": "1", "c": "3"}
    before = world.one.rows(""), world.two.rows("")
    good(*once)
    assert (world.one.rows(""), world.two.rows("")) == before
    world.one.put(f"{tree}a", "left")
    world.two.put(f"{tree}a", "right")
    seen = run(*once, "-dry-run")
    assert seen.returncode == 2
    done = run(*once)
    if policy == "refuse":
        assert done.returncode == 14
        assert "1 keys changed at both sides and were left alone" in done.stderr
        assert f"! {tree}a (changed at both sides)" in seen.stdout
        assert world.one.pairs(f"{tree}a") == {"": "left"}
        assert world.two.pairs(f"{tree}a") == {"": "right"}
        assert run(*once, "-verify").returncode == 14
        world.two.delete(f"{tree}a")
        good(*once)
        assert equal(world, tree)
        return
    assert done.returncode == 0
    assert f"~ {tree}a (" in seen.stdout
    assert f'"{tree}a" changed at both sides' in done.stderr
    wins, loses, loser = (
        ("right", "left", world.one)
        if policy == "destination"
        else ("left", "right", world.two)
    )
    assert loser.pairs(KEPT + tree) == {"a": loses}
    assert world.one.pairs(tree)["a"] == world.two.pairs(tree)["a"] == wins
    good(*once, "-verify")


def test_what_has_no_meaning_in_two_directions(world: World, tmp_path: Path) -> None:
    both = ("-once", *world.both, "-conflict=source")
    for flags in (
        ("-prefix=x/", "-filter=Key is not empty"),
        ("-prefix=x/", "-locks=copy"),
        ("-prefix=x/", "-origin"),
        ("-prefix=x/", "-dest-addr=127.0.0.1:1", "-dest-addr=127.0.0.1:2"),
        ("-prefix=x/:a/", "-prefix=x/y/:b/"),
        ("-prefix=x/", file(tmp_path, 'rewrite { match = "a"\nreplace = "b" }')),
    ):
        done = run(*both, *flags)
        assert done.returncode == 15, flags
        assert "conflict" in done.stderr
    assert run("-once", "-conflict=maybe").returncode == 13
    assert run("-once", file(tmp_path, 'conflict = "maybe"')).returncode == 15
    assert run("-prefix=x/", *world.both, "-origin", "-locks=warn").returncode == 15


def test_a_daemon_follows_both_sides(world: World) -> None:
    world.one.put("follow/a", "0")
    flags = ("-prefix=follow/:copied/", *world.both, "-conflict=last", "-locks=skip")
    with instance(*flags) as made:
        until(lambda: world.two.pairs("copied/") == {"a": "0"})
        for number in range(1, 6):
            world.two.put("copied/a", f"two {number}")
            until(lambda n=number: world.one.pairs("follow/") == {"a": f"two {n}"})
            world.one.put("follow/a", f"one {number}")
            until(lambda n=number: world.two.pairs("copied/") == {"a": f"one {n}"})
        world.two.put("copied/b", "1")
        until(lambda: world.one.pairs("follow/b") == {"": "1"})
        world.one.delete("follow/b")
        until(lambda: not world.two.pairs("copied/b"))
        world.two.delete("copied/a")
        world.two.put("copied/c", "2")
        until(lambda: world.one.pairs("follow/") == {"c": "2"})
        # One after the other is no conflict.
        shown = page(made.port, "metrics")
        assert "pyconsul_replicate_decided_conflicts_total{" in shown
        assert made.status()["decided_conflicts"] == 0
        assert page(made.port, "health") == "ok\n"


def test_a_daemon_that_refuses_says_so(world: World, tmp_path: Path) -> None:
    world.one.put("open/a", "left")
    world.two.put("open/a", "right")
    with instance("-prefix=open/", *world.both, "-conflict=refuse") as made:
        until(lambda: made.status().get("open_conflicts") == 1)
        shown = page(made.port, "metrics")
        assert "pyconsul_replicate_open_conflicts{" in shown
        with pytest.raises(OSError, match="503"):
            page(made.port, "health")
        world.one.put("open/b", "1")
        until(lambda: world.two.pairs("open/b") == {"": "1"})
        assert world.two.pairs("open/a") == {"": "right"}
        shown = good("status", f"-status-addr=127.0.0.1:{made.port}")
        assert "conflicts open" in shown
        assert "1 keys changed at both sides" in shown
        world.one.put("open/a", "right")
        until(lambda: made.status().get("open_conflicts") == 0)
        assert page(made.port, "health") == "ok\n"
        config = file(tmp_path, f'status_addr = "127.0.0.1:{made.port}"')
        shown = good("status", config).splitlines()
        assert re.match(r"open/@dc1 and open/@dc2: up to date$", shown[0])
        assert re.search(r"2 keys, \d+ written, 0 deleted, 0 errors", shown[1])
    assert run("status").returncode == 15
    done = run("status", config)
    assert (done.returncode, "connection refused" in done.stderr) == (14, True)
    done = run("status", f"-status-addr={world.source.address}")
    assert (done.returncode, "answered 404" in done.stderr) == (14, True)


class Writers:
    """Users at both sides; every value is written once."""

    def __init__(self, places: tuple[Place, Place], tree: str) -> None:
        self._places = places
        self._tree = tree
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(n,)) for n in (0, 1)
        ]
        self.failed: list[BaseException] = []

    def _write(self, side: int) -> None:
        rng, place, number = random.Random(side), self._places[side], 0
        try:
            while not self._stop.wait(rng.random() / 50):
                number += 1
                key = f"{self._tree}k{rng.randrange(12)}"
                if rng.random() < 0.2:
                    place.delete(key)
                else:
                    place.put(key, f"{side}-{number}")
        except BaseException as error:
            self.failed.append(error)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failed


@pytest.mark.parametrize("policy", ["source", "last"])
def test_replicators_that_are_killed_while_both_sides_are_written(
    world: World, policy: str
) -> None:
    tree = f"busy-{policy}/"
    flags = (
        f"-prefix={tree}",
        *world.both,
        f"-conflict={policy}",
        "-allow-mass-delete",
    )
    rng = random.Random(7)
    running: list[subprocess.Popen[bytes]] = []
    try:
        with Writers((world.one, world.two), tree):
            for _ in range(12):
                running.append(started(*flags, *FAST, "-log-level=err"))
                # Two of the same at once, now and then.
                if len(running) > 1:
                    until_writes(world.two, rng.randrange(20, 60))
                    running[0].kill()
                    running.pop(0).wait()
        until(lambda: equal(world, tree))
    finally:
        for process in running:
            process.kill()
            process.wait()
    good("-once", *flags)
    before = world.one.rows(""), world.two.rows("")
    good("-once", *flags, "-verify")
    assert (world.one.rows(""), world.two.rows("")) == before
    assert world.one.pairs(tree)


def until_writes(place: Place, count: int) -> None:
    """Wait until a place has so many more entries in its log."""

    def index() -> int:
        stats = place.agent.request("GET", "/v1/agent/self")[1]["Stats"]
        return int(stats["raft"]["last_log_index"])

    start = index()
    until(lambda: index() >= start + count)


def test_two_instances_of_which_one_leads(world: World) -> None:
    flags = (
        "-prefix=led/", *world.both, "-conflict=last", "-leader", "-leader-ttl=10s",
    )  # fmt: skip
    world.two.put("led/a", "1")
    with instance(*flags) as first:
        until(lambda: world.one.pairs("led/") == {"a": "1"})
        with instance(*flags) as second:
            until(lambda: second.status().get("leading") is False)
            assert first.leads
            world.one.put("led/a", "2")
            until(lambda: world.two.pairs("led/") == {"a": "2"})
            first.process.send_signal(signal.SIGTERM)
            until(lambda: second.leads)
            world.two.put("led/b", "3")
            until(lambda: world.one.pairs("led/") == {"a": "2", "b": "3"})


def test_both_directions_through_one_agent(world: World) -> None:
    flags = ("-prefix=far/@dc1:near/", f"-consul-addr={world.into.address}")
    world.one.put("far/a", "1")
    world.two.put("near/b", "2")
    good("-once", *flags, "-conflict=refuse")
    assert world.one.pairs("far/") == world.two.pairs("near/") == {"a": "1", "b": "2"}
    world.two.delete("near/a")
    good("-once", *flags, "-conflict=refuse")
    assert world.one.pairs("far/") == {"b": "2"}


@pytest.mark.parametrize("word", ["key:{}/k@dc1:{}2/k", "{}@dc1:{}2"])
def test_following_a_key_and_a_tree_with_neighbours(world: World, word: str) -> None:
    tree = "solo" if word.startswith("key:") else "alone"
    here, there = f"{tree}/k", f"{tree}2/k"
    world.one.put(f"{tree}ly", "neighbour")
    pair = f"-prefix={word.format(tree, tree)}"
    flags = (pair, *world.both, "-conflict=source", "-allow-mass-delete")
    # Nothing is left to the comparison now and then.
    with instance(*flags, "-reconcile-interval=0s"):
        for number in range(4):
            world.one.put(here, f"one {number}")
            until(lambda n=number: world.two.pairs(there) == {"": f"one {n}"})
            world.two.delete(there)
            until(lambda: not world.one.pairs(here))
            world.two.put(there, f"two {number}")
            until(lambda n=number: world.one.pairs(here) == {"": f"two {n}"})
            world.one.delete(here)
            until(lambda: not world.two.pairs(there))
    assert not world.two.pairs(f"{tree}ly")
    assert not world.two.pairs(f"{tree}2ly")
    good("-once", *flags)


def test_loops_and_what_is_written_twice(world: World) -> None:
    one_way = ("-once", "-prefix=turn/", *world.both)
    back = ("-once", "-prefix=turn/", f"-source-addr={world.into.address}",
            f"-consul-addr={world.source.address}")  # fmt: skip
    world.one.put("turn/a", "1")
    good(*one_way)
    for flags in (back, (*one_way, "-conflict=last"), (*back, "-conflict=last")):
        done = run(*flags)
        assert (done.returncode, "a loop" in done.stderr) == (14, True)
    # Whoever begins with two directions says what became of the one.
    good(*one_way, "-conflict=last", "-allow-loop")
    assert "a loop" in run(*one_way).stderr


def test_two_daemons_that_begin_at_once_do_not_turn_in_a_circle(world: World) -> None:
    world.one.put("circle/a", "1")
    ways = (world.source.address, world.into.address)
    running = [
        started("-prefix=circle/", f"-source-addr={one}", f"-consul-addr={two}")
        for one, two in (ways, ways[::-1])
    ]
    try:
        # One of them sees what the other has noted, whoever is first.
        until(lambda: any(process.poll() is not None for process in running))
        assert 14 in [process.poll() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_marks_of_origin(world: World, tmp_path: Path) -> None:
    ways = (world.source.address, world.into.address)
    world.one.put("mesh/a", "1")
    world.two.put("mesh/b", "2")
    config = file(tmp_path, "origin = true")
    sides = ((ways, "-origin"), (ways[::-1], config))
    with contextlib.ExitStack() as stack:
        for (one, two), way in sides:
            flags = ("-prefix=mesh/", f"-source-addr={one}", f"-consul-addr={two}")
            stack.enter_context(instance(*flags, way, "-reconcile-interval=500ms"))
        until(lambda: equal(world, "mesh/"))
        world.one.put("mesh/a", "1b")
        world.two.delete("mesh/b")
        world.two.put("mesh/c", "3")
        wanted = {"a": "1b", "c": "3"}
        until(lambda: world.one.pairs("mesh/") == world.two.pairs("mesh/") == wanted)
        # What two have as their own stays as it is in both.
        world.one.put("mesh/both", "left")
        until(lambda: world.two.pairs("mesh/both") == {"": "left"})
        world.two.put("mesh/both", "right")
        world.two.put("mesh/after", "4")
        until(lambda: world.one.pairs("mesh/after") == {"": "4"})
        assert world.one.pairs("mesh/both") == {"": "left"}
        assert world.two.pairs("mesh/both") == {"": "right"}
    flags = {row["Key"]: row["Flags"] for row in world.two.rows("mesh/")}
    assert flags["mesh/a"] >> 48
    assert not flags["mesh/c"]
    status = world.two.pairs("service/consul-replicate/statuses/")
    assert any(json.loads(text).get("Origin") for text in status.values())
