"""Where metrics are sent: statsd and dogstatsd by UDP, statsite by TCP.

Once an interval, in datagrams of many lines. Of measurements a bounded choice
is sent, with the share it is (``@0.1``). What cannot be sent is lost, as
statsd's own clients do; the agent never waits for a sink.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pyconsul.agent.metrics.exposition import number
from pyconsul.agent.metrics.registry import Interval, Labels

DATAGRAM_BYTES = 1400
"""Bytes of a datagram, for networks of 1500."""
PORT = 8125
BACKLOG_BYTES = 1 << 20
"""Bytes statsite may leave unread; further intervals are dropped."""
CONNECT_S = 5.0

log = logging.getLogger("agent")

Line = Callable[[str, Labels, str], str]


def statsd_line(name: str, labels: Labels, value: str) -> str:
    """Return a line; statsd has no labels, their values end the name."""
    return f"{_clean('.'.join([name, *(label for _, label in labels)]))}:{value}"


def dogstatsd_line(tags: Sequence[str]) -> Line:
    """Return how lines with labels as tags, and ``tags`` on each, are made."""

    def line(name: str, labels: Labels, value: str) -> str:
        shown = [*tags, *(f"{_tag(key)}:{_tag(label)}" for key, label in labels)]
        return f"{_clean(name)}:{value}" + (f"|#{','.join(shown)}" if shown else "")

    return line


def _clean(name: str) -> str:
    return "".join("_" if letter in ": |@#\n" else letter for letter in name)


def _tag(text: str) -> str:
    return "".join("_" if letter in "|,#\n" else letter for letter in text)


def lines(interval: Interval, line: Line) -> Iterator[str]:
    """Return what is to be said of an interval."""
    for (name, labels), value in interval.gauges:
        yield line(name, labels, f"{number(value)}|g")
    for one in interval.counters:
        yield line(*one.key, f"{number(one.total)}|c")
    for one in interval.samples:
        share = len(one.kept) / one.count
        rate = "" if share == 1 else f"|@{share:.6f}"
        for value in one.kept:
            yield line(*one.key, f"{number(value)}|ms{rate}")


def datagrams(interval: Interval, line: Line) -> Iterator[bytes]:
    """Return the lines in datagrams of at most ``DATAGRAM_BYTES``."""
    batch = b""
    for one in lines(interval, line):
        data = one.encode("utf-8", "replace") + b"\n"
        if batch and len(batch) + len(data) > DATAGRAM_BYTES:
            yield batch
            batch = b""
        batch += data
    if batch:
        yield batch


def address_of(text: str) -> tuple[str, int]:
    """Return host and port; the port is statsd's when it is not given."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        return text.strip("[]"), PORT
    return host.strip("[]") or "127.0.0.1", int(port)


class Sink(Protocol):
    """Takes intervals; ``address`` is where they go."""

    address: str

    async def send(self, interval: Interval) -> None:
        """Send; raises ``OSError``."""
        ...

    def close(self) -> None:
        """Send no more."""
        ...


class UdpSink:
    """statsd, or dogstatsd with another kind of line."""

    def __init__(self, address: str, line: Line = statsd_line) -> None:
        self.address = address
        self._line = line
        self._transport: asyncio.DatagramTransport | None = None

    async def send(self, interval: Interval) -> None:
        """Send an interval; raises ``OSError`` when the name does not resolve."""
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=address_of(self.address)
            )
        for data in datagrams(interval, self._line):
            self._transport.sendto(data)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


class TcpSink:
    """statsite: the same lines on a connection that is made again when lost."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._transport: asyncio.Transport | None = None

    async def send(self, interval: Interval) -> None:
        """Send an interval; raises ``OSError`` when nobody listens."""
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(CONNECT_S):
                self._transport, _ = await loop.create_connection(
                    asyncio.Protocol, *address_of(self.address)
                )
        if self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            return
        for data in datagrams(interval, statsd_line):
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()
