"""What the agent's own routes refuse before they look at anything."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from http_fakes import FakeCaller, ask

from pyconsul.http import agent_checks, agent_services
from pyconsul.http.agent_api import AgentApi
from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import JSON
from pyconsul.types.records import NodeService


class FakeAgent:
    """An agent with one service, where nothing may be written."""

    datacenter = "dc1"

    def services(self) -> dict[str, NodeService]:
        return {"w": NodeService(id="w", service="web")}

    def checks(self) -> dict[str, Any]:
        return {}


def agent_face() -> Face:
    options = HttpOptions(node_name="node1", datacenter="dc1")
    routes = build_routes(options, ui_path="/ui/")
    agent = cast("AgentApi", FakeAgent())
    agent_services.add_routes(routes, agent)
    agent_checks.add_routes(routes, agent)
    return Face(FakeCaller(), routes, options)


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/agent/health/service/id/w?ns=x",
        "GET /v1/agent/health/service/name/web?ns=x",
        "GET /v1/agent/service/w?ns=x",
        "PUT /v1/agent/service/maintenance/w?enable=true&ns=x",
        "PUT /v1/agent/check/pass/c?ns=x",
        "PUT /v1/agent/check/warn/c?ns=x",
        "PUT /v1/agent/check/fail/c?ns=x",
    ],
)
def test_namespaces(line: str) -> None:
    answer = ask(agent_face(), line)
    assert answer.status == 400
    assert b'Invalid query parameter: "ns"' in answer.body


def test_namespaces_of_updates() -> None:
    line = "PUT /v1/agent/check/update/c?ns=x"
    answer = ask(agent_face(), line, b'{"Status":"passing"}')
    assert answer.status == 400
    # The status comes first.
    answer = ask(agent_face(), line, b'{"Status":"fine"}')
    assert answer.body == b"Invalid check status: 'fine'"


@pytest.mark.parametrize(
    ("query", "text"), [("wait=5", b"Invalid wait time"), ("index=x", b"Invalid index")]
)
@pytest.mark.parametrize("service", ["w", "none"])
def test_how_to_wait_is_looked_at_first(service: str, query: str, text: bytes) -> None:
    answer = ask(agent_face(), f"GET /v1/agent/service/{service}?{query}&ns=x")
    assert (answer.status, answer.body) == (400, text)
    assert ask(agent_face(), "GET /v1/agent/service/w?wait=5s").status == 200


def test_the_text_of_an_unknown_id_is_json() -> None:
    answer = ask(agent_face(), "GET /v1/agent/health/service/id/x?format=text")
    assert answer.status == 404
    assert json.loads(answer.body) == "ServiceId x not found"
    assert answer.content_type == JSON
    named = ask(agent_face(), "GET /v1/agent/health/service/name/x?format=text")
    assert named.body == b"ServiceName x Not Found"
