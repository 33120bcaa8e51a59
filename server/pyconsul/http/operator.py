"""``/v1/operator/`` (part 3 of the reference): the Raft configuration."""

from __future__ import annotations

from pyconsul.http.encoding import json_response
from pyconsul.http.params import read, read_options
from pyconsul.http.routing import Answer, Request, Response, Routes
from pyconsul.types.messages import EmptyRequest, Reply


def add_routes(routes: Routes) -> None:
    """Add the operator routes."""
    routes.add("operator/raft/configuration", GET=raft_configuration)


def raft_configuration(request: Request) -> Answer:
    """Return the servers of the Raft configuration; no index header."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        return json_response(request, reply.value)

    options = read_options(request)
    options.pop("min_query_index", None)
    return read(request, "Operator.RaftGetConfiguration", EmptyRequest(**options), view)
