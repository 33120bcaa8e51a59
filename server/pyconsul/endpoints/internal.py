"""Internal: the whole catalog at once, for the UI (``http-api-connect.md`` 7)."""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.catalog import keep_rows, may_see
from pyconsul.filter import CHECK_SERVICE_NODE, NODE_INFO, compile_filter
from pyconsul.state.watch import Read
from pyconsul.types.config_entries import GatewayService
from pyconsul.types.errors import ConsulError, PermissionDeniedError, TooLargeError
from pyconsul.types.mesh import ServiceInfo
from pyconsul.types.messages import (
    DCSpecificRequest,
    NodeSpecificRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.operations import (
    EventFireRequest,
    KeyringRequest,
    KeyringResponse,
)
from pyconsul.types.ui import NodeInfo, ServiceDump

if TYPE_CHECKING:
    from pyconsul.endpoints.pool import Pool
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler


def node_dump(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Internal.NodeDump``: ``list[NodeInfo]`` by name."""
    return _visible(server.state.node_dump(), args.filter, who)


def node_info(server: Server, args: NodeSpecificRequest, who: Authorizer) -> Read:
    """``Internal.NodeInfo``: ``list[NodeInfo]`` of none or one."""
    return _visible(server.state.node_dump(args.node), args.filter, who)


def _visible(read: Read, expression: str, who: Authorizer) -> Read:
    if not who.allows_all:
        read.value = [
            _seen(info, who) for info in read.value if who.node_read(info.node)
        ]
    if expression:
        selects = compile_filter(expression, NODE_INFO)
        read.value = [info for info in read.value if selects(info)]
    return read


def _seen(info: NodeInfo, who: Authorizer) -> NodeInfo:
    return replace(
        info,
        services=[s for s in info.services if who.service_read(s.service)],
        checks=[
            check
            for check in info.checks
            if not check.service_name or who.service_read(check.service_name)
        ],
    )


def service_dump(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Internal.ServiceDump``: a ``ServiceDump``."""
    read, linked = server.state.service_dump(), server.state.all_gateway_services()
    gateways: list[GatewayService] = linked.value
    if not who.allows_all:
        read.value = [row for row in read.value if may_see(who, row.record)]
        gateways = [one for one in gateways if who.service_read(one.service)]
    read = keep_rows(read, args.filter, CHECK_SERVICE_NODE)
    read.value = ServiceDump(read.value, gateways)
    read.index = max(read.index, linked.index)
    read.cells = (*read.cells, *linked.cells)
    return read


def gateway_service_dump(
    server: Server, args: ServiceSpecificRequest, who: Authorizer
) -> Read:
    """``Internal.GatewayServiceDump``: ``list[ServiceInfo]``.

    The instances of the services behind a gateway; a service without any is
    there with what links it to the gateway alone.
    """
    if not args.service_name:
        raise ConsulError("Must provide gateway name")
    if not (who.allows_all or who.service_read(args.service_name)):
        raise PermissionDeniedError
    read = server.state.gateway_services(args.service_name)
    linked: list[GatewayService] = read.value
    found: list[ServiceInfo] = []
    for one in linked:
        if not (who.allows_all or who.service_read(one.service)):
            continue
        instances = server.state.check_service_nodes(one.service)
        read.index = max(read.index, instances.index)
        read.cells = (*read.cells, *instances.cells)
        found += [
            ServiceInfo(
                node=row.record.node,
                service=row.record.service,
                checks=row.record.checks,
                gateway_service=one,
            )
            for row in instances.value
            if who.allows_all or may_see(who, row.record)
        ] or [ServiceInfo(gateway_service=one)]
    read.value = found
    return read


EVENT_PREFIX = "consul:event:"


def event_fire(server: Server, args: EventFireRequest, who: Authorizer) -> Reply:
    """``Internal.EventFire``: ``True`` once the LAN pool has the event."""
    if not who.allows_all:
        raise PermissionDeniedError
    try:
        server.cluster.lan.user_event(EVENT_PREFIX + args.name, args.payload)
    except TooLargeError as error:
        # A plain failure for who fires it, with Consul's words for one pool of many.
        raise ConsulError(
            "1 error occurred:\n\t* error broadcasting event to segment "
            f'"": {error}\n\n'
        ) from None
    return Reply(True)


def keyring_operation(
    server: Server, args: KeyringRequest, who: Authorizer
) -> Future[Reply]:
    """``Internal.KeyringOperation``: ``list[KeyringResponse]``, the WAN pool first.

    Failures are in the answers: members that refuse are no error of the call.
    """
    if not who.allows_all:
        if args.operation == "list":
            raise ConsulError("Reading keyring denied by ACLs")
        raise ConsulError("Modifying keyring denied due to ACLs")
    return asyncio.get_running_loop().create_task(_on_all_pools(server, args))


async def _on_all_pools(server: Server, args: KeyringRequest) -> Reply:
    pools: list[tuple[bool, Pool]] = [(False, server.cluster.lan)]
    wan = server.cluster.wan
    if wan is not None and not args.local_only:
        pools.insert(0, (True, wan))
    answers = [await _on_pool(server, args, pool, wan) for wan, pool in pools]
    return Reply(answers)


async def _on_pool(
    server: Server, args: KeyringRequest, pool: Pool, wan: bool
) -> KeyringResponse:
    answer = KeyringResponse(wan=wan, datacenter=server.options.datacenter)
    try:
        found = await pool.key_operation(args.operation, args.key, args.relay_factor)
    except ConsulError as error:
        return replace(answer, error=str(error))
    return replace(
        answer,
        messages=dict(found.messages),
        keys=dict(found.keys),
        primary_keys=dict(found.primary_keys),
        num_nodes=found.num_nodes,
        error=found.error,
    )


READS: dict[str, ReadHandler] = {
    "Internal.GatewayServiceDump": gateway_service_dump,
    "Internal.NodeDump": node_dump,
    "Internal.NodeInfo": node_info,
    "Internal.ServiceDump": service_dump,
}
LOCAL: dict[str, WriteHandler] = {
    "Internal.EventFire": event_fire,
    "Internal.KeyringOperation": keyring_operation,
}
