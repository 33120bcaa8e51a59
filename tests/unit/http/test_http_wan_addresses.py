"""``translate_wan_addrs``: what another datacenter's answers look like."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Response
from pyconsul.types.messages import Reply, Row
from pyconsul.types.queries import QueryDns, QueryResult
from pyconsul.types.records import (
    CheckServiceNode,
    Node,
    NodeService,
    NodeServices,
    ServiceAddress,
    ServiceInstance,
)

NODE = Node(
    node="far",
    address="10.0.0.9",
    datacenter="dc2",
    tagged_addresses={"lan": "10.0.0.9", "wan": "198.51.100.9"},
)
SERVICE = NodeService(
    id="db",
    service="db",
    address="10.0.0.10",
    port=5432,
    tagged_addresses={"wan": ServiceAddress(address="198.51.100.10", port=443)},
)
CHECKED = CheckServiceNode(node=NODE, service=SERVICE, checks=[])


class Far:
    """Answers as a server of dc2 would."""

    def call(self, method: str, args: Any) -> Reply:
        value: Any = {
            "Catalog.ListNodes": lambda: [Row(NODE)],
            "Catalog.ServiceNodes": lambda: [
                Row(ServiceInstance(node=NODE, service=SERVICE))
            ],
            "Catalog.NodeServices": lambda: NodeServices(node=NODE, services=[SERVICE]),
            "Catalog.NodeServiceList": lambda: NodeServices(
                node=NODE, services=[SERVICE]
            ),
            "Health.ServiceNodes": lambda: [Row(CHECKED)],
            "PreparedQuery.Execute": lambda: QueryResult(
                service="db", nodes=[CHECKED], dns=QueryDns(), datacenter="dc2"
            ),
        }[method]()
        return Reply(value, 1)


def ask(target: str, *, translate: bool) -> tuple[Any, bytes]:
    options = HttpOptions(datacenter="dc1", translate_wan_addrs=translate)
    face = Face(Far(), build_routes(options), options)
    request = face.open("GET", target.encode(), {})
    answer = face.answer(request)
    assert isinstance(answer, Response)
    return json.loads(answer.body), face.render(request, answer)[0]


CASES: list[tuple[str, Callable[[Any], list[Any]], list[Any]]] = [
    ("/v1/catalog/nodes", lambda r: [r[0]["Address"]], ["198.51.100.9"]),
    (
        "/v1/catalog/service/db",
        lambda r: [r[0]["Address"], r[0]["ServiceAddress"], r[0]["ServicePort"]],
        ["198.51.100.9", "198.51.100.10", 443],
    ),
    (
        "/v1/catalog/node/far",
        lambda r: [r["Node"]["Address"], r["Services"]["db"]["Port"]],
        ["198.51.100.9", 443],
    ),
    (
        "/v1/catalog/node-services/far",
        lambda r: [r["Node"]["Address"], r["Services"][0]["Address"]],
        ["198.51.100.9", "198.51.100.10"],
    ),
    (
        "/v1/health/service/db",
        lambda r: [r[0]["Node"]["Address"], r[0]["Service"]["Address"]],
        ["198.51.100.9", "198.51.100.10"],
    ),
    (
        "/v1/query/db/execute",
        lambda r: [r["Nodes"][0]["Node"]["Address"]],
        ["198.51.100.9"],
    ),
]


@pytest.mark.parametrize(("path", "shown", "wan"), CASES)
def test_far_addresses_are_the_wans(path: str, shown: Any, wan: list[Any]) -> None:
    body, headers = ask(f"{path}?dc=dc2", translate=True)
    assert shown(body) == wan
    assert b"X-Consul-Translate-Addresses: true\r\n" in headers
    body, headers = ask(f"{path}?dc=dc2", translate=False)
    assert not set(map(str, shown(body))) & set(map(str, wan))
    assert b"Translate" not in headers


def test_near_addresses_stay() -> None:
    for target in ("/v1/catalog/nodes", "/v1/catalog/nodes?dc=dc1"):
        body, _ = ask(target, translate=True)
        assert body[0]["Address"] == "10.0.0.9"
