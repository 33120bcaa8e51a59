"""``/v1/snapshot``: archives that come and go in pieces, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
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
GET = b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n"


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


class Peer:
    """A client's connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *pieces: bytes) -> str:
        """Send a request, given in pieces; return the head of the answer."""
        self.writer.writelines(pieces)
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()

    async def answer(self, *pieces: bytes) -> tuple[int, bytes]:
        """Send a request; return the status and a body with a length."""
        text = await self.ask(*pieces)
        length = int(text.partition("content-length: ")[2].split("\r\n")[0])
        return int(text.split()[1]), await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def serving(port: Port) -> AsyncGenerator[Peer]:
    """Connect to a server with the one route; all is to end soon."""
    routes = Routes()
    snapshot.add_routes(routes, port)
    server = HttpServer(FakeCaller(), routes, HttpOptions())
    host, number = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, number, limit=1 << 16)
    try:
        async with asyncio.timeout(60):
            yield Peer(reader, writer)
    finally:
        writer.close()
        await server.stop()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_large_archive_waits_for_a_slow_reader() -> None:
    saved = Saved(400)  # 25 MiB, more than buffers and the limit of a stream hold
    port = Port(saved)
    async with serving(port) as peer:
        text = await peer.ask(
            b"GET /v1/snapshot?stale&dc=dc2&token=t HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert "content-type: application/x-gzip\r\n" in text
        assert "x-consul-index: 42\r\n" in text
        assert "x-consul-lastcontact: 7\r\n" in text
        for _ in range(1000):
            await asyncio.sleep(0)
        assert saved.given < 300
        size = 0
        while length := int(await peer.reader.readline(), 16):
            size += len(await peer.reader.readexactly(length))
            await peer.reader.readexactly(2)
        assert size == 400 * len(PIECE)
        assert saved.closed.is_set()
    (request,) = port.requests
    assert (request.datacenter, request.token) == ("dc2", "t")
    assert (request.allow_stale, request.op) == (True, 0)


@pytest.mark.anyio
async def test_an_archive_nobody_reads_any_more_is_closed() -> None:
    saved = Saved(10_000)
    async with serving(Port(saved)) as peer:
        await peer.ask(GET)
        peer.writer.transport.abort()
        await saved.closed.wait()
        assert saved.left


@pytest.mark.anyio
async def test_an_archive_that_breaks_off_is_not_taken_for_whole() -> None:
    saved = Saved(3, breaks=True)
    async with serving(Port(saved)) as peer:
        await peer.ask(GET)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := await peer.reader.read(1 << 16):
                received += piece
        assert not received.endswith(b"0\r\n\r\n")
        assert saved.closed.is_set()


@pytest.mark.anyio
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upload_of_any_length_is_handed_on(chunked: bool) -> None:
    port = Port()
    body = PIECE * 200  # above the limit of other bodies
    pieces = [b"Content-Length: %d\r\n\r\n" % len(body), body]
    if chunked:
        pieces = [
            b"Transfer-Encoding: chunked\r\n\r\n",
            *(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) for _ in range(200)),
            b"0\r\n\r\n",
        ]
    async with serving(port) as peer:
        first = await peer.answer(b"PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\n", *pieces)
        assert first == (200, b"")
        assert port.size == len(body)
        # The connection goes on, and nothing of the last upload is left.
        port.error = ConsulError("stale not allowed for restore")
        second = await peer.answer(
            b"PUT /v1/snapshot?stale HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert second == (500, b"stale not allowed for restore")
        assert port.size == 3
        assert port.requests[-1].allow_stale


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("question", "status", "text"),
    [
        pytest.param(GET, 403, b"Permission denied", id="refused"),
        pytest.param(
            b"PUT /v1/snapshot HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            500,
            b"failed to decompress snapshot: EOF",
            id="an empty body is no archive",
        ),
        pytest.param(
            b"POST /v1/snapshot HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            405,
            b"method POST not allowed",
            id="the upload of a refused method is dropped",
        ),
    ],
)
async def test_a_refusal_is_an_answer(
    question: bytes, status: int, text: bytes
) -> None:
    async with serving(Port()) as peer:
        assert await peer.answer(question) == (status, text)
