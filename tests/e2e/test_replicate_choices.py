"""What pyconsul-replicate copies, how, and what it only looks at."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from replicate_world import World, daemon, file, good, page, run, started, until
from running_agent import free_port

pytestmark = pytest.mark.timeout(300)
LOCK_FLAGS = 3304740253564472344


def test_a_filter_chooses_pairs(world: World, tmp_path: Path) -> None:
    for key, value in {"a": "yes", "b": "no", "c/d": "yes, too"}.items():
        world.one.put(f"choose/{key}", value)
    ways = {
        'Key matches "^choose/[ab]$"': {"a": "yes", "b": "no"},
        "Value contains yes and not Key contains `/d`": {"a": "yes"},
        'Key == "choose/b" or (Value matches "too$")': {"b": "no", "c/d": "yes, too"},
    }
    for number, (text, wanted) in enumerate(ways.items()):
        config = file(tmp_path, f"filter = {json.dumps(text)}")
        for way, tree in ((f"-filter={text}", f"f{number}/"), (config, f"g{number}/")):
            # What the filter leaves out is not deleted either.
            world.two.put(f"{tree}c/x", "mine")
            world.two.put(f"{tree}c/d", "kept, too" if "c/d" in wanted else "kept")
            good("-once", f"-prefix=choose/:{tree}", *world.both, way)
            left = {"c/x": "mine", "c/d": "kept"} | wanted
            assert world.two.pairs(tree) == left, text
    for text in ("Colour == red", "Key ==", "Key matches `(`", "(Key is empty", "1 2"):
        refused = run("-once", "-prefix=x/", *world.both, f"-filter={text}")
        assert refused.returncode == 15, text
        assert "filter" in refused.stderr


def test_a_daemon_filters_and_rewrites_changes(world: World, tmp_path: Path) -> None:
    text = """
    filter = "Value not contains secret"
    rewrite {
      match = "dc1-(\\\\w+)"
      replace = "dc2-\\\\1"
    }
    rewrite {
      match = "dc2-old"
      replace = "dc2-new"
    }
    """
    world.one.put("change/a", "at dc1-one and dc1-old")
    world.one.put("change/b", "a secret")
    with daemon("-prefix=change/", *world.both, file(tmp_path, text)):
        until(lambda: world.two.pairs("change/") == {"a": "at dc2-one and dc2-new"})
        world.one.put("change/c", "dc1-three")
        until(lambda: world.two.pairs("change/").get("c") == "dc2-three")
        # Left out while it holds a secret: the copy stays as it was.
        world.one.put("change/c", "secret")
        world.one.put("change/d", "dc1-four")
        until(lambda: world.two.pairs("change/").get("d") == "dc2-four")
        assert world.two.pairs("change/")["c"] == "dc2-three"
        world.one.delete("change/b")
        world.one.delete("change/d")
        until(lambda: "d" not in world.two.pairs("change/"))
    # What is equal after rewriting is not written again.
    before = world.two.rows("change/")
    good("-once", "-prefix=change/", *world.both, file(tmp_path, text))
    assert world.two.rows("change/") == before
    wrong = file(tmp_path, 'rewrite { match = "("\nreplace = "x" }')
    assert run("-once", "-prefix=change/", *world.both, wrong).returncode == 15
    wrong = file(tmp_path, 'rewrite { match = "x"\nreplace = "\\\\7" }')
    assert run("-once", "-prefix=change/", *world.both, wrong).returncode == 15


def test_values_that_are_no_text_are_rewritten(world: World, tmp_path: Path) -> None:
    raw = b"\xff\xfe dc1 \x00\x80"
    assert world.one.agent.request("PUT", "/v1/kv/bytes/a", raw)[0] == 200
    config = file(tmp_path, 'rewrite { match = "dc1"\nreplace = "two" }')
    good("-once", "-prefix=bytes/", *world.both, config)
    connection = world.two.connect(20)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/kv/bytes/a?raw")
        assert connection.getresponse().read() == raw.replace(b"dc1", b"two")


def test_locks_are_skipped_or_copied(world: World, tmp_path: Path) -> None:
    _, session = world.one.agent.request(
        "PUT", "/v1/session/create", {"TTL": "3600s", "LockDelay": "0s"}
    )
    acquire = f"?acquire={session['ID']}"
    for key, query in (("held", acquire), ("flags", f"?flags={LOCK_FLAGS}")):
        path = f"/v1/kv/locked/{key}{query}"
        assert world.one.agent.request("PUT", path, b"x") == (200, True)
    world.one.put("locked/plain", "p")
    ways = [
        ((), False, True),
        (("-locks=skip",), False, True),
        ((file(tmp_path, 'locks = "warn"'),), True, True),
        (("-locks=copy",), True, False),
        ((file(tmp_path, 'locks = "warn"', "w.hcl"), "-locks=skip"), False, True),
    ]
    for number, (flags, copied, told) in enumerate(ways):
        tree = f"locked{number}/"
        said = good("-once", f"-prefix=locked/:{tree}", *world.both, *flags)
        assert ("flags" in world.two.pairs(tree)) == copied
        assert ("held" in world.two.pairs(tree)) == copied
        assert ("belongs to a lock or semaphore" in said) == told
        assert not any("Session" in row for row in world.two.rows(tree))
    assert run("-once", "-locks=maybe").returncode == 13
    assert run("-once", file(tmp_path, 'locks = "maybe"')).returncode == 15


def test_a_dry_run_tells_sizes_and_ends_with_two(world: World) -> None:
    for key, value in {"a": "new", "b": "longer", "c": "same"}.items():
        world.one.put(f"dry/{key}", value)
    for key, value in {"b": "old", "c": "same", "d": "gone!"}.items():
        world.two.put(f"dry/{key}", value)
    shown = run("-dry-run", "-prefix=dry/", *world.both)
    assert shown.returncode == 2
    head, *lines = shown.stdout.splitlines()
    assert head.endswith(": 3 to change, 1 equal")
    assert lines == [
        "+ dry/a (3 bytes, flags 0)",
        "~ dry/b (3 bytes, flags 0 to 6 bytes, flags 0)",
        "- dry/d (5 bytes)",
    ]
    assert world.two.pairs("dry/") == {"b": "old", "c": "same", "d": "gone!"}
    good("-once", "-prefix=dry/", *world.both)
    assert ": 0 to change, 3 equal" in good("-dry-run", "-prefix=dry/", *world.both)


def test_verify_alone_and_after_a_copy(world: World, tmp_path: Path) -> None:
    world.one.put("sure/a", "12345")
    config = file(tmp_path, "verify = true")
    for way in ("-verify", config):
        differs = run("-prefix=sure/", *world.both, way)
        assert differs.returncode == 2
        assert "+ sure/a (5 bytes" in differs.stdout
        assert world.two.pairs("sure/") == {}
    before = len(world.into.asked())
    said = good("-once", "-verify", "-prefix=sure/", *world.both)
    assert "1 keys equal, 5 bytes" in said
    asked = [one for one in world.into.asked()[before:] if one.path == "/v1/kv/sure/"]
    # What is believed in the end is what a leader says.
    assert "consistent" in asked[-1].query
    assert "1 keys equal" in good("-prefix=sure/", *world.both, config)
    # Deletes that may not be carried out are differences.
    world.two.put("sure/extra", "x")
    limited = ("-once", "-verify", "-prefix=sure/", "-max-deletes=0")
    assert run(*limited, *world.both).returncode == 14
    assert run("-verify", "-prefix=sure/", *world.both).returncode == 2


@pytest.mark.parametrize("by_file", [False, True])
def test_deletes_wait_for_their_grace(
    world: World, tmp_path: Path, by_file: bool
) -> None:
    tree = f"grace{by_file}/"
    for key in ("back", "gone", "stays"):
        world.one.put(f"{tree}{key}")
    port = free_port()
    # Long enough to see it wait, however slow the machine is.
    way = file(tmp_path, 'delete_after = "4s"') if by_file else "-delete-after=4s"
    flags = (f"-prefix={tree}", *world.both, way, f"-status-addr=127.0.0.1:{port}")
    with daemon(*flags):
        until(lambda: len(world.two.pairs(tree)) == 3)
        world.one.delete(f"{tree}back")
        world.one.delete(f"{tree}gone")
        until(lambda: json.loads(page(port, "status"))[0]["waiting_deletes"] >= 1)
        world.one.put(f"{tree}back", "again")
        until(lambda: world.two.pairs(tree) == {"back": "again", "stays": "v"})
        until(lambda: json.loads(page(port, "status"))[0]["waiting_deletes"] == 0)
        assert "waiting_deletes{" in page(port, "metrics")
    refused = run("-once", *flags)
    assert refused.returncode == 15
    assert "delete_after" in refused.stderr


def test_pushing_from_the_agent_at_hand(world: World, tmp_path: Path) -> None:
    world.one.put("push/a", "1")
    here = f"-consul-addr={world.source.address}"
    there = f"-dest-addr={world.into.address}"
    good("-once", "-push", "-prefix=push/:p1/", here, there, "-consul-token=mine")
    assert world.two.pairs("p1/") == {"a": "1"}
    # The token is the source's; the other cluster never sees it.
    tokens = {one.headers.get("x-consul-token", "") for one in world.into.asked()}
    assert tokens == {""}
    asked = world.source.asked()
    assert {one.headers.get("x-consul-token", "") for one in asked} == {"mine"}
    text = (
        f'push = true\nconsul {{ address = "{world.source.address}" }}\n'
        'destination { datacenter = "dc2" }\n'
        'prefix { source = "push/"\ndestination = "p2/" }\n'
    )
    good("-once", file(tmp_path, text))
    assert world.two.pairs("p2/") == {"a": "1"}
    puts = world.source.asked("PUT")
    assert {one.datacenter for one in puts} == {"dc2"}
    for flags in (("-push", here), ("-push", here, there, "-source-addr=x:1")):
        refused = run("-once", "-prefix=push/", *flags)
        assert refused.returncode == 15
        assert "push:" in refused.stderr
    one = run("-once", "-push", "-prefix=push/", here, f"-dest-addr={here[13:]}")
    assert one.returncode == 14
    assert "one cluster" in one.stderr


def test_the_lag_is_told(world: World) -> None:
    world.one.put("lag/a", "1234")
    port = free_port()
    flags = (
        "-prefix=lag/", *world.both, f"-status-addr=127.0.0.1:{port}", "-no-delete",
        "-reconcile-interval=300ms", "-consul-retry-backoff=50ms",
        "-consul-retry-max-backoff=100ms",
    )  # fmt: skip

    def status() -> dict[str, Any]:
        return json.loads(page(port, "status"))[0]

    with daemon(*flags):
        until(lambda: world.two.pairs("lag/") == {"a": "1234"})
        until(lambda: status()["lag_seconds"] == 0)
        found = status()
        assert (found["lag_index"], found["bytes"], found["written"]) == (0, 4, 1)
        metrics = page(port, "metrics")
        for name in ("lag_index", "lag_seconds", "bytes_total", "deleted_total",
                     "errors_total", "source_keys", "leading"):  # fmt: skip
            assert re.search(
                rf"^pyconsul_replicate_{name}\{{.*\}} [\d.]+$", metrics, re.MULTILINE
            ), name
        # Nothing can be written: it falls behind until that is over.
        world.into.refuse_writes(True)
        world.one.put("lag/a", "6")
        until(lambda: status()["lag_seconds"] > 0 and status()["errors"] > 0)
        world.into.refuse_writes(False)
        until(lambda: world.two.pairs("lag/") == {"a": "6"})
        until(lambda: status()["lag_seconds"] == status()["lag_index"] == 0)


def test_a_service_manager_is_told(world: World, tmp_path: Path) -> None:
    world.one.put("told/a")
    where = tmp_path / "notify"
    config = file(tmp_path, 'prefix { source = "told/" }')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(where))
        manager.settimeout(60)
        process = started(
            config,
            *world.both,
            environ={"NOTIFY_SOCKET": str(where), "WATCHDOG_USEC": "200000"},
        )
        heard: list[str] = []

        def hear(text: str) -> None:
            while True:
                heard.append(manager.recv(4096).decode())
                if re.search(text, heard[-1]):
                    return

        try:
            hear("^READY=1$")
            hear("^STATUS=1 prefixes, 1 keys, up to date\nWATCHDOG=1$")
            process.send_signal(signal.SIGHUP)
            hear(r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
            hear("^READY=1$")
            process.send_signal(signal.SIGTERM)
            hear("^STOPPING=1$")
            assert process.wait(60) == 12
        finally:
            process.kill()
            process.wait()
    # A socket that is not there is no reason to fail.
    assert not os.path.exists(f"{where}-none")
    good("-once", config, *world.both, NOTIFY_SOCKET=f"{where}-none")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_tree_that_goes_away_in_pieces(world: World, at_once: bool) -> None:
    tree = f"mass{at_once}/"
    world.one.fill(f"{tree}k", 1200)
    world.one.put(f"{tree}stays")
    port = free_port()
    flags = (f"-prefix={tree}", *world.both, f"-status-addr=127.0.0.1:{port}")

    def status() -> dict[str, Any]:
        return json.loads(page(port, "status"))[0]

    with daemon(*flags, "-reconcile-interval=500ms"):
        until(lambda: len(world.two.pairs(tree)) == 1201)
        until(lambda: status()["following"])
        if at_once:
            answer = world.one.agent.request("DELETE", f"/v1/kv/{tree}k?recurse")
            assert answer[0] == 200
        else:
            for first in range(0, 1200, 10):
                ops = [
                    {"KV": {"Verb": "delete", "Key": f"{tree}k{number:04d}"}}
                    for number in range(first, first + 10)
                ]
                assert world.one.agent.request("PUT", "/v1/txn", ops)[0] == 200
        until(lambda: status()["refused_deletes"] > 0)
        found = status()
        # Never more than a tenth, however it was cut; all at once none.
        assert found["deleted"] <= (0 if at_once else 120)
        assert len(world.two.pairs(tree)) == 1201 - found["deleted"]
    good("-once", *flags[:3], "-allow-mass-delete")
    assert world.two.pairs(tree) == {"stays": "v"}
