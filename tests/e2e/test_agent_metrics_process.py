"""What a real agent measures: JSON, Prometheus, a stream, datagrams, log files."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running_agent import RunningAgent

Agents = Callable[..., RunningAgent]


def test_an_agent_tells_what_it_did(agents: Agents, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(30)
        folder = tmp_path / "logs"
        config = tmp_path / "agent.json"
        telemetry = {
            "statsd_address": f"127.0.0.1:{statsd.getsockname()[1]}",
            "disable_hostname": True,
            "metrics_prefix": "pc",
            "prefix_filter": ["-pc.serf"],
            "prometheus_retention_time": "60s",
        }
        config.write_text(
            json.dumps({"telemetry": telemetry, "log_file": f"{folder}/"})
        )
        agent = agents("-dev", f"-config-file={config}")
        stream = http.client.HTTPConnection("127.0.0.1", agent.ports["http"])
        stream.request("GET", "/v1/agent/metrics/stream")
        for number in range(3):
            agent.put(f"/v1/kv/key{number}", b"value")
        status, text = agent.request("GET", "/v1/agent/metrics?format=prometheus")
        assert status == 200
        lines = dict(
            line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"
        )
        assert lines['pc_api_http_count{method="PUT",path="v1_kv_"}'] == "3"
        assert lines["pc_kvs_apply_count"] == "3"
        assert int(lines["pc_raft_commitTime_count"]) >= 3
        assert lines["pc_state_kv_entries"] == "3"
        assert lines["pc_server_isLeader"] == "1"
        assert lines['pc_limits_max{limit="http_conns_per_client"}'] == "200"
        assert "pc_serf" not in text
        sent = b""
        while b"pc.runtime.alloc_bytes:" not in sent:
            sent += statsd.recv(4096)
        # The interval that ended is now what is shown, and what is streamed.
        view = agent.get("/v1/agent/metrics")
        names = {one["Name"] for kind in ("Gauges", "Samples") for one in view[kind]}
        assert {"pc.runtime.alloc_bytes", "pc.session_ttl.active"} <= names
        assert view["Timestamp"].endswith(" +0000 UTC")
        answer = stream.getresponse()
        first = b""
        while not first.endswith(b"\n}\n"):
            first += answer.read1(65536)
        streamed: dict[str, Any] = json.loads(first)
        assert list(streamed) == [
            "Timestamp",
            "Gauges",
            "Points",
            "Counters",
            "Samples",
        ]
        stream.close()
        (log,) = folder.glob("consul-*.log")
        assert "Consul agent running!" in log.read_text()
