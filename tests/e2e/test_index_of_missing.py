"""The index of what does not exist moves with its table, however often it is read."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pyconsul.testing import Agent, run_agent


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with run_agent() as agent:
        yield agent


def index(agent: Agent, path: str) -> int:
    url = f"{agent.url}/v1/{path}"
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.headers["X-Consul-Index"])
    except urllib.error.HTTPError as error:
        with error:
            return int(error.headers["X-Consul-Index"])


def put(agent: Agent, path: str, body: bytes = b"") -> None:
    request = urllib.request.Request(f"{agent.url}/v1/{path}", data=body, method="PUT")
    with urllib.request.urlopen(request) as answer:
        answer.read()


@pytest.mark.parametrize("form", ["", "?recurse", "?keys", "?keys&separator=/"])
def test_a_key_that_is_not_there(agent: Agent, form: str) -> None:
    for number in range(5):
        put(agent, f"kv/elsewhere{number}", form.encode())
        for _ in range(3):
            assert index(agent, f"kv/nope{form}") == index(agent, "kv/?keys")


def test_a_key_that_is_there(agent: Agent) -> None:
    put(agent, "kv/here", b"1")
    first = index(agent, "kv/here")
    for number in range(5):
        put(agent, f"kv/elsewhere{number}", b"again")
        for path in ("kv/here", "kv/here?recurse"):
            assert index(agent, path) == first < index(agent, "kv/?keys")


def test_a_service_that_is_not_there(agent: Agent) -> None:
    seen: list[int] = []
    for number in range(4):
        service = {"Service": "passing-by", "ID": "p"}
        entry = {"Node": "n", "Address": "127.0.0.9", "Service": service}
        put(agent, "catalog/register", json.dumps(entry).encode())
        gone = {"Node": "n", "ServiceID": "p"}
        put(agent, "catalog/deregister", json.dumps(gone).encode())
        told = {index(agent, "health/service/nope") for _ in range(number + 2)}
        assert len(told) == 1
        seen += told
    assert seen == sorted(set(seen))
