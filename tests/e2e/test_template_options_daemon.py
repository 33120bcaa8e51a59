"""pyconsul-template's options of a run that lasts: signals, logs, waits, files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent
from template_process import PROGRAM, Start, run, starter, until

ONE = {"contents": "{{ key('a') }}", "destination": "out"}


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    text = json.dumps({"template": templates, **more})
    (folder / "c.json").write_text(text)
    return "-config=c.json"


def test_signals_and_the_pid_file(tmp_path: Path, start: Start) -> None:
    flags = ("-kill-signal=USR2", "-reload-signal=USR1", "-pid-file=pid")
    one = start(write(tmp_path, ONE), *flags)
    one.wrote("out", "1")
    assert (tmp_path / "pid").read_text() == f"{one.process.pid}\n"
    write(tmp_path, {**ONE, "destination": "other"})
    one.send(signal.SIGUSR1)
    one.wrote("other", "1")
    # A wrong configuration leaves the old one in use.
    (tmp_path / "c.json").write_text('{"no_such_key": 1}')
    one.send(signal.SIGUSR1)
    one.said("the old configuration stays in use")
    assert "no_such_key" in one.text()
    assert one.end(signal.SIGUSR2) == 0
    assert not (tmp_path / "pid").exists()


def test_a_reload_brings_templates_signals_and_logs(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    keys = {"kill_signal": "USR2", "reload_signal": "HUP", "pid_file": "pid"}
    one = start(write(tmp_path, ONE, **keys))
    one.wrote("out", "1")
    assert (tmp_path / "pid").read_text() == f"{one.process.pid}\n"
    keys = {"kill_signal": "USR1", "reload_signal": "USR2", "pid_file": "pid"}
    two = {"contents": "two {{ key('a') }}", "destination": "two"}
    log = {"path": "own.log"}
    write(tmp_path, two, **keys, log_file=log, log_level="info")
    one.send(signal.SIGHUP)
    one.wrote("two", "two 1")
    agent.put("/v1/kv/a", b"2")
    one.wrote("two", "two 2")
    assert (tmp_path / "out").read_text() == "1"
    until("a line in the file", lambda: "wrote" in (tmp_path / "own.log").read_text())
    write(tmp_path, ONE, kill_signal="USR1", reload_signal="USR2")
    one.send(signal.SIGUSR2)
    one.wrote("out", "2")
    assert one.end(signal.SIGUSR1) == 0


def test_the_log_file_is_put_aside(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    size = {"log_rotate_bytes": 400, "log_rotate_max_files": 2}
    log = {"path": "app.log", "log_rotate_duration": "24h", **size}
    ways: list[tuple[str, ...]] = [
        (write(tmp_path, ONE, log_level="debug", log_file=log),),
        (
            write(tmp_path, ONE),
            "-log-level=debug",
            "-log-file=app.log",
            "-log-rotate-bytes=400",
            "-log-rotate-max-files=2",
            "-log-rotate-duration=24h",
        ),
    ]
    name = re.compile(r"app-\d{8}-\d{6}\.\d{6}\.log")
    for flags in ways:
        if len(flags) == 1:
            write(tmp_path, ONE, log_level="debug", log_file=log)
        else:
            write(tmp_path, ONE)
        one = start(*flags)
        for number in range(12):
            agent.put("/v1/kv/a", str(number).encode())
            one.wrote("out", str(number))
        aside = [p for p in tmp_path.iterdir() if name.fullmatch(p.name)]
        assert len(aside) == 2
        assert all(path.stat().st_size <= 400 for path in aside)
        assert one.end() == 0
        for path in (*aside, tmp_path / "app.log"):
            path.unlink()
    # By age, and none is kept.
    flags = ("-log-rotate-duration=100ms", "-log-rotate-max-files=-1")
    one = start(write(tmp_path, ONE), "-log-file=app.log", "-log-level=info", *flags)
    one.wrote("out", "11")

    def first_line_is_gone() -> bool:
        agent.put("/v1/kv/a", os.urandom(4).hex().encode())
        return "+1 -0" not in (tmp_path / "app.log").read_text()

    until("a new file", first_line_is_gone)
    assert [p for p in tmp_path.iterdir() if name.fullmatch(p.name)] == []


def test_syslog(tmp_path: Path, start: Start) -> None:
    unshare = shutil.which("unshare")
    # A /dev of its own, in which the system's log is our socket.
    script = (
        "mkdir -p dev && touch dev/null dev/urandom && "
        "mount --bind /dev/null dev/null && mount --bind /dev/urandom dev/urandom && "
        "ln -sf $PWD/s dev/log && mount --rbind dev /dev && "
    )
    private = (unshare or "", "-Urm", "sh", "-c")
    trial = [*private, script + "true"]
    if not unshare or subprocess.run(trial, cwd=tmp_path, check=False).returncode:
        pytest.skip("no namespaces here")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "s"))
        system.settimeout(30)
        block = {"enabled": True, "facility": "LOCAL3", "name": "from-file"}
        ways = [
            (("-syslog", "-syslog-facility=LOCAL2", "-syslog-name=from-flag"), {}, 18),
            ((), {"syslog": block}, 19),
        ]
        for flags, keys, facility in ways:
            config = write(tmp_path, ONE, **keys)
            words = (*private, script + 'exec "$@"', "sh")
            one = start(config, "-log-level=info", *flags, program=(*words, PROGRAM))
            heard = system.recv(4096).decode()
            while "wrote" not in heard:
                heard = system.recv(4096).decode()
            # Facility times eight plus the severity, informational.
            assert heard.startswith(f"<{facility * 8 + 6}>")
            assert f"from-{'flag' if flags else 'file'}[" in heard
            assert one.end() == 0
            (tmp_path / "out").unlink()


def test_metrics_to_statsd(tmp_path: Path, start: Start) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(30)
        address = f"127.0.0.1:{sink.getsockname()[1]}"
        telemetry = {"metrics_prefix": "mine", "interval": "1s"}
        ways = [
            ((f"-statsd-addr={address}",), telemetry),
            ((), {"statsd_address": address, **telemetry}),
        ]
        for flags, block in ways:
            one = start(write(tmp_path, ONE, telemetry=block), *flags)
            lines: list[str] = []
            while not any("renders" in line and "|c" in line for line in lines):
                lines += sink.recv(65536).decode().split("\n")
            assert all(line.startswith("mine.") for line in lines)
            assert any(line.endswith("|g") for line in lines)
            assert one.end() == 0


def test_quiescence(tmp_path: Path, start: Start, agent: RunningAgent) -> None:
    count = "echo run >> runs"
    ways: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
        (("-wait=500ms:20s",), {}, {}),
        ((), {"wait": {"min": "500ms", "max": "20s", "enabled": True}}, {}),
        ((), {}, {"wait": {"min": "500ms", "max": "20s", "enabled": True}}),
    ]
    for flags, keys, own in ways:
        agent.put("/v1/kv/a", b"0")
        (tmp_path / "runs").unlink(missing_ok=True)
        one = start(write(tmp_path, {**ONE, "command": count, **own}, **keys), *flags)
        one.wrote("out", "0")
        until("the command", lambda: (tmp_path / "runs").read_text() == "run\n")
        for number in range(1, 11):
            agent.put("/v1/kv/a", str(number).encode())
        one.wrote("out", "10")
        runs = "run\nrun\n"
        until("the command", lambda runs=runs: (tmp_path / "runs").read_text() == runs)
        assert one.end() == 0
        (tmp_path / "out").unlink()


def test_missing_data_ends_a_run_when_told(tmp_path: Path, start: Start) -> None:
    missing = {"contents": "{{ key('none') }}", "destination": "never"}
    ways: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("-missing-timeout=100ms",), {}),
        ((), {"missing_timeout": "100ms"}),
        (("-once", "-once-timeout=500ms"), {}),
        (("-once",), {"once_timeout": "500ms"}),
        (("-err-on-failed-lookup",), {}),
        ((), {"err_on_failed_lookup": True}),
    ]
    for flags, keys in ways:
        one = start(write(tmp_path, missing, **keys), *flags)
        assert one.process.wait(60) == 14
        assert "none" in one.text()


def test_errors_end_the_daemon_or_not(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    wrong = {"contents": "{{ 1 // (key('a') | int) }}", "destination": "out"}
    ways: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
        (("-template-error-fatal=false",), {}, {"error_fatal": True}),
        ((), {"template_error_fatal": False}, {}),
        ((), {"template_error_fatal": True}, {"error_fatal": False}),
    ]
    for flags, keys, own in ways:
        agent.put("/v1/kv/a", b"1")
        one = start(write(tmp_path, {**wrong, **own}, **keys), *flags)
        one.wrote("out", "1")
        agent.put("/v1/kv/a", b"0")
        one.said("the old output stays")
        agent.put("/v1/kv/a", b"-1")
        one.wrote("out", "-1")
        assert one.end() == 0
    one = start(write(tmp_path, wrong))
    one.wrote("out", "-1")
    agent.put("/v1/kv/a", b"0")
    assert one.process.wait(30) == 14


def test_a_failed_command_of_a_daemon(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    # The service refuses what is not a number, and says what it loaded.
    command = "grep -qx '[0-9]*' out && cp out loaded"
    block = {**ONE, "command": command}
    ways: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = [
        (("-on-command-error=rollback",), {}, {}),
        ((), {"on_command_error": "rollback"}, {}),
        ((), {"on_command_error": "exit"}, {"on_command_error": "rollback"}),
    ]
    for flags, keys, own in ways:
        agent.put("/v1/kv/a", b"1")
        (tmp_path / "loaded").unlink(missing_ok=True)
        (tmp_path / "out").unlink(missing_ok=True)
        one = start(write(tmp_path, {**block, **own}, **keys), *flags)
        one.wrote("loaded", "1")
        (tmp_path / "loaded").unlink()
        agent.put("/v1/kv/a", b"bad")
        one.said("is as it was before")
        # The command ran once more, for the service to load the old file.
        one.wrote("loaded", "1")
        assert (tmp_path / "out").read_text() == "1"
        agent.put("/v1/kv/a", b"2")
        one.wrote("loaded", "2")
        assert one.end() == 0
    # By default it is tried again; told so, it is the end.
    one = start(write(tmp_path, block))
    one.wrote("loaded", "2")
    agent.put("/v1/kv/a", b"bad")
    one.said("again in 1s")
    (tmp_path / "out").write_text("7")
    one.wrote("loaded", "7")
    assert one.end() == 0
    agent.put("/v1/kv/a", b"bad")
    one = start(write(tmp_path, block), "-command-error-fatal")
    assert one.process.wait(30) == 14


def test_a_changed_template_file(tmp_path: Path, start: Start) -> None:
    (tmp_path / "a.j2").write_text("one")
    block = {"source": "a.j2", "destination": "out"}
    for flags, keys in (
        (("-watch-templates=false",), {}),
        ((), {"watch_templates": False}),
    ):
        config = write(tmp_path, block, **keys)
        one = start(config, *flags, "-log-level=debug")
        (tmp_path / "a.j2").write_text("one")
        one.wrote("out", "one")
        (tmp_path / "a.j2").write_text("two")
        one.send(signal.SIGHUP)
        one.wrote("out", "two")
        assert "the template was read again" not in one.text()
        assert one.end() == 0
    one = start(write(tmp_path, block), "-watch-templates", "-status-addr=unix:s")
    (tmp_path / "a.j2").write_text("three")
    one.wrote("out", "three")
    told = run(tmp_path, "status", "-status-addr=unix:s")
    assert told.returncode == 0
    assert "a.j2" in told.stdout
    assert one.end() == 0
    assert run(tmp_path, "status", "-status-addr=unix:s").returncode == 14
    assert run(tmp_path, "status").returncode == 15
