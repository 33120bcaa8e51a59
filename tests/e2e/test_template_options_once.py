"""pyconsul-template's options about templates and files, in runs that end."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_stub import Stub, serving
from template_process import run


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that leads to an agent with all keys."""
    with serving(Stub()) as server:
        yield {"CONSUL_HTTP_ADDR": f"127.0.0.1:{server.server_port}"}


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    text = json.dumps({"template": templates, "once": True, **more})
    (folder / "c.json").write_text(text)
    return "-config=c.json"


def test_one_run_of_many_templates(tmp_path: Path, agent: dict[str, str]) -> None:
    (tmp_path / "kept").write_text("before")
    (tmp_path / "kept").chmod(0o600)
    (tmp_path / "named.txt").write_text("{{ key `a` | toUpper }}")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/part").write_text("part")
    config = write(
        tmp_path,
        {"contents": "{{ key('a') }}", "destination": "new/folder/out"},
        {"contents": "k", "destination": "kept", "backup": True},
        {"contents": "m", "destination": "mode", "perms": "0640"},
        {"contents": "o", "destination": "owned", "user": 65533, "group": 65534},
        {"contents": "i", "destination": "ids", "uid": 65532, "gid": "65533"},
        {
            "contents": "<% key('a') %> {{ }}",
            "destination": "delims",
            "left_delimiter": "<%",
            "right_delimiter": "%>",
        },
        {"source": "named.txt", "destination": "go", "syntax": "gotemplate"},
        {"source": "named.txt", "destination": "engine", "engine": "gotemplate"},
        {
            "contents": "{{ file('inside/part') }}",
            "destination": "file",
            "sandbox_path": str(tmp_path / "inside"),
        },
    )
    done = run(tmp_path, config, **agent)
    if os.geteuid() != 0:
        # Files cannot be given away.
        assert done.returncode == 14
        return
    assert done.returncode == 0, done.stderr

    def text(name: str) -> str:
        return (tmp_path / name).read_text()

    assert text("new/folder/out") == "x"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755
    assert (text("kept"), text("kept.bak")) == ("k", "before")
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "mode").stat().st_mode) == 0o640
    owned, ids = (tmp_path / "owned").stat(), (tmp_path / "ids").stat()
    assert (owned.st_uid, owned.st_gid) == (65533, 65534)
    assert (ids.st_uid, ids.st_gid) == (65532, 65533)
    assert text("delims") == "x {{ }}"
    assert (text("go"), text("engine"), text("file")) == ("X", "X", "part")


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"contents": "x", "destination": "no/out", "create_dest_dirs": False}, 14, "no"),
    (
        {"contents": "{{ {}.a }}", "destination": "o", "error_on_missing_key": True},
        14,
        "a",
    ),
    ({"contents": "{{ 1 // 0 }}", "destination": "o", "error_fatal": False}, 14, ""),
    ({"contents": "{{ key('a') }}", "function_denylist": ["key"]}, 14, "key"),
    ({"contents": "{{ key('a') }}", "function_blacklist": ["k*"]}, 14, "key"),
    (
        {"contents": "{{ file('c.json') }}", "sandbox_path": "none"},
        14,
        "sandbox",
    ),
    ({"contents": "x", "check": "test ! -s {{ path }}"}, 14, "check"),
    ({"contents": "x", "command": "exit 3"}, 14, "3"),
    ({"contents": "x", "command": "sleep 30", "command_timeout": "50ms"}, 14, "0.05"),
    (
        {"contents": "x", "exec": {"command": ["sleep", "30"], "timeout": "50ms"}},
        14,
        "0.05",
    ),
    ({"contents": "x", "syntax": "perl"}, 15, "perl"),
    ({"contents": "x", "engine": "perl"}, 15, "perl"),
    ({"contents": "x", "perms": "9"}, 15, "perms"),
    ({"contents": "x", "user": "no-such-user"}, 15, "user"),
    ({"contents": "x", "source": "y"}, 15, "source"),
    ({"contents": "\u20ac", "encoding": "latin-1"}, 14, "latin-1"),
    ({"contents": "x", "encoding": "rot13"}, 15, "rot13"),
    ({"contents": "x", "min_ratio": 2}, 15, "min_ratio"),
    ({"contents": " ", "on_empty": "fail"}, 14, "empty"),
    ({"contents": "x", "no_such_key": 1}, 15, "no_such_key"),
]


@pytest.mark.parametrize(("block", "status", "named"), WRONG)
def test_what_ends_a_run(
    tmp_path: Path,
    agent: dict[str, str],
    block: dict[str, Any],
    status: int,
    named: str,
) -> None:
    config = write(tmp_path, {"destination": "out", **block})
    done = run(tmp_path, config, **agent)
    assert done.returncode == status, done.stderr
    assert named in done.stderr


def test_the_command_of_a_template(tmp_path: Path, agent: dict[str, str]) -> None:
    config = write(
        tmp_path,
        {
            "contents": "1",
            "destination": "one",
            "exec": {
                "command": "env | sort > environment",
                "env": {
                    "custom": ["OWN=1"],
                    "allowlist": ["CT_*", "P*", "KEPT", "GONE"],
                    "denylist": ["GONE"],
                },
            },
        },
        {
            "contents": "2",
            "destination": "two",
            "exec": {"command": "touch never", "enabled": False},
        },
        {
            "contents": "3",
            "destination": "three",
            "exec": {
                "command": "/usr/bin/env > pristine",
                "env": {"pristine": True, "custom": ["OWN=2"]},
            },
        },
        {
            "contents": "4",
            "destination": "four",
            "exec": {
                "command": "/usr/bin/env > old",
                "env": {"whitelist": ["OLD*"], "blacklist": ["OLD_GONE"]},
            },
        },
    )
    more = {"KEPT": "k", "GONE": "g", "OTHER": "o", "OLD_A": "a", "OLD_GONE": "g"}
    done = run(tmp_path, config, **agent, **more)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "environment").read_text().splitlines()
    assert {"OWN=1", "KEPT=k", f"CT_DESTINATION={tmp_path}/one"} <= set(lines)
    names = {line.partition("=")[0] for line in lines}
    assert names.isdisjoint({"GONE", "OTHER", "CONSUL_HTTP_ADDR"})
    assert not (tmp_path / "never").exists()
    # The shell adds some of its own.
    shells = {"PWD", "OLDPWD", "SHLVL", "_"}

    def named(file: str) -> set[str]:
        lines = (tmp_path / file).read_text().splitlines()
        return {line for line in lines if line.partition("=")[0] not in shells}

    assert named("pristine") == {"OWN=2"}
    assert named("old") == {"OLD_A=a"}


def test_a_command_is_killed_as_told(tmp_path: Path, agent: dict[str, str]) -> None:
    (tmp_path / "ends.sh").write_text(
        "trap 'echo told > told; exit 0' USR1\necho $$ > pid\n"
        "while kill -0 $PPID; do sleep 0.02; done\n"
    )
    (tmp_path / "stays.sh").write_text(
        "trap 'echo told > stayed' USR1\nwhile kill -0 $PPID; do sleep 0.02; done\n"
    )
    for script, made in (("ends.sh", "told"), ("stays.sh", "stayed")):
        block = {
            "contents": script,
            "destination": "out",
            "exec": {
                "command": ["sh", script],
                "timeout": "1s",
                "kill_signal": "USR1",
                "kill_timeout": "1s",
                "splay": "1ms",
                "reload_signal": "",
            },
        }
        done = run(tmp_path, write(tmp_path, block), **agent)
        assert done.returncode == 14
        assert "no end after 1s" in done.stderr
        assert (tmp_path / made).exists()


def test_a_failed_command_and_the_file(tmp_path: Path, agent: dict[str, str]) -> None:
    for by_flag in (True, False):
        (tmp_path / "out").write_text("before")
        block: dict[str, Any] = {"contents": "new", "destination": "out"}
        command = {"command": "! grep -q new out", "on_command_error": "rollback"}
        if by_flag:
            command.pop("on_command_error")
        config = write(tmp_path, block | command)
        more = ("-on-command-error=rollback",) if by_flag else ()
        done = run(tmp_path, config, *more, **agent)
        assert done.returncode == 14
        assert "as it was before" in done.stderr
        assert (tmp_path / "out").read_text() == "before"
    config = write(tmp_path, block | {"command": "false"}, on_command_error="log")
    assert run(tmp_path, config, **agent).returncode == 14
    assert (tmp_path / "out").read_text() == "new"


def test_no_file_outside_the_root(tmp_path: Path, agent: dict[str, str]) -> None:
    (tmp_path / "root").mkdir()
    block = {"contents": "x", "destination": "out"}
    inside = {"contents": "x", "destination": "root/out"}
    for more, flags in (
        ({"destination_root": "root"}, ()),
        ({}, ("-destination-root=root",)),
    ):
        done = run(tmp_path, write(tmp_path, block, **more), *flags, **agent)
        assert done.returncode == 14
        assert "outside" in done.stderr
        assert not (tmp_path / "out").exists()
    config = write(tmp_path, inside, destination_root="root")
    assert run(tmp_path, config, **agent).returncode == 0
    assert (tmp_path / "root/out").read_text() == "x"


def test_the_language_and_its_delimiters(tmp_path: Path, agent: dict[str, str]) -> None:
    (tmp_path / "a.txt").write_text("[[ key `a` ]]")
    flags = ("-once", "-template=a.txt:out", "-syntax=gotemplate")
    both = ("-default-left-delimiter=[[", "-default-right-delimiter=]]")
    assert run(tmp_path, *flags, *both, **agent).returncode == 0
    assert (tmp_path / "out").read_text() == "x"
    config = write(
        tmp_path,
        {"source": "a.txt", "destination": "two"},
        syntax="gotemplate",
        default_delimiters={"left": "[[", "right": "]]"},
    )
    assert run(tmp_path, config, **agent).returncode == 0
    assert (tmp_path / "two").read_text() == "x"


def test_what_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("{{ key('a') }}")
    (tmp_path / "b.j2").write_text("line\n{{ key('a' }}")
    nowhere = ("-consul-addr=127.0.0.1:1", "-template=a.j2:out")
    assert run(tmp_path, "-parse-only", *nowhere).returncode == 0
    wrong = run(tmp_path, "-parse-only", *nowhere, "-template=b.j2:out")
    assert wrong.returncode == 14
    assert "b.j2:2" in wrong.stderr
    good = run(tmp_path, "check", *nowhere)
    assert (good.returncode, good.stdout) == (
        0,
        "1 template and the configuration are good\n",
    )
    wrong = run(tmp_path, "check", "-template=b.j2:out", "-template=c.j2:out")
    assert wrong.returncode == 14
    assert "b.j2:2" in wrong.stderr
    assert "c.j2" in wrong.stderr
    assert not (tmp_path / "out").exists()
    for flag in ("-v", "-version"):
        assert run(tmp_path, flag).stdout.startswith("pyconsul-template v")
    told = run(tmp_path, "-h")
    assert told.returncode == 0
    assert "-exec-kill-signal" in told.stdout


def test_a_dry_run_and_an_explanation(tmp_path: Path, agent: dict[str, str]) -> None:
    (tmp_path / "a.j2").write_text("{{ key('a') }}\n")
    flags = ("-template=a.j2:out:touch ran", "-once")
    done = run(tmp_path, *flags, "-dry", **agent)
    assert (done.returncode, done.stdout) == (0, f"> {tmp_path}/out\nx\n")
    done = run(tmp_path, *flags, "-explain", **agent)
    assert done.returncode == 0
    assert "key" in done.stdout
    assert "a.j2" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.j2"]


def test_a_configuration_in_the_environment(
    tmp_path: Path, agent: dict[str, str]
) -> None:
    local = 'template { contents = "local" destination = "out" }'
    done = run(tmp_path, "-once", CT_LOCAL_CONFIG=local, **agent)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "local"


def test_the_shape_of_a_file(tmp_path: Path, agent: dict[str, str]) -> None:
    for name in ("empty", "short", "half"):
        (tmp_path / name).write_text("1\n2\n3\n4\n")
    for name in ("followed", "replaced"):
        (tmp_path / f"{name}-to").write_text("old")
        (tmp_path / name).symlink_to(f"{name}-to")
    (tmp_path / "a.j2").write_text("\u00e9\r\nb\n")
    config = write(
        tmp_path,
        {"contents": "\n", "destination": "empty", "on_empty": "keep"},
        {"contents": "\n", "destination": "blank", "on_empty": "render"},
        {"contents": "1\n2\n", "destination": "half", "min_ratio": 0.5},
        {"contents": "x", "destination": "new", "min_ratio": 0.5},
        {
            "source": "a.j2",
            "destination": "written",
            "newline": "crlf",
            "encoding": "latin-1",
        },
        {"contents": "new", "destination": "followed", "symlinks": "follow"},
        {"contents": "new", "destination": "replaced", "symlinks": "replace"},
    )
    done = run(tmp_path, config, **agent)
    assert done.returncode == 0, done.stderr
    assert "empty stays as it is: the new text is empty" in done.stderr
    assert (tmp_path / "empty").read_text() == "1\n2\n3\n4\n"
    assert (tmp_path / "blank").read_text() == "\n"
    assert (tmp_path / "half").read_text() == "1\n2\n"
    assert (tmp_path / "new").read_text() == "x"
    assert (tmp_path / "written").read_bytes() == b"\xe9\r\nb\r\n"
    assert (tmp_path / "followed").is_symlink()
    assert (tmp_path / "followed-to").read_text() == "new"
    assert not (tmp_path / "replaced").is_symlink()
    assert (tmp_path / "replaced").read_text() == "new"
    assert (tmp_path / "replaced-to").read_text() == "old"
    short = {"contents": "1\n", "destination": "short", "min_ratio": 0.5}
    done = run(tmp_path, write(tmp_path, short), **agent)
    assert done.returncode == 14
    assert "1 lines instead of 4" in done.stderr
    assert (tmp_path / "short").read_text() == "1\n2\n3\n4\n"
