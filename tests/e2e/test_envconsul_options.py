"""envconsul's flags and keys, each with its effect, by process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_stub import Stub, certificates, serving
from envconsul_process import ENVCONSUL, Start, put, shown, starter, write
from template_process import until

LOOP = "while kill -0 $PPID; do sleep 0.02; done"
SAYS = (
    "trap 'echo USR1; exit 3' USR1; trap 'echo INT; exit 5' INT; "
    f"trap 'echo HUP' HUP; echo start A=$A; {LOOP}"
)
DEAF = f"trap '' INT; echo start A=$A; {LOOP}"


@pytest.fixture
def start(tmp_path: Path, agent: Any) -> Iterator[Start]:
    """Start envconsul against the agent; it is stopped afterwards."""
    yield from starter(tmp_path, agent)


def test_names(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, t__dir__b="2", t__x__dash_x="y", one="1", tt="raw", t__tt="raw")
    node = {"Node": "n9", "Address": "10.0.0.9"}
    service = {"Service": "db", "ID": "db1", "Port": 5432, "Tags": ["a"]}
    agent.put("/v1/catalog/register", {**node, "Service": service})
    env = "/usr/bin/env"
    way = ("-once", "-pristine", "-consul-retry=true")
    tool = start(*way, "-prefix=t/dir", "-no-prefix=false", env)
    assert shown(tool) == {"t_dir_b": "2"}
    tool = start(
        *way,
        "-service-query=db",
        "-service-format-id=DB_{{key}}",
        "-service-format-name=DB_{{key}}",
        "-service-format-address=DB_{{key}}",
        "-service-format-tag=DB_{{key}}",
        "-service-format-port=DB_{{key}}",
        env,
    )
    wanted = {
        "DB_id": "db1",
        "DB_name": "db",
        "DB_address": "10.0.0.9",
        "DB_tag": "a",
        "DB_port": "5432",
    }
    assert shown(tool) == wanted
    config = write(
        tmp_path,
        service={
            "query": "db",
            "format_id": "DB_id",
            "format_name": "DB_name",
            "format_address": "DB_address",
            "format_tag": "DB_tag",
            "format_port": "DB_port",
        },
        prefix=[
            {"path": "t/x", "format": 'custom_{{ key | replaceKey "dash_x" "y-z" }}'},
            {"path": "t/dir", "no_prefix": False},
            {"path": "t/t", "raw": True, "no_prefix": True},
        ],
        key=[{"name": "single", "path": "one"}],
        sanitize=True,
        upcase=True,
        pristine=True,
        once=True,
    )
    wanted = {name.upper(): value for name, value in wanted.items()}
    wanted |= {"CUSTOM_Y_Z": "y", "T_DIR_B": "2", "T": "raw", "SINGLE": "1"}
    assert shown(start(config, env)) == wanted
    config = write(tmp_path, prefix={"path": "t/dir"}, no_prefix=False, once=True)
    assert shown(start("-pristine", config, env)) == {"t_dir_b": "2"}


def test_the_environment_in_a_file(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="1", app__B="2", app__C="3")
    filters: list[dict[str, Any]] = [
        {"allowlist": ["[AB]"], "denylist": ["B"], "custom": ["X=1"]},
        {"whitelist": ["[AB]"], "blacklist": ["B"], "custom": ["X=1"]},
    ]
    for env in filters:
        block = {"command": ["/usr/bin/env"], "env": env}
        config = write(tmp_path, exec=block, prefix={"path": "app"})
        assert shown(start("-once", config)) == {"A": "1", "X": "1"}
    env = {"pristine": True, "custom": ["X=1"]}
    block = {"command": ["/usr/bin/env"], "env": env}
    config = write(tmp_path, exec=block, prefix={"path": "app"})
    assert shown(start("-once", config)) == {"X": "1"}


def test_signals(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="1")
    child = {"kill_signal": "USR1", "kill_timeout": "30s", "splay": "1ms"}
    ways: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (
            ("-kill-signal=USR2", "-reload-signal=HUP", "-exec-kill-signal=USR1"),
            {},
        ),
        ((), {"kill_signal": "USR2", "reload_signal": "HUP", "exec": child}),
    ]
    for flags, keys in ways:
        config = write(tmp_path, prefix={"path": "app"}, **keys)
        tool = start(config, *flags, "sh", "-c", SAYS)
        tool.until("start A=1")
        put(agent, app__A="2")
        tool.until("USR1")
        tool.until("start A=2")
        tool.process.send_signal(signal.SIGHUP)
        tool.until("start A=2", 2)
        put(agent, app__A="1")
        tool.until("start A=1", 2)
        assert tool.end(signal.SIGUSR2) == 12
        assert tool.text().count("USR1") == 4
    # Nobody but SIGKILL ends this one.
    ways = [
        (("-exec-kill-timeout=50ms",), {}),
        ((), {"exec": {"kill_timeout": "50ms"}}),
    ]
    for flags, keys in ways:
        config = write(tmp_path, prefix={"path": "app"}, **keys)
        tool = start(config, *flags, "sh", "-c", DEAF)
        tool.until("start A=1")
        assert tool.end() == 12
    tool = start("-v")
    assert tool.wait() == 0
    assert tool.text().startswith("envconsul (pyconsul) ")


def test_a_file_says_what_happens_at_a_change(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__A="1")
    common: dict[str, Any] = {
        "prefix": {"path": "app"},
        "wait": "50ms:1s",
        "pid_file": "pid",
        "http_addr": "unix:s.sock",
        "cache": "cache",
        "log_level": "info",
        "exec": {
            "command": ["sh", "-c", SAYS],
            "enabled": True,
            "reload_signal": "",
            "timeout": "0s",
        },
    }
    tool = start(write(tmp_path, on_change="signal:HUP", **common))
    tool.until("start A=1")
    assert (tmp_path / "pid").read_text().split() == [str(tool.process.pid)]
    status, text = tool.ask("/status")
    assert status == 200
    assert json.loads(text)["variables"] == ["A"]
    put(agent, app__A="2")
    tool.until("HUP")
    until("the cache", lambda: '"2"' in (tmp_path / "cache").read_text())
    assert "the environment changed" in tool.err.read_text()
    assert tool.end() == 12
    off = common | {"exec": {"command": ["true"], "enabled": False}}
    assert start(write(tmp_path, **off)).wait() == 15
    needs = common | {"required": ["NO"], "missing_timeout": "100ms"}
    tool = start(write(tmp_path, **needs))
    assert tool.wait() == 14
    assert "required and missing: NO" in tool.err.read_text()


def test_syslog_in_a_private_dev(agent: Any, tmp_path: Path) -> None:
    script = (
        "mkdir -p dev && touch dev/null dev/urandom && "
        "mount --bind /dev/null dev/null && mount --bind /dev/urandom dev/urandom && "
        "ln -sf $PWD/s dev/log && mount --rbind dev /dev && "
    )
    private = [shutil.which("unshare") or "", "-Urm", "sh", "-c"]
    trial = [*private, script + "true"]
    if not private[0] or subprocess.run(trial, cwd=tmp_path, check=False).returncode:
        pytest.skip("no namespaces here")
    put(agent, app__A="1")
    environ = os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    block = {"enabled": True, "facility": "LOCAL3", "name": "mine"}
    ways: list[tuple[tuple[str, ...], dict[str, Any], int]] = [
        (("-syslog", "-syslog-facility=LOCAL2", "-syslog-name=mine"), {}, 18),
        ((), {"syslog": block}, 19),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "s"))
        system.settimeout(30)
        for flags, keys, facility in ways:
            config = write(tmp_path, prefix={"path": "app"}, **keys)
            argv = [*private, script + 'exec "$@"', "sh", *ENVCONSUL, config, *flags]
            argv += ["-once", "-log-level=debug", "true"]
            done = subprocess.run(argv, cwd=tmp_path, env=environ, check=False)
            assert done.returncode == 0
            heard = system.recv(4096).decode()
            # Facility times eight plus the severity, debug.
            assert heard.startswith(f"<{facility * 8 + 7}>")
            assert "mine[" in heard
            while "started the child" not in heard:
                heard = system.recv(4096).decode()


ONCE = ("-once", "-prefix=app")
ECHO = ("sh", "-c", "echo $A")


def test_the_way_to_the_agent_in_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("in-file\n")
    auth = {"enabled": True, "username": "user", "password": "pass"}
    transport = {
        "dial_keep_alive": "1s",
        "dial_timeout": "1s",
        "disable_keep_alives": True,
        "idle_conn_timeout": "1s",
        "max_idle_conns": 1,
        "max_idle_conns_per_host": 1,
        "max_conns_per_host": 10,
        "tls_handshake_timeout": "1s",
    }
    with serving(Stub()) as server:
        address = f"127.0.0.1:{server.server_port}"
        consul = {"token": "in-config", "auth": auth, "transport": transport}
        config = write(tmp_path, consul={"address": address, **consul})
        flag = f"-consul-addr={address}"
        assert start(config, flag, *ONCE, *ECHO, port=1).wait() == 0
        assert server.seen[0][1:] == ("in-config", "Basic dXNlcjpwYXNz")
        server.seen.clear()
        block = {"token_file": "token", "auth": {"enabled": False, "username": "u"}}
        config = write(tmp_path, consul={"address": address, **block}, max_stale="0s")
        tool = start(config, *ONCE, *ECHO, port=1, CONSUL_HTTP_ADDR="")
        assert tool.wait() == 0, tool.err.read_text()
        assert server.seen == [("/v1/kv/app/?recurse", "in-file", None)]


def test_retries_in_a_file(start: Start, tmp_path: Path) -> None:
    quick = {"backoff": "10ms", "max_backoff": "20ms"}
    for retry, asked in (
        ({"enabled": False, **quick}, 1),
        ({"enabled": True, "attempts": 2, **quick}, 3),
    ):
        with serving(Stub(failures=9)) as server:
            config = write(tmp_path, consul={"retry": retry}, max_stale="0s")
            tool = start(config, *ONCE, *ECHO, port=server.server_port)
            assert tool.wait() == 14
            assert len(server.seen) == asked
    # The cap is what makes this end.
    with serving(Stub(failures=2)) as server:
        flags = ("-consul-retry-backoff=1h", "-consul-retry-max-backoff=10ms")
        tool = start(*ONCE, *flags, *ECHO, port=server.server_port)
        assert tool.wait() == 0


def test_tls_in_a_file_and_by_flags(start: Start, tmp_path: Path) -> None:
    context = certificates(tmp_path)
    (tmp_path / "ca").mkdir()
    shutil.copy(tmp_path / "ca.pem", tmp_path / "ca/ca.pem")
    rehash = ["openssl", "rehash", str(tmp_path / "ca")]
    subprocess.run(rehash, check=True, capture_output=True)
    own = {"cert": "both-cert.pem", "key": "both-key.pem"}
    name = {"server_name": "server.dc1.consul"}
    with serving(Stub(context)) as server:
        port = server.server_port
        flags = ("-consul-ssl-cert=both-cert.pem", "-consul-ssl-key=both-key.pem")
        by_path = (
            "-consul-ssl-ca-path=ca",
            "-consul-ssl-server-name=server.dc1.consul",
        )
        tool = start("-consul-ssl", *flags, *by_path, *ONCE, *ECHO, port=port)
        assert tool.wait() == 0, tool.err.read_text()
        blocks: list[tuple[dict[str, Any], int]] = [
            ({**own, **name, "enabled": True, "verify": True, "ca_cert": "ca.pem"}, 0),
            ({**own, **name, "ca_path": "ca"}, 0),
            ({**own, "verify": False}, 0),
            ({**own, **name}, 14),
            ({**own, **name, "ca_cert": "ca.pem", "enabled": False}, 14),
        ]
        for block, status in blocks:
            consul = {"ssl": block, "retry": {"enabled": False}}
            tool = start(write(tmp_path, consul=consul), *ONCE, *ECHO, port=port)
            assert tool.wait() == status, (block, tool.err.read_text())


def test_how_long_the_agent_may_hold_a_question(start: Start, tmp_path: Path) -> None:
    with serving(Stub()) as server:
        config = write(tmp_path, prefix={"path": "app"}, block_query_wait="7s")
        tool = start(config, "sh", "-c", SAYS, port=server.server_port)
        tool.until("start A=x")
        until("a long poll", lambda: any("wait=7s" in p for p, _, _ in server.seen))
        assert tool.end() == 12
