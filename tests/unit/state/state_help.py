"""A store with a log of its own, and a waiter that counts."""

from __future__ import annotations

from typing import Any

from pyconsul.state import commands
from pyconsul.state.store import StateStore
from pyconsul.state.watch import Read
from pyconsul.types.messages import (
    DeregisterRequest,
    KVSRequest,
    RegisterRequest,
    SessionRequest,
    TombstoneRequest,
    TxnOp,
    TxnRequest,
)
from pyconsul.types.records import DirEntry, HealthCheck, NodeService, Session


class Log:
    """Applies commands at increasing indexes."""

    def __init__(self) -> None:
        self.store = StateStore()
        self.index = 0

    def apply(self, command: bytes) -> Any:
        self.index += 1
        return self.store.apply(self.index, command)

    def kv(self, op: str, key: str, value: bytes = b"", **fields: Any) -> Any:
        entry = DirEntry(key=key, value=value, **fields)
        request = KVSRequest(datacenter="dc1", op=op, dir_ent=entry)
        return self.apply(commands.encode_kvs(request))

    def set(self, key: str, value: bytes = b"v", **fields: Any) -> Any:
        return self.kv("set", key, value, **fields)

    def register(self, node: str, **fields: Any) -> Any:
        fields.setdefault("address", "10.0.0.1")
        request = RegisterRequest(datacenter="dc1", node=node, **fields)
        return self.apply(commands.encode_register(request))

    def service(self, node: str, service: str, **fields: Any) -> Any:
        return self.register(node, service=NodeService(service=service, **fields))

    def check(self, node: str, check_id: str, status: str, service: str = "") -> Any:
        check = HealthCheck(check_id=check_id, status=status, service_id=service)
        return self.register(node, check=check, skip_node_update=True)

    def deregister(self, node: str, **fields: Any) -> Any:
        request = DeregisterRequest(datacenter="dc1", node=node, **fields)
        return self.apply(commands.encode_deregister(request))

    def session(self, number: int, node: str, **fields: Any) -> Any:
        session = Session(id=uuid(number), node=node, **fields)
        request = SessionRequest(op="create", session=session)
        return self.apply(commands.encode_session(request))

    def destroy(self, session_id: str) -> Any:
        request = SessionRequest(op="destroy", session=Session(id=session_id))
        return self.apply(commands.encode_session(request))

    def reap(self, index: int) -> Any:
        request = TombstoneRequest(reap_index=index)
        return self.apply(commands.encode_tombstone(request))

    def txn(self, *ops: TxnOp) -> Any:
        return self.apply(commands.encode_txn(TxnRequest(ops=list(ops))))


class Counter:
    """Counts how often it was fired."""

    def __init__(self, read: Read) -> None:
        self.fired = 0
        for cell in read.cells:
            cell.subscribe(self)

    def fire(self) -> None:
        self.fired += 1


def uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def image(store: StateStore) -> bytes:
    """Everything that a snapshot holds."""
    return b"".join(store.snapshot().chunks())
