"""pyconsul-template's ``env_template``: a child's environment from templates."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import Start, run, starter

LOOP = "while kill -0 $PPID; do sleep 0.02; done"
FILE_CHANGES = {
    "": ("as a", 3),
    "reload_signal": ("hup 2", 2),
    "reload_command": ("command", 2),
}
"""What a child's output has after a change of a file, and its starts by then."""
SECRET = "s3cr3t-of-the-service"


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, **keys: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps(keys))
    return "-config=c.json"


def asked(path: Path, target: str) -> str:
    """Return the whole answer of a status socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.")
    return answer.decode()


def child(script: str, **more: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", f"{script}; {LOOP}"], **more}


def test_a_change_of_variables_restarts_the_child_once(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    (tmp_path / "b.j2").write_text("b{{ key('a') }}\n")
    variables = {
        "A": {"contents": "a{{ key('a') }}"},
        "B": {"source": "b.j2"},
    }
    says = "trap 'echo hup $(cat out)' HUP; trap 'echo int; exit 0' INT; echo as $A $B"
    ways: list[dict[str, str]] = [
        {},
        {"reload_signal": "HUP"},
        {"reload_command": "echo command"},
    ]
    for more in ways:
        agent.put("/v1/kv/a", b"1")
        agent.put("/v1/kv/f", b"1")
        block = {"contents": "{{ key('f') }}", "destination": "out"}
        flag = write(
            tmp_path, env_template=variables, exec=child(says, **more), template=[block]
        )
        one = start(flag)
        one.said("as a1 b1")
        # One key makes both: one change, one restart, whatever a reload would be.
        agent.put("/v1/kv/a", b"2")
        one.said("as a2 b2")
        assert one.text().count("as a") == 2
        # A file alone is told of as ever, and the variables stay.
        agent.put("/v1/kv/f", b"2")
        told, starts = FILE_CHANGES[next(iter(more), "")]
        one.said(told, starts if told.startswith("as") else 1)
        assert one.text().count("as a") == starts
        assert one.end(signal.SIGINT) == 0


def test_a_reload_keeps_a_child_whose_variables_stay(
    tmp_path: Path, start: Start
) -> None:
    block = child("echo as $A $B")
    one = start(write(tmp_path, env_template={"A": {"contents": "1"}}, exec=block))
    one.said("as 1")
    write(
        tmp_path,
        env_template={"A": {"contents": "{{ '1' }}"}},
        exec=block,
        log_level="info",
    )
    one.send(signal.SIGHUP)
    one.said("configuration read again")
    one.said("$A is rendered")
    write(
        tmp_path,
        env_template={"B": {"contents": "{{ '2' }}"}},
        exec=block,
        log_level="info",
    )
    one.send(signal.SIGHUP)
    one.said("as 2")
    assert one.text().count("as 1") == 1
    assert one.end() == 0


def test_each_child_has_its_own(tmp_path: Path, start: Start) -> None:
    variables = {
        "ALL": {"contents": "all"},
        "WEB": {"contents": "web", "children": ["web"]},
    }
    execs = {
        "web": child("echo web-$ALL-$WEB."),
        "log": child("echo log-$ALL-$WEB.", env={"pristine": True}),
    }
    one = start(write(tmp_path, env_template=variables, execs=execs))
    one.said("web-all-web.")
    one.said("log-all-.")
    assert one.end() == 0
    text = """
    env_template "ONE" { contents = "1" children = [""] }
    exec { command = ["sh", "-c", "echo only-$ONE."] }
    """
    (tmp_path / "c.hcl").write_text(text)
    done = run(tmp_path, "-config=c.hcl", "-once")
    assert (done.returncode, done.stdout) == (0, "only-1.\n"), done.stderr


def test_a_value_is_in_no_log(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/secret", SECRET.encode())
    variables: dict[str, Any] = {"PASSWORD": {"contents": "{{ key('secret') }}"}}
    block = child("printf %s $PASSWORD > seen")
    keys = {"log_level": "trace", "status_addr": "unix:status.sock"}
    flag = write(tmp_path, env_template=variables, exec=block, **keys)
    one = start(flag)
    one.wrote("seen", SECRET)
    agent.put("/v1/kv/secret", f"{SECRET}-2".encode())
    one.wrote("seen", f"{SECRET}-2")
    state = run(tmp_path, "status", flag)
    assert state.returncode == 0, state.stderr
    assert "$PASSWORD" in state.stdout
    for path in ("status", "metrics", "render", "render/0"):
        assert SECRET not in asked(tmp_path / "status.sock", path)
    assert one.end() == 0
    for text in (one.text(), state.stdout, state.stderr):
        assert SECRET not in text
    assert "$PASSWORD is rendered" in one.text()
    # Nor does a dry run or an explanation show it, or an error of a template.
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    for words, status in ((("-once", "-dry"), 0), (("-explain",), 0)):
        done = run(tmp_path, flag, *words, **address)
        assert done.returncode == status, done.stderr
        assert SECRET not in done.stdout + done.stderr
    done = run(tmp_path, flag, "-once", "-dry", **address)
    assert done.stdout == f"> $PASSWORD\n({len(SECRET) + 2} bytes)\n"
    for contents in (
        "{{ key('secret') | parse_int }}",
        "{{ {}[key('secret')].x.y }}",
        "{{ key('secret') | fromjson }}",
    ):
        variables["PASSWORD"] = {"contents": contents}
        done = run(
            tmp_path,
            write(tmp_path, env_template=variables, exec=block, **keys),
            "-once",
            **address,
        )
        assert done.returncode == 14
        assert "its text is not shown" in done.stderr, done.stderr
        assert SECRET not in done.stderr
    go = {"contents": "{{ key `secret` | parseInt }}", "syntax": "gotemplate"}
    variables["PASSWORD"] = go
    flag = write(tmp_path, env_template=variables, exec=block)
    done = run(tmp_path, flag, "-once", **address)
    assert done.returncode == 14
    assert SECRET not in done.stderr


def test_what_a_variable_may_be(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/text", b" two\nlines \n")
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "f").write_text("file")
    (tmp_path / "out").write_text("no")
    variables = {
        "A": {"contents": "<% key('text') %>", "left_delimiter": "<%",
              "right_delimiter": "%>", "wait": "1ms"},
        "B": {"contents": "{{ key `text` | len }}", "syntax": "gotemplate",
              "wait": {"enabled": True, "min": "1ms", "max": "9ms"}},
        "C": {"contents": "{{ file('box/f') }}", "sandbox_path": "box"},
    }  # fmt: skip
    script = 'printf \'%s|\' "$A" "$B" "$C" > seen'
    one = start(write(tmp_path, env_template=variables, exec=child(script)))
    # One line end at the end is not part of a value.
    one.wrote("seen", " two\nlines |12|file|")
    assert one.end() == 0
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    agent.put("/v1/kv/bytes", b"a\0b")
    agent.put("/v1/kv/long", b"x" * 140_000)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"contents": "{{ file('out') }}", "sandbox_path": "box"}, "outside"),
        ({"contents": "{{ env('HOME') }}", "function_denylist": ["env"]}, "not shown"),
        ({"contents": "{{ {}.x }}", "error_on_missing_key": True}, "not shown"),
        ({"contents": "{{ key('bytes') }}"}, "has a NUL byte"),
        ({"contents": "{{ key('long') }}"}, "over 131071 bytes"),
        ({"contents": " \n", "on_empty": "fail"}, "the new text is empty"),
    ]
    for block, words in wrong:
        flag = write(tmp_path, env_template={"A": block}, exec=child("echo never"))
        done = run(tmp_path, flag, "-once", **address)
        assert done.returncode == 14, block
        assert words in done.stderr, done.stderr
        assert "never" not in done.stdout


def test_a_wrong_value_leaves_the_child_alone(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    variables = {
        "A": {"contents": "{{ key('a') }}", "on_empty": "keep"},
        "B": {"contents": "{{ key('b') | parse_int }}", "error_fatal": False},
    }
    agent.put("/v1/kv/b", b"7")
    one = start(write(tmp_path, env_template=variables, exec=child("echo as $A $B")))
    one.said("as 1 7")
    agent.put("/v1/kv/a", b"")
    one.said("$A stays as it is: the new text is empty")
    agent.put("/v1/kv/b", b"seven")
    one.said("its text is not shown")
    agent.put("/v1/kv/b", b"8")
    one.said("as 1 8")
    assert one.text().count("as 1") == 2
    assert one.end() == 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"env_template": {"A": {"contents": "1"}}}, "there is no exec"),
        (
            {
                "env_template": {"A-B": {"contents": "1"}},
                "exec": {"command": ["true"]},
            },
            "'A-B' is no name of a variable",
        ),
        (
            {
                "env_template": {"A": {"contents": "1", "children": ["x"]}},
                "exec": {"command": ["true"]},
            },
            "there is no exec 'x'",
        ),
        (
            {
                "env_template": {"A": {"contents": "1"}},
                "exec": {"command": ["true"], "env": {"custom": ["A=2"]}},
            },
            "exec.env.custom has A as well",
        ),
        (
            {"env_template": {"A": {}}, "exec": {"command": ["true"]}},
            "give either source or contents",
        ),
        (
            {
                "env_template": {"A": {"contents": "1", "destination": "x"}},
                "exec": {"command": ["true"]},
            },
            "unknown field `destination`",
        ),
    ],
)
def test_a_wrong_block_is_told(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    done = run(tmp_path, write(tmp_path, **keys), "-parse-only")
    assert done.returncode == 15
    assert words in done.stderr


def test_a_variable_may_need_no_server(tmp_path: Path) -> None:
    flag = write(
        tmp_path,
        env_template={"A": {"contents": "x"}},
        exec={"command": ["sh", "-c", "test $A = x && exit 5"]},
    )
    assert run(tmp_path, flag, "-once").returncode == 5
