"""KVS: the key-value store (``http-api.md`` section 5)."""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.futures import then
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import KeyListRequest, KeyRequest, KVSRequest, Reply

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_OPERATIONS = frozenset(
    ("set", "cas", "lock", "unlock", "delete", "delete-cas", "delete-tree")
)


def get(server: Server, args: KeyRequest, who: Authorizer) -> Read:
    """``KVS.Get``: the key's row, or ``None``; O(1)."""
    if not who.allows_all and not who.key_read(args.key):
        raise PermissionDeniedError
    return server.state.kv_get(args.key)


def list_entries(server: Server, args: KeyRequest, who: Authorizer) -> Read:
    """``KVS.List``: rows of the keys below ``args.key`` that may be read."""
    read = server.state.kv_list(args.key)
    if not who.allows_all:
        read.value = [row for row in read.value if who.key_read(row.record.key)]
    return read


def list_keys(server: Server, args: KeyListRequest, who: Authorizer) -> Read:
    """``KVS.ListKeys``: keys below the prefix, cut at the separator."""
    if who.allows_all:
        return server.state.kv_keys(args.prefix, args.seperator)
    read = server.state.kv_keys(args.prefix, args.seperator)
    read.value = [key for key in read.value if who.key_read(key)]
    return read


def apply(server: Server, args: KVSRequest, who: Authorizer) -> Reply | Future[Reply]:
    """``KVS.Apply``: one write; the value says whether it took effect."""
    entry = args.dir_ent
    if args.op not in _OPERATIONS:
        raise ConsulError(f"unknown KVS operation: {args.op}")
    if not entry.key and args.op != "delete-tree":
        raise ConsulError("Must provide key")
    if not who.allows_all:
        allowed = who.key_write_prefix if args.op == "delete-tree" else who.key_write
        if not allowed(entry.key):
            raise PermissionDeniedError
    if args.op == "lock" and server.lock_delays.delays(entry.key):
        return Reply(False)
    proposed = server.log.propose(commands.encode_kvs(args))
    return then(proposed, _applied, refusal="raft apply failed: ")


def _applied(result: Any) -> Reply:
    return Reply(result is not False)


READS: dict[str, ReadHandler] = {
    "KVS.Get": get,
    "KVS.List": list_entries,
    "KVS.ListKeys": list_keys,
}
WRITES: dict[str, WriteHandler] = {"KVS.Apply": apply}
