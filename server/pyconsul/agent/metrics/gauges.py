"""What is asked once an interval: the process, Raft, pools, checks, limits."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from pyconsul.agent.metrics.registry import Metrics
from pyconsul.agent.metrics.telemetry import Collector, limit
from pyconsul.serf.member import MemberEvent, UserEvent


class PoolView(Protocol):
    """What a gossip pool tells."""

    @property
    def incoming_streams(self) -> int:
        """Exchanges of others that are being served."""
        ...

    def stats(self) -> Mapping[str, str]:
        """Numbers of the pool, as text."""
        ...


class Process:
    """Memory, processor, collector and event loop of this process."""

    def __init__(self, metrics: Metrics) -> None:
        self._pauses = metrics.samples("runtime.gc_pause_ns")
        self._lag = metrics.samples("runtime.loop_lag")
        self._started = 0
        self._callback = self._collected
        gc.callbacks.append(self._callback)

    def close(self) -> None:
        """Watch the collector no longer."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter_ns()
        elif self._started:
            self._pauses.add(time.perf_counter_ns() - self._started)

    def __call__(self, metrics: Metrics) -> None:
        """Set the gauges; measures how late the loop's next turn is."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        gauge = metrics.gauge
        gauge("runtime.alloc_bytes", resident_bytes())
        gauge("runtime.sys_bytes", usage.ru_maxrss * 1024)
        gauge("runtime.cpu_seconds", usage.ru_utime + usage.ru_stime)
        collections = [row["collections"] for row in gc.get_stats()]
        gauge("runtime.total_gc_runs", sum(collections))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        gauge("runtime.num_goroutines", len(asyncio.all_tasks(loop)))
        asked = time.perf_counter()
        loop.call_soon(lambda: self._lag.add((time.perf_counter() - asked) * 1000))
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit(metrics, "open_files", _open_files(), max(most, 0))


def resident_bytes() -> int:
    """Return the memory this process has at present."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def pool_gauges(name: str, pool: PoolView, streams_max: int) -> Collector:
    """Return the gauges of a gossip pool (``lan`` or ``wan``)."""
    labels = (("network", name),)

    def collect(metrics: Metrics) -> None:
        stats = pool.stats()

        def value(key: str) -> float:
            return float(stats.get(key, 0))

        metrics.gauge("memberlist.health.score", value("health_score"), labels)
        for state in ("members", "failed", "left"):
            metrics.gauge(f"serf.{state}", value(state), labels)
        for queue, shown in (("event", "Event"), ("intent", "Intent")):
            depth = metrics.samples(f"serf.queue.{shown}", labels)
            depth.add(value(f"{queue}_queue"))
        metrics.samples("serf.queue.Query", labels).add(value("query_queue"))
        limit(metrics, f"gossip_{name}_streams", pool.incoming_streams, streams_max)

    return collect


class MemberCounts:
    """Counts what happens to members and events of the LAN pool."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._events = metrics.counter("serf.events")

    def __call__(self, event: MemberEvent | UserEvent) -> None:
        """Take an event of the pool."""
        if isinstance(event, UserEvent):
            self._events.add()
            return
        name = "left" if event.kind == "leave" else event.kind
        series = self._metrics.counter(f"serf.member.{name}")
        series.add(len(event.members))


class RaftGauges:
    """Raft's place and progress, from the numbers ``consul info`` shows."""

    def __init__(
        self,
        stats: Callable[[], Mapping[str, str]],
        is_leader: Callable[[], bool],
        contact_ms: Callable[[], int],
    ) -> None:
        self._stats = stats
        self._is_leader = is_leader
        self._contact_ms = contact_ms
        self._applied = -1

    def __call__(self, metrics: Metrics) -> None:
        """Set the gauges; entries applied since the last time are counted."""
        leads = self._is_leader()
        metrics.gauge("server.isLeader", int(leads))
        stats = self._stats()

        def value(key: str) -> float:
            text = stats.get(key, "")
            return float(text) if text.isdigit() else 0.0

        for name in ("applied_index", "commit_index", "last_log_index", "term"):
            metrics.gauge(f"raft.{name}", value(name))
        metrics.gauge("raft.last_index", value("last_log_index"))
        metrics.gauge("raft.fsm.pending", value("fsm_pending"))
        metrics.gauge("raft.peers", value("num_peers") + 1)
        applied = int(value("applied_index"))
        if 0 <= self._applied < applied:
            metrics.counter("raft.apply").add(applied - self._applied)
        self._applied = applied
        if not leads:
            metrics.samples("raft.follower.lastContact").add(self._contact_ms())

    @staticmethod
    def on_leader_change(metrics: Metrics) -> Callable[[bool], None]:
        """Return what counts gained and lost leadership."""
        gained = metrics.counter("raft.state.leader")
        lost = metrics.counter("raft.state.follower")
        return lambda leads: (gained if leads else lost).add()


def member_gauges(members: Callable[[], list[Mapping[str, str]]]) -> Collector:
    """Return the counts of servers and clients, of the members' alive tags."""

    def collect(metrics: Metrics) -> None:
        tags = members()
        servers = sum(one.get("role") == "consul" for one in tags)
        metrics.gauge("members.servers", servers)
        metrics.gauge("members.clients", len(tags) - servers)

    return collect
