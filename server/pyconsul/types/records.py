"""The records that state holds and answers carry, with Consul's wire names.

Field order is the order of the JSON (``http-api-catalog-agent.md`` section 1)
and of the msgpack structures (``rpc-schema.json``). Records are immutable: a
change makes a new record (``msgspec.structs.replace``), so a copy of a table
is a point-in-time view. Durations are integer nanoseconds, as Go has them.

JSON drops what Go's ``omitempty`` drops; the JSON views that differ from the
record itself (``ServiceNode``, agent answers) are made in ``http``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

EMPTY: Mapping[str, str] = {}


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """Base of all records: wire names in Pascal case unless a field says."""


class ServiceAddress(Record, frozen=True, kw_only=True):
    """An address under a tag such as ``lan`` or ``wan``."""

    address: str = ""
    port: int = 0


class Weights(Record, frozen=True, kw_only=True):
    """DNS SRV weights by health."""

    passing: int = 1
    warning: int = 1


class Node(Record, frozen=True, kw_only=True):
    """A machine in the catalog."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class NodeService(Record, frozen=True, kw_only=True):
    """A service instance as its node holds it.

    ``proxy`` and ``connect`` are the decoded wire maps in normal (Pascal)
    spelling; ``None`` when not given.
    """

    kind: str = ""
    id: str = msgspec.field(name="ID", default="")
    service: str = ""
    tags: list[str] | None = None
    address: str = ""
    tagged_addresses: dict[str, ServiceAddress] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    socket_path: str = ""
    weights: Weights | None = None
    enable_tag_override: bool = False
    proxy: dict[str, Any] | None = None
    connect: dict[str, Any] | None = None
    locally_registered_as_sidecar: bool = False
    create_index: int = 0
    modify_index: int = 0


class HealthCheckDefinition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How a catalog-registered check is run; durations in nanoseconds."""

    http: str = msgspec.field(name="HTTP", default="")
    tls_server_name: str = msgspec.field(name="TLSServerName", default="")
    tls_skip_verify: bool = msgspec.field(name="TLSSkipVerify", default=False)
    header: dict[str, list[str]] | None = None
    method: str = ""
    body: str = ""
    disable_redirects: bool = False
    tcp: str = msgspec.field(name="TCP", default="")
    h2ping: str = msgspec.field(name="H2PING", default="")
    interval: int = 0
    output_max_size: int = 0
    timeout: int = 0
    deregister_critical_service_after: int = 0
    script_args: list[str] | None = None
    docker_container_id: str = msgspec.field(name="DockerContainerID", default="")
    shell: str = ""
    grpc: str = msgspec.field(name="GRPC", default="")
    grpc_use_tls: bool = msgspec.field(name="GRPCUseTLS", default=False)
    alias_node: str = ""
    alias_service: str = ""
    ttl: int = msgspec.field(name="TTL", default=0)


class HealthCheck(Record, frozen=True, kw_only=True):
    """One check on a node, or on a service instance of it."""

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
    interval: str = ""
    timeout: str = ""
    exposed_port: int = 0
    definition: HealthCheckDefinition = HealthCheckDefinition()
    create_index: int = 0
    modify_index: int = 0


class DirEntry(Record, frozen=True, kw_only=True):
    """A key of the KV store."""

    lock_index: int = 0
    key: str = ""
    flags: int = 0
    value: bytes = b""
    session: str = ""
    create_index: int = 0
    modify_index: int = 0


class ServiceCheckRef(Record, frozen=True, kw_only=True):
    """A service check a session depends on."""

    id: str = msgspec.field(name="ID", default="")
    namespace: str = ""


class Session(Record, frozen=True, kw_only=True):
    """A lock holder's lease; ``lock_delay`` in nanoseconds, ``ttl`` as given."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    node: str = ""
    lock_delay: int = 0
    behavior: str = ""
    ttl: str = msgspec.field(name="TTL", default="")
    node_checks: list[str] | None = None
    service_checks: list[ServiceCheckRef] | None = None
    create_index: int = 0
    modify_index: int = 0


class ServiceInstance(Record, frozen=True, kw_only=True):
    """A service instance with its node: what ``Catalog.ServiceNodes`` lists."""

    node: Node
    service: NodeService


class CheckServiceNode(Record, frozen=True, kw_only=True):
    """An instance with its node and all checks that speak for it."""

    node: Node = Node()
    service: NodeService = NodeService()
    checks: list[HealthCheck] = msgspec.field(default_factory=list[HealthCheck])


class NodeServices(Record, frozen=True, kw_only=True):
    """A node and everything on it."""

    node: Node
    services: list[NodeService]


class TxnResult(Record, frozen=True, kw_only=True):
    """One result of a transaction; exactly one member is set."""

    kv: DirEntry | None = msgspec.field(name="KV", default=None)
    node: Node | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None


class TxnError(Record, frozen=True, kw_only=True):
    """Why one operation of a transaction failed."""

    op_index: int = 0
    what: str = ""


class UserEvent(Record, frozen=True, kw_only=True):
    """A user event; ``l_time`` is the Lamport time."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    payload: bytes = b""
    node_filter: str = ""
    service_filter: str = ""
    tag_filter: str = ""
    version: int = 1
    l_time: int = msgspec.field(name="LTime", default=0)
