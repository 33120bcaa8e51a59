"""The ``telemetry`` section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pyconsul.agent.metrics.registry import INTERVAL_S, Filter
from pyconsul.types.durations import SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """Where metrics go and how they are named; addresses are ``host:port``."""

    prefix: str = "consul"
    disable_hostname: bool = False
    filter_default: bool = True
    prefix_filter: tuple[str, ...] = ()
    statsd_address: str = ""
    statsite_address: str = ""
    dogstatsd_address: str = ""
    dogstatsd_tags: tuple[str, ...] = ()
    host_metrics: bool = False
    retention_intervals: int = 0
    """Intervals a series is shown to Prometheus without news; 0: not at all."""

    def name_filter(self) -> tuple[Filter, list[str]]:
        """Return the filter, and what is wrong with its rules."""
        allowed: list[str] = []
        blocked: list[str] = []
        problems: list[str] = []
        for rule in self.prefix_filter:
            if not rule:
                problems.append("Cannot have empty filter rule in prefix_filter")
            elif rule[0] == "+":
                allowed.append(rule[1:])
            elif rule[0] == "-":
                blocked.append(rule[1:])
            else:
                problems.append(
                    f"Filter rule must begin with either '+' or '-': \"{rule}\""
                )
        return Filter(allowed, blocked, self.filter_default), problems


def telemetry_settings(raw: Mapping[str, Any], retention: int) -> TelemetrySettings:
    """Build the settings of the merged keys; ``retention`` in nanoseconds."""
    given = cast("Mapping[str, Any]", raw.get("telemetry") or {})

    def texts(name: str) -> tuple[str, ...]:
        return tuple(str(one) for one in given.get(name) or ())

    return TelemetrySettings(
        prefix=str(given.get("metrics_prefix", "consul")),
        disable_hostname=bool(given.get("disable_hostname", False)),
        filter_default=bool(given.get("filter_default", True)),
        prefix_filter=texts("prefix_filter"),
        statsd_address=str(given.get("statsd_address", "")),
        statsite_address=str(given.get("statsite_address", "")),
        dogstatsd_address=str(given.get("dogstatsd_addr", "")),
        dogstatsd_tags=texts("dogstatsd_tags"),
        host_metrics=bool(given.get("enable_host_metrics", False)),
        retention_intervals=-(-retention // (INTERVAL_S * SECOND)),
    )
