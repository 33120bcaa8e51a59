"""Transactions: operations in order, all or none.

``run`` collects results and errors; undoing a failed transaction is the
caller's, by the journal. A ``KV`` result of a verb that is no read carries no
value, as the reference has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from pyconsul.state.catalog import Catalog
from pyconsul.state.kv import KVTable
from pyconsul.state.sessions import SessionTable
from pyconsul.types.errors import CommandError
from pyconsul.types.messages import (
    TxnCheckOp,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnResponse,
    TxnServiceOp,
)
from pyconsul.types.records import DirEntry, Node, TxnError, TxnResult

_KV_READS = frozenset(
    ("get", "get-or-empty", "get-tree", "check-index", "check-session")
) | {"check-not-exists"}


def is_read(op: TxnOp) -> bool:
    """Tell whether an operation only reads (and so needs no Raft entry)."""
    if op.kv is not None:
        return op.kv.verb in _KV_READS
    for part in (op.node, op.service, op.check):
        if part is not None:
            return part.verb == "get"
    return op.session is None


class Transactions:
    """Runs operations on the tables."""

    __slots__ = ("_catalog", "_kv", "_sessions")

    def __init__(self, kv: KVTable, catalog: Catalog, sessions: SessionTable) -> None:
        self._kv = kv
        self._catalog = catalog
        self._sessions = sessions

    def run(self, index: int, ops: Sequence[TxnOp]) -> TxnResponse:
        """Run operations; with errors there are no results."""
        results: list[TxnResult] = []
        errors: list[TxnError] = []
        for number, op in enumerate(ops):
            try:
                results += self._one(index, op)
            except CommandError as error:
                errors.append(TxnError(op_index=number, what=str(error)))
        return TxnResponse(results=[] if errors else results, errors=errors)

    def read(self, ops: Sequence[TxnOp]) -> TxnResponse:
        """Run reading operations; a writing verb is refused as unknown."""
        results: list[TxnResult] = []
        errors: list[TxnError] = []
        for number, op in enumerate(ops):
            try:
                if not is_read(op):
                    raise _unknown(op)
                results += self._one(0, op)
            except CommandError as error:
                errors.append(TxnError(op_index=number, what=str(error)))
        return TxnResponse(results=[] if errors else results, errors=errors)

    def _one(self, index: int, op: TxnOp) -> Iterable[TxnResult]:
        if op.kv is not None:
            return self._key_value(index, op.kv)
        if op.node is not None:
            return self._node(index, op.node)
        if op.service is not None:
            return self._service(index, op.service)
        if op.check is not None:
            return self._check(index, op.check)
        if op.session is not None:
            if op.session.verb != "delete":
                raise _unknown(op)
            self._sessions.destroy(index, op.session.session.id)
        return ()

    # -- KV --------------------------------------------------------------

    def _key_value(self, index: int, op: TxnKVOp) -> Iterable[TxnResult]:
        verb, entry = op.verb, op.dir_ent
        key = entry.key
        if verb in _KV_READS:
            return self._kv_read(verb, entry)
        if verb == "set":
            return _kv(self._kv.set(index, entry))
        if verb == "cas":
            stored = self._kv.cas(index, entry)
            why = f'failed to set key "{key}", index is stale'
        elif verb == "lock":
            stored = self._kv.lock(index, entry)
            why = f'failed to lock key "{key}", lock is already held'
        elif verb == "unlock":
            stored = self._kv.unlock(index, entry)
            why = (
                f'failed to unlock key "{key}", '
                "lock isn't held, or is held by another session"
            )
        else:
            self._kv_delete(index, verb, entry)
            return ()
        if stored is None:
            raise CommandError(why)
        return _kv(stored)

    def _kv_delete(self, index: int, verb: str, entry: DirEntry) -> None:
        if verb == "delete":
            self._kv.delete(index, entry.key)
        elif verb == "delete-tree":
            self._kv.delete_tree(index, entry.key)
        elif verb != "delete-cas":
            raise CommandError(f'unknown KV verb "{verb}"')
        elif not self._kv.delete_cas(index, entry):
            raise CommandError(f'failed to delete key "{entry.key}", index is stale')

    def _kv_read(self, verb: str, wanted: DirEntry) -> Iterable[TxnResult]:
        key = wanted.key
        if verb == "get-tree":
            rows = self._kv.list(key).value
            return [TxnResult(kv=row.record) for row in rows]
        row = self._kv.rows.get(key)
        if verb == "check-not-exists":
            if row is not None:
                raise CommandError(f'key "{key}" exists')
            return ()
        if row is None:
            if verb == "get-or-empty":
                return [TxnResult(kv=DirEntry(key=key))]
            raise CommandError(
                {
                    "get": f'key "{key}" doesn\'t exist',
                    "check-index": f'failed to check index, key "{key}" doesn\'t exist',
                }.get(verb, f'failed to check session, key "{key}" doesn\'t exist')
            )
        held: DirEntry = row.record
        if verb == "check-index" and held.modify_index != wanted.modify_index:
            raise CommandError(
                f'failed index check for key "{key}", current modify index '
                f"{held.modify_index} != {wanted.modify_index}"
            )
        if verb == "check-session" and held.session != wanted.session:
            raise CommandError(
                f'failed session check for key "{key}", current session '
                f'"{held.session}" != "{wanted.session}"'
            )
        return [TxnResult(kv=held)] if verb.startswith("get") else _kv(held)

    # -- catalog ---------------------------------------------------------

    def _node(self, index: int, op: TxnNodeOp) -> Iterable[TxnResult]:
        catalog, node, verb = self._catalog, op.node, op.verb
        if node.id:
            entry = catalog.by_id.get(node.id.lower())
        else:
            entry = catalog.nodes.get(node.node.lower())
        held: Node | None = entry.node if entry is not None else None
        stale = not _matches(held, node.modify_index)
        if verb == "get":
            if held is None:
                raise CommandError(f'node "{node.node}" doesn\'t exist')
            return [TxnResult(node=held)]
        if verb == "set" or (verb == "cas" and not stale):
            return [TxnResult(node=catalog.set_node(index, node))]
        if verb == "cas":
            raise CommandError(f'failed to set node "{node.node}", index is stale')
        if verb == "delete-cas" and (stale or held is None):
            raise CommandError(f'failed to delete node "{node.node}", index is stale')
        if verb not in ("delete", "delete-cas"):
            raise CommandError(f'unknown Node verb "{verb}"')
        if held is not None:
            catalog.delete_node(index, held.node)
        return ()

    def _service(self, index: int, op: TxnServiceOp) -> Iterable[TxnResult]:
        catalog, service, verb = self._catalog, op.service, op.verb
        service_id = service.id or service.service
        where = f'service "{service_id}" on node "{op.node}"'
        held = catalog.get_service(op.node, service_id)
        stale = not _matches(held, service.modify_index)
        if verb == "get":
            if held is None:
                raise CommandError(f"{where} doesn't exist")
            return [TxnResult(service=held)]
        if verb == "set" or (verb == "cas" and not stale):
            stored = catalog.set_service(index, op.node, service)
            return [TxnResult(service=stored)]
        if verb == "cas":
            raise CommandError(f"failed to set {where}, index is stale")
        if verb == "delete-cas" and (stale or held is None):
            raise CommandError(f"failed to delete {where}, index is stale")
        if verb not in ("delete", "delete-cas"):
            raise CommandError(f'unknown Service verb "{verb}"')
        catalog.delete_service(index, op.node, service_id)
        return ()

    def _check(self, index: int, op: TxnCheckOp) -> Iterable[TxnResult]:
        catalog, check, verb = self._catalog, op.check, op.verb
        check_id = check.check_id or check.name
        where = f'check "{check_id}" on node "{check.node}"'
        held = catalog.get_check(check.node, check_id)
        stale = not _matches(held, check.modify_index)
        if verb == "get":
            if held is None:
                raise CommandError(f"{where} doesn't exist")
            return [TxnResult(check=held)]
        if verb == "set" or (verb == "cas" and not stale):
            if not check.check_id:
                check = msgspec.structs.replace(check, check_id=check_id)
            return [TxnResult(check=catalog.set_check(index, check))]
        if verb == "cas":
            raise CommandError(f"failed to set {where}, index is stale")
        if verb == "delete-cas" and (stale or held is None):
            raise CommandError(f"failed to delete {where}, index is stale")
        if verb not in ("delete", "delete-cas"):
            raise CommandError(f'unknown Check verb "{verb}"')
        catalog.delete_check(index, check.node, check_id)
        return ()


def _matches(held: object, index: int) -> bool:
    """Tell whether an object is as old as a ``cas`` says (0: absent)."""
    return getattr(held, "modify_index", 0) == index


def _kv(entry: DirEntry) -> list[TxnResult]:
    return [TxnResult(kv=msgspec.structs.replace(entry, value=b""))]


def _unknown(op: TxnOp) -> CommandError:
    parts = {"KV": op.kv, "Node": op.node, "Service": op.service, "Check": op.check}
    for name, part in parts.items():
        if part is not None:
            return CommandError(f'unknown {name} verb "{part.verb}"')
    verb = op.session.verb if op.session is not None else ""
    return CommandError(f'unknown Session verb "{verb}"')
