"""The agent's measuring: asks for gauges, ends intervals, sends them on.

Everything that can be asked for is asked once an interval (``collectors``);
only what happens in between is counted where it happens. Intervals begin at
full ten seconds of Unix time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from pyconsul.agent.logs import Sink as Stream
from pyconsul.agent.metrics.exposition import json_view, prometheus_text
from pyconsul.agent.metrics.registry import (
    INTERVAL_S,
    NAMES_MAX,
    Interval,
    Metrics,
)
from pyconsul.agent.metrics.settings import TelemetrySettings
from pyconsul.agent.metrics.sinks import Sink, TcpSink, UdpSink, dogstatsd_line
from pyconsul.types.errors import os_reason

STREAMS_MAX = 64
"""Streams of metrics at a time; a further one ends at once."""

log = logging.getLogger("agent")

Collector = Callable[[Metrics], None]


class Telemetry:
    """Registry, collectors and sinks of one agent; ``clock`` gives Unix seconds."""

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        host: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        name_filter, problems = settings.name_filter()
        _warn(problems)
        if settings.disable_hostname:
            host = ""
        elif host is None:
            host = socket.gethostname()
        self.metrics = Metrics(settings.prefix, host, name_filter)
        self.collectors: list[Collector] = [self._own]
        self._clock = clock
        self._number = self._now()
        self._last: Interval | None = None
        self._sinks = _sinks(settings)
        self._sending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._streams: list[Stream] = []
        self._told: set[tuple[str, str]] = set()

    # -- life -----------------------------------------------------------------

    def start(self) -> None:
        """End intervals from now on; needs a running loop."""
        delay = INTERVAL_S - self._clock() % INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def stop(self) -> None:
        """Measure and send no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
        for sink in self._sinks:
            sink.close()
        for stream in list(self._streams):
            stream.close()

    def use_filter(self, settings: TelemetrySettings) -> None:
        """Take the rules of a configuration that was read again."""
        name_filter, problems = settings.name_filter()
        _warn(problems)
        self.metrics.set_filter(name_filter)

    def _due(self) -> None:
        self.start()
        self.tick()

    def tick(self) -> Interval:
        """End the interval, tell sinks and streams of it."""
        self._collect()
        ended = self._last = self.metrics.rotate(self._number)
        self._number = self._now()
        if self._streams:
            text = json.dumps(json_view(ended), indent=4).encode() + b"\n"
            for stream in list(self._streams):
                stream.write(text)
        if self._sinks and (self._sending is None or self._sending.done()):
            loop = asyncio.get_running_loop()
            self._sending = loop.create_task(self._send(ended), name="telemetry")
        return ended

    async def _send(self, interval: Interval) -> None:
        for sink in self._sinks:
            try:
                await sink.send(interval)
            except (OSError, TimeoutError) as error:
                # Said once for each reason: a sink may be away for days.
                text = os_reason(error) or type(error).__name__
                told = (sink.address, text)
                if told not in self._told and len(self._told) < INTERVAL_S:
                    self._told.add(told)
                    log.warning('failed to send metrics: address=%s error="%s"', *told)

    def _now(self) -> int:
        return int(self._clock()) // INTERVAL_S

    def _collect(self) -> None:
        for collect in self.collectors:
            try:
                collect(self.metrics)
            except Exception as error:
                # Measuring must never end what is measured.
                log.error("a gauge failed", exc_info=error)

    def _own(self, metrics: Metrics) -> None:
        limit(metrics, "metrics_series", len(metrics), NAMES_MAX)

    # -- what is shown --------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """Return the JSON of the last complete interval (the first: of now)."""
        shown = self._last
        if shown is None:
            self._collect()
            shown = self.metrics.look(self._number)
        return json_view(shown)

    def prometheus(self) -> str | None:
        """Return the text exposition, ``None`` while it is not enabled."""
        retention = self.settings.retention_intervals
        if retention <= 0:
            return None
        self._collect()
        now = self.metrics.look(self._number)
        counters, samples = self.metrics.totals(self._number - retention)
        recent = list(now.samples)
        if self._last is not None:
            recent += self._last.samples
        return prometheus_text(now.gauges, counters, samples, recent)

    def stream(self) -> Callable[[Stream], None]:
        """Return what sends every interval to a sink, from the next on."""

        def attach(sink: Stream) -> None:
            if len(self._streams) >= STREAMS_MAX:
                sink.close()
                return
            self._streams.append(sink)
            sink.on_close(lambda: self._streams.remove(sink))

        return attach


def limit(metrics: Metrics, name: str, used: float, most: float) -> None:
    """Say how much of a limit is used; ``most`` 0 means that there is none."""
    labels = (("limit", name),)
    metrics.gauge("limits.used", used, labels)
    metrics.gauge("limits.max", most, labels)


def _sinks(settings: TelemetrySettings) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.statsd_address:
        sinks.append(UdpSink(settings.statsd_address))
    if settings.dogstatsd_address:
        line = dogstatsd_line(settings.dogstatsd_tags)
        sinks.append(UdpSink(settings.dogstatsd_address, line))
    if settings.statsite_address:
        sinks.append(TcpSink(settings.statsite_address))
    return sinks


def _warn(problems: list[str]) -> None:
    for problem in problems:
        log.warning("%s", problem)
