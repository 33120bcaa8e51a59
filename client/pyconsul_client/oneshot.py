"""One blocking HTTP/1.1 request on a plain socket, for short-lived commands.

Neither asyncio nor httpx nor msgspec is imported; ``ssl`` only for ``https``.
Each request has its own connection. RFC 9112 framing: ``Content-Length``,
chunked, or until the end of the connection.
"""

from __future__ import annotations

import os
import socket

from .errors import OptionsError, ProtocolError, TransportError
from .options import Options, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024
MAX_REDIRECTS = 5
CHUNK = 64 * 1024
CONNECT_TIMEOUT = 30.0
READ_TIMEOUT = 11 * 60.0
"""Longest silence in seconds: the longest blocking query and its jitter."""
_REDIRECTS = frozenset((301, 302, 307, 308))


def request(
    method: str,
    target: str,
    body: bytes | BinaryIO = b"",
    headers: Mapping[str, str] | None = None,
    *,
    options: Options | None = None,
    timeout: float = READ_TIMEOUT,
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of one request.

    ``target`` is percent-encoded and begins with ``/v1/``; a file as the body is
    sent whole, without being read into memory; without ``options``
    the environment's are used; ``timeout`` is the longest silence in seconds.
    Raises TransportError, with Go's wording for what went wrong, or
    OptionsError.
    """
    status, answer, chunks = stream(
        method, target, body, headers, options=options, timeout=timeout
    )
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_BODY:
            chunks.close()
            raise ProtocolError(f"the answer is larger than {MAX_BODY} bytes")
        parts.append(chunk)
    return status, answer, b"".join(parts)


def stream(
    method: str,
    target: str,
    body: bytes | BinaryIO = b"",
    headers: Mapping[str, str] | None = None,
    *,
    options: Options | None = None,
    timeout: float = READ_TIMEOUT,
) -> tuple[int, dict[str, str], Chunks]:
    """Like :func:`request`, but the body comes as it arrives, unlimited.

    Close the chunks, or read them to the end, to free the connection.
    """
    options = options or resolve()
    for _ in range(MAX_REDIRECTS):
        status, answer, chunks = _exchange(
            method, target, body, headers or {}, options, timeout
        )
        location = answer.get("location", "")
        if method not in ("GET", "HEAD") or status not in _REDIRECTS or not location:
            return status, answer, chunks
        chunks.close()
        if location.startswith(options.url + "/"):
            location = location[len(options.url) :]
        elif not location.startswith("/") or location.startswith("//"):
            # A token must not follow to another origin.
            raise ProtocolError(f"redirected to another origin: {location}")
        else:
            location = location.removeprefix(options.prefix)
        target = location
    raise ProtocolError(f"stopped after {MAX_REDIRECTS} redirects")


class Chunks:
    """The body of an answer, chunk by chunk; owns the connection."""

    def __init__(
        self, sock: socket.socket, label: str, head: dict[str, str], rest: bytes
    ) -> None:
        self._socket = sock
        self._label = label
        self._buffer = rest
        self._pieces = self._frame(head)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; further iteration ends."""
        self._pieces = iter(())
        self._socket.close()

    def interrupt(self) -> None:
        """End the body from another thread: the iteration stops, or raises."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It has ended by itself.

    def _frame(self, head: dict[str, str]) -> Iterator[bytes]:
        if head.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked()
        length = head.get("content-length")
        if length is None:
            return self._to_end()
        if not (length.isascii() and length.isdecimal() and len(length) < 19):
            raise self._broken(f"bad Content-Length {length!r}")
        return self._counted(int(length))

    def _to_end(self) -> Iterator[bytes]:
        while piece := self._take(CHUNK):
            yield piece

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self._take(min(left, CHUNK))
            if not piece:
                raise self._broken("unexpected EOF")
            left -= len(piece)
            yield piece

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size_text = self._line().partition(b";")[0].strip()
            if not size_text or size_text.strip(b"0123456789abcdefABCDEF"):
                raise self._broken("malformed chunk")
            if len(size_text) > 15:
                raise self._broken("chunk too large")
            size = int(size_text, 16)
            if size == 0:
                while self._line():
                    pass
                return
            yield from self._counted(size)
            if self._line():
                raise self._broken("malformed chunk")

    def _take(self, size: int) -> bytes:
        if not self._buffer:
            self._buffer = self._receive()
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            more = self._receive()
            if not more or len(self._buffer) > MAX_HEAD:
                raise self._broken("unexpected EOF")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(CHUNK)
        except OSError as error:
            raise TransportError(f"{self._label}: {_reason(error)}") from error

    def _broken(self, reason: str) -> ProtocolError:
        return ProtocolError(f"{self._label}: {reason}")


def _exchange(
    method: str,
    target: str,
    body: bytes | BinaryIO,
    headers: Mapping[str, str],
    options: Options,
    timeout: float,
) -> tuple[int, dict[str, str], Chunks]:
    label = f'{method.capitalize()} "{options.url}{target}"'
    lines = [
        f"{method} {options.prefix}{target} HTTP/1.1",
        f"Host: {options.authority}",
        "User-Agent: pyconsul-client",
        "Connection: close",
    ]
    start, file = (body, None) if isinstance(body, bytes) else (b"", body)
    if body or method in ("PUT", "POST"):
        size = os.fstat(file.fileno()).st_size if file else len(start)
        lines.append(f"Content-Length: {size}")
    for name, value in (options.headers() | dict(headers)).items():
        lines.append(f"{name}: {value}")
    if any("\r" in line or "\n" in line for line in lines) or " " in target:
        raise OptionsError("a line break in a header or the request target")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    sock = _connect(options, label)
    try:
        sock.settimeout(timeout)
        try:
            sock.sendall(head + start)
            if file:
                sock.sendfile(file)
        except (BrokenPipeError, ConnectionResetError):
            # The agent may refuse a large body early: its answer says why.
            pass
        status, answer, rest = _read_head(sock, label)
        if method == "HEAD" or status in (204, 304):
            sock.close()
            answer["content-length"] = "0"
            rest = b""
        return status, answer, Chunks(sock, label, answer, rest)
    except OSError as error:
        sock.close()
        raise TransportError(f"{label}: {_reason(error)}") from error
    except BaseException:
        sock.close()
        raise


def _connect(options: Options, label: str) -> socket.socket:
    if options.socket_path:
        where = f"dial unix {options.socket_path}: connect"
    else:
        where = f"dial tcp {options.authority}: connect"
    try:
        if options.socket_path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(CONNECT_TIMEOUT)
                sock.connect(options.socket_path)
            except BaseException:
                sock.close()
                raise
        else:
            sock = socket.create_connection(
                (options.host, options.port), CONNECT_TIMEOUT
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except socket.gaierror as error:
        raise TransportError(
            f"{label}: dial tcp: lookup {options.host}: no such host"
        ) from error
    except OSError as error:
        raise TransportError(f"{label}: {where}: {_reason(error)}") from error
    if not options.tls:
        return sock
    context = options.ssl_context()
    try:
        return context.wrap_socket(
            sock, server_hostname=options.server_name or options.host
        )
    except OSError as error:
        sock.close()
        raise TransportError(f"{label}: {_tls_reason(error)}") from error


def _read_head(sock: socket.socket, label: str) -> tuple[int, dict[str, str], bytes]:
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            if len(buffer) > MAX_HEAD:
                raise ProtocolError(f"{label}: response headers too large")
            more = sock.recv(CHUNK)
            if not more:
                raise TransportError(f"{label}: EOF")
            buffer += more
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code = rest[:3]
        digits = code.isascii() and code.isdecimal() and len(code) == 3
        if not version.startswith("HTTP/1.") or not digits:
            raise ProtocolError(f"{label}: malformed HTTP response")
        if code[0] == "1":
            continue
        headers: dict[str, str] = {}
        for field in fields:
            name, colon, value = field.partition(":")
            if not colon:
                raise ProtocolError(f"{label}: malformed HTTP header")
            headers[name.strip().lower()] = value.strip()
        return int(code), headers, buffer


_UNTRUSTED = frozenset((18, 19, 20, 21))
"""OpenSSL's numbers for certificates that nobody we trust has signed."""


def _tls_reason(error: OSError) -> str:
    """Return Go's words for a handshake that failed."""
    # Duck-typed: without ``https`` the module ``ssl`` is not imported.
    code: object = getattr(error, "verify_code", None)
    if code is not None:
        why = (
            "certificate signed by unknown authority"
            if code in _UNTRUSTED
            else str(getattr(error, "verify_message", error)).rstrip(".")
        )
        return f"tls: failed to verify certificate: x509: {why}"
    if getattr(error, "reason", None) in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {_reason(error)}"


def _reason(error: OSError) -> str:
    """Return Go's words for an operating system's error."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if error.errno is not None and error.errno > 0:
        return (error.strerror or os.strerror(error.errno)).lower()
    return str(error) or type(error).__name__
