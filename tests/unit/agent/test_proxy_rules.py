"""What proxies, gateways, upstreams and sidecars may say, and the refusals."""

from __future__ import annotations

from typing import Any

import pytest

from pyconsul.agent.records import (
    sidecar_definition,
    validate_completed_sidecar,
    validate_service,
)
from pyconsul.config.definitions import (
    CheckDefinition,
    ConnectDefinition,
    ServiceDefinition,
)
from pyconsul.types.errors import BadRequestError
from pyconsul.types.proxy_rules import proxy_problems, weights_problem
from pyconsul.types.records import Weights

PORTS = range(21000, 21256)


def problems_of(**proxy: Any) -> list[str]:
    return proxy_problems(
        "connect-proxy", {"DestinationServiceName": "a", **proxy}, port=1
    )


@pytest.mark.parametrize(
    ("upstream", "problem"),
    [
        ({}, "upstream destination name cannot be empty"),
        (
            {"DestinationName": "b"},
            "upstream local bind port or local socket path must be defined and nonzero",
        ),
        (
            {"DestinationName": "*", "LocalBindPort": 1},
            "upstream destination name cannot be a wildcard",
        ),
        (
            {"DestinationName": "b", "DestinationType": "x", "LocalBindPort": 1},
            'unknown upstream destination type: "x"',
        ),
        (
            {"DestinationName": "b", "LocalBindPort": 1, "LocalBindSocketPath": "/s"},
            "only one of upstream local bind port or local socket path can be defined"
            " and nonzero",
        ),
    ],
)
def test_upstreams(upstream: dict[str, Any], problem: str) -> None:
    assert problems_of(Upstreams=[upstream]) == [problem]


def test_equal_upstreams_and_equal_addresses() -> None:
    one = {"DestinationName": "b", "LocalBindPort": 1}
    assert problems_of(
        Upstreams=[
            one,
            {**one, "LocalBindPort": 2},
            {**one, "DestinationName": "c"},
            {**one, "Datacenter": "dc2", "LocalBindAddress": "::1"},
        ]
    ) == [
        'upstreams cannot contain duplicates of [type="service", name="b", '
        'namespace="", datacenter=""]',
        "upstreams cannot contain duplicates by local bind address and port or unix "
        'path; "127.0.0.1:1" is specified twice',
    ]


def test_exposed_paths() -> None:
    good = {"Path": "/a", "ListenerPort": 1, "Protocol": "HTTP"}
    assert problems_of(Expose={"Paths": [good]}) == []
    bad = {"ListenerPort": 1, "Protocol": "udp"}
    assert problems_of(Expose={"Paths": [good, bad, {"Path": "/a"}]}) == [
        "expose.paths: empty path exposed",
        "expose.paths: duplicate listener ports exposed",
        "protocol 'udp' not supported for path: , must be in: [http http2]",
        "expose.paths: duplicate paths exposed",
        "expose.paths: invalid listener port: 0",
    ]


@pytest.mark.parametrize("kind", ["mesh-gateway", "terminating-gateway"])
def test_gateways(kind: str) -> None:
    assert proxy_problems(kind, None, port=1) == []
    proxy: dict[str, Any] = {"DestinationServiceName": "a", "Upstreams": [{}]}
    assert proxy_problems(kind, proxy, has_sidecar=True) == [
        f"Port must be non-zero for a {kind}",
        f"A {kind} cannot have a sidecar service defined",
        f"The Proxy.DestinationServiceName configuration is invalid for a {kind}",
        f"The Proxy.Upstreams configuration is invalid for a {kind}",
    ]


def test_ingress_gateways_need_no_port_and_other_kinds_nothing() -> None:
    assert proxy_problems("ingress-gateway", {}) == []
    assert proxy_problems("", {"Upstreams": [{}]}) == []


def test_weights() -> None:
    assert weights_problem(Weights(passing=65535, warning=0)) == ""
    assert "Passing" in weights_problem(Weights(passing=0))
    assert "Warning" in weights_problem(Weights(warning=-1))
    assert "65535" in weights_problem(Weights(passing=65536))


@pytest.mark.parametrize(
    ("sidecar", "text"),
    [
        (
            ServiceDefinition(meta={"consul-x": "y"}),
            "Invalid SidecarService: Couldn't load metadata pair",
        ),
        (
            ServiceDefinition(check=CheckDefinition(ttl=-1)),
            "Invalid check in sidecar_service: TTL must be > 0",
        ),
        (
            ServiceDefinition(connect=ConnectDefinition(native=True)),
            "Failed Validation: 1 error occurred:\n\t\\* A Proxy cannot also be",
        ),
        (
            ServiceDefinition(
                connect=ConnectDefinition(sidecar_service=ServiceDefinition())
            ),
            "A SidecarService cannot have a nested SidecarService",
        ),
    ],
)
def test_refused_sidecars(sidecar: ServiceDefinition, text: str) -> None:
    connect = ConnectDefinition(sidecar_service=sidecar)
    with pytest.raises(BadRequestError, match=text):
        validate_service(ServiceDefinition(name="a", port=1, connect=connect))


def test_a_sidecar_is_a_proxy_whatever_kind_it_says() -> None:
    given = ServiceDefinition(
        kind="mesh-gateway", proxy={"Upstreams": [{"DestinationName": "b"}]}
    )
    parent = ServiceDefinition(
        name="a", port=1, connect=ConnectDefinition(sidecar_service=given)
    )
    validate_service(parent)
    sidecar = sidecar_definition(parent, (), PORTS, 0)
    assert sidecar is not None
    assert sidecar.kind == "connect-proxy"
    with pytest.raises(BadRequestError, match=r"Failed Validation: .*\n.*local bind"):
        validate_completed_sidecar(sidecar)
