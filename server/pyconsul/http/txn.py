"""``/v1/txn`` (reference 6)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import build, decode_list
from pyconsul.http.encoding import body_response, encode, result_json
from pyconsul.http.params import read_options, write_options
from pyconsul.http.routing import Answer, Request, Response, Routes, then
from pyconsul.http.shapes import TXN_OP
from pyconsul.types.errors import TooLargeError
from pyconsul.types.messages import (
    Reply,
    TxnKVOp,
    TxnOp,
    TxnReadRequest,
    TxnRequest,
    TxnResponse,
)
from pyconsul.types.records import DirEntry

MAX_OPERATIONS = 64

_PREFIX = "Failed to parse body: "
_KV_WRITES = frozenset(
    ("set", "cas", "lock", "unlock", "delete", "delete-cas", "delete-tree")
)


def add_routes(routes: Routes, *, max_body: int) -> None:
    """Add the transaction route; ``max_body`` in bytes."""
    routes.add("txn", body_limit=max_body, body_option="txn_max_req_len", PUT=apply)


def apply(request: Request) -> Answer:
    """Run operations, all or none; reading ones alone need no Raft."""
    given = decode_list(request.body, TXN_OP, _PREFIX)
    if len(given) > MAX_OPERATIONS:
        raise TooLargeError(
            "Transaction contains too many operations "
            f"({len(given)} > {MAX_OPERATIONS})"
        )
    limit = request.face.options.kv_max_value_size
    datacenter = request.face.options.datacenter
    operations = [_operation(fields, limit, datacenter) for fields in given if fields]
    caller = request.face.caller
    if any(_writes(operation) for operation in operations):
        args = TxnRequest(ops=operations, **write_options(request))
        return then(
            caller.call("Txn.Apply", args),
            lambda reply: _answer(request, reply, b"", b""),
        )
    read = TxnReadRequest(ops=operations, **read_options(request))
    return then(
        caller.call("Txn.Read", read), lambda reply: _read_answer(request, reply)
    )


def _operation(fields: dict[str, Any], limit: int, datacenter: str) -> TxnOp:
    kv = fields.get("KV")
    if kv is None:
        node = fields.get("Node", {}).get("Node")
        if node is not None and not node.get("Datacenter"):
            node["Datacenter"] = datacenter
        return build(fields, TxnOp, _PREFIX)
    key, value = kv.get("Key", ""), kv.get("Value", b"")
    if len(value) > limit:
        raise TooLargeError(
            f'Value for key "{key}" is too large ({len(value)} > {limit} bytes)'
        )
    entry = DirEntry(
        key=key,
        value=value,
        flags=kv.get("Flags", 0),
        session=kv.get("Session", ""),
        modify_index=kv.get("Index", 0),
    )
    return TxnOp(kv=TxnKVOp(verb=kv.get("Verb", ""), dir_ent=entry))


def _writes(operation: TxnOp) -> bool:
    if operation.kv is not None:
        return operation.kv.verb in _KV_WRITES
    for part in (operation.node, operation.service, operation.check):
        if part is not None:
            return part.verb != "get"  # unknown verbs are for Raft to refuse
    return False


def _read_answer(request: Request, reply: Reply) -> Response:
    known = b"true" if reply.known_leader else b"false"
    tail = (
        b',"Index":%d,"LastContact":%d,"KnownLeader":%b,"ConsistencyLevel":"",'
        b'"NotModified":false,"Backend":0'
    ) % (reply.index or 1, reply.last_contact_ms * 1_000_000, known)
    headers = b"X-Consul-Knownleader: %b\r\nX-Consul-Lastcontact: %d\r\n" % (
        known,
        reply.last_contact_ms,
    )
    return _answer(request, reply, tail, headers)


def _answer(request: Request, reply: Reply, tail: bytes, headers: bytes) -> Response:
    outcome: TxnResponse = reply.value
    status, results, errors = 200, b"null", b"null"
    if outcome.errors:
        status = 409
        errors = encode(outcome.errors)
    else:
        results = b"[" + b",".join(map(result_json, outcome.results)) + b"]"
    body = b'{"Results":' + results + b',"Errors":' + errors + tail + b"}"
    return body_response(request, body, headers, status)
