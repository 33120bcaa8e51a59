"""Txn: several operations in one log entry (``http-api.md`` section 6)."""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.catalog import ANY_ADDRESSES, check_type, node_problem
from pyconsul.endpoints.futures import then
from pyconsul.state import commands
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import (
    Reply,
    TxnOp,
    TxnReadRequest,
    TxnRequest,
    TxnResponse,
)
from pyconsul.types.records import TxnError, TxnResult

if TYPE_CHECKING:
    from pyconsul.endpoints.server import QueryHandler, Server, WriteHandler

KV_READS = frozenset(
    ("get", "get-tree", "check-index", "check-session", "check-not-exists")
)


def apply(server: Server, args: TxnRequest, who: Authorizer) -> Reply | Future[Reply]:
    """``Txn.Apply``: all or nothing; errors in the response mean nothing."""
    ops = [_normalise(op) for op in args.ops]
    errors = _refusals(server, ops, who)
    if errors:
        return Reply(TxnResponse(errors=errors))
    command = commands.encode_txn(replace(args, ops=ops))

    def applied(result: Any) -> Reply:
        if not isinstance(result, TxnResponse):
            raise ConsulError(f"unexpected transaction result: {result!r}")
        return Reply(_readable(result, who))

    return then(server.log.propose(command), applied)


def read(server: Server, args: TxnReadRequest, who: Authorizer) -> Reply:
    """``Txn.Read``: reading verbs only, answered from the state at once."""
    errors = _refusals(server, args.ops, who)
    if errors:
        return Reply(TxnResponse(errors=errors))
    return Reply(_readable(server.state.txn_read(args.ops), who))


def _normalise(op: TxnOp) -> TxnOp:
    """Fill in what the single endpoints fill in before a command is written."""
    if op.service is not None:
        service = op.service.service
        if not service.id:
            service = replace(service, id=service.service)
        return replace(op, service=replace(op.service, service=service))
    if op.check is not None:
        check = op.check.check
        check = replace(
            check,
            check_id=check.check_id or check.name,
            type=check.type or check_type(check.definition),
        )
        if op.check.verb in ("set", "cas") and not check.status:
            check = replace(check, status="critical")
        return replace(op, check=replace(op.check, check=check))
    return op


def _refusals(server: Server, ops: list[TxnOp], who: Authorizer) -> list[TxnError]:
    """Return what must be decided before the log: rights and lock-delays."""
    errors: list[TxnError] = []
    for at, op in enumerate(ops):
        if not who.allows_all and not _allowed(server, op, who):
            errors.append(TxnError(op_index=at, what="Permission denied"))
            continue
        what = _problem(server, op)
        if what:
            errors.append(TxnError(op_index=at, what=what))
    return errors


def _problem(server: Server, op: TxnOp) -> str:
    if op.kv is not None:
        key = op.kv.dir_ent.key
        # Deleting alone may mean every key (reference, 6).
        if not key and op.kv.verb != "delete-tree":
            return "Must provide key"
        if op.kv.verb == "lock" and server.lock_delays.delays(key):
            return f'failed to lock key "{key}" due to lock delay'
    if op.node is not None and op.node.verb != "get":
        return node_problem(op.node.node.node, op.node.node.id)
    if op.service is not None and op.service.verb != "get":
        # Observed: also deletes by id alone are refused.
        service = op.service.service
        if not service.service:
            return "Must provide service name with ID"
        if service.address in ANY_ADDRESSES:
            return "Invalid service address"
    return ""


def _allowed(server: Server, op: TxnOp, who: Authorizer) -> bool:
    if op.kv is not None:
        key = op.kv.dir_ent.key
        if op.kv.verb in ("get", "get-tree", "check-index", "check-session"):
            return True if op.kv.verb == "get-tree" else who.key_read(key)
        if op.kv.verb == "delete-tree":
            return who.key_write_prefix(key)
        return who.key_write(key)
    if op.node is not None:
        name = op.node.node.node
        return op.node.verb == "get" or who.node_write(name)
    if op.service is not None:
        return op.service.verb == "get" or who.service_write(op.service.service.service)
    if op.check is not None:
        check = op.check.check
        if op.check.verb == "get":
            return True
        if not check.service_id:
            return who.node_write(check.node)
        service = server.state.get_service(check.node, check.service_id)
        name = service.service if service is not None else check.service_name
        return who.service_write(name)
    return False


def _readable(response: TxnResponse, who: Authorizer) -> TxnResponse:
    if who.allows_all:
        return response
    kept = [result for result in response.results if _may_see(result, who)]
    return replace(response, results=kept)


def _may_see(result: TxnResult, who: Authorizer) -> bool:
    if result.kv is not None:
        return who.key_read(result.kv.key)
    if result.node is not None:
        return who.node_read(result.node.node)
    if result.service is not None:
        return who.service_read(result.service.service)
    return result.check is None or who.node_read(result.check.node)


WRITES: dict[str, WriteHandler] = {"Txn.Apply": apply}
QUERIES: dict[str, QueryHandler] = {"Txn.Read": read}
