"""pyconsul-template's options about its agent, each with its effect."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_stub import Stub, certificates, serving
from template_process import Start, run, starter, until

TEMPLATE = ("-once", "-template=a.j2:out")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a template of one key."""
    (tmp_path / "a.j2").write_text("{{ key('a') }}")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start the daemon in the folder; it is stopped afterwards."""
    yield from starter(folder)


def rendered(folder: Path) -> bool:
    """Whether the file was made; it is gone afterwards."""
    out = folder / "out"
    found = out.exists() and out.read_text() == "x"
    out.unlink(missing_ok=True)
    return found


def settings(folder: Path, **consul: object) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps({"consul": consul}))
    return "-config=c.json"


def test_address_token_and_password(folder: Path) -> None:
    (folder / "token").write_text("from-file\n")
    with serving(Stub()) as server:
        addr = f"-consul-addr=127.0.0.1:{server.server_port}"
        both = ("-consul-token=by-flag", "-consul-auth=user:pass")
        assert run(folder, *TEMPLATE, addr, *both).returncode == 0
        assert run(folder, *TEMPLATE, addr, "-consul-token-file=token").returncode == 0
        in_file = settings(
            folder,
            address=f"127.0.0.1:{server.server_port}",
            token="in-config",
            auth={"enabled": True, "username": "user", "password": "pass"},
        )
        assert run(folder, *TEMPLATE, in_file).returncode == 0
        in_file = settings(
            folder,
            address="127.0.0.1:1",
            token_file="token",
            auth={"enabled": False, "username": "user", "password": "pass"},
        )
        assert run(folder, *TEMPLATE, in_file, addr).returncode == 0
        assert run(folder, *TEMPLATE, addr, CONSUL_TOKEN="by-env").returncode == 0
    assert rendered(folder)
    asked: list[tuple[str | None, str | None]] = []
    for _, token, auth in server.seen:
        if (token, auth) not in asked:
            asked.append((token, auth))
    assert asked == [
        ("by-flag", "Basic dXNlcjpwYXNz"),
        ("from-file", None),
        ("in-config", "Basic dXNlcjpwYXNz"),
        ("by-env", None),
    ]


@pytest.mark.parametrize(("age", "asked"), [("0", 1), ("10s", 1), ("1s", 2)])
def test_the_age_of_an_answer(folder: Path, age: str, asked: int) -> None:
    for by_flag in (True, False):
        with serving(Stub()) as server:
            addr = f"127.0.0.1:{server.server_port}"
            (folder / "c.hcl").write_text(f'max_stale = "{age}"')
            way = f"-max-stale={age}" if by_flag else "-config=c.hcl"
            done = run(folder, *TEMPLATE, way, CONSUL_HTTP_ADDR=addr)
            assert done.returncode == 0, done.stderr
        assert len(server.seen) == asked
        assert ("stale" in server.seen[0][0]) == (age != "0")


def test_tls(folder: Path) -> None:
    authority = folder / "authority"
    authority.mkdir()
    with serving(Stub(certificates(folder))) as server:
        shutil.copy(folder / "ca.pem", authority / "ca.pem")
        rehash = ["openssl", "rehash", authority]
        subprocess.run(rehash, check=True, capture_output=True)
        addr = f"-consul-addr=127.0.0.1:{server.server_port}"
        own = ("-consul-ssl-cert=both-cert.pem", "-consul-ssl-key=both-key.pem")
        name = "-consul-ssl-server-name=server.dc1.consul"
        once = (*TEMPLATE, addr, "-consul-retry=false")
        good = [
            (*own, name, "-consul-ssl-ca-cert=ca.pem"),
            (*own, name, "-consul-ssl-ca-path=authority"),
            ("-consul-ssl", *own, "-consul-ssl-verify=false"),
            ("-consul-ssl-cert=both.pem", "-consul-ssl-verify=false"),
        ]
        for way in good:
            done = run(folder, *once, *way)
            assert done.returncode == 0, (way, done.stderr)
            assert rendered(folder)
        bad = [
            (*own, name),
            (*own, "-consul-ssl-server-name=other", "-consul-ssl-ca-cert=ca.pem"),
            (name, "-consul-ssl-ca-cert=ca.pem"),
            ("-consul-ssl=false", *own, name, "-consul-ssl-ca-cert=ca.pem"),
        ]
        for way in bad:
            assert run(folder, *once, *way).returncode == 14, way
        keys: dict[str, object] = {
            "cert": "both-cert.pem",
            "key": "both-key.pem",
            "server_name": "server.dc1.consul",
        }
        files: list[dict[str, object]] = [
            {**keys, "enabled": True, "verify": True, "ca_cert": "ca.pem"},
            {**keys, "ca_path": "authority"},
            {**keys, "ca_cert_bytes": (folder / "ca.pem").read_text()},
            {**keys, "verify": False},
        ]
        for ssl in files:
            done = run(folder, *once, settings(folder, ssl=ssl))
            assert done.returncode == 0, (ssl, done.stderr)
            assert rendered(folder)
        switched_off = settings(folder, ssl={**keys, "enabled": False})
        assert run(folder, *once, switched_off).returncode == 14


def test_retries(folder: Path) -> None:
    quick = ("-consul-retry-backoff=10ms", "-consul-retry-max-backoff=20ms")
    ends = [
        # Failures of the agent, settings, exit status, questions.
        (9, ("-consul-retry=false",), 14, 1),
        (9, (*quick, "-consul-retry-attempts=3"), 14, 3),
        (9, (*quick, "-consul-retry-attempts=0"), 0, 10),
        (1, ("-consul-retry-backoff=1h", "-consul-retry-max-backoff=10ms"), 0, 2),
        (1, ("-retry=10ms", "-consul-retry-max-backoff=1h"), 0, 2),
        (1, ("-retry=1h", "-consul-retry-max-backoff=1h", "-once-timeout=1s"), 14, 1),
    ]
    for failures, way, status, asked in ends:
        with serving(Stub(failures=failures)) as server:
            addr = f"-consul-addr=127.0.0.1:{server.server_port}"
            done = run(folder, *TEMPLATE, "-max-stale=0", addr, *way)
            assert done.returncode == status, (way, done.stderr)
            assert len(server.seen) == asked, way
            assert rendered(folder) == (status == 0)


def test_retries_in_a_file(folder: Path) -> None:
    quick: dict[str, object] = {"backoff": "10ms", "max_backoff": "20ms"}
    for retry, asked in (
        ({"enabled": False, **quick}, 1),
        ({"enabled": True, "attempts": 2, **quick}, 2),
    ):
        with serving(Stub(failures=9)) as server:
            addr = f"-consul-addr=127.0.0.1:{server.server_port}"
            way = settings(folder, retry=retry)
            assert run(folder, *TEMPLATE, way, addr).returncode == 14
            assert len(server.seen) == asked


def test_what_has_no_effect_is_taken_all_the_same(folder: Path) -> None:
    with serving(Stub()) as server:
        addr = f"127.0.0.1:{server.server_port}"
        done = run(
            folder,
            *TEMPLATE,
            "-consul-transport-dial-keep-alive=1s",
            "-consul-transport-dial-timeout=1s",
            "-consul-transport-disable-keep-alives",
            "-consul-transport-max-idle-conns-per-host=5",
            "-consul-transport-tls-handshake-timeout=1s",
            CONSUL_HTTP_ADDR=addr,
        )
        assert done.returncode == 0, done.stderr
        assert rendered(folder)
        transport = {
            "dial_keep_alive": "1s",
            "dial_timeout": "1s",
            "disable_keep_alives": True,
            "idle_conn_timeout": "1s",
            "max_idle_conns": 1,
            "max_idle_conns_per_host": 1,
            "tls_handshake_timeout": "1s",
        }
        way = settings(folder, transport=transport)
        assert run(folder, *TEMPLATE, way, CONSUL_HTTP_ADDR=addr).returncode == 0
        assert rendered(folder)


def test_what_is_not_here_is_named(folder: Path) -> None:
    done = run(folder, *TEMPLATE, settings(folder, namespace="n"))
    assert done.returncode == 15
    assert "namespaces are not supported" in done.stderr
    for flag, owner in (("-vault-addr=x", "Vault"), ("-nomad-addr=x", "Nomad")):
        done = run(folder, *TEMPLATE, flag)
        assert done.returncode == 13
        assert f"{owner} is not supported" in done.stderr
    done = run(folder, "-no-such-flag")
    assert done.returncode == 13
    assert "no-such-flag" in done.stderr


def test_how_long_the_agent_may_hold_a_question(folder: Path, start: Start) -> None:
    (folder / "c.hcl").write_text('block_query_wait = "7s"')
    with serving(Stub()) as server:
        start(
            "-config=c.hcl",
            "-template=a.j2:out",
            CONSUL_HTTP_ADDR=f"127.0.0.1:{server.server_port}",
        ).wrote("out", "x")
        until("a long poll", lambda: any("wait=7s" in p for p, _, _ in server.seen))
