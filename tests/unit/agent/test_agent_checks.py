"""Thresholds, TTL, aliases, and probes against real listeners."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from pyconsul.agent.checks.alias import judge
from pyconsul.agent.checks.dial import split_address
from pyconsul.agent.checks.http import HttpProbe
from pyconsul.agent.checks.http2 import (
    DATA,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    GrpcProbe,
    PingProbe,
    frame,
    health_request,
    health_status,
)
from pyconsul.agent.checks.runner import Gate, OverdueError, Probe, TimedRunner
from pyconsul.agent.checks.script import ScriptProbe
from pyconsul.agent.checks.status import Thresholds
from pyconsul.agent.checks.tcp import TcpProbe
from pyconsul.agent.checks.ttl import TtlRunner, expired_text
from pyconsul.types.records import HealthCheck

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[int]:
    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def test_the_first_result_counts_at_once() -> None:
    assert Thresholds(success_before_passing=3).take("passing") == "passing"
    assert Thresholds(failures_before_critical=3).take("critical") == "critical"


def test_results_count_once_enough_agree() -> None:
    rule = Thresholds(success_before_passing=2, failures_before_critical=3)
    assert rule.take("passing") == "passing"
    assert [rule.take("critical") for _ in range(3)] == [None, None, "critical"]
    assert [rule.take("passing") for _ in range(2)] == [None, "passing"]


def test_a_warning_is_a_success() -> None:
    rule = Thresholds(success_before_passing=2, failures_before_critical=2)
    rule.take("critical")
    assert [rule.take("warning") for _ in range(2)] == [None, "warning"]
    assert [rule.take(one) for one in ("critical", "warning", "critical")] == [
        None,
        None,
        None,
    ]


def test_a_warning_comes_before_critical() -> None:
    rule = Thresholds(failures_before_warning=1, failures_before_critical=3)
    rule.take("passing")
    shown = [rule.take("critical") for _ in range(3)]
    assert shown == ["warning", "warning", "critical"]


def test_without_thresholds_every_result_counts() -> None:
    rule = Thresholds()
    given = ["critical", "passing", "warning", "passing"]
    assert [rule.take(status) for status in given] == given


def test_expired_text_quotes_the_last_output() -> None:
    assert expired_text("") == "TTL expired"
    text = "TTL expired (last output before timeout follows): hi"
    assert expired_text("hi") == text


def test_ttl_expires_only_without_reports() -> None:
    async def run() -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        done = asyncio.Event()

        def notify(status: str, output: str) -> None:
            seen.append((status, output))
            if status == "critical":
                done.set()

        runner = TtlRunner(0.02, notify, 10)
        runner.start(5.0)
        assert runner.update("passing", "x" * 20) == (
            "x" * 10 + " ... (captured 10 of 20 bytes)"
        )
        await done.wait()
        return seen

    first, last = asyncio.run(run())
    assert first[0] == "passing"
    assert last[0] == "critical"
    assert last[1].startswith("TTL expired (last output before timeout follows): xx")


def check(name: str, status: str, service: str = "") -> HealthCheck:
    return HealthCheck(
        check_id=name, name=name, status=status, service_id=service, output="why"
    )


@pytest.mark.parametrize(
    ("checks", "service", "expected"),
    [
        ([], "web", ("passing", "No checks found.")),
        ([check("a", "passing", "web")], "web", ("passing", "All checks passing.")),
        (
            [check("a", "warning", "web"), check("b", "critical")],
            "web",
            ("critical", 'Aliased check "b" failing: why'),
        ),
        (
            [check("a", "warning", "web"), check("me", "critical", "web")],
            "web",
            ("warning", 'Aliased check "a" failing: why'),
        ),
        ([check("a", "critical", "db")], "web", ("passing", "No checks found.")),
        ([check("a", "critical", "db")], "", ("passing", "No checks found.")),
    ],
)
def test_an_alias_is_as_healthy_as_its_target(
    checks: list[HealthCheck], service: str, expected: tuple[str, str]
) -> None:
    assert judge(checks, service, "me") == expected


async def _answer(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    )
    await writer.drain()


@pytest.mark.parametrize(
    ("head", "status", "text"),
    [
        (b"200 OK", "passing", "200 OK Output: body"),
        (b"429 Too Many Requests", "warning", "429 Too Many Requests Output: body"),
        (b"503 Service Unavailable", "critical", "503 Service Unavailable Output"),
    ],
)
def test_http_statuses(head: bytes, status: str, text: str) -> None:
    async def run() -> None:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            assert request.startswith(b"GET /x?y=1 HTTP/1.1\r\n")
            assert b"X-Key: v" in request
            assert b"User-Agent: Consul Health Check" in request
            await _answer(writer, head, b"body")

        async with listening(serve) as port:
            url = f"http://127.0.0.1:{port}/x?y=1"
            probe = HttpProbe(url, 5, 4096, header={"X-Key": ["v"]})
            got, output = await probe.run()
        assert got == status
        assert output.startswith(f"HTTP GET {url}: {text}")

    asyncio.run(run())


def test_http_keeps_the_tail_and_follows_redirects() -> None:
    async def run(disable: bool) -> tuple[str, str]:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            if b" /there " in request:
                await _answer(writer, b"200 OK", b"x" * 5000 + b"end")
            else:
                await _answer(writer, b"302 Found\r\nLocation: /there", b"")

        async with listening(serve) as port:
            probe = HttpProbe(
                f"http://127.0.0.1:{port}/", 5, 10, disable_redirects=disable
            )
            return await probe.run()

    status, output = asyncio.run(run(disable=False))
    assert status == "passing"
    assert output.endswith("Output: xxxxxxxend")
    assert asyncio.run(run(disable=True))[0] == "critical"


def test_refused_connections_are_worded_as_go_does() -> None:
    async def run() -> None:
        async with listening(_hang_up) as port:
            pass
        text = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        with pytest.raises(ValueError, match="refused") as tcp:
            await TcpProbe(f"127.0.0.1:{port}", 5).run()
        assert str(tcp.value) == text
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(ValueError, match="refused") as http:
            await HttpProbe(url, 5, 10).run()
        assert str(http.value) == f'Get "{url}": {text}'

    asyncio.run(run())


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def test_tcp_connects() -> None:
    async def run() -> None:
        async with listening(_hang_up) as port:
            assert await TcpProbe(f"127.0.0.1:{port}", 5).run() == (
                "passing",
                f"TCP connect 127.0.0.1:{port}: Success",
            )

    asyncio.run(run())
    assert split_address("[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="missing port"):
        split_address("host")


@pytest.mark.parametrize(
    ("code", "status"), [(0, "passing"), (1, "warning"), (2, "critical")]
)
def test_script_statuses(code: int, status: str) -> None:
    program = f"import sys; print('x' * 50 + 'end'); sys.exit({code})"
    probe = ScriptProbe([sys.executable, "-c", program], 20, 10)
    got, output = asyncio.run(probe.run())
    assert got == status
    assert output == "Captured 10 of 54 bytes\n...\nxxxxxxend\n"


def test_scripts_that_hang_are_killed() -> None:
    probe = ScriptProbe([sys.executable, "-c", "import time; time.sleep(60)"], 0.2, 9)
    with pytest.raises(OverdueError, match=r"^Timed out \(200ms\) running check$"):
        asyncio.run(probe.run())


def test_a_script_that_does_not_exist_is_critical() -> None:
    results: list[tuple[str, str]] = []

    async def run() -> None:
        runner = TimedRunner(
            "s",
            ScriptProbe(["/nowhere/at/all"], 1, 9),
            1.0,
            Thresholds(),
            lambda status, output: results.append((status, output)),
            Gate(),
            Random(1),
        )
        status, output, _ = await runner.probe()
        runner.report(status, output)

    asyncio.run(run())
    assert results[0][0] == "critical"
    assert "no such file" in results[0][1]


class _Slow(Probe):
    timeout = 0.01

    async def run(self) -> tuple[str, str]:
        await asyncio.Event().wait()
        return "passing", ""


def test_a_probe_that_takes_too_long_is_critical() -> None:
    async def run() -> tuple[str, str, bool]:
        runner = TimedRunner(
            "s", _Slow(), 1.0, Thresholds(), lambda _, __: None, Gate(), Random(1)
        )
        return await runner.probe()

    assert asyncio.run(run()) == ("critical", "Timed out after 0.01s", False)


def test_a_runner_repeats_until_it_is_stopped() -> None:
    async def run() -> int:
        count = 0
        enough = asyncio.Event()

        class Quick(Probe):
            timeout = 1.0

            async def run(self) -> tuple[str, str]:
                return "passing", ""

        def notify(status: str, output: str) -> None:
            nonlocal count
            count += 1
            if count == 3:
                runner.stop()
                enough.set()

        runner = TimedRunner(
            "s", Quick(), 0.001, Thresholds(), notify, Gate(), Random(1)
        )
        runner.start()
        await enough.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        return count

    assert asyncio.run(run()) == 3


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [(1, "passing", "success"), (2, "critical", "NOT_SERVING")],
)
def test_grpc_health(number: int, status: str, text: str) -> None:
    async def run() -> tuple[str, str]:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            body = b""
            while not body.endswith(health_request("svc")):
                body += await reader.read(4096)
            message = b"\x00\x00\x00\x00\x02\x08" + bytes((number,))
            writer.write(
                frame(SETTINGS, 0, 0)
                + frame(HEADERS, 4, 1, b"\x88")
                + frame(DATA, 0, 1, message)
                + frame(HEADERS, 4 | END_STREAM, 1, b"\x88")
            )
            await writer.drain()
            await reader.read()

        async with listening(serve) as port:
            return await GrpcProbe(f"127.0.0.1:{port}/svc", 5, None, "").run()

    got, output = asyncio.run(run())
    assert got == status
    assert text in output


def test_http2_ping() -> None:
    async def run() -> tuple[str, str]:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.readexactly(len(PREFACE) + 9)
            ping = await reader.readexactly(17)
            writer.write(frame(SETTINGS, 0, 0) + ping[:4] + b"\x01" + ping[5:])
            await writer.drain()
            await reader.read()

        async with listening(serve) as port:
            return await PingProbe(f"127.0.0.1:{port}", 5, None, "").run()

    assert asyncio.run(run()) == ("passing", "HTTP2 ping was successful")


def test_health_messages() -> None:
    assert health_request("") == b"\x00\x00\x00\x00\x00"
    assert health_status(b"\x00\x00\x00\x00\x02\x08\x01") == 1
    assert health_status(b"\x00\x00\x00\x00\x00") == 0
