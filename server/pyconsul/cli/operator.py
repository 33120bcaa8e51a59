"""``operator``: the Raft peers, and autopilot."""

from __future__ import annotations

import json
from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import STATES, go_json, line, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_PEERS = "/v1/operator/raft/configuration"
_PEER = "/v1/operator/raft/peer"
_TRANSFER = "/v1/operator/raft/transfer-leader"
_CONFIG = "/v1/operator/autopilot/configuration"
_STATE = "/v1/operator/autopilot/state"
_MAX = (1 << 63) - 1


def _list_peers(flags: FlagSet) -> int:
    answer = AgentClient(flags).get(_PEERS, failing="Error getting peers")
    servers = cast("list[Record] | None", (answer.record() or {}).get("Servers"))
    rows = [("Node", "ID", "Address", "State", "Voter", "RaftProtocol")]
    for server in servers or []:
        state = "leader" if server.get("Leader") else "follower"
        rows.append(
            (
                str(server.get("Node")),
                str(server.get("ID")),
                str(server.get("Address")),
                state,
                _text(server.get("Voter")),
                str(server.get("ProtocolVersion") or "<=1"),
            )
        )
    table(rows, {3: STATES})
    return 0


def _text(value: object) -> str:
    """Return a value as Go prints it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _declare_peer(flags: FlagSet) -> None:
    flags.string("address", text="Address (ip:port) of the server to remove.")
    flags.string("id", text="ID of the server to remove.")


def _remove_peer(flags: FlagSet) -> int:
    address, server_id = flags.text("address"), flags.text("id")
    failing = "Error removing peer"
    if not address and not server_id:
        raise CommandError(
            f"{failing}: an address or id is required for the peer to remove"
        )
    if address and server_id:
        raise CommandError(f"{failing}: cannot give both an address and id")
    kind, value = ("id", server_id) if server_id else ("address", address)
    AgentClient(flags).delete(_PEER, {kind: value}, failing=failing)
    line(f'Removed peer with {kind} "{value}"')
    return 0


def _declare_transfer(flags: FlagSet) -> None:
    flags.string("id", text="ID of the server that is to lead; else any voter.")


def _transfer_leader(flags: FlagSet) -> int:
    server_id = flags.text("id")
    failing = "Error transferring leadership"
    query = {"id": server_id} if server_id else {}
    answer = AgentClient(flags).send("POST", _TRANSFER, query, b"", failing=failing)
    if (answer.record() or {}).get("Success") is not True:
        raise CommandError(f"{failing}: the leader has not changed")
    line("Success")
    return 0


# -- autopilot


def _get_config(flags: FlagSet) -> int:
    failing = "Error querying Autopilot configuration"
    config = AgentClient(flags).get(_CONFIG, failing=failing).record() or {}
    for name in ("CleanupDeadServers", "LastContactThreshold", "MaxTrailingLogs"):
        line(f"{name} = {_text(config.get(name))}")
    for name in ("MinQuorum", "ServerStabilizationTime"):
        line(f"{name} = {_text(config.get(name))}")
    line(f'RedundancyZoneTag = "{config.get("RedundancyZoneTag")}"')
    line(f"DisableUpgradeMigration = {_text(config.get('DisableUpgradeMigration'))}")
    line(f'UpgradeVersionTag = "{config.get("UpgradeVersionTag")}"')
    return 0


_SETTINGS = {
    "cleanup-dead-servers": "CleanupDeadServers",
    "last-contact-threshold": "LastContactThreshold",
    "max-trailing-logs": "MaxTrailingLogs",
    "min-quorum": "MinQuorum",
    "server-stabilization-time": "ServerStabilizationTime",
    "redundancy-zone-tag": "RedundancyZoneTag",
    "disable-upgrade-migration": "DisableUpgradeMigration",
    "upgrade-version-tag": "UpgradeVersionTag",
}


def _declare_config(flags: FlagSet) -> None:
    flags.boolean(
        "cleanup-dead-servers", text="Remove servers that have failed.", explained=True
    )
    flags.duration(
        "last-contact-threshold",
        text="How long a healthy server may be silent.",
        explained=True,
    )
    flags.integer(
        "max-trailing-logs",
        text="How many log entries a healthy server may be behind.",
        unsigned=True,
        explained=True,
    )
    flags.integer(
        "min-quorum", text="How many voters always stay.", unsigned=True, explained=True
    )
    flags.duration(
        "server-stabilization-time",
        text="How long a newcomer must be healthy to vote.",
        explained=True,
    )
    flags.string("redundancy-zone-tag", text="Node meta key of a server's zone.")
    flags.boolean(
        "disable-upgrade-migration",
        text="Do not migrate to new versions.",
        explained=True,
    )
    flags.string("upgrade-version-tag", text="Node meta key of a server's version.")


def _set_config(flags: FlagSet) -> int:
    client = AgentClient(flags)
    failing = "Error querying Autopilot configuration"
    config = client.get(_CONFIG, failing=failing).record() or {}
    for flag, name in _SETTINGS.items():
        if flag in flags.given:
            value = flags.value(flag)
            # Durations are read in seconds, and travel in nanoseconds.
            config[name] = round(value * 1e9) if isinstance(value, float) else value
    query = {"cas": str(config.get("ModifyIndex", 0))}
    body = json.dumps(config).encode()
    failing = "Error setting Autopilot configuration"
    answer = client.put(_CONFIG, query, body, failing=failing)
    if answer.body.strip() != b"true":
        raise CommandError(
            "Configuration could not be atomically updated, please try again"
        )
    line("Configuration updated!")
    return 0


def _declare_state(flags: FlagSet) -> None:
    flags.string("format", "pretty", "How to print: pretty or json.")


def _state(flags: FlagSet) -> int:
    form = flags.text("format")
    if form not in ("pretty", "json"):
        raise CommandError(f"Unknown format: {form}")
    failing = "Error querying Autopilot state"
    state = AgentClient(flags).get(_STATE, failing=failing).record() or {}
    if form == "json":
        line(go_json(state, 4))
        return 0
    _show_state(state)
    return 0


def _show_state(state: Record) -> None:
    for label, name in (
        ("Healthy", "Healthy"),
        ("Failure Tolerance", "FailureTolerance"),
        ("Optimistic Failure Tolerance", "OptimisticFailureTolerance"),
        ("Leader", "Leader"),
    ):
        line(f"{label + ':':<30}{_text(state.get(name))}")
    for label, name in (("Voters", "Voters"), ("Read Replicas", "ReadReplicas")):
        ids = cast("list[str]", state.get(name) or [])
        if ids:
            line(f"{label}:")
            for server_id in ids:
                line(f"   {server_id}")
    line("Servers:")
    servers = cast("dict[str, Record]", state.get("Servers") or {})
    for server_id in sorted(servers):
        line(f"   {server_id}")
        _show_server(servers[server_id])


def _show_server(server: Record) -> None:
    for label, name in (
        ("Name", "Name"),
        ("Address", "Address"),
        ("Version", "Version"),
        ("Status", "Status"),
        ("Node Type", "NodeType"),
        ("Node Status", "NodeStatus"),
        ("Healthy", "Healthy"),
        ("Last Contact", "LastContact"),
        ("Last Term", "LastTerm"),
        ("Last Index", "LastIndex"),
    ):
        line(f"      {label + ':':<17}{_text(server.get(name))}")
    meta = cast("dict[str, str] | None", server.get("Meta"))
    if meta:
        line("      Meta")
        for key, value in sorted(meta.items()):
            line(f'         "{key}": "{value}"')


LIST_PEERS = Command(
    "Usage: pyconsul operator raft list-peers [options]\n\n"
    "  Prints the servers of the Raft configuration.",
    _list_peers,
    server=True,
)
REMOVE_PEER = Command(
    "Usage: pyconsul operator raft remove-peer [options]\n\n"
    "  Removes a server from the Raft configuration, such as one that is gone for\n"
    "  good and that autopilot has not removed.",
    _remove_peer,
    _declare_peer,
    server=True,
)
TRANSFER_LEADER = Command(
    "Usage: pyconsul operator raft transfer-leader [options]\n\n"
    "  Makes another server lead, such as before work on the one that leads.",
    _transfer_leader,
    _declare_transfer,
    server=True,
)
GET_CONFIG = Command(
    "Usage: pyconsul operator autopilot get-config [options]\n\n"
    "  Prints the settings of autopilot.",
    _get_config,
    server=True,
)
SET_CONFIG = Command(
    "Usage: pyconsul operator autopilot set-config [options]\n\n"
    "  Changes the settings of autopilot that are given.",
    _set_config,
    _declare_config,
    server=True,
)
STATE = Command(
    "Usage: pyconsul operator autopilot state [options]\n\n"
    "  Prints what autopilot knows of the servers.",
    _state,
    _declare_state,
    server=True,
)
