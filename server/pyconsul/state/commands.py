"""Replicated commands: a type byte, then the request in Go's msgpack.

The numbers and structures are Consul's (``wire-raft.md`` section 2). Whatever
a command needs that is not deterministic (ids, times) is filled in before it
is encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from pyconsul.types.coordinates import Coordinate
from pyconsul.types.gomsgpack import (
    MsgpackError,
    Plain,
    encode,
    from_plain,
    pack,
    to_plain,
    unpack,
)
from pyconsul.types.messages import (
    DeregisterRequest,
    KVSRequest,
    RegisterRequest,
    SessionRequest,
    TombstoneRequest,
    TxnRequest,
)
from pyconsul.types.operations import AutopilotSetConfigRequest
from pyconsul.types.plain_entries import entry_from_plain
from pyconsul.types.queries import PreparedQueryRequest
from pyconsul.types.records import DirEntry

REGISTER = 0
DEREGISTER = 1
KVS = 2
SESSION = 3
TOMBSTONE = 5
COORDINATES = 6
PREPARED_QUERY = 7
TXN = 8
AUTOPILOT = 9

IGNORE_UNKNOWN = 128
"""Flag of the type byte: a server that does not know the type skips it."""


def encode_register(request: RegisterRequest) -> bytes:
    """Return the command that applies a registration."""
    return _command(REGISTER, encode(request))


def encode_deregister(request: DeregisterRequest) -> bytes:
    """Return the command that applies a deregistration."""
    return _command(DEREGISTER, encode(request))


def encode_kvs(request: KVSRequest) -> bytes:
    """Return the command of a KV operation."""
    entry = request.dir_ent
    # Spelt out: this is the hot one. The keys are sorted, as Go has them.
    body = {
        "Datacenter": request.datacenter,
        "DirEnt": {
            "CreateIndex": entry.create_index,
            "Flags": entry.flags,
            "Key": entry.key,
            "LockIndex": entry.lock_index,
            "ModifyIndex": entry.modify_index,
            "Session": entry.session,
            "Value": entry.value or None,
        },
        "Op": request.op,
        "Token": request.token,
    }
    return b"\x02" + pack(body)


def decode_kvs(body: bytes | memoryview) -> tuple[str, DirEntry]:
    """Return operation and entry of a KV command's body (no type byte).

    Raises ``MsgpackError``. Spelt out like its encoder.
    """
    plain = unpack(body)
    if isinstance(plain, dict):
        fields = cast(Plain, plain)
        op = fields.get("Op")
        if op.__class__ is str:
            return cast(str, op), entry_from_plain(fields.get("DirEnt"))
    request = from_plain(plain, KVSRequest)
    return request.op, request.dir_ent


def encode_session(request: SessionRequest) -> bytes:
    """Return the command that creates or destroys a session."""
    return _command(SESSION, encode(request))


def encode_tombstone(request: TombstoneRequest) -> bytes:
    """Return the command that reaps KV tombstones."""
    return _command(TOMBSTONE, encode(request))


def encode_prepared_query(request: PreparedQueryRequest) -> bytes:
    """Return the command that writes or deletes a prepared query."""
    return _command(PREPARED_QUERY, encode(request))


def encode_txn(request: TxnRequest) -> bytes:
    """Return the command of a transaction."""
    return _command(TXN, encode(request))


def encode_autopilot(request: AutopilotSetConfigRequest) -> bytes:
    """Return the command that writes autopilot's settings."""
    return _command(AUTOPILOT, encode(request))


def encode_coordinates(batch: Iterable[Coordinate]) -> bytes:
    """Return the command of coordinate updates, which old servers may skip."""
    return _command(
        COORDINATES | IGNORE_UNKNOWN, pack([to_plain(found) for found in batch])
    )


def decode_coordinates(plain: Any) -> list[Coordinate]:
    """Return the coordinates of an unpacked batch; raises ``MsgpackError``."""
    if not isinstance(plain, list):
        raise MsgpackError("msgpack decode error: coordinates are no list")
    return [from_plain(one, Coordinate) for one in cast("list[Any]", plain)]


def _command(number: int, body: bytes) -> bytes:
    return bytes((number,)) + body
