"""The registry: names, filters, intervals, and the two forms it is shown in."""

from __future__ import annotations

import asyncio
import json
import math
from asyncio import Future
from collections.abc import Callable
from typing import Any

import pytest

from pyconsul.agent.metrics.calls import MeteredCaller
from pyconsul.agent.metrics.exposition import flat, json_view, number
from pyconsul.agent.metrics.registry import (
    INTERVAL_S,
    KEPT,
    NAMES_MAX,
    Filter,
    Metrics,
)
from pyconsul.agent.metrics.rooms import RequestTimes
from pyconsul.agent.metrics.settings import TelemetrySettings, telemetry_settings
from pyconsul.agent.metrics.telemetry import Telemetry
from pyconsul.http.routing import NO_QUERY, Request, Response, Routes
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply


class Clock:
    """Unix time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def telemetry(clock: Clock, **settings: Any) -> Telemetry:
    made = TelemetrySettings(**settings)
    return Telemetry(made, host="machine", clock=clock)


def shown(view: dict[str, Any], kind: str) -> dict[str, Any]:
    return {one["Name"]: one for one in view[kind]}


def test_only_gauges_have_the_host_name() -> None:
    metrics = Metrics("consul", "machine")
    metrics.gauge("raft.term", 3)
    metrics.counter("raft.apply").add(2)
    metrics.samples("kvs.apply").add(1.5)
    view = json_view(metrics.look(100))
    assert list(shown(view, "Gauges")) == ["consul.machine.raft.term"]
    assert list(shown(view, "Counters")) == ["consul.raft.apply"]
    assert list(shown(view, "Samples")) == ["consul.kvs.apply"]
    bare = Metrics("")
    bare.gauge("raft.term", 3)
    assert list(shown(json_view(bare.look(1)), "Gauges")) == ["raft.term"]


def test_an_interval_sums_up_its_measurements() -> None:
    metrics = Metrics()
    series = metrics.samples("kvs.apply", (("kind", "x"),))
    for value in (1.0, 2.0, 6.0):
        series.add(value)
    view = json_view(metrics.rotate(100_000_000))
    assert view["Timestamp"] == "2001-09-09 01:46:40 +0000 UTC"
    assert view["Points"] == []
    (sample,) = view["Samples"]
    assert sample == {
        "Name": "consul.kvs.apply",
        "Count": 3,
        "Rate": 0.9,
        "Sum": 9.0,
        "Min": 1.0,
        "Max": 6.0,
        "Mean": 3.0,
        "Stddev": pytest.approx(math.sqrt(7)),
        "Labels": {"kind": "x"},
    }
    assert json_view(metrics.look(100_000_001))["Samples"] == []


def test_the_longest_prefix_decides() -> None:
    rules = Filter(["consul.raft.apply"], ["consul.raft"])
    assert rules.allows("consul.raft.apply")
    assert not rules.allows("consul.raft.term")
    assert rules.allows("consul.serf.members")
    assert not Filter(default=False).allows("consul.x")
    assert not Filter(["consul"], ["consul"]).allows("consul.x")


def test_filters_hold_for_gauges_whatever_the_host_name() -> None:
    metrics = Metrics("consul", "machine", Filter(blocked=["consul.raft"]))
    metrics.gauge("raft.term", 3)
    metrics.counter("raft.apply").add()
    kept = metrics.counter("serf.events")
    kept.add()
    view = json_view(metrics.look(1))
    assert view["Gauges"] == []
    assert list(shown(view, "Counters")) == ["consul.serf.events"]
    metrics.set_filter(Filter(blocked=["consul.serf"]))
    view = json_view(metrics.look(1))
    assert list(shown(view, "Counters")) == ["consul.raft.apply"]


def test_series_are_bounded() -> None:
    metrics = Metrics()
    for at in range(NAMES_MAX + 5):
        metrics.counter(f"c{at}").add()
    assert len(metrics) == NAMES_MAX
    assert metrics.dropped == 5
    series = metrics.samples("s")
    for at in range(1000):
        series.add(at)
    assert len(series.kept) == KEPT
    assert series.count == 1000


def test_settings_of_the_configuration() -> None:
    raw = {
        "telemetry": {
            "metrics_prefix": "c",
            "disable_hostname": True,
            "statsd_address": "127.0.0.1:1",
            "dogstatsd_addr": "127.0.0.1:2",
            "dogstatsd_tags": ["a:b"],
            "prefix_filter": ["+c.a", "-c.b", "c.c", ""],
            "filter_default": False,
        }
    }
    settings = telemetry_settings(raw, 25 * SECOND)
    assert settings.prefix == "c"
    assert settings.retention_intervals == 3
    assert settings.dogstatsd_tags == ("a:b",)
    rules, problems = settings.name_filter()
    assert problems == [
        "Filter rule must begin with either '+' or '-': \"c.c\"",
        "Cannot have empty filter rule in prefix_filter",
    ]
    assert rules.allows("c.a.x")
    assert not rules.allows("c.d")
    assert telemetry_settings({}, 0) == TelemetrySettings()


def test_the_last_complete_interval_is_shown() -> None:
    clock = Clock()
    measured = telemetry(clock)
    measured.collectors.append(lambda metrics: metrics.gauge("raft.term", 7))
    counter = measured.metrics.counter("raft.apply")
    counter.add(3)
    # Before any interval is complete, what there is by now.
    assert shown(measured.view(), "Counters")["consul.raft.apply"]["Sum"] == 3
    clock.now += INTERVAL_S
    measured.tick()
    counter.add(5)
    view = measured.view()
    assert shown(view, "Counters")["consul.raft.apply"]["Sum"] == 3
    assert shown(view, "Gauges")["consul.machine.raft.term"]["Value"] == 7
    assert view["Timestamp"] == "2001-09-09 01:46:40 +0000 UTC"


def test_a_failing_gauge_spoils_no_others(caplog: pytest.LogCaptureFixture) -> None:
    measured = telemetry(Clock())

    def fail(metrics: Metrics) -> None:
        raise RuntimeError("no")

    measured.collectors.insert(0, fail)
    measured.collectors.append(lambda metrics: metrics.gauge("x", 1))
    assert "consul.machine.x" in shown(measured.view(), "Gauges")
    assert "a gauge failed" in caplog.text


def test_prometheus_counts_from_the_start_and_forgets_after_the_retention() -> None:
    clock = Clock()
    measured = telemetry(clock, retention_intervals=2)
    counter = measured.metrics.counter("raft.apply", (("why", 'a "b"\n'),))
    series = measured.metrics.samples("kvs.apply")
    for _ in range(3):
        counter.add(2)
        for value in range(1, 11):
            series.add(value)
        clock.now += INTERVAL_S
        measured.tick()
    text = measured.prometheus()
    assert text is not None
    assert "# TYPE consul_raft_apply counter\n" in text
    assert 'consul_raft_apply{why="a \\"b\\"\\n"} 6\n' in text
    assert "# TYPE consul_kvs_apply summary\n" in text
    assert 'consul_kvs_apply{quantile="0.5"} 6\n' in text
    assert 'consul_kvs_apply{quantile="0.99"} 10\n' in text
    assert "consul_kvs_apply_sum 165\n" in text
    assert "consul_kvs_apply_count 30\n" in text
    clock.now += INTERVAL_S
    measured.tick()
    text = measured.prometheus()
    assert text is not None
    assert 'consul_kvs_apply{quantile="0.5"} NaN\n' in text
    for _ in range(2):
        clock.now += INTERVAL_S
        measured.tick()
    assert "raft_apply" not in (measured.prometheus() or "")
    assert telemetry(clock).prometheus() is None


def test_numbers_and_names() -> None:
    assert number(123456789.0) == "123456789"
    assert number(0.25) == "0.25"
    assert number(math.inf) == "+Inf"
    assert flat("consul.my-host.é") == "consul_my_host__"


class Written:
    """A stream's other end."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True

    def on_close(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


def test_streams_get_every_interval() -> None:
    clock = Clock()
    measured = telemetry(clock)
    sink = Written()
    measured.stream()(sink)
    for _ in range(2):
        measured.metrics.counter("raft.apply").add()
        clock.now += INTERVAL_S
        measured.tick()
    decoder = json.JSONDecoder()
    text = sink.data.decode()
    first, end = decoder.raw_decode(text)
    assert shown(first, "Counters")["consul.raft.apply"]["Sum"] == 1
    assert text[end:].startswith("\n{\n")
    for callback in sink.callbacks:
        callback()
    length = len(sink.data)
    measured.tick()
    assert len(sink.data) == length


class _Inner:
    def __init__(self) -> None:
        self.waiting: Future[Reply] | None = None

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        if method == "Txn.Apply":
            raise ConsulError("no")
        if self.waiting is not None:
            return self.waiting
        return Reply(True, 1)


def test_calls_are_counted_and_writes_timed() -> None:
    async def run() -> dict[str, Any]:
        now = 0.0
        metrics = Metrics()
        inner = _Inner()
        caller = MeteredCaller(inner, metrics, "rpc.request", lambda: now)
        caller.call("KVS.Get", None)
        caller.call("KVS.Apply", None)
        inner.waiting = asyncio.get_running_loop().create_future()
        caller.call("KVS.Apply", None)
        now = 0.25
        inner.waiting.set_result(Reply(True, 2))
        await asyncio.sleep(0)
        with pytest.raises(ConsulError):
            caller.call("Txn.Apply", None)
        return json_view(metrics.look(1))

    view = asyncio.run(run())
    counters = shown(view, "Counters")
    assert counters["consul.rpc.request"]["Sum"] == 4
    assert counters["consul.rpc.request.failed"]["Sum"] == 1
    sample = shown(view, "Samples")["consul.kvs.apply"]
    assert (sample["Count"], sample["Max"]) == (2, 250.0)


def test_requests_are_told_apart_by_route_not_by_key() -> None:
    routes = Routes()
    routes.add("kv/", GET=lambda request: Response(200))
    metrics = Metrics()
    times = RequestTimes(metrics, lambda: 2.0)
    found = routes.find("/v1/kv/a/b")
    assert found is not None
    for key in ("a/b", "c"):
        request = Request(None, "GET", f"/v1/kv/{key}", NO_QUERY, {}, "")  # pyright: ignore[reportArgumentType]
        request.route, request.argument = found[0], key
        times(request, 1.5)
    (sample,) = json_view(metrics.look(1))["Samples"]
    assert sample["Name"] == "consul.api.http"
    assert sample["Labels"] == {"method": "GET", "path": "v1_kv_"}
    assert (sample["Count"], sample["Sum"]) == (2, 1000.0)
