"""What the HTTP API answers, as immutable records.

Attribute names are the wire names in snake case; unknown members are ignored,
absent ones keep their default, so answers of newer agents decode too. Indexes
are Raft indexes. Observed: Consul 1.10.11 HTTP API.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """Base of all records: wire names in Pascal case unless a field says."""


class KVPair(Record, frozen=True, kw_only=True):
    """A key of the KV store; ``value`` is ``None`` for an empty value."""

    key: str = ""
    create_index: int = 0
    modify_index: int = 0
    lock_index: int = 0
    flags: int = 0
    value: bytes | None = None
    session: str = ""

    @property
    def raw(self) -> bytes:
        """The value, ``b""`` when empty."""
        return self.value or b""

    @property
    def text(self) -> str:
        """The value as UTF-8 text; undecodable bytes become U+FFFD."""
        return (self.value or b"").decode(errors="replace")


class ServiceAddress(Record, frozen=True, kw_only=True):
    """An address under a tag such as ``lan`` or ``wan``."""

    address: str = ""
    port: int = 0


class Weights(Record, frozen=True, kw_only=True):
    """DNS SRV weights by health."""

    passing: int = 1
    warning: int = 1


class CatalogNode(Record, frozen=True, kw_only=True):
    """A machine in the catalog."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class AgentService(Record, frozen=True, kw_only=True):
    """A service instance as its node holds it."""

    kind: str = ""
    id: str = msgspec.field(name="ID", default="")
    service: str = ""
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    address: str = ""
    socket_path: str = ""
    tagged_addresses: dict[str, ServiceAddress] | None = None
    weights: Weights | None = None
    enable_tag_override: bool = False
    datacenter: str = ""
    proxy: dict[str, Any] | None = None
    connect: dict[str, Any] | None = None
    create_index: int = 0
    modify_index: int = 0


class CatalogService(Record, frozen=True, kw_only=True):
    """A service instance with its node's fields: ``catalog/service``."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    node_meta: dict[str, str] | None = None
    service_kind: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    service_tags: list[str] | None = None
    service_address: str = ""
    service_tagged_addresses: dict[str, ServiceAddress] | None = None
    service_weights: Weights | None = None
    service_meta: dict[str, str] | None = None
    service_port: int = 0
    service_enable_tag_override: bool = False
    create_index: int = 0
    modify_index: int = 0


class HealthCheck(Record, frozen=True, kw_only=True):
    """One check on a node, or on a service instance of it.

    ``status`` is ``passing``, ``warning`` or ``critical``.
    """

    node: str = ""
    check_id: str = msgspec.field(name="CheckID", default="")
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    service_tags: list[str] | None = None
    type: str = ""
    definition: dict[str, Any] | None = None
    create_index: int = 0
    modify_index: int = 0


class ServiceEntry(Record, frozen=True, kw_only=True):
    """An instance with its node and all checks that speak for it."""

    node: CatalogNode
    service: AgentService
    checks: list[HealthCheck] | None = None

    @property
    def status(self) -> str:
        """The worst status of the checks, or ``maintenance``."""
        worst = "passing"
        for check in self.checks or ():
            if check.check_id == "_node_maintenance" or check.check_id.startswith(
                "_service_maintenance:"
            ):
                return "maintenance"
            if check.status == "critical" or worst == "critical":
                worst = "critical"
            elif check.status == "warning":
                worst = "warning"
        return worst


class NodeServices(Record, frozen=True, kw_only=True):
    """A node and its service instances by service id: ``catalog/node``."""

    node: CatalogNode
    services: dict[str, AgentService] | None = None


class Session(Record, frozen=True, kw_only=True):
    """A lock holder's lease; ``lock_delay`` in nanoseconds, ``ttl`` as given."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    node: str = ""
    lock_delay: int = 0
    behavior: str = ""
    ttl: str = msgspec.field(name="TTL", default="")
    node_checks: list[str] | None = None
    create_index: int = 0
    modify_index: int = 0


class UserEvent(Record, frozen=True, kw_only=True):
    """A user event; ``l_time`` is the Lamport time."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    payload: bytes | None = None
    node_filter: str = ""
    service_filter: str = ""
    tag_filter: str = ""
    version: int = 1
    l_time: int = msgspec.field(name="LTime", default=0)


class TxnResult(Record, frozen=True, kw_only=True):
    """One result of a transaction; exactly one member is set."""

    kv: KVPair | None = msgspec.field(name="KV", default=None)
    node: CatalogNode | None = None
    service: AgentService | None = None
    check: HealthCheck | None = None


class TxnError(Record, frozen=True, kw_only=True):
    """Why one operation of a transaction failed."""

    op_index: int = 0
    what: str = ""


class TxnResponse(Record, frozen=True, kw_only=True):
    """The results, or the errors when nothing was applied."""

    results: list[TxnResult] | None = None
    errors: list[TxnError] | None = None
