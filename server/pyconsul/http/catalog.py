"""``/v1/catalog/`` (part 2 of the reference, section 2)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import Shape, build, decode
from pyconsul.http.encoding import (
    TRUE,
    body_response,
    encode,
    instance_json,
    node_json,
    node_service_list_view,
    node_services_view,
    sorted_map,
)
from pyconsul.http.params import (
    by_datacenter,
    check_edition,
    node_meta,
    read,
    read_options,
    rows_view,
    source_of,
    token_of,
    value_view,
)
from pyconsul.http.routing import Answer, Request, Response, Routes, then
from pyconsul.http.shapes import DEREGISTER, REGISTER
from pyconsul.types.errors import BadRequestError
from pyconsul.types.messages import (
    DCSpecificRequest,
    DeregisterRequest,
    EmptyRequest,
    NodeSpecificRequest,
    RegisterRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.records import Node, NodeServices, ServiceInstance
from pyconsul.types.wan_addresses import wan_instance, wan_node, wan_node_services


def add_routes(routes: Routes) -> None:
    """Add the catalog routes."""
    routes.add("catalog/register", PUT=register)
    routes.add("catalog/deregister", PUT=deregister)
    routes.add("catalog/datacenters", GET=datacenters)
    routes.add("catalog/nodes", GET=nodes)
    routes.add("catalog/services", GET=services)
    routes.add("catalog/service/", GET=service)
    routes.add("catalog/connect/", GET=connect)
    routes.add("catalog/node/", GET=node)
    routes.add("catalog/node-services/", GET=node_services)


def _write(request: Request, method: str, args: Any) -> Answer:
    return then(
        request.face.caller.call(method, args),
        lambda reply: body_response(request, TRUE),
    )


def _decode(body: bytes, shape: Shape) -> dict[str, Any]:
    """Return a body's fields; says why a namespace is not one of them."""
    try:
        return decode(body, shape)
    except BadRequestError as error:
        if str(error).endswith('unknown field "Namespace"'):
            reason = "Namespaces are a Consul Enterprise feature"
            raise BadRequestError(f"{error} - {reason}") from None
        raise


def register(request: Request) -> Answer:
    """Write a node, a service and checks; the body names the datacenter."""
    check_edition(request)
    fields = _decode(request.body, REGISTER)
    fields["Datacenter"] = fields.get("Datacenter") or request.face.options.datacenter
    fields["Token"] = token_of(request)
    return _write(request, "Catalog.Register", build(fields, RegisterRequest))


def deregister(request: Request) -> Answer:
    """Remove a service, a check or a whole node."""
    check_edition(request)
    fields = _decode(request.body, DEREGISTER)
    fields["Datacenter"] = fields.get("Datacenter") or request.face.options.datacenter
    fields.pop("Address", None)
    fields["Token"] = token_of(request)
    return _write(request, "Catalog.Deregister", build(fields, DeregisterRequest))


def datacenters(request: Request) -> Answer:
    """Return the names of the datacenters; neither blocks nor has an index."""
    args = EmptyRequest(token=token_of(request))

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        cache = headers[at:] if (at := headers.find(b"X-Cache:")) >= 0 else b""
        return body_response(request, encode(reply.value), cache)

    return read(
        request, "Catalog.ListDatacenters", args, view, cacheable=True, discovery=True
    )


def _wan_node_json(node: Node) -> bytes:
    return node_json(wan_node(node))


def _wan_instance_json(instance: ServiceInstance) -> bytes:
    return instance_json(wan_instance(instance))


def _wan_node_view(found: NodeServices | None) -> dict[str, Any] | None:
    return node_services_view(found and wan_node_services(found))


def _wan_node_list_view(found: NodeServices | None) -> dict[str, Any]:
    return node_service_list_view(found and wan_node_services(found))


_nodes = by_datacenter(rows_view(node_json), rows_view(_wan_node_json))
_services = value_view(sorted_map)
_instances = by_datacenter(rows_view(instance_json), rows_view(_wan_instance_json))
_node = by_datacenter(value_view(node_services_view), value_view(_wan_node_view))
_node_list = by_datacenter(
    value_view(node_service_list_view), value_view(_wan_node_list_view)
)


def nodes(request: Request) -> Answer:
    """Return the nodes."""
    args = DCSpecificRequest(
        node_meta_filters=node_meta(request),
        source=source_of(request),
        **read_options(request, discovery=True, filtered=True),
    )
    return read(request, "Catalog.ListNodes", args, _nodes, discovery=True)


def services(request: Request) -> Answer:
    """Return the names of services with their tags."""
    args = DCSpecificRequest(
        node_meta_filters=node_meta(request), **read_options(request, discovery=True)
    )
    return read(
        request,
        "Catalog.ListServices",
        args,
        _services,
        discovery=True,
        cacheable=True,
    )


def service_request(
    request: Request, *, connect: bool = False, ingress: bool = False
) -> ServiceSpecificRequest:
    """Return the arguments of a look-up of a service's instances."""
    if not request.argument:
        raise BadRequestError("Missing service name")
    tags = request.query.all("tag")
    return ServiceSpecificRequest(
        service_name=request.argument,
        service_tags=tags or None,
        tag_filter=bool(tags),
        node_meta_filters=node_meta(request),
        connect=connect,
        ingress=ingress,
        source=source_of(request),
        **read_options(request, discovery=True, filtered=True),
    )


def _instances_of(request: Request, connect: bool) -> Answer:
    return read(
        request,
        "Catalog.ServiceNodes",
        service_request(request, connect=connect),
        _instances,
        discovery=True,
        cacheable=True,
    )


def service(request: Request) -> Answer:
    """Return the instances of a service."""
    return _instances_of(request, connect=False)


def connect(request: Request) -> Answer:
    """Return the instances that speak for a service in the mesh."""
    return _instances_of(request, connect=True)


def _node_request(request: Request) -> NodeSpecificRequest:
    if not request.argument:
        raise BadRequestError("Missing node name")
    return NodeSpecificRequest(
        node=request.argument, **read_options(request, discovery=True, filtered=True)
    )


def node(request: Request) -> Answer:
    """Return a node with its services by id, or null."""
    args = _node_request(request)
    return read(request, "Catalog.NodeServices", args, _node, discovery=True)


def node_services(request: Request) -> Answer:
    """Return a node with the list of its services."""
    args = _node_request(request)
    return read(request, "Catalog.NodeServiceList", args, _node_list, discovery=True)
