"""``/v1/snapshot``: archives that come and go in pieces, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import BinaryIO

import pytest
from http_fakes import FakeCaller

from pyconsul.http import snapshot
from pyconsul.http.face import HttpOptions
from pyconsul.http.routing import Routes
from pyconsul.http.server import HttpServer
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.snapshots import SavedSnapshot, SnapshotReply, SnapshotRequest

PIECE = b"0123456789abcdef" * 4096  # 64 KiB


class Saved:
    """An archive that is made as it is read."""

    def __init__(self, pieces: int, breaks: bool = False) -> None:
        self.reply = SnapshotReply(index=42, known_leader=True, last_contact=7_000_000)
        self.left = pieces
        self.breaks = breaks
        self.given = 0
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if not self.left:
            if self.breaks:
                raise ConsulError("snapshot stream broke")
            return b""
        self.left -= 1
        self.given += 1
        return PIECE

    def close(self) -> None:
        self.closed.set()


class Port:
    """A ``SnapshotPort`` that keeps what it was asked."""

    def __init__(self, saved: Saved | None = None) -> None:
        self.saved = saved
        self.requests: list[SnapshotRequest] = []
        self.size = -1
        self.error: ConsulError | None = None

    async def save(self, request: SnapshotRequest) -> SavedSnapshot:
        self.requests.append(request)
        if self.saved is None:
            raise PermissionDeniedError
        return self.saved

    async def restore(
        self, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        self.requests.append(request)
        self.size = len(archive.read())
        if self.error is not None:
            raise self.error
        return SnapshotReply()


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(port: Port, client: Client) -> None:
    """Run a client against a server with the one route."""

    async def main() -> None:
        routes = Routes()
        snapshot.add_routes(routes, port)
        server = HttpServer(FakeCaller(), routes, HttpOptions())
        host, number = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(host, number, limit=1 << 16)
        try:
            await asyncio.wait_for(client(reader, writer), 20)
        finally:
            writer.close()
            await server.stop()

    asyncio.run(main())


async def head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Return the head and a body with a length."""
    text = await head(reader)
    length = int(text.partition("content-length: ")[2].split("\r\n")[0])
    return text, await reader.readexactly(length)


def test_a_large_archive_waits_for_a_slow_reader() -> None:
    saved = Saved(400)  # 25 MiB, more than buffers and the limit of a stream hold
    port = Port(saved)

    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"GET /v1/snapshot?stale&dc=dc2&token=t HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        text = await head(reader)
        assert "content-type: application/x-gzip\r\n" in text
        assert "x-consul-index: 42\r\n" in text
        assert "x-consul-lastcontact: 7\r\n" in text
        for _ in range(1000):
            await asyncio.sleep(0)
        assert saved.given < 300
        size = 0
        while length := int(await reader.readline(), 16):
            size += len(await reader.readexactly(length))
            await reader.readexactly(2)
        assert size == 400 * len(PIECE)
        assert saved.closed.is_set()

    serve(port, client)
    (request,) = port.requests
    assert (request.datacenter, request.token) == ("dc2", "t")
    assert (request.allow_stale, request.op) == (True, 0)


@pytest.mark.parametrize("gone", [True, False])
def test_what_breaks_off_is_closed_and_not_taken_for_whole(gone: bool) -> None:
    saved = Saved(10_000 if gone else 3, breaks=not gone)

    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        await head(reader)
        if gone:
            writer.transport.abort()
            await saved.closed.wait()
            assert saved.left
        else:
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    received += piece
            assert not received.endswith(b"0\r\n\r\n")
        assert saved.closed.is_set()

    serve(Port(saved), client)


def test_a_refusal_is_an_answer() -> None:
    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        text, body = await answer(reader)
        assert text.startswith("http/1.1 403 ")
        assert body == b"Permission denied"

    serve(Port(), client)


@pytest.mark.parametrize("chunked", [True, False])
def test_an_upload_of_any_length_is_handed_on(chunked: bool) -> None:
    port = Port()
    body = PIECE * 200  # above the limit of other bodies

    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\n")
        if chunked:
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), len(PIECE)):
                piece = body[at : at + len(PIECE)]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        text, answered = await answer(reader)
        assert text.startswith("http/1.1 200 ")
        assert answered == b""
        assert port.size == len(body)
        # The connection goes on, and nothing of the last upload is left.
        port.error = ConsulError("stale not allowed for restore")
        writer.write(b"PUT /v1/snapshot?stale HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        text, answered = await answer(reader)
        assert text.startswith("http/1.1 500 ")
        assert answered == b"stale not allowed for restore"
        assert port.size == 3
        assert port.requests[-1].allow_stale

    serve(port, client)


def test_an_empty_body_is_no_archive() -> None:
    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"PUT /v1/snapshot HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        text, body = await answer(reader)
        assert text.startswith("http/1.1 500 ")
        assert body == b"failed to decompress snapshot: EOF"

    serve(Port(), client)


def test_the_upload_of_a_refused_method_is_dropped() -> None:
    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"POST /v1/snapshot HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        text, body = await answer(reader)
        assert text.startswith("http/1.1 405 ")
        assert body == b"method POST not allowed"

    serve(Port(), client)
