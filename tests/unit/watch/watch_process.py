"""The watch command in a process of its own, and a place for its requests."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DEADLINE_S = 40.0
PAIR = {
    "LockIndex": 0,
    "Key": "w",
    "Flags": 0,
    "Value": "MQ==",
    "CreateIndex": 5,
    "ModifyIndex": 5,
}
"""What the stub agent has, and what a handler is given of it."""
SHAPED = PAIR | {"Session": ""}
KEY = ("-type=key", "-key=w")
CODE = (
    "import sys; from pyconsul_watch.cli import watch_main;"
    "sys.exit(watch_main(sys.argv[1:]))"
)


def until(holds, why=lambda: ""):
    """Wait until ``holds()`` is true; return what it returned."""
    end = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        assert time.monotonic() < end, why()
        time.sleep(0.02)
    return found


def put(agent, flags, index, key="w"):
    """Give the stub agent a pair."""
    agent.put(f"/v1/kv/{key}", [PAIR | {"Key": key, "Flags": flags}], index=index)


def asked_from(agent, index):
    """Wait until the watch, having seen ``index``, asks what comes after it."""
    until(lambda: any(f"index={index}&" in one[1] for one in agent.requests))


class Command:
    """The command; its output is read from a file, unless ``stdout`` is given."""

    def __init__(self, tmp_path, *argv, stdout=None):
        self.out = tmp_path / "out"
        self.err = tmp_path / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, *argv],
                stdout=out if stdout is None else stdout,
                stderr=err,
                env=os.environ | {"OUT": str(tmp_path)},
            )

    def until(self, text, path=None):
        """Wait for a text in the output, or another file."""
        path = path or self.out

        def found():
            if text in path.read_text():
                return True
            assert self.process.poll() is None, self.err.read_text()
            return False

        until(found, lambda: (text, path.read_text(), self.err.read_text()))

    def reload(self):
        """Send SIGHUP and wait until it is said to be done."""
        before = self.err.read_text().count("eload")
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.err.read_text().count("eload") > before)

    def end(self, number=signal.SIGINT):
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """Return the exit status once it ended by itself."""
        return self.process.wait(DEADLINE_S)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Sink:
    """An HTTP server that keeps what it is sent: method, path, headers, body."""

    def __init__(self, tls=None):
        self.got = []
        self.status = 200
        self.open = threading.Event()
        """Cleared, answers wait."""
        self.open.set()
        sink = self

        class Web(BaseHTTPRequestHandler):
            def answer(self):
                size = int(self.headers["Content-Length"])
                body = self.rfile.read(size)
                fields = {name.lower(): value for name, value in self.headers.items()}
                sink.got.append((self.command, self.path, fields, body))
                sink.open.wait(DEADLINE_S)
                try:
                    self.send_response(sink.status)
                    self.end_headers()
                    self.wfile.write(b"what it says")
                except OSError:
                    pass  # The client does not wait any more.

            do_POST = do_PUT = answer

            def log_message(self, format, *args):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # A client that does not trust us ends the handshake.

        self._server = Server(("127.0.0.1", 0), Web)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def until(self, count):
        """Wait for this many requests; return the last."""
        until(lambda: len(self.got) >= count, lambda: self.got)
        return self.got[count - 1]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def own_certificate(folder):
    """Return the server side of TLS with a certificate nobody trusts.

    ``own.pem`` in the folder has it and its key; it is for 127.0.0.1 and for
    ``agent.test``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName("agent.test"),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
