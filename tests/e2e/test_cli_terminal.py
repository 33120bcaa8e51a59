"""What commands print on a terminal, and into a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from pyconsul.testing import Agent

pytest_plugins = ["pyconsul.testing.plugin"]
COLOUR = re.compile(r"\x1b\[\d*m")


def on_terminal(words: list[str], env: dict[str, str]) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env={"TERM": "xterm", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux: the other side has closed
        pass
    os.close(ours)
    process.wait()
    return shown.decode().replace("\r\n", "\n")


def piped(words: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("words", "coloured"),
    [
        (["members"], "\x1b[32malive\x1b[0m"),
        (["members", "-detailed"], "\x1b[32malive\x1b[0m"),
        (["operator", "raft", "list-peers"], "\x1b[32mleader\x1b[0m"),
        (["catalog", "nodes"], "\x1b[1mNode "),
    ],
)
def test_colours_are_for_terminals_only(
    consul_session_agent: Agent, words: list[str], coloured: str
) -> None:
    env = consul_session_agent.environ
    plain = piped(words, env)
    shown = on_terminal(words, env)
    assert "\x1b" not in plain
    assert coloured in shown
    # Colours change no column.
    assert COLOUR.sub("", shown) == plain


@pytest.mark.parametrize("no", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(
    consul_session_agent: Agent, no: dict[str, str]
) -> None:
    env = consul_session_agent.environ
    assert on_terminal(["members"], env | no) == piped(["members"], env)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["members", "-status=["],
            "Failed to compile status regexp: error parsing regexp: "
            "missing closing ]: `[`\n",
        ),
        (
            ["kv", "import", "x"],
            "Cannot unmarshal data: invalid character 'x' looking for "
            "beginning of value (line 1)\n",
        ),
    ],
)
def test_errors_are_worded_as_consul_words_them(
    consul_session_agent: Agent, words: list[str], text: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env=consul_session_agent.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == text


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["-h", "kv"], "Usage: pyconsul kv <subcommand>"),
        (["--help", "kv", "get"], "Usage: pyconsul kv get"),
        (["kv", "nope", "-h"], "Usage: pyconsul kv <subcommand>"),
        (["kv", "get", "foo", "-help"], "Usage: pyconsul kv get"),
        (["agent", "-dev", "-bind", "-h"], "Usage: pyconsul agent"),
        (["validate", "some.hcl", "-h"], "Usage: pyconsul validate"),
        (["exec", "ls", "-h"], "Usage: pyconsul exec"),
        (["lock", "a", "ls", "-h"], "Usage: pyconsul lock"),
        (["watch", "-h"], "Usage: pyconsul watch"),
    ],
)
def test_help_is_asked_for_anywhere(words: list[str], first: str) -> None:
    assert piped(words, {}).startswith(first)


def test_names_do_not_steer_a_terminal(consul_agent: Agent) -> None:
    node = {"Node": "evil\x1b[2J\x07", "Address": "10.0.0.9"}
    consul_agent.request("PUT", "/v1/catalog/register", node)
    words = ["catalog", "nodes"]
    shown = on_terminal(words, consul_agent.environ)
    assert "evil\\x1b[2J\\x07" in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env={**os.environ, **consul_agent.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    # A script gets what there is.
    assert "evil\x1b[2J\x07" in done.stdout
