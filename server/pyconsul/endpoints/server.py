"""A server's endpoints behind the one ``call`` (``docs/design.md``).

Every request passes the same gates in the same order: the method exists, the
datacenter is ours, somebody leads (or stale is allowed), the token resolves,
and a read's result is waited for where the caller blocks. What this server
cannot answer goes by ``routed`` (``routed_calls.py``) to the leader, or waits
there until one is known; requests for other datacenters leave in one place,
``_elsewhere``.

No request circles between two servers that each take the other for the
leader: both would have to know a leader of a later term than the other does,
so every hop needs an election. To itself a server never forwards.
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
    features_off,
    federation_state,
    health,
    intention,
    internal,
    kvs,
    operator,
    prepared_query,
    service_config,
    session,
    status,
    txn,
)
from pyconsul.endpoints.blocking import BlockingQueries
from pyconsul.endpoints.coordinate import CoordinateBatches
from pyconsul.endpoints.duties import ClusterDuties
from pyconsul.endpoints.follower_reads import FollowerReads
from pyconsul.endpoints.futures import then
from pyconsul.endpoints.lock_delay import LockDelays
from pyconsul.endpoints.request_limits import (
    NO_LIMITS,
    RequestLimiter,
    RequestLimits,
)
from pyconsul.endpoints.routed_calls import (
    RPC_HOLD_TIMEOUT_S,
    CallTimes,
    RoutedCall,
    RoutedCalls,
)
from pyconsul.endpoints.session_timers import SessionTimers
from pyconsul.endpoints.shared_reads import SharedReads
from pyconsul.endpoints.tombstones import TombstoneReaper
from pyconsul.raft.messages import Configuration
from pyconsul.state.store import StateStore
from pyconsul.state.watch import Read
from pyconsul.types.errors import ConsulError, NoPathToDatacenterError
from pyconsul.types.messages import Caller, QueryOptions, Reply
from pyconsul.types.operations import DEFAULT_AUTOPILOT, AutopilotConfig


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
    on_leader_known: list[Callable[[str], None]]
    """Called with the leader's address when another one is known."""

    @property
    def has_leader_contact(self) -> bool:
        """This server has ever led or heard a leader."""
        ...

    @property
    def applied_index(self) -> int:
        """The index up to which the state has taken the log in."""
        ...

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

    def change_membership(
        self, change: Callable[[Configuration], Configuration], /
    ) -> Future[object]:
        """Resolve once the configuration, changed by one server, is committed."""
        ...

    def transfer_leadership(self, target: str = "", /) -> str:
        """Begin to hand over to a voter; return its id. Raises ``ConsulError``."""
        ...

    def stats(self) -> dict[str, str]:
        """The ``raft`` section of ``consul info``."""
        ...


class Forwarder(Protocol):
    """Asks another server (``net/forwarder.py``)."""

    def forward(self, method: str, args: Any, address: str) -> Future[Reply]:
        """Ask the server at ``ip:port`` once.

        A connection failure has ``sent``: whether the request can have been
        received. Cancelling the future gives the request up.
        """
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
    heartbeat_s: float = 0.15
    """How often an idle leader is heard: no follower hears it sooner."""
    autopilot: AutopilotConfig = DEFAULT_AUTOPILOT
    """What the first leader writes; the stored settings rule from then on."""
    request_limits: RequestLimits = NO_LIMITS


class Duty(Protocol):
    """Something only the leader does; ``start`` and ``stop`` may be repeated."""

    def start(self) -> None:
        """This server leads now."""
        ...

    def stop(self) -> None:
        """Another server leads, or this one ends."""
        ...


ReadHandler = Callable[["Server", Any, Authorizer], Read]
QueryHandler = Callable[["Server", Any, Authorizer], Reply]
WriteHandler = Callable[["Server", Any, Authorizer], "Reply | Future[Reply]"]

READS: dict[str, ReadHandler] = {
    **catalog.READS,
    **config_entry.READS,
    **coordinate.READS,
    **federation_state.READS,
    **health.READS,
    **intention.READS,
    **internal.READS,
    **kvs.READS,
    **operator.READS,
    **prepared_query.READS,
    **service_config.READS,
    **session.READS,
}
WRITES: dict[str, WriteHandler] = {
    **catalog.WRITES,
    **config_entry.WRITES,
    **coordinate.WRITES,
    **kvs.WRITES,
    **operator.WRITES,
    **prepared_query.WRITES,
    **session.WRITES,
    **txn.WRITES,
}
QUERIES: dict[str, QueryHandler] = {**txn.QUERIES}
"""Consistent as reads are, but they never block."""
LOCAL: dict[str, WriteHandler] = {
    **status.LOCAL,
    **internal.LOCAL,
    **catalog.LOCAL,
    **coordinate.LOCAL,
    **features_off.LOCAL,
}
"""Answered by any server from what it knows, leader or not."""
# New nouns: import above, then one line in each table they have.

_BY_STATE = (READS.keys() | QUERIES.keys()) - operator.READS.keys()
"""Reads whose answer is in the replicated state, whichever server has it."""


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
        forwarder: Forwarder | None = None,
        times: CallTimes | None = None,
    ) -> None:
        random = random or Random()
        self.log = log
        self.state = state
        self.options = options
        self.resolver: Resolver = resolver or OpenResolver()
        self.blocking = BlockingQueries(
            random,
            default_query_time_s=options.default_query_time_s,
            max_query_time_s=options.max_query_time_s,
        )
        self.forwarder = forwarder
        """How the leader is asked; may be set at any time."""
        self.wan: Caller | None = None
        """Answers requests for other datacenters; may be set at any time."""
        host = f"[{options.address}]" if ":" in options.address else options.address
        self.address = f"{host}:{options.server_port}"
        hold_s = options.rpc_hold_timeout_s
        times = times or CallTimes(
            options.default_query_time_s, options.max_query_time_s
        )
        self.routed = RoutedCalls(_LeaderTarget(self), random, hold_s, times)
        self.limiter = RequestLimiter(options.request_limits)
        self.shared = SharedReads(self._start_read, random, hold_s, times)
        self.follower_reads = FollowerReads(
            self.ask_leader, self._answer, self.shared.call, self._applied_index
        )
        self.lock_delays = LockDelays(self.now)
        self.session_timers = SessionTimers(self)
        self.tombstones = TombstoneReaper(self)
        self.cluster = ClusterDuties(self)
        self.coordinates = CoordinateBatches(self)
        self.duties: list[Duty] = [self.tombstones, self.cluster]
        """What only the leader does; more may be added before the log starts."""
        state.on_session_invalidated = self._on_session_invalidated
        log.on_leader_change.append(self._on_leader_change)
        log.on_leader_known.append(self._on_leader_known)

    def now(self) -> float:
        """Seconds on the loop's monotonic clock."""
        return asyncio.get_running_loop().time()

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer ``method``; see ``types.messages.Caller``."""
        if args.datacenter and args.datacenter != self.options.datacenter:
            return self._elsewhere(method, args)
        log = self.log
        if self.limiter.active and method not in LOCAL:
            self.limiter.check(
                method, self.now(), writes=method in WRITES, leads=log.is_leader
            )
        if method in READS or method in QUERIES:
            if args.allow_stale:
                if log.has_leader_contact:
                    return self._answer(method, args)
            elif not args.require_consistent:
                if log.has_lease():
                    return self._answer(method, args)
                if not args.min_query_index and method in _BY_STATE:
                    return self.follower_reads.call(method, args)
            elif log.is_leader:
                confirmed = log.verify_leader()
                if confirmed.done() and confirmed.exception() is None:
                    return self._answer(method, args)
                first = then(confirmed, lambda _: self._answer(method, args))
                return self.routed.start(method, args, repeats=True, first=first)
            return self.shared.call(method, args)
        write = WRITES.get(method)
        if write is not None:
            # A lease says more than ``is_leader``: no step-down is under way.
            if log.has_lease():
                return self._write(write, args)
            return self.routed.start(method, args)
        local = LOCAL.get(method)
        if local is None:
            raise ConsulError(f"rpc: can't find method {method}")
        return local(self, args, self.resolver.resolve(args.token))

    def stale_contact_ms(self) -> int:
        """Milliseconds since the leader was heard; -1 when none is known."""
        return self.log.last_contact_ms() if self.log.leader_address else -1

    def _elsewhere(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Ask another datacenter, where the WAN is there."""
        if self.wan is None:
            raise NoPathToDatacenterError
        return self.wan.call(method, args)

    def lead(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer as the leader; without a lease a quorum must confirm that first.

        A leader that stood still may have been replaced: it would judge locks
        and renewals by what it knew then.
        """
        write = WRITES.get(method)
        if write is not None:
            if self.log.has_lease():
                return self._write(write, args)
            confirmed = self.log.verify_leader()
            return then(confirmed, lambda _: self._write(write, args))
        if args.require_consistent or not self.log.has_lease():
            confirmed = self.log.verify_leader()
            return then(confirmed, lambda _: self._answer(method, args))
        return self._answer(method, args)

    def _start_read(self, method: str, args: Any) -> Future[Reply]:
        return self.routed.start(method, args, repeats=True)

    def ask_leader(self, method: str, args: Any) -> Future[Reply] | None:
        """Ask another server once, the leader; ``None`` when none is known."""
        address = self.log.leader_address
        if self.forwarder is None or not address or address == self.address:
            return None
        return self.forwarder.forward(method, args, address)

    def _applied_index(self) -> int:
        return self.log.applied_index

    def _write(self, write: WriteHandler, args: Any) -> Reply | Future[Reply]:
        who = self.resolver.resolve(args.token)
        if args.token:
            # A token decides, but is no part of what is replicated.
            args = msgspec.structs.replace(args, token="")
        return write(self, args, who)

    # -- reads

    def _answer(self, method: str, args: QueryOptions) -> Reply | Future[Reply]:
        read = READS.get(method)
        if read is not None:
            return self._read(method, read, args)
        reply = QUERIES[method](self, args, self.resolver.resolve(args.token))
        return self._mark(reply, args)

    def _read(
        self, method: str, read: ReadHandler, args: QueryOptions
    ) -> Reply | Future[Reply]:
        if not args.min_query_index:
            return self.evaluate(read, args)
        reply = self.evaluate(read, args)
        if reply.index > args.min_query_index:
            return reply
        timeless = msgspec.structs.replace(args, min_query_index=0, max_query_time=0)
        key = method.encode() + b"\0" + msgspec.msgpack.encode(timeless)
        query = _Waiting(self, method, read, timeless)
        return self.blocking.wait(
            key,
            query.evaluate,
            reply,
            args.min_query_index,
            args.max_query_time,
            None if args.allow_stale else query,
        )

    def evaluate(self, read: ReadHandler, args: QueryOptions) -> Reply:
        """Answer a read from this server's state, as it is now."""
        found = read(self, args, self.resolver.resolve(args.token))
        index = found.index or 1
        reply = Reply(found.value, index, found.cells, keeps=found.keeps)
        return self._mark(reply, args)

    def _mark(self, reply: Reply, args: QueryOptions) -> Reply:
        """Say how consistent the answer is."""
        if args.allow_stale:
            reply.consistency = "stale"
            reply.last_contact_ms = self.log.last_contact_ms()
            reply.known_leader = bool(self.log.leader_address)
        elif args.require_consistent:
            reply.consistency = "consistent"
        return reply

    # -- leadership

    def _on_leader_change(self, leads: bool) -> None:
        self.follower_reads.give_up()
        if leads:
            self._start_duties()
            self.routed.leave_all_but(self.address)
            self.routed.wake()
        else:
            self.blocking.hand_over_all()
            self.session_timers.stop()
            for duty in self.duties:
                duty.stop()
            self.coordinates.stop()

    def _on_leader_known(self, address: str) -> None:
        self.follower_reads.give_up()
        if address and address != self.address:
            self.routed.leave_all_but(address)
            self.routed.wake()

    def _start_duties(self) -> None:
        self.session_timers.arm_all()
        for duty in self.duties:
            duty.start()

    def _on_session_invalidated(self, invalidated: Any, keys: Any) -> None:
        self.session_timers.forget(invalidated.id)
        self.lock_delays.add(invalidated, keys)

    def on_restored(self) -> None:
        """The whole state was replaced: wake everybody, time sessions anew."""
        self.blocking.release_all()
        if self.log.is_leader:
            self._start_duties()

    def stop(self) -> None:
        """Cancel timers and answer who still waits."""
        self.session_timers.stop()
        for duty in self.duties:
            duty.stop()
        self.coordinates.stop()
        self.blocking.release_all()
        self.routed.stop()


class _Waiting:
    """A blocking read that waits here: ``blocking.Role`` of the leader."""

    __slots__ = ("_args", "_method", "_read", "_server")

    def __init__(
        self, server: Server, method: str, read: ReadHandler, args: QueryOptions
    ) -> None:
        self._server = server
        self._method = method
        self._read = read
        self._args = args

    def evaluate(self) -> Reply:
        """Answer from the state as it is now."""
        return self._server.evaluate(self._read, self._args)

    def may_answer(self) -> bool:
        """Nobody else can lead."""
        return self._server.log.has_lease()

    def ask_again(self, min_index: int, left_s: float) -> Future[Reply]:
        """Ask the leader of now; without waiting if the time is over."""
        again = msgspec.structs.replace(
            self._args,
            min_query_index=min_index if left_s > 0 else 0,
            max_query_time=max(int(left_s * 1e9), 1) if left_s > 0 else 0,
        )
        return self._server.shared.call(self._method, again)


class _LeaderTarget:
    """Asks whoever leads: this server, or another by the forwarder."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def send(self, call: RoutedCall) -> Reply | Future[Reply] | None:
        """Ask the leader; ``None`` while none is known or ready."""
        server = self._server
        if server.log.is_leader:
            call.address = server.address
            return server.lead(call.method, call.args)
        call.address = server.log.leader_address
        return server.ask_leader(call.method, call.args)

    def lost(self, call: RoutedCall) -> bool:
        """There is one leader: nobody else to ask."""
        return False
