"""What pyconsul-template's status shows of texts, and with what it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent, free_port
from template_process import Start, starter, until

ONE = {"contents": "{{ key('a') }}\n", "destination": "out"}


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps({"template": templates, **more}))
    return "-config=c.json"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def page(where: int | Path, target: str, host: str = "") -> tuple[int, str, bytes]:
    """Return status, content type and body of a page of the status."""
    if isinstance(where, int):
        connection = http.client.HTTPConnection("127.0.0.1", where, timeout=20)
    else:
        connection = UnixConnection(where)
    connection.request("GET", target, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read()
    connection.close()
    return found


def test_the_text_of_each_template_is_a_page(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/e/x", b"one")
    agent.put("/v1/kv/e/y", b"two")
    wide = {
        "contents": "é\n{{ key('a') }}",
        "destination": "wide",
        "encoding": "utf-16-le",
        "newline": "crlf",
    }
    waits = {"contents": "{{ key('none') }}", "destination": "waits"}
    many = {
        "contents": "is {{ item.value }}",
        "for_each": "tree('e')",
        "destination": "made/{{ item.key }}",
    }
    port = free_port()
    config = write(tmp_path, ONE, wide, waits, many, status_addr=f"127.0.0.1:{port}")
    one = start(config)
    one.wrote("made/y", "is two")
    one.wrote("out", "1\n")
    plain = "text/plain; charset=utf-8"
    assert page(port, "/render/0") == (200, plain, b"1\n")
    # As it is in the file: its encoding and its line ends.
    until("the second", (tmp_path / "wide").exists)
    status, kind, body = page(port, "/render/1")
    assert (status, kind) == (200, "text/plain; charset=utf-16-le")
    assert body == (tmp_path / "wide").read_bytes() == "é\r\n1".encode("utf-16-le")
    assert page(port, "/render/2")[0] == 503
    assert page(port, "/render/2/0")[0] == 503
    listed = page(port, "/render/3")[2].decode()
    assert listed == f"0 {tmp_path}/made/x\n1 {tmp_path}/made/y\n"
    assert page(port, "/render/3/1") == (200, plain, b"is two")
    for wrong in ("4", "3/2", "x", "-1", "1" * 30, "3/1/1", ""):
        assert page(port, f"/render/{wrong}")[0] == 404, wrong
    assert f"0 {tmp_path}/out\n" in page(port, "/render")[2].decode()
    # The newest text, also where the file may not have it.
    agent.put("/v1/kv/a", b"2")
    one.wrote("out", "2\n")
    assert page(port, "/render/0")[2] == b"2\n"
    # A file that goes takes its page along.
    agent.request("DELETE", "/v1/kv/e/x")
    until("it is removed", lambda: not (tmp_path / "made/x").exists())
    until("one is left", lambda: page(port, "/render/3")[2] == b"is two")
    # The status itself never has a value.
    assert b"is two" not in page(port, "/status")[2]


def test_who_may_read_the_texts(tmp_path: Path, start: Start) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    one = start(write(tmp_path, ONE), f"-http-addr={address}")
    one.wrote("out", "1\n")
    assert page(port, "/render/0")[0] == 200
    assert page(port, "/render/0", f"localhost:{port}")[0] == 200
    # A web page whose own name was made to lead here.
    for name in (f"evil.example:{port}", "evil.example", "127.0.0.1.evil.example"):
        assert page(port, "/render/0", name)[0] == 403, name
        assert page(port, "/ready", name)[0] == 200
    assert one.end() == 0
    # Any other address shows them only when that was asked for.
    for flags, keys, status in (
        ((f"-status-addr=0.0.0.0:{port}",), {}, 403),
        ((f"-status-addr=0.0.0.0:{port}", "-status-render"), {}, 200),
        ((), {"status_addr": f"0.0.0.0:{port}", "status_render": True}, 200),
        ((), {"status_addr": address, "status_render": False}, 403),
        ((f"-status-addr={address}", "-status-render=false"), {}, 403),
    ):
        (tmp_path / "out").unlink()
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.wrote("out", "1\n")
        until("it serves", lambda: page(port, "/ready")[0] == 200)
        assert page(port, "/render/0")[0] == status, (flags, keys)
        assert one.end() == 0
    (tmp_path / "out").unlink()
    one = start(write(tmp_path, ONE), "-status-addr=unix:s")
    one.wrote("out", "1\n")
    assert page(tmp_path / "s", "/render/0")[::2] == (200, b"1\n")


def test_the_status_of_a_stop(tmp_path: Path, start: Start) -> None:
    mine = {"kill_signal": "USR2"}
    for flags, keys, number, status in (
        ((), {}, signal.SIGTERM, 0),
        ((), {}, signal.SIGINT, 0),
        (("-exit-code-compat",), {}, signal.SIGTERM, 12),
        ((), {"exit_code_compat": True}, signal.SIGINT, 12),
        ((), {**mine, "exit_code_compat": True}, signal.SIGUSR2, 12),
        ((), mine, signal.SIGUSR2, 0),
        # Not the signal that was chosen, but an end in order all the same.
        ((), mine, signal.SIGTERM, 0),
    ):
        one = start(write(tmp_path, ONE, **keys), "-pid-file=pid", *flags)
        one.wrote("out", "1\n")
        assert one.end(number) == status, (flags, keys, number)
        assert not (tmp_path / "pid").exists()
        (tmp_path / "out").unlink()
