"""Two instances of pyconsul-replicate: one works, the other takes over."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
from replicate_world import Instance, World, daemon, file, good, page, run, until

pytestmark = pytest.mark.timeout(300)


def test_one_works_and_the_other_takes_over(world: World) -> None:
    world.one.put("lead/a", "1")
    flags = ("-prefix=lead/", *world.both, "-leader", "-leader-ttl=10s")
    with contextlib.ExitStack() as stack:

        def started() -> Instance:
            made = Instance(*flags)
            stack.callback(made.process.wait)
            stack.callback(made.process.kill)
            return made

        first = started()
        until(lambda: world.two.pairs("lead/") == {"a": "1"})
        second = started()
        until(lambda: second.status().get("leading") is False)
        assert first.leads
        # A standby is as healthy as it should be, and reads nothing.
        assert page(second.port, "health") == "ok\n"
        assert second.status()["passes"] == 0
        (lock,) = world.two.pairs("service/consul-replicate/leader/").values()
        assert lock.endswith(f" {first.process.pid}")
        # One that ends gives the lock back.
        assert first.end(signal.SIGTERM) == 12
        until(lambda: second.leads)
        world.one.put("lead/a", "2")
        until(lambda: world.two.pairs("lead/") == {"a": "2"})
        third = started()
        until(lambda: third.status().get("leading") is False)
        # One that is killed is missed when its session ends.
        assert second.end(signal.SIGKILL) == -signal.SIGKILL
        world.one.put("lead/b", "3")
        until(lambda: world.two.pairs("lead/") == {"a": "2", "b": "3"})
        assert third.leads
        # A session that is ended leads to another.
        status, sessions = world.two.agent.request("GET", "/v1/session/list")
        assert status == 200
        before = third.status()["passes"]
        for session in sessions:
            world.two.agent.request("PUT", f"/v1/session/destroy/{session['ID']}")
        until(lambda: third.leads and third.status()["passes"] > before)
        world.one.put("lead/b", "4")
        until(lambda: world.two.pairs("lead/") == {"a": "2", "b": "4"})
        assert third.end(signal.SIGINT) == 12


def test_keys_of_leaders_are_never_data(world: World, tmp_path: Path) -> None:
    text = """
    leader {
      enabled = true
      key = "all/locks/mine"
      ttl = "15s"
    }
    prefix { source = "all/" }
    """
    config = file(tmp_path, text)
    world.one.put("all/a", "1")
    world.one.put("all/locks/mine", "not ours to copy")
    world.one.put("all/locks/other", "2")
    with daemon(config, *world.both, "-reconcile-interval=200ms"):
        until(lambda: world.two.pairs("all/").get("locks/other") == "2")
        world.one.delete("all/a")
        until(lambda: "a" not in world.two.pairs("all/"))
        assert world.two.pairs("all/")["locks/mine"] != "not ours to copy"
        row = world.two.agent.request("GET", "/v1/kv/all/locks/mine")[1][0]
        found = world.two.agent.request("GET", f"/v1/session/info/{row['Session']}")
        assert found[1][0]["TTL"] == "15s"
    # A flag beats the file; with -once the lock is given back at the end.
    good("-once", config, *world.both, "-leader-key=service/consul-replicate/leader/x")
    held = world.two.agent.request("GET", "/v1/kv/service/consul-replicate/leader/x")
    assert "Session" not in held[1][0]
    # Everything is copied but such keys.
    world.one.put("service/consul-replicate/leader/y", "theirs")
    good("-once", "-prefix=service/:moved/", *world.both, "-leader=false")
    good("-once", "-prefix=service/", *world.both, "-no-delete")
    assert world.two.pairs("moved/") == {}
    assert "y" not in world.two.pairs("service/consul-replicate/leader/")
    assert run("-once", *world.both, "-leader-ttl=1s").returncode == 15


def test_a_run_that_ends_does_not_wait_for_ever(world: World) -> None:
    once = ("-once", "-leader", "-prefix=x/@dc1", "-consul-addr=127.0.0.1:1")
    done = run(*once, "-consul-retry=false")
    assert done.returncode == 14
    assert "service/consul-replicate/leader/" in done.stderr
