"""A small HTTP/1.1 client for checks: one request, one connection, one answer.

An ``asyncio.Protocol`` on httptools. A thousand checks make a hundred
connections a second, so nothing is done that a check does not need: no pool,
no cookies, no streams. Of a body only the tail is kept.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

MAX_HEAD = 256 << 10
"""Bytes of an answer's head; a longer one is an error."""
MAX_BODY = 16 << 20
"""A larger body ends the reading; its status still counts."""


class Exchange(asyncio.Protocol):
    """Sends ``request`` when connected; ``done`` is set with the answer's end.

    ``done`` raises ``ValueError`` when there is no complete head. ``keep``
    bytes of the body's end are kept in ``body``.
    """

    __slots__ = (
        "_head_bytes",
        "_keep",
        "_kept",
        "_kept_bytes",
        "_no_body",
        "_parser",
        "_request",
        "_transport",
        "done",
        "location",
        "reason",
        "status",
        "total",
    )

    def __init__(self, request: bytes, keep: int, *, no_body: bool = False) -> None:
        self._request = request
        self._keep = keep
        self._no_body = no_body
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._head_bytes = 0
        self._transport = cast("asyncio.Transport", None)
        self._parser: Any = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.reason = ""
        self.location = ""
        self.total = 0

    @property
    def body(self) -> bytes:
        """The end of the body, as much as was asked for."""
        return b"".join(self._kept)[-self._keep :]

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the answer."""
        if self.done.done():
            return
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._finish()
        except httptools.HttpParserError as error:
            self._fail(f"malformed HTTP response: {error}")
        if not self.status and self._head_bytes > MAX_HEAD:
            self._fail(f"server response headers exceeded {MAX_HEAD} bytes; aborted")

    def connection_lost(self, exc: Exception | None) -> None:
        """End of the answer, or of all hope for it."""
        self._parser = None
        if self.status:
            self._finish()
        elif not self.done.done():
            self.done.set_exception(
                ValueError("EOF" if exc is None else f"read: {exc}")
            )

    # --- httptools' callbacks

    def on_status(self, reason: bytes) -> None:
        """Take a piece of the reason."""
        if len(self.reason) < MAX_HEAD:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep where a redirect leads."""
        if not self.location and name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take the status; an interim one is forgotten."""
        status = int(self._parser.get_status_code())
        if status < 200 and status != 101:
            self.reason = self.location = ""
            return
        self.status = status
        if self._no_body:
            self._finish()

    def on_body(self, body: bytes) -> None:
        """Keep the tail."""
        size = len(body)
        self.total += size
        kept = self._kept
        kept.append(body)
        self._kept_bytes += size
        while self._kept_bytes - len(kept[0]) >= self._keep:
            self._kept_bytes -= len(kept.pop(0))
        if self.total > MAX_BODY:
            self._finish()

    def on_message_complete(self) -> None:
        """The answer is complete, unless it was an interim one."""
        if self.status:
            self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
            self._transport.abort()

    def _fail(self, text: str) -> None:
        if not self.done.done():
            self.done.set_exception(ValueError(text))
            self._transport.abort()


def request_bytes(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes = b""
) -> bytes:
    """Return a request; raises ``ValueError`` for what would break its frame."""
    if not method.isascii() or not method.replace("-", "").isalnum():
        raise ValueError(f'net/http: invalid method "{method}"')
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers:
        if not name or any(letter in name for letter in " :\r\n\0"):
            raise ValueError(f'net/http: invalid header field name "{name}"')
        if any(letter in value for letter in "\r\n\0"):
            raise ValueError(f'net/http: invalid header field value for "{name}"')
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace") + body
