"""Reloading and watches of a real agent: files change, the process goes on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _wait(right: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not right():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def _lines(path: Path) -> list[str]:
    """Return the lines that are complete."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_services_checks_and_meta_follow_the_files(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "agent.hcl"
    file.write_text(
        'node_meta { rack = "a" }\n'
        'service { name = "web" port = 80 check { id = "w" ttl = "1h" } }\n'
        'check { id = "disk" name = "disk" ttl = "1h" }\n'
    )
    agent = agents("-dev", f"-config-file={file}")
    agent.put("/v1/agent/service/register", {"Name": "api", "Port": 1})
    agent.put("/v1/agent/check/pass/w")
    file.write_text(
        'node_meta { rack = "b" }\nlog_level = "WARN"\nenable_debug = true\n'
        'service { name = "web" port = 81 check { id = "w" ttl = "2h" } }\n'
        'services { name = "db" }\n'
    )
    agent.put("/v1/agent/reload")
    services = agent.get("/v1/agent/services")
    assert sorted(services) == ["api", "db", "web"]
    assert services["web"]["Port"] == 81
    checks = agent.get("/v1/agent/checks")
    assert {key: check["Status"] for key, check in checks.items()} == {"w": "passing"}
    assert agent.get("/v1/agent/self")["Meta"]["rack"] == "b"
    assert agent.get("/v1/agent/self")["DebugConfig"]["Logging"]["LogLevel"] == "WARN"
    agent.eventually(
        "/v1/catalog/node/n1", lambda found: found["Node"]["Meta"].get("rack") == "b"
    )
    agent.eventually(
        "/v1/catalog/services",
        lambda found: sorted(found) == ["api", "consul", "db", "web"],
    )
    assert "keys=enable_debug" in agent.output()


def test_a_bad_file_changes_nothing(agents: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "agent.hcl"
    file.write_text('service { name = "web" port = 80 }\n')
    agent = agents("-dev", f"-config-file={file}")
    for body, text in (
        ("nope = 1\n", "invalid config key nope"),
        ('service { name = "" }\n', "Service name missing"),
        (
            'service { name = "web" check { id = "c" ttl = "1s" interval = "1s" } }',
            "Interval and TTL cannot both be specified",
        ),
        (
            'service { name = "x" }\ncheck { id = "c" ttl = "1s" service_id = "no" }',
            'ServiceID "no" does not exist',
        ),
        ('watches = [{ type = "key" key = "a" }]\n', "Must define a watch handler"),
    ):
        file.write_text(body)
        status, answer = agent.request("PUT", "/v1/agent/reload")
        assert status == 500
        assert text in answer
        assert list(agent.get("/v1/agent/services")) == ["web"]
        assert agent.get("/v1/agent/services")["web"]["Port"] == 80
        assert agent.get("/v1/agent/checks") == {}
        # Whoever reads the log later knows, too.
        assert text in agent.output().rpartition("Reload config failed: error=")[2]
    said = agent.output().count("Reload config failed")
    agent.process.send_signal(signal.SIGHUP)
    _wait(lambda: agent.output().count("Reload config failed") > said, agent.output)
    assert agent.get("/v1/status/leader")


def test_a_watch_fires_on_changed_content_only(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script = tmp_path / "handler.sh"
    script.write_text(f'printf "%s " "$CONSUL_INDEX" >> {seen}; cat >> {seen}\n')
    file = tmp_path / "agent.json"
    watch = {"type": "key", "key": "a", "args": ["/bin/sh", str(script)]}
    file.write_text(json.dumps({"watches": [watch]}))
    agent = agents("-dev", f"-config-file={file}")
    _wait(lambda: len(_lines(seen)) == 1, agent.output)
    assert _lines(seen)[0].endswith(" null")
    agent.put("/v1/kv/a", b"1")
    _wait(lambda: len(_lines(seen)) == 2, agent.output)
    assert json.loads(_lines(seen)[1].split(" ", 1)[1])["Value"] == "MQ=="
    # The same value again, other keys, and a reload are no news.
    agent.put("/v1/kv/a", b"1")
    agent.put("/v1/kv/b", b"1")
    agent.put("/v1/agent/reload")
    agent.put("/v1/kv/a", b"2")
    _wait(lambda: len(_lines(seen)) >= 3, agent.output)
    assert json.loads(_lines(seen)[2].split(" ", 1)[1])["Value"] == "Mg=="
    assert len(_lines(seen)) == 3
    # A watch that is gone from the files fires no more.
    file.write_text("{}")
    agent.put("/v1/agent/reload")
    agent.put("/v1/kv/a", b"3")
    time.sleep(0.3)
    assert len(_lines(seen)) == 3


def test_entries_of_files_are_written_where_none_is(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "agent.hcl"
    file.write_text(
        'config_entries { bootstrap { kind = "service-defaults" name = "web" '
        'protocol = "http" } bootstrap { kind = "service-router" name = "web" '
        'routes { match { http { path_prefix = "/a" } } } } }\n'
    )
    agent = agents("-dev", f"-config-file={file}")
    path = "/v1/config/service-defaults/web"
    _wait(lambda: agent.request("GET", path)[0] == 200, agent.output)
    assert agent.get(path)["Protocol"] == "http"
    path = "/v1/config/service-router/web"
    _wait(lambda: agent.request("GET", path)[0] == 200, agent.output)
    match = agent.get(path)["Routes"][0]["Match"]
    assert match["HTTP"]["PathPrefix"] == "/a"
    # What was written by hand stays.
    byhand = {"Kind": "service-defaults", "Name": "web", "Protocol": "http2"}
    agent.put("/v1/config", byhand)
    agent.put("/v1/agent/reload")
    time.sleep(0.2)
    assert agent.get("/v1/config/service-defaults/web")["Protocol"] == "http2"


def test_changed_files_are_reloaded_if_asked_for(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "agent.json"
    file.write_text("{}")
    agent = agents("-dev", f"-config-file={file}", "-auto-reload-config")
    file.write_text('{"service": {"name": "web"}}')
    agent.eventually("/v1/agent/services", lambda found: list(found) == ["web"])


def test_servers_are_found_by_a_provider(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    servers = tmp_path / "servers"
    servers.write_text("# nobody yet\n")
    first = agents("-dev", "-serf-lan-allowed-cidrs=127.0.0.0/8")
    second = agents(
        "-dev",
        f"-retry-join=provider=file path={servers}",
        "-retry-interval=100ms",
        node="n2",
    )
    _wait(lambda: "No servers to join" in second.output(), second.output)
    servers.write_text(f"127.0.0.1:{first.ports['serf_lan']}\n")
    _wait(lambda: len(second.get("/v1/agent/members")) == 2, second.output)


def test_other_networks_are_kept_out(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    first = agents("-dev", "-serf-lan-allowed-cidrs=10.0.0.0/8")
    second = agents("-dev", node="n2")
    status, text = second.request(
        "PUT", f"/v1/agent/join/127.0.0.1:{first.ports['serf_lan']}"
    )
    assert status == 500
    assert "Failed to join" in text
    assert len(first.get("/v1/agent/members")) == 1
