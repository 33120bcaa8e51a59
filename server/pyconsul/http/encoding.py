"""JSON of answers: the views of records as clients see them (part 2, section 1).

``*_view`` functions return dicts in the order of the reference, for answers
made of several records (the agent's lists use them too). ``*_json`` functions
return the bytes of one row, to be kept on its ``Row``: ``row.json(check_json)``.
``json_response`` encodes any value; ``rows_response`` joins rows.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from pyconsul.http.routing import JSON, Request, Response
from pyconsul.types.durations import format_duration
from pyconsul.types.messages import Row
from pyconsul.types.records import (
    CheckServiceNode,
    DirEntry,
    HealthCheck,
    HealthCheckDefinition,
    Node,
    NodeService,
    NodeServices,
    ServiceAddress,
    ServiceInstance,
    Session,
    TxnResult,
    Weights,
)

_encode = msgspec.json.Encoder().encode
V = TypeVar("V")

TRUE = b"true"
FALSE = b"false"

_PROXY_ORDER = (
    "DestinationServiceName",
    "DestinationServiceID",
    "LocalServiceAddress",
    "LocalServicePort",
    "LocalServiceSocketPath",
    "Mode",
    "Config",
    "Upstreams",
    "MeshGateway",
    "Expose",
    "TransparentProxy",
)
_UPSTREAM_ORDER = (
    "DestinationType",
    "DestinationNamespace",
    "DestinationPartition",
    "DestinationPeer",
    "DestinationName",
    "Datacenter",
    "LocalBindAddress",
    "LocalBindPort",
    "LocalBindSocketPath",
    "LocalBindSocketMode",
    "Config",
    "MeshGateway",
    "CentrallyConfigured",
)
_DEFINITION_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "deregister_critical_service_after": "DeregisterCriticalServiceAfter",
}


def encode(value: Any) -> bytes:
    """Encode to compact JSON, escaping what Go escapes (``<``, ``>``, ``&``)."""
    return escape(_encode(value))


def escape(data: bytes) -> bytes:
    """Escape in encoded JSON; these characters occur only inside strings."""
    if b"<" in data:
        data = data.replace(b"<", b"\\u003c")
    if b">" in data:
        data = data.replace(b">", b"\\u003e")
    if b"&" in data:
        data = data.replace(b"&", b"\\u0026")
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028")
        data = data.replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


def pretty(data: bytes) -> bytes:
    """Indent by four blanks and end with a newline."""
    return msgspec.json.format(data, indent=4) + b"\n"


def wants_pretty(request: Request) -> bool:
    """Say whether to indent: ``?pretty``, or always in dev mode."""
    return request.face.options.pretty or "pretty" in request.query


def body_response(
    request: Request, body: bytes, headers: bytes = b"", status: int = 200
) -> Response:
    """Answer with JSON that is encoded already."""
    if wants_pretty(request):
        body = pretty(body)
    return Response(status, body, JSON, headers)


def json_response(
    request: Request, value: Any, headers: bytes = b"", status: int = 200
) -> Response:
    """Answer with any JSON value (dicts, lists, records, numbers)."""
    return body_response(request, encode(value), headers, status)


def join_rows(rows: Iterable[Row], encoder: Callable[[Any], bytes]) -> bytes:
    """Return a JSON list of rows; each is encoded at most once in its life."""
    return b"[" + b",".join([row.json(encoder) for row in rows]) + b"]"


def entry_json(entry: DirEntry) -> bytes:
    """Return a KV entry: ``Value`` null when empty, ``Session`` when locked."""
    value = b'"' + b64encode(entry.value) + b'"' if entry.value else b"null"
    session = b""
    if entry.session:
        session = b'"Session":' + encode(entry.session) + b","
    return (
        b'{"LockIndex":%d,"Key":%b,"Flags":%d,"Value":%b,%b'
        b'"CreateIndex":%d,"ModifyIndex":%d}'
    ) % (
        entry.lock_index,
        encode(entry.key),
        entry.flags,
        value,
        session,
        entry.create_index,
        entry.modify_index,
    )


def node_view(node: Node) -> dict[str, Any]:
    """Return a node."""
    return {
        "ID": node.id,
        "Node": node.node,
        "Address": node.address,
        "Datacenter": node.datacenter,
        "TaggedAddresses": sorted_map(node.tagged_addresses),
        "Meta": sorted_map(node.meta),
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    }


def node_json(node: Node) -> bytes:
    """Return a node's row."""
    return encode(node_view(node))


def sorted_map(value: Mapping[str, V] | None) -> dict[str, V] | None:
    """Return a map sorted by key, as Go prints it; ``None`` stays."""
    if value is None:
        return None
    return {key: value[key] for key in sorted(value)}


def addresses_view(value: Mapping[str, ServiceAddress]) -> dict[str, Any]:
    """Return tagged addresses of a service."""
    return {
        tag: {"Address": value[tag].address, "Port": value[tag].port}
        for tag in sorted(value)
    }


def weights_view(weights: Weights | None) -> dict[str, int]:
    """Return DNS weights, 1 and 1 when none were given."""
    if weights is None:
        return {"Passing": 1, "Warning": 1}
    return {"Passing": weights.passing, "Warning": weights.warning}


def proxy_view(proxy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a proxy's settings, which are an object even when not given."""
    given: Mapping[str, Any] = proxy or {}
    view: dict[str, Any] = {}
    for name in _PROXY_ORDER:
        if name == "Mode":
            view[name] = given.get(name) or ""
        elif name in ("MeshGateway", "Expose"):
            view[name] = given.get(name) or {}
        elif given.get(name):
            view[name] = given[name]
    for name in sorted(given):
        if name not in _PROXY_ORDER:
            view[name] = given[name]
    return view


def catalog_proxy_view(proxy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a proxy as the catalog shows it: upstreams with their empty fields."""
    view = proxy_view(proxy)
    upstreams: list[Mapping[str, Any]] | None = view.get("Upstreams")
    if upstreams:
        view["Upstreams"] = [_upstream_view(upstream) for upstream in upstreams]
    return view


def _upstream_view(upstream: Mapping[str, Any]) -> dict[str, Any]:
    view: dict[str, Any] = {}
    for name in _UPSTREAM_ORDER:
        if name in ("DestinationType", "Datacenter"):
            view[name] = upstream.get(name) or ""
        elif name == "MeshGateway":
            view[name] = upstream.get(name) or {}
        elif upstream.get(name):
            view[name] = upstream[name]
    return view


def service_view(service: NodeService) -> dict[str, Any]:
    """Return a service as its node shows it (health, catalog/node)."""
    view: dict[str, Any] = {}
    if service.kind:
        view["Kind"] = service.kind
    view["ID"] = service.id
    view["Service"] = service.service
    view["Tags"] = service.tags or []
    view["Address"] = service.address
    if service.tagged_addresses:
        view["TaggedAddresses"] = addresses_view(service.tagged_addresses)
    view["Meta"] = sorted_map(service.meta or None)
    if service.port:
        view["Port"] = service.port
    if service.socket_path:
        view["SocketPath"] = service.socket_path
    view["Weights"] = weights_view(service.weights)
    view["EnableTagOverride"] = service.enable_tag_override
    view["Proxy"] = catalog_proxy_view(service.proxy)
    view["Connect"] = service.connect or {}
    view["CreateIndex"] = service.create_index
    view["ModifyIndex"] = service.modify_index
    return view


def stored_service_view(service: NodeService) -> dict[str, Any]:
    """Return a service as it is stored: tags that were not given are null.

    So show it transactions, prepared queries and the UI's nodes.
    """
    view = service_view(service)
    view["Tags"] = service.tags
    return view


def definition_view(definition: HealthCheckDefinition) -> dict[str, Any]:
    """Return a check's definition: what was given, durations as text."""
    view: dict[str, Any] = {}
    for field, name in _DEFINITION_DURATIONS.items():
        duration: int = getattr(definition, field)
        if duration:
            view[name] = format_duration(duration)
    for info in msgspec.structs.fields(HealthCheckDefinition):
        if info.name in _DEFINITION_DURATIONS:
            continue
        value = getattr(definition, info.name)
        if value:
            view[info.encode_name] = (
                format_duration(value) if info.name == "ttl" else value
            )
    return view


def check_view(check: HealthCheck) -> dict[str, Any]:
    """Return a check; ``ServiceTags`` is never null."""
    return {
        "Node": check.node,
        "CheckID": check.check_id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": check.service_tags or [],
        "Type": check.type,
        "Interval": check.interval,
        "Timeout": check.timeout,
        "ExposedPort": check.exposed_port,
        "Definition": definition_view(check.definition),
        "CreateIndex": check.create_index,
        "ModifyIndex": check.modify_index,
    }


def stored_check_view(check: HealthCheck) -> dict[str, Any]:
    """Return a check as it is stored: without a service's tags, null."""
    view = check_view(check)
    view["ServiceTags"] = check.service_tags
    return view


def check_json(check: HealthCheck) -> bytes:
    """Return a check's row."""
    return encode(check_view(check))


def instance_json(instance: ServiceInstance) -> bytes:
    """Return the flat ``ServiceNode`` of ``catalog/service``."""
    node, service = instance.node, instance.service
    view: dict[str, Any] = {
        "ID": node.id,
        "Node": node.node,
        "Address": node.address,
        "Datacenter": node.datacenter,
        "TaggedAddresses": sorted_map(node.tagged_addresses),
        "NodeMeta": sorted_map(node.meta),
        "ServiceKind": service.kind,
        "ServiceID": service.id,
        "ServiceName": service.service,
        "ServiceTags": service.tags or [],
        "ServiceAddress": service.address,
    }
    if service.tagged_addresses:
        view["ServiceTaggedAddresses"] = addresses_view(service.tagged_addresses)
    view["ServiceWeights"] = weights_view(service.weights)
    view["ServiceMeta"] = sorted_map(service.meta) or {}
    view["ServicePort"] = service.port
    view["ServiceSocketPath"] = service.socket_path
    view["ServiceEnableTagOverride"] = service.enable_tag_override
    view["ServiceProxy"] = catalog_proxy_view(service.proxy)
    view["ServiceConnect"] = service.connect or {}
    view["CreateIndex"] = service.create_index
    view["ModifyIndex"] = service.modify_index
    return encode(view)


def healthy_view(instance: CheckServiceNode) -> dict[str, Any]:
    """Return the ``Node``, ``Service``, ``Checks`` row of ``health/service``."""
    return {
        "Node": node_view(instance.node),
        "Service": service_view(instance.service),
        "Checks": [check_view(check) for check in instance.checks],
    }


def healthy_json(instance: CheckServiceNode) -> bytes:
    """Return ``healthy_view`` encoded."""
    return encode(healthy_view(instance))


def node_services_view(value: NodeServices | None) -> dict[str, Any] | None:
    """Return ``catalog/node``: services by id, null when unknown."""
    if value is None:
        return None
    by_id = {service.id: service_view(service) for service in value.services}
    return {"Node": node_view(value.node), "Services": sorted_map(by_id)}


def node_service_list_view(value: NodeServices | None) -> dict[str, Any]:
    """Return ``catalog/node-services``: services as a list."""
    if value is None:
        return {"Node": None, "Services": None}
    services = [service_view(service) for service in value.services]
    return {"Node": node_view(value.node), "Services": services}


def session_view(session: Session) -> dict[str, Any]:
    """Return a session; ``LockDelay`` in nanoseconds, ``TTL`` as given."""
    checks = session.service_checks
    return {
        "ID": session.id,
        "Name": session.name,
        "Node": session.node,
        "LockDelay": session.lock_delay,
        "Behavior": session.behavior,
        "TTL": session.ttl,
        "NodeChecks": session.node_checks,
        "ServiceChecks": checks
        and [{"ID": check.id, "Namespace": check.namespace} for check in checks],
        "CreateIndex": session.create_index,
        "ModifyIndex": session.modify_index,
    }


def result_json(result: TxnResult) -> bytes:
    """Return one result of a transaction."""
    if result.kv is not None:
        return b'{"KV":' + entry_json(result.kv) + b"}"
    if result.node is not None:
        return encode({"Node": node_view(result.node)})
    if result.service is not None:
        return encode({"Service": stored_service_view(result.service)})
    if result.check is not None:
        return encode({"Check": stored_check_view(result.check)})
    return b"{}"
