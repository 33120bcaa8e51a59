"""Connections of checks: addresses, TLS contexts, Go's words for what fails."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pyconsul_client.options import authorities

P = TypeVar("P", bound=asyncio.BaseProtocol)

_WORDS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.ECONNRESET: "read: connection reset by peer",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
    errno.ETIMEDOUT: "connect: connection timed out",
    errno.ENOENT: "connect: no such file or directory",
    errno.EACCES: "connect: permission denied",
    errno.EMFILE: "socket: too many open files",
}
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_EXPIRED = (9, 10)
_UNTRUSTED = (2, 18, 19, 20, 21)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError(f"dial tcp: address {address}: missing port in address")
    try:
        number = int(port)
    except ValueError:
        raise ValueError(f"dial tcp: lookup tcp/{port}: unknown port") from None
    if not 0 <= number <= 65535:
        raise ValueError(f"dial tcp: address {port}: invalid port")
    return host.strip("[]"), number


def dial_error(network: str, address: str, error: OSError) -> str:
    """Return Go's wording of a failed dial."""
    if isinstance(error, ssl.SSLError):
        return tls_error(error)
    if isinstance(error, socket.gaierror):
        host = address.rpartition(":")[0].strip("[]")
        return f"dial {network}: lookup {host}: no such host"
    number = error.errno or 0
    if number <= 0:
        # Several addresses were tried: the last failure speaks for all.
        found = _ERRNO.findall(str(error))
        number = int(found[-1]) if found else 0
    reason = _WORDS.get(number)
    if reason is None:
        reason = os.strerror(number).lower() if number > 0 else str(error)
    return f"dial {network} {address}: {reason}"


def tls_error(error: ssl.SSLError) -> str:
    """Return Go's wording of a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNTRUSTED:
            return "x509: certificate signed by unknown authority"
        if error.verify_code in _EXPIRED:
            return "x509: certificate has expired or is not yet valid"
        return f"x509: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "tls: first record does not look like a TLS handshake"
    return f"tls: {(error.reason or str(error)).lower().replace('_', ' ')}"


@dataclass(slots=True)
class ClientTls:
    """Contexts of outgoing connections, shared by all checks of an agent.

    Reading the system's authorities takes milliseconds, so a context is made
    once. ``cert_file`` is shown to servers when the agent's own certificate is
    to be used for checks; empty fields mean the system's defaults.
    """

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    _made: dict[tuple[bool, bool], ssl.SSLContext] = field(
        default_factory=dict[tuple[bool, bool], ssl.SSLContext]
    )

    def context(self, skip_verify: bool, *, http2: bool = False) -> ssl.SSLContext:
        """Return a context; ``skip_verify`` accepts any certificate.

        Raises ``OSError`` when a file of the agent's cannot be used.
        """
        key = (skip_verify, http2)
        made = self._made.get(key)
        if made is None:
            made = ssl.create_default_context(
                cafile=self.ca_file or None,
                cadata=authorities(self.ca_path) if self.ca_path else None,
            )
            if skip_verify:
                made.check_hostname = False
                made.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                made.load_cert_chain(self.cert_file, self.key_file or None)
            if http2:
                made.set_alpn_protocols(["h2"])
            self._made[key] = made
        return made


async def dial(
    make: Callable[[], P],
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> tuple[asyncio.Transport, P]:
    """Connect and return transport and protocol.

    ``server_name`` replaces the host in SNI and verification. Raises
    ``ValueError`` with Go's words.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_connection(
            make,
            host,
            port,
            ssl=tls,
            server_hostname=(server_name or host) if tls is not None else None,
        )
    except UnicodeError:
        raise ValueError(f"dial tcp: lookup {host}: no such host") from None
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ValueError(dial_error("tcp", shown, error)) from None
