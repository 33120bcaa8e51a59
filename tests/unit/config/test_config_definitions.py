"""Definitions of services and checks: kinds, refusals, proxies."""

from __future__ import annotations

import pytest

from pyconsul.config.definitions import (
    CheckDefinition,
    complete_proxy,
    pascal,
    validate_meta,
)
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import BadRequestError


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (CheckDefinition(ttl=1), "ttl"),
        (CheckDefinition(http="http://a", interval=1), "http"),
        (CheckDefinition(args=["x"], interval=1), "script"),
        (
            CheckDefinition(args=["x"], docker_container_id="c", interval=1),
            "docker",
        ),
        (CheckDefinition(alias_service="s"), "alias"),
        (CheckDefinition(h2ping="a:1", interval=1), "h2ping"),
    ],
)
def test_the_filled_field_is_the_kind(check: CheckDefinition, kind: str) -> None:
    assert check.kind == kind
    check.validate()


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (CheckDefinition(), "TTL must be > 0 for TTL checks"),
        (CheckDefinition(interval=SECOND), "TTL must be > 0 for TTL checks"),
        (
            CheckDefinition(ttl=1, http="x", interval=1),
            "Interval and TTL cannot both be specified",
        ),
        (
            CheckDefinition(tcp="a:1", interval=-1),
            "Interval must be > 0 for Script, HTTP, H2PING, or TCP checks",
        ),
        (
            CheckDefinition(alias_node="n", interval=1),
            "Interval cannot be set for Alias checks",
        ),
        (
            CheckDefinition(
                ttl=1, failures_before_warning=3, failures_before_critical=2
            ),
            "FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
    ],
)
def test_refused_checks(check: CheckDefinition, text: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        check.validate()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"": "x"}, "Key cannot be blank"),
        ({"a b": "x"}, "Key contains invalid characters"),
        ({"k" * 129: "x"}, "Key is too long (limit: 128 characters)"),
        ({"consul-x": "y"}, "Key prefix 'consul-' is reserved for internal use"),
        ({"k": "v" * 513}, "Value is too long (limit: 512 characters)"),
    ],
)
def test_refused_metadata(meta: dict[str, str], reason: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        validate_meta(meta)
    assert str(caught.value).endswith(reason)


def test_too_much_metadata() -> None:
    with pytest.raises(BadRequestError, match="more than 64"):
        validate_meta({f"k{number}": "" for number in range(65)})


def test_proxies_are_completed_in_order() -> None:
    proxy = complete_proxy(
        {"Upstreams": [{"DestinationName": "db"}], "DestinationServiceName": "web"}
    )
    assert list(proxy) == [
        "DestinationServiceName",
        "Upstreams",
        "MeshGateway",
        "Expose",
    ]
    assert proxy["Upstreams"] == [
        {
            "DestinationType": "service",
            "DestinationName": "db",
            "MeshGateway": {},
        }
    ]


def test_file_spelling_becomes_the_api_s_but_for_opaque_settings() -> None:
    assert pascal(
        {"destination_service_id": "a", "config": {"local_port": 1}, "expose": {}}
    ) == {
        "DestinationServiceID": "a",
        "Config": {"local_port": 1},
        "Expose": {},
    }
