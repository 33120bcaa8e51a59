"""envconsul's options that its reference has not, each with its effect, by process."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_stub import Stub, certificates, serving
from envconsul_process import Start, put, shown, starter, write

LOOP = (
    "trap 'echo INT; exit 3' INT; trap 'echo HUP' HUP; "
    'echo "start $$ A=$A B=$B"; while kill -0 $PPID; do sleep 0.02; done'
)
ENV = "/usr/bin/env"
NO_RETRY = "-consul-retry=false"


@pytest.fixture
def start(tmp_path: Path, agent: Any) -> Iterator[Start]:
    """Start envconsul against the agent; it is stopped afterwards."""
    yield from starter(tmp_path, agent)


def test_a_start_without_consul_and_without_a_cache(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__A="1")
    agent.stop()
    tool = start("-prefix=app", "-start-without-consul", "sh", "-c", LOOP)
    tool.until("A= B=")
    tool.said("going on with no variables")
    # The views do the rest: the child gets what it lacks once Consul is there.
    agent.start()
    put(agent, app__A="2")
    tool.until("A=2 B=")
    assert tool.end() == 12
    kept = list((tmp_path / ".local/state/envconsul").iterdir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]
    assert stat.S_IMODE(kept[0].parent.stat().st_mode) == 0o700
    echo = ("sh", "-c", 'echo "A=$A"')
    # Another agent is another cache: its variables are not this one's.
    config = write(tmp_path, start_without_consul=True, prefix={"path": "app"})
    tool = start(config, "-once", *echo, port=1)
    assert (tool.wait(), tool.text()) == (0, "A=\n")
    agent.stop()
    tool = start(config, "-once", *echo)
    assert (tool.wait(), tool.text()) == (0, "A=2\n")
    assert "going on with the 1 variables kept" in tool.err.read_text()
    tool = start(config, "-required=NO", "-missing-timeout=1ms", *echo)
    assert tool.wait() == 14
    assert "required and missing: NO" in tool.err.read_text()


def test_tries_that_were_asked_for_come_before_the_cache(start: Start) -> None:
    flags = ("-once", "-prefix=app", "-start-without-consul", "-cache=c")
    tries = ("-consul-retry-attempts=2", "-consul-retry-backoff=1ms")
    with serving(Stub(failures=2)) as server:
        tool = start(*flags, *tries, ENV, port=server.server_port)
        assert shown(tool)["A"] == "x"
    with serving(Stub(failures=9)) as server:
        tool = start(*flags, ENV, port=server.server_port)
        assert shown(tool)["A"] == "x"
        assert "going on with the 1 variables kept" in tool.err.read_text()
    with serving(Stub(failures=9)) as server:
        tool = start(*flags, *tries, ENV, port=server.server_port)
        assert shown(tool)["A"] == "x"
        assert tool.err.read_text().count("retry in") == 2


def test_a_sealed_cache(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="hunter2")
    (tmp_path / "key").write_bytes(base64.b64encode(os.urandom(32)))
    way = ("-once", "-prefix=app", "-cache=sealed", "-cache-key-file=key")
    assert start(*way, "true").wait() == 0
    content = (tmp_path / "sealed").read_text()
    assert "hunter2" not in content
    assert shown(start(*way, ENV, port=1))["A"] == "hunter2"
    config = write(
        tmp_path, cache="sealed", cache_key_file="key", prefix={"path": "app"}
    )
    assert shown(start(config, "-once", ENV, port=1))["A"] == "hunter2"
    (tmp_path / "key").write_bytes(base64.b64encode(os.urandom(32)))
    tool = start(config, "-once", NO_RETRY, ENV, port=1)
    assert tool.wait() == 14
    assert "sealed: not used: sealed with another key" in tool.err.read_text()


def test_a_cache_others_may_write_is_not_used(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__A="1")
    way = ("-once", "-prefix=app", "-cache=cache", NO_RETRY)
    assert start(*way, "true").wait() == 0
    (tmp_path / "cache").chmod(0o666)
    tool = start(*way, ENV, port=1)
    assert tool.wait() == 14
    assert "others may write it" in tool.err.read_text()


def test_leaves_of_json(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__db='{"host": "h", "ports": [5432, 5433]}', app__plain="1")
    put(agent, one='{"x": {"y": true}}')
    way = ("-once", "-pristine", "-sanitize", "-upcase")
    tool = start(*way, "-tree=json", "-prefix=app", "-key=ONE=one", ENV)
    wanted = {"DB_HOST": "h", "DB_PORTS_0": "5432", "DB_PORTS_1": "5433", "PLAIN": "1"}
    assert shown(tool) == {**wanted, "ONE_X_Y": "true"}
    # A block's own word counts before the general one.
    config = write(
        tmp_path,
        prefix={"path": "app", "tree": "json", "with_prefix": True},
        key=[{"name": "one", "path": "one", "tree": "none"}],
        tree="json",
    )
    wanted = {f"APP_{name}": value for name, value in wanted.items()}
    tool = start(*way, config, ENV)
    assert shown(tool) == {**wanted, "ONE": '{"x": {"y": true}}'}
    config = write(tmp_path, prefix={"path": "app"}, with_prefix=True)
    tool = start("-once", "-pristine", config, ENV)
    assert "app_plain" in shown(tool)
    tool = start(*way, "-with-prefix", "-prefix=app", ENV)
    assert "APP_PLAIN" in shown(tool)
    tool = start("-tree=xml", "-prefix=app", "true")
    assert tool.wait() == 13


def test_a_change_of_one_leaf_restarts(agent: Any, start: Start) -> None:
    put(agent, app='{"A": 1, "B": 2}')
    flags = ("-tree=json", "-key=x=app", "-sanitize", "-wait=1ms")
    script = LOOP.replace("$A", "$x_A").replace("$B", "$x_B")
    tool = start(*flags, "sh", "-c", script)
    tool.until("A=1 B=2")
    # Written anew with other blanks it is the same to the child.
    put(agent, app='{ "A":1, "B":2 }')
    put(agent, app='{"A": 1, "B": 3}')
    tool.until("A=1 B=3")
    assert tool.end() == 12
    assert tool.text().count("start") == 2


@pytest.mark.parametrize("form", ["dotenv", "export", "systemd", "json"])
def test_printed_for_others(
    agent: Any, start: Start, tmp_path: Path, form: str
) -> None:
    put(agent, app__A="a b", app__B="it's $HOME `x`", app__C="no")
    agent.put("/v1/kv/app/x%3Btouch%20pwned%3By", b"1")
    flags = ("-prefix=app", f"-format={form}", "-exec-env-denylist=C")
    tool = start(*flags, "-out=vars")
    assert tool.wait() == 0
    assert tool.text() == ""
    path = tmp_path / "vars"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    if form == "json":
        wanted = {"A": "a b", "B": "it's $HOME `x`", "x;touch pwned;y": "1"}
        assert json.loads(text) == wanted
        return
    # A name that would be a command to who reads the file is not in it.
    assert "pwned" not in text
    assert "is no name in a" in tool.err.read_text()
    script = 'set -a; . ./vars; printf \'%s|%s|%s\' "$A" "$B" "$C"'
    if form == "systemd":
        text = text.replace("\\$", "$")
        assert text == 'A="a b"\nB="it\'s $HOME \\`x\\`"\n'
        return
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a b|it's $HOME `x`|"
    assert not (tmp_path / "pwned").exists()


def test_printing_does_not_wait_for_what_is_missing(agent: Any, start: Start) -> None:
    for way in (["-format=json"], ["-diff"], ["-watch=false", "true"]):
        tool = start("-prefix=app", "-required=A,B", *way)
        assert tool.wait() == 14
        assert "required and missing: A, B" in tool.err.read_text()


def test_a_dry_run_against_the_last_variables(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__SAME="s", app__OLD="hunter1", app__GONE="g")
    common = ("-prefix=app", "-cache=cache")
    assert start("-once", *common, "true").wait() == 0
    put(agent, app__OLD="hunter2", app__NEW="hunter3")
    agent.request("DELETE", "/v1/kv/app/GONE")
    before = (tmp_path / "cache").read_bytes()
    tool = start(*common, "-diff")
    assert tool.wait() == 0
    assert tool.text() == "- GONE\n+ NEW\n~ OLD\n"
    assert (tmp_path / "cache").read_bytes() == before
    tool = start("-prefix=app", "-diff", "-pristine", SAME="s")
    assert tool.wait() == 0
    gone = "- CONSUL_HTTP_ADDR\n- HOME\n"
    assert tool.text() == gone + "+ NEW\n+ OLD\n- PATH\n"


def test_the_child_has_no_locale_that_nobody_gave(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    for environ in ({}, {"LC_CTYPE": "C.UTF-8"}):
        found = shown(start("-once", "-prefix=app", ENV, **environ))
        assert found.pop("A") == "1"
        assert found.pop("CONSUL_HTTP_ADDR")
        assert found == environ


def test_a_reload_that_changes_nothing(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__A="1")
    config = write(tmp_path, prefix={"path": "app"}, on_reload="changed")
    watched = ("-http-addr=unix:s.sock", "-log-level=info")
    tool = start(config, *watched, "sh", "-c", LOOP)
    tool.until("start")
    tool.process.send_signal(signal.SIGHUP)
    tool.said("nothing is new for the child")
    put(agent, app__A="2")
    tool.until("A=2")
    write(
        tmp_path,
        prefix={"path": "app"},
        on_reload="changed",
        exec={"env": {"custom": ["B=3"]}},
    )
    tool.process.send_signal(signal.SIGHUP)
    tool.until("A=2 B=3")
    assert tool.end() == 12
    assert tool.text().count("start") == 3
    tool = start("-on-reload=changed", "-prefix=app", *watched, "sh", "-c", LOOP)
    tool.until("start")
    tool.process.send_signal(signal.SIGHUP)
    tool.said("nothing is new for the child")
    assert tool.end() == 12
    assert tool.text().count("start") == 1


def test_status_of_a_running_one(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__PASSWORD="hunter2", app__A="1")
    config = write(tmp_path, prefix={"path": "app"}, http_addr="unix:s.sock")
    asks = (("-http-addr=unix:s.sock",), (config,))
    for ask in asks:
        tool = start("status", *ask)
        assert tool.wait() == 14
        assert "unix:s.sock: no such file" in tool.err.read_text()
    runs = start(config, "-required=A,B", "sleep", "600")
    try:
        # It says what it waits for, before there is a child.
        assert json.loads(runs.ask("/status")[1])["missing"] == ["B"]
        tool = start("status", *asks[0])
        assert tool.wait() == 0
        rows = dict(line.split(None, 1) for line in tool.text().splitlines())
        assert (rows["child"], rows["missing"]) == (
            "does not run, restarted 0 times", "B",
        )  # fmt: skip
        assert runs.ask("/ready")[0] == 503
        put(agent, app__B="2")
        runs.counted("envconsul_child_up", 1)
        for ask in asks:
            tool = start("status", *ask)
            assert tool.wait() == 0
            rows = dict(line.split(None, 1) for line in tool.text().splitlines())
            assert re.fullmatch(
                r"runs as process \d+, restarted 0 times", rows["child"]
            )
            assert rows["seen"] == "0 changes, 0 errors, 0 reloads"
            assert rows["sources"] == "/v1/kv/app/"
            assert rows["variables"] == "A, B, PASSWORD"
            assert "hunter2" not in tool.text() + tool.err.read_text()
    finally:
        assert runs.end() == 12
    for words, code in ((("status",), 15), (("status", asks[0][0], "x"), 13)):
        assert start(*words).wait() == code
    # After flags, or behind --, it is a command like any other.
    tool = start("-once", "-prefix=app", "--", "status")
    assert tool.wait() == 14
    assert "status" in tool.err.read_text()


def test_status_while_consul_is_away(start: Start, tmp_path: Path) -> None:
    runs = start("-prefix=app", "-http-addr=unix:s.sock", "true", port=1)
    runs.counted("envconsul_errors_total", 1)
    tool = start("status", "-http-addr=unix:s.sock")
    assert tool.wait() == 0
    assert "does not run" in tool.text()
    assert runs.end() == 12
    assert not (tmp_path / "s.sock").exists()


def test_what_is_no_envconsul_has_no_status(agent: Any, start: Start) -> None:
    tool = start("status", f"-http-addr=127.0.0.1:{agent.ports['http']}")
    assert tool.wait() == 14
    assert "answered 404" in tool.err.read_text()


def test_becoming_the_command(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="1")
    # Found by our PATH, although the new environment has none.
    tool = start("-prefix=app", "-pristine", "-watch=false", "env")
    assert tool.wait() == 0
    assert tool.text() == "A=1\n"
    tool = start("-once", "-watch=false", "-prefix=app", "-exec=kill -9 $$")
    assert tool.wait() == -signal.SIGKILL
    tool = start("-watch=false", "-prefix=app", "no-such-program")
    assert tool.wait() == 14
    assert "no-such-program" in tool.err.read_text()
    tool = start("-watch=false", "-prefix=app", "./c.json")
    assert tool.wait() == 14
    assert "no such file" in tool.err.read_text()
    # Signals do what they do to any process, also those Python ignores.
    script = "echo ready; kill -PIPE $$; sleep 60"
    tool = start("-watch=false", "-prefix=app", "sh", "-c", script)
    assert tool.wait() == -signal.SIGPIPE


class Manager:
    """What systemd is to us: a socket that hears of our state."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def until(self, words: str) -> str:
        """Return the first message that has the words."""
        self._socket.settimeout(60)
        while words not in (text := self._socket.recv(4096).decode()):
            pass
        return text

    def forget(self) -> None:
        """Drop what came, so that there is room for more."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    found = Manager(tmp_path / "notify.sock")
    yield found
    found.close()


def test_told_to_a_service_manager(
    agent: Any, start: Start, tmp_path: Path, manager: Manager
) -> None:
    put(agent, app__A="1", app__B="2")
    environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "100000"}
    tool = start("-notify", "-prefix=app", "sh", "-c", LOOP, **environ)
    assert manager.until("READY=1") == "READY=1"
    assert re.search(r"child \d+, 2 variables, 0 restarts", manager.until("STATUS"))
    manager.until("WATCHDOG=1")
    tool.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    manager.until("READY=1")
    manager.until("1 restarts")
    assert tool.end() == 12
    # The variables are for us alone, unless we become the command.
    config = write(tmp_path, prefix={"path": "app"}, notify=True)
    for way, kept in (("-once", False), ("-watch=false", True)):
        manager.forget()
        found = shown(start(config, way, ENV, **environ))
        assert ("NOTIFY_SOCKET" in found) is kept
        assert ("WATCHDOG_USEC" in found) is kept
        manager.until("READY=1")
    found = shown(start("-prefix=app", "-once", ENV, **environ))
    assert found["NOTIFY_SOCKET"] == manager.path


def test_settings_in_the_environment(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="env", file__A="file", app__B="2")
    config = write(tmp_path, prefix={"path": "file"}, upcase=True)
    local = 'prefix { path = "app" } upcase = false'
    environ = {"CT_LOCAL_CONFIG": local, "CT_LOG": "debug"}
    tool = start(config, "-once", ENV, **environ)
    found = shown(tool)
    assert (found["A"], found["B"]) == ("env", "2")
    assert "[DEBUG]" in tool.err.read_text()
    tool = start("-once", ENV, CT_LOCAL_CONFIG="bogus_key = 1")
    assert tool.wait() == 15
    assert "CT_LOCAL_CONFIG" in tool.err.read_text()
    assert "bogus_key" in tool.err.read_text()


def test_settings_in_yaml_and_toml(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__a="1", other__b="2")
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "1.yaml").write_text("upcase: true\nprefix:\n- path: app\n")
    (folder / "2.toml").write_text('[[prefix]]\npath = "other"\n')
    (folder / "README.txt").write_text("not read")
    tool = start("-config=settings", "-once", "-pristine", ENV)
    assert shown(tool) == {"A": "1", "B": "2"}


def test_a_duration_without_a_unit(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="1")
    config = write(tmp_path, prefix={"path": "app"}, exec={"kill_timeout": 5})
    tool = start(config, "-once", "true")
    assert tool.wait() == 0
    line = tool.err.read_text()
    assert re.search(r"\[WARN\].*exec.kill_timeout: 5 is read as seconds", line)


def test_an_authority_in_the_settings(start: Start, tmp_path: Path) -> None:
    context = certificates(tmp_path)
    block = {
        "cert": "both-cert.pem",
        "key": "both-key.pem",
        "server_name": "server.dc1.consul",
        "ca_cert_bytes": (tmp_path / "ca.pem").read_text(),
    }
    retry = {"enabled": False}
    with serving(Stub(context)) as server:
        config = write(tmp_path, consul={"ssl": block, "retry": retry})
        echo = ("-once", "-prefix=app", "sh", "-c", "echo $A")
        tool = start(config, *echo, port=server.server_port)
        assert tool.wait() == 0, tool.err.read_text()
        assert tool.text() == "x\n"
        block["ca_cert_bytes"] = "no certificate"
        config = write(tmp_path, consul={"ssl": block, "retry": retry})
        tool = start(config, *echo, port=server.server_port)
        assert tool.wait() == 15
        assert "TLS" in tool.err.read_text()
