"""``/v1/internal/ui/``: what a web page needs of the catalog (part 4, 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyconsul.http.encoding import (
    json_response,
    sorted_map,
    stored_check_view,
    stored_service_view,
)
from pyconsul.http.params import read, read_options, value_view
from pyconsul.http.routing import Answer, Request, Response, Routes
from pyconsul.types.config_entries import GatewayService
from pyconsul.types.errors import BadRequestError
from pyconsul.types.messages import DCSpecificRequest, NodeSpecificRequest, Reply, Row
from pyconsul.types.records import CheckServiceNode
from pyconsul.types.ui import NodeInfo, ServiceDump

_SOURCE = "external-source"
_COUNTS = {
    "passing": "ChecksPassing",
    "warning": "ChecksWarning",
    "critical": "ChecksCritical",
}


def add_routes(routes: Routes) -> None:
    """Add the routes of the UI's data."""
    routes.add("internal/ui/nodes", GET=nodes)
    routes.add("internal/ui/node/", GET=node)
    routes.add("internal/ui/services", GET=services)


def _node_view(info: NodeInfo) -> dict[str, Any]:
    return {
        "ID": info.id,
        "Node": info.node,
        "Address": info.address,
        "TaggedAddresses": sorted_map(info.tagged_addresses),
        "Meta": sorted_map(info.meta),
        "Services": [stored_service_view(service) for service in info.services],
        "Checks": [stored_check_view(check) for check in info.checks],
    }


def _nodes_view(found: list[NodeInfo]) -> list[dict[str, Any]]:
    return [_node_view(info) for info in found]


_nodes = value_view(_nodes_view)


def nodes(request: Request) -> Answer:
    """Return every node with its services and checks."""
    args = DCSpecificRequest(**read_options(request, filtered=True))
    return read(request, "Internal.NodeDump", args, _nodes)


def node(request: Request) -> Answer:
    """Return one node; 404 when it is unknown."""
    if not request.argument:
        raise BadRequestError("Missing node name")

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        if not reply.value:
            return Response(404, headers=headers)
        return json_response(request, _node_view(reply.value[0]), headers)

    args = NodeSpecificRequest(node=request.argument, **read_options(request))
    return read(request, "Internal.NodeInfo", args, view)


def services(request: Request) -> Answer:
    """Return a summary of each service, by name."""
    args = DCSpecificRequest(**read_options(request, filtered=True))
    return read(request, "Internal.ServiceDump", args, _services)


def summaries(
    rows: Iterable[Row], gateways: Iterable[GatewayService] = ()
) -> list[dict[str, Any]]:
    """Return ``ServiceSummary`` views of ``CheckServiceNode`` rows, by name.

    A node's own checks count once per service, however many instances it has.
    ``gateways`` are the services behind them.
    """
    found: dict[str, dict[str, Any]] = {}
    counted: set[tuple[str, str]] = set()
    with_proxy: set[str] = set()
    for row in rows:
        instance: CheckServiceNode = row.record
        service = instance.service
        summary = found.get(service.service)
        if summary is None:
            summary = found[service.service] = _summary(instance)
        if service.kind == "connect-proxy":
            proxy = service.proxy or {}
            with_proxy.add(str(proxy.get("DestinationServiceName") or ""))
        _unite(summary, "Tags", service.tags or ())
        sources = (
            (service.meta or {}).get(_SOURCE),
            (instance.node.meta or {}).get(_SOURCE),
        )
        _unite(summary, "ExternalSources", [source for source in sources if source])
        summary["InstanceCount"] += 1
        key = (service.service, instance.node.node)
        new_node = key not in counted
        if new_node:
            counted.add(key)
            summary["Nodes"].append(instance.node.node)
        for check in instance.checks:
            count = _COUNTS.get(check.status)
            if count and (check.service_id or new_node):
                summary[count] += 1
    for linked in gateways:
        if linked.service in found:
            found[linked.service]["ConnectedWithGateway"] = True
        if linked.gateway in found:
            config = found[linked.gateway]["GatewayConfig"]
            count = config.get("AssociatedServiceCount", 0)
            config["AssociatedServiceCount"] = count + 1
    for name, summary in found.items():
        summary["ConnectedWithProxy"] = name in with_proxy
        summary["Nodes"].sort()
        if summary["Tags"]:
            summary["Tags"].sort()
    return [found[name] for name in sorted(found)]


def _summary(instance: CheckServiceNode) -> dict[str, Any]:
    service = instance.service
    proxy = service.proxy or {}
    view: dict[str, Any] = {"Kind": service.kind} if service.kind else {}
    view |= no_instances(service.service, instance.node.datacenter)
    view["TransparentProxy"] = proxy.get("Mode") == "transparent"
    return view


def no_instances(name: str, datacenter: str) -> dict[str, Any]:
    """Return the summary of a service without instances."""
    return {
        "Name": name,
        "Datacenter": datacenter,
        "Tags": None,
        "Nodes": [],
        "ExternalSources": None,
        "InstanceCount": 0,
        "ChecksPassing": 0,
        "ChecksWarning": 0,
        "ChecksCritical": 0,
        "GatewayConfig": {},
        "TransparentProxy": False,
        "ConnectedWithProxy": False,
        "ConnectedWithGateway": False,
    }


def _unite(summary: dict[str, Any], name: str, values: Iterable[str]) -> None:
    for value in values:
        held: list[str] = summary[name] or []
        if value not in held:
            summary[name] = [*held, value]


def _dump_view(dump: ServiceDump) -> list[dict[str, Any]]:
    return summaries(dump.rows, dump.gateways)


_services = value_view(_dump_view)
