"""Every command and flag has a recorded text somewhere that a real agent is asked.

Counted are the conformance kit's cases and the scenes of ``cli_scenes``, where
both exit status and text are compared; what needs a cluster is named below with
the test that has it.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cli_scenes import SCENES

from pyconsul.cli.main import COMMANDS, GROUPS
from pyconsul_client.goflags import FlagSet
from pyconsul_client.options import add_client_flags, add_server_flags

TESTS = Path(__file__).parents[2]
CASES = TESTS / "conformance" / "cases"
TLS = TESTS / "e2e" / "test_cli_every_command.py"
TOOLS = {
    "exec": "pyconsul_watch.exec",
    "lock": "pyconsul_watch.lock",
    "watch": "pyconsul_watch.cli",
}
CLUSTER = {
    "debug": "test_cli_cluster.py::test_debug",
    "force-leave": "test_cli_cluster.py::test_force_leave",
    "join": "test_cli_cluster.py::test_join",
    "keyring": "test_cli_cluster.py::test_keyring",
    "leave": "test_cli_cluster.py::test_leave",
    "members": "test_cli_cluster.py::test_members",
    "operator raft list-peers": (
        "test_cli_cluster.py::test_operator_raft_and_autopilot"
    ),
    "operator raft remove-peer": (
        "test_cli_remove_peer.py::test_servers_that_are_gone_are_removed"
    ),
    "operator raft transfer-leader": (
        "test_cluster_snapshot.py::test_the_leadership_is_transferred"
    ),
    "snapshot restore": (
        "test_cluster_snapshot.py::"
        "test_a_state_saved_through_a_client_is_restored_through_a_follower"
    ),
}
"""What only several agents show at its best, and the test that does."""


@cache
def typed() -> list[tuple[list[str], bool, bool]]:
    """Return words typed, whether text is compared, whether it ends with 0."""
    return [*_typed()]


def _typed() -> Iterator[tuple[list[str], bool, bool]]:
    for path in sorted(CASES.glob("*.json")):
        begun: dict[str, list[str]] = {}
        for step in json.loads(path.read_text())["steps"]:
            wanted = step.get("expect", {})
            seen = {"stdout", "stderr", "json"} & wanted.keys()
            if "cli" in step:
                line = step["cli"]
                words = shlex.split(line) if isinstance(line, str) else list(line)
                begun[step.get("background", "")] = words
            elif "end" in step:
                # The output of what went on in the background.
                words = begun[step["end"]]
                seen = seen or {"until"} & step.keys()
            else:
                continue
            yield words, bool(seen), wanted.get("exit") == 0
    for steps in SCENES.values():
        for step in steps:
            yield step.words, True, step.status == 0


def named(words: list[str]) -> str:
    """Return the command that the words begin with, or nothing."""
    at = 0
    while at < len(words) and " ".join(words[: at + 1]) in GROUPS:
        at += 1
    name = " ".join(words[: at + 1])
    return name if name in COMMANDS else ""


def flags_of(command: str) -> set[str]:
    if command in TOOLS:
        listed = importlib.import_module(TOOLS[command]).declared().listed()
    else:
        module, _, name = COMMANDS[command].partition(":")
        listed = getattr(importlib.import_module(f"pyconsul.cli.{module}"), name)
        listed = listed.flags().listed()
    return {name for name, _, _ in listed}


def shared() -> set[str]:
    """Return the flags of all commands that ask the agent: one code for all."""
    flags = FlagSet()
    add_client_flags(flags)
    add_server_flags(flags)
    return {name for name, _, _ in flags.listed()} | {"namespace"}


@cache
def flags_typed() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for words, compared, _ in typed():
        name = named(words)
        if not name or not compared:
            continue
        given = words[len(name.split()) :]
        if "--" in given:
            given = given[: given.index("--")]
        found.setdefault(name, set()).update(
            word.lstrip("-").partition("=")[0] for word in given if word[:1] == "-"
        )
    return found


def functions(file: str) -> dict[str, ast.AST]:
    tree = ast.parse((TESTS / "e2e" / file).read_text())
    return {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}


def strings(tree: ast.AST) -> list[str]:
    """Return the texts in a piece of Python, as they are written."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@cache
def flags_in_tests_of(tool: str) -> set[str]:
    """Return the flags that the tests of a tool type."""
    files = [*TESTS.glob(f"e2e/test_*{tool}*.py"), *TESTS.glob(f"unit/{tool}/*.py")]
    texts = " ".join(text for file in files for text in strings(parsed(file)))
    return set(re.findall(r"(?<![\w-])--?([a-z][a-z-]*)", texts))


def parsed(file: Path) -> ast.AST:
    return ast.parse(file.read_text())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_has_its_text_recorded(command: str) -> None:
    ends = [
        good
        for words, compared, good in typed()
        if compared and named(words) == command
    ]
    assert ends, f"nothing compares what {command} prints"
    if command not in CLUSTER and command != "agent":
        assert any(ends), f"nothing shows {command} succeed"


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"agent", "validate"}))
def test_a_flag_has_its_text_recorded(command: str) -> None:
    missing = flags_of(command) - shared() - flags_typed()[command]
    if command == "watch":
        # What Consul does not have is tested where the tool is.
        missing -= flags_in_tests_of("watch")
    assert not missing, f"nothing compares what these do: {sorted(missing)}"


def test_shared_flags_are_typed() -> None:
    every = set[str]().union(*flags_typed().values())
    # These need an agent with TLS, which test_cli_every_command.py has.
    source = " ".join(strings(parsed(TLS)))
    every |= {flag for flag in shared() if f"-{flag}=" in source}
    assert shared() <= every


@pytest.mark.parametrize("command", sorted(CLUSTER))
def test_the_cluster_runs_it(command: str) -> None:
    file, _, name = CLUSTER[command].partition("::")
    test = functions(file)[name]
    said = strings(test)
    assert set(command.split()) <= set(" ".join(said).split())
    assert any(isinstance(node, ast.Assert) for node in ast.walk(test))


def test_groups_explain_themselves_in_the_record() -> None:
    told = {
        " ".join(words) for words, compared, good in typed() if compared and not good
    }
    assert {"catalog", "kv", "operator", "tls"} <= told
