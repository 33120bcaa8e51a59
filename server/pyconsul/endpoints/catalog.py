"""Catalog: nodes and services (``http-api-catalog-agent.md`` section 2)."""

from __future__ import annotations

import re
from asyncio import Future
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.futures import then
from pyconsul.endpoints.nearness import sort_instances, sort_records
from pyconsul.filter import NODE, NODE_SERVICE, SERVICE_NODE, Schema, compile_filter
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import (
    DCSpecificRequest,
    DeregisterRequest,
    EmptyRequest,
    NodeSpecificRequest,
    RegisterRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.proxy_rules import multi_error, proxy_problems, weights_problem
from pyconsul.types.records import (
    HealthCheck,
    HealthCheckDefinition,
    NodeService,
    Weights,
)

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
ANY_ADDRESSES = frozenset(("0.0.0.0", "::", "[::]"))
"""What a service cannot be reached at."""


def keep_rows(read: Read, expression: str, schema: Schema) -> Read:
    """Drop the rows that ``expression`` does not select; after ACL filtering."""
    if expression:
        selects = compile_filter(expression, schema)
        read.value = [row for row in read.value if selects(row.record)]
    return read


def list_nodes(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Catalog.ListNodes``: rows of ``Node``."""
    read = server.state.nodes(args.node_meta_filters)
    if not who.allows_all:
        read.value = [r for r in read.value if who.node_read(r.record.node)]
    return sort_records(server, args.source, keep_rows(read, args.filter, NODE))


def list_services(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Catalog.ListServices``: names to distinct tags."""
    read = server.state.services(args.node_meta_filters)
    if not who.allows_all:
        read.value = {n: t for n, t in read.value.items() if who.service_read(n)}
    return read


def service_list(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Catalog.ServiceList``: ``list[str]``, the names, sorted."""
    read = list_services(server, args, who)
    read.value = sorted(read.value)
    return read


def service_nodes(
    server: Server, args: ServiceSpecificRequest, who: Authorizer
) -> Read:
    """``Catalog.ServiceNodes``: rows of ``ServiceInstance``."""
    if args.service_address:
        read = server.state.services_at(args.service_address)
    else:
        read = server.state.service_nodes(
            args.service_name,
            args.service_tags if args.tag_filter else None,
            args.node_meta_filters,
            args.connect,
        )
    if not who.allows_all:
        read.value = [r for r in read.value if may_see(who, r.record)]
    read = keep_rows(read, args.filter, SERVICE_NODE)
    return sort_instances(server, args.source, read)


def may_see(who: Authorizer, instance: Any) -> bool:
    """Say whether an instance's node and service may both be read."""
    return who.node_read(instance.node.node) and who.service_read(
        instance.service.service
    )


def node_services(server: Server, args: NodeSpecificRequest, who: Authorizer) -> Read:
    """``Catalog.NodeServices``: a node with its services, or ``None``."""
    read = server.state.node_services(args.node)
    found = read.value
    if found is None:
        return read
    if not who.allows_all:
        if not who.node_read(found.node.node):
            read.value = None
            return read
        seen = [s for s in found.services if who.service_read(s.service)]
        found = replace(found, services=seen)
    if args.filter:
        selects = compile_filter(args.filter, NODE_SERVICE)
        found = replace(found, services=[s for s in found.services if selects(s)])
    read.value = found
    return read


def list_datacenters(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Catalog.ListDatacenters``: the names known."""
    return Reply([server.options.datacenter])


def register(
    server: Server, args: RegisterRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``Catalog.Register``: a node, and with it a service and checks."""
    request = normalise(args)
    if not who.allows_all:
        _authorize_register(server, request, who)
    return _propose(server, commands.encode_register(request))


def normalise(args: RegisterRequest) -> RegisterRequest:
    """Return the request with defaults filled in; raises ``ConsulError``."""
    if not args.node:
        raise ConsulError("Must provide node")
    if not args.address and not args.skip_node_update:
        raise ConsulError("Must provide address if SkipNodeUpdate is not set")
    problem = node_problem(args.node, args.id)
    if problem:
        raise ConsulError(problem)
    service = _normalise_service(args.service) if args.service else None
    checks = list(args.checks or ())
    if args.check is not None:
        checks.append(args.check)
    checks = [_normalise_check(args, check) for check in checks]
    # A single check travels as such, as Consul writes it.
    single = checks[0] if len(checks) == 1 else None
    return replace(
        args,
        service=service,
        check=single,
        checks=None if single is not None or not checks else checks,
    )


def node_problem(name: str, node_id: str) -> str:
    """Return what is wrong with a node that is to be stored, or ``""``."""
    if not name:
        return "Must provide node"
    if node_id and not _UUID.fullmatch(node_id):
        return f"Bad node ID: {_uuid_problem(node_id)}"
    return ""


def _uuid_problem(text: str) -> str:
    if len(text) != 36:
        return "uuid string is wrong length"
    return "uuid is improperly formatted"


def _normalise_service(service: NodeService) -> NodeService:
    if not service.service:
        if service.id:
            raise ConsulError("Must provide service name with ID")
        raise ConsulError("Must provide service name")
    if service.address in ANY_ADDRESSES:
        raise ConsulError("Invalid service address")
    problems = proxy_problems(
        service.kind,
        service.proxy,
        port=service.port,
        socket_path=service.socket_path,
        native=bool((service.connect or {}).get("Native")),
    )
    if problems:
        raise ConsulError(multi_error(problems))
    weights = service.weights
    if weights is None or weights_problem(weights):
        # The catalog does not refuse weights that cannot be; it forgets them.
        weights = Weights()
    return replace(service, id=service.id or service.service, weights=weights)


def _normalise_check(args: RegisterRequest, check: HealthCheck) -> HealthCheck:
    if check.node and check.node.lower() != args.node.lower():
        raise ConsulError(
            f'check node "{check.node}" does not match node "{args.node}"'
        )
    return replace(
        check,
        node=args.node,
        check_id=check.check_id or check.name,
        status=check.status or "critical",
        type=check.type or check_type(check.definition),
    )


def check_type(definition: HealthCheckDefinition) -> str:
    """Return the type a definition stands for; empty when it has none."""
    if definition.http:
        return "http"
    if definition.tcp:
        return "tcp"
    if definition.grpc:
        return "grpc"
    if definition.h2ping:
        return "h2ping"
    if definition.docker_container_id:
        return "docker"
    if definition.script_args:
        return "script"
    if definition.alias_node or definition.alias_service:
        return "alias"
    return "ttl" if definition.ttl else ""


def _authorize_register(
    server: Server, request: RegisterRequest, who: Authorizer
) -> None:
    node = server.state.get_node(request.node)
    changes_node = node is None or not (
        request.skip_node_update
        or (
            node.id == request.id
            and node.address == request.address
            and (node.tagged_addresses or {}) == (request.tagged_addresses or {})
            and (node.meta or {}) == (request.node_meta or {})
        )
    )
    if changes_node and not who.node_write(request.node):
        raise PermissionDeniedError
    service = request.service
    if service is not None:
        old = server.state.get_service(request.node, service.id)
        names = [service.service]
        if old is not None:
            names.append(old.service)
        if not all(who.service_write(name) for name in names):
            raise PermissionDeniedError
    checks = list(request.checks or ())
    if request.check is not None:
        checks.append(request.check)
    for check in checks:
        _authorize_check(server, request.node, check.service_id, service, who)


def _authorize_check(
    server: Server,
    node: str,
    service_id: str,
    registering: NodeService | None,
    who: Authorizer,
) -> None:
    if not service_id:
        allowed = who.node_write(node)
    else:
        found = server.state.get_service(node, service_id) or registering
        allowed = found is not None and who.service_write(found.service)
    if not allowed:
        raise PermissionDeniedError


def deregister(
    server: Server, args: DeregisterRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``Catalog.Deregister``: a service, a check, or the node with everything."""
    if not args.node:
        raise ConsulError("Must provide node")
    if not who.allows_all:
        _authorize_deregister(server, args, who)
    return _propose(server, commands.encode_deregister(args))


def _authorize_deregister(
    server: Server, args: DeregisterRequest, who: Authorizer
) -> None:
    if args.service_id or args.check_id:
        service_id = args.service_id
        if not service_id:
            check = server.state.get_check(args.node, args.check_id)
            service_id = check.service_id if check is not None else ""
        if service_id:
            service = server.state.get_service(args.node, service_id)
            if service is None or who.service_write(service.service):
                return
            raise PermissionDeniedError
    if not who.node_write(args.node):
        raise PermissionDeniedError


def _propose(server: Server, command: bytes) -> Future[Reply]:
    return then(server.log.propose(command), lambda _: Reply(True))


READS: dict[str, ReadHandler] = {
    "Catalog.ListNodes": list_nodes,
    "Catalog.ListServices": list_services,
    "Catalog.ServiceList": service_list,
    "Catalog.ServiceNodes": service_nodes,
    "Catalog.NodeServices": node_services,
    "Catalog.NodeServiceList": node_services,
}
WRITES: dict[str, WriteHandler] = {
    "Catalog.Register": register,
    "Catalog.Deregister": deregister,
}
LOCAL: dict[str, WriteHandler] = {"Catalog.ListDatacenters": list_datacenters}
