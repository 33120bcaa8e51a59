"""Intervals as the JSON of ``/v1/agent/metrics``, and as Prometheus' text."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from pyconsul.agent.metrics.registry import (
    INTERVAL_S,
    Frozen,
    Interval,
    Key,
    Labels,
)

QUANTILES = (0.5, 0.9, 0.99)


def json_view(interval: Interval) -> dict[str, Any]:
    """Return the answer of ``/v1/agent/metrics``."""
    when = time.gmtime(interval.number * INTERVAL_S)
    return {
        "Timestamp": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", when),
        "Gauges": [
            {"Name": key[0], "Value": value, "Labels": dict(key[1])}
            for key, value in interval.gauges
        ],
        "Points": [],
        "Counters": [_aggregate(one) for one in interval.counters],
        "Samples": [_aggregate(one) for one in interval.samples],
    }


def _aggregate(one: Frozen) -> dict[str, Any]:
    spread = 0.0
    if one.count > 1:
        top = one.count * one.squares - one.total * one.total
        spread = math.sqrt(max(top, 0.0) / (one.count * (one.count - 1)))
    return {
        "Name": one.key[0],
        "Count": one.count,
        "Rate": one.total / INTERVAL_S,
        "Sum": one.total,
        "Min": one.low,
        "Max": one.high,
        "Mean": one.total / one.count,
        "Stddev": spread,
        "Labels": dict(one.key[1]),
    }


def prometheus_text(
    gauges: Iterable[tuple[Key, float]],
    counters: Iterable[tuple[Key, float]],
    samples: Iterable[tuple[Key, int, float]],
    recent: Iterable[Frozen],
) -> str:
    """Return the text exposition.

    Counters and sums are of all time; ``recent`` are the measurements the
    quantiles are of, ``NaN`` without any, as Prometheus' own summaries show.
    """
    lines: list[str] = []
    named = ""

    def head(name: str, kind: str) -> None:
        nonlocal named
        if name != named:
            lines.append(f"# HELP {name} {name}")
            lines.append(f"# TYPE {name} {kind}")
            named = name

    for key, value in gauges:
        name = flat(key[0])
        head(name, "gauge")
        lines.append(f"{name}{_labels(key[1])} {number(value)}")
    for key, value in counters:
        name = flat(key[0])
        head(name, "counter")
        lines.append(f"{name}{_labels(key[1])} {number(value)}")
    kept: dict[Key, list[float]] = {}
    for one in recent:
        kept.setdefault(one.key, []).extend(one.kept)
    for key, count, total in samples:
        name = flat(key[0])
        head(name, "summary")
        values = sorted(kept.get(key, ()))
        for share in QUANTILES:
            labels = (*key[1], ("quantile", str(share)))
            value = quantile(values, share)
            lines.append(f"{name}{_labels(labels)} {number(value)}")
        lines.append(f"{name}_sum{_labels(key[1])} {number(total)}")
        lines.append(f"{name}_count{_labels(key[1])} {count}")
    return "\n".join(lines) + "\n"


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def number(value: float) -> str:
    """Return a number in full, integers without a point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def flat(name: str) -> str:
    """Return a name as Prometheus allows it."""
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter == ":") else "_"
        for letter in name
    )


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    shown = ",".join(f'{flat(name)}="{_quoted(value)}"' for name, value in labels)
    return "{" + shown + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
