"""An HTTP face over several clusters: what ``?dc=`` does where a WAN joins them.

It answers as an agent of its own datacenter: a request is passed on to that
cluster, or with ``?dc=`` to the other named, and the answer comes back as it is.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

PATIENCE_S = 120.0
"""Longer than any blocking query of a test."""
Connect = Callable[[float], http.client.HTTPConnection]
"""Returns a new connection to a cluster, given a timeout in seconds."""


class Asked(NamedTuple):
    """One request that came; names of headers in lower case."""

    method: str
    datacenter: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, own: str, ways: Mapping[str, Connect], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.own = own
        self.ways = ways
        self.refuse = False
        self.asked: list[Asked] = []
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: object) -> None:
        """Keep no log."""

    def _pass_on(self) -> None:
        url = urlsplit(self.path)
        words = parse_qsl(url.query, keep_blank_values=True)
        where = next((value for name, value in words if name == "dc"), self.server.own)
        query = urlencode([pair for pair in words if pair[0] != "dc"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, where, url.path, dict(words), headers)
        self.server.asked.append(asked)
        size = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(size) if size else None
        if where not in self.server.ways:
            self._answer(500, {}, b"No path to datacenter")
            return
        if self.server.refuse and self.command == "PUT":
            self._answer(500, {}, b"No cluster leader")
            return
        connection = self.server.ways[where](PATIENCE_S)
        try:
            connection.request(self.command, f"{url.path}?{query}", body)
            answer = connection.getresponse()
            data = answer.read()
            headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower().startswith(("x-consul-", "content-type"))
            }
        except (OSError, http.client.HTTPException) as error:
            self._answer(500, {}, f"rpc error: {error}".encode())
            return
        finally:
            connection.close()
        self._answer(answer.status, headers, data)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class WanFront:
    """Serves while entered; ``address`` is ``HOST:PORT``."""

    def __init__(
        self,
        own: str,
        ways: Mapping[str, Connect],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = _Server(own, ways, tls)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> WanFront:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def refuse_writes(self, refuse: bool) -> None:
        """Answer every PUT with an error, or no longer."""
        self._server.refuse = refuse

    def asked(self, method: str = "") -> list[Asked]:
        """Return what was asked so far, with that method."""
        every = [*self._server.asked]
        return [one for one in every if method in ("", one.method)]
