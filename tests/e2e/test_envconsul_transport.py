"""The way of envconsul to its agent: TLS, tokens, stale answers."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envconsul_process import Start, starter


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start envconsul against a stub; it is stopped afterwards."""
    yield from starter(tmp_path, None)


class Stub(http.server.HTTPServer):
    """An agent of one key, whose stale answers are too old."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.seen: list[tuple[str, str | None, str | None]] = []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class StubHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Stub)
        headers = self.headers
        token, auth = headers.get("X-Consul-Token"), headers.get("Authorization")
        self.server.seen.append((self.path, token, auth))
        self.send_response(200)
        self.send_header("X-Consul-KnownLeader", "true")
        self.send_header(
            "X-Consul-LastContact", "9000" if "stale" in self.path else "0"
        )
        self.end_headers()
        self.wfile.write(b'[{"Key": "app/A", "Value": "eA=="}]')

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(server: Stub) -> Iterator[Stub]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def certificates(folder: Path) -> ssl.SSLContext:
    """Write ca.pem and both.pem (client) and return a server's context."""
    now = datetime.datetime.now(datetime.UTC)

    def issue(name: str, key: Any, issuer: str, signer: Any) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.DNSName("server.dc1.consul")])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(name == "ca", None), critical=True)
            .sign(signer, hashes.SHA256())
        )

    pem = serialization.Encoding.PEM
    root = ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(issue("ca", root, "ca", root).public_bytes(pem))
    for name in ("server", "both"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        shown = issue(name, key, "ca", root).public_bytes(pem)
        (folder / f"{name}.pem").write_bytes(shown + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


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
