"""What templates see of Consul's data: flat records with two spellings.

A field has a Python name (``s.address``, ``s.meta.zone``) and, resolved by the
template environment through ``spellings``, the reference's name (``s.Address``,
``s.ServiceMeta``). Checks are the client library's own records.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from pyconsul_client.records import HealthCheck


@cache
def spellings(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """Return the field of every name a record's values go by, in both spellings."""
    fields = kind.__struct_fields__
    wire = dict(zip(kind.__struct_encode_fields__, fields, strict=True))
    return wire | {field: field for field in fields}


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """Base of the records; as JSON they carry the reference's names."""


class Pair(Record, frozen=True, kw_only=True):
    """A KV pair; it prints as its value.

    ``key`` is relative to the prefix asked for, ``path`` is whole. Bytes that
    are no UTF-8 travel through ``value`` unharmed into the rendered file.
    """

    path: str
    key: str
    value: str
    flags: int
    session: str
    create_index: int
    modify_index: int
    lock_index: int

    def __str__(self) -> str:
        return self.value

    @property
    def raw(self) -> bytes:
        """The value's bytes, as Consul has them."""
        return self.value.encode("utf-8", "surrogateescape")


class Instance(Record, frozen=True, kw_only=True):
    """A service instance with its node and health.

    ``address`` is the service's, else the node's; ``status`` is the worst of
    the checks, or ``maintenance``; ``tags`` are sorted.
    """

    node: str
    node_id: str = msgspec.field(name="NodeID")
    node_address: str
    node_tagged_addresses: Mapping[str, str]
    node_meta: Mapping[str, str]
    node_datacenter: str
    id: str = msgspec.field(name="ID")
    name: str
    address: str
    tagged_addresses: Mapping[str, Any] = msgspec.field(name="ServiceTaggedAddresses")
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str] = msgspec.field(name="ServiceMeta")
    weights: Mapping[str, int]
    checks: tuple[HealthCheck, ...]
    status: str


class ServiceName(Record, frozen=True, kw_only=True):
    """A service of the catalog; it prints as its name."""

    name: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


class NodeRecord(Record, frozen=True, kw_only=True):
    """A node; it prints as its name."""

    id: str = msgspec.field(name="ID")
    node: str
    address: str
    datacenter: str
    tagged_addresses: Mapping[str, str]
    meta: Mapping[str, str]

    def __str__(self) -> str:
        return self.node


class NodeService(Record, frozen=True, kw_only=True):
    """A service as its node lists it."""

    id: str = msgspec.field(name="ID")
    service: str
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    port: int
    address: str
    enable_tag_override: bool


class NodeDetail(Record, frozen=True, kw_only=True):
    """A node with its services, sorted by name, then ID."""

    node: NodeRecord
    services: tuple[NodeService, ...]
