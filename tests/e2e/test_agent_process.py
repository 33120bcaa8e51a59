"""One agent as a process: start, answers, checks, restart, stop."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "pyconsul.cli.main"]


@pytest.fixture
def web() -> Iterator[tuple[str, list[int]]]:
    """An HTTP server whose next status is the list's only element."""
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0])
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", status
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dev_agent_leads_answers_and_stops(agent: Any) -> None:
    assert agent.get("/v1/status/leader") == f"127.0.0.1:{agent.ports['server']}"
    assert agent.get("/v1/agent/self")["Config"]["NodeName"] == "n1"
    assert agent.put("/v1/kv/a", b"1") is True
    (node,) = agent.get("/v1/catalog/nodes")
    assert node["Node"] == "n1"
    # A server does not leave on SIGTERM unless told to.
    assert agent.stop(signal.SIGTERM) == 1
    assert "Graceful shutdown disabled. Exiting" in agent.output()
    assert "Traceback" not in agent.output()


def test_leaving_by_the_api_is_a_clean_end(agent: Any) -> None:
    agent.put("/v1/agent/leave")
    assert agent.process.wait(60) == 0


def test_an_http_check_reaches_the_catalog(
    agent: Any, web: tuple[str, list[int]]
) -> None:
    url, status = web
    agent.put(
        "/v1/agent/service/register",
        {"Name": "web", "Port": 80, "Check": {"HTTP": url, "Interval": "1s"}},
    )
    path = "/v1/health/checks/web"
    (check,) = agent.eventually(path, lambda got: got[0]["Status"] == "passing")
    assert check["Output"] == f"HTTP GET {url}: 200 OK Output: hello"
    status[0] = 503
    agent.eventually(path, lambda got: got[0]["Status"] == "critical")
    assert agent.get("/v1/health/service/web?passing") == []
    agent.put("/v1/agent/service/deregister/web")
    assert agent.get("/v1/catalog/service/web") == []


def test_a_hash_is_waited_for_until_the_service_changes(agent: Any) -> None:
    agent.put("/v1/agent/service/register", {"Name": "web", "Port": 1})
    old = agent.get("/v1/agent/service/web")["ContentHash"]
    found: list[Any] = []

    def wait() -> None:
        found.append(agent.get(f"/v1/agent/service/web?hash={old}&wait=30s"))

    waiter = threading.Thread(target=wait)
    waiter.start()
    agent.put("/v1/agent/service/register", {"Name": "web", "Port": 2})
    waiter.join(60)
    assert found[0]["Port"] == 2
    assert found[0]["ContentHash"] != old


def test_a_durable_agent_remembers(agents: Callable[..., Any], tmp_path: Path) -> None:
    data = tmp_path / "data"
    agent = agents("-server", "-bootstrap", f"-data-dir={data}")
    node_id = agent.get("/v1/agent/self")["Config"]["NodeID"]
    agent.put("/v1/kv/kept", b"value")
    agent.put(
        "/v1/agent/service/register",
        {"Name": "web", "Check": {"TTL": "10m"}},
    )
    agent.put("/v1/agent/check/pass/service:web?note=fine")
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    agent.start()
    assert agent.get("/v1/agent/self")["Config"]["NodeID"] == node_id
    assert agent.get("/v1/kv/kept?raw") == "value"
    check = agent.get("/v1/agent/checks")["service:web"]
    assert (check["Status"], check["Output"]) == ("passing", "fine")


def test_reload_takes_services_from_files(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "web.json"
    path.write_text('{"service": {"name": "web", "port": 1}}')
    agent = agents("-dev", f"-config-file={path}")
    assert agent.get("/v1/agent/services")["web"]["Port"] == 1
    path.write_text('{"services": [{"name": "web", "port": 2}, {"name": "db"}]}')
    agent.process.send_signal(signal.SIGHUP)
    agent.eventually("/v1/agent/services", lambda got: "db" in got)
    assert agent.get("/v1/agent/services")["web"]["Port"] == 2
    path.write_text("{")
    status, text = agent.request("PUT", "/v1/agent/reload")
    assert status == 500
    assert "failed to parse" in text
    assert "db" in agent.get("/v1/agent/services")


def test_a_taken_port_is_one_line_and_exit_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "agent", "-dev", f"-http-port={port}", "-dns-port=-1"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "==> Error starting agent: "
        f"listen tcp 127.0.0.1:{port}: bind: address already in use"
    )


def test_an_unknown_flag_is_refused_with_the_usage() -> None:
    done = subprocess.run(
        [*COMMAND, "agent", "-nope"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert done.stderr.startswith("flag provided but not defined: -nope\nUsage:")
