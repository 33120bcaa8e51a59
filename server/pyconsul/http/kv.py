"""``/v1/kv/`` (reference 5)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.encoding import (
    FALSE,
    TRUE,
    body_response,
    encode,
    entry_json,
    wants_pretty,
)
from pyconsul.http.numbers import NumberError, parse_uint
from pyconsul.http.params import read, read_options, rows_view
from pyconsul.http.params import write_options as common_write
from pyconsul.http.routing import (
    JSON,
    PLAIN,
    Answer,
    Request,
    Response,
    Routes,
    then,
)
from pyconsul.types.errors import BadRequestError, ConsulError
from pyconsul.types.messages import KeyListRequest, KeyRequest, KVSRequest, Reply
from pyconsul.types.records import DirEntry

_BIG = 16 << 10
"""Values from here on are encoded anew rather than kept a second time."""

_RAW = b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"


def add_routes(routes: Routes, *, max_value: int) -> None:
    """Add the KV routes; ``max_value`` in bytes."""
    routes.add(
        "kv/",
        body_limit=max_value,
        body_option="kv_max_value_size",
        GET=get,
        PUT=put,
        DELETE=delete,
    )


def get(request: Request) -> Answer:
    """Read a key, the keys below a prefix, or their names."""
    options = read_options(request)
    query = request.query
    key = request.argument
    if query:
        if "keys" in query:
            separator = query.get("separator") or query.get("seperator")
            names = KeyListRequest(prefix=key, seperator=separator, **options)
            return read(request, "KVS.ListKeys", names, _names)
        if "recurse" in query:
            return read(request, "KVS.List", KeyRequest(key=key, **options), _tree)
    if not key:
        raise BadRequestError("Missing key name")
    return read(request, "KVS.Get", KeyRequest(key=key, **options), _entry)


def _entry(request: Request, reply: Reply, headers: bytes) -> Response:
    row = reply.value
    if row is None:
        return Response(404, headers=headers)
    entry: DirEntry = row.record
    if request.query and "raw" in request.query:
        return Response(200, entry.value, PLAIN, headers + _RAW)
    text = entry_json(entry) if len(entry.value) > _BIG else row.json(entry_json)
    if wants_pretty(request):
        return body_response(request, b"[" + text + b"]", headers)
    return Response(200, b"[%b]" % text, JSON, headers)


_list = rows_view(entry_json)


def _tree(request: Request, reply: Reply, headers: bytes) -> Response:
    if not reply.value:
        return Response(404, headers=headers)
    return _list(request, reply, headers)


def _names(request: Request, reply: Reply, headers: bytes) -> Response:
    if not reply.value and request.argument:
        return Response(404, headers=headers)
    encoded: tuple[object, bytes] | None = reply.encoded
    if encoded is None or encoded[0] is not _names:
        encoded = (_names, encode(reply.value))
        reply.encoded = encoded
    return body_response(request, encoded[1], headers)


def put(request: Request) -> Answer:
    """Write a key; with ``cas``, ``acquire`` or ``release`` only perhaps."""
    options = common_write(request)
    query = request.query
    if not request.argument:
        raise BadRequestError("Missing key name")
    operation, session, index, flags = "set", "", 0, 0
    if query:
        _exclusive(request, "cas", "acquire", "release")
        if "flags" in query:
            flags = _uint(query.get("flags"))
        if "cas" in query:
            operation, index = "cas", _uint(query.get("cas"))
        elif "acquire" in query:
            operation, session = "lock", query.get("acquire")
        elif "release" in query:
            operation, session = "unlock", query.get("release")
    entry = DirEntry(
        key=request.argument,
        value=request.body,
        flags=flags,
        session=session,
        modify_index=index,
    )
    return _apply(request, operation, entry, options)


def delete(request: Request) -> Answer:
    """Delete a key, or all below a prefix."""
    options = common_write(request)
    query = request.query
    _exclusive(request, "recurse", "cas")
    operation, index = "delete", 0
    if "recurse" in query:
        operation = "delete-tree"
    elif not request.argument:
        raise BadRequestError("Missing key name")
    elif "cas" in query:
        operation, index = "delete-cas", _uint(query.get("cas"))
    entry = DirEntry(key=request.argument, modify_index=index)
    return _apply(request, operation, entry, options)


def _apply(
    request: Request, operation: str, entry: DirEntry, options: dict[str, Any]
) -> Answer:
    args = KVSRequest(op=operation, dir_ent=entry, **options)

    def done(reply: Reply) -> Response:
        # Plain writes and deletes succeed or raise; only the rest can say no.
        return body_response(request, FALSE if reply.value is False else TRUE)

    return then(request.face.caller.call("KVS.Apply", args), done)


def _exclusive(request: Request, *names: str) -> None:
    query = request.query
    if query and sum(name in query for name in names) > 1:
        raise BadRequestError("Conflicting flags: " + query.encode())


def _uint(text: str) -> int:
    try:
        return parse_uint(text)
    except NumberError as error:
        raise ConsulError(str(error)) from None
