"""``/v1/health/`` (part 2 of the reference, section 3)."""

from __future__ import annotations

import msgspec

from pyconsul.http.catalog import service_request
from pyconsul.http.encoding import check_json, healthy_json
from pyconsul.http.params import (
    by_datacenter,
    meta_headers,
    node_meta,
    parse_bool,
    read,
    read_options,
    rows_view,
    source_of,
)
from pyconsul.http.routing import Answer, Request, Routes, text_response
from pyconsul.types.errors import BadRequestError
from pyconsul.types.messages import (
    ChecksInStateRequest,
    NodeSpecificRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.records import CheckServiceNode
from pyconsul.types.wan_addresses import wan_checked

_checks = rows_view(check_json)


def _wan_healthy_json(found: CheckServiceNode) -> bytes:
    return healthy_json(wan_checked(found))


_instances = by_datacenter(rows_view(healthy_json), rows_view(_wan_healthy_json))


def add_routes(routes: Routes) -> None:
    """Add the health routes."""
    routes.add("health/node/", GET=node_checks)
    routes.add("health/checks/", GET=service_checks)
    routes.add("health/state/", GET=checks_in_state)
    routes.add("health/service/", GET=service)
    routes.add("health/connect/", GET=connect)
    routes.add("health/ingress/", GET=ingress)


def node_checks(request: Request) -> Answer:
    """Return the checks of a node."""
    if not request.argument:
        raise BadRequestError("Missing node name")
    args = NodeSpecificRequest(
        node=request.argument, **read_options(request, discovery=True, filtered=True)
    )
    return read(request, "Health.NodeChecks", args, _checks, discovery=True)


def service_checks(request: Request) -> Answer:
    """Return the checks of a service."""
    if not request.argument:
        raise BadRequestError("Missing service name")
    args = ServiceSpecificRequest(
        service_name=request.argument,
        node_meta_filters=node_meta(request),
        source=source_of(request),
        **read_options(request, discovery=True, filtered=True),
    )
    return read(request, "Health.ServiceChecks", args, _checks, discovery=True)


def checks_in_state(request: Request) -> Answer:
    """Return the checks of a status, or of any."""
    if not request.argument:
        raise BadRequestError("Missing check state")
    args = ChecksInStateRequest(
        state=request.argument,
        node_meta_filters=node_meta(request),
        source=source_of(request),
        **read_options(request, discovery=True, filtered=True),
    )
    return read(request, "Health.ChecksInState", args, _checks, discovery=True)


def _instances_of(request: Request, args: ServiceSpecificRequest) -> Answer:
    if "passing" in request.query:
        text = request.query.get("passing")
        passing = parse_bool(text) if text else True
        if passing is None:
            answer = text_response(400, "Invalid value for ?passing")
            answer.headers = meta_headers(Reply(None, 1), b"leader")
            return answer
        if passing:
            args = msgspec.structs.replace(args, passing_only=True)
    return read(
        request,
        "Health.ServiceNodes",
        args,
        _instances,
        discovery=True,
        cacheable=True,
    )


def service(request: Request) -> Answer:
    """Return the instances of a service with node and checks."""
    return _instances_of(request, service_request(request))


def connect(request: Request) -> Answer:
    """Return the instances that speak for a service in the mesh."""
    return _instances_of(request, service_request(request, connect=True))


def ingress(request: Request) -> Answer:
    """Return the ingress gateways that expose a service."""
    return _instances_of(request, service_request(request, ingress=True))
