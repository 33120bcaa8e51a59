"""``/v1/status/`` (reference 4): neither tokens nor index headers."""

from __future__ import annotations

from pyconsul.http.encoding import json_response
from pyconsul.http.routing import Answer, Request, Routes, then
from pyconsul.types.messages import EmptyRequest


def add_routes(routes: Routes) -> None:
    """Add the status routes."""
    routes.add("status/leader", GET=leader)
    routes.add("status/peers", GET=peers)


def _ask(request: Request, method: str) -> Answer:
    args = EmptyRequest(datacenter=request.query.get("dc"))
    return then(
        request.face.caller.call(method, args),
        lambda reply: json_response(request, reply.value),
    )


def leader(request: Request) -> Answer:
    """Return the leader's RPC address, empty when there is none."""
    return _ask(request, "Status.Leader")


def peers(request: Request) -> Answer:
    """Return the addresses of the Raft configuration."""
    return _ask(request, "Status.Peers")
