"""``contrib/``: completion files are current and work, the unit is valid."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pyconsul.cli.main import COMMANDS
from pyconsul.config.flags import AGENT_FLAGS

CONTRIB = Path(__file__).parents[2] / "contrib"
UNIT = CONTRIB / "systemd" / "pyconsul.service"


def completed(*words: str) -> list[str]:
    script = (
        f'source {CONTRIB}/completion/pyconsul.bash; COMP_WORDS=("$@"); '
        "COMP_CWORD=$(($# - 1)); _pyconsul; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    shown = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()


def test_completion_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(CONTRIB / "completions.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_not_current_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("made", CONTRIB / "completions.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    (tmp_path / "pyconsul.fish").write_text("old")
    assert made.main(["--check"]) == 1
    assert "pyconsul.fish is not current" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["k"], ["keygen", "keyring", "kv"]),
        (["operator", ""], ["autopilot", "raft", "usage"]),
        (["operator", "raft", "l"], ["list-peers"]),
        (["kv", "get", "-re"], ["-recurse"]),
        (["agent", "-dev", "-bootstrap"], ["-bootstrap", "-bootstrap-expect"]),
        (["lock", "-monitor"], ["-monitor-retry"]),
        (["nope", ""], sorted({one.split()[0] for one in COMMANDS})),
    ],
)
def test_bash_completes(words: list[str], expected: list[str]) -> None:
    assert completed("pyconsul", *words) == expected


@pytest.mark.parametrize("name", ["pyconsul.bash", "_pyconsul", "pyconsul.fish"])
def test_every_command_and_flag_is_there(name: str) -> None:
    text = (CONTRIB / "completion" / name).read_text()
    for command in COMMANDS:
        assert re.search(rf"\b{re.escape(command.split()[-1])}\b", text), command
    for flag in AGENT_FLAGS:
        assert re.search(rf"[- ]{re.escape(flag)}\b", text), flag


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/pyconsul/bin/pyconsul", sys.executable)
    copy = tmp_path / "pyconsul.service"
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    mine = [line for line in done.stderr.splitlines() if "pyconsul.service" in line]
    assert mine == []


def test_the_unit_runs_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    program, command, *flags = service["ExecStart"].split()
    assert program.endswith("/pyconsul")
    assert command in COMMANDS
    assert all(flag.lstrip("-").partition("=")[0] in AGENT_FLAGS for flag in flags)
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert service["User"] != "root"


def test_the_image_runs_commands_that_exist_as_nobody_special() -> None:
    text = (CONTRIB / "docker" / "Dockerfile").read_text()
    health = re.search(r'CMD \["pyconsul", (.*)\]', text)
    assert health is not None
    words = re.findall(r'"([^"]+)"', health[1])
    assert " ".join(words[:3]) in COMMANDS
    assert "USER pyconsul" in text.splitlines()


def test_the_image_is_built_from_all_that_is_installed() -> None:
    copied = [
        word
        for line in (CONTRIB / "docker" / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    project = tomllib.loads((CONTRIB.parent / "pyproject.toml").read_text())
    wanted = [
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    ]
    for path in wanted:
        assert path in copied or path.partition("/")[0] in copied, path
        assert (CONTRIB.parent / path).exists()
