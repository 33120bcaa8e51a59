"""HTTP/1.1 to one agent over kept-alive asyncio streams: GET and PUT, nothing more.

The library's views do GET over h11, a request each 0.3 ms of CPU; copying ten
thousand keys in half a second leaves less. RFC 9112 framing: ``Content-Length``
or chunked.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import msgspec

from pyconsul_client.errors import ApiError, TransportError
from pyconsul_client.options import Options

from .errors import ReplyError

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024
BUFFER = 1024 * 1024
CONNECT_S = 30.0
ANSWER_S = 60.0
MAX_IDLE = 64


class Answer(msgspec.Struct, frozen=True):
    """Status, headers (names in lower case) and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def index(self) -> int:
        """``X-Consul-Index``; 0 when there is none."""
        text = self.headers.get("x-consul-index", "")
        return int(text) if text.isascii() and text.isdecimal() else 0


class _StaleError(Exception):
    """A kept connection had been closed before our request."""


class _Lane:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.used = False
        self.reusable = True

    async def exchange(self, request: bytes) -> Answer:
        reader, writer = self._reader, self._writer
        writer.write(request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if self.used and not error.partial:
                raise _StaleError from error
            raise TransportError("EOF") from error
        except asyncio.LimitOverrunError as error:
            raise ReplyError("response headers too large") from error
        except ConnectionError as error:
            if self.used:
                raise _StaleError from error
            raise TransportError(str(error)) from error
        self.used = True
        status, headers = _head(head)
        if status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("connection", "").lower() == "close":
            self.reusable = False
        try:
            body = await self._body(headers)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise TransportError("unexpected EOF") from error
        except asyncio.LimitOverrunError as error:
            raise ReplyError("malformed chunk") from error
        return Answer(status, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts: list[bytes] = []
            size = 0
            while more := _number(await self._reader.readline(), 16):
                size += more
                if size > MAX_BODY:
                    raise ReplyError(f"an answer over {MAX_BODY} bytes")
                parts.append((await self._reader.readexactly(more + 2))[:-2])
            while (await self._reader.readline()).strip():
                pass
            return b"".join(parts)
        length = headers.get("content-length")
        if length is None:
            self.reusable = False
            body = await self._reader.read(MAX_BODY + 1)
        else:
            wanted = _number(length.encode(), 10)
            if wanted > MAX_BODY:
                raise ReplyError(f"an answer over {MAX_BODY} bytes")
            body = await self._reader.readexactly(wanted)
        if len(body) > MAX_BODY:
            raise ReplyError(f"an answer over {MAX_BODY} bytes")
        return body

    def close(self) -> None:
        self._writer.close()


class Agent:
    """Asks one agent; as many connections as questions under way."""

    def __init__(self, options: Options, datacenter: str = "") -> None:
        self._options = options
        self.datacenter = datacenter
        """Sent as ``dc`` with every question, ``""`` for the agent's own."""
        self._idle: list[_Lane] = []
        self._closed = False
        lines = [f"Host: {options.authority}", "User-Agent: pyconsul-replicate"]
        lines += [f"{name}: {value}" for name, value in options.headers().items()]
        self._fixed = "\r\n".join(lines)
        self.requests = 0

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        url = self._options.url
        return f"{url} ({self.datacenter})" if self.datacenter else url

    async def get(self, target: str, within: float = ANSWER_S) -> Answer:
        """Return the answer to GET; 404 is an answer, other errors raise.

        ``target`` is percent-encoded; ``within`` is in seconds, for all of it.
        Raises TransportError or ApiError.
        """
        answer = await self.ask("GET", target, within=within)
        if answer.status not in (200, 404):
            raise _api_error(answer)
        return answer

    async def put(self, target: str, body: bytes) -> Answer:
        """Return the answer to PUT: 200 or 409; raises like :meth:`get`."""
        answer = await self.ask("PUT", target, body)
        if answer.status not in (200, 409):
            raise _api_error(answer)
        return answer

    async def ask(
        self, method: str, target: str, body: bytes = b"", within: float = ANSWER_S
    ) -> Answer:
        """Return any answer; raises TransportError."""
        if self.datacenter:
            mark = "&" if "?" in target else "?"
            target = f"{target}{mark}dc={self.datacenter}"
        length = f"\r\nContent-Length: {len(body)}" if method == "PUT" else ""
        path = self._options.prefix + target
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}{length}\r\n\r\n"
        self.requests += 1
        try:
            async with asyncio.timeout(within):
                return await self._ask(head.encode() + body)
        except TimeoutError as error:
            raise TransportError(f"{self.name}: no answer in {within:g} s") from error
        except TransportError as error:
            raise TransportError(f"{self.name}: {error}") from error
        except ssl.SSLError as error:
            text = str(getattr(error, "verify_message", "")) or error.reason
            raise TransportError(f"{self.name}: TLS: {text or error}") from error
        except OSError as error:
            # asyncio puts words of its own over the system's.
            number = error.errno or 0
            known = os.strerror(number) if number > 0 else ""
            reason = (known or error.strerror or str(error)).lower()
            raise TransportError(f"{self.name}: {reason}") from error

    def close(self) -> None:
        """Close the connections that are free, and the others when they are."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, request: bytes) -> Answer:
        while True:
            lane = self._idle.pop() if self._idle else await self._open()
            done = False
            try:
                answer = await lane.exchange(request)
                done = lane.reusable
                return answer
            except _StaleError:
                continue  # The agent closed it while it was idle: not our request.
            finally:
                if done and not self._closed and len(self._idle) < MAX_IDLE:
                    self._idle.append(lane)
                else:
                    lane.close()

    async def _open(self) -> _Lane:
        options = self._options
        async with asyncio.timeout(CONNECT_S):
            if options.socket_path:
                streams = await asyncio.open_unix_connection(
                    options.socket_path, limit=BUFFER
                )
            elif options.tls:
                streams = await asyncio.open_connection(
                    options.host,
                    options.port,
                    ssl=options.ssl_context(),
                    server_hostname=options.server_name or options.host,
                    limit=BUFFER,
                )
            else:
                streams = await asyncio.open_connection(
                    options.host, options.port, limit=BUFFER
                )
        return _Lane(*streams)


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    if len(data) > MAX_HEAD:
        raise ReplyError("response headers too large")
    first, *fields = data[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ReplyError("malformed HTTP response")
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon:
            raise ReplyError("malformed HTTP header")
        headers[name.strip().lower()] = value.strip()
    return int(rest[:3]), headers


def _number(text: bytes, base: int) -> int:
    digits = text.partition(b";")[0].strip()
    allowed = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"
    if not digits or len(digits) > 15 or digits.strip(allowed):
        raise ReplyError("malformed HTTP framing")
    return int(digits, base)


def _api_error(answer: Answer) -> ApiError:
    text = answer.body[:500].decode("utf-8", "replace").strip()
    return ApiError(answer.status, text)
