"""What the configuration may ask about the host: its name, addresses, limits.

Interface addresses come from the C library's ``getifaddrs``; where that is not
to be had, from the route a packet to the world would take.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import ipaddress
import os
import resource
import socket
import sys
import uuid
from collections.abc import Iterator, Sequence

from pyconsul.config.addresses import HostFacts
from pyconsul.config.sockaddr import Interface
from pyconsul.config.sockaddr_attributes import rfc_networks

_FLAGS = {0x1: "up", 0x2: "broadcast", 0x8: "loopback", 0x10: "point-to-point"}
_MULTICAST = 0x1000 if sys.platform == "linux" else 0x8000
_HOST_IDS = (
    "/sys/class/dmi/id/product_uuid",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
)
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


def host_facts() -> HostFacts:
    """Return this host's facts; addresses are looked up when asked for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostFacts(
        socket.gethostname().strip(),
        private_ipv4,
        public_ipv6,
        interfaces,
        0 if soft == resource.RLIM_INFINITY else soft,
    )


def private_ipv4() -> list[str]:
    """Return the IPv4 addresses of this host that are private and can be reached."""
    blocks = rfc_networks("6890")
    found = [
        one.address
        for one in interfaces()
        if one.ip.version == 4
        and _inside(one, blocks)
        and not (one.ip.ip.is_loopback or one.ip.ip.is_link_local)
    ]
    return list(dict.fromkeys(found))


def public_ipv6() -> list[str]:
    """Return the public IPv6 addresses of this host."""
    blocks = (*rfc_networks("6890"), *rfc_networks("4291"))
    return [
        one.address
        for one in interfaces()
        if one.ip.version == 6 and not _inside(one, blocks)
    ]


def _inside(
    one: Interface,
    blocks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> bool:
    return any(one.ip.ip in block for block in blocks)


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


def host_node_id() -> str:
    """Return the node id that is always this host's, empty if it has none."""
    for path in _HOST_IDS:
        with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
            with open(path, encoding="ascii") as file:
                identity = str(uuid.UUID(file.read(128).strip()))
            digest = hashlib.sha512(identity.lower().encode()).digest()
            return str(uuid.UUID(bytes=digest[:16]))
    return ""
