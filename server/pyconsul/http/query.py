"""``/v1/query``: prepared queries (part 2 of the reference, section 6)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec

from pyconsul.http.decoding import (
    BOOL,
    INT,
    STRING,
    Shape,
    build,
    decode,
    list_of,
    map_of,
)
from pyconsul.http.encoding import (
    body_response,
    json_response,
    node_view,
    stored_check_view,
    stored_service_view,
)
from pyconsul.http.params import (
    parse_bool,
    read,
    read_options,
    value_view,
    write_options,
)
from pyconsul.http.routing import (
    TEXT,
    Answer,
    Request,
    Response,
    Routes,
    header_line,
    text_response,
    then,
)
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import DCSpecificRequest, QuerySource, Reply
from pyconsul.types.queries import (
    PreparedQuery,
    PreparedQueryExecuteRequest,
    PreparedQueryRequest,
    PreparedQuerySpecificRequest,
    QueryResult,
)
from pyconsul.types.records import CheckServiceNode
from pyconsul.types.wan_addresses import wan_checked

_QUERY = Shape(
    {
        "ID": STRING,
        "Name": STRING,
        "Session": STRING,
        "Token": STRING,
        "Template": Shape({"Type": STRING, "Regexp": STRING, "RemoveEmptyTags": BOOL}),
        "Service": Shape(
            {
                "Service": STRING,
                "Failover": Shape({"NearestN": INT, "Datacenters": list_of(STRING)}),
                "OnlyPassing": BOOL,
                "IgnoreCheckIDs": list_of(STRING),
                "Near": STRING,
                "Tags": list_of(STRING),
                "NodeMeta": map_of(STRING),
                "ServiceMeta": map_of(STRING),
                "Connect": BOOL,
            }
        ),
        "DNS": Shape({"TTL": STRING}),
        "CreateIndex": INT,
        "ModifyIndex": INT,
    }
)
_ACTIONS = {
    "execute": "PreparedQuery.Execute",
    "explain": "PreparedQuery.Explain",
}


def add_routes(routes: Routes) -> None:
    """Add the routes of prepared queries."""
    routes.add("query", GET=all_queries, POST=create)
    routes.add("query/", GET=one, PUT=update, DELETE=delete, other=_other)


def _body(request: Request) -> PreparedQuery:
    fields = decode(request.body, _QUERY)
    # The indexes are the state's: given ones are accepted and ignored.
    fields.pop("CreateIndex", None)
    fields.pop("ModifyIndex", None)
    return build(fields, PreparedQuery)


def query_view(query: PreparedQuery) -> dict[str, Any]:
    """Return a definition with all its fields."""
    template, service = query.template, query.service
    return {
        "ID": query.id,
        "Name": query.name,
        "Session": query.session,
        "Token": query.token,
        "Template": {
            "Type": template.type,
            "Regexp": template.regexp,
            "RemoveEmptyTags": template.remove_empty_tags,
        },
        "Service": {
            "Service": service.service,
            "Failover": {
                "NearestN": service.failover.nearest_n,
                "Datacenters": service.failover.datacenters,
            },
            "OnlyPassing": service.only_passing,
            "IgnoreCheckIDs": service.ignore_check_ids,
            "Near": service.near,
            "Tags": service.tags,
            "NodeMeta": service.node_meta,
            "ServiceMeta": service.service_meta,
            "Connect": service.connect,
        },
        "DNS": {"TTL": query.dns.ttl},
        "CreateIndex": query.create_index,
        "ModifyIndex": query.modify_index,
    }


def _views(found: list[PreparedQuery]) -> list[dict[str, Any]]:
    return [query_view(query) for query in found]


_queries = value_view(_views)


def all_queries(request: Request) -> Answer:
    """Return every query."""
    args = DCSpecificRequest(**read_options(request))
    return read(request, "PreparedQuery.List", args, _queries)


def _apply(request: Request, op: str, query: PreparedQuery) -> Answer:
    args = PreparedQueryRequest(op=op, query=query, **write_options(request))

    def done(reply: Reply) -> Response:
        if op == "create":
            return json_response(request, {"ID": reply.value})
        return Response(200)

    return then(request.face.caller.call("PreparedQuery.Apply", args), done)


def create(request: Request) -> Answer:
    """Store a new query and return its id."""
    return _apply(request, "create", _body(request))


def _action(request: Request) -> str:
    """Return the action that the path ends in, or ``""``.

    Also of ``query/execute``, which is a query of the name ``execute``.
    """
    last = request.path.rpartition("/")[2]
    return last if last in _ACTIONS else ""


def _other(request: Request) -> Response:
    """Answer other methods: unlike elsewhere, a 405 does not offer ``OPTIONS``."""
    allowed = "GET" if _action(request) else "GET,PUT,DELETE"
    if request.method == "OPTIONS":
        return body_response(request, b"{}", header_line("Allow", "OPTIONS," + allowed))
    refused = text_response(405, f"method {request.method} not allowed")
    refused.headers = header_line("Allow", allowed)
    return refused


def update(request: Request) -> Answer:
    """Replace a query; the id of the path wins."""
    if _action(request):
        return _other(request)
    query = msgspec.structs.replace(_body(request), id=request.argument)
    return _apply(request, "update", query)


def delete(request: Request) -> Answer:
    """Remove a query."""
    if _action(request):
        return _other(request)
    return _apply(request, "delete", PreparedQuery(id=request.argument))


def one(request: Request) -> Answer:
    """Return a query, or execute or explain it."""
    action = _action(request)
    if action:
        return _act(request, request.argument.removesuffix("/" + action), action)

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        if not reply.value:
            return Response(404, b"Query not found", TEXT, headers)
        return json_response(request, _views(reply.value), headers)

    args = PreparedQuerySpecificRequest(
        query_id=request.argument, **read_options(request)
    )
    return read(request, "PreparedQuery.Get", args, view)


def _act(request: Request, name: str, action: str) -> Answer:
    options = read_options(request)
    options.pop("min_query_index", None)  # neither of them blocks
    face = request.face.options
    args = PreparedQueryExecuteRequest(
        query_id_or_name=name,
        limit=_limit(request),
        connect=_connect(request),
        source=QuerySource(
            datacenter=face.datacenter,
            segment=face.segment,
            node=request.query.get("near"),
            ip=_client(request),
        ),
        agent=QuerySource(
            datacenter=face.datacenter, segment=face.segment, node=face.node_name
        ),
        **options,
    )
    if args.require_consistent:
        consistency = "consistent"
    else:
        consistency = "stale" if args.allow_stale else "leader"

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        if reply.value is None:
            return Response(404, b"Query not found", TEXT, headers)
        if action == "explain":
            body: dict[str, Any] = {"Query": query_view(reply.value)}
        else:
            result: QueryResult = reply.value
            options = request.face.options
            far = result.datacenter not in ("", options.datacenter)
            body = _result_view(result, far and options.translate_wan_addrs)
        body |= {
            "Index": reply.index or 1,
            "LastContact": reply.last_contact_ms,
            "KnownLeader": reply.known_leader,
            "ConsistencyLevel": consistency,
            "NotModified": False,
            "Backend": 0,
        }
        return json_response(request, body, headers)

    return read(
        request,
        _ACTIONS[action],
        args,
        view,
        discovery=True,
        cacheable=action == "execute",
    )


def _client(request: Request) -> str:
    """Return the client's address; a proxy in front tells the true one."""
    forwarded = request.header(b"x-forwarded-for").partition(",")[0].strip()
    try:
        return str(ip_address(forwarded))
    except ValueError:
        return request.remote.partition("%")[0]


def _limit(request: Request) -> int:
    text = request.query.get("limit")
    if not text:
        return 0
    digits = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    problem = ""
    if not (digits.isascii() and digits.isdigit()):
        problem = "invalid syntax"
    elif len(digits) > 18:
        problem = "value out of range"
    if problem:
        raise ConsulError(f'Bad limit: strconv.Atoi: parsing "{text}": {problem}')
    return int(text)


def _connect(request: Request) -> bool:
    text = request.query.get("connect")
    if not text:
        return False
    value = parse_bool(text)
    if value is None:
        raise ConsulError(
            "Error parsing 'connect' value: strconv.ParseBool: "
            f'parsing "{text}": invalid syntax'
        )
    return value


def _result_view(result: QueryResult, wan: bool) -> dict[str, Any]:
    nodes = [wan_checked(found) for found in result.nodes] if wan else result.nodes
    return {
        "Service": result.service,
        "Nodes": [_node(found) for found in nodes],
        "DNS": {"TTL": result.dns.ttl},
        "Datacenter": result.datacenter,
        "Failovers": result.failovers,
    }


def _node(found: CheckServiceNode) -> dict[str, Any]:
    return {
        "Node": node_view(found.node),
        "Service": stored_service_view(found.service),
        "Checks": [stored_check_view(check) for check in found.checks],
    }
