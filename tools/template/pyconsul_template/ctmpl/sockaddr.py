"""``sockaddr``: the machine's own IPv4 addresses, by go-sockaddr's common functions."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shlex
import socket
import struct
from pathlib import Path

from pyconsul_template.ctmpl.errors import GoExecError

_SIOCGIFADDR = 0x8915
_ROUTES = Path("/proc/net/route")
_CALL = re.compile(r"\s*(?:\{\{)?\s*(.*?)\s*(?:\}\})?\s*", re.DOTALL)


def addresses() -> list[tuple[str, str]]:
    """Return interface and IPv4 address of each interface that has one."""
    import fcntl

    found: list[tuple[str, str]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                found.append((name, socket.inet_ntoa(answer[20:24])))
    return found


def default_interfaces() -> set[str]:
    """Return the interfaces that have a default route."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:
        return set()
    rows = [line.split() for line in lines]
    return {row[0] for row in rows if len(row) > 1 and row[1] == "00000000"}


def evaluate(*texts: str) -> str:
    """Return the addresses a go-sockaddr template asks for; lists with spaces."""
    match = _CALL.fullmatch(" ".join(texts))
    try:
        words = shlex.split(match[1] if match else "")
    except ValueError as error:
        raise GoExecError(f"sockaddr: {error}") from None
    match words:
        case [
            "GetPrivateIP" | "GetPrivateIPs" | "GetPublicIP" | "GetPublicIPs" as name
        ]:
            wants_private = "Private" in name
            by_default = default_interfaces()
            found = [
                address
                for interface, address in addresses()
                if _is_private(address) == wants_private
                and not ipaddress.ip_address(address).is_loopback
                and (name.endswith("s") or interface in by_default)
            ]
        case ["GetInterfaceIP" | "GetInterfaceIPs" as name, interface]:
            found = [address for own, address in addresses() if own == interface]
        case _:
            raise GoExecError(f"sockaddr: unsupported expression {' '.join(texts)!r}")
    return " ".join(found) if name.endswith("s") else (found or [""])[0]


def _is_private(address: str) -> bool:
    return ipaddress.ip_address(address).is_private
