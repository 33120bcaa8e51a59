"""A server's endpoints behind the one ``call`` (``docs/design.md``).

Every request passes the same gates in the same order: the method exists, the
datacenter is ours, somebody leads (or stale is allowed), the token resolves,
and a read's result is waited for where the caller blocks. Forwarding to a
leader or to another datacenter belongs in ``Server.call`` and nowhere else.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import msgspec

from pyconsul.acl.authorizer import Authorizer, OpenResolver, Resolver
from pyconsul.endpoints import (
    catalog,
    config_entry,
    coordinate,
    health,
    internal,
    kvs,
    operator,
    prepared_query,
    session,
    status,
    txn,
)
from pyconsul.endpoints.blocking import BlockingQueries
from pyconsul.endpoints.coordinate import CoordinateBatches
from pyconsul.endpoints.futures import follow, then
from pyconsul.endpoints.lock_delay import LockDelays
from pyconsul.endpoints.own_node import OwnNode
from pyconsul.endpoints.session_timers import SessionTimers
from pyconsul.endpoints.tombstones import TombstoneReaper
from pyconsul.raft.messages import Configuration
from pyconsul.state.store import StateStore
from pyconsul.state.watch import Read
from pyconsul.types.errors import (
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
)
from pyconsul.types.messages import QueryOptions, Reply

RPC_HOLD_TIMEOUT_S = 7.0
"""How long a request waits for a leader before it fails."""


class Log(Protocol):
    """The replicated log as endpoints see it (``net/raft_driver.py``)."""

    @property
    def is_leader(self) -> bool:
        """This server leads and holds its lease."""
        ...

    @property
    def leader_address(self) -> str:
        """``ip:port`` of the leader, or empty."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The latest membership."""
        ...

    @property
    def configuration_index(self) -> int:
        """The index the latest membership was written at."""
        ...

    on_leader_change: list[Callable[[bool], None]]

    def has_lease(self) -> bool:
        """Tell whether reads may be answered without asking a quorum."""
        ...

    def peers(self) -> list[str]:
        """Addresses of the Raft configuration."""
        ...

    def propose(self, command: bytes) -> Future[object]:
        """Resolve with the command's result once committed and applied."""
        ...

    def verify_leader(self) -> Future[None]:
        """Resolve once a quorum confirmed our leadership."""
        ...

    def last_contact_ms(self) -> int:
        """Milliseconds since the leader was heard; 0 on the leader."""
        ...


@dataclass(slots=True, frozen=True, kw_only=True)
class ServerOptions:
    """Settings of the endpoints; times in seconds."""

    datacenter: str
    node_name: str
    node_id: str = ""
    address: str = ""
    server_port: int = 8300
    version: str = ""
    session_ttl_min_s: float = 10.0
    default_query_time_s: float = 300.0
    max_query_time_s: float = 600.0
    coordinate_period_s: float = 5.0
    rpc_hold_timeout_s: float = RPC_HOLD_TIMEOUT_S


ReadHandler = Callable[["Server", Any, Authorizer], Read]
QueryHandler = Callable[["Server", Any, Authorizer], Reply]
WriteHandler = Callable[["Server", Any, Authorizer], "Reply | Future[Reply]"]

READS: dict[str, ReadHandler] = {
    **catalog.READS,
    **config_entry.READS,
    **coordinate.READS,
    **health.READS,
    **internal.READS,
    **kvs.READS,
    **operator.READS,
    **prepared_query.READS,
    **session.READS,
}
WRITES: dict[str, WriteHandler] = {
    **catalog.WRITES,
    **config_entry.WRITES,
    **coordinate.WRITES,
    **kvs.WRITES,
    **prepared_query.WRITES,
    **session.WRITES,
    **txn.WRITES,
}
QUERIES: dict[str, QueryHandler] = {**txn.QUERIES}
"""Consistent as reads are, but they never block."""
LOCAL: dict[str, WriteHandler] = {
    **status.LOCAL,
    **catalog.LOCAL,
    **coordinate.LOCAL,
}
"""Answered by any server from what it knows, leader or not."""


class Server:
    """Implements ``Caller`` over the log and the state of this server."""

    def __init__(
        self,
        log: Log,
        state: StateStore,
        options: ServerOptions,
        *,
        random: Random | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.log = log
        self.state = state
        self.options = options
        self.resolver: Resolver = resolver or OpenResolver()
        self.blocking = BlockingQueries(
            random or Random(),
            default_query_time_s=options.default_query_time_s,
            max_query_time_s=options.max_query_time_s,
        )
        self.lock_delays = LockDelays(self.now)
        self.session_timers = SessionTimers(self)
        self.tombstones = TombstoneReaper(self)
        self.own_node = OwnNode(self)
        self.coordinates = CoordinateBatches(self)
        state.on_session_invalidated = self._on_session_invalidated
        log.on_leader_change.append(self._on_leader_change)
        self._held: dict[Future[Reply], Callable[[], None]] = {}

    def now(self) -> float:
        """Seconds on the loop's monotonic clock."""
        return asyncio.get_running_loop().time()

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer ``method``; see ``types.messages.Caller``."""
        if args.datacenter and args.datacenter != self.options.datacenter:
            raise NoPathToDatacenterError
        read = READS.get(method)
        query = QUERIES.get(method) if read is None else None
        if read is not None or query is not None:
            if not args.allow_stale:
                if not self.log.is_leader:
                    return self._hold(method, args)
                if args.require_consistent or not self.log.has_lease():
                    confirmed = self.log.verify_leader()
                    return then(
                        confirmed, lambda _: self._answer(method, read, query, args)
                    )
            return self._answer(method, read, query, args)
        write = WRITES.get(method)
        if write is not None:
            if not self.log.is_leader:
                return self._hold(method, args)
            who = self.resolver.resolve(args.token)
            if args.token:
                # A token decides, but is no part of what is replicated.
                args = msgspec.structs.replace(args, token="")
            return write(self, args, who)
        local = LOCAL.get(method)
        if local is None:
            raise ConsulError(f"rpc: can't find method {method}")
        return local(self, args, self.resolver.resolve(args.token))

    # -- reads

    def _answer(
        self,
        method: str,
        read: ReadHandler | None,
        query: QueryHandler | None,
        args: QueryOptions,
    ) -> Reply | Future[Reply]:
        if read is not None:
            return self._read(method, read, args)
        assert query is not None
        reply = query(self, args, self.resolver.resolve(args.token))
        return self._mark(reply, args)

    def _read(
        self, method: str, read: ReadHandler, args: QueryOptions
    ) -> Reply | Future[Reply]:
        if not args.min_query_index:
            return self._evaluate(read, args)
        reply = self._evaluate(read, args)
        if reply.index > args.min_query_index:
            return reply
        timeless = msgspec.structs.replace(args, min_query_index=0, max_query_time=0)
        key = method.encode() + b"\0" + msgspec.msgpack.encode(timeless)
        return self.blocking.wait(
            key,
            lambda: self._evaluate(read, timeless),
            reply,
            args.min_query_index,
            args.max_query_time,
        )

    def _evaluate(self, read: ReadHandler, args: QueryOptions) -> Reply:
        found = read(self, args, self.resolver.resolve(args.token))
        return self._mark(Reply(found.value, found.index or 1, found.cells), args)

    def _mark(self, reply: Reply, args: QueryOptions) -> Reply:
        """Say how consistent the answer is."""
        if args.allow_stale:
            reply.consistency = "stale"
            reply.last_contact_ms = self.log.last_contact_ms()
            reply.known_leader = bool(self.log.leader_address)
        elif args.require_consistent:
            reply.consistency = "consistent"
        return reply

    # -- waiting for a leader

    def _hold(self, method: str, args: Any) -> Future[Reply]:
        """Call again once this server leads; fail after the hold timeout."""
        loop = asyncio.get_running_loop()
        held: Future[Reply] = loop.create_future()

        def retry() -> None:
            timer.cancel()  # a blocking read may wait for longer than the hold
            if held.done():
                return
            try:
                reply = self.call(method, args)
            except ConsulError as error:
                held.set_exception(error)
                return
            if isinstance(reply, Future):
                follow(reply, held)
            else:
                held.set_result(reply)

        def fail() -> None:
            if not held.done():
                held.set_exception(NoLeaderError())

        timer = loop.call_later(self.options.rpc_hold_timeout_s, fail)
        self._held[held] = retry

        def forget(_: Future[Reply]) -> None:
            timer.cancel()
            self._held.pop(held, None)

        held.add_done_callback(forget)
        return held

    def _on_leader_change(self, leads: bool) -> None:
        if leads:
            self.session_timers.arm_all()
            self.tombstones.start()
            self.own_node.start()
            held, self._held = list(self._held.values()), {}
            for retry in held:
                retry()
        else:
            self.session_timers.stop()
            self.tombstones.stop()
            self.own_node.stop()
            self.coordinates.stop()

    def _on_session_invalidated(self, invalidated: Any, keys: Any) -> None:
        self.session_timers.forget(invalidated.id)
        self.lock_delays.add(invalidated, keys)

    def on_restored(self) -> None:
        """The whole state was replaced: wake everybody, time sessions anew."""
        self.blocking.release_all()
        if self.log.is_leader:
            self.session_timers.arm_all()
            self.tombstones.start()
            self.own_node.start()

    def stop(self) -> None:
        """Cancel timers and answer who still waits."""
        self.session_timers.stop()
        self.tombstones.stop()
        self.own_node.stop()
        self.coordinates.stop()
        self.blocking.release_all()
        for held in list(self._held):
            if not held.done():
                held.set_exception(NoLeaderError())
