from __future__ import annotations

from typing import Any

import pytest

from pyconsul.endpoints.config_entry import normalise
from pyconsul.types.config_entries import ConfigEntry
from pyconsul.types.errors import ConsulError


def entry(kind: str, name: str = "n", **fields: Any) -> ConfigEntry:
    return normalise(ConfigEntry(kind=kind, name=name, fields=fields))


def test_defaults_are_filled_in():
    proxy = entry("proxy-defaults", "other")
    assert (proxy.name, proxy.fields["Name"]) == ("global", "global")
    assert entry("service-defaults", Protocol="HTTP").fields["Protocol"] == "http"
    listeners = [{"Port": 1, "Services": [{"Name": "a"}]}]
    ingress = entry("ingress-gateway", Listeners=listeners)
    assert ingress.fields["Listeners"][0]["Protocol"] == "tcp"


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("service-defaults", {"name": ""}, "Name is required"),
        ("service-splitter", {}, "no splits configured"),
        (
            "service-splitter",
            {"Splits": [{"Weight": 90}]},
            "the sum of all split weights must be 100, not 90.000000",
        ),
        ("service-resolver", {"Redirect": {}}, "Redirect is empty"),
        (
            "service-resolver",
            {"DefaultSubset": "zz"},
            'DefaultSubset "zz" is not a valid subset',
        ),
        (
            "ingress-gateway",
            {"Listeners": [{"Port": 0}]},
            "No service declared for listener with port 0",
        ),
        ("bogus", {}, "invalid config entry kind: bogus"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, fields: dict[str, Any], text: str):
    with pytest.raises(ConsulError) as caught:
        entry(kind, **fields)
    assert str(caught.value) == text


def test_weights_of_hundredths_add_up():
    weights = [
        {"Weight": 33.33, "Service": "a"},
        {"Weight": 33.33, "Service": "b"},
        {"Weight": 33.34, "Service": "c"},
    ]
    assert len(entry("service-splitter", Splits=weights).fields["Splits"]) == 3
