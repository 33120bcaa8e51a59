"""Every refusal of a config entry, with its text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyconsul.endpoints.config_entry import normalise
from pyconsul.types.config_entries import ConfigEntry
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError


def written(kind: str, **fields: Any) -> dict[str, Any]:
    return normalise(ConfigEntry(kind=kind, name="x", fields=fields)).fields


def refused(kind: str, text: str, **fields: Any) -> None:
    with pytest.raises(ConsulError, match=re.escape(text)):
        written(kind, **fields)


ROUTES: list[tuple[dict[str, Any], str]] = [
    ({"PathExact": "a"}, "Route[0] PathExact doesn't start with '/': \"a\""),
    ({"PathPrefix": "a"}, "Route[0] PathPrefix doesn't start with '/': \"a\""),
    ({"PathExact": "/a", "PathRegex": "b"}, "at most one of PathExact"),
    ({"Header": [{}]}, "Route[0] Header[0] missing required Name field"),
    (
        {"Header": [{"Name": "a"}]},
        "Header[0] should only contain one of Present, Exact, Prefix, Suffix, or Regex",
    ),
    ({"QueryParam": [{}]}, "Route[0] QueryParam[0] missing required Name field"),
    (
        {"QueryParam": [{"Name": "a", "Exact": "b", "Regex": "c"}]},
        "QueryParam[0] should only contain one of Present, Exact, or Regex",
    ),
    ({"Methods": ["FETCH"]}, 'Methods contains an invalid method "FETCH"'),
    ({"Methods": ["GET", "get"]}, 'Methods contains "GET" more than once'),
]


@pytest.mark.parametrize(("match", "text"), ROUTES)
def test_routes(match: dict[str, Any], text: str) -> None:
    refused("service-router", text, Routes=[{"Match": {"HTTP": match}}])


def test_a_prefix_is_rewritten_only_where_there_is_one() -> None:
    destination = {"PrefixRewrite": "/b"}
    refused(
        "service-router",
        "Route[0] cannot make use of PrefixRewrite",
        Routes=[{"Destination": destination}],
    )
    match = {"HTTP": {"PathPrefix": "/a", "Methods": ["get"]}}
    fields = written(
        "service-router", Routes=[{"Match": match, "Destination": destination}, {}]
    )
    assert fields["Routes"][0]["Match"]["HTTP"]["Methods"] == ["GET"]


def test_splits() -> None:
    refused(
        "service-splitter",
        'split destination occurs more than once: service="x", subset="", namespace=""',
        Splits=[{"Weight": 50}, {"Weight": 50, "Service": "x"}],
    )
    fields = written(
        "service-splitter",
        Splits=[{"Weight": 33.333}, {"Weight": 66.667, "Service": "y"}],
    )
    assert [split["Weight"] for split in fields["Splits"]] == [33.33, 66.67]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Subsets": {"": {}}}, "Subset defined with empty name"),
        ({"Subsets": {"v_1": {}}}, 'Subset "v_1" is invalid: must be 63 characters'),
        ({"Subsets": {"v" * 64: {}}}, "must be non-empty and 63 characters or fewer"),
        (
            {"Redirect": {"Service": "y"}, "Failover": {"*": {"Service": "z"}}},
            "Redirect and Failover cannot both be set",
        ),
        (
            {"Redirect": {"ServiceSubset": "v1"}},
            "Redirect.ServiceSubset defined without Redirect.Service",
        ),
        (
            {"Redirect": {"Service": "x", "ServiceSubset": "v1"}},
            'Redirect.ServiceSubset "v1" is not a valid subset of "x"',
        ),
        ({"Failover": {"v1": {}}}, 'Bad Failover["v1"]: not a valid subset'),
        ({"Failover": {"*": {}}}, 'Bad Failover["*"] one of Service, ServiceSubset'),
        (
            {"Failover": {"*": {"ServiceSubset": "v1"}}},
            'Bad Failover["*"].ServiceSubset "v1" is not a valid subset of ""',
        ),
        (
            {"Failover": {"*": {"Datacenters": ["dc2", ""]}}},
            'Bad Failover["*"].Datacenters: found empty datacenter',
        ),
        ({"ConnectTimeout": -SECOND}, "Bad ConnectTimeout '-1s', must be >= 0"),
    ],
)
def test_resolvers(fields: dict[str, Any], text: str) -> None:
    refused("service-resolver", text, **fields)


@pytest.mark.parametrize(
    ("balancer", "text"),
    [
        ({"Policy": "best"}, 'Bad LoadBalancer policy: "best" is not supported'),
        (
            {"Policy": "random", "RingHashConfig": {}},
            "RingHashConfig specified for incompatible load balancing policy",
        ),
        (
            {"Policy": "random", "HashPolicies": [{"SourceIP": True}]},
            'HashPolicies specified for non-hash-based Policy: "random"',
        ),
    ],
)
def test_load_balancers(balancer: dict[str, Any], text: str) -> None:
    refused("service-resolver", text, LoadBalancer=balancer)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"Field": "a"}, '"a" is not a supported field'),
        ({"Field": "header", "SourceIP": True}, "hash both a source address and a"),
        ({"FieldValue": "a", "SourceIP": True}, "when hashing SourceIP"),
        ({"Field": "header"}, 'Field "header" was specified without a FieldValue'),
        ({"FieldValue": "a"}, "FieldValue requires a Field to apply to"),
        (
            {"Field": "header", "FieldValue": "a", "CookieConfig": {}},
            'cookie_config provided for "header"',
        ),
        (
            {
                "Field": "cookie",
                "FieldValue": "a",
                "CookieConfig": {"Session": True, "TTL": SECOND},
            },
            "a session cookie cannot have an associated TTL",
        ),
    ],
)
def test_hash_policies(policy: dict[str, Any], text: str) -> None:
    balancer = {"Policy": "maglev", "HashPolicies": [{"SourceIP": True}, policy]}
    refused(
        "service-resolver",
        f"Bad LoadBalancer HashPolicy[1]: {text}"
        if not text.startswith(("hash", "when"))
        else text,
        LoadBalancer=balancer,
    )


def test_meta_and_upstreams_are_refused_together() -> None:
    refused(
        "service-defaults",
        "2 errors occurred:\n"
        f'\t* Meta key "{"k" * 129}" exceeds maximum length 128\n'
        "\t* error in upstream override for : Name is required\n\n",
        Meta={"k" * 129: "v", "a b": "c"},
        UpstreamConfig={"Overrides": [{"Protocol": "http"}]},
    )
    refused("mesh", 'Meta value for key "k" exceeds', Meta={"k": "v" * 513})
    refused("proxy-defaults", "64", Meta={str(at): "" for at in range(65)})
    refused(
        "service-defaults",
        "error in upstream defaults: Name must be empty",
        UpstreamConfig={"Defaults": {"Name": "a"}},
    )


LISTENERS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("tcp", [{"Name": "*"}], "Wildcard service name is only valid for"),
    ("tcp", [{"Name": "a", "Hosts": ["b"]}], "not supported for the tcp protocol"),
    ("http", [{"Name": "*", "Hosts": ["b"]}], "hosts to a wildcard service is not"),
    ("http", [{"Name": "a"}] * 2, "Service a cannot be added multiple times"),
    (
        "http",
        [{"Name": "a", "Hosts": ["h"]}, {"Name": "b", "Hosts": ["h"]}],
        "Hosts must be unique within a specific listener (listener on port 1)",
    ),
    ("http", [{"Name": "a", "Hosts": ["a..b"]}], 'Host "a..b" must be a valid DNS'),
    ("http", [{"Name": "a", "Hosts": ["*.*.b"]}], 'Host "*.*.b" is not valid, a'),
    ("http", [{"Name": ""}], "Service name cannot be blank (listener on port 1)"),
]


@pytest.mark.parametrize(("protocol", "services", "text"), LISTENERS)
def test_listeners(protocol: str, services: list[dict[str, Any]], text: str) -> None:
    listener = {"Port": 1, "Protocol": protocol, "Services": services}
    refused("ingress-gateway", text, Listeners=[listener])


def test_a_star_is_a_host_without_tls_alone() -> None:
    services = [{"Name": "a", "Hosts": ["*", "*.b.c", "d."]}]
    listener = {"Port": 1, "Protocol": "http", "Services": services}
    assert written("ingress-gateway", Listeners=[listener])["Listeners"]
    refused(
        "ingress-gateway",
        "Host '*' is not allowed when TLS is enabled",
        Listeners=[listener],
        TLS={"Enabled": True},
    )
