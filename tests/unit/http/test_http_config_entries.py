from __future__ import annotations

import json
from typing import Any

import pytest
from http_fakes import FakeCaller, ask, make_face

from pyconsul.http.config_entries import decode_entry, entry_json
from pyconsul.http.decoding import DecodeError
from pyconsul.types.config_entries import (
    KINDS,
    ConfigEntry,
    GatewayService,
    complete,
)
from pyconsul.types.messages import Reply, Row


def shown(kind: str, **fields: Any) -> dict[str, Any]:
    given = {"Kind": kind, "Name": "n", **fields}
    entry = ConfigEntry(kind=kind, name="n", fields=complete(KINDS[kind], given))
    return json.loads(entry_json(entry))


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_every_spelling_and_weak_types_are_understood():
    entry = decode_entry(
        body(
            kind="service-defaults",
            name="web",
            PROTOCOL="http",
            mesh_gateway={"mode": "local"},
            upstream_config={"defaults": {"connect_timeout_ms": "5"}},
        )
    )
    assert (entry.kind, entry.name) == ("service-defaults", "web")
    assert entry.fields["Protocol"] == "http"
    assert entry.fields["MeshGateway"] == {"Mode": "local"}
    assert entry.fields["UpstreamConfig"]["Defaults"] == {"ConnectTimeoutMs": 5}


def test_maps_of_the_user_keep_their_spelling():
    config = {"local_connect_timeout_ms": 1000, "nested": {"a": [1, None]}}
    entry = decode_entry(body(Kind="proxy-defaults", Name="global", Config=config))
    assert entry.fields["Config"] == config


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"", "EOF"),
        (b"[]", "Payload does not contain a kind/Kind key at the top level"),
        (body(Kind="zz"), "invalid config entry kind: zz"),
        (
            body(Kind="mesh", Name="x"),
            '1 error occurred:\n\t* invalid config key "Name"\n\n',
        ),
        (
            body(Kind="terminating-gateway", Foo=1, Services=[{"Bar": 1}]),
            '2 errors occurred:\n\t* invalid config key "Foo"\n'
            '\t* invalid config key "Services[0].Bar"\n\n',
        ),
    ],
)
def test_bodies_that_are_no_entry_are_refused(given: bytes, text: str):
    with pytest.raises(DecodeError) as caught:
        decode_entry(given)
    assert str(caught.value) == text


def test_values_beyond_any_bound_are_refused():
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for config in ({"a": deep}, {"a": 1 << 70}):
        with pytest.raises(DecodeError):
            decode_entry(body(Kind="proxy-defaults", Config=config))
    with pytest.raises(DecodeError):
        decode_entry(body(Kind="service-defaults", Protocol={}))
    with pytest.raises(DecodeError):
        decode_entry(body(Kind="service-resolver", ConnectTimeout="soon"))


def test_kinds_print_what_go_prints():
    splits = [{"Weight": 90.0}, {"Weight": 9.989999771118164, "Service": "b"}]
    assert shown("service-splitter", Splits=splits)["Splits"] == [
        {"Weight": 90},
        {"Weight": 9.99, "Service": "b"},
    ]
    listeners = [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "a"}]}]
    ingress = shown("ingress-gateway", Listeners=listeners)
    assert ingress["TLS"] == {"Enabled": False}
    assert ingress["Listeners"][0]["Services"] == [{"Name": "a", "Hosts": None}]
    resolver = shown("service-resolver", ConnectTimeout=90_000_000_000)
    assert list(resolver)[:2] == ["ConnectTimeout", "Kind"]
    assert resolver["ConnectTimeout"] == "1m30s"
    assert "Name" not in json.loads(
        entry_json(ConfigEntry(kind="mesh", name="mesh", fields={}))
    )
    assert shown("proxy-defaults", Config={"b": 1000.0, "a": 1.5})["Config"] == {
        "a": 1.5,
        "b": 1000,
    }


def test_writing_passes_operation_and_expected_index():
    caller = FakeCaller()
    caller.answers = {"ConfigEntry.Apply": False}
    entry = body(Kind="service-defaults", Name="web")
    answer = ask(make_face(caller), "PUT /v1/config?cas=7", entry)
    assert (answer.status, answer.body) == (200, b"false")
    method, args = caller.calls[-1]
    assert (method, args.op) == ("ConfigEntry.Apply", "upsert-cas")
    assert args.entry.modify_index == 7
    refused = ask(make_face(caller), "PUT /v1/config?cas=x", entry)
    assert refused.status == 500
    assert refused.body == b'strconv.ParseUint: parsing "x": invalid syntax'


def test_reading_answers_lists_entries_and_404_with_the_index():
    caller = FakeCaller()
    fields = complete(KINDS["terminating-gateway"], {"Name": "t"})
    row = Row(ConfigEntry(kind="terminating-gateway", name="t", fields=fields))
    caller.answers = {
        "ConfigEntry.List": Reply([row], 9),
        "ConfigEntry.Get": Reply(None, 9),
    }
    face = make_face(caller)
    listed = ask(face, "GET /v1/config/terminating-gateway")
    assert json.loads(listed.body)[0]["Name"] == "t"
    missing = ask(face, "GET /v1/config/terminating-gateway/x")
    assert missing.status == 404
    assert b"X-Consul-Index: 9" in missing.headers
    assert missing.body == (b'Config entry not found for "terminating-gateway" / "x"')


def test_deleting_wants_a_known_kind_and_a_name():
    caller = FakeCaller()
    caller.answers = {"ConfigEntry.Delete": True}
    face = make_face(caller)
    assert ask(face, "DELETE /v1/config/mesh").status == 404
    assert ask(face, "DELETE /v1/config/zz/x").status == 400
    assert caller.calls == []
    assert ask(face, "DELETE /v1/config/mesh/mesh").body == b"{}"


def test_gateway_services_are_a_list_or_null():
    caller = FakeCaller()
    service = GatewayService(gateway="g", service="a", gateway_kind="k", port=3)
    caller.answers = {"Catalog.GatewayServices": Reply([service], 4)}
    face = make_face(caller)
    assert json.loads(ask(face, "GET /v1/catalog/gateway-services/g").body) == [
        {
            "Gateway": {"Name": "g"},
            "Service": {"Name": "a"},
            "GatewayKind": "k",
            "Port": 3,
            "CreateIndex": 0,
            "ModifyIndex": 0,
        }
    ]
    caller.answers = {"Catalog.GatewayServices": Reply([], 4)}
    assert ask(face, "GET /v1/catalog/gateway-services/g").body == b"null"
    nameless = ask(face, "GET /v1/catalog/gateway-services/")
    assert (nameless.status, nameless.body) == (400, b"Missing gateway name")


def test_a_slash_after_the_kind_begins_an_empty_name():
    caller = FakeCaller()
    caller.answers["ConfigEntry.Get"] = Reply(None, 7)
    caller.answers["ConfigEntry.Delete"] = True
    face = make_face(caller)
    missing = ask(face, "GET /v1/config/service-defaults/")
    assert missing.status == 404
    assert missing.body == b'Config entry not found for "service-defaults" / ""'
    assert ask(face, "DELETE /v1/config/service-defaults/").body == b"{}"
    assert ask(face, "DELETE /v1/config/service-defaults").status == 404
