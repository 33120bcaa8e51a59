"""TCP and UDP checks: whether something takes the connection or the datagram."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

from pyconsul.agent.checks.runner import Probe


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError(f"dial tcp: address {address}: missing port in address")
    try:
        number = int(port)
    except ValueError:
        raise ValueError(f"dial tcp: lookup tcp/{port}: unknown port") from None
    return host.strip("[]"), number


def dial_error(network: str, address: str, error: OSError) -> str:
    """Return Go's wording of a failed dial."""
    known = {
        errno.ECONNREFUSED: "connect: connection refused",
        errno.EHOSTUNREACH: "connect: no route to host",
        errno.ENETUNREACH: "connect: network is unreachable",
    }
    number = error.errno if error.errno is not None else 0
    reason = known.get(number)
    if reason is None:
        reason = os.strerror(number).lower() if number > 0 else str(error)
    return f"dial {network} {address}: {reason}"


def client_tls(skip_verify: bool) -> ssl.SSLContext:
    """Return a client context; ``skip_verify`` accepts any certificate."""
    context = ssl.create_default_context()
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TcpProbe(Probe):
    """Passing when the connection (and TLS, if asked) is made."""

    def __init__(
        self,
        address: str,
        timeout: float,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        self.timeout = timeout
        self._address = address
        self._tls = tls
        self._server_name = server_name

    async def run(self) -> tuple[str, str]:
        """Connect and close at once."""
        host, port = split_address(self._address)
        try:
            _, writer = await asyncio.open_connection(
                host,
                port,
                ssl=self._tls,
                server_hostname=(self._server_name or host) if self._tls else None,
            )
        except OSError as error:
            return "critical", dial_error("tcp", self._address, error)
        writer.close()
        return "passing", f"TCP connect {self._address}: Success"


class _Echo(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.result: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.result.done():
            self.result.set_result(None)

    def error_received(self, exc: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(exc)


class UdpProbe(Probe):
    """Passing on an answer, or on silence: only a refusal is a failure."""

    def __init__(self, address: str, timeout: float) -> None:
        self.timeout = timeout + 1.0
        self._wait = timeout
        self._address = address

    async def run(self) -> tuple[str, str]:
        """Send one datagram and wait."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            _Echo, remote_addr=split_address(self._address)
        )
        try:
            transport.sendto(b"")
            async with asyncio.timeout(self._wait):
                await protocol.result
        except TimeoutError:
            pass
        except OSError as error:
            return "critical", dial_error("udp", self._address, error)
        finally:
            transport.close()
        return "passing", f"UDP connect {self._address}: Success"
