"""``pyconsul.testing`` as the tests of a project use it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dns.message
import dns.query
import pytest

from pyconsul.testing import Agent, Cluster, run_agent, run_cluster
from pyconsul.types.errors import ConfigError
from pyconsul_client import ApiError, TransportError

pytest_plugins = ["pyconsul.testing.plugin"]
# What docs/testing.md promises, with room for a busy machine.
AGENT_S = 0.5
CLUSTER_S = 1.5


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def quickest(times: int, make: type | object) -> float:
    taken: list[float] = []
    for _ in range(times):
        before = time.monotonic()
        with make() as _:  # type: ignore[operator]
            taken.append(time.monotonic() - before)
    return min(taken)


def test_an_agent_answers_http_and_dns(consul_agent: Agent) -> None:
    body = {"Name": "web", "Port": 8080}
    consul_agent.request("PUT", "/v1/agent/service/register", body)
    consul_agent.wait_for("/v1/catalog/service/web")
    host, port = consul_agent.dns_address
    query = dns.message.make_query("web.service.consul", "SRV")
    answer = dns.query.udp(query, host, port=port, timeout=5)
    assert answer.answer[0][0].port == 8080


def test_its_client_and_its_environment(consul_agent: Agent) -> None:
    async def put() -> bytes:
        async with consul_agent.client as client:
            await client.kv.put("app/limit", "10")
            found = (await client.kv.get("app/limit")).value
            assert found is not None
            return found.value

    assert asyncio.run(put()) == b"10"
    shown = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", "kv", "get", "app/limit"],
        env=consul_agent.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "10\n"


def test_errors_of_requests_are_those_of_the_client(consul_agent: Agent) -> None:
    with pytest.raises(ApiError) as caught:
        consul_agent.request("GET", "/v1/kv/absent")
    assert caught.value.status == 404
    with pytest.raises(TimeoutError, match="absent"):
        consul_agent.wait_for("/v1/kv/absent", seconds=0.05)


def test_nothing_is_left_when_it_ends() -> None:
    threads = threading.active_count()
    level = logging.getLogger().level
    handlers = list(logging.getLogger().handlers)
    with run_agent() as agent:
        assert listens(agent.ports["http"])
        folder = Path(agent._spec.log).parent
        assert folder.is_dir()
    assert not listens(agent.ports["http"])
    assert not folder.exists()
    assert threading.active_count() == threads
    assert logging.getLogger().level == level
    assert logging.getLogger().handlers == handlers


def test_settings_and_flags_reach_the_agent() -> None:
    settings = {"services": [{"name": "db", "port": 5432}], "datacenter": "dc9"}
    with run_agent("-node-meta=rack:7", name="box", settings=settings) as agent:
        told = agent.request("GET", "/v1/agent/self")
        assert told["Config"]["Datacenter"] == "dc9"
        assert told["Config"]["NodeName"] == "box"
        assert told["Meta"]["rack"] == "7"
        assert list(agent.request("GET", "/v1/agent/services")) == ["db"]


def test_an_agent_that_cannot_start_says_why() -> None:
    with pytest.raises(ConfigError, match="invalid config key nope"):
        run_agent(settings={"nope": 1}).__enter__()
    with (
        pytest.raises(RuntimeError, match="invalid config key nope"),
        run_agent(settings={"nope": 1}, process=True),
    ):
        pass


def test_two_agents_keep_their_logs_apart() -> None:
    with run_agent(name="first") as first, run_agent(name="second") as second:
        assert "EventMemberJoin: first" in first.log
        assert "second" not in first.log
        assert "EventMemberJoin: second" in second.log


def test_an_agent_in_a_child_process() -> None:
    with run_agent(process=True) as agent:
        pid = agent._host.pid  # type: ignore[attr-defined]
        assert agent.request("PUT", "/v1/kv/a", b"1") is True
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(TransportError):
        agent.request("GET", "/v1/status/leader")


def test_a_child_has_what_the_tests_have_now(
    consul_child_agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", "now")
    monkeypatch.chdir(tmp_path)
    check = {"id": "told", "name": "told", "args": ["sh", "-c", "echo $MARK; pwd"]}
    settings = {
        "enable_local_script_checks": True,
        "checks": [check | {"interval": "1s", "timeout": "1m"}],
    }
    with run_agent(settings=settings, process=True) as agent:
        told = agent.wait_for(
            "/v1/agent/checks", lambda found: found["told"]["Output"], seconds=60
        )
    assert told["told"]["Output"] == f"now\n{tmp_path}\n"
    # Another child is not asked for, nor has it been ended.
    assert consul_child_agent.request("PUT", "/v1/kv/a", b"1") is True


def test_a_child_that_is_killed_is_told_of(consul_child_agent: Agent) -> None:
    os.kill(consul_child_agent._host.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="the child process ended, status -9"):
        consul_child_agent.wait_for("/v1/agent/self", lambda _: False, seconds=60)


def test_the_log_of_a_child_is_read_here(consul_child_agent: Agent) -> None:
    assert "EventMemberJoin: node-1" in consul_child_agent.log


def test_a_cluster_survives_its_leader(consul_cluster: Cluster) -> None:
    leader = consul_cluster.leader
    assert len(consul_cluster.followers) == 2
    leader.request("PUT", "/v1/kv/kept", b"yes")
    leader.kill()
    other = consul_cluster.leader
    assert other is not leader
    assert other.request("GET", "/v1/kv/kept?raw") == "yes"
    leader.start()
    # Its own answer, as soon as it has caught up.
    assert leader.wait_for("/v1/kv/kept?raw&stale") == "yes"


def test_a_cluster_has_client_agents() -> None:
    with run_cluster(1, 1) as cluster:
        [client] = cluster.clients
        assert client.request("PUT", "/v1/kv/a", b"1") is True
        members = client.wait_for("/v1/agent/members", lambda found: len(found) == 2)
        assert {one["Name"] for one in members} == {"server-1", "client-1"}


def test_a_cluster_in_a_child_process(consul_child_cluster: Cluster) -> None:
    consul_child_cluster.followers[0].kill()
    leader = consul_child_cluster.leader
    assert leader.request("PUT", "/v1/kv/a", b"1") is True


def test_they_are_quick_to_start() -> None:
    assert quickest(3, run_agent) < AGENT_S
    assert quickest(3, run_cluster) < CLUSTER_S


@pytest.mark.parametrize("counts", [(0, 1), (3, -1)])
def test_a_cluster_without_servers_is_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="servers and"), run_cluster(*counts):
        pass
