"""Replies of the mesh's and the tokens' methods, to the wire and from it."""

from __future__ import annotations

from typing import Any

from pyconsul.net.rpc_forms import (
    Answer,
    as_it_is,
    bare,
    indexed,
    meta,
    meta_record,
    record,
    record_list,
    replied,
    with_meta,
)
from pyconsul.net.rpc_values import (
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
    items,
    pack_parts,
    plain_list,
    raw_parts,
    single_floats,
)
from pyconsul.state.config_entries import wire_entry
from pyconsul.types.discovery import DiscoveryChain
from pyconsul.types.gomsgpack import MsgpackError, Plain, from_plain, to_plain
from pyconsul.types.intentions import Intention, Intentions
from pyconsul.types.mesh import (
    CAConfiguration,
    CARoots,
    FederationState,
    ServiceConfig,
    ServiceInfo,
)
from pyconsul.types.messages import Reply, Row
from pyconsul.types.passed import PASSED
from pyconsul.types.records import CheckServiceNode, Node, NodeService
from pyconsul.types.tokens import TokenAnswer, TokenBatchAnswer

# -- config entries of any kind: one raw


def _entries_to_plain(reply: Reply, args: Any) -> bytes:
    rows: list[Row] = reply.value
    parts = [pack_parts(len(rows))]
    for row in rows:
        entry = row.record
        held = pack_parts(wire_entry(entry), single_floats=single_floats(entry))
        parts += (pack_parts(entry.kind), held)
    return b"".join(parts) + pack_parts(meta(reply))


def _entries_from_plain(plain: Any, args: Any) -> Reply:
    parts = raw_parts(plain, "reply")
    count = as_uint(parts[0], "reply") if parts else 0
    if len(parts) != 2 * count + 2:
        raise MsgpackError("msgpack decode error: reply: entries do not add up")
    rows = [
        Row(config_entry_from_plain(as_text(kind, "Kind"), entry))
        for kind, entry in zip(parts[1:-1:2], parts[2:-1:2], strict=True)
    ]
    return replied(rows, as_map(parts[-1], "reply"), args)


def _config_to_plain(reply: Reply, args: Any) -> bytes:
    return pack_parts(with_meta(reply, **to_plain(reply.value)))


def _config_from_plain(plain: Any, args: Any) -> Reply:
    parts = raw_parts(plain, "reply")
    if len(parts) != 1:
        raise MsgpackError("msgpack decode error: reply: not one value")
    held = as_map(parts[0], "reply")
    return replied(from_plain(held, ServiceConfig), held, args)


# -- gateways


def _info_to_plain(info: ServiceInfo) -> Plain:
    linked = info.gateway_service
    return {
        "Checks": plain_list(info.checks, to_plain),
        "GatewayService": linked and gateway_service_to_plain(linked),
        "Node": info.node and to_plain(info.node),
        "Service": info.service and to_plain(info.service),
    }


def _info_from_plain(plain: Any) -> ServiceInfo:
    get = as_map(plain, "Dump").get
    node, service, linked = get("Node"), get("Service"), get("GatewayService")
    return ServiceInfo(
        node=None if node is None else from_plain(node, Node),
        service=None if service is None else from_plain(service, NodeService),
        checks=checks_from_plain(get("Checks")),
        gateway_service=None if linked is None else gateway_service_from_plain(linked),
    )


# -- federation


def _states_to_plain(reply: Reply, args: Any) -> Plain:
    found: FederationState | None = reply.value
    return with_meta(reply, State=found and to_plain(found))


def _state_from_plain(plain: Any, args: Any) -> Reply:
    held = as_map(plain, "reply")
    state = held.get("State")
    found = None if state is None else from_plain(state, FederationState)
    return replied(found, held, args)


def _gateways_to_plain(value: dict[str, list[CheckServiceNode]]) -> Plain | None:
    return {
        datacenter: plain_list(found, healthy_to_plain)
        for datacenter, found in value.items()
    } or None


def _gateways_from_plain(plain: Any) -> dict[str, list[CheckServiceNode]]:
    return {
        as_text(datacenter, "DatacenterNodes"): items(
            found, "DatacenterNodes", healthy_from_plain
        )
        for datacenter, found in as_map(plain, "DatacenterNodes").items()
    }


# -- intentions


def _matches_to_plain(value: list[list[Intention]]) -> list[Any] | None:
    return plain_list(value, lambda found: plain_list(found, to_plain))


def _matches_from_plain(plain: Any) -> list[list[Intention]]:
    return [
        items(found, "Matches", lambda one: from_plain(one, Intention))
        for found in as_list(plain, "Matches")
    ]


def _allowed_from_plain(plain: Any) -> bool:
    return as_bool(as_map(plain, "reply").get("Allowed"), "Allowed")


# -- names of services


def _names_to_plain(value: list[str]) -> list[Plain] | None:
    return [{"Name": name} for name in value] or None


def _names_from_plain(plain: Any) -> list[str]:
    return items(
        plain,
        "Services",
        lambda one: as_text(as_map(one, "Services").get("Name"), "Name"),
    )


# -- methods of features that are off


_passed = bare(as_it_is, as_it_is)
_intentions = meta_record(Intentions)

ANSWERS: dict[str, Answer] = {
    **dict.fromkeys(PASSED, _passed),
    "ACL.TokenBatchRead": meta_record(TokenBatchAnswer),
    "ACL.TokenRead": meta_record(TokenAnswer),
    "Catalog.ServiceList": indexed("Services", _names_to_plain, _names_from_plain),
    "ConfigEntry.ListAll": Answer(_entries_to_plain, _entries_from_plain),
    "ConfigEntry.ResolveServiceConfig": Answer(_config_to_plain, _config_from_plain),
    "ConnectCA.ConfigurationGet": record(CAConfiguration),
    "ConnectCA.Roots": meta_record(CARoots),
    "DiscoveryChain.Get": meta_record(DiscoveryChain),
    "FederationState.Get": Answer(_states_to_plain, _state_from_plain),
    "FederationState.List": record_list("States", FederationState),
    "FederationState.ListMeshGateways": indexed(
        "DatacenterNodes", _gateways_to_plain, _gateways_from_plain
    ),
    "Intention.Check": bare(lambda value: {"Allowed": value}, _allowed_from_plain),
    "Intention.Get": _intentions,
    "Intention.List": _intentions,
    "Intention.Match": indexed("Matches", _matches_to_plain, _matches_from_plain),
    "Internal.GatewayIntentions": _intentions,
    "Internal.GatewayServiceDump": indexed(
        "Dump",
        lambda value: plain_list(value, _info_to_plain),
        lambda value: items(value, "Dump", _info_from_plain),
    ),
}
"""How the reply of each of these methods crosses the wire."""
