"""Configuration: files, merging, durations, flags, commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul_template import cli
from pyconsul_template.commands import Command, CommandError, parse_command, run_command
from pyconsul_template.config import (
    ConfigError,
    Settings,
    load_files,
    parse_template_flag,
    parse_wait,
    settle,
)
from pyconsul_template.engine import Wait


def settled(content: dict[str, Any], **options: Any) -> Settings:
    content = {"template": [{"source": "a", "destination": "b"}], **content}
    return settle(content, environ={}, **options)


def test_defaults_are_the_references() -> None:
    settings = settled({})
    (plan,) = settings.templates
    assert (settings.max_stale_s, settings.query_wait_s) == (2.0, 60.0)
    assert (settings.backoff_s, settings.backoff_max_s) == (0.25, 60.0)
    assert settings.consul.url == "http://127.0.0.1:8500"
    assert (plan.wait, plan.command, plan.check) == (None, None, None)
    assert plan.error_fatal
    assert not plan.command_error_fatal


def test_an_unknown_key_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"template": {"source": "a", "bogus_key": 1}}')
    with pytest.raises(ConfigError, match=rf"{path}:1: .*bogus_key.*template"):
        load_files([str(path)])


def test_a_json_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{\n"wait": }')
    with pytest.raises(ConfigError, match=rf"{path}:2: "):
        load_files([str(path)])


def test_a_folder_is_read_in_order_and_templates_add_up(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(
        '{"template": [{"source": "2"}], "consul": {"address": "y"}}'
    )
    (tmp_path / "a.json").write_text(
        '{"template": {"source": "1"}, "consul": {"address": "x", "token": "t"}}'
    )
    (tmp_path / "notes.txt").write_text("not configuration")
    merged = load_files([str(tmp_path)])
    assert [block["source"] for block in merged["template"]] == ["1", "2"]
    assert merged["consul"] == {"address": "y", "token": "t"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", Wait(5, 20)),
        ("5s:10s", Wait(5, 10)),
        ("300ms:1.5h", Wait(0.3, 5400)),
        ("0s", None),
    ],
)
def test_wait(text: str, expected: Wait | None) -> None:
    assert parse_wait(text) == expected


@pytest.mark.parametrize("text", ["5", "10s:5s", "-1s", "x", "5s:"])
def test_a_wrong_wait_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_wait(text)


def test_a_templates_wait_beats_the_global_one_and_once_beats_both() -> None:
    block = {"source": "a", "destination": "b", "wait": "1s"}
    content = {"wait": "5s", "template": [block, {**block, "wait": {"enabled": False}}]}
    waits = [plan.wait for plan in settled(content).templates]
    assert waits == [Wait(1, 4), None]
    assert settled({"wait": "5s"}).templates[0].wait == Wait(5, 20)
    assert settled({"wait": "5s", "once": True}).templates[0].wait is None


@pytest.mark.parametrize(
    "block",
    [
        {"destination": "b"},
        {"source": "a", "contents": "x", "destination": "b"},
        {"source": "a"},
        {"source": "a", "destination": "b", "perms": "0999"},
        {"source": "a", "destination": "b", "user": "no-such-user-here"},
        {"source": "a", "destination": "b", "command_timeout": "soon"},
    ],
)
def test_a_wrong_template_block_is_an_error(block: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"template\[0\]"):
        settle({"template": [block]}, environ={})


def test_perms_are_octal() -> None:
    for perms in ("0640", "640", 640):
        block = {"source": "a", "destination": "b", "perms": perms}
        target = settled({"template": [block]}).templates[0].target
        assert target is not None
        assert target.mode == 0o640


def test_the_command_of_the_flag_keeps_its_colons() -> None:
    assert parse_template_flag("a:b:curl http://x:1/") == {
        "source": "a",
        "destination": "b",
        "command": "curl http://x:1/",
    }


@pytest.mark.parametrize(
    ("value", "argv"),
    [
        ("systemctl reload nginx", ("systemctl", "reload", "nginx")),
        ("echo 'a b' c", ("echo", "a b", "c")),
        ("a && b", ("/bin/sh", "-c", "a && b")),
        ("kill -HUP $(cat /run/x)", ("/bin/sh", "-c", "kill -HUP $(cat /run/x)")),
        ("exit 3", ("/bin/sh", "-c", "exit 3")),
        ("FOO=1 run", ("/bin/sh", "-c", "FOO=1 run")),
        (["a", "b $x"], ("a", "b $x")),
        (["a | b"], ("/bin/sh", "-c", "a | b")),
    ],
)
def test_commands_run_without_a_shell_when_they_are_plain(
    value: str | list[str], argv: tuple[str, ...]
) -> None:
    assert parse_command(value) == Command(argv)


def test_an_empty_command_is_none() -> None:
    assert parse_command("") is parse_command([]) is parse_command("  ") is None


@pytest.mark.parametrize(
    ("argv", "timeout_s", "text"),
    [
        (("/bin/sh", "-c", "exit 3"), 30.0, "exit status 3"),
        (("/bin/sh", "-c", "kill -TERM $$"), 30.0, "ended by SIGTERM"),
        (("/no/such/program",), 30.0, "No such file"),
        (("sleep", "600"), 0.05, "no end after 0.05s, killed"),
    ],
)
@pytest.mark.anyio
async def test_a_failed_command_says_why(
    argv: tuple[str, ...], timeout_s: float, text: str
) -> None:
    with pytest.raises(CommandError, match=text):
        await run_command(Command(argv, timeout_s), {})


def test_a_timeout_ends_the_whole_process_group(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"sleep 600 & echo $! > {pid}; wait"
    with pytest.raises(CommandError, match="killed"):
        asyncio.run(run_command(Command(("/bin/sh", "-c", text), 0.5), {}))
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    # Gone, or a zombie that nobody reaps in this container.
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["-bogus"], 13, "flag provided but not defined: -bogus"),
        (["-once", "operand"], 13, "unexpected argument: operand"),
        (["-once"], 15, "no template"),
        (["-template", "nothere.j2:o", "-once"], 14, "nothere.j2: No such file"),
        (["-template", "a:b", "-wait=x"], 15, "wait"),
        (["-config", "nothere.json"], 15, "nothere.json: No such file"),
    ],
)
def test_exit_status(
    argv: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(argv) == status
    assert text in capsys.readouterr().err


def test_parse_only_checks_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.j2", tmp_path / "bad.j2"
    good.write_text("{{ key('a') }}")
    bad.write_text("\n{{ key( }}")
    config = tmp_path / "c.json"
    config.write_text(
        json.dumps({"template": {"source": str(good), "destination": "x"}})
    )
    assert cli.run(["-parse-only", "-config", str(config)]) == 0
    assert cli.run(["-parse-only", f"-template={bad}:x"]) == 14
    assert f"{bad}:2: " in capsys.readouterr().err
