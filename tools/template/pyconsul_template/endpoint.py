"""The status endpoint: a few GET pages over TCP or a unix socket.

``/status`` is JSON, ``/metrics`` Prometheus' text, ``/ready`` 200 or 503. No
page shows data from Consul, only its names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable

import msgspec

from pyconsul_template.schema import ConfigError
from pyconsul_template.status import PROMETHEUS, Status, prometheus

HEAD_BYTES_MAX = 8192
REQUEST_S = 5.0
CONNECTIONS_MAX = 32
JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def answer(head: bytes, status: Callable[[], Status | None]) -> bytes:
    """Return the whole response to a request's head. Pure but for ``status``."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response(400, PLAIN, b"malformed request\n")
    method, target = words[0], words[1].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _response(405, PLAIN, b"only GET\n")
    now = status()
    code, kind, body = 200, JSON, b""
    if target == b"/ready":
        is_ready = now is not None and now.ready
        code, kind = (200, PLAIN) if is_ready else (503, PLAIN)
        body = b"ready\n" if is_ready else b"not every template is rendered\n"
    elif target not in (b"/status", b"/metrics", b"/"):
        code, kind, body = 404, PLAIN, b"there are /status, /metrics and /ready\n"
    elif now is None:
        code, kind, body = 503, PLAIN, b"starting\n"
    elif target == b"/metrics":
        kind, body = PROMETHEUS, prometheus(now).encode()
    else:
        body = msgspec.json.format(msgspec.json.encode(now), indent=1) + b"\n"
    return _response(code, kind, body, is_head=method == b"HEAD")


def _response(code: int, kind: str, body: bytes, *, is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        "X-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)


@contextlib.asynccontextmanager
async def serving(
    address: str, status: Callable[[], Status | None]
) -> AsyncGenerator[None]:
    """Serve while the block runs; nothing for an empty address.

    Raises ``ConfigError`` for an address that cannot be listened on.
    """
    if not address:
        yield
        return
    open_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        try:
            if open_connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(answer(head, status))
                    await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # Whoever asked has gone, or does not speak HTTP.
        finally:
            open_connections -= 1
            writer.close()

    path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    path = "/" + path.lstrip("/") if path.startswith("//") else path
    try:
        if path:
            _remove_socket(path)
            server = await asyncio.start_unix_server(serve, path, limit=HEAD_BYTES_MAX)
        else:
            host, port = split_address(address)
            server = await asyncio.start_server(serve, host, port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        raise ConfigError(f"status_addr: {address}: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()
        if path:
            _remove_socket(path)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port; raises ``ConfigError``."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ConfigError(f"status_addr: {address!r} is not HOST:PORT or unix:/PATH")
    return host.strip("[]") or "127.0.0.1", int(port)


def _remove_socket(path: str) -> None:
    """Remove a socket, left over or ours; anything else stays."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
