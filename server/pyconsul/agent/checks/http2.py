"""gRPC and HTTP/2 ping checks, on as much of HTTP/2 as they need (RFC 9113).

Requests are sent with literal header fields and no compression context.
Answers are judged by their DATA frame (a ``HealthCheckResponse``). What a
failed call says of itself is in its compressed trailers; it is shown where the
optional package ``hpack`` is installed (the extra ``grpc``).
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from pyconsul.agent.checks.dial import dial_error, split_address
from pyconsul.agent.checks.runner import Probe

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
CONTINUATION = 9
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20
MAX_FRAME = 16384
MAX_FRAMES = 64
"""Frames read of one answer before it counts as a failure."""
PING_BYTES = b"pyconsul"
MAX_TEXT = 1024
"""Letters shown of what a server says."""
CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded"),
    *("NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted"),
    *("FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal"),
    *("Unavailable", "DataLoss", "Unauthenticated"),
)
"""gRPC's status codes, as Go names them."""
SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    head = struct.pack(">I", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack(">I", stream) + payload


def header_field(name: str, value: str) -> bytes:
    """Return a literal field, never indexed, without Huffman coding."""
    field = b"\x10"
    for text in (name.encode(), value.encode()):
        length = len(text)
        if length < 127:
            field += bytes((length,)) + text
        else:
            rest = length - 127
            size = b"\x7f"
            while rest >= 128:
                size += bytes((rest % 128 + 128,))
                rest //= 128
            field += size + bytes((rest,)) + text
    return field


def health_request(service: str) -> bytes:
    """Return a gRPC message: ``HealthCheckRequest{service}``."""
    name = service.encode()
    body = b""
    if name:
        size, length = b"", len(name)
        while length >= 128:
            size += bytes((length % 128 + 128,))
            length //= 128
        body = b"\x0a" + size + bytes((length,)) + name
    return b"\x00" + struct.pack(">I", len(body)) + body


def health_status(message: bytes) -> int:
    """Return the status of a ``HealthCheckResponse``; 0 when not said."""
    if message[:1] == b"\x01":
        raise ValueError(rpc_error(12, "the answer is compressed"))
    body = message[5:]
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0


def rpc_error(code: int, text: str) -> str:
    """Return Go's wording of a failed call."""
    name = CODES[code] if 0 <= code < len(CODES) else f"Code({code})"
    return f"rpc error: code = {name} desc = {text[:MAX_TEXT]}"


def fields_of(blocks: Iterable[bytes]) -> dict[str, str]:
    """Return the header fields of one answer; none without ``hpack``."""
    try:
        module: Any = import_module("hpack")
    except ImportError:
        return {}
    decoder = module.Decoder(max_header_list_size=MAX_FRAME)
    decode: Callable[[bytes], list[tuple[str, str]]] = decoder.decode
    found: dict[str, str] = {}
    try:
        for block in blocks:
            for name, value in decode(block):
                found[str(name)] = str(value)
    except (module.HPACKError, UnicodeError):
        return {}
    return found


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self.writer = writer

    async def next(self) -> tuple[int, int, int, bytes]:
        """Return kind, flags, stream and payload of the next frame."""
        head = await self._reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        if size > MAX_FRAME:
            raise ValueError("HTTP/2 frame too large")
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        payload = await self._reader.readexactly(size)
        kind, flags = head[3], head[4]
        if kind == SETTINGS and not flags & ACK:
            self.writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.writer.write(frame(PING, ACK, 0, payload))
        return kind, flags, stream, payload


class _Http2Probe(Probe):
    def __init__(
        self,
        address: str,
        timeout: float,
        tls: ssl.SSLContext | None,
        server_name: str,
    ) -> None:
        self.timeout = timeout
        self.address = address
        self._tls = tls
        self._server_name = server_name

    async def connect(self, address: str) -> _Connection:
        """Connect and send the preface."""
        host, port = split_address(address)
        try:
            reader, writer = await asyncio.open_connection(
                host,
                port,
                ssl=self._tls,
                server_hostname=(self._server_name or host) if self._tls else None,
            )
        except OSError as error:
            raise ValueError(dial_error("tcp", address, error)) from None
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        return _Connection(reader, writer)


class PingProbe(_Http2Probe):
    """Passing when a PING is answered."""

    async def run(self) -> tuple[str, str]:
        """Connect, ping, wait for the same bytes."""
        try:
            connection = await self.connect(self.address)
        except ValueError as error:
            return "critical", f"Failed to dial to {self.address}: {error}"
        try:
            connection.writer.write(frame(PING, 0, 0, PING_BYTES))
            for _ in range(MAX_FRAMES):
                kind, flags, _, payload = await connection.next()
                if kind == PING and flags & ACK and payload == PING_BYTES:
                    return "passing", "HTTP2 ping was successful"
                if kind == GOAWAY:
                    break
        except (OSError, EOFError, ValueError) as error:
            return "critical", f"HTTP2 ping failed: {error or 'connection lost'}"
        finally:
            connection.writer.close()
        return "critical", "HTTP2 ping failed: no answer"

    def timeout_text(self) -> tuple[str, str]:
        """Return the result of a probe that took too long."""
        return "critical", "HTTP2 ping failed: context deadline exceeded"


class GrpcProbe(_Http2Probe):
    """Passing when ``grpc.health.v1.Health/Check`` says SERVING."""

    async def run(self) -> tuple[str, str]:
        """Call once; the part after ``/`` names the service asked for."""
        address, _, service = self.address.partition("/")
        try:
            connection = await self.connect(address)
        except ValueError as error:
            text = f'connection error: desc = "transport: Error while dialing: {error}"'
            return "critical", rpc_error(14, text)
        try:
            status = await self._check(connection, address, service)
        except (OSError, EOFError) as error:
            return "critical", rpc_error(14, f"transport is closing: {error}")
        finally:
            connection.writer.close()
        if status == 1:
            return "passing", f"gRPC check {self.address}: success"
        shown = SERVING.get(status, str(status))
        return "critical", f"gRPC {self.address} serving status: {shown}"

    def timeout_text(self) -> tuple[str, str]:
        """Return the result of a probe that took too long."""
        return "critical", rpc_error(4, "context deadline exceeded")

    async def _check(self, connection: _Connection, host: str, service: str) -> int:
        fields = (
            (":method", "POST"),
            (":scheme", "https" if self._tls else "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", host),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
        block = b"".join(header_field(name, value) for name, value in fields)
        connection.writer.write(
            frame(HEADERS, END_HEADERS, 1, block)
            + frame(DATA, END_STREAM, 1, health_request(service))
        )
        message = b""
        blocks: list[bytes] = []
        ending = False
        for _ in range(MAX_FRAMES):
            kind, flags, stream, payload = await connection.next()
            if kind == GOAWAY or (kind == RST_STREAM and stream == 1):
                raise ValueError(rpc_error(14, "the server ended the call"))
            if stream != 1:
                continue
            if kind == DATA:
                message = (message + _unpadded(flags, payload))[:MAX_FRAME]
            elif kind == HEADERS:
                payload = _unpadded(flags, payload)
                blocks.append(payload[5:] if flags & PRIORITY else payload)
            elif kind == CONTINUATION and blocks:
                blocks[-1] += payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                ending = True
            if ending and (kind == DATA or flags & END_HEADERS):
                break
        if message:
            return health_status(message)
        fields = fields_of(blocks)
        code = fields.get("grpc-status", "")
        if code.isdigit():
            text = unquote(fields.get("grpc-message", ""))
            raise ValueError(rpc_error(int(code[:4]), text))
        status = fields.get(":status", "")
        if status.isdigit() and status != "200":
            text = f"unexpected HTTP status code received from server: {status}"
            raise ValueError(rpc_error(2, text))
        raise ValueError(rpc_error(2, "no health status in the answer"))


def _unpadded(flags: int, payload: bytes) -> bytes:
    if flags & PADDED and payload:
        return payload[1 : len(payload) - payload[0]]
    return payload
