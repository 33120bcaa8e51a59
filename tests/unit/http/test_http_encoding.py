from __future__ import annotations

import json

from pyconsul.http.encoding import (
    check_view,
    encode,
    entry_json,
    healthy_json,
    instance_json,
    node_service_list_view,
    node_services_view,
    pretty,
    proxy_view,
    service_view,
    session_view,
)
from pyconsul.types.records import (
    CheckServiceNode,
    DirEntry,
    HealthCheck,
    HealthCheckDefinition,
    Node,
    NodeService,
    NodeServices,
    ServiceAddress,
    ServiceInstance,
    Session,
)


def test_entry() -> None:
    free = DirEntry(key="a<b", value=b"first", flags=(1 << 64) - 1, create_index=3)
    assert entry_json(free) == (
        b'{"LockIndex":0,"Key":"a\\u003cb","Flags":18446744073709551615,'
        b'"Value":"Zmlyc3Q=","CreateIndex":3,"ModifyIndex":0}'
    )
    held = entry_json(DirEntry(key="k", session="s"))
    assert list(json.loads(held)) == [
        "LockIndex",
        "Key",
        "Flags",
        "Value",
        "Session",
        "CreateIndex",
        "ModifyIndex",
    ]
    assert json.loads(held)["Value"] is None


def test_go_escapes() -> None:
    assert encode("<&>\u2028é") == '"\\u003c\\u0026\\u003e\\u2028é"'.encode()


def test_pretty() -> None:
    assert pretty(b'[{"a":1}]') == b'[\n    {\n        "a": 1\n    }\n]\n'


def test_service_leaves_out_what_is_empty() -> None:
    view = service_view(NodeService(id="w", service="web"))
    assert view == {
        "ID": "w",
        "Service": "web",
        "Tags": [],
        "Address": "",
        "Meta": None,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
        "Connect": {},
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }
    full = service_view(
        NodeService(
            kind="connect-proxy",
            id="p",
            service="p",
            port=1,
            tagged_addresses={"wan": ServiceAddress(address="a", port=2)},
            meta={"b": "2", "a": "1"},
            connect={"Native": True},
        )
    )
    assert list(full)[:8] == [
        "Kind",
        "ID",
        "Service",
        "Tags",
        "Address",
        "TaggedAddresses",
        "Meta",
        "Port",
    ]
    assert list(full["Meta"]) == ["a", "b"]
    assert full["Connect"] == {"Native": True}


def test_proxy_order() -> None:
    view = proxy_view({"Config": {"x": 1}, "DestinationServiceName": "db"})
    assert list(view) == [
        "DestinationServiceName",
        "Mode",
        "Config",
        "MeshGateway",
        "Expose",
    ]


def test_upstreams_of_the_catalog_show_empty_fields() -> None:
    proxy = {"Upstreams": [{"LocalBindPort": 9, "DestinationName": "db"}]}
    view = service_view(NodeService(proxy=proxy))
    assert list(view["Proxy"]["Upstreams"][0].items()) == [
        ("DestinationType", ""),
        ("DestinationName", "db"),
        ("Datacenter", ""),
        ("LocalBindPort", 9),
        ("MeshGateway", {}),
    ]


def test_instance_differs_from_service_in_meta_and_port() -> None:
    view = json.loads(
        instance_json(
            ServiceInstance(
                node=Node(node="n", address="1.2.3.4"),
                service=NodeService(id="w", service="web"),
            )
        )
    )
    assert view["ServiceMeta"] == {}
    assert view["ServicePort"] == 0
    assert view["NodeMeta"] is None
    assert view["Address"] == "1.2.3.4"
    assert "ServiceTaggedAddresses" not in view


def test_check_definition_shows_durations_as_text() -> None:
    view = check_view(
        HealthCheck(
            check_id="c",
            definition=HealthCheckDefinition(
                http="http://x", interval=10_000_000_000, header={"X": ["y"]}
            ),
        )
    )
    assert view["ServiceTags"] == []
    assert view["Definition"] == {
        "Interval": "10s",
        "HTTP": "http://x",
        "Header": {"X": ["y"]},
    }


def test_health_row() -> None:
    row = json.loads(
        healthy_json(
            CheckServiceNode(
                node=Node(node="n"),
                service=NodeService(id="w"),
                checks=[HealthCheck(check_id="c")],
            )
        )
    )
    assert list(row) == ["Node", "Service", "Checks"]
    assert row["Checks"][0]["Definition"] == {}


def test_node_with_services() -> None:
    node = NodeServices(
        node=Node(node="n"), services=[NodeService(id="b"), NodeService(id="a")]
    )
    by_id = node_services_view(node)
    assert by_id is not None
    assert list(by_id["Services"]) == ["a", "b"]
    assert [s["ID"] for s in node_service_list_view(node)["Services"]] == ["b", "a"]
    assert node_services_view(None) is None
    assert node_service_list_view(None) == {"Node": None, "Services": None}


def test_session() -> None:
    view = session_view(Session(id="s", lock_delay=5, ttl="10s", node_checks=[]))
    assert list(view) == [
        "ID",
        "Name",
        "Node",
        "LockDelay",
        "Behavior",
        "TTL",
        "NodeChecks",
        "ServiceChecks",
        "CreateIndex",
        "ModifyIndex",
    ]
    assert view["NodeChecks"] == []
    assert view["ServiceChecks"] is None
