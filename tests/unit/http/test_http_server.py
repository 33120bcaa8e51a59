from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from http_fakes import FakeCaller

from pyconsul.http.api import build_routes
from pyconsul.http.face import HttpOptions
from pyconsul.http.routing import PLAIN, Request, Response, StreamSink
from pyconsul.http.server import HttpServer
from pyconsul.types.messages import Reply


class Client:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def answer(self, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        size = int(headers.get("Content-Length", 0)) if body else 0
        return status, headers, await self.reader.readexactly(size)

    async def ask(self, request: str, body: bytes = b"") -> tuple[int, bytes]:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.send(f"{request} HTTP/1.1\r\nHost: h\r\n{length}\r\n".encode() + body)
        status, _, answer = await self.answer()
        return status, answer


class Room:
    """A server over a fake caller, and clients that are closed at the end."""

    def __init__(self, **options: Any) -> None:
        self.caller = FakeCaller()
        settings = HttpOptions(node_name="n", datacenter="dc1", **options)
        self.server = HttpServer(self.caller, build_routes(settings), settings)
        self.server.face.leads = lambda: True
        self.port = 0
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something has happened (``run`` has a timeout)."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def run(work: Callable[[Room], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        room = Room(**options)
        _, room.port = await room.server.start("127.0.0.1", 0)
        try:
            await asyncio.wait_for(work(room), 60)
        finally:
            await room.server.stop()
            for client in room.clients:
                client.writer.close()

    asyncio.run(main())


def test_keep_alive_and_hot_answers_follow_writes() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        assert await client.ask("PUT /v1/kv/a", b"1") == (200, b"true")
        bodies = [(await client.ask("GET /v1/kv/a?raw"))[1] for _ in range(5)]
        assert bodies == [b"1"] * 5
        reads = [method for method, _ in room.caller.calls if method == "KVS.Get"]
        assert len(reads) == 2  # seen once, kept at the second, then answered
        await client.ask("PUT /v1/kv/a", b"2")
        assert await client.ask("GET /v1/kv/a?raw") == (200, b"2")

    run(work)


def test_hot_answers_are_whole() -> None:
    async def work(room: Room) -> None:
        room.caller.put("big", b"v" * 20_000)
        client = await room.connect()
        seen: list[tuple[int, dict[str, str], bytes]] = []
        for _ in range(3):
            client.send(b"GET /v1/kv/big HTTP/1.1\r\nHost: h\r\n\r\n")
            seen.append(await client.answer())
        for answer in seen:
            answer[1].pop("Date")
        assert seen[0] == seen[1] == seen[2]
        assert len(room.caller.calls) == 2

    run(work)


def test_no_hot_answers_with_acls() -> None:
    async def work(room: Room) -> None:
        room.caller.put("a", b"v")
        client = await room.connect()
        for _ in range(4):
            await client.ask("GET /v1/kv/a")
        assert len(room.caller.calls) == 4

    run(work, acl_enabled=True)


def test_pipelined_requests_keep_their_order_past_a_held_one() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(
            b"GET /v1/kv/a?index=1 HTTP/1.1\r\nHost: h\r\n\r\n"
            b"PUT /v1/kv/b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
            b"GET /v1/status/nope HTTP/1.1\r\nHost: h\r\n\r\n"
        )
        await until(lambda: bool(room.caller.held))
        room.caller.held[0].set_result(Reply(None, 9))
        statuses = [(await client.answer())[0] for _ in range(3)]
        assert statuses == [404, 200, 404]

    run(work)


def test_a_client_that_leaves_cancels_its_query() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(b"GET /v1/kv/a?index=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: bool(room.caller.held))
        client.writer.close()
        await until(lambda: room.caller.held[0].cancelled())

    run(work)


def test_chunked_bodies_count_against_the_limit() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.ask("GET /v1/kv/a?raw") == (200, b"abcde")
        client.send(head + b"9\r\nabcdefghi\r\n0\r\n\r\n")
        status, _, text = await client.answer()
        assert status == 413
        assert text.startswith(b"Request body too large, max size: 8 bytes.")
        assert await client.ask("GET /v1/kv/a?raw") == (200, b"abcde")

    run(work, kv_max_value_size=8)


def test_a_huge_body_is_refused_before_it_is_read() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(
            b"PUT /v1/kv/a HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999\r\n\r\n"
        )
        status, headers, _ = await client.answer()
        assert (status, headers["Connection"]) == (413, "close")
        assert await client.reader.read() == b""

    run(work)


def test_expect_continue() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(
            b"PUT /v1/kv/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert (await client.head())[0] == 100
        client.send(b"ok")
        assert (await client.answer())[0] == 200

    run(work)


def test_head_has_no_body_and_close_closes() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(b"HEAD /v1/kv/a HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers, _ = await client.answer(body=False)
        assert (status, headers["Content-Length"]) == (405, "23")
        client.send(b"GET /v1/kv/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["Connection"]) == (404, "close")
        assert await client.reader.read() == b""

    run(work)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /v1/kv/a HTTP/1.1\r\nX: " + b"x" * (1100 << 10), b"431"),
    ],
)
def test_bad_heads_are_refused(sent: bytes, status: bytes) -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(sent)
        assert (await client.reader.readline()).split()[1] == status

    run(work)


def test_the_size_of_heads_is_configurable() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        status, _ = await client.ask("GET /v1/kv/a HTTP/1.1\r\nX: " + "x" * 900)
        assert status == 404
        client.send(b"GET /v1/kv/a HTTP/1.1\r\nX: " + b"x" * 1100)
        assert (await client.reader.readline()).split()[1] == b"431"

    run(work, max_head_bytes=1000)


class Times:
    """Counts answered requests, as an agent's metrics do."""

    def __init__(self) -> None:
        self.alone = 0
        self.kept: list[tuple[int, float]] = []

    def __call__(self, request: Request, began: float) -> None:
        self.alone += 1

    def tally(self, request: Request) -> Times:
        return self

    def add_many(self, count: int, value: float) -> None:
        self.kept.append((count, value))


def test_requests_with_a_kept_answer_are_counted() -> None:
    async def work(room: Room) -> None:
        times = room.server.measure = Times()
        room.caller.put("a", b"v")
        client = await room.connect()
        for _ in range(10):
            await client.ask("GET /v1/kv/a?raw")
        room.server.face.hot.tell()
        assert times.alone == 2
        ((count, milliseconds),) = times.kept
        assert count == 8
        assert milliseconds > 0

    run(work)


def test_connections_of_a_client_are_limited() -> None:
    async def work(room: Room) -> None:
        first, second = await room.connect(), await room.connect()
        await first.ask("GET /v1/kv/a")
        await second.ask("GET /v1/kv/a")
        third = await room.connect()
        answer = await third.reader.read()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert answer.endswith(b"\r\n\r\n")
        first.writer.close()
        await first.writer.wait_closed()
        status = 0
        while status != 404:
            fourth = await room.connect()
            try:
                status, _ = await fourth.ask("GET /v1/kv/a")
            except (asyncio.IncompleteReadError, ConnectionError):
                continue

    run(work, max_conns_per_client=2)


def test_http_1_0_keeps_alive_only_on_request() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        client.send(b"GET /v1/kv/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await client.answer())[1]["Connection"] == "keep-alive"
        client.send(b"GET /v1/kv/a HTTP/1.0\r\n\r\n")
        assert (await client.answer())[1]["Connection"] == "close"
        assert await client.reader.read() == b""

    run(work)


def test_gzip_over_the_wire() -> None:
    async def work(room: Room) -> None:
        room.caller.put("a", b"v" * 3000)
        client = await room.connect()
        for _ in range(3):
            client.send(
                b"GET /v1/kv/a?raw HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"
            )
            _, headers, body = await client.answer()
            assert headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(body) == b"v" * 3000

    run(work)


def test_streams_are_chunked_and_end_with_either_side() -> None:
    async def work(room: Room) -> None:
        sinks: list[StreamSink] = []
        ended: list[bool] = []

        def begin(sink: StreamSink) -> None:
            sinks.append(sink)
            sink.on_close(lambda: ended.append(True))
            sink.write(b"hello")

        def monitor(request: Request) -> Response:
            return Response(200, content_type=PLAIN, stream=begin)

        room.server.face.routes.add("agent/monitor", GET=monitor)
        client = await room.connect()
        client.send(b"GET /v1/agent/monitor HTTP/1.1\r\nHost: h\r\n\r\n")
        _, headers = await client.head()
        assert headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in headers
        assert await client.reader.readexactly(10) == b"5\r\nhello\r\n"
        sinks[0].close()
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert ended == [True]
        assert (await client.ask("GET /v1/kv/a"))[0] == 404
        client.send(b"GET /v1/agent/monitor HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.head()
        client.writer.close()
        await until(lambda: len(ended) == 2)
        sinks[1].write(b"into the void")

    run(work)


def test_a_taken_port_raises() -> None:
    async def work(room: Room) -> None:
        other = Room()
        with pytest.raises(OSError, match="address already in use"):
            await other.server.start("127.0.0.1", room.port)
        await other.server.stop()

    run(work)


def test_unix_socket(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        path = str(tmp_path / "http.sock")
        await room.server.start_unix(path, 0o600)
        assert os.stat(path).st_mode & 0o777 == 0o600
        client = Client(*await asyncio.open_unix_connection(path))
        room.clients.append(client)
        assert (await client.ask("GET /v1/kv/a"))[0] == 404

    run(work)


def test_any_word_is_a_method_and_paths_may_be_sent_as_typed() -> None:
    async def work(room: Room) -> None:
        client = await room.connect()
        assert await client.ask("FOO /v1/kv/a", b"x") == (
            405,
            b"method FOO not allowed",
        )
        assert await client.ask("get /v1/kv/a") == (405, b"method get not allowed")
        assert (await client.ask("GET /v1/kv/a"))[0] == 404
        status, _ = await client.ask("PUT /v1/kv/caf\u00e9?x=\u00e9", b"v")
        assert status == 200
        rows = room.caller.rows
        assert list(rows) == ["caf\u00e9"]
        client.send(b"GET /v1//kv/(a)'!*?b=<%3E> HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers, body = await client.answer()
        location = "/v1/kv/%28a%29%27%21%2A?b=<%3E>"
        assert (status, headers["Location"]) == (301, location)
        assert b'href="/v1/kv/%28a%29%27%21%2A?b=&lt;%3E&gt;"' in body
        client.send(b"GET /v1/./query HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.answer())[1]["Location"] == "/v1/query"
        client.send(b"G\xc3T /v1/kv/a HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.head())[0] == 400

    run(work)
