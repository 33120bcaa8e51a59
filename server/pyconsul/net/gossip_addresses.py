"""Join addresses of a gossip pool: from text to sockets, and Consul's errors.

Accepted are ``host``, ``host:port``, ``[v6]``, ``[v6]:port``, a bare IPv6
address, DNS names (every A and AAAA record counts as an address), each also
as ``node/address``, which asks for that node alone.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pyconsul.types.errors import ConsulError

_LOOKUP_LIMIT_S = 10.0
_MAX_ADDRESSES = 64


class AddressError(ConsulError):
    """The text names no address, or its name does not resolve."""


@dataclass(frozen=True, slots=True)
class JoinTarget:
    """A host to contact; ``node`` is the node wanted there, empty: any."""

    host: str
    port: int
    node: str = ""


def parse_target(text: str, default_port: int) -> JoinTarget:
    """Split a join address; ``host`` may still be a name; ``AddressError``."""
    node, slash, rest = text.partition("/")
    if not slash:
        node, rest = "", text
    elif not node:
        raise AddressError("empty node name provided")
    if _is_ip(rest):
        return JoinTarget(rest, default_port, node)
    host, port_text = rest, ""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise AddressError(f"address {rest}: missing ']' in address")
        port_text = tail[1:]
        if tail == ":":
            raise AddressError(f"address {rest}: missing port in address")
    elif rest.count(":") == 1:
        host, _, port_text = rest.partition(":")
    elif ":" in rest:
        raise AddressError(f"address {rest}: too many colons in address")
    if not host:
        raise AddressError(f"lookup {rest}: no such host")
    if not port_text:
        return JoinTarget(host, default_port, node)
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) < 65536):
        raise AddressError(f'strconv.ParseUint: parsing "{port_text}": invalid syntax')
    return JoinTarget(host, int(port_text) or default_port, node)


async def resolve(text: str, default_port: int) -> list[JoinTarget]:
    """Return the sockets a join address stands for, at most 64.

    Raises ``AddressError`` with the text after ``Failed to resolve X: ``.
    """
    target = parse_target(text, default_port)
    if _is_ip(target.host):
        return [target]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_LIMIT_S):
            found = await loop.getaddrinfo(
                target.host, target.port, type=socket.SOCK_STREAM
            )
    except TimeoutError:
        raise AddressError(f"lookup {target.host}: i/o timeout") from None
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {target.host}: no such host") from None
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [
        JoinTarget(host, target.port, target.node)
        for host in list(hosts)[:_MAX_ADDRESSES]
    ]


def join_failures(errors: Sequence[str]) -> str:
    """Return the text of a join that reached nobody: a counted list."""
    noun = "error" if len(errors) == 1 else "errors"
    lines = "\n".join(f"\t* {error}" for error in errors)
    return f"{len(errors)} {noun} occurred:\n{lines}\n\n"


def dial_failure(host: str, port: int, error: OSError) -> str:
    """Return the words in which Consul reports a failed connection."""
    where = f"dial tcp {endpoint(host, port)}"
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return f"{where}: i/o timeout"
    if error.errno is None:
        return f"{where}: connect: {error}"
    return f"{where}: connect: {os.strerror(error.errno).lower()}"


def endpoint(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
