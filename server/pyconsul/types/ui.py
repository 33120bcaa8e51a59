"""Records of the calls behind the UI (``Internal.*``)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pyconsul.types.config_entries import GatewayService
from pyconsul.types.messages import Row
from pyconsul.types.records import HealthCheck, NodeService, Record


class NodeInfo(Record, frozen=True, kw_only=True):
    """A node with everything on it, as ``internal/ui/nodes`` lists it."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    services: list[NodeService] = msgspec.field(default_factory=list[NodeService])
    checks: list[HealthCheck] = msgspec.field(default_factory=list[HealthCheck])


@dataclass(slots=True)
class ServiceDump:
    """``Internal.ServiceDump``: rows of ``CheckServiceNode`` by service name.

    ``gateways`` are the services behind every gateway.
    """

    rows: list[Row]
    gateways: list[GatewayService]


class RaftServer(Record, frozen=True, kw_only=True):
    """A server of the Raft configuration, as operators see it."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    leader: bool = False
    protocol_version: str = ""
    voter: bool = False


class RaftConfiguration(Record, frozen=True, kw_only=True):
    """The Raft configuration and the index it was written at."""

    servers: list[RaftServer] = msgspec.field(default_factory=list[RaftServer])
    index: int = 0
