"""Arguments and replies of ``call(method, args)``.

Requests carry the wire names of ``rpc-schema.json``; query options and write
options are flattened into them as Go embeds them. A read's ``Reply`` says how
to block on it: ``index`` is what ``X-Consul-Index`` shows.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from pyconsul.types.records import (
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    Record,
    Session,
    TxnError,
    TxnResult,
)


class QueryOptions(Record, frozen=True, kw_only=True):
    """What every read carries; ``max_query_time`` in nanoseconds."""

    datacenter: str = ""
    token: str = ""
    min_query_index: int = 0
    max_query_time: int = 0
    allow_stale: bool = False
    require_consistent: bool = False
    max_stale_duration: int = 0
    filter: str = ""


class QuerySource(Record, frozen=True, kw_only=True):
    """Where a read comes from, which sorting by distance begins at.

    ``node`` is the node to measure from (empty: no sorting), ``segment`` the
    asking agent's, ``ip`` the asking client's address.
    """

    datacenter: str = ""
    segment: str = ""
    node: str = ""
    ip: str = ""


NOWHERE = QuerySource()


class WriteOptions(Record, frozen=True, kw_only=True):
    """What every write carries."""

    datacenter: str = ""
    token: str = ""


class KeyRequest(QueryOptions, frozen=True, kw_only=True):
    """``KVS.Get`` and ``KVS.List`` (``key`` is then the prefix)."""

    key: str = ""


class KeyListRequest(QueryOptions, frozen=True, kw_only=True):
    """``KVS.ListKeys``; the wire spells the field ``Seperator``."""

    prefix: str = ""
    seperator: str = ""


class DCSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    """``Catalog.ListNodes``, ``Catalog.ListServices``, ``Session.List``."""

    node_meta_filters: dict[str, str] | None = None
    source: QuerySource = NOWHERE


class NodeSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    """``Catalog.NodeServices``, ``Health.NodeChecks``, ``Session.NodeSessions``."""

    node: str = ""


class ServiceSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    """``Catalog.ServiceNodes``, ``Health.ServiceNodes``, ``Health.ServiceChecks``.

    ``service_address`` (of the first) finds instances with this address of
    their own instead; ``ingress`` (of the second) the gateways that expose the
    service. ``passing_only`` is ours and not on the wire: HTTP's ``?passing``.
    """

    service_name: str = ""
    service_tags: list[str] | None = None
    service_address: str = ""
    node_meta_filters: dict[str, str] | None = None
    tag_filter: bool = False
    connect: bool = False
    ingress: bool = False
    source: QuerySource = NOWHERE
    passing_only: bool = False


class ChecksInStateRequest(QueryOptions, frozen=True, kw_only=True):
    """``Health.ChecksInState``."""

    state: str = ""
    node_meta_filters: dict[str, str] | None = None
    source: QuerySource = NOWHERE


class SessionSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    """``Session.Get`` and ``Session.Renew``."""

    session_id: str = msgspec.field(name="SessionID", default="")


class EmptyRequest(QueryOptions, frozen=True, kw_only=True):
    """``Status.Leader``, ``Status.Peers``, ``Catalog.ListDatacenters``."""


class KVSRequest(WriteOptions, frozen=True, kw_only=True):
    """``KVS.Apply``; ``op`` is one of ``set cas lock unlock delete ...``."""

    op: str = ""
    dir_ent: DirEntry = DirEntry()


class RegisterRequest(WriteOptions, frozen=True, kw_only=True):
    """``Catalog.Register``."""

    id: str = msgspec.field(name="ID", default="")
    node: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    node_meta: dict[str, str] | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None
    checks: list[HealthCheck] | None = None
    skip_node_update: bool = False


class DeregisterRequest(WriteOptions, frozen=True, kw_only=True):
    """``Catalog.Deregister``."""

    node: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    check_id: str = msgspec.field(name="CheckID", default="")


class SessionRequest(WriteOptions, frozen=True, kw_only=True):
    """``Session.Apply``; ``op`` is ``create`` or ``destroy``."""

    op: str = ""
    session: Session = Session()


class TombstoneRequest(WriteOptions, frozen=True, kw_only=True):
    """Internal reaping of KV tombstones up to an index."""

    op: str = "reap"
    reap_index: int = 0


class TxnKVOp(Record, frozen=True, kw_only=True):
    """A KV operation of a transaction."""

    verb: str = ""
    dir_ent: DirEntry = DirEntry()


class TxnNodeOp(Record, frozen=True, kw_only=True):
    """A node operation of a transaction."""

    verb: str = ""
    node: Node = Node()


class TxnServiceOp(Record, frozen=True, kw_only=True):
    """A service operation of a transaction."""

    verb: str = ""
    node: str = ""
    service: NodeService = NodeService()


class TxnCheckOp(Record, frozen=True, kw_only=True):
    """A check operation of a transaction."""

    verb: str = ""
    check: HealthCheck = HealthCheck()


class TxnSessionOp(Record, frozen=True, kw_only=True):
    """A session operation of a transaction (internal use only)."""

    verb: str = ""
    session: Session = Session()


class TxnOp(Record, frozen=True, kw_only=True):
    """One operation; exactly one member is set."""

    kv: TxnKVOp | None = msgspec.field(name="KV", default=None)
    node: TxnNodeOp | None = None
    service: TxnServiceOp | None = None
    check: TxnCheckOp | None = None
    session: TxnSessionOp | None = None


class TxnRequest(WriteOptions, frozen=True, kw_only=True):
    """``Txn.Apply``."""

    ops: list[TxnOp] = msgspec.field(default_factory=list[TxnOp])


class TxnReadRequest(QueryOptions, frozen=True, kw_only=True):
    """``Txn.Read``: only reading verbs, answered without Raft."""

    ops: list[TxnOp] = msgspec.field(default_factory=list[TxnOp])


class TxnResponse(Record, frozen=True, kw_only=True):
    """What ``Txn.Apply`` and ``Txn.Read`` answer; errors mean a rollback."""

    results: list[TxnResult] = msgspec.field(default_factory=list[TxnResult])
    errors: list[TxnError] = msgspec.field(default_factory=list[TxnError])


class Row:
    """A record with its JSON, encoded once (first use) and then joined.

    ``http`` decides the JSON through the encoder it passes, so that state
    knows nothing of views: ``row.json(encode)``.
    """

    __slots__ = ("_json", "_plain", "record")

    def __init__(self, record: Any, plain: dict[str, Any] | None = None) -> None:
        self.record = record
        self._json: bytes | None = None
        self._plain = plain

    def json(self, encode: Any) -> bytes:
        """Return the row's JSON, made by ``encode(record)`` the first time."""
        cached = self._json
        if cached is None:
            cached = self._json = encode(self.record)
        return cached

    def plain(self, write: Any) -> dict[str, Any]:
        """Return the row's wire map, made by ``write(record)`` the first time.

        It is shared: nobody may change it.
        """
        cached = self._plain
        if cached is None:
            cached = self._plain = write(self.record)
        return cached


class Cell(Protocol):
    """Something a read touched and can wait on (``state/watch.py``)."""

    def subscribe(self, waiter: Any) -> None:
        """Call ``waiter.fire()`` once at the next change."""
        ...

    def unsubscribe(self, waiter: Any) -> None:
        """Forget ``waiter``."""
        ...


class Reply:
    """Answer of a call.

    ``value`` is method-specific (see ``docs/design.md``). For reads, ``cells``
    are what was touched; with ``keeps`` an answer may be kept until one fires.
    """

    __slots__ = (
        "cells",
        "consistency",
        "encoded",
        "index",
        "keeps",
        "known_leader",
        "last_contact_ms",
        "value",
    )

    def __init__(
        self,
        value: Any,
        index: int = 0,
        cells: Sequence[Cell] = (),
        *,
        keeps: bool = True,
        known_leader: bool = True,
        last_contact_ms: int = 0,
        consistency: str = "leader",
    ) -> None:
        self.value = value
        self.index = index
        self.cells = cells
        self.keeps = keeps
        self.known_leader = known_leader
        self.last_contact_ms = last_contact_ms
        self.consistency = consistency
        self.encoded: Any = None
        """The face's encoding, kept for the equal waiters that share a reply."""


class Caller(Protocol):
    """The one call path: HTTP, DNS, RPC and the agent reach state by this."""

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer now, or later through a future.

        A read that needs no waiting answers at once, without a task. Writes,
        blocking reads that must wait and forwarded calls answer by a future.
        Raises (or sets on the future) a ``ConsulError``.
        """
        ...
