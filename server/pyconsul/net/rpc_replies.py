"""Replies of RPC calls, to the wire and from it (``wire-rpc.md`` 4 and 5).

What the wire does not carry follows from the arguments: how consistent the
answer is, and (``?passing``) which instances were asked for.
"""

from __future__ import annotations

from typing import Any, cast

from pyconsul.net import rpc_mesh
from pyconsul.net.rpc_forms import (
    BOOLEAN,
    DONE,
    QUERY_NOT_FOUND,
    TEXT,
    TEXTS,
    Answer,
    as_it_is,
    bare,
    indexed,
    meta,
    record,
    record_list,
    record_rows,
    replied,
    with_meta,
)
from pyconsul.net.rpc_values import (
    RowMemo,
    as_bool,
    as_list,
    as_map,
    as_text,
    as_uint,
    checks_from_plain,
    config_entry_from_plain,
    gateway_service_from_plain,
    gateway_service_to_plain,
    healthy_from_plain,
    healthy_to_plain,
    instance_from_plain,
    instance_to_plain,
    items,
    node_services_from_plain,
    pack_parts,
    plain_list,
    plain_rows,
    raw_parts,
    records,
    rows,
    services_by_id,
    services_listed,
    single_floats,
    tags_by_name,
    texts,
    time_from_plain,
)
from pyconsul.state.config_entries import wire_entry
from pyconsul.types.coordinates import Coordinate
from pyconsul.types.errors import NotFoundError
from pyconsul.types.gomsgpack import MsgpackError, Plain, from_plain, to_plain
from pyconsul.types.gotime import write_time
from pyconsul.types.messages import Reply, Row, TxnResponse
from pyconsul.types.operations import (
    AutopilotConfig,
    AutopilotHealth,
    KeyringResponse,
    RaftStats,
    ServerHealth,
)
from pyconsul.types.plain_entries import entry_from_plain, entry_to_plain
from pyconsul.types.queries import PreparedQuery, QueryDns, QueryResult
from pyconsul.types.records import HealthCheck, Node, Session
from pyconsul.types.ui import NodeInfo, RaftConfiguration, ServiceDump

# -- key-value


_TELLING = frozenset(("cas", "lock", "unlock", "delete-cas"))
"""Operations whose answer says something; of others it is false on the wire."""


def _applied_to_plain(reply: Reply, args: Any) -> bool:
    return args.op in _TELLING and reply.value is not False


def _applied_from_plain(plain: Any, args: Any) -> Reply:
    return Reply(as_bool(plain, "reply") or args.op not in _TELLING)


def _one_entry(value: Row | None) -> list[Plain] | None:
    return None if value is None else [entry_to_plain(value.record)]


def _read_one_entry(value: Any) -> Row | None:
    found = as_list(value, "Entries")
    return Row(entry_from_plain(found[0])) if found else None


def _entries(value: list[Row]) -> list[Plain] | None:
    return [entry_to_plain(row.record) for row in value] or None


# -- health


def _healthy_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    found = _read_healthy(held.get("Nodes"))
    if args.passing_only:
        found = [row for row in found if _passes(row.record.checks)]
    return replied(found, held, args)


def _passes(checks: list[HealthCheck]) -> bool:
    return all(check.status == "passing" for check in checks)


def _place(plain: Plain) -> object:
    return plain["Node"]["Node"], plain["Service"]["ID"]


def _instance_place(plain: Plain) -> object:
    return plain["Node"], plain["ServiceID"]


_read_healthy = RowMemo(healthy_from_plain, _place).rows
_read_instances = RowMemo(instance_from_plain, _instance_place).rows
_healthy = indexed("Nodes", lambda v: plain_rows(v, healthy_to_plain), _read_healthy)


def _dump_to_plain(reply: Reply, args: Any) -> Plain:
    dump: ServiceDump = reply.value
    return with_meta(
        reply,
        Gateways=plain_list(dump.gateways, gateway_service_to_plain),
        Nodes=plain_rows(dump.rows, healthy_to_plain),
    )


def _dump_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    dump = ServiceDump(
        _read_healthy(held.get("Nodes")),
        items(held.get("Gateways"), "Gateways", gateway_service_from_plain),
    )
    return replied(dump, held, args)


# -- sessions


def _session_to_plain(reply: Reply, args: Any) -> str:
    return reply.value if args.op == "create" else ""


def _session_from_plain(plain: Any, args: Any) -> Reply:
    text = as_text(plain, "reply")
    return Reply(text if args.op == "create" else True)


# -- coordinates


def _datacenter_maps(value: list[tuple[str, list[Coordinate]]]) -> list[Plain]:
    return [
        {
            "AreaID": "wan",
            "Coordinates": plain_list(found, to_plain),
            "Datacenter": name,
        }
        for name, found in value
    ]


def _read_datacenter_map(plain: Any) -> tuple[str, list[Coordinate]]:
    get = as_map(plain, "reply").get
    return (
        as_text(get("Datacenter"), "Datacenter"),
        _read_coordinates(get("Coordinates")),
    )


_read_coordinates = records("Coordinates", Coordinate)


# -- prepared queries


def _result_to_plain(reply: Reply, args: Any) -> Plain:
    found: QueryResult | None = reply.value
    if found is None:
        raise NotFoundError(QUERY_NOT_FOUND)
    return with_meta(
        reply,
        Service=found.service,
        Nodes=plain_list(found.nodes, healthy_to_plain),
        DNS=to_plain(found.dns),
        Datacenter=found.datacenter,
        Failovers=found.failovers,
    )


def _result_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    get = held.get
    result = QueryResult(
        service=as_text(get("Service"), "Service"),
        nodes=items(get("Nodes"), "Nodes", healthy_from_plain),
        dns=from_plain(as_map(get("DNS"), "DNS"), QueryDns),
        datacenter=as_text(get("Datacenter"), "Datacenter"),
        failovers=as_uint(get("Failovers"), "Failovers"),
    )
    return replied(result, held, args)


def _explained_to_plain(reply: Reply, args: Any) -> Plain:
    if reply.value is None:
        raise NotFoundError(QUERY_NOT_FOUND)
    return with_meta(reply, Query=to_plain(reply.value))


def _explained_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    query = from_plain(as_map(held.get("Query"), "Query"), PreparedQuery)
    return replied(query, held, args)


_queries = record_list("Queries", PreparedQuery)


def _query_to_plain(reply: Reply, args: Any) -> Plain:
    if not reply.value:
        raise NotFoundError(QUERY_NOT_FOUND)
    return _queries.write(reply, args)


# -- transactions


def _txn_read_to_plain(reply: Reply, args: Any) -> Plain:
    return with_meta(reply, **to_plain(reply.value))


def _txn_read_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    return replied(from_plain(held, TxnResponse), held, args)


# -- config entries: one raw


def _entry_to_plain(reply: Reply, args: Any) -> bytes:
    row: Row | None = reply.value
    if row is None:
        return pack_parts("", meta(reply))
    entry = row.record
    held = pack_parts(wire_entry(entry), single_floats=single_floats(entry))
    return pack_parts(entry.kind) + held + pack_parts(meta(reply))


def _entry_from_plain(plain: Any, args: Any) -> Reply:
    parts = raw_parts(plain, "reply")
    if len(parts) < 2:
        raise MsgpackError("msgpack decode error: reply: too few values")
    kind = as_text(parts[0], "Kind")
    row = Row(config_entry_from_plain(kind, parts[1])) if kind else None
    return replied(row, as_map(parts[-1], "reply"), args)


def _entries_to_plain(reply: Reply, args: Any) -> bytes:
    found = [row.record for row in reply.value]
    body = with_meta(reply, Entries=plain_list(found, wire_entry) or [], Kind=args.kind)
    single = any(single_floats(entry) for entry in found)
    return pack_parts(len(found), args.kind, body, single_floats=single)


def _entries_from_plain(plain: Any, args: Any) -> Reply:
    parts = raw_parts(plain, "reply")
    if len(parts) != 3:
        raise MsgpackError("msgpack decode error: reply: not three values")
    kind, held = as_text(parts[1], "Kind"), as_map(parts[2], "reply")
    found = items(
        held.get("Entries"), "Entries", lambda one: config_entry_from_plain(kind, one)
    )
    return replied([Row(entry) for entry in found], held, args)


# -- events, keyrings, autopilot


def _fired_to_plain(reply: Reply, args: Any) -> Plain:
    return meta(reply)


def _fired_from_plain(plain: Any, args: Any) -> Reply:
    return replied(True, as_map(plain, "reply"), args)


def _keyring_to_plain(reply: Reply, args: Any) -> Plain:
    plain = with_meta(reply, Responses=plain_list(reply.value, to_plain))
    # No query: what it says of consistency is what was set, mostly nothing.
    plain["Index"] = reply.index
    return plain


_keyring = record_list("Responses", KeyringResponse)


def _health_to_plain(health: AutopilotHealth) -> Plain:
    plain = to_plain(health)
    if health.servers:
        plain["Servers"] = [
            {**to_plain(server), "StableSince": write_time(server.stable_since)}
            for server in health.servers
        ]
    return plain


def _health_from_plain(plain: Any) -> AutopilotHealth:
    held = as_map(plain, "reply")
    servers = items(held.get("Servers"), "Servers", _server_health)
    bare = from_plain({**held, "Servers": None}, AutopilotHealth)
    return AutopilotHealth(
        healthy=bare.healthy, failure_tolerance=bare.failure_tolerance, servers=servers
    )


def _server_health(plain: Any) -> ServerHealth:
    held = as_map(plain, "Servers")
    since = time_from_plain(held.get("StableSince"))
    return from_plain({**held, "StableSince": since}, ServerHealth)


# -- the table


_checks = indexed(
    "HealthChecks",
    lambda value: plain_rows(value, to_plain),
    lambda value: [Row(check) for check in checks_from_plain(value)],
)
_sessions = record_list("Sessions", Session)
_coordinates = record_list("Coordinates", Coordinate)
_infos = record_list("Dump", NodeInfo)

ANSWERS: dict[str, Answer] = {
    **rpc_mesh.ANSWERS,
    "Catalog.Deregister": DONE,
    "Catalog.GatewayServices": indexed(
        "Services",
        lambda value: plain_list(value, gateway_service_to_plain),
        lambda value: items(value, "Services", gateway_service_from_plain),
    ),
    "Catalog.ListDatacenters": TEXTS,
    "Catalog.ListNodes": record_rows("Nodes", Node),
    "Catalog.ListServices": indexed("Services", as_it_is, tags_by_name),
    "Catalog.NodeServiceList": indexed(
        "NodeServices", services_listed, node_services_from_plain
    ),
    "Catalog.NodeServices": indexed(
        "NodeServices", services_by_id, node_services_from_plain
    ),
    "Catalog.Register": DONE,
    "Catalog.ServiceNodes": indexed(
        "ServiceNodes",
        lambda value: plain_rows(value, instance_to_plain),
        _read_instances,
    ),
    "ConfigEntry.Apply": BOOLEAN,
    "ConfigEntry.Delete": DONE,
    "ConfigEntry.Get": Answer(_entry_to_plain, _entry_from_plain),
    "ConfigEntry.List": Answer(_entries_to_plain, _entries_from_plain),
    "Coordinate.ListDatacenters": bare(
        _datacenter_maps, lambda plain: items(plain, "reply", _read_datacenter_map)
    ),
    "Coordinate.ListNodes": _coordinates,
    "Coordinate.Node": _coordinates,
    "Coordinate.Update": DONE,
    "Health.ChecksInState": _checks,
    "Health.NodeChecks": _checks,
    "Health.ServiceChecks": _checks,
    "Health.ServiceNodes": Answer(_healthy.write, _healthy_from_plain),
    "Internal.EventFire": Answer(_fired_to_plain, _fired_from_plain),
    "Internal.KeyringOperation": Answer(_keyring_to_plain, _keyring.read),
    "Internal.NodeDump": _infos,
    "Internal.NodeInfo": _infos,
    "Internal.ServiceDump": Answer(_dump_to_plain, _dump_from_plain),
    "KVS.Apply": Answer(_applied_to_plain, _applied_from_plain),
    "KVS.Get": indexed("Entries", _one_entry, _read_one_entry),
    "KVS.List": indexed("Entries", _entries, rows("Entries", entry_from_plain)),
    "KVS.ListKeys": indexed(
        "Keys", lambda value: value or None, lambda value: texts(value, "Keys")
    ),
    "Operator.AutopilotGetConfiguration": record(AutopilotConfig),
    "Operator.AutopilotSetConfiguration": BOOLEAN,
    "Operator.RaftGetConfiguration": record(RaftConfiguration),
    "Operator.RaftRemovePeerByAddress": DONE,
    "Operator.RaftRemovePeerByID": DONE,
    "Operator.ServerHealth": bare(_health_to_plain, _health_from_plain),
    "Operator.TransferLeader": bare(
        lambda value: {"Success": value},
        lambda plain: as_map(plain, "reply").get("Success") is True,
    ),
    "PreparedQuery.Apply": TEXT,
    "PreparedQuery.Execute": Answer(
        _result_to_plain, _result_from_plain, lambda: cast(Any, None)
    ),
    "PreparedQuery.ExecuteRemote": Answer(_result_to_plain, _result_from_plain),
    "PreparedQuery.Explain": Answer(
        _explained_to_plain, _explained_from_plain, lambda: cast(Any, None)
    ),
    "PreparedQuery.Get": Answer(_query_to_plain, _queries.read, list[PreparedQuery]),
    "PreparedQuery.List": _queries,
    "Session.Apply": Answer(_session_to_plain, _session_from_plain),
    "Session.Get": _sessions,
    "Session.List": _sessions,
    "Session.NodeSessions": _sessions,
    "Session.Renew": _sessions,
    "Status.Leader": TEXT,
    "Status.Peers": TEXTS,
    "Status.Ping": DONE,
    "Status.RaftStats": record(RaftStats),
    "Txn.Apply": record(TxnResponse),
    "Txn.Read": Answer(_txn_read_to_plain, _txn_read_from_plain),
}
"""How the reply of each method crosses the wire."""
