"""The small HTTP client against servers that behave well and badly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pyconsul_client.errors import ApiError, TransportError
from pyconsul_client.options import resolve
from pyconsul_replicate.wire import Agent

Work = Callable[[Agent], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Consul-Index: 7\r\n\r\nhi"


def serve(answers: list[bytes], work: Work, *, keep: bool = True) -> list[bytes]:
    """Run ``work`` against a server of these answers; return what it was asked."""
    asked: list[bytes] = []

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while answers:
                head = await reader.readuntil(b"\r\n\r\n")
                asked.append(head)
                writer.write(answers.pop(0))
                await writer.drain()
                if not keep:
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = resolve({}, address=f"127.0.0.1:{port}", token="secret")
        agent = Agent(options, "dc9")
        try:
            async with asyncio.timeout(60):
                await work(agent)
        finally:
            agent.close()
            server.close()
            await asyncio.sleep(0)

    asyncio.run(run())
    return asked


def test_a_connection_is_kept_and_says_who_asks() -> None:
    async def work(agent: Agent) -> None:
        answer = await agent.get("/v1/kv/a?recurse")
        assert (answer.status, answer.body, answer.index) == (200, b"hi", 7)
        assert (await agent.get("/v1/kv/b")).body == b"hi"

    asked = serve([GOOD, GOOD], work)
    assert asked[0].startswith(b"GET /v1/kv/a?recurse&dc=dc9 HTTP/1.1\r\n")
    assert asked[1].startswith(b"GET /v1/kv/b?dc=dc9 ")
    assert b"X-Consul-Token: secret\r\n" in asked[0]


def test_a_connection_closed_while_idle_is_opened_again() -> None:
    async def work(agent: Agent) -> None:
        await agent.get("/v1/kv/a")
        await asyncio.sleep(0.01)
        await agent.get("/v1/kv/a")

    assert len(serve([GOOD, GOOD], work, keep=False)) == 2


def test_chunks() -> None:
    async def work(agent: Agent) -> None:
        assert (await agent.get("/v1/kv/a")).body == b"abcde"

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    serve([head + b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n"], work)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000,
        b"",
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    async def work(agent: Agent) -> None:
        with pytest.raises(TransportError):
            await agent.get("/v1/kv/a")

    serve([answer], work, keep=False)


def test_errors_are_told_without_the_token() -> None:
    async def work(agent: Agent) -> None:
        with pytest.raises(ApiError, match="No cluster leader") as found:
            await agent.get("/v1/kv/a")
        assert found.value.retryable
        assert "secret" not in str(found.value)

    body = b"No cluster leader"
    head = b"HTTP/1.1 500 x\r\nContent-Length: %d\r\n\r\n" % len(body)
    serve([head + body], work)


def test_nobody_there() -> None:
    async def run() -> None:
        agent = Agent(resolve({}, address="127.0.0.1:1"))
        with pytest.raises(TransportError, match="refused"):
            await agent.get("/v1/kv/a")

    asyncio.run(run())
