"""The status endpoint: a few GET pages over TCP or a unix socket.

``/status`` is JSON, ``/metrics`` Prometheus' text, ``/ready`` 200 or 503: they
show names from Consul, no data. ``/render/<n>`` is the text of template ``n``,
and only there where the configuration lets it be shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from pyconsul_template.addresses import NO, may_read, socket_path, split_address
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
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Texts(Struct, frozen=True):
    """What ``/render`` shows, and to whom."""

    shown: str = NO
    """``no``, ``local`` or ``all``."""
    charsets: Sequence[str] = ()
    files: Sequence[Mapping[Path, bytes]] = ()
    """The newest whole text of each file, by template."""


def answer(
    head: bytes,
    status: Callable[[], Status | None],
    texts: Callable[[], Texts] = Texts,
) -> bytes:
    """Return the whole response to a request's head. Pure but for the callables."""
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
    elif target == b"/render" or target.startswith(b"/render/"):
        code, kind, body = _rendered(target, _host(head), texts())
    elif target not in (b"/status", b"/metrics", b"/"):
        code, kind = 404, PLAIN
        body = b"there are /status, /metrics, /ready and /render/<n>\n"
    elif now is None:
        code, kind, body = 503, PLAIN, b"starting\n"
    elif target == b"/metrics":
        kind, body = PROMETHEUS, prometheus(now).encode()
    else:
        body = msgspec.json.format(msgspec.json.encode(now), indent=1) + b"\n"
    return _response(code, kind, body, is_head=method == b"HEAD")


def _rendered(target: bytes, host: str, texts: Texts) -> tuple[int, str, bytes]:
    """Return the answer to ``/render[/<n>[/<m>]]``: ``m`` counts its files."""
    if not may_read(host, texts.shown):
        return 403, PLAIN, b"status_render does not show rendered texts here\n"
    words = target.decode("latin-1").split("/")[2:]
    if not all(word.isascii() and word.isdecimal() for word in words):
        return 404, PLAIN, b"a template is /render/<number>\n"
    numbers = [int(word) for word in words if len(word) < 10]
    if len(words) != len(numbers) or len(numbers) > 2:
        return 404, PLAIN, b"there is no such template\n"
    if not numbers:
        lines = [
            f"{index} {path}"
            for index, files in enumerate(texts.files)
            for path in sorted(files)
        ]
        return 200, PLAIN, _lines(lines)
    if numbers[0] >= len(texts.files):
        return 404, PLAIN, b"there is no such template\n"
    files = texts.files[numbers[0]]
    paths = sorted(files)
    if not paths:
        return 503, PLAIN, b"it is not rendered yet\n"
    if len(numbers) == 1 and len(paths) > 1:
        return 200, PLAIN, _lines([f"{at} {path}" for at, path in enumerate(paths)])
    at = numbers[1] if len(numbers) == 2 else 0
    if at >= len(paths):
        return 404, PLAIN, b"it has no such file\n"
    kind = f"text/plain; charset={texts.charsets[numbers[0]]}"
    return 200, kind, files[paths[at]]


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _host(head: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"host":
            return value.strip().decode("latin-1")
    return ""


def _response(code: int, kind: str, body: bytes, *, is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)


@contextlib.asynccontextmanager
async def serving(
    address: str,
    status: Callable[[], Status | None],
    texts: Callable[[], Texts] = Texts,
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
                    writer.write(answer(head, status, texts))
                    await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # Whoever asked has gone, or does not speak HTTP.
        finally:
            open_connections -= 1
            writer.close()

    path = socket_path(address)
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


def _remove_socket(path: str) -> None:
    """Remove a socket, left over or ours; anything else stays."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
