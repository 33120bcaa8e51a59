"""Replicated commands: a type byte, then the request in Go's msgpack.

The numbers and structures are Consul's (``wire-raft.md`` section 2). Whatever
a command needs that is not deterministic (ids, times) is filled in before it
is encoded.
"""

from __future__ import annotations

from pyconsul.types.gomsgpack import encode, pack
from pyconsul.types.messages import (
    DeregisterRequest,
    KVSRequest,
    RegisterRequest,
    SessionRequest,
    TombstoneRequest,
    TxnRequest,
)

REGISTER = 0
DEREGISTER = 1
KVS = 2
SESSION = 3
TOMBSTONE = 5
COORDINATES = 6
TXN = 8

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


def encode_session(request: SessionRequest) -> bytes:
    """Return the command that creates or destroys a session."""
    return _command(SESSION, encode(request))


def encode_tombstone(request: TombstoneRequest) -> bytes:
    """Return the command that reaps KV tombstones."""
    return _command(TOMBSTONE, encode(request))


def encode_txn(request: TxnRequest) -> bytes:
    """Return the command of a transaction."""
    return _command(TXN, encode(request))


def _command(number: int, body: bytes) -> bytes:
    return bytes((number,)) + body
