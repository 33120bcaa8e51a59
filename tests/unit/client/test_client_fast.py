"""The asyncio connection against a server that misbehaves to order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from pyconsul_client.errors import (
    ConnectionRefusedByLimitError,
    ProtocolError,
    TransportError,
    UnansweredError,
)
from pyconsul_client.fast import FastConnection

OK = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n2\r\nhi\r\n0\r\n\r\n"
)
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhi"
LIMIT = b"HTTP/1.1 429 X\r\nContent-Length: 24\r\n\r\ntoo many concurrent conn"
BARE_LIMIT = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def asked(
    answer: Callable[[int], tuple[bytes, bool]], max_body: int = 1000
) -> AsyncGenerator[tuple[FastConnection, list[bytes]]]:
    """Give a connection; ``answer`` says the bytes of a question, and whether to
    close after them."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                data, ends = answer(len(heads))
                writer.write(data)
                if ends:
                    break
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect(factory: Callable[[], asyncio.Protocol]) -> object:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, "127.0.0.1", port)

    connection = FastConnection(connect, [(b"Host", b"x")], max_body)
    try:
        yield connection, heads
    finally:
        await connection.aclose()
        server.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("data", [OK, CHUNKED])
async def test_a_connection_is_used_again(data: bytes) -> None:
    async with asked(lambda _: (data, False)) as (connection, heads):
        for _ in range(3):
            response = await connection.get("/v1/x?index=1", 5)
            assert (response.status, response.body) == (200, b"hi")
        assert connection.is_open
    assert heads == [b"GET /v1/x?index=1 HTTP/1.1\r\nHost: x\r\n\r\n"] * 3


@pytest.mark.anyio
async def test_headers_are_in_lower_case() -> None:
    async with asked(lambda _: (OK, False)) as (connection, _):
        assert (await connection.get("/", 5)).index == 7


@pytest.mark.anyio
async def test_a_body_may_end_with_the_connection() -> None:
    async with asked(lambda _: (TO_THE_END, True)) as (connection, _):
        assert (await connection.get("/", 5)).body == b"hi"


@pytest.mark.anyio
async def test_a_question_lost_to_a_closed_connection_is_asked_again() -> None:
    def answer(number: int) -> tuple[bytes, bool]:
        return (b"", True) if number == 2 else (OK, False)

    async with asked(answer) as (connection, heads):
        for _ in range(2):
            assert (await connection.get("/", 5)).body == b"hi"
    assert len(heads) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("data", "ends", "error"),
    [
        (b"", True, UnansweredError),
        (b"", False, TransportError),
        (b"nonsense\r\n\r\n", False, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", True, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, False,
         ProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n", False, ProtocolError),
        (LIMIT, False, ConnectionRefusedByLimitError),
        (BARE_LIMIT, True, ConnectionRefusedByLimitError),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error_and_closes(
    data: bytes, ends: bool, error: type[Exception]
) -> None:
    async with asked(lambda _: (data, ends)) as (connection, _):
        with pytest.raises(error):
            await connection.get("/", 0.3 if not (data or ends) else 5)
        assert not connection.is_open


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (BARE_LIMIT, ConnectionRefusedByLimitError, "too many"),
        (OK[:-1], TransportError, "connection reset by peer"),
        (b"HTTP/1.1 429 Too", TransportError, "connection reset by peer"),
    ],
)
async def test_a_reset_ends_only_the_answer_of_the_limiter(
    data: bytes, error: type[Exception], text: str
) -> None:
    class Resets(asyncio.Transport):
        """A connection that answers a question, then breaks."""

        def __init__(self, protocol: asyncio.Protocol) -> None:
            super().__init__()
            self.protocol = protocol

        def is_closing(self) -> bool:
            return False

        def abort(self) -> None:
            pass

        def write(self, data_asked: object) -> None:
            def breaks() -> None:
                self.protocol.data_received(data)
                self.protocol.connection_lost(ConnectionResetError())

            asyncio.get_running_loop().call_soon(breaks)

    async def connect(factory: Callable[[], asyncio.Protocol]) -> object:
        protocol = factory()
        protocol.connection_made(Resets(protocol))
        return protocol

    connection = FastConnection(connect, [(b"Host", b"x")])
    with pytest.raises(error, match=text):
        await connection.get("/", 5)
    assert not connection.is_open


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "a", "/\xff"])
async def test_a_target_cannot_carry_another_request(target: str) -> None:
    async with asked(lambda _: (OK, False)) as (connection, heads):
        with pytest.raises(ProtocolError):
            await connection.get(target, 5)
    assert heads == []


@pytest.mark.anyio
async def test_cancelling_closes() -> None:
    async with asked(lambda _: (b"", False)) as (connection, heads):
        task = asyncio.create_task(connection.get("/", 60))
        while not heads:  # noqa: ASYNC110 - the other side fills it
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.is_open
