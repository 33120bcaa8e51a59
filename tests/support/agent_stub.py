"""An agent of a few keys whose questions are looked at; with TLS if wanted."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALUE = b"x"


class Stub(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Every key has the value x; stale answers are 9 s old.

    The first ``failures`` questions are answered with 500.
    """

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.seen: list[tuple[str, str | None, str | None]] = []
        """Path, token and authorization of each question."""
        self.failures = failures
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class StubHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Stub)
        headers = self.headers
        token, auth = headers.get("X-Consul-Token"), headers.get("Authorization")
        self.server.seen.append((self.path, token, auth))
        path = self.path.partition("?")[0]
        if len(self.server.seen) <= self.server.failures:
            self._answer(500, b"not now")
            return
        key = path.removeprefix("/v1/kv/")
        if key.endswith("/"):
            key += "A"
        value = base64.b64encode(VALUE).decode()
        pair = {"Key": key, "Value": value, "Flags": 0, "ModifyIndex": 5}
        self._answer(200, json.dumps([pair]).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Consul-Index", "5")
        self.send_header("X-Consul-KnownLeader", "true")
        age = "9000" if "stale" in self.path else "0"
        self.send_header("X-Consul-LastContact", age)
        self.end_headers()
        self.wfile.write(body)

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
        (folder / f"{name}-cert.pem").write_bytes(shown)
        (folder / f"{name}-key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context
