"""statsd, dogstatsd and statsite, on sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pyconsul.agent.metrics.registry import KEPT, Metrics
from pyconsul.agent.metrics.settings import TelemetrySettings
from pyconsul.agent.metrics.sinks import (
    DATAGRAM_BYTES,
    address_of,
    datagrams,
    dogstatsd_line,
    lines,
    statsd_line,
)
from pyconsul.agent.metrics.telemetry import Telemetry


def filled() -> Metrics:
    metrics = Metrics("consul", "my host:1")
    metrics.gauge("serf.members", 3, (("network", "lan"),))
    metrics.counter("raft.apply").add(5)
    metrics.samples("kvs.apply").add(0.5)
    return metrics


def test_statsd_lines() -> None:
    assert list(lines(filled().look(1), statsd_line)) == [
        "consul.my_host_1.serf.members.lan:3|g",
        "consul.raft.apply:5|c",
        "consul.kvs.apply:0.5|ms",
    ]


def test_dogstatsd_lines_have_tags() -> None:
    assert list(lines(filled().look(1), dogstatsd_line(["env:x"]))) == [
        "consul.my_host_1.serf.members:3|g|#env:x,network:lan",
        "consul.raft.apply:5|c|#env:x",
        "consul.kvs.apply:0.5|ms|#env:x",
    ]


def test_of_many_measurements_a_choice_is_sent() -> None:
    metrics = Metrics()
    series = metrics.samples("s")
    for _ in range(KEPT * 4):
        series.add(1)
    found = list(lines(metrics.look(1), statsd_line))
    assert found == ["consul.s:1|ms|@0.250000"] * KEPT


def test_datagrams_are_full_but_not_too_large() -> None:
    metrics = Metrics()
    for at in range(200):
        metrics.counter(f"counter{at:04d}").add()
    found = list(datagrams(metrics.look(1), statsd_line))
    assert max(map(len, found)) <= DATAGRAM_BYTES
    assert min(map(len, found[:-1])) > DATAGRAM_BYTES - 40
    assert b"".join(found).count(b"\n") == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9125", ("127.0.0.1", 9125)),
        ("stats", ("stats", 8125)),
        ("[::1]:1", ("::1", 1)),
        ("::1", ("::1", 8125)),
        (":8125", ("127.0.0.1", 8125)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


def started(**settings: Any) -> Telemetry:
    telemetry = Telemetry(
        TelemetrySettings(disable_hostname=True, **settings), clock=lambda: 1e9
    )
    telemetry.metrics.counter("raft.apply").add(5)
    return telemetry


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, b"consul.raft.apply:5|c\n"),
        ({"dogstatsd_tags": ("a:b",)}, b"consul.raft.apply:5|c|#a:b\n"),
    ],
)
def test_an_interval_arrives_by_udp(settings: dict[str, Any], line: bytes) -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            name = "dogstatsd_address" if settings else "statsd_address"
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            telemetry = started(**settings, **{name: address})
            telemetry.tick()
            async with asyncio.timeout(60):
                data = await loop.sock_recv(sock, 4096)
            telemetry.stop()
            return data

    assert line in asyncio.run(run())


def test_statsite_is_connected_to_again() -> None:
    async def run() -> None:
        found: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            found.put_nowait(await reader.readuntil(b"raft.apply:5|c\n"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        telemetry = started(statsite_address=f"127.0.0.1:{port}")
        async with asyncio.timeout(60):
            telemetry.tick()
            assert b"consul.raft.apply:5|c\n" in await found.get()
            while found.empty():
                # What is written before the loss is seen is lost, as it may be.
                await asyncio.sleep(0.005)
                telemetry.metrics.counter("raft.apply").add(5)
                telemetry.tick()
        telemetry.stop()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_a_sink_that_is_not_there_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
            telemetry = started(statsite_address=address)
            async with asyncio.timeout(20):
                while "failed to send metrics" not in caplog.text:
                    telemetry.tick()
                    await asyncio.sleep(0.005)
            for _ in range(3):
                telemetry.tick()
                await asyncio.sleep(0.005)
            telemetry.stop()
            reason = f'address={address} error="connection refused"'
            assert f"failed to send metrics: {reason}" in caplog.text

    asyncio.run(run())
    assert caplog.text.count("failed to send metrics") == 1
