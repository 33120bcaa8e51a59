"""The addresses of this host's interfaces.

They come from the C library's ``getifaddrs``; where that is not to be had, from
the route a packet to the world would take.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator

from .sockaddr import Interface

_FLAGS = {0x1: "up", 0x2: "broadcast", 0x8: "loopback", 0x10: "point-to-point"}
_MULTICAST = 0x1000 if sys.platform == "linux" else 0x8000
_PROBES = {socket.AF_INET: "198.51.100.1", socket.AF_INET6: "2001:db8::1"}


class _Ifaddrs(ctypes.Structure):
    pass


_Ifaddrs._fields_ = (
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("other", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
)


def interfaces() -> list[Interface]:
    """Return every address of every interface."""
    routed = {address for family in _PROBES if (address := _routed(family))}
    try:
        found = list(_getifaddrs(routed))
    except (AttributeError, OSError):
        found = []
    if found:
        return found
    return [
        Interface(
            name="default",
            address=address,
            prefix=128 if ":" in address else 32,
            default=True,
        )
        for address in routed
    ]


def _routed(family: socket.AddressFamily) -> str:
    """Return the source address of the default route, empty without one."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: connecting a datagram socket only picks a route.
            probe.connect((_PROBES[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _getifaddrs(routed: set[str]) -> Iterator[Interface]:
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    head = ctypes.POINTER(_Ifaddrs)()
    if library.getifaddrs(ctypes.byref(head)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    entries: list[tuple[str, int, str, int]] = []
    try:
        entry = head
        while entry:
            one = entry.contents
            entry = one.next
            raw = _address(one.address)
            if raw is None:
                continue
            mask = _address(one.netmask)
            bits = sum(byte.bit_count() for byte in mask) if mask else len(raw) * 8
            text = str(ipaddress.ip_address(raw))
            entries.append((one.name.decode(errors="replace"), one.flags, text, bits))
    finally:
        library.freeifaddrs(head)
    defaults = {name for name, _, text, _ in entries if text in routed}
    for name, flags, text, bits in entries:
        words = {word for bit, word in _FLAGS.items() if flags & bit}
        if flags & _MULTICAST:
            words.add("multicast")
        yield Interface(
            name=name,
            address=text,
            prefix=bits,
            flags=frozenset(words),
            default=name in defaults,
        )


def _address(pointer: int | None) -> bytes | None:
    """Return the address in a ``struct sockaddr``, if it is an IP's."""
    if not pointer:
        return None
    head = ctypes.string_at(pointer, 2)
    # BSD has the length in the first byte, Linux a family of two.
    linux = sys.platform == "linux"
    family = int.from_bytes(head, sys.byteorder) if linux else head[1]
    if family == socket.AF_INET:
        return ctypes.string_at(pointer + 4, 4)
    if family == socket.AF_INET6:
        return ctypes.string_at(pointer + 8, 16)
    return None
