"""A small HTTP backend of the demo: ``backend.py NAME PORT``.

``/`` answers the name, ``/health`` 200 while healthy, ``/count`` how often ``/``
was asked; ``PUT /health`` with ``bad`` or ``good`` sets the health.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Backend(BaseHTTPRequestHandler):
    """One backend; its state is the class's, as each request makes an object."""

    protocol_version = "HTTP/1.1"
    name = ""
    is_healthy = True
    count = 0

    def do_GET(self) -> None:
        """Answer the name, the health or the count."""
        if self.path == "/health":
            status, text = (200, "ok") if Backend.is_healthy else (500, "not well")
        elif self.path == "/count":
            status, text = 200, str(Backend.count)
        else:
            Backend.count += 1
            status, text = 200, Backend.name
        self._answer(status, text)

    def do_PUT(self) -> None:
        """Set the health."""
        size = min(int(self.headers.get("Content-Length", "0")), 100)
        Backend.is_healthy = self.rfile.read(size) == b"good"
        self._answer(200, "ok")

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; the demo has its own story."""


def main() -> None:
    """Serve until killed."""
    Backend.name = sys.argv[1]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Backend).serve_forever()


if __name__ == "__main__":
    main()
