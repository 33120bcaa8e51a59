"""Internal: the whole catalog at once, for the UI (``http-api-connect.md`` 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.catalog import keep_rows, may_see
from pyconsul.filter import CHECK_SERVICE_NODE, NODE_INFO, compile_filter
from pyconsul.state.watch import Read
from pyconsul.types.messages import DCSpecificRequest, NodeSpecificRequest
from pyconsul.types.ui import NodeInfo

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server


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
    """``Internal.ServiceDump``: rows of ``CheckServiceNode`` by service name."""
    read = server.state.service_dump()
    if not who.allows_all:
        read.value = [row for row in read.value if may_see(who, row.record)]
    return keep_rows(read, args.filter, CHECK_SERVICE_NODE)


READS: dict[str, ReadHandler] = {
    "Internal.NodeDump": node_dump,
    "Internal.NodeInfo": node_info,
    "Internal.ServiceDump": service_dump,
}
