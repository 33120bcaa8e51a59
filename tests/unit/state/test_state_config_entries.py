from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from state_help import Counter, Log, image

from pyconsul.state.config_entries import (
    decode_record,
    encode_config_entry,
    entry_of,
    record_body,
)
from pyconsul.state.store import StateStore
from pyconsul.types.config_entries import ConfigEntry, ConfigEntryRequest
from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import unpack

DATA = Path(__file__).parents[2] / "data" / "state" / "snapshot.json"
RECORDS: list[dict[str, Any]] = json.loads(DATA.read_text())["records"]


def write(log: Log, kind: str, name: str, op: str = "upsert", **fields: Any) -> Any:
    modify_index = fields.pop("cas", 0)
    entry = ConfigEntry(
        kind=kind,
        name=name,
        fields=entry_of(kind, {"Kind": kind, "Name": name, **fields}).fields,
        modify_index=modify_index,
    )
    return log.apply(encode_config_entry(ConfigEntryRequest(op=op, entry=entry)))


def delete(log: Log, kind: str, name: str) -> Any:
    entry = ConfigEntry(kind=kind, name=name)
    return log.apply(encode_config_entry(ConfigEntryRequest(op="delete", entry=entry)))


def http(log: Log, *names: str) -> None:
    for name in names:
        assert write(log, "service-defaults", name, Protocol="http") is True


def served(log: Log, gateway: str) -> list[tuple[str, int, bool]]:
    services = log.store.gateway_services(gateway).value
    return [(s.service, s.modify_index, s.from_wildcard) for s in services]


def test_captured_records_decode_and_encode_to_the_same_bytes():
    bodies = [bytes.fromhex(r["hex"])[1:] for r in RECORDS if r["type"] == 22]
    assert len(bodies) == 2
    for body in bodies:
        request = decode_record(unpack(body))
        assert request.entry.modify_index > 0
        assert record_body(request) == body


def test_an_entry_keeps_its_creation_and_answers_by_kind_and_name():
    log = Log()
    assert write(log, "service-defaults", "web", Protocol="http") is True
    assert write(log, "service-defaults", "web", Protocol="grpc") is True
    assert write(log, "proxy-defaults", "global", Config={"a": 1}) is True
    entry = log.store.config_entry("service-defaults", "web").value.record
    assert (entry.create_index, entry.modify_index) == (1, 2)
    assert entry.fields["Protocol"] == "grpc"
    rows = log.store.config_entries().value
    assert [row.record.name for row in rows] == ["global", "web"]
    read = log.store.config_entries("service-defaults")
    assert [row.record.name for row in read.value] == ["web"]
    assert read.index == 3


def test_cas_wants_the_index_and_zero_means_absent():
    log = Log()
    assert write(log, "service-defaults", "a", "upsert-cas", cas=7) is False
    assert write(log, "service-defaults", "a", "upsert-cas", cas=0) is True
    assert write(log, "service-defaults", "a", "upsert-cas", cas=0) is False
    assert write(log, "service-defaults", "a", "upsert-cas", cas=2) is True


def test_deleting_wakes_readers_once_and_only_when_something_was_there():
    log = Log()
    write(log, "service-resolver", "web")
    waiter = Counter(log.store.config_entry("service-resolver", "web"))
    assert delete(log, "service-resolver", "other") is True
    assert waiter.fired == 0
    assert delete(log, "service-resolver", "web") is True
    assert waiter.fired == 1
    assert log.store.config_entry("service-resolver", "web").value is None
    assert log.store.config_entries().index == 3


def test_gateway_services_have_their_own_index_and_cells():
    log = Log()
    waiter = Counter(log.store.gateway_services("term"))
    write(log, "service-defaults", "web")
    assert waiter.fired == 0
    assert log.store.gateway_services("term").index == 1
    services = [{"Name": "web"}, {"Name": "api", "SNI": "api.example"}]
    write(log, "terminating-gateway", "term", Services=services)
    assert waiter.fired == 1
    assert served(log, "term") == [("api", 2, False), ("web", 2, False)]
    assert log.store.gateway_services("term").value[0].sni == "api.example"
    delete(log, "terminating-gateway", "term")
    assert served(log, "term") == []
    assert log.store.gateway_services("term").index == 3


def test_a_wildcard_stands_for_the_typical_services_of_the_catalog():
    log = Log()
    log.service("n1", "consul")
    log.service("n1", "web")
    log.service("n1", "px", kind="connect-proxy", proxy={"DestinationServiceName": "w"})
    services = [{"Name": "*", "CAFile": "ca"}, {"Name": "api"}]
    write(log, "terminating-gateway", "term", Services=services)
    waiter = Counter(log.store.gateway_services("term"))
    log.service("n1", "api")
    log.service("n1", "late")
    assert waiter.fired == 1
    assert served(log, "term") == [
        ("api", 4, False),
        ("late", 6, True),
        ("web", 4, True),
    ]
    assert log.store.gateway_services("term").value[1].ca_file == "ca"


def test_an_ingress_gateway_serves_by_listener():
    log = Log()
    listeners = [
        {"Port": 2, "Protocol": "http", "Services": [{"Name": "a", "Hosts": ["h"]}]},
        {"Port": 1, "Protocol": "tcp", "Services": [{"Name": "a"}]},
    ]
    write(log, "ingress-gateway", "in", Listeners=listeners)
    found = log.store.gateway_services("in").value
    assert [(s.port, s.protocol, s.hosts) for s in found] == [
        (1, "tcp", None),
        (2, "http", ["h"]),
    ]


def test_a_name_is_a_gateway_of_one_kind():
    log = Log()
    write(log, "ingress-gateway", "gw")
    refused = write(log, "terminating-gateway", "gw")
    assert isinstance(refused, CommandError)
    assert log.store.config_entry("terminating-gateway", "gw").value is None


def test_chains_of_several_protocols_are_refused_and_nothing_changes():
    log = Log()
    http(log, "web")
    waiter = Counter(log.store.config_entries())
    splits = [{"Weight": 90.0}, {"Weight": 10.0, "Service": "other"}]
    refused = write(log, "service-splitter", "web", Splits=splits)
    assert str(refused) == (
        'discovery chain "web" uses inconsistent protocols;'
        ' service "other" has "tcp" which is not "http"'
    )
    assert log.store.config_entries().index == 1
    assert log.store.config_entry("service-splitter", "web").value is None
    assert waiter.fired == 0
    http(log, "other")
    assert write(log, "service-splitter", "web", Splits=splits) is True
    broken = delete(log, "service-defaults", "other")
    assert isinstance(broken, CommandError)
    assert log.store.config_entry("service-defaults", "other").value is not None


def test_routing_needs_http_and_proxy_defaults_can_bring_it():
    log = Log()
    refused = write(log, "service-router", "x")
    assert str(refused) == (
        'discovery chain "x" uses a protocol "tcp" that does not permit'
        " advanced routing or splitting behavior"
    )
    write(log, "proxy-defaults", "global", Config={"protocol": "http"})
    assert write(log, "service-router", "x") is True
    assert isinstance(delete(log, "proxy-defaults", "global"), CommandError)


def test_subsets_that_are_named_must_stay():
    log = Log()
    http(log, "web", "api")
    subsets = {"v1": {"Filter": "", "OnlyPassing": True}}
    write(log, "service-resolver", "api", Subsets=subsets)
    redirect = {"Service": "api", "ServiceSubset": "v1"}
    assert write(log, "service-resolver", "web", Redirect=redirect) is True
    refused = delete(log, "service-resolver", "api")
    assert str(refused) == 'service "api" does not have a subset named "v1"'


def test_long_and_circular_redirects_end():
    log = Log()
    for number in range(40):
        target = {"Service": f"s{(number + 1) % 40}"}
        assert write(log, "service-resolver", f"s{number}", Redirect=target) is True


def test_a_snapshot_holds_entries_and_a_restored_store_goes_on():
    log = Log()
    http(log, "web")
    splits = [{"Weight": 33.34, "Service": "web"}, {"Weight": 66.66}]
    write(log, "service-splitter", "web", Splits=splits)
    write(log, "terminating-gateway", "term", Services=[{"Name": "web"}])
    write(log, "mesh", "mesh", TransparentProxy={"MeshDestinationsOnly": True})
    state = image(log.store)
    other = Log()
    other.store, other.index = StateStore(), log.index
    other.store.restore([state])
    assert image(other.store) == state
    assert served(other, "term") == [("web", 3, False)]
    assert other.store.gateway_services("term").index == 3
    assert other.store.config_entries().index == 4
    weights = other.store.config_entry("service-splitter", "web").value.record.fields
    assert abs(weights["Splits"][0]["Weight"] - 33.34) < 1e-4


def test_what_a_newer_server_wrote_is_kept():
    entry = entry_of(
        "service-defaults",
        {"Name": "web", "Protocol": 3, "RateLimits": {"A": 1}, "ModifyIndex": 5},
    )
    assert entry.fields["RateLimits"] == {"A": 1}
    assert entry.fields["Protocol"] == ""
    assert entry.modify_index == 5


def test_malformed_commands_are_refused_not_raised():
    log = Log()
    for command in (b"\x16", b"\x16\xc0", b"\x16\xa1a", b"\x16\xa2\xa1a"):
        assert isinstance(log.apply(command), CommandError)
    assert isinstance(write(log, "bogus", "x"), CommandError)
    assert isinstance(write(log, "service-defaults", "x", "what"), CommandError)
