"""Filter expressions over records: operators, missing keys, error texts."""

from __future__ import annotations

from typing import Any

import pytest

from pyconsul.filter import (
    CHECK_SERVICE_NODE,
    NODE,
    SERVICE_NODE,
    FilterCache,
    FilterError,
    Schema,
    compile_filter,
)
from pyconsul.types.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    ServiceAddress,
    ServiceInstance,
    Weights,
)

NODES = [
    Node(node="f1", address="10.60.0.1", meta={"env": "prod", "os": "linux"}),
    Node(node="f2", address="10.60.0.2", meta={"env": "test"}),
    Node(node="f3", address="10.60.0.3"),
]
SERVICES = [
    NodeService(
        id="web1", service="web", tags=["v1", "blue"], port=80, meta={"ver": "1"},
        weights=Weights(), connect={"Native": True},
    ),
    NodeService(
        id="web2", service="web", tags=["v2"], port=81, meta={"ver": "2"},
        enable_tag_override=True,
        proxy={
            "Upstreams": [{"DestinationName": "db", "LocalBindPort": 9}],
            "TransparentProxy": {"OutboundListenerPort": 22500},
        },
    ),
    NodeService(
        id="web3", service="web", port=443, address="192.0.2.3",
        tagged_addresses={"wan": ServiceAddress(address="w", port=7)},
    ),
]  # fmt: skip
CHECKS = [
    [HealthCheck(check_id="c1", status="passing")],
    [
        HealthCheck(check_id="c2", status="critical", output='it\'s "down"'),
        HealthCheck(check_id="c3", status="passing"),
    ],
    [],
]
INSTANCES = [
    ServiceInstance(node=node, service=service)
    for node, service in zip(NODES, SERVICES, strict=True)
]
HEALTH = [
    CheckServiceNode(node=node, service=service, checks=checks)
    for node, service, checks in zip(NODES, SERVICES, CHECKS, strict=True)
]


def selected(text: str, schema: Schema, records: list[Any]) -> list[int]:
    predicate = compile_filter(text, schema)
    return [at for at, record in enumerate(records, 1) if predicate(record)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("ServicePort == 80", [1]),
        ("ServiceProxy.TransparentProxy.OutboundListenerPort == 22500", [2]),
        ("ServiceProxy.TransparentProxy.DialedDirectly == true", []),
        ("ServicePort==80", [1]),
        (' ServicePort == "0x51" ', [2]),
        ("ServicePort != 80", [2, 3]),
        ('ServiceTags contains "v1"', [1]),
        ('"v1" in ServiceTags', [1]),
        ("v1 not in ServiceTags", [2, 3]),
        ('ServiceTags not contains "v1"', [2, 3]),
        ("ServiceTags is empty", [3]),
        ("ServiceTags is not empty", [1, 2]),
        ("ServiceMeta.ver == 2", [2]),
        ('ServiceMeta["ver"] == "1"', [1]),
        ("ServiceMeta.absent == 2", []),
        ("ServiceMeta.absent != 2", [1, 2, 3]),
        ("ServiceMeta.absent matches x", [1, 2, 3]),
        ("ServiceMeta.absent not matches x", [1, 2, 3]),
        ("x in ServiceMeta.absent", []),
        ("x not in ServiceMeta.absent", [1, 2, 3]),
        ("ver in ServiceMeta", [1, 2]),
        ("ServiceMeta is empty", [3]),
        (
            "ServicePort == 80 or ServicePort == 81 and ServiceMeta.ver == 1",
            [1],
        ),
        (
            "(ServicePort == 80 or ServicePort == 81) and ServiceMeta.ver == 2",
            [2],
        ),
        ("not ServicePort == 80", [2, 3]),
        ("not not ServicePort == 80", [1]),
        ("not (ServicePort == 80 or ServicePort == 81)", [3]),
        ('ServiceAddress == ""', [1, 2]),
        ("ServiceEnableTagOverride == true", [2]),
        ("ServiceEnableTagOverride == 0", [1, 3]),
        ('Node matches "f[12]"', [1, 2]),
        ('Node not matches "^f1$"', [2, 3]),
        ('ServiceID contains "eb2"', [2]),
        ("ServiceWeights.Passing == 1", [1]),
        ("ServiceName == `web`", [1, 2, 3]),
        ("ServiceConnect.Native == true", [1]),
        ("ServiceProxy.Upstreams.DestinationName == db", [2]),
        ("ServiceProxy.Upstreams.LocalBindPort != 8", [2]),
        ("ServiceTaggedAddresses.wan.Port == 7", [3]),
        ("NodeMeta.os is empty or not in ServiceTags", None),
        ("not in ServiceTags", []),
        ('Address matches "^10\\\\.60\\\\.0\\\\.[13]$"', [1, 3]),
    ],
)
def test_rows_of_catalog_service(text: str, rows: list[int] | None) -> None:
    if rows is None:
        with pytest.raises(FilterError):
            compile_filter(text, SERVICE_NODE)
    else:
        assert selected(text, SERVICE_NODE, INSTANCES) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Checks.Status == critical", [2]),
        ("Checks.Status != passing", [2]),
        ("not Checks.Status == passing", [3]),
        ("Checks is empty", [3]),
        ("Checks is not empty and not Checks.Status == critical", [1]),
        ('Checks.Output contains `"down"`', [2]),
        ('Node.Meta.env == prod or Service.Address != ""', [1, 3]),
        ("Service.Tags contains blue", [1]),
    ],
)
def test_rows_of_health_service(text: str, rows: list[int]) -> None:
    assert selected(text, CHECK_SERVICE_NODE, HEALTH) == rows


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("Absent == 1", 'Selector "Absent" is not valid'),
        ("ServiceMeta.a.b == 1", 'Selector "ServiceMeta.a.b" is not valid'),
        ("Checks.Status == passing", 'Selector "Checks" is not valid'),
        ("ServiceWeights.X.Y == 1", 'Selector "ServiceWeights.X" is not valid'),
        (
            'ServicePort == "x"',
            'Failed to coerce value "x" for selector "ServicePort": '
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            "ServiceEnableTagOverride == maybe",
            'Failed to coerce value "maybe" for selector "ServiceEnableTagOverride": '
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            "ServicePort contains 8",
            'Invalid match operator "In" for selector "ServicePort"',
        ),
        (
            "ServiceTags == v1",
            'Invalid match operator "Equal" for selector "ServiceTags"',
        ),
        (
            "ServiceAddress is empty",
            'Invalid match operator "Is Empty" for selector "ServiceAddress"',
        ),
        (
            'ServiceMeta matches "x"',
            'Invalid match operator "Matches" for selector "ServiceMeta"',
        ),
        (
            'ServiceName matches "("',
            'Failed to compile regular expression "(": '
            "error parsing regexp: missing closing ): `(`",
        ),
    ],
)
def test_error_text(text: str, detail: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SERVICE_NODE)
    assert caught.value.detail == detail
    assert str(caught.value) == (
        "Failed to create boolean expression evaluator: " + detail
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (" ", "1:2 (1)"),
        ("nonsense", "1:9 (8)"),
        ("Node ==", "1:8 (7)"),
        ("(Node == 80", "1:12 (11)"),
        ("Node == 80 and", "1:15 (14)"),
        ("Node == web extra", "1:13 (12)"),
        ("Node = 80", "1:6 (5)"),
        ("Node == 1 AND Node == 2", "1:11 (10)"),
        ('\n"é" is empty', "2:5 (6)"),
    ],
)
def test_parser_says_where_it_stopped(text: str, place: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, NODE)
    assert caught.value.detail.startswith(place + ": no match found, expected: ")


def test_parser_says_what_it_wanted() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(" ", NODE)
    for wanted in ('"("', '"-"', '"not"', "[a-zA-Z]"):
        assert wanted in caught.value.detail


def test_nesting_is_bounded() -> None:
    assert selected("(" * 40 + "Node == f1" + ")" * 40, NODE, NODES) == [1]
    for text in ("(" * 1000 + "Node == f1" + ")" * 1000, "not " * 5000 + "Node == a"):
        with pytest.raises(FilterError, match="too deeply"):
            compile_filter(text, NODE)


def test_go_escapes() -> None:
    node = Node(node='a\t"b"é')
    assert compile_filter(r'Node == "a\t\x22b\x22\u00e9"', NODE)(node)
    assert compile_filter(r'Node == "\x61\011\042b\042\xc3\xa9"', NODE)(node)
    # A text ends at the first quote, whatever is before it.
    for text in (r'Node == "\q"', r'Node == "a\"b"', 'Node == "a\nb"'):
        with pytest.raises(FilterError, match="no match found"):
            compile_filter(text, NODE)


def test_a_selector_as_a_value_is_its_parts_with_dots() -> None:
    node = Node(node="a.b")
    for text in ("Node == a.b", 'Node == a["b"]', "Node == a[ `b` ]"):
        assert compile_filter(text, NODE)(node)
    with pytest.raises(FilterError, match=r'coerce value "a\\\\b" for selector'):
        compile_filter(r"ServicePort == `a\b`", SERVICE_NODE)


def test_cache_keeps_the_latest_expressions() -> None:
    cache = FilterCache(2)
    first = cache.compile("Node == a", NODE)
    cache.compile("Node == b", NODE)
    assert cache.compile("Node == a", NODE) is first
    cache.compile("Node == c", NODE)
    assert len(cache) == 2
    assert cache.compile("Node == a", NODE) is first
    assert cache.compile("Node == a", SERVICE_NODE) is not first
