"""``GET /v1/operator/usage``: how many nodes, services and instances there are.

Counted from what ``Internal.NodeDump`` gives, so that servers of Consul that
have no call for it can be asked, too. Source: part 3 of the reference, 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from pyconsul.http.encoding import json_response
from pyconsul.http.params import read, read_options, token_of
from pyconsul.http.routing import Answer, Request, Response
from pyconsul.types.messages import DCSpecificRequest, EmptyRequest, Reply
from pyconsul.types.ui import NodeInfo

NATIVE = "connect-native"
MESH_KINDS = (
    "api-gateway",
    "connect-proxy",
    "ingress-gateway",
    "mesh-gateway",
    "terminating-gateway",
)
_SERVERS = "consul"


def usage(request: Request) -> Answer:
    """Return the counts of a datacenter, with ``?global`` of every one."""
    options = read_options(request)
    if "global" not in request.query:
        name = options.get("datacenter") or request.face.options.datacenter
        args = DCSpecificRequest(**options)
        return read(request, "Internal.NodeDump", args, partial(_view, name))
    return asyncio.get_running_loop().create_task(_everywhere(request, options))


def _view(name: str, request: Request, reply: Reply, headers: bytes) -> Response:
    mode = "stale" if "stale" in request.query else "leader"
    return json_response(
        request, _body({name: counts(reply.value)}, reply, mode), headers
    )


async def _everywhere(request: Request, options: dict[str, Any]) -> Response:
    call = request.face.caller.call
    options.pop("min_query_index", None)

    async def answered(method: str, args: Any) -> Reply:
        found = call(method, args)
        return found if isinstance(found, Reply) else await found

    everyone = EmptyRequest(token=token_of(request))
    listed = await answered("Catalog.ListDatacenters", everyone)
    names: list[str] = listed.value
    replies: list[Reply] = []
    for name in names:
        options["datacenter"] = name
        args = DCSpecificRequest(**options)
        replies.append(await answered("Internal.NodeDump", args))
    found = {
        name: counts(reply.value) for name, reply in zip(names, replies, strict=True)
    }
    mode = "stale" if "stale" in request.query else "leader"
    return json_response(request, _body(found, replies[0], mode))


def _body(found: dict[str, dict[str, Any]], reply: Reply, mode: str) -> dict[str, Any]:
    return {
        "Usage": found,
        "Index": reply.index or 1,
        "LastContact": reply.last_contact_ms,
        "KnownLeader": reply.known_leader,
        "ConsistencyLevel": mode,
        "NotModified": False,
        "Backend": 0,
        "ResultsFilteredByACLs": False,
    }


def counts(nodes: Iterable[NodeInfo]) -> dict[str, Any]:
    """Return the counts of one datacenter.

    Billable are instances that are neither gateways, proxies nor servers.
    """
    of_nodes = instances = billable = 0
    names: set[str] = set()
    mesh = dict.fromkeys((*MESH_KINDS, NATIVE), 0)
    for node in nodes:
        of_nodes += 1
        for service in node.services:
            instances += 1
            names.add(service.service)
            if service.kind in mesh:
                mesh[service.kind] += 1
            elif service.service != _SERVERS:
                billable += 1
            if (service.connect or {}).get("Native"):
                mesh[NATIVE] += 1
    return {
        "Nodes": of_nodes,
        "Services": len(names),
        "ServiceInstances": instances,
        "ConnectServiceInstances": dict(sorted(mesh.items())),
        "BillableServiceInstances": billable,
    }
