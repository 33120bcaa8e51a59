from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pyconsul.cli.errors import NothingFoundError, WrongUsageError, exit_status
from pyconsul.cli.main import COMMANDS


@pytest.mark.parametrize("arguments", [(), ("nope",), ("--nope",), ("nope", "-h")])
def test_an_unknown_command_shows_all_of_them(run: Any, arguments: Any) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (127, "")
    assert err.startswith("Usage: pyconsul ")
    assert all(name.split()[0] in err for name in COMMANDS)


def test_help_goes_to_stdout(run: Any) -> None:
    status, out, err = run("-help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage:")


@pytest.mark.parametrize(
    "arguments", [("kv",), ("kv", "nope"), ("kv", "-stale", "get")]
)
def test_a_group_shows_its_commands(run: Any, arguments: Any) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("Usage: pyconsul kv ")
    assert "import" in err


def test_flags_before_the_command_are_told_so(run: Any) -> None:
    status, _, err = run("-stale", "kv", "get", "x")
    assert status == 1
    assert err.startswith("Invalid flags before the subcommand.")


@pytest.mark.parametrize("name", [name for name, place in COMMANDS.items() if place])
def test_every_command_explains_itself(agent: Any, run: Any, name: str) -> None:
    status, out, err = run(*name.split(), "operand", "-h")
    assert (status, err, agent.asked) == (0, "", [])
    assert out.startswith(f"Usage: pyconsul {name}")


def test_a_bad_flag_shows_the_usage(agent: Any, run: Any) -> None:
    status, out, err = run("kv", "get", "-nope", "a")
    assert (status, out, agent.asked) == (1, "", [])
    assert err.startswith(
        "flag provided but not defined: -nope\nUsage: pyconsul kv get"
    )


def test_flags_after_an_operand_are_operands(agent: Any, run: Any) -> None:
    error = "Too many arguments (expected 1, got 2)\n"
    assert run("kv", "get", "a", "-stale") == (1, "", error)


def test_an_unknown_scheme_is_refused(
    agent: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "ftp://x")
    error = "Error connecting to Consul agent: Unknown protocol scheme: ftp\n"
    assert run("kv", "get", "a") == (1, "", error)


def test_an_agent_that_is_down_is_told(agent: Any, run: Any) -> None:
    agent.down = True
    assert run("kv", "get", "a")[2].startswith("Error querying Consul agent: ")
    assert run("members")[2].startswith("Error retrieving members: ")
    assert run("kv", "put", "a")[2].startswith("Error! Failed writing data: ")


def test_the_token_is_sent(
    agent: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from-environment")
    run("kv", "get", "a")
    run("kv", "get", "-token=from-flag", "a")
    tokens = [headers["X-Consul-Token"] for _, _, headers in agent.asked]
    assert tokens == ["from-environment", "from-flag"]


@pytest.mark.parametrize("word", ["version", "--version", "-v"])
def test_version(run: Any, word: str) -> None:
    status, out, _ = run(word)
    assert (status, out.splitlines()[0]) == (0, "Consul v1.10.11")


def test_version_in_an_unknown_format_fails(run: Any) -> None:
    assert run("version", "-format=xml") == (1, "", "Unknown format: xml\n")
    assert '\n   "RPC": {' in run("version", "-format=json")[1]


def test_the_nearest_ancestor_gives_the_exit_status() -> None:
    assert exit_status(NothingFoundError()) == 2
    assert exit_status(WrongUsageError("x")) == 1
    assert exit_status(ConnectionRefusedError()) == 1
    assert exit_status(ValueError()) == 1


def test_reading_a_key_imports_nothing_slow() -> None:
    heavy = "{'asyncio','click','dataclasses','httpx','json','msgspec','ssl','typing'}"
    code = (
        "import sys, pyconsul.cli.main, pyconsul.cli.kv_read\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout == "[]\n"
