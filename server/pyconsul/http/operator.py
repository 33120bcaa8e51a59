"""``/v1/operator/`` (part 3 of the reference, 1 and 2): Raft and autopilot."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from pyconsul.http.decoding import (
    BOOL,
    DURATION,
    STRING,
    UINT,
    Shape,
    decode_as,
)
from pyconsul.http.encoding import (
    FALSE,
    TRUE,
    body_response,
    encode,
    json_response,
    pretty,
    sorted_map,
    wants_pretty,
)
from pyconsul.http.numbers import NumberError, parse_uint
from pyconsul.http.params import read, read_options, write_options
from pyconsul.http.routing import TEXT, Answer, Request, Response, Routes, then
from pyconsul.http.usage import usage
from pyconsul.types.durations import SECOND, format_duration
from pyconsul.types.errors import BadRequestError
from pyconsul.types.messages import (
    DCSpecificRequest,
    EmptyRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.operations import (
    AutopilotConfig,
    AutopilotHealth,
    AutopilotSetConfigRequest,
    RaftRemovePeerRequest,
    RaftTransferLeaderRequest,
    ServerHealth,
)
from pyconsul.types.records import ServiceInstance

_UNHEALTHY = 429
_STATUSES = ("none", "alive", "leaving", "left", "failed")
_CONFIG = Shape(
    {
        "CleanupDeadServers": BOOL,
        "LastContactThreshold": DURATION,
        "MaxTrailingLogs": UINT,
        "MinQuorum": UINT,
        "ServerStabilizationTime": DURATION,
        "RedundancyZoneTag": STRING,
        "DisableUpgradeMigration": BOOL,
        "UpgradeVersionTag": STRING,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    }
)


def add_routes(routes: Routes) -> None:
    """Add the operator routes."""
    routes.add("operator/raft/configuration", GET=raft_configuration)
    routes.add(
        "operator/raft/transfer-leader", POST=transfer_leader, PUT=transfer_leader
    )
    routes.add("operator/raft/peer", DELETE=remove_peer)
    routes.add(
        "operator/autopilot/configuration",
        GET=autopilot_config,
        PUT=set_autopilot_config,
    )
    routes.add("operator/autopilot/health", GET=server_health)
    routes.add("operator/autopilot/state", GET=autopilot_state)
    routes.add("operator/usage", GET=usage)


def _options(request: Request) -> dict[str, Any]:
    """Return the options of a read that never blocks."""
    options = read_options(request)
    options.pop("min_query_index", None)
    return options


def raft_configuration(request: Request) -> Answer:
    """Return the servers of the Raft configuration; no index header."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        return json_response(request, reply.value)

    args = EmptyRequest(**_options(request))
    return read(request, "Operator.RaftGetConfiguration", args, view)


def remove_peer(request: Request) -> Answer:
    """Remove a server from the Raft configuration, by id or address."""
    server_id, address = request.query.get("id"), request.query.get("address")
    if not server_id and not address:
        raise BadRequestError(
            "Bad request: Must specify either ?id with the server's ID or ?address "
            "with IP:port of peer to remove"
        )
    if server_id and address:
        raise BadRequestError("Bad request: Must specify only one of ?id or ?address")
    args = RaftRemovePeerRequest(
        id=server_id, address=address, **write_options(request)
    )
    kind = "ByID" if server_id else "ByAddress"
    return then(
        request.face.caller.call(f"Operator.RaftRemovePeer{kind}", args),
        lambda _: Response(),
    )


def transfer_leader(request: Request) -> Answer:
    """Make another voter lead: the one with ``?id``, else any."""
    args = RaftTransferLeaderRequest(
        id=request.query.get("id"), **write_options(request)
    )
    return then(
        request.face.caller.call("Operator.TransferLeader", args),
        lambda reply: json_response(request, {"Success": reply.value}),
    )


# -- autopilot


def autopilot_config(request: Request) -> Answer:
    """Return autopilot's settings; no index header."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        return json_response(request, config_view(reply.value))

    args = DCSpecificRequest(**_options(request))
    return read(request, "Operator.AutopilotGetConfiguration", args, view)


def config_view(config: AutopilotConfig) -> dict[str, Any]:
    """Return the settings, durations as text."""
    return {
        "CleanupDeadServers": config.cleanup_dead_servers,
        "LastContactThreshold": format_duration(config.last_contact_threshold),
        "MaxTrailingLogs": config.max_trailing_logs,
        "MinQuorum": config.min_quorum,
        "ServerStabilizationTime": format_duration(config.server_stabilization_time),
        "RedundancyZoneTag": config.redundancy_zone_tag,
        "DisableUpgradeMigration": config.disable_upgrade_migration,
        "UpgradeVersionTag": config.upgrade_version_tag,
        "CreateIndex": config.create_index,
        "ModifyIndex": config.modify_index,
    }


def set_autopilot_config(request: Request) -> Answer:
    """Write all settings; what is left out becomes zero."""
    config = decode_as(
        request.body,
        _CONFIG,
        AutopilotConfig,
        "Bad request: Error parsing autopilot config: ",
    )
    cas = "cas" in request.query
    if cas:
        config = replace(config, modify_index=_cas(request.query.get("cas")))
    args = AutopilotSetConfigRequest(config=config, cas=cas, **write_options(request))
    return then(
        request.face.caller.call("Operator.AutopilotSetConfiguration", args),
        lambda reply: body_response(request, TRUE if reply.value else FALSE),
    )


def _cas(text: str) -> int:
    try:
        return parse_uint(text)
    except NumberError as error:
        raise BadRequestError(
            f"Bad request: Error parsing cas value: {error}"
        ) from None


def server_health(request: Request) -> Answer:
    """Return the health of the servers; 429 as long as one is unhealthy."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        health: AutopilotHealth = reply.value
        value = {
            "Healthy": health.healthy,
            "FailureTolerance": health.failure_tolerance,
            "Servers": [_health_view(one) for one in health.servers] or None,
        }
        if health.healthy:
            return json_response(request, value)
        body = encode(value)
        return Response(
            _UNHEALTHY, pretty(body) if wants_pretty(request) else body, TEXT
        )

    args = DCSpecificRequest(**_options(request))
    return read(request, "Operator.ServerHealth", args, view)


def _status(health: ServerHealth) -> str:
    known = 0 <= health.serf_status < len(_STATUSES)
    return _STATUSES[health.serf_status] if known else "none"


def _health_view(health: ServerHealth) -> dict[str, Any]:
    return {
        "ID": health.id,
        "Name": health.name,
        "Address": health.address,
        "SerfStatus": _status(health),
        "Version": health.version,
        "Leader": health.leader,
        "LastContact": format_duration(health.last_contact),
        "LastTerm": health.last_term,
        "LastIndex": health.last_index,
        "Healthy": health.healthy,
        "Voter": health.voter,
        "StableSince": time_text(
            (health.stable_since + SECOND // 2) // SECOND * SECOND
        ),
    }


def time_text(ns: int) -> str:
    """Return nanoseconds since 1970 as Go prints them; 0 is Go's zero time."""
    if ns <= 0:
        return "0001-01-01T00:00:00Z"
    whole, part = divmod(ns, SECOND)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{part:09d}".rstrip("0") if part else "") + "Z"


def autopilot_state(request: Request) -> Answer:
    """Return all that is known of the servers, by id.

    What autopilot does not know itself (meta, read replicas) the catalog does.
    """
    options = _options(request)
    call = request.face.caller.call
    health = call("Operator.ServerHealth", DCSpecificRequest(**options))
    args = ServiceSpecificRequest(service_name="consul", **options)
    instances = call("Catalog.ServiceNodes", args)

    async def both() -> Response:
        found = health if isinstance(health, Reply) else await health
        rows = instances if isinstance(instances, Reply) else await instances
        servers = [row.record for row in rows.value]
        return json_response(request, state_view(found.value, servers))

    return asyncio.get_running_loop().create_task(both())


def state_view(
    health: AutopilotHealth, instances: list[ServiceInstance]
) -> dict[str, Any]:
    """Return the state; an empty list of read replicas is left out."""
    by_id = {one.node.id: one for one in instances}
    replicas = [one.id for one in health.servers if _is_replica(by_id.get(one.id))]
    view: dict[str, Any] = {
        "Healthy": health.healthy,
        "FailureTolerance": health.failure_tolerance,
        # Without redundancy zones nobody stands by.
        "OptimisticFailureTolerance": health.failure_tolerance,
        "Servers": {
            one.id: _server_view(one, by_id.get(one.id)) for one in health.servers
        },
        "Leader": next((one.id for one in health.servers if one.leader), ""),
        "Voters": [one.id for one in health.servers if one.voter],
    }
    if replicas:
        view["ReadReplicas"] = replicas
    return view


def _is_replica(instance: ServiceInstance | None) -> bool:
    meta = (instance.service.meta if instance else None) or {}
    return "true" in (meta.get("read_replica"), meta.get("non_voter"))


def _server_view(
    health: ServerHealth, instance: ServiceInstance | None
) -> dict[str, Any]:
    replica = _is_replica(instance)
    votes = "voter" if health.voter else "non-voter"
    return {
        "ID": health.id,
        "Name": health.name,
        "Address": health.address,
        "NodeStatus": _status(health),
        "Version": health.version,
        "LastContact": format_duration(health.last_contact),
        "LastTerm": health.last_term,
        "LastIndex": health.last_index,
        "Healthy": health.healthy,
        "StableSince": time_text(health.stable_since),
        "ReadReplica": replica,
        "Status": "leader" if health.leader else votes,
        "Meta": sorted_map(instance.node.meta if instance else None),
        "NodeType": "read-replica" if replica else "voter",
    }
