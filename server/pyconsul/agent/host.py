"""What the configuration may ask about the host: its name, addresses, limits."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import resource
import socket
import uuid
from collections.abc import Sequence

from pyconsul.config.addresses import HostFacts
from pyconsul_client.interfaces import interfaces
from pyconsul_client.sockaddr import Interface
from pyconsul_client.sockaddr_attributes import rfc_networks

_HOST_IDS = (
    "/sys/class/dmi/id/product_uuid",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
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


def host_node_id() -> str:
    """Return the node id that is always this host's, empty if it has none."""
    for path in _HOST_IDS:
        with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
            with open(path, encoding="ascii") as file:
                identity = str(uuid.UUID(file.read(128).strip()))
            digest = hashlib.sha512(identity.lower().encode()).digest()
            return str(uuid.UUID(bytes=digest[:16]))
    return ""
