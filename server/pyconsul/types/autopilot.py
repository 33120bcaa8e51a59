"""Autopilot's whole view: ``Operator.AutopilotState``.

``/v1/operator/autopilot/state`` shows it (``http-api-operator-acl.md`` 2).
"""

from __future__ import annotations

import msgspec

from pyconsul.types.operations import ServerHealth
from pyconsul.types.records import Record


class ServerState(Record, frozen=True, kw_only=True):
    """A server: its health, what it is, and its node's meta.

    ``status`` is ``leader voter non-voter staging`` or ``none``, ``node_type``
    ``voter`` or ``read-replica``.
    """

    health: ServerHealth = ServerHealth()
    status: str = "none"
    node_type: str = "voter"
    read_replica: bool = False
    meta: dict[str, str] | None = None


class AutopilotState(Record, frozen=True, kw_only=True):
    """The servers in the order of the Raft configuration."""

    healthy: bool = False
    failure_tolerance: int = 0
    leader: str = ""
    voters: list[str] = msgspec.field(default_factory=list[str])
    read_replicas: list[str] = msgspec.field(default_factory=list[str])
    servers: list[ServerState] = msgspec.field(default_factory=list[ServerState])
