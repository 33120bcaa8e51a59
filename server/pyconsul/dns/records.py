"""Records of answers, made of what the catalog holds (``dns.md`` 3 and 4)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from pyconsul.dns import codec
from pyconsul.dns.codec import Record
from pyconsul.types.records import CheckServiceNode, Node


def address_record(
    owner: str | None, address: IPv4Address | IPv6Address, ttl: int
) -> Record:
    """Return the A or AAAA record of an address."""
    rtype = codec.A if address.version == 4 else codec.AAAA
    return Record(owner, rtype, ttl, address.packed)


def replace_ttl(record: Record, ttl: int) -> Record:
    """Return ``record`` with another TTL (seconds)."""
    return Record(record.name, record.type, ttl, record.data)


def is_wanted(record: Record, qtype: int) -> bool:
    """Say whether a question of a type is answered by a record."""
    return qtype in (record.type, codec.ANY)


def weight(instance: CheckServiceNode) -> int:
    """Return the SRV weight: that of the instance's state."""
    weights = instance.service.weights
    if weights is None:
        return 1
    warning = any(check.status == "warning" for check in instance.checks)
    chosen = weights.warning if warning else weights.passing
    return min(max(chosen, 0), 65535)


def meta_records(owner: str | None, node: Node, ttl: int) -> list[Record]:
    """Return the node's meta as TXT records (RFC 1464)."""
    return [
        Record(owner, codec.TXT, ttl, codec.encode_text(_attribute(key, value)))
        for key, value in (node.meta or {}).items()
    ]


def _attribute(key: str, value: str) -> str:
    if key.lower().startswith("rfc1035-"):
        return value
    quoted = key.replace("`", "``").replace("=", "`=")
    lead = len(quoted) - len(quoted.lstrip())
    quoted = quoted[:lead].replace(" ", "` ").replace("\t", "`\t") + quoted[lead:]
    trail = len(quoted.rstrip())
    quoted = quoted[:trail] + quoted[trail:].replace(" ", "` ").replace("\t", "`\t")
    return f"{quoted}={value}"
