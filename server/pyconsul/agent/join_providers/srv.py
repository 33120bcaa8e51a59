"""``provider=srv name=_consul._tcp.example.com``: servers by DNS SRV records.

Asks the nameservers of ``/etc/resolv.conf``, or ``nameserver=IP[:PORT]``. The
ports are those of the records; targets are names that the join resolves, or
addresses when the answer brought them along.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from importlib import import_module
from typing import Any

from pyconsul.agent.join_providers import DiscoverError, Settings, only, seconds

RESOLV_CONF = "/etc/resolv.conf"
TIMEOUT_S = 5.0
_UDP_BYTES = 4096


async def find(settings: Settings) -> list[str]:
    """Return ``host:port`` of every record; raises ``DiscoverError``."""
    only("srv", settings, "name", "nameserver", "timeout")
    name = settings.get("name", "")
    if not name:
        raise DiscoverError("discover-srv: name is missing")
    limit = seconds("srv", settings, TIMEOUT_S)
    given = settings.get("nameserver", "")
    servers = [_server(given)] if given else await asyncio.to_thread(_nameservers)
    # Loaded when it is needed; it has no types.
    dnslib: Any = import_module("dnslib")
    problem = "no nameserver is known"
    for host, port in servers:
        try:
            async with asyncio.timeout(limit):
                return await _ask(dnslib, name, host, port)
        except TimeoutError:
            problem = f"{host}:{port}: i/o timeout"
        except (OSError, dnslib.DNSError, EOFError, ValueError) as error:
            problem = f"{host}:{port}: {error}"
    raise DiscoverError(f"discover-srv: lookup {name}: {problem}")


def _server(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return text.strip("[]"), 53


def _nameservers() -> list[tuple[str, int]]:
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file.read(65536).splitlines()]
    except OSError:
        return []
    return [
        (line[1], 53) for line in lines if len(line) > 1 and line[0] == "nameserver"
    ]


async def _ask(dnslib: Any, name: str, host: str, port: int) -> list[str]:
    query = dnslib.DNSRecord.question(name, "SRV")
    query.header.id = random.randrange(1 << 16)
    packed: bytes = query.pack()
    record = dnslib.DNSRecord.parse(await _by_udp(packed, host, port))
    if record.header.tc:
        record = dnslib.DNSRecord.parse(await _by_tcp(packed, host, port))
    if record.header.id != query.header.id:
        raise ValueError("the answer is not to our question")
    if record.header.rcode:
        word = {3: "no such host", 2: "server misbehaving"}
        raise ValueError(word.get(record.header.rcode, f"rcode {record.header.rcode}"))
    known: dict[str, list[str]] = {}
    for one in record.ar:
        if one.rtype in (dnslib.QTYPE.A, dnslib.QTYPE.AAAA):
            known.setdefault(_label(one.rname), []).append(str(one.rdata))
    found: list[str] = []
    for one in record.rr:
        if one.rtype != dnslib.QTYPE.SRV:
            continue
        target = _label(one.rdata.target)
        for address in known.get(target, [target]):
            shown = f"[{address}]" if ":" in address else address
            found.append(f"{shown}:{one.rdata.port}")
    return found


def _label(name: object) -> str:
    return str(name).rstrip(".").lower()


async def _by_udp(packed: bytes, host: str, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
        await loop.sock_sendall(sock, packed)
        return await loop.sock_recv(sock, _UDP_BYTES)


async def _by_tcp(packed: bytes, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(struct.pack("!H", len(packed)) + packed)
        size = struct.unpack("!H", await reader.readexactly(2))[0]
        return await reader.readexactly(size)
    finally:
        writer.close()
