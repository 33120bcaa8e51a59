"""Sockets of a gossip pool: UDP and TCP of one port, with Consul's errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from pyconsul.gossip.messages import STREAMS_MAX
from pyconsul.net.gossip_addresses import endpoint
from pyconsul.types.errors import StartError

_RECEIVE_BUFFER = 2 << 20
_RECEIVE_BUFFER_MIN = 64 << 10
_PORT_ATTEMPTS = 20


class Packets(asyncio.DatagramProtocol):
    """Hands packets over; errors of a send concern nobody."""

    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Take one packet of the loop."""
        self._receive(data, (str(addr[0]), addr[1]))


def bind_pair(host: str, port: int, pool: str) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket of one port; ``StartError``.

    ``port`` 0 takes any that is free for both; ``pool`` is ``LAN`` or ``WAN``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(_PORT_ATTEMPTS):
        protocol = "TCP"
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, port))
            tcp.listen(STREAMS_MAX)
            protocol = "UDP"
            _enlarge(udp)
            udp.bind((host, tcp.getsockname()[1]))
        except OSError as error:
            tcp.close()
            udp.close()
            if port == 0 and protocol == "UDP" and attempt < _PORT_ATTEMPTS - 1:
                continue
            raise _bind_error(host, port, pool, protocol, error) from error
        tcp.setblocking(False)
        udp.setblocking(False)
        return udp, tcp
    raise StartError(f"no port is free for both UDP and TCP on {host}")


async def close_stream(writer: asyncio.StreamWriter) -> None:
    """Close a stream and wait for it; what the peer does about it is ignored."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _enlarge(sock: socket.socket) -> None:
    """Ask for a large receive buffer: a burst must not drown the acks."""
    size = _RECEIVE_BUFFER
    while size >= _RECEIVE_BUFFER_MIN:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        except OSError:
            size //= 2
        else:
            return


def _bind_error(
    host: str, port: int, pool: str, protocol: str, error: OSError
) -> StartError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return StartError(
        f"Failed to start {pool} Serf: Failed to create memberlist: Could not set up "
        "network transport: failed to obtain an address: Failed to start "
        f'{protocol} listener on "{host}" port {port}: '
        f"listen {protocol.lower()} {endpoint(host, port)}: bind: {reason}"
    )
