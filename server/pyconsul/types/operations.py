"""Records of calls that run the cluster: events, keyrings, Raft peers, autopilot.

Wire names are those of ``rpc-schema.json``; durations are integer nanoseconds.
"""

from __future__ import annotations

import msgspec

from pyconsul.types.messages import QueryOptions, WriteOptions
from pyconsul.types.records import Record


class EventFireRequest(QueryOptions, frozen=True, kw_only=True):
    """``Internal.EventFire``: ``payload`` is the encoded event; answers ``True``."""

    name: str = ""
    payload: bytes = b""


class KeyringRequest(QueryOptions, frozen=True, kw_only=True):
    """``Internal.KeyringOperation``; answers ``list[KeyringResponse]``.

    ``operation`` is ``list``, ``install``, ``use`` or ``remove``. ``forwarded``
    marks a request that already came from another datacenter.
    """

    operation: str = ""
    key: str = ""
    forwarded: bool = False
    relay_factor: int = 0
    local_only: bool = False


class KeyringResponse(Record, frozen=True, kw_only=True):
    """What the members of one gossip pool said to a keyring operation.

    ``messages`` by member, ``keys`` and ``primary_keys`` to how many have it.
    """

    wan: bool = msgspec.field(name="WAN", default=False)
    datacenter: str = ""
    segment: str = ""
    messages: dict[str, str] | None = None
    keys: dict[str, int] | None = None
    primary_keys: dict[str, int] | None = None
    num_nodes: int = 0
    error: str = ""


class RaftStats(Record, frozen=True, kw_only=True):
    """``Status.RaftStats``: ``last_contact`` is a duration's text, or ``0``."""

    last_contact: str = ""
    last_term: int = 0
    last_index: int = 0


class RaftRemovePeerRequest(WriteOptions, frozen=True, kw_only=True):
    """``Operator.RaftRemovePeerByAddress`` and ``ByID``; answers ``True``."""

    address: str = ""
    id: str = msgspec.field(name="ID", default="")


class RaftTransferLeaderRequest(WriteOptions, frozen=True, kw_only=True):
    """``Operator.TransferLeader``; without ``id`` to any voter; answers ``True``."""

    id: str = msgspec.field(name="ID", default="")


class AutopilotConfig(Record, frozen=True, kw_only=True):
    """Autopilot's settings; ``Operator.AutopilotGetConfiguration`` answers it.

    Defaults are zero values; ``DEFAULT_AUTOPILOT`` is what a new cluster has.
    """

    cleanup_dead_servers: bool = False
    last_contact_threshold: int = 0
    max_trailing_logs: int = 0
    min_quorum: int = 0
    server_stabilization_time: int = 0
    redundancy_zone_tag: str = ""
    disable_upgrade_migration: bool = False
    upgrade_version_tag: str = ""
    create_index: int = 0
    modify_index: int = 0


DEFAULT_AUTOPILOT = AutopilotConfig(
    cleanup_dead_servers=True,
    last_contact_threshold=200_000_000,
    max_trailing_logs=250,
    server_stabilization_time=10_000_000_000,
)


class AutopilotSetConfigRequest(WriteOptions, frozen=True, kw_only=True):
    """``Operator.AutopilotSetConfiguration``; answers whether it was written.

    With ``cas``, only if the config's ``modify_index`` is the one stored.
    """

    config: AutopilotConfig = AutopilotConfig()
    cas: bool = msgspec.field(name="CAS", default=False)


class ServerHealth(Record, frozen=True, kw_only=True):
    """One server in autopilot's eyes.

    ``serf_status`` is serf's number (0 none, 1 alive, 2 leaving, 3 left, 4
    failed); ``last_contact`` and ``stable_since`` are nanoseconds, the second
    since 1970 (0: Go's zero time).
    """

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    address: str = ""
    serf_status: int = 0
    version: str = ""
    leader: bool = False
    last_contact: int = 0
    last_term: int = 0
    last_index: int = 0
    healthy: bool = False
    voter: bool = False
    stable_since: int = 0


class AutopilotHealth(Record, frozen=True, kw_only=True):
    """``Operator.ServerHealth``: the cluster's health, and how much may fail."""

    healthy: bool = False
    failure_tolerance: int = 0
    servers: list[ServerHealth] = msgspec.field(default_factory=list[ServerHealth])
