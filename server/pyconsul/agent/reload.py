"""What a reload takes from a fresh configuration, and what needs a restart."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from pyconsul.agent.client_side import ClientSide
from pyconsul.agent.faces import dns_options
from pyconsul.agent.info import FullAgent
from pyconsul.agent.logs import LogOutput
from pyconsul.agent.metrics.settings import telemetry_settings
from pyconsul.agent.server_side import ServerSide, request_limits
from pyconsul.agent.watch_plans import read_watches
from pyconsul.agent.watches import Watches
from pyconsul.config.model import AgentConfig, Limits
from pyconsul.dns.server import DnsServer
from pyconsul.http.server import HttpServer
from pyconsul.types.durations import SECOND

log = logging.getLogger("agent")
TAKEN = frozenset(
    {
        "acl_tokens",
        "auto_reload_config",
        "cache",
        "checks",
        "config_sources",
        "discard_check_output",
        "discovery_max_stale",
        "dns",
        "limits",
        "log_level",
        "node_meta",
        "raft_snapshot_interval",
        "raft_snapshot_threshold",
        "raft_trailing_logs",
        "recursors",
        "services",
        "warnings",
        "watches",
    }
)
"""Fields of ``AgentConfig`` that a reload takes as they are."""
TAKEN_LIMITS = frozenset(
    {
        "http_max_conns_per_client",
        "rpc_client_timeout",
        "rpc_max_burst",
        "rpc_max_conns_per_client",
        "rpc_rate",
        "request_limits_mode",
        "request_limits_read_rate",
        "request_limits_write_rate",
    }
)
_TAKEN_RAW = frozenset({"config_entries", "telemetry", "watches"})
_SHOWN = {"dns": "dns_config", "http": "http_config", "acl_tokens": "acl.tokens"}
_MADE = frozenset({"raw", "prometheus_retention", "node_id", "dev_mode"})


def reloaded(old: AgentConfig, fresh: AgentConfig) -> AgentConfig:
    """Return ``old`` with what may change taken from ``fresh``."""
    limits = {name: getattr(fresh.limits, name) for name in TAKEN_LIMITS}
    changes = {name: getattr(fresh, name) for name in TAKEN - {"limits"}}
    raw = {key: value for key, value in old.raw.items() if key not in _TAKEN_RAW}
    raw |= {key: value for key, value in fresh.raw.items() if key in _TAKEN_RAW}
    return replace(old, **changes, limits=replace(old.limits, **limits), raw=raw)


def needs_restart(old: AgentConfig, fresh: AgentConfig) -> list[str]:
    """Return the keys that differ but are read at the start only, sorted."""
    found: list[str] = []
    for one in fields(AgentConfig):
        name = one.name
        if name in _MADE or (name in TAKEN and name != "limits"):
            continue
        before, now = getattr(old, name), getattr(fresh, name)
        if before != now:
            found += _differing(name, before, now)
    seen = {one.name for one in fields(AgentConfig)}
    sections = {"limits", "dns_config", "http_config", "acl", "service", "check"}
    for key in old.raw.keys() | fresh.raw.keys():
        if key in seen or key in sections or key in _TAKEN_RAW or key in found:
            continue
        if old.raw.get(key) != fresh.raw.get(key):
            found.append(key)
    return sorted(set(found))


def _differing(name: str, before: Any, now: Any) -> list[str]:
    shown = _SHOWN.get(name, name)
    if not is_dataclass(before):
        return [shown]
    skip = TAKEN_LIMITS if isinstance(before, Limits) else frozenset[str]()
    return [
        f"{shown}.{part.name}"
        for part in fields(before)
        if part.name not in skip
        and getattr(before, part.name) != getattr(now, part.name)
    ]


@dataclass(slots=True, kw_only=True)
class Reloader:
    """The running parts that take new settings."""

    agent: FullAgent
    output: LogOutput
    watches: Watches
    http: HttpServer | None = None
    dns: list[DnsServer] = field(default_factory=list[DnsServer])
    server: ServerSide | None = None
    client: ClientSide | None = None

    def reload(self, old: AgentConfig, fresh: AgentConfig) -> AgentConfig:
        """Take a fresh configuration and return what holds now.

        Raises ``ConsulError`` with everything as it was.
        """
        said: list[str] = []
        plans = read_watches(fresh.watches, said)
        config = reloaded(old, fresh)
        # The one step that can fail comes first, and repairs itself.
        self.agent.reconfigure(config)
        for text in (*fresh.warnings, *said):
            log.warning("%s", text)
        later = needs_restart(old, fresh)
        if later:
            log.warning(
                "Changed settings that take effect at the next start only: keys=%s",
                ",".join(later),
            )
        self.output.set_level(config.log_level)
        self.watches.configure(plans)
        self._faces(config)
        self._calls(config)
        self.agent.telemetry.use_filter(
            telemetry_settings(config.raw, config.prometheus_retention)
        )
        self.agent.sync.trigger()
        return config

    def _faces(self, config: AgentConfig) -> None:
        if self.http is not None:
            face = self.http.face
            face.options = replace(
                face.options,
                max_conns_per_client=config.limits.http_max_conns_per_client,
                discovery_max_stale=config.discovery_max_stale,
            )
            cache = config.cache
            face.recent.limit(cache.entry_fetch_rate, cache.entry_fetch_max_burst)
            face.forget()
        for server in self.dns:
            server.reconfigure(dns_options(config))

    def _calls(self, config: AgentConfig) -> None:
        limits = config.limits
        if self.client is not None:
            rate = limits.rpc_rate if limits.rpc_rate >= 0 else math.inf
            self.client.caller.reconfigure(rate=rate, burst=limits.rpc_max_burst)
            self.client.caller.times.answer_s = limits.rpc_client_timeout / SECOND
        if self.server is not None:
            self.server.reconfigure(
                max_conns_per_client=limits.rpc_max_conns_per_client,
                snapshot_threshold=config.raft_snapshot_threshold,
                snapshot_interval_s=config.raft_snapshot_interval / SECOND,
                trailing_logs=config.raft_trailing_logs,
                requests=request_limits(limits),
                answer_s=limits.rpc_client_timeout / SECOND,
            )
