"""``/v1/internal/``: gateways and federation (``http-api-connect.md`` section 7)."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyconsul.http.connect import intention_list_view
from pyconsul.http.encoding import healthy_view, json_response
from pyconsul.http.operator import time_text
from pyconsul.http.params import read, read_options, value_view
from pyconsul.http.routing import Answer, Request, Response, Routes
from pyconsul.http.ui_data import no_instances, summaries
from pyconsul.types.config_entries import GatewayService
from pyconsul.types.errors import BadRequestError
from pyconsul.types.intentions import (
    NAMESPACE,
    IntentionMatchEntry,
    IntentionQueryMatch,
    IntentionQueryRequest,
)
from pyconsul.types.mesh import FederationState, FederationStateQuery, ServiceInfo
from pyconsul.types.messages import (
    DCSpecificRequest,
    Reply,
    Row,
    ServiceSpecificRequest,
)
from pyconsul.types.records import CheckServiceNode

_INGRESS = "ingress-gateway"


def add_routes(routes: Routes) -> None:
    """Add the routes."""
    routes.add("internal/ui/gateway-services-nodes/", GET=gateway_services)
    routes.add("internal/ui/gateway-intentions/", GET=gateway_intentions)
    routes.add("internal/federation-states", GET=federation_states)
    routes.add("internal/federation-states/mesh-gateways", GET=mesh_gateways)
    routes.add("internal/federation-state/", GET=federation_state)


# -- gateways


def _gateway(request: Request) -> str:
    if not request.argument:
        raise BadRequestError("Missing gateway name")
    return request.argument


def gateway_services(request: Request) -> Answer:
    """Return a summary of each service behind a gateway, by name."""
    args = ServiceSpecificRequest(
        service_name=_gateway(request), **read_options(request)
    )
    options = request.face.options
    datacenter = args.datacenter or options.datacenter
    view = partial(_linked_view, datacenter=datacenter, domain=options.dns_domain)
    return read(request, "Internal.GatewayServiceDump", args, value_view(view))


def _linked_view(
    infos: list[ServiceInfo], datacenter: str, domain: str
) -> list[dict[str, Any]]:
    rows = [
        Row(CheckServiceNode(node=one.node, service=one.service, checks=one.checks))
        for one in infos
        if one.node is not None and one.service is not None
    ]
    found = {summary["Name"]: summary for summary in summaries(rows)}
    linked = {one.gateway_service for one in infos if one.gateway_service is not None}
    for one in sorted(linked, key=lambda one: (one.service, one.port)):
        name = one.service
        summary = found.setdefault(name, no_instances(name, datacenter))
        told: list[str] = summary["GatewayConfig"].setdefault("Addresses", [])
        told.extend(_addresses(one, datacenter, domain))
    for summary in found.values():
        del summary["ConnectedWithProxy"], summary["ConnectedWithGateway"]
        if not summary["GatewayConfig"].get("Addresses"):
            summary["GatewayConfig"] = {}
    return [found[name] for name in sorted(found)]


def _addresses(one: GatewayService, datacenter: str, domain: str) -> list[str]:
    """Return where an ingress gateway listens for a service."""
    if one.gateway_kind != _INGRESS:
        return []
    hosts = one.hosts or [f"{one.service}.ingress.{datacenter}.{domain}"]
    return [f"{host}:{one.port}" for host in hosts]


def gateway_intentions(request: Request) -> Answer:
    """Return the intentions to the services of a terminating gateway."""
    entry = IntentionMatchEntry(namespace=NAMESPACE, name=_gateway(request))
    match = IntentionQueryMatch(type="destination", entries=[entry])
    args = IntentionQueryRequest(match=match, **read_options(request))
    return read(request, "Internal.GatewayIntentions", args, _intentions)


_intentions = value_view(intention_list_view)


# -- federation


def _state_view(state: FederationState) -> dict[str, Any]:
    gateways = [healthy_view(found) for found in state.mesh_gateways]
    return {
        "Datacenter": state.datacenter,
        "MeshGateways": gateways or None,
        "UpdatedAt": time_text(state.updated_at),
        "PrimaryModifyIndex": state.primary_modify_index,
        "CreateIndex": state.create_index,
        "ModifyIndex": state.modify_index,
    }


def _states_view(states: list[FederationState]) -> list[dict[str, Any]]:
    return [_state_view(state) for state in states]


def _gateways_view(found: dict[str, list[CheckServiceNode]]) -> dict[str, Any]:
    return {name: [healthy_view(one) for one in found[name]] for name in sorted(found)}


_states = value_view(_states_view)
_mesh_gateways = value_view(_gateways_view)


def federation_states(request: Request) -> Answer:
    """Return what every datacenter tells the others."""
    args = DCSpecificRequest(**read_options(request))
    return read(request, "FederationState.List", args, _states)


def mesh_gateways(request: Request) -> Answer:
    """Return the mesh gateways of every datacenter."""
    args = DCSpecificRequest(**read_options(request))
    return read(request, "FederationState.ListMeshGateways", args, _mesh_gateways)


def federation_state(request: Request) -> Answer:
    """Return what one datacenter tells the others; 404 when it is unknown."""
    if not request.argument:
        raise BadRequestError("Missing datacenter name")
    args = FederationStateQuery(
        target_datacenter=request.argument, **read_options(request)
    )

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        if reply.value is None:
            return Response(404, headers=headers)
        body = {
            "State": _state_view(reply.value),
            "Index": reply.index or 1,
            "LastContact": reply.last_contact_ms,
            "KnownLeader": reply.known_leader,
            "ConsistencyLevel": reply.consistency,
            "NotModified": False,
            "Backend": 0,
        }
        return json_response(request, body, headers)

    return read(request, "FederationState.Get", args, view)
