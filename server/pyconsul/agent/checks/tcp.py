"""TCP and UDP checks: whether something takes the connection or the datagram."""

from __future__ import annotations

import asyncio
import ssl

from pyconsul.agent.checks.dial import dial, dial_error, split_address
from pyconsul.agent.checks.runner import Probe

DATAGRAM = b"\n"
"""What a UDP check sends; an empty datagram would not leave every loop."""


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
        self._passing = ("passing", f"TCP connect {address}: Success")

    async def run(self) -> tuple[str, str]:
        """Connect and close at once."""
        host, port = split_address(self._address)
        transport, _ = await dial(
            asyncio.Protocol, host, port, self._tls, self._server_name
        )
        if self._tls is None:
            # A plain close: what listens sees an orderly end, not a reset.
            transport.close()
        else:
            transport.abort()
        return self._passing

    def timeout_text(self) -> tuple[str, str]:
        """Return the result of a probe that took too long."""
        return "critical", f"dial tcp {self._address}: i/o timeout"


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
        host, port = split_address(self._address)
        try:
            transport, protocol = await loop.create_datagram_endpoint(
                _Echo, remote_addr=(host, port)
            )
        except OSError as error:
            return "critical", dial_error("udp", self._address, error)
        try:
            transport.sendto(DATAGRAM)
            async with asyncio.timeout(self._wait):
                await protocol.result
        except TimeoutError:
            pass
        except OSError as error:
            return "critical", dial_error("udp", self._address, error)
        finally:
            transport.close()
        return "passing", f"UDP connect {self._address}: Success"
