"""gRPC and HTTP/2 ping checks against a server of hand-made frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from pyconsul.agent.checks.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    GrpcProbe,
    PingProbe,
    frame,
    header_field,
    health_request,
    health_status,
    rpc_error,
)
from pyconsul.agent.checks.runner import Gate, Probe, TimedRunner
from pyconsul.agent.checks.status import Thresholds

SERVING = b"\x00\x00\x00\x00\x02\x08\x01"


@asynccontextmanager
async def answering(frames: bytes, stay: bool = False) -> AsyncGenerator[str]:
    """Serve ``frames`` after the client's preface and settings."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(PREFACE) + 9)
            writer.write(frame(SETTINGS, 0, 0) + frames)
            if stay:
                await reader.read()
            await reader.read(1)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()


async def once(probe: Probe) -> tuple[str, str]:
    """Return what a runner makes of one probe."""
    runner = TimedRunner(
        "c", probe, 1.0, Thresholds(), lambda _, __: None, Gate(), Random(1)
    )
    status, output, _ = await runner.probe()
    return status, output


def ask(frames: bytes) -> tuple[str, str]:
    async def run() -> tuple[str, str]:
        async with answering(frames) as address:
            status, output = await once(GrpcProbe(address, 20, None, ""))
            return status, output.replace(address, "ADDRESS")

    return asyncio.run(run())


HEAD = frame(HEADERS, END_HEADERS, 1, b"\x88")


@pytest.mark.parametrize(
    "frames",
    [
        HEAD + frame(DATA, END_STREAM, 1, SERVING),
        HEAD + frame(DATA, 0, 1, SERVING[:3]) + frame(DATA, END_STREAM, 1, SERVING[3:]),
        HEAD + frame(DATA, END_STREAM | PADDED, 1, b"\x02" + SERVING + b"\0\0"),
        frame(HEADERS, 0, 1, b"")
        + frame(CONTINUATION, END_HEADERS, 1, b"\x88")
        + frame(DATA, END_STREAM, 1, SERVING),
    ],
)
def test_an_answer_in_any_frames(frames: bytes) -> None:
    assert ask(frames) == ("passing", "gRPC check ADDRESS: success")


def trailers(*fields: tuple[str, str]) -> bytes:
    return b"".join(header_field(name, value) for name, value in fields)


def test_why_a_call_failed() -> None:
    block = trailers((":status", "200"), ("grpc-status", "5"))
    more = trailers(("grpc-message", "unknown%20service"))
    text = "rpc error: code = NotFound desc = unknown service"
    pytest.importorskip("hpack")
    for frames in (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block + more),
        frame(HEADERS, END_STREAM, 1, block)
        + frame(CONTINUATION, END_HEADERS, 1, more),
        frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY, 1, bytes(5) + block + more),
    ):
        assert ask(frames) == ("critical", text)
    block = trailers((":status", "404"))
    assert ask(frame(HEADERS, END_HEADERS | END_STREAM, 1, block)) == (
        "critical",
        "rpc error: code = Unknown desc = unexpected HTTP status code received "
        "from server: 404",
    )


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (frame(GOAWAY, 0, 0, bytes(8)), "Unavailable desc = the server ended the call"),
        (
            frame(RST_STREAM, 0, 1, bytes(4)),
            "Unavailable desc = the server ended the call",
        ),
        (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff"),
            "Unknown desc = no health status in the answer",
        ),
        (b"\xff" * 9, "HTTP/2 frame too large"),
        (HEAD * 100, "Unknown desc = no health status in the answer"),
        (
            HEAD + frame(DATA, END_STREAM, 1, b"\x01" + SERVING[1:]),
            "Unimplemented desc = the answer is compressed",
        ),
    ],
)
def test_bad_answers(frames: bytes, text: str) -> None:
    status, output = ask(frames)
    assert status == "critical"
    assert output.endswith(text)


def test_nobody_there_and_no_answer() -> None:
    async def run() -> None:
        async with answering(b"", stay=True) as address:
            assert await once(GrpcProbe(address, 0.05, None, "")) == (
                "critical",
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            )
            assert await once(PingProbe(address, 0.05, None, "")) == (
                "critical",
                "HTTP2 ping failed: context deadline exceeded",
            )
        refused = f"dial tcp {address}: connect: connection refused"
        assert await once(GrpcProbe(f"{address}/svc", 20, None, "")) == (
            "critical",
            "rpc error: code = Unavailable desc = connection error: desc = "
            f'"transport: Error while dialing: {refused}"',
        )
        assert await once(PingProbe(address, 20, None, "")) == (
            "critical",
            f"Failed to dial to {address}: {refused}",
        )

    asyncio.run(run())


def test_messages() -> None:
    name = "s" * 300
    message = health_request(name)
    assert message[:8] == b"\x00\x00\x00\x01\x2f\x0a\xac\x02"
    assert message[8:] == name.encode()
    assert health_status(SERVING) == 1
    assert rpc_error(99, "x" * 5000) == (
        "rpc error: code = Code(99) desc = " + "x" * 1024
    )
