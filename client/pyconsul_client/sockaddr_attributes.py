"""What address templates know of one address: attributes, sums, RFC blocks."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Ip = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_RFC: dict[str, tuple[str, ...]] = {
    "919": ("255.255.255.255/32",),
    "1112": ("224.0.0.0/4",),
    "1122": ("0.0.0.0/8", "127.0.0.0/8"),
    "1918": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "2544": ("198.18.0.0/15",),
    "3056": ("2002::/16",),
    "3068": ("192.88.99.0/24",),
    "3171": ("224.0.0.0/4",),
    "3330": ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"),
    "3849": ("2001:db8::/32",),
    "3927": ("169.254.0.0/16",),
    "4038": ("::ffff:0:0/96",),
    "4193": ("fc00::/7",),
    "4291": ("fe80::/10", "::1/128", "::/128", "ff00::/8"),
    "4380": ("2001::/32",),
    "5180": ("2001:2::/48",),
    "5735": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    "5737": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    "6052": ("64:ff9b::/96",),
    "6333": ("192.0.0.0/29",),
    "6598": ("100.64.0.0/10",),
    "6666": ("100::/64",),
    "6890": (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::1/128",
        "::/128",
        "64:ff9b::/96",
        "::ffff:0:0/96",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
    ),
}


@lru_cache(maxsize=64)
def rfc_networks(number: str) -> Sequence[Network]:
    """Return the blocks an RFC sets apart; raises ``ValueError``."""
    blocks = _RFC.get(number)
    if blocks is None:
        raise ValueError(f"unsupported RFC {number}")
    return tuple(ipaddress.ip_network(block) for block in blocks)


def attribute(ip: Ip, name: str) -> str:
    """Return an attribute as text; raises ``ValueError`` for an unknown one."""
    number = int(ip.ip)
    network = ip.network
    first, last = _usable(network)
    match name:
        case "address" | "host":
            return str(ip.ip)
        case "binary":
            return f"{number:0{ip.max_prefixlen}b}"
        case "broadcast" if ip.version == 4:
            return str(network.broadcast_address)
        case "first_usable":
            return str(first)
        case "hex":
            return f"{number:0{ip.max_prefixlen // 4}x}"
        case "last_usable":
            return str(last)
        case "mask_bits":
            return str(network.prefixlen)
        case "netmask":
            return str(network.netmask)
        case "network":
            return str(network)
        case "octets":
            return " ".join(str(byte) for byte in ip.ip.packed)
        case "path":
            return ""
        case "port":
            return "0"
        case "size":
            return str(network.num_addresses)
        case "string":
            full = network.prefixlen == ip.max_prefixlen
            return str(ip.ip) if full else str(ip)
        case "type":
            return f"IPv{ip.version}"
        case "uint32" if ip.version == 4:
            return str(number)
        case "uint128" if ip.version == 6:
            return str(number)
        case "broadcast" | "uint32" | "uint128":
            return ""
        case _:
            raise ValueError(f'unsupported attribute name "{name}"')


def _usable(
    network: Network,
) -> tuple[
    ipaddress.IPv4Address | ipaddress.IPv6Address,
    ipaddress.IPv4Address | ipaddress.IPv6Address,
]:
    if network.version == 6 or network.prefixlen >= 31:
        return network[0], network[-1]
    return network[1], network[-2]


def math(ip: Ip, operation: str, amount: str) -> tuple[str, int]:
    """Return address and prefix after ``address``, ``network`` or ``mask`` maths.

    ``address +N`` moves the address; ``network +N`` counts from the start of its
    network and ``-N`` from the end; ``mask`` gives its network of N bits, or of
    that many bits more or fewer. Raises ``ValueError``.
    """
    try:
        count = int(amount)
    except ValueError:
        raise ValueError(f'unable to convert "{amount}" to a number') from None
    signed = amount[:1] in "+-"
    network = ip.network
    match operation:
        case "address":
            moved = int(ip.ip) + count
        case "network":
            start = network.network_address if count >= 0 else network[-1]
            moved = int(start) + count + (0 if count >= 0 else 1)
        case "mask":
            prefix = network.prefixlen + count if signed else count
            if not 0 <= prefix <= ip.max_prefixlen:
                raise ValueError(f"no mask has {prefix} bits")
            wide = ipaddress.ip_network(f"{ip.ip}/{prefix}", strict=False)
            return str(wide.network_address), prefix
        case _:
            raise ValueError(f'unsupported math operation "{operation}"')
    if not 0 <= moved < 1 << ip.max_prefixlen:
        raise ValueError("the address is out of range")
    address = type(ip.ip)(moved)
    return str(address), network.prefixlen
