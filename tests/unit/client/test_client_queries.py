"""Answers decoded: what is shared between them."""

from __future__ import annotations

import msgspec
import pytest

from pyconsul_client import queries as queries_module
from pyconsul_client.queries import Queries, decode
from pyconsul_client.records import ServiceEntry


def test_a_node_of_many_services_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_module, "NODES_KEPT", 2)

    def entry(name: str, address: str) -> ServiceEntry:
        node = {"ID": f"id-{name}", "Node": name, "Address": address}
        found = [{"Node": node, "Service": {"ID": "web"}, "Checks": []}]
        query = Queries().service("web")
        return decode(query, 200, msgspec.json.encode(found))[0]

    first = entry("n1", "10.0.0.1").node
    assert entry("n1", "10.0.0.1").node is first
    moved = entry("n1", "10.0.0.2").node
    assert (moved.node, moved.address) == ("n1", "10.0.0.2")
    assert entry("n1", "10.0.0.2").node is moved
    for number in range(2, 6):
        entry(f"n{number}", "10.0.0.3")
    again = entry("n1", "10.0.0.2").node
    assert again == moved
    assert again is not moved
