"""What a name below the domain asks for (``dns.md`` section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_KEYWORDS = frozenset(("service", "connect", "ingress", "node", "query", "addr"))


@dataclass(slots=True, frozen=True)
class Lookup:
    """A parsed name; ``kind`` is a keyword, or ``none`` for a malformed name.

    ``datacenter`` is empty for the agent's own.
    """

    kind: str
    subject: str = ""
    tag: str = ""
    datacenter: str = ""


NOTHING = Lookup("none")


def below(name: str, domain: str) -> str | None:
    """Return the part of ``name`` left of ``domain``; ``None`` when outside."""
    if name == domain:
        return ""
    if name.endswith("." + domain):
        return name[: -len(domain) - 1]
    return None


def parse_name(prefix: str, *, is_srv: bool) -> Lookup:
    """Read the labels left of the domain, lower-case, scanning from the right."""
    labels = prefix.split(".") if prefix else []
    for at in range(len(labels) - 1, -1, -1):
        label = labels[at]
        rfc2782_short = is_srv and label.startswith("_")
        if label not in _KEYWORDS and not rfc2782_short:
            continue
        parts = labels[: at + 1] if rfc2782_short else labels[:at]
        locality = labels[at + 1 :]
        if len(locality) > 1 or not parts:
            return NOTHING
        datacenter = locality[0] if locality else ""
        kind = "service" if rfc2782_short else label
        return _lookup(kind, parts, datacenter)
    return NOTHING


def _lookup(kind: str, parts: list[str], datacenter: str) -> Lookup:
    if kind == "service":
        rfc2782 = len(parts) == 2 and all(p.startswith("_") for p in parts)
        if rfc2782:
            tag = parts[1][1:]
            tag = "" if tag == "tcp" else tag
            return Lookup(kind, parts[0][1:], tag, datacenter)
        return Lookup(kind, parts[-1], ".".join(parts[:-1]), datacenter)
    if kind in ("connect", "ingress"):
        return Lookup(kind, parts[-1], "", datacenter)
    if kind == "addr" and len(parts) != 1:
        return NOTHING
    return Lookup(kind, ".".join(parts), "", datacenter)


def parse_reverse(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address a ``*.arpa`` name stands for, or ``None``."""
    prefix = below(name, "in-addr.arpa")
    if prefix:
        try:
            return IPv4Address(".".join(reversed(prefix.split("."))))
        except ValueError:
            return None
    prefix = below(name, "ip6.arpa")
    if prefix:
        nibbles = prefix.split(".")
        if len(nibbles) != 32 or any(len(n) != 1 for n in nibbles):
            return None
        try:
            return IPv6Address(int("".join(reversed(nibbles)), 16))
        except ValueError:
            return None
    return None


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return ``text`` as an address, or ``None`` when it is a host name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def hex_name(address: IPv4Address | IPv6Address) -> str:
    """Return the label that ``<hex>.addr`` uses for ``address``."""
    return address.packed.hex()
