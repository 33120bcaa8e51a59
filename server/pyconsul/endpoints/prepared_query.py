"""PreparedQuery: stored look-ups (part 2 of the reference, section 6)."""

from __future__ import annotations

import uuid
from asyncio import Future
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.config.definitions import validate_meta
from pyconsul.endpoints.catalog import may_see
from pyconsul.endpoints.futures import then
from pyconsul.endpoints.nearness import sort_items
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.errors import (
    BadRequestError,
    ConsulError,
    PermissionDeniedError,
)
from pyconsul.types.messages import DCSpecificRequest, QuerySource, Reply
from pyconsul.types.queries import (
    PreparedQuery,
    PreparedQueryExecuteRemoteRequest,
    PreparedQueryExecuteRequest,
    PreparedQueryRequest,
    PreparedQuerySpecificRequest,
    QueryResult,
    ServiceQuery,
)
from pyconsul.types.records import CheckServiceNode

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_REFUSAL = "raft apply failed: "
_REDACTED = "<hidden>"
_NEAREST = 10
"""Within so many first results the requested node itself comes to the front."""
_shuffle = Random().shuffle


def apply(
    server: Server, args: PreparedQueryRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``PreparedQuery.Apply``: the id of the query."""
    if not who.allows_all:
        raise PermissionDeniedError
    query = args.query
    if args.op == "create":
        if query.id:
            raise ConsulError("ID must be empty when creating a new prepared query")
        # The id is drawn here, by the leader: applying a command draws nothing.
        query = replace(query, id=str(uuid.uuid4()))
    elif args.op in ("update", "delete"):
        if not _known(server, query.id):
            raise ConsulError(
                f"Cannot modify non-existent prepared query: '{query.id}'"
            )
    else:
        raise ConsulError(f"Unknown prepared query operation: {args.op}")
    if args.op != "delete":
        _check(query)
    command = commands.encode_prepared_query(replace(args, query=query))
    return then(
        server.log.propose(command), lambda _: Reply(query.id), refusal=_REFUSAL
    )


def _known(server: Server, query_id: str) -> bool:
    try:
        return bool(server.state.prepared_query(query_id).value)
    except ConsulError as error:
        raise ConsulError(f"Prepared Query lookup failed: {error}") from None


def _check(query: PreparedQuery) -> None:
    if not (query.name or query.session or query.template.type):
        raise _invalid("Must be bound to a session")
    if query.token == _REDACTED:
        # Somebody edits what a reader without rights was shown.
        raise _invalid(
            f"Bad Token '{query.token}', it looks like a query definition "
            "with a redacted token was submitted"
        )
    if not query.service.service:
        raise _invalid("Must provide a Service name to query")
    nearest = query.service.failover.nearest_n
    if nearest < 0:
        raise _invalid(f"Bad NearestN '{nearest}', must be >= 0")
    try:
        validate_meta(query.service.node_meta, reserved=False)
    except BadRequestError as error:
        raise _invalid(f"Invalid NodeMeta filter: {error}") from None
    ttl = query.dns.ttl
    if ttl:
        try:
            duration = parse_duration(ttl)
        except DurationError as error:
            raise _invalid(f"Bad DNS TTL '{ttl}': {error}") from None
        if duration < 0:
            raise _invalid(f"DNS TTL '{duration}', must be >=0")


def _invalid(why: str) -> ConsulError:
    return ConsulError(f"Invalid prepared query: {why}")


def _gate(who: Authorizer) -> None:
    if not who.allows_all:
        raise PermissionDeniedError


def list_queries(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``PreparedQuery.List``: ``list[PreparedQuery]`` by id."""
    _gate(who)
    return server.state.prepared_queries()


def get(server: Server, args: PreparedQuerySpecificRequest, who: Authorizer) -> Read:
    """``PreparedQuery.Get``: a list of none or one."""
    _gate(who)
    read = server.state.prepared_query(args.query_id)
    if not read.value:
        read.index = 1  # on the wire this is an error, which carries no index
    return read


def explain(server: Server, args: PreparedQueryExecuteRequest, who: Authorizer) -> Read:
    """``PreparedQuery.Explain``: the query a name leads to, or ``None``."""
    _gate(who)
    return Read(
        server.state.resolve_query(args.query_id_or_name, args.agent.segment), 1, ()
    )


def execute(server: Server, args: PreparedQueryExecuteRequest, who: Authorizer) -> Read:
    """``PreparedQuery.Execute``: a ``QueryResult``, or ``None``; never blocks."""
    query = server.state.resolve_query(args.query_id_or_name, args.agent.segment)
    if query is None:
        return Read(None, 1, ())
    nodes = _found(server, query, args.connect, who)
    nodes = _sorted(server, _start(server, query.service, args), nodes)
    # No other datacenter is known here, so there is none to fail over to.
    return _result(server, query, nodes, args.limit)


def execute_remote(
    server: Server, args: PreparedQueryExecuteRemoteRequest, who: Authorizer
) -> Read:
    """``PreparedQuery.ExecuteRemote``: a ``QueryResult``, in no order.

    Another datacenter had no instance of its own and fails over to this one.
    """
    nodes = _found(server, args.query, args.connect, who)
    return _result(server, args.query, nodes, args.limit)


def _found(
    server: Server, query: PreparedQuery, connect: bool, who: Authorizer
) -> list[CheckServiceNode]:
    """Return a query's instances, shuffled."""
    wanted = query.service
    rows = server.state.check_service_nodes(
        wanted.service, connect=wanted.connect or connect
    ).value
    if query.token:
        who = server.resolver.resolve(query.token)
    nodes = [row.record for row in rows if selects(wanted, row.record)]
    nodes = [found for found in nodes if who.allows_all or may_see(who, found)]
    _shuffle(nodes)
    return nodes


def _result(
    server: Server, query: PreparedQuery, nodes: list[CheckServiceNode], limit: int
) -> Read:
    result = QueryResult(
        service=query.service.service,
        nodes=nodes[:limit] if limit > 0 else nodes,
        dns=query.dns,
        datacenter=server.options.datacenter,
    )
    return Read(result, 1, ())


def selects(wanted: ServiceQuery, found: CheckServiceNode) -> bool:
    """Tell whether an instance is healthy and as the query wants it."""
    ignored = wanted.ignore_check_ids or ()
    states = {c.status for c in found.checks if c.check_id not in ignored}
    if "critical" in states or (wanted.only_passing and states - {"passing"}):
        return False
    for pairs, held in (
        (wanted.node_meta, found.node.meta),
        (wanted.service_meta, found.service.meta),
    ):
        if any((held or {}).get(key) != text for key, text in (pairs or {}).items()):
            return False
    tags = {tag.lower() for tag in found.service.tags or ()}
    for tag in wanted.tags or ():
        name = tag.lower()
        if (name[1:] in tags) if name.startswith("!") else (name not in tags):
            return False
    return True


def _start(
    server: Server, wanted: ServiceQuery, args: PreparedQueryExecuteRequest
) -> QuerySource:
    """Return where distances begin: the request's wish, else the query's."""
    source = args.source
    near = source.node or wanted.near
    if near == "_agent":
        return args.agent
    if near == "_ip":
        rows = server.state.nodes().value
        near = next(
            (
                r.record.node
                for r in rows
                if source.ip and r.record.address == source.ip
            ),
            "",
        )
    return replace(source, node=near)


def _sorted(
    server: Server, source: QuerySource, nodes: list[CheckServiceNode]
) -> list[CheckServiceNode]:
    """Return the nodes by distance, the source's own in front if it is near."""
    if not source.node or source.datacenter not in ("", server.options.datacenter):
        return nodes
    nodes = list(sort_items(server, source, nodes, lambda found: found.node.node))
    own = source.node.lower()
    for at, found in enumerate(nodes[:_NEAREST]):
        if found.node.node.lower() == own:
            nodes[0], nodes[at] = nodes[at], nodes[0]
            break
    return nodes


READS: dict[str, ReadHandler] = {
    "PreparedQuery.List": list_queries,
    "PreparedQuery.Get": get,
    "PreparedQuery.Explain": explain,
    "PreparedQuery.Execute": execute,
    "PreparedQuery.ExecuteRemote": execute_remote,
}
WRITES: dict[str, WriteHandler] = {"PreparedQuery.Apply": apply}
