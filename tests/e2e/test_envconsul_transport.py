"""The way of envconsul to its agent: TLS, tokens, stale answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_stub import Stub, certificates, serving
from envconsul_process import Start, starter


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start envconsul against a stub; it is stopped afterwards."""
    yield from starter(tmp_path, None)


ONCE = ("-once", "-prefix=app")
ECHO = ("sh", "-c", "echo $A")


def test_a_token_file_and_basic_authentication(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    way = ("-consul-token-file=token", "-consul-auth=user:pass")
    with serving(Stub()) as server:
        tool = start(*ONCE, *way, *ECHO, port=server.server_port)
        assert tool.wait() == 0
    assert tool.text() == "x\n"
    # An answer older than max_stale is asked for again, of the leader.
    paths = ["/v1/kv/app/?recurse&stale", "/v1/kv/app/?recurse"]
    assert [path for path, _, _ in server.seen] == paths
    assert {token for _, token, _ in server.seen} == {"s3cret"}
    assert {auth for _, _, auth in server.seen} == {"Basic dXNlcjpwYXNz"}


@pytest.mark.parametrize(("age", "asked"), [("0", 1), ("10s", 1), ("1s", 2)])
def test_max_stale(start: Start, age: str, asked: int) -> None:
    with serving(Stub()) as server:
        way = (f"-max-stale={age}", "-consul-token=t")
        assert start(*ONCE, *way, *ECHO, port=server.server_port).wait() == 0
    assert len(server.seen) == asked
    assert ("stale" in server.seen[0][0]) == (age != "0")
    assert server.seen[0][1] == "t"


def test_tls_with_a_client_certificate(start: Start, tmp_path: Path) -> None:
    with serving(Stub(certificates(tmp_path))) as server:
        port = server.server_port
        own = ("-consul-ssl-cert=both.pem", "-consul-retry=false")
        right = ("-consul-ssl-ca-cert=ca.pem", "-consul-ssl-server-name")
        tool = start(*ONCE, *own, *right, "server.dc1.consul", *ECHO, port=port)
        assert tool.wait() == 0, tool.err.read_text()
        tool = start(*ONCE, *own, *right, "other", *ECHO, port=port)
        assert tool.wait() == 14
        assert "tls" in tool.err.read_text()
        tool = start(*ONCE, *own, "-consul-ssl-verify=false", *ECHO, port=port)
        assert tool.wait() == 0, tool.err.read_text()
        missing = ("-consul-ssl-ca-cert=none.pem",)
        tool = start(*ONCE, *own, *missing, *ECHO, port=port)
        assert tool.wait() == 15, tool.err.read_text()
