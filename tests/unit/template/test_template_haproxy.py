"""What HAProxy is told at run time, and when it has to reload; the socket faked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pyconsul_template.haproxy import (
    Backend,
    Running,
    Server,
    commands_for,
    differences,
    parse_state,
    update_of,
)
from pyconsul_template.haproxy_socket import HaproxyError, apply

OLD = """\
global
    stats socket /run/s
defaults
    mode http
backend web
    balance roundrobin
    server a 10.0.0.1:80 check weight 5   # the first
    server b 10.0.0.2:80 check
backend other
    server a [::1]:81
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def update(new: str, old: str = OLD) -> Any:
    return update_of(old.encode(), new.encode())


def running(address: str, port: int = 80, **more: int) -> Running:
    given = {"weight": 1, "admin_state": 0, "check_state": 6, **more}
    return Running(address, port, **given)


NOW = {"a": running("10.0.0.1", weight=5), "b": running("10.0.0.2")}


def commands(new: str, now: dict[str, Running] = NOW) -> list[str] | None:
    (backend,) = update(new)
    return commands_for(backend, now)


def test_what_differs_in_servers_alone_is_set() -> None:
    new = OLD.replace("10.0.0.1:80 check weight 5", "10.0.0.9:8080 check weight 6")
    assert commands(new) == [
        "set server web/a addr 10.0.0.9 port 8080",
        "set server web/a weight 6",
    ]
    assert commands(OLD.replace(" weight 5", "")) == ["set server web/a weight 1"]
    assert commands(OLD.replace("weight 5", "weight 5 disabled")) == [
        "set server web/a state maint"
    ]
    was = OLD.replace("10.0.0.2:80 check", "10.0.0.2:80 check disabled")
    (backend,) = update(OLD, was)
    assert commands_for(backend, NOW) == ["set server web/b state ready"]


def test_servers_come_before_others_go() -> None:
    new = OLD.replace(
        "server b 10.0.0.2:80 check", "server c [fe80::1]:80 check agent-check weight 2"
    )
    assert commands(new) == [
        "add server web/c [fe80::1]:80 check agent-check weight 2",
        "enable health web/c",
        "enable agent web/c",
        "enable server web/c",
        "set server web/b state maint",
        "del server web/b",
    ]
    new = OLD.replace("server b 10.0.0.2:80 check", "server c 10.0.0.3:80 disabled")
    assert commands(new, {**NOW, "c": running("10.0.0.7", admin_state=1)}) == [
        # Left over, perhaps with other settings.
        "set server web/c state maint",
        "del server web/c",
        "add server web/c 10.0.0.3:80",
        "set server web/b state maint",
        "del server web/b",
    ]


def test_left_over_servers_are_deleted_some_time() -> None:
    left = {"x": running("10.0.0.7", admin_state=1), "y": running("10.0.0.8")}
    new = OLD.replace("weight 5", "weight 6")
    assert commands(new, {**NOW, **left}) == [
        "set server web/a weight 6",
        "del server web/x",
    ]


def test_nothing_that_matters_needs_nothing() -> None:
    assert update(OLD.replace("# the first", "# another")) == ()
    assert update("# made at noon\n\n" + OLD) == ()
    swapped = OLD.splitlines(keepends=True)
    swapped[6], swapped[7] = swapped[7], swapped[6]
    assert update("".join(swapped)) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mode http", "mode tcp"),
        ("backend other", "backend another"),
        ("check weight 5", "check inter 1s weight 5"),
        ("10.0.0.1:80", "web.example:80"),
        ("10.0.0.1:80", "10.0.0.1"),
        ("10.0.0.1:80", "10.0.0.1:0"),
        ("10.0.0.1:80", "10.0.0.1:70000"),
        ("10.0.0.1:80", "10.0.0.1:+1"),
        ("weight 5", "weight 257"),
        ("weight 5", "weight"),
        ("server b ", "server a "),
        ("server b 10.0.0.2:80 check", 'server b 10.0.0.2:80 check sni str("x")'),
        ("10.0.0.2:80 check", "10.0.0.2:80 check cookie $X"),
        ("mode http", ".if defined(X)\n    mode http"),
        ("mode http", "mode http\n    default-server inter 1s"),
        ("backend other", "backend web"),
    ],
)
def test_all_else_needs_a_reload(before: str, after: str) -> None:
    assert before in OLD
    assert update(OLD.replace(before, after, 1)) is None
    assert update(OLD, OLD.replace(before, after, 1)) is None


@pytest.mark.parametrize(
    "line",
    [
        # A command of the socket's after the semicolon, or an argument of ours.
        "server c;shutdown 10.0.0.3:80",
        "server c 10.0.0.3:80 check;disable frontend f",
        "server c 10.0.0.3:80 cookie c;quit",
        "server c 10.0.0.3:80 cookie <<",
    ],
)
def test_no_name_or_word_becomes_a_command(line: str) -> None:
    assert update(OLD.replace("server b 10.0.0.2:80 check", line)) is None


def test_default_server_is_in_the_way_where_it_counts() -> None:
    old = OLD.replace("balance", "default-server inter 1s weight 9\n    balance")

    def changed(before: str, after: str) -> Any:
        return update(old.replace(before, after), old)

    assert changed("10.0.0.1:80", "10.0.0.9:80")
    assert changed("weight 5", "weight 6")
    assert changed("    server b 10.0.0.2:80 check\n", "")
    assert changed("check weight 5", "check") is None
    assert changed("check weight 5", "check weight 5 disabled") is None
    assert changed("server b ", "server c ") is None


def test_too_much_at_once_is_a_reload() -> None:
    lines = "".join(f"  server s{n} 10.1.{n // 200}.{n % 200}:80\n" for n in range(900))
    old = f"backend web\n{lines}"
    assert update(old.replace(":80\n", ":81\n"), old) is None
    assert len(update(old.replace(":80\n", ":81\n", 300), old)[0].changed()) == 300
    assert update_of(b"\xff", b"") is None


@pytest.mark.parametrize(
    "now",
    [
        {},
        {"a": NOW["a"]},
        {**NOW, "b": running("10.0.0.3")},
        {**NOW, "b": running("10.0.0.2", 81)},
    ],
)
def test_another_haproxy_than_the_old_file_is_reloaded(now: dict[str, Running]) -> None:
    assert commands(OLD.replace("weight 5", "weight 6"), now) is None


def test_what_it_runs_is_compared_with_what_it_should() -> None:
    old = {"a": Server("10.0.0.1", 80, 5), "b": Server("10.0.0.2", 80)}
    new = {
        "a": Server("10.0.0.9", 80, 6),
        "c": Server("10.0.0.3", 80, None, False, ("check",)),
    }
    backend = Backend("web", old, new)
    good = {
        "a": running("10.0.0.9", weight=6),
        "b": running("10.0.0.2", admin_state=1),
        "c": running("10.0.0.3"),
    }
    assert differences(backend, good) == []
    assert differences(backend, {k: v for k, v in good.items() if k != "b"}) == []
    for name, wrong, words in (
        ("a", running("10.0.0.1", weight=6), "web/a is at 10.0.0.1:80"),
        ("a", running("10.0.0.9", weight=5), "web/a has weight 5"),
        ("b", running("10.0.0.2"), "web/b is in use"),
        ("c", running("10.0.0.3", admin_state=1), "web/c is not in use"),
        ("c", running("10.0.0.3", check_state=0), "web/c is not checked"),
        ("c", running("10.0.0.3", weight=2), "web/c has weight 2"),
    ):
        assert differences(backend, {**good, name: wrong}) == [words]
    assert differences(backend, {"a": good["a"]}) == ["web/c is not there"]


@pytest.mark.parametrize(
    "text", ["", "Permission denied\n", "1\n# be_name\n1 web\n", "1\nno\n"]
)
def test_only_a_state_is_a_state(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_state(text)


COLUMNS = (
    "be_name srv_name srv_addr srv_port srv_uweight srv_admin_state srv_check_state"
)


class FakeSocket:
    """Answers as often as it has answers; keeps what it was asked."""

    def __init__(self, states: list[str]) -> None:
        self.states = states
        self.asked: list[str] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        line = (await reader.readline()).decode()
        self.asked.append(line.strip())
        answer = "\n"
        if line.startswith("show"):
            answer = f"1\n# {COLUMNS}\n{self.states.pop(0)}\n\n" if self.states else ""
        writer.write(answer.encode())
        writer.close()


@asynccontextmanager
async def listening(path: Path, fake: FakeSocket) -> AsyncIterator[None]:
    async with await asyncio.start_unix_server(fake.serve, path):
        yield


ROWS = "web a 10.0.0.1 80 5 0 6\nweb b 10.0.0.2 80 1 0 6"
NEW = OLD.replace("weight 5", "weight 6")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.anyio
async def test_the_socket_is_asked_before_and_after(path: Path) -> None:
    fake = FakeSocket([ROWS, ROWS.replace(" 5 ", " 6 ")])
    async with listening(path, fake):
        assert await apply(str(path), update(NEW)) == 1
    state = "show servers state"
    assert fake.asked == [state, "set server web/a weight 6", state]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([ROWS, ROWS], "web/a has weight 5"),
        ([ROWS], "no answer"),
        (["web a 10.0.0.1 80 5 0 6"], "does not run the servers of web"),
    ],
)
async def test_what_was_not_done_is_an_error(
    path: Path, states: list[str], words: str
) -> None:
    async with listening(path, FakeSocket(states)):
        with pytest.raises(HaproxyError, match=words):
            await apply(str(path), update(NEW))


@pytest.mark.anyio
async def test_without_a_change_nobody_is_asked(path: Path) -> None:
    assert await apply(str(path), ()) == 0
    with pytest.raises(HaproxyError, match="No such file"):
        await apply(str(path), update(NEW))


@pytest.mark.anyio
async def test_many_commands_are_several_lines(path: Path) -> None:
    old = "backend web\n" + "".join(f"  server s{n} 10.0.0.1:80\n" for n in range(400))
    rows = "\n".join(f"web s{n} 10.0.0.1 80 1 0 6" for n in range(400))
    fake = FakeSocket([rows, rows.replace(" 80 ", " 81 ")])
    async with listening(path, fake):
        assert await apply(str(path), update(old.replace(":80", ":81"), old)) == 400
    assert len(fake.asked) > 3
    assert all(len(line) <= 8000 for line in fake.asked)
    assert sum(line.count("set server") for line in fake.asked) == 400
