"""Metrics to a statsd address, over UDP, every so often."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable

from pyconsul_template.addresses import split_address
from pyconsul_template.schema import TelemetryBlock, seconds
from pyconsul_template.status import Status, metrics

DATAGRAM_MAX = 1400
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


def lines_of(status: Status, prefix: str, last: dict[str, float]) -> list[str]:
    """Return statsd's lines; counters as the difference to ``last``, updated."""
    lines: list[str] = []
    for name, kind, _, labels, value in metrics(status):
        parts = [prefix, name]
        if "template" in labels:
            parts.append(_UNFIT.sub("_", labels["destination"] or labels["template"]))
        if "child" in labels:
            parts.append(_UNFIT.sub("_", labels["child"]))
        full = ".".join(part.strip("_") for part in parts)
        if kind == "counter":
            lines.append(f"{full}:{value - last.get(full, 0.0):g}|c")
            last[full] = value
        else:
            lines.append(f"{full}:{value:.10g}|g")
    return lines


def datagrams(lines: list[str]) -> list[bytes]:
    """Return the lines in as few datagrams as fit."""
    found: list[bytes] = []
    for line in lines:
        data = line.encode()
        if found and len(found[-1]) + len(data) < DATAGRAM_MAX:
            found[-1] += b"\n" + data
        else:
            found.append(data)
    return found


async def send(block: TelemetryBlock, status: Callable[[], Status | None]) -> None:
    """Send until cancelled."""
    host, port = split_address(block.statsd_address)
    every = max(seconds("telemetry.interval", block.interval), 1.0)
    last: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every)
        now = status()
        if now is None:
            continue
        try:
            kind, _, _, _, address = (
                await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            )[0]
            with socket.socket(kind, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                for data in datagrams(lines_of(now, block.metrics_prefix, last)):
                    sender.sendto(data, address)
        except OSError:
            continue  # Metrics may be lost; the files are what we are for.
