"""Autopilot: keeps the set of voters healthy while this server leads.

It asks every server how far it is (2 s), promotes newcomers that have been
stable, and removes dead servers (10 s). See ``agent-behaviour.md`` section 4;
the decisions themselves are ``autopilot_rules.py``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Future, TimerHandle
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pyconsul.endpoints import autopilot_rules as rules
from pyconsul.endpoints.pool import Pool, Remote, ServerMember, server_of
from pyconsul.endpoints.raft_changes import RaftChanges
from pyconsul.raft.messages import VOTER, Configuration, Peer
from pyconsul.serf.member import Status
from pyconsul.state import commands
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import EmptyRequest, Reply
from pyconsul.types.operations import (
    AutopilotConfig,
    AutopilotHealth,
    AutopilotSetConfigRequest,
    RaftStats,
    ServerHealth,
)

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Log, Server

_log = logging.getLogger("server.autopilot")
HEALTH_S = 2.0
CLEANUP_S = 10.0
NEWCOMER_S = 1.0
"""A newcomer's change is committed by then, and dead servers may go."""
STATS_TIMEOUT_S = 1.8
"""Shorter than the period: a round has ended when the next begins."""
_FEW = 3
"""In a smaller cluster the leader's own change of address is left alone."""


def raft_stats(log: Log) -> RaftStats:
    """Return what ``Status.RaftStats`` answers for this server."""
    stats = log.stats()
    return RaftStats(
        last_contact=stats.get("last_contact", ""),
        last_term=int(stats.get("last_log_term", "0")),
        last_index=int(stats.get("last_log_index", "0")),
    )


class Autopilot:
    """Runs while this server leads; two timers."""

    def __init__(
        self,
        server: Server,
        pool: Pool,
        remote: Remote | None,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._server = server
        self.pool = pool
        self.remote = remote
        self.wan: Pool | None = None
        self.changes = RaftChanges(server)
        self._clock_ns = clock_ns
        self._timers: dict[str, TimerHandle] = {}
        self._newcomers: set[str] = set()
        """Servers that were asked who leads them."""
        self._term = 0
        """Counts starts and stops: answers to what was asked before are void."""
        self._started_s = 0.0
        self._round = 0
        self._stats: dict[str, RaftStats] = {}
        self._health = AutopilotHealth()

    # -- what it is told

    def start(self) -> None:
        """This server leads now."""
        self.stop()
        self._started_s = self._server.now()
        self._seed()
        self._ask_all()
        self._again("cleanup", CLEANUP_S, self._clean_up)

    def stop(self) -> None:
        """Another server leads, or this one stops."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.changes.stop()
        self._newcomers.clear()
        self._term += 1
        self._round += 1
        self._stats.clear()
        self._health = AutopilotHealth()

    @property
    def config(self) -> AutopilotConfig:
        """The settings in force."""
        stored = self._server.state.get_autopilot_config()
        return self._server.options.autopilot if stored is None else stored

    def health(self) -> AutopilotHealth:
        """Return what the last round found; no servers before the first."""
        return self._health

    def servers(self) -> dict[str, ServerMember]:
        """Return the servers that gossip knows, by id."""
        datacenter = self._server.options.datacenter
        found = (server_of(m, datacenter) for m in self.pool.members())
        return rules.by_id([info for info in found if info is not None])

    def add_server(self, server: ServerMember) -> None:
        """A server is alive: see that it is a Raft peer at its address."""
        if self._added(server):
            # A newcomer may be the replacement of a dead one.
            self._again("cleanup", NEWCOMER_S, self._clean_up)

    def _added(self, server: ServerMember) -> bool:
        """Say whether a change was asked for."""
        configuration = self._server.log.configuration
        if not server.id or not configuration.servers:
            return False
        if (
            server.id == self._server.options.node_id
            and len(configuration.servers) < _FEW
        ):
            return False
        known = configuration.get(server.id)
        duplicate = rules.duplicate_of(configuration, server)
        if duplicate is not None:
            if not rules.may_replace(configuration, duplicate):
                _log.error(
                    "Preventing server addition that would require removal of too "
                    "many servers and cause cluster instability: id=%s address=%s",
                    server.id,
                    server.address,
                )
                return False
        elif known is not None and known.address == server.address:
            return False
        if known is None and self.remote is not None:
            self._ask_newcomer(server, self.remote)
        else:
            self._add(server)
        return True

    def _ask_newcomer(self, server: ServerMember, remote: Remote) -> None:
        """Add a server unless another leads it, and with it a cluster of its own.

        One that was started with ``-bootstrap`` by mistake has a log whose
        entries look like ours: two leaders would have the same followers.
        """
        if server.id in self._newcomers:
            return
        try:
            reply = remote.call(
                server.address,
                "Status.Leader",
                EmptyRequest(),
                timeout_s=STATS_TIMEOUT_S,
            )
        except ConsulError as error:
            _log.warning('failed to ask server: id=%s error="%s"', server.id, error)
            return
        self._newcomers.add(server.id)
        reply.add_done_callback(partial(self._newcomer_answered, self._term, server))

    def _newcomer_answered(
        self, term: int, server: ServerMember, done: Future[Reply]
    ) -> None:
        if term != self._term:
            return  # the leader that asked is none any more
        self._newcomers.discard(server.id)
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            # Looked at again with the next pass.
            _log.warning('failed to ask server: id=%s error="%s"', server.id, error)
            return
        led_by: str = done.result().value
        if rules.is_foreign(self._server.log.configuration, server, led_by):
            _log.error(
                "Server belongs to another cluster, not adding Raft peer. Stop it, "
                "empty its data_dir and start it without -bootstrap: "
                "name=%s address=%s leader=%s",
                server.name,
                server.address,
                led_by,
            )
            return
        self._add(server)

    def _add(self, server: ServerMember) -> None:
        configuration = self._server.log.configuration
        duplicate = rules.duplicate_of(configuration, server)
        if duplicate is not None:
            _log.info(
                "removed server with duplicate address: address=%s", server.address
            )
            self._drop(duplicate.id)
        self.changes.add(
            f"add {server.id} {server.address}",
            partial(_with_newcomer, server=server),
        )

    def remove_server(self, server_id: str) -> None:
        """A server has left: it is no Raft peer any more."""
        own = server_id == self._server.options.node_id
        if not own and self._server.log.configuration.get(server_id) is not None:
            self._drop(server_id)

    def _drop(self, server_id: str) -> None:
        self.changes.add(f"remove {server_id}", lambda c: c.without(server_id))

    # -- settings

    def _seed(self) -> None:
        """Write the first settings of the cluster, from the agent's own."""
        if self._server.state.get_autopilot_config() is None:
            request = AutopilotSetConfigRequest(
                datacenter=self._server.options.datacenter,
                config=self._server.options.autopilot,
            )
            command = commands.encode_autopilot(request)
            self._server.log.propose(command).add_done_callback(self._seeded)

    def _seeded(self, done: Future[object]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            _log.error('failed to initialize config: error="%s"', error)

    # -- health

    def _again(self, name: str, delay_s: float, run: Callable[[], None]) -> None:
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(delay_s, run)

    def _ask_all(self) -> None:
        """Ask all other peers, and judge when the last has answered."""
        self._again("health", HEALTH_S, self._ask_all)
        self._round += 1
        members = self.servers()
        own = self._server.options.node_id
        asked: list[tuple[str, Future[Reply]]] = []
        for peer in self._server.log.configuration.servers:
            member = members.get(peer.id)
            if peer.id == own or member is None or member.status != Status.ALIVE:
                self._stats.pop(peer.id, None)
                continue
            reply = self._ask(peer)
            if reply is None:
                self._stats.pop(peer.id, None)
            else:
                asked.append((peer.id, reply))
        left = {server_id for server_id, _ in asked}
        if not left:
            self._judge()
            return
        for server_id, reply in asked:
            reply.add_done_callback(
                partial(self._answered, self._round, server_id, left)
            )

    def _ask(self, peer: Peer) -> Future[Reply] | None:
        if self.remote is None:
            return None
        try:
            return self.remote.call(
                peer.address,
                "Status.RaftStats",
                EmptyRequest(),
                timeout_s=STATS_TIMEOUT_S,
            )
        except ConsulError as error:
            _log.warning('failed to get stats: id=%s error="%s"', peer.id, error)
            return None

    def _answered(
        self, at: int, server_id: str, left: set[str], done: Future[Reply]
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if at != self._round:
            return  # too late: this round is over
        if error is not None or done.cancelled():
            _log.warning('failed to get stats: id=%s error="%s"', server_id, error)
            self._stats.pop(server_id, None)
        else:
            self._stats[server_id] = done.result().value
        left.discard(server_id)
        if not left:
            self._judge()

    def _judge(self) -> None:
        log, members = self._server.log, self.servers()
        mine, now_ns = raft_stats(log), self._clock_ns()
        before = {server.id: server for server in self._health.servers}
        servers = [
            self._view(peer, members.get(peer.id), mine, before.get(peer.id), now_ns)
            for peer in log.configuration.servers
        ]
        self._health = AutopilotHealth(
            healthy=bool(servers) and all(server.healthy for server in servers),
            failure_tolerance=rules.failure_tolerance(servers),
            servers=servers,
        )
        self._promote(members, now_ns)

    def _view(
        self,
        peer: Peer,
        member: ServerMember | None,
        mine: RaftStats,
        before: ServerHealth | None,
        now_ns: int,
    ) -> ServerHealth:
        own = peer.id == self._server.options.node_id
        stats = mine if own else self._stats.get(peer.id)
        status = Status.NONE if member is None else member.status
        heartbeat_ns = int(self._server.options.heartbeat_s * 1e9)
        healthy = rules.is_healthy(
            self.config, status, stats, mine, heartbeat_ns=heartbeat_ns
        )
        since = now_ns
        if before is not None and before.healthy == healthy:
            since = before.stable_since
        seen = RaftStats(last_contact="never") if stats is None else stats
        return ServerHealth(
            id=peer.id,
            name="" if member is None else member.name,
            address=peer.address,
            serf_status=int(status),
            version="" if member is None else member.version,
            leader=own,
            last_contact=rules.contact_ns(seen.last_contact),
            last_term=seen.last_term,
            last_index=seen.last_index,
            healthy=healthy,
            voter=peer.suffrage == VOTER,
            stable_since=since,
        )

    def _promote(self, members: dict[str, ServerMember], now_ns: int) -> None:
        stable_ns = self.config.server_stabilization_time
        if (self._server.now() - self._started_s) * 1e9 < stable_ns:
            stable_ns = 0  # a forming cluster need not wait
        replicas = frozenset(s.id for s in members.values() if s.read_replica)
        for server_id in rules.promotions(
            self._health.servers, replicas, now_ns, stable_ns
        ):
            _log.info("Promoting server: id=%s", server_id)
            self.changes.add(
                f"promote {server_id}", partial(_promoted, server_id=server_id)
            )

    # -- dead servers

    def _clean_up(self) -> None:
        self._again("cleanup", CLEANUP_S, self._clean_up)
        members = self.servers()
        for member in members.values():
            if member.status == Status.ALIVE:
                self._retry(member)
        config = self.config
        if not config.cleanup_dead_servers:
            return
        found = rules.removals(
            self._server.log.configuration,
            members,
            self._server.options.node_id,
            config.min_quorum,
        )
        for server_id, why in found.refused:
            _log.debug("will not remove server as %s: id=%s", why, server_id)
        for server_id in found.stale:
            _log.info("removing server that has no member: id=%s", server_id)
            self._drop(server_id)
        for name in found.failed:
            _log.info("Attempting removal of failed server node: name=%s", name)
            self._force_leave(self.pool, name)
            if self.wan is not None:
                datacenter = self._server.options.datacenter
                self._force_leave(self.wan, f"{name}.{datacenter}")

    def _force_leave(self, pool: Pool, name: str) -> None:
        try:
            pool.force_leave(name)
        except ConsulError as error:
            _log.error('failed to remove server: name=%s error="%s"', name, error)

    def _retry(self, member: ServerMember) -> None:
        """Add a server whose addition has failed."""
        if self._server.log.configuration.get(member.id) is None:
            self._added(member)


def _with_newcomer(configuration: Configuration, server: ServerMember) -> Configuration:
    return rules.with_newcomer(configuration, server)


def _promoted(configuration: Configuration, server_id: str) -> Configuration:
    return rules.promoted(configuration, server_id)
