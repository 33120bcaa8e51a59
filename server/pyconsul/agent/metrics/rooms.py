"""What the rooms of an agent tell about themselves, once an interval.

The one place that knows both the rooms and the registry: ``Rooms`` adds the
collectors and the few callbacks to a ``Telemetry``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pyconsul.agent.metrics.calls import MeteredCaller
from pyconsul.agent.metrics.gauges import (
    MemberCounts,
    RaftGauges,
    member_gauges,
    pool_gauges,
)
from pyconsul.agent.metrics.registry import Metrics, Series
from pyconsul.agent.metrics.telemetry import Telemetry, limit
from pyconsul.dns.server import PENDING_MAX, TCP_CONNECTIONS_MAX, DnsServer
from pyconsul.gossip.messages import STREAMS_MAX
from pyconsul.http.routing import Request, Route
from pyconsul.http.server import HttpServer
from pyconsul.serf.member import MemberEvent, Status, UserEvent
from pyconsul.types.messages import Caller

if TYPE_CHECKING:
    from pyconsul.agent.client_side import ClientSide
    from pyconsul.agent.pools import Pools
    from pyconsul.agent.server_side import ServerSide

ROUTES_MAX = 512
"""Kinds of request that are told apart; further ones are counted together."""


class Rooms:
    """Adds to ``telemetry`` what each room has to tell."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._metrics = telemetry.metrics
        self._members = MemberCounts(telemetry.metrics)

    def metered(self, caller: Caller, name: str) -> Caller:
        """Return a caller that counts what goes through it as ``name``."""
        return MeteredCaller(caller, self._metrics, name, time.perf_counter)

    def add_pools(self, pools: Pools) -> None:
        """Add the gossip pools."""
        collectors = self._telemetry.collectors
        collectors.append(pool_gauges("lan", pools.lan, STREAMS_MAX))
        if pools.wan is not None:
            collectors.append(pool_gauges("wan", pools.wan, STREAMS_MAX))

        def tags() -> list[Mapping[str, str]]:
            members = pools.lan.members()
            return [one.tags for one in members if one.status is Status.ALIVE]

        collectors.append(member_gauges(tags))

    def on_lan(self, event: MemberEvent | UserEvent) -> None:
        """Take an event of the LAN pool."""
        self._members(event)

    def add_server(self, side: ServerSide) -> None:
        """Add Raft, the state, sessions, waiting queries and the RPC port."""
        driver, server = side.driver, side.server
        self._telemetry.collectors.append(
            RaftGauges(driver.stats, lambda: driver.is_leader, driver.last_contact_ms)
        )
        driver.on_leader_change.append(RaftGauges.on_leader_change(self._metrics))
        driver.waiting.on_commit = self._metrics.samples("raft.commitTime").add
        service = side.rpc_server.service
        service.caller = self.metered(service.caller, "rpc.request")

        def collect(metrics: Metrics) -> None:
            gauge = metrics.gauge
            for name, count in side.state.usage().items():
                gauge(f"state.{name}", count)
            gauge("session_ttl.active", len(server.session_timers))
            gauge("rpc.queries_blocking", server.blocking.waiters)
            gauge("rpc.query_groups", len(server.blocking))
            gauge("rpc.calls_waiting", service.running)
            gauge("rpc.connections", side.rpc_server.connections)
            limit(
                metrics,
                "rpc_conns_per_client",
                side.rpc_server.most_connections,
                side.rpc_server.limits.max_conns_per_client,
            )
            if driver.is_leader:
                health = server.cluster.autopilot.health()
                gauge("autopilot.healthy", int(health.healthy))
                gauge("autopilot.failure_tolerance", health.failure_tolerance)

        self._telemetry.collectors.append(collect)

    def add_client(self, side: ClientSide) -> None:
        """Add what a client agent knows of servers."""

        def collect(metrics: Metrics) -> None:
            metrics.gauge("client.known_servers", side.known_servers())

        self._telemetry.collectors.append(collect)

    def add_http(self, http: HttpServer) -> None:
        """Add times of requests, connections and kept answers."""
        http.measure = RequestTimes(self._metrics)
        hot = http.face.hot

        def collect(metrics: Metrics) -> None:
            hot.tell()
            metrics.gauge("http.connections", http.connections)
            metrics.gauge("http.kept_answers", len(hot.answers))
            most = http.face.options.max_conns_per_client
            limit(metrics, "http_conns_per_client", http.most_connections, most)
            limit(metrics, "http_kept_answer_bytes", hot.kept_bytes, hot.max_bytes)

        self._telemetry.collectors.append(collect)

    def add_dns(self, dns: DnsServer, node: str) -> None:
        """Add times of questions (milliseconds), what is under way and kept."""
        labels = (("node", node),)
        names = self._metrics.samples("dns.domain_query", labels)
        reverse = self._metrics.samples("dns.ptr_query", labels)

        def measure(count: int, milliseconds: float, is_reverse: bool) -> None:
            (reverse if is_reverse else names).add_many(count, milliseconds)

        dns.measure = measure

        def collect(metrics: Metrics) -> None:
            metrics.gauge("dns.kept_answers", len(dns.hot))
            limit(metrics, "dns_pending", dns.pending, PENDING_MAX)
            limit(metrics, "dns_tcp", dns.tcp_connections, TCP_CONNECTIONS_MAX)

        self._telemetry.collectors.append(collect)


class RequestTimes:
    """Times of HTTP requests by method and route (``api.http``), milliseconds."""

    def __init__(
        self, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._series: dict[tuple[str, Route | None], Series] = {}

    def __call__(self, request: Request, began: float) -> None:
        """Take a request that is answered now; ``began`` on the same clock."""
        self.tally(request).add((self._clock() - began) * 1000)

    def tally(self, request: Request) -> Series:
        """Return what counts requests of this method and route."""
        key = (request.method, request.route)
        series = self._series.get(key)
        return self._new(key, request) if series is None else series

    def _new(self, key: tuple[str, Route | None], request: Request) -> Series:
        method = request.method if len(request.method) <= 16 else "other"
        path = "unknown"
        if request.route is not None and len(self._series) < ROUTES_MAX:
            path = request.path
            if request.argument and path.endswith(request.argument):
                path = path.removesuffix(request.argument)
            path = path.strip("/").replace("/", "_") + ("_" if path[-1:] == "/" else "")
        labels = (("method", method), ("path", path))
        series = self._metrics.samples("api.http", labels)
        if len(self._series) < ROUTES_MAX:
            self._series[key] = series
        return series
