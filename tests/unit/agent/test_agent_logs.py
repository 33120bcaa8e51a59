"""Log lines and where they go: stdout, rotated files, syslog, streams."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyconsul.agent.log_files import RotatingFile
from pyconsul.agent.log_lines import (
    TRACE,
    BareFormatter,
    JsonFormatter,
    LineFormatter,
)
from pyconsul.agent.logs import LogOutput, open_logs
from pyconsul.agent.syslog import MESSAGE_BYTES, SyslogHandler
from pyconsul.config.model import AgentConfig


def record(
    text: str = "hello", level: int = logging.INFO, name: str = "agent"
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "file", 1, text, None, None)
    made.created, made.msecs = 1_000_000_000.25, 250.0
    return made


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


def test_lines() -> None:
    text = LineFormatter().format(record(name="pyconsul.http.server"))
    assert text == "2001-09-09T01:46:40.250Z [INFO]  agent.http: hello"
    assert BareFormatter().format(record()) == "agent: hello"
    assert json.loads(JsonFormatter().format(record(level=TRACE))) == {
        "@level": "trace",
        "@message": "hello",
        "@module": "agent",
        "@timestamp": "2001-09-09T01:46:40.250000Z",
    }


def filled(template: object, *args: object) -> logging.LogRecord:
    made = logging.LogRecord("agent", logging.INFO, "file", 1, template, args, None)
    made.created, made.msecs = 1_000_000_000.25, 250.0
    return made


def fields(entry: logging.LogRecord) -> dict[str, object]:
    found = json.loads(JsonFormatter().format(entry))
    del found["@level"], found["@module"], found["@timestamp"]
    return found


def test_fields_are_keys_of_json() -> None:
    assert fields(filled("%s: took: id=%s n=%d ok=%s", "raft", "a b", 3, True)) == {
        "@message": "raft: took",
        "id": "a b",
        "n": 3,
        "ok": True,
    }
    quoted = filled('Reload failed: error="%s" after_s=%.1f', ValueError("a: b=c"), 2)
    assert fields(quoted) == {
        "@message": "Reload failed",
        "error": "a: b=c",
        "after_s": "2.0",
    }
    several = filled("Starting: address=%s:%d network=tcp retry=%gs", "::1", 80, 2.5)
    assert fields(several) == {
        "@message": "Starting",
        "address": "::1:80",
        "network": "tcp",
        "retry": "2.5s",
    }
    assert BareFormatter().format(several) == f"agent: {several.getMessage()}"


@pytest.mark.parametrize(
    ("template", "args"),
    [
        ("a value: x=1", ()),
        ("read: file=%s %s", ("a", "b")),
        ("read: %s: k = v", ("a: b=c",)),
        ("%s", ("took: id=3",)),
        (ValueError("took: id=%s"), ()),
    ],
)
def test_what_the_template_does_not_call_a_field_is_text(
    template: object, args: tuple[str, ...]
) -> None:
    entry = filled(template, *args)
    assert fields(entry) == {"@message": entry.getMessage()}
    assert BareFormatter().format(entry) == f"agent: {entry.getMessage()}"


def test_fields_with_blanks_are_quoted_in_text() -> None:
    entry = filled("Synced: service=%s check=%s error=%s", "web", "", "not found")
    text = BareFormatter().format(entry)
    assert text == 'agent: Synced: service=web check= error="not found"'


def test_a_value_cannot_forge_a_line_or_steer_a_terminal() -> None:
    forged = "x\n2026-01-01T00:00:00.000Z [ERROR] agent: forged\r\x1b[2J\x9b"
    for entry in (filled("Synced service: service=%s", forged), filled("%s", forged)):
        for formatter in (LineFormatter(), BareFormatter()):
            first, second = formatter.format(entry).split("\n")
            assert first.endswith("x")
            assert second.startswith("  2026-01-01T")
            assert "forged\\x0d\\x1b[2J\\x9b" in second
    tabbed = BareFormatter().format(filled("%s", "1 error:\n\t* no"))
    assert tabbed == "agent: 1 error:\n\t* no"


def test_libraries_are_not_heard_on_every_step() -> None:
    out = io.StringIO()
    output = LogOutput("DEBUG", False, out)
    try:
        logging.getLogger("httpcore.connection").debug("connect_tcp.started")
        logging.getLogger("httpx").info("HTTP Request: POST https://u:secret@host")
        logging.getLogger("httpx").warning("odd")
        logging.getLogger("agent").debug("ours")
    finally:
        output.close()
    said = [line.split("Z ", 1)[1] for line in out.getvalue().splitlines()]
    assert said == ["[WARN]  httpx: odd", "[DEBUG] agent: ours"]


class Clock:
    """Unix time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def file(path: Path | str, clock: Clock, **limits: float) -> RotatingFile:
    handler = RotatingFile(str(path), clock=clock, **limits)  # pyright: ignore[reportArgumentType]
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def test_a_file_is_rotated_by_size(tmp_path: Path) -> None:
    clock = Clock()
    handler = file(tmp_path / "a.log", clock, max_bytes=10)
    for text in ("first", "second", "third"):
        clock.now += 1
        handler.emit(record(text))
    handler.close()
    assert (tmp_path / "a.log").read_text() == "third\n"
    (old,) = tmp_path.glob("a-*.log")
    assert old.name == "a-1000000003000000000.log"
    assert old.read_text() == "first\nsecond\n"


def test_a_file_is_rotated_by_age_and_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a.log").write_text("before\n")
    handler = file(tmp_path / "a.log", clock, period_s=60)
    handler.emit(record("one"))
    clock.now += 59
    handler.emit(record("two"))
    clock.now += 1
    handler.emit(record("three"))
    handler.close()
    assert (tmp_path / "a.log").read_text() == "three\n"
    (old,) = tmp_path.glob("a-*.log")
    assert old.read_text() == "before\none\ntwo\n"


def test_a_device_is_not_rotated(tmp_path: Path) -> None:
    clock = Clock()
    reader = os.open(_pipe(tmp_path / "log"), os.O_RDONLY | os.O_NONBLOCK)
    handler = file(tmp_path / "log", clock, max_bytes=1, period_s=1)
    for text in ("one", "two", "three"):
        clock.now += 60
        handler.emit(record(text))
    handler.close()
    assert os.read(reader, 100) == b"one\ntwo\nthree\n"
    os.close(reader)
    assert [one.name for one in tmp_path.iterdir()] == ["log"]


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(("most", "left"), [(0, 4), (2, 2), (-1, 0)])
def test_so_many_old_files_are_kept(tmp_path: Path, most: int, left: int) -> None:
    clock = Clock()
    (tmp_path / "a-note.log").write_text("not ours")
    handler = file(tmp_path / "a.log", clock, max_bytes=1, max_files=most)
    for number in range(5):
        clock.now += 1
        handler.emit(record(str(number)))
    handler.close()
    old = sorted(tmp_path.glob("a-1*.log"))
    assert [path.read_text() for path in old] == [
        f"{number}\n" for number in range(4 - left, 4)
    ]
    assert (tmp_path / "a-note.log").exists()


def test_in_a_directory_every_file_has_a_stamp(tmp_path: Path) -> None:
    clock = Clock()
    folder = f"{tmp_path}/new/"
    handler = file(folder, clock, max_bytes=1)
    handler.emit(record("one"))
    handler.emit(record("two"))
    handler.close()
    names = sorted(os.listdir(folder))
    assert [bool(re.fullmatch(r"consul-\d{19}\.log", one)) for one in names] == [
        True,
        True,
    ]
    texts = [Path(folder, one).read_text() for one in names]
    assert texts == ["one\n", "two\n"]


def test_a_file_that_cannot_be_rotated_is_written_on(tmp_path: Path) -> None:
    clock = Clock()
    handler = file(tmp_path / "a.log", clock, max_bytes=1)
    handler.emit(record("one"))
    os.unlink(tmp_path / "a.log")
    handler.emit(record("two"))
    assert handler.lost == 0
    handler.close()
    handler.emit(record("three"))
    assert handler.lost == 1
    with pytest.raises(OSError, match=r"denied|exists|Not a directory"):
        file("/dev/null/a.log", clock)


def bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(60)
    return sock


def syslog(path: Path, udp: tuple[str, int] = ("127.0.0.1", 9)) -> SyslogHandler:
    handler = SyslogHandler("local3", sockets=[str(path)], udp=udp)
    handler.setFormatter(BareFormatter())
    return handler


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (TRACE, 159),
        (logging.DEBUG, 158),
        (logging.INFO, 157),
        (logging.WARNING, 156),
        (logging.ERROR, 155),
        (logging.CRITICAL, 154),
    ],
)
def test_syslog_messages(tmp_path: Path, level: int, priority: int) -> None:
    with bound(tmp_path / "log") as sock:
        handler = syslog(tmp_path / "log")
        handler.emit(record(level=level))
        handler.close()
        text = sock.recv(MESSAGE_BYTES).decode()
    assert re.fullmatch(
        rf"<{priority}>\w{{3}} [ \d]\d \d\d:\d\d:\d\d "
        rf"consul\[{os.getpid()}\]: agent: hello",
        text,
    )


def test_a_syslog_that_was_started_anew_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = syslog(path)
    with bound(path):
        handler.emit(record("x" * 2 * MESSAGE_BYTES))
    os.unlink(path)
    with bound(path) as sock:
        handler.emit(record("again"))
        assert sock.recv(MESSAGE_BYTES).endswith(b"agent: again")
    handler.close()
    assert handler.lost == 0


def test_without_a_socket_syslog_is_udp_or_lost(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(60)
        handler = syslog(tmp_path / "none", sock.getsockname())
        handler.emit(record("by udp"))
        assert sock.recv(MESSAGE_BYTES).endswith(b"agent: by udp")
        handler.close()
    handler = syslog(tmp_path / "none", ("no address", 1))
    handler.emit(record())
    handler.emit(record())
    handler.close()
    assert handler.lost == 2
    with pytest.raises(ValueError, match="invalid syslog facility: x"):
        SyslogHandler("x")


def config(**fields: object) -> AgentConfig:
    return AgentConfig(node_name="n1", **fields)  # pyright: ignore[reportArgumentType]


def test_the_log_goes_to_stdout_and_to_the_file(tmp_path: Path) -> None:
    out = io.StringIO()
    path = tmp_path / "a.log"
    output = open_logs(config(log_file=str(path), log_level="WARN"), out)
    log = logging.getLogger("agent")
    log.info("quiet")
    log.warning("loud")
    output.set_level("INFO")
    log.info("now heard")
    output.close()
    log.warning("after the end")
    assert [line.split("] ")[1] for line in path.read_text().splitlines()] == [
        " agent: loud",
        " agent: now heard",
    ]
    assert out.getvalue() == path.read_text()


class Reader:
    """A stream's other end."""

    def __init__(self) -> None:
        self.data = b""
        self.gone: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        """Nothing more comes."""

    def on_close(self, callback: Callable[[], None]) -> None:
        self.gone = callback


def test_a_stream_may_be_more_talkative_than_the_log() -> None:
    out = io.StringIO()
    output = LogOutput("INFO", False, out)
    reader = Reader()
    output.monitor("DEBUG", True)(reader)
    log = logging.getLogger("agent")
    log.debug("detail")
    assert json.loads(reader.data)["@message"] == "detail"
    assert reader.gone is not None
    reader.gone()
    log.debug("more")
    output.close()
    assert reader.data.count(b"\n") == 1
    assert out.getvalue() == ""
