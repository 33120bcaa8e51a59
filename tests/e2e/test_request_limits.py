"""``limits.request_limits`` as clients meet it: HTTP statuses, reload, a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul.testing import Agent, run_agent, run_cluster
from pyconsul_client import ApiError


def limits(**values: Any) -> dict[str, Any]:
    return {"limits": {"request_limits": values}}


def refused(
    agent: Agent, method: str, path: str, body: bytes | None = None
) -> ApiError:
    """Ask until an answer is no; there has to be one within the burst."""
    with pytest.raises(ApiError) as caught:  # noqa: PT012
        for _ in range(3000):
            agent.request(method, path, body)
    return caught.value


def test_too_many_reads_are_refused_with_429() -> None:
    settings = limits(mode="enforcing", read_rate=3)
    with run_agent(settings=settings) as agent:
        error = refused(agent, "GET", "/v1/catalog/services")
        assert error.status == 429
        text = "rate limit exceeded, try again later or against a different server"
        assert text in str(error)
        # Writes are not reads, and who leads can always be asked.
        assert agent.request("PUT", "/v1/kv/a", b"1") is True
        assert agent.request("GET", "/v1/status/leader")


def test_too_many_writes_are_refused_with_503_by_the_leader() -> None:
    settings = limits(mode="enforcing", write_rate=3)
    with run_agent(settings=settings) as agent:
        error = refused(agent, "PUT", "/v1/kv/a", b"1")
        assert error.status == 503
        assert "only be performed by the leader" in str(error)
        assert agent.request("GET", "/v1/kv/a?raw") == "1"


def test_permissive_refuses_nothing() -> None:
    settings = limits(mode="permissive", read_rate=1, write_rate=1)
    with run_agent(settings=settings) as agent:
        for _ in range(50):
            agent.request("PUT", "/v1/kv/a", b"1")
        assert "RPC exceeded allowed rate limit: rpc=KVS.Apply" in agent.log


def test_a_reload_takes_other_limits(tmp_path: Path) -> None:
    file = tmp_path / "limits.json"
    file.write_text(json.dumps(limits(mode="disabled")))
    with run_agent(f"-config-file={file}") as agent:
        for _ in range(60):
            agent.request("PUT", "/v1/kv/a", b"1")
        file.write_text(json.dumps(limits(mode="enforcing", write_rate=1)))
        agent.request("PUT", "/v1/agent/reload")
        assert refused(agent, "PUT", "/v1/kv/a", b"1").status == 503


def test_a_client_agent_passes_the_refusal_on() -> None:
    settings = limits(mode="enforcing", write_rate=3)
    with run_cluster(1, 1, settings=settings) as cluster:
        [client] = cluster.clients
        error = refused(client, "PUT", "/v1/kv/a", b"1")
        assert error.status == 503
        assert "rate limit exceeded for operation" in str(error)
