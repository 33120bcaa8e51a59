"""A small HTTP server for a tool's state: ``/status``, ``/metrics``, ``/ready``.

It answers one request at a time in a thread of its own, for people and for
Prometheus on the same machine. Whoever can connect can read: an address beyond
loopback is the user's choice. Imports ``http.server`` only when started.
"""

from __future__ import annotations

import json
import os
import threading

from .exits import FAILED, ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socketserver import BaseServer

    Status = Mapping[str, object]
    Metric = tuple[str, str, str, float]
    """Name, kind (``counter`` or ``gauge``), help text, value."""

PATIENCE = 5.0
"""Seconds a client may take to ask, and a server to answer."""
MAX_STATUS = 16 * 1024 * 1024
"""Bytes of a status that is asked for."""


class StatusServer:
    """Serves what its functions say; ``address`` is ``HOST:PORT`` or ``unix:PATH``.

    The functions are called in the server's thread. Raises ToolError (14) when
    it cannot listen.
    """

    def __init__(
        self,
        address: str,
        status: Callable[[], Status],
        metrics: Callable[[], list[Metric]],
        ready: Callable[[], bool],
    ) -> None:
        self._path = address.removeprefix("unix:").removeprefix("//")
        self._unix = address.startswith("unix:")
        self._address = address
        self._status = status
        self._metrics = metrics
        self._ready = ready
        self._server: BaseServer | None = None

    def start(self) -> int:
        """Begin to listen; return the TCP port, 0 for a unix socket."""
        import socketserver
        from http.server import BaseHTTPRequestHandler

        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_GET(self) -> None:
                status, kind, body = outer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the tool's log is not an access log."""

            def address_string(self) -> str:
                return "client"

        class Tcp(socketserver.TCPServer):
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: a client that hangs up is no news."""

        class Unix(socketserver.UnixStreamServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: a client that hangs up is no news."""

        try:
            if self._unix:
                if os.path.exists(self._path):
                    os.unlink(self._path)
                server = Unix(self._path, Handler)
                os.chmod(self._path, 0o600)
                port = 0
            else:
                host, _, number = self._address.rpartition(":")
                server = Tcp((host.strip("[]") or "127.0.0.1", int(number)), Handler)
                port = int(server.server_address[1])
        except (OSError, ValueError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            text = f"cannot listen on {self._address}: {reason.lower()}"
            raise ToolError(FAILED, text) from error
        self._server = server
        threading.Thread(
            target=server.serve_forever, name="status", daemon=True
        ).start()
        return port

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        if self._unix and os.path.exists(self._path):
            os.unlink(self._path)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body of a request's path."""
        path = path.partition("?")[0]
        if path == "/status":
            body = json.dumps(dict(self._status()), indent=2, sort_keys=True) + "\n"
            return 200, "application/json", body.encode()
        if path == "/metrics":
            text = exposition(self._metrics())
            return 200, "text/plain; version=0.0.4; charset=utf-8", text.encode()
        if path == "/ready":
            ready = self._ready()
            body = b"ready\n" if ready else b"not ready\n"
            return 200 if ready else 503, "text/plain; charset=utf-8", body
        return 404, "text/plain; charset=utf-8", b"not found\n"


def ask(address: str) -> object:
    """Return what the instance at an address says at ``/status``, decoded.

    ``address`` is that of a :class:`StatusServer`. Raises ToolError (14).
    """
    import http.client
    import socket

    path = address.removeprefix("unix:").removeprefix("//")

    class Unix(http.client.HTTPConnection):
        def connect(self) -> None:
            """Connect to the socket instead of a host."""
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(path)

    host, _, port = address.rpartition(":")
    try:
        if address.startswith("unix:"):
            connection = Unix("localhost", timeout=PATIENCE)
        else:
            connection = http.client.HTTPConnection(
                host.strip("[]") or "127.0.0.1", int(port), timeout=PATIENCE
            )
        try:
            connection.request("GET", "/status")
            answer = connection.getresponse()
            body = answer.read(MAX_STATUS + 1)
        finally:
            connection.close()
        if answer.status != 200 or len(body) > MAX_STATUS:
            raise ValueError(f"answered {answer.status}, {len(body)} bytes")
        return json.loads(body)
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(FAILED, f"{address}: {reason.lower()}") from error


def printable(text: str) -> str:
    """Return text that no terminal obeys."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def exposition(metrics: list[Metric]) -> str:
    """Return metrics in Prometheus' text form."""
    lines: list[str] = []
    for name, kind, words, value in metrics:
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
        lines.append(f"{name} {value:g}" if kind == "gauge" else f"{name} {value:.0f}")
    return "\n".join(lines) + "\n"
