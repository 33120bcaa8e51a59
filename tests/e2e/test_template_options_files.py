"""pyconsul-template's options of which files are made, and how."""

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
from template_process import PROGRAM, Start, environment, run, starter, until

ONE = {"contents": "{{ key('a') }}", "destination": "out"}


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps({"template": templates, **more}))
    return "-config=c.json"


def once(folder: Path, agent: RunningAgent, *argv: str) -> tuple[int, str]:
    """Run it once; return its status and what it said."""
    address = f"127.0.0.1:{agent.ports['http']}"
    done = run(folder, "-once", *argv, CONSUL_HTTP_ADDR=address)
    return done.returncode, done.stdout + done.stderr


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_a_file_for_each_item(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    for core in ("one", "two"):
        agent.put(f"/v1/kv/cores/{core}/size", b"1")
    block = {
        "contents": "{{ item.key }} {{ item.value.size.value }} {{ key('a') }}",
        "for_each": "tree('cores') | byKey",
        "destination": "made/core-{{ item.key }}.conf",
        "command": 'printf "%s\\n" "$CT_CHANGED" >> ran; echo end >> ran',
    }
    one = start(write(tmp_path, block))
    one.wrote("made/core-one.conf", "one 1 1")
    one.wrote("made/core-two.conf", "two 1 1")
    until("the command", lambda: "end" in (tmp_path / "ran").read_text())
    ran = (tmp_path / "ran").read_text().splitlines()
    assert [Path(line).name for line in ran] == [
        "core-one.conf",
        "core-two.conf",
        "end",
    ]
    agent.put("/v1/kv/cores/three/size", b"3")
    one.wrote("made/core-three.conf", "three 3 1")
    agent.put("/v1/kv/a", b"2")
    one.wrote("made/core-three.conf", "three 3 2")
    one.wrote("made/core-one.conf", "one 1 2")
    agent.request("DELETE", "/v1/kv/cores/two?recurse")
    until("its removal", lambda: not (tmp_path / "made/core-two.conf").exists())
    until("the commands", lambda: (tmp_path / "ran").read_text().count("end") == 4)
    assert "core-two.conf\nend\n" in (tmp_path / "ran").read_text()
    assert one.end() == 0
    # An item that vanished while nobody ran; what we did not make stays.
    (tmp_path / "made/other.conf").write_text("mine")
    agent.request("DELETE", "/v1/kv/cores/three?recurse")
    status, said = once(tmp_path, agent, "-config=c.json", "-dry")
    assert status == 0
    assert f"- {tmp_path}/made/core-three.conf" in said
    assert names(tmp_path / "made") == [
        "core-one.conf",
        "core-three.conf",
        "other.conf",
    ]
    assert once(tmp_path, agent, "-config=c.json")[0] == 0
    assert names(tmp_path / "made") == ["core-one.conf", "other.conf"]


def test_for_each_keeps_to_its_folder_and_believes_no_sudden_end(
    tmp_path: Path, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/names", b'["x", "y"]')
    agent.put("/v1/kv/a", b"1")
    block = {
        "contents": "{{ item }}",
        "for_each": "key('names') | parseJSON",
        "destination": "made/{{ item }}",
        "on_empty": "keep",
        "min_ratio": 0.5,
        "backup": True,
    }
    config = write(tmp_path, block)
    assert once(tmp_path, agent, config)[0] == 0
    assert names(tmp_path / "made") == ["x", "y"]
    for bad in ("../z", "a/../../z", "x\nz", "", "x/"):
        agent.put("/v1/kv/names", json.dumps(["x", "y", bad]).encode())
        status, said = once(tmp_path, agent, config)
        assert status == 14, bad
        assert "is no file below" in said
        assert names(tmp_path / "made") == ["x", "y"]
    agent.put("/v1/kv/names", b'["x", "x"]')
    assert "two items have the file" in once(tmp_path, agent, config)[1]
    agent.put("/v1/kv/names", b"[]")
    status, said = once(tmp_path, agent, config)
    assert (status, "there is no item any more" in said) == (14, True)
    assert names(tmp_path / "made") == ["x", "y"]
    agent.put("/v1/kv/names", b'["y"]')
    assert once(tmp_path, agent, config)[0] == 0
    assert names(tmp_path / "made") == ["x.bak", "y"]
    # A Go template has the item as its dot.
    (tmp_path / "t.ctmpl").write_text('{{ .Key }} is {{ .Value }} {{ key "a" }}')
    block = {
        "source": "t.ctmpl",
        "for_each": "tree('pairs')",
        "destination": "go/{{ item.key }}",
    }
    agent.put("/v1/kv/pairs/b/c", b"v")
    assert once(tmp_path, agent, write(tmp_path, block)) == (0, "")
    assert (tmp_path / "go/b/c").read_text() == "b/c is v 1"
    assert (
        once(tmp_path, agent, write(tmp_path, {**block, "destination": "go/x"}))[0]
        == 15
    )
    # The folder of all of them may not lead out of the root either.
    (tmp_path / "in").mkdir()
    (tmp_path / "in/out").symlink_to(tmp_path)
    inside = {**block, "destination": "in/out/{{ item.key | replace('/', '-') }}"}
    config = write(tmp_path, inside, destination_root="in")
    status, said = once(tmp_path, agent, config)
    assert (status, "is outside of" in said) == (14, True)
    assert not (tmp_path / "b-c").exists()


def test_a_held_item_holds_no_other(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/each/a", b"x")
    agent.put("/v1/kv/each/b", b"absent")
    block = {
        "contents": "{{ key(item.value) }}",
        "for_each": "ls('each')",
        "destination": "made/{{ item.key }}",
    }
    agent.put("/v1/kv/x", b"here")
    one = start(write(tmp_path, block))
    one.wrote("made/a", "here")
    assert not (tmp_path / "made/b").exists()
    agent.put("/v1/kv/absent", b"now")
    one.wrote("made/b", "now")
    assert one.end() == 0


def test_a_folder_of_templates(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/a.conf.j2").write_text("j {{ key('a') }}")
    (tmp_path / "in/sub/b.ctmpl").write_text('g {{ key "a" }}')
    (tmp_path / "in/README.md").write_text("{{ nothing }}")
    (tmp_path / "in/.hidden").write_text("{{ nothing }}")
    block = {"source": "in", "destination": "made", "exclude": ["*.md"]}
    one = start(write(tmp_path, block))
    one.wrote("made/a.conf", "j 1")
    one.wrote("made/sub/b", "g 1")
    assert names(tmp_path / "made") == ["a.conf", "sub"]
    (tmp_path / "in/new.j2").write_text("new {{ key('a') }}")
    one.wrote("made/new", "new 1")
    one.said("templates came or went")
    assert one.end() == 0
    pattern = "made/{{ folder }}/{{ stem }}-x{{ suffix }}"
    config = write(tmp_path, {**block, "destination": pattern})
    assert once(tmp_path, agent, config)[0] == 0
    assert (tmp_path / "made/a-x.conf").read_text() == "j 1"
    assert (tmp_path / "made/sub/b-x").read_text() == "g 1"
    config = write(tmp_path, {**block, "destination": "made/{{ stem }}"})
    (tmp_path / "in/sub/new.j2").write_text("")
    status, said = once(tmp_path, agent, config)
    assert (status, "are both made/new" in said) == (15, True)
    config = write(tmp_path, {**block, "destination": "made/{{ colour }}"})
    assert once(tmp_path, agent, config)[0] == 15


def test_more_folders_for_include(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    for folder in ("own", "first", "second"):
        (tmp_path / folder).mkdir()
    (tmp_path / "first/part").write_text("first {{ key('a') }}")
    (tmp_path / "second/part").write_text("second")
    (tmp_path / "second/other").write_text("{% macro m() %}other{% endmacro %}")
    text = "{% include 'part' %} {% from 'other' import m %}{{ m() }}"
    (tmp_path / "own/t.j2").write_text(text)
    block = {"source": "own/t.j2", "destination": "out"}
    bare = {"contents": text, "destination": "two"}
    config = write(tmp_path, block, bare, template_path=["first", "second"])
    one = start(config)
    one.wrote("out", "first 1 other")
    one.wrote("two", "first 1 other")
    (tmp_path / "first/part").write_text("changed {{ key('a') }}")
    one.wrote("out", "changed 1 other")
    one.wrote("two", "changed 1 other")
    assert one.end() == 0
    config = write(tmp_path, block)
    flags = ("-template-path=second", "-template-path=first")
    assert once(tmp_path, agent, config, *flags)[0] == 0
    assert (tmp_path / "out").read_text() == "second other"
    assert once(tmp_path, agent, config)[0] == 14


def test_a_file_written_in_place(tmp_path: Path, agent: RunningAgent) -> None:
    agent.put("/v1/kv/a", b"1")
    out = tmp_path / "out"
    for atomic in ("never", "prefer", "require"):
        out.write_text("a longer text")
        with out.open() as before:
            keys = {"atomic": atomic, "perms": "0640", "backup": True}
            config = write(tmp_path, {**ONE, **keys})
            assert once(tmp_path, agent, config) == (0, "")
            same = os.fstat(before.fileno()).st_ino == out.stat().st_ino
        assert out.read_text() == "1"
        assert same == (atomic == "never")
        assert out.stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "out.bak").read_text() == "a longer text"
        assert sorted(p.name for p in tmp_path.glob("*out*")) == ["out", "out.bak"]


@pytest.mark.parametrize("mount", ["file", "folder"])
def test_a_file_that_cannot_be_renamed_onto(
    tmp_path: Path, agent: RunningAgent, mount: str
) -> None:
    unshare = shutil.which("unshare")
    space = (unshare or "", "-Urm", "sh", "-c")
    script = "mount --bind real made/out && "
    if mount == "folder":
        script = "mount --bind made made && mount --bind real made/out && "
        script += "mount -o remount,bind,ro made && "
    (tmp_path / "made").mkdir()
    (tmp_path / "made/out").write_text("")
    (tmp_path / "real").write_text("old")
    trial = subprocess.run([*space, script + "true"], cwd=tmp_path, check=False)
    if not unshare or trial.returncode:
        pytest.skip("no namespaces here")
    agent.put("/v1/kv/a", b"1")
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    for atomic, status, text in (("require", 14, "old"), ("prefer", 0, "1")):
        block = {**ONE, "destination": "made/out", "atomic": atomic, "backup": True}
        config = write(tmp_path, block)
        done = subprocess.run(
            [*space, script + 'exec "$0" -once "$@"', PROGRAM, config],
            cwd=tmp_path,
            env=environment(tmp_path, address),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert (tmp_path / "real").read_text() == text
        backup = tmp_path / "made/out.bak"
        assert not backup.exists() or backup.read_text() == "old"
        assert not list((tmp_path / "made").glob(".*"))


def test_a_command_at_the_start(tmp_path: Path, agent: RunningAgent) -> None:
    agent.put("/v1/kv/a", b"1")
    for when, count in (("changed", 1), ("always", 3)):
        block = {**ONE, "run_at_start": when, "command": "echo ran >> ran"}
        for _ in range(2):
            assert once(tmp_path, agent, write(tmp_path, block))[0] == 0
        assert (tmp_path / "ran").read_text().count("ran") == count


def test_a_configuration_in_yaml(tmp_path: Path, start: Start) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/c.yaml").write_text(
        "template:\n  - contents: \"{{ key('a') }}\"\n    destination: out\n"
        "    perms: 0600\nkill_signal: USR1\n"
    )
    one = start("-config=d")
    one.wrote("out", "1")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert one.end(signal.SIGUSR1) == 0
    (tmp_path / "d/c.yaml").write_text("template: [}")
    assert "c.yaml" in run(tmp_path, "-config=d").stderr
