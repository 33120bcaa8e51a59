"""pyconsul-template's ``atomic_dir``: files that change together, by process."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import Start, run, starter, until

A = {"contents": "{{ key('a') }}", "destination": "a", "atomic_dir": "set"}
B = {"contents": "{{ key('a') }}!", "destination": "d/b", "atomic_dir": "set"}


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"0")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, block: dict[str, Any], *templates: Any, **keys: Any) -> str:
    """Write a configuration with one set; return the flag that names it."""
    content = {"atomic_dir": {"set": block}, "template": templates, **keys}
    (folder / "c.json").write_text(json.dumps(content))
    return "-config=c.json"


def sets(folder: Path) -> list[str]:
    return sorted(n for n in os.listdir(folder) if n.startswith(".live."))


def both(folder: Path) -> tuple[str, str]:
    """Read two files of one set, as who opens the folder once sees them."""
    live = os.open(folder / "live", os.O_RDONLY | os.O_DIRECTORY)
    try:
        texts: list[str] = []
        for name in ("a", "d/b"):
            with open(os.open(name, os.O_RDONLY, dir_fd=live)) as file:
                texts.append(file.read())
    finally:
        os.close(live)
    return texts[0], texts[1]


def test_readers_see_all_of_a_set_or_all_of_the_one_before(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    # The window is small so that sets follow one another.
    block = {"path": "live", "keep": 100, "window": "1ms"}
    one = start(write(tmp_path, block, A, B))
    one.wrote("live/d/b", "0!")
    seen: set[str] = set()
    for number in range(1, 9):
        agent.put("/v1/kv/a", b"%d" % number)

        def is_new(text: str = str(number)) -> bool:
            first, second = both(tmp_path)
            assert second == f"{first}!"
            seen.add(first)
            return first == text

        until(f"set {number}", is_new)
    assert len(seen) == 9
    assert one.end() == 0
    assert len(sets(tmp_path)) == 9
    assert [n for n in os.listdir(tmp_path) if n.endswith((".link", ".tmp"))] == []


def test_what_is_right_already_is_left_alone(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    block = {"path": "live", "command": "echo ran", "perms": "0751"}
    first = {**A, "perms": "0600"}
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    agent.put("/v1/kv/a", b"0")
    flag = write(tmp_path, block, first, B)
    done = run(tmp_path, flag, "-once", **address)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    (name,) = sets(tmp_path)
    assert os.readlink(tmp_path / "live") == name
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o751
    assert stat.S_IMODE((tmp_path / "live/a").stat().st_mode) == 0o600
    done = run(tmp_path, flag, "-once", **address)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sets(tmp_path) == [name]
    # A file of a template that is gone goes, and a dry run writes nothing.
    flag = write(tmp_path, {**block, "keep": 0}, first)
    done = run(tmp_path, flag, "-once", "-dry", **address)
    assert done.returncode == 0
    assert sets(tmp_path) == [name]
    done = run(tmp_path, flag, "-once", **address)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert os.listdir(tmp_path / "live") == ["a"]
    assert len(sets(tmp_path)) == 1
    assert sets(tmp_path) != [name]
    # What is no link is never removed.
    (tmp_path / "c.json").unlink()
    (tmp_path / "live").unlink()
    (tmp_path / "live").mkdir()
    done = run(tmp_path, write(tmp_path, block, A), "-once", **address)
    assert done.returncode == 14
    assert "live: is there and no link; move it away once" in done.stderr
    done = run(
        tmp_path, write(tmp_path, {"path": "x/live"}, A, destination_root="y"),
        "-once", **address,
    )  # fmt: skip
    assert done.returncode == 14
    assert "is outside of" in done.stderr


def test_a_check_and_a_command_belong_to_the_set(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    check = "test $(cat {{ path }}/a) != bad && test -d $CHECK_FILE/d"
    block = {
        "path": "live",
        "check": check,
        "command": "echo ran $CT_DESTINATION; echo $CT_CHANGED; test -d live/d",
        "command_timeout": "20s",
    }
    one = start(write(tmp_path, block, A, B))
    one.said(f"ran {tmp_path}/live\n{tmp_path}/live/a {tmp_path}/live/d/b")
    agent.put("/v1/kv/a", b"bad")
    one.said("stays as it is: check")
    assert both(tmp_path) == ("0", "0!")
    agent.put("/v1/kv/a", b"good")
    one.wrote("live/a", "good")
    one.said("ran ", 2)
    assert one.end() == 0
    assert len(sets(tmp_path)) == 2
    agent.put("/v1/kv/a", b"bad")
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    done = run(tmp_path, "-config=c.json", "-once", **address)
    assert done.returncode == 14
    assert "live stays as it is: check" in done.stderr
    assert both(tmp_path) == ("good", "good!")


def test_a_failed_command_may_bring_the_old_set_back(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    block = {
        "path": "live",
        "command": "echo with $(cat live/a); test $(cat live/a) != bad",
        "on_command_error": "rollback",
    }
    one = start(write(tmp_path, block, A, B))
    one.said("with 0")
    agent.put("/v1/kv/a", b"bad")
    one.said("with bad")
    one.said("with 0", 2)
    assert both(tmp_path) == ("0", "0!")
    agent.put("/v1/kv/a", b"2")
    one.said("with 2")
    assert both(tmp_path) == ("2", "2!")
    assert one.end() == 0
    agent.put("/v1/kv/a", b"bad")
    flag = write(tmp_path, {**block, "on_command_error": "exit"}, A, B)
    one = start(flag)
    assert one.process.wait(30) == 14
    assert both(tmp_path) == ("bad", "bad!")


def test_many_files_from_one_template_and_from_a_folder(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "top.conf.j2").write_text("top {{ key('a') }}")
    (tmp_path / "in" / "sub" / "low.tmpl").write_text('low {{key "a"}}')
    for name in ("x", "y"):
        agent.put(f"/v1/kv/items/{name}", name.encode())
    each = {
        "contents": "{{ item.value }}",
        "for_each": "tree('items')",
        "destination": "items/{{ item.key }}.conf",
        "atomic_dir": "set",
        "on_empty": "keep",
    }
    folder = {"source": "in", "destination": ".", "atomic_dir": "set"}
    one = start(write(tmp_path, {"path": "live"}, each, folder))
    one.wrote("live/items/y.conf", "y")
    assert (tmp_path / "live/top.conf").read_text() == "top 0"
    assert (tmp_path / "live/sub/low").read_text() == "low 0"
    agent.request("DELETE", "/v1/kv/items/x")
    until("x is gone", lambda: os.listdir(tmp_path / "live/items") == ["y.conf"])
    assert (tmp_path / "live/top.conf").read_text() == "top 0"
    agent.request("DELETE", "/v1/kv/items/y")
    one.said("there is no item")
    agent.put("/v1/kv/a", b"1")
    one.wrote("live/top.conf", "top 1")
    assert os.listdir(tmp_path / "live/items") == ["y.conf"]
    # The set and an item have the one name only once.
    assert one.end() == 0
    twice = [{**A, "contents": "1"}, {**A, "contents": "2", "destination": "./a"}]
    done = run(tmp_path, write(tmp_path, {"path": "live"}, *twice), "-once")
    assert done.returncode == 14
    assert "a is made twice" in done.stderr


def test_children_and_health_follow_a_set(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    service = {
        "Name": "web",
        "ID": "w1",
        "Check": {"CheckID": "up", "TTL": "600s", "Status": "passing"},
    }
    agent.put("/v1/agent/service/register", service)
    loop = "while kill -0 $PPID; do sleep 0.02; done"
    child = {
        "command": ["sh", "-c", f"trap 'echo hup $(cat live/a)' HUP; {loop}"],
        "reload_signal": "HUP",
    }
    ways: list[dict[str, str]] = [{"service": "web"}, {"check": "up"}]
    for way in ways:
        agent.put("/v1/kv/a", b"0")
        healthy = {"timeout": "60s", "stable": "10ms", **way}
        block = {"path": "live", "command": "echo ran", "healthy": healthy}
        one = start(write(tmp_path, block, A, B, exec=child, log_level="info"))
        one.said("started the child")
        one.said("ran")
        agent.put("/v1/kv/a", b"1")
        one.said("hup 1")
        agent.put("/v1/kv/a", b"2")
        one.said("hup 2")
        assert one.end() == 0


def test_a_refused_text_keeps_the_set(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/lines", b"1\n2\n3\n4\n")
    lines = {
        "contents": "{{ key('lines') }}",
        "destination": "lines",
        "atomic_dir": "set",
        "min_ratio": 0.5,
    }
    one = start(write(tmp_path, {"path": "live"}, {**A, "on_empty": "keep"}, lines))
    one.wrote("live/lines", "1\n2\n3\n4\n")
    agent.put("/v1/kv/lines", b"1\n")
    one.said("1 lines instead of 4 are less than min_ratio")
    agent.put("/v1/kv/a", b"")
    one.said("live/a stays as it is: the new text is empty")
    agent.put("/v1/kv/a", b"1")
    one.wrote("live/a", "1")
    assert (tmp_path / "live/lines").read_text() == "1\n2\n3\n4\n"
    assert one.end() == 0
    # With once, or told to fail, it ends the run.
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    done = run(tmp_path, "-config=c.json", "-once", **address)
    assert done.returncode == 14
    assert "are less than min_ratio" in done.stderr
    agent.put("/v1/kv/a", b"")
    one = start(write(tmp_path, {"path": "live"}, {**A, "on_empty": "fail"}))
    assert one.process.wait(30) == 14
    assert (tmp_path / "live/a").read_text() == "1"


def test_a_list_that_ends_of_a_sudden_ends_no_daemon(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/names", b'["x"]')
    block = {
        "contents": "{{ item }}",
        "for_each": "key('names') | parseJSON",
        "destination": "made/{{ item }}",
        "on_empty": "keep",
    }
    (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
    one = start("-config=c.json")
    one.wrote("made/x", "x")
    agent.put("/v1/kv/names", b"[]")
    one.said("there is no item any more; the files stay as they are")
    agent.put("/v1/kv/names", b'["x", "y"]')
    one.wrote("made/y", "y")
    assert one.end() == 0
    agent.put("/v1/kv/names", b"[]")
    block["on_empty"] = "fail"
    (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
    assert start("-config=c.json").process.wait(30) == 14
    assert (tmp_path / "made/x").read_text() == "x"
