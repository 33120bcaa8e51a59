from __future__ import annotations

import pytest
from state_help import Log, image

from pyconsul.types.errors import CommandError
from pyconsul.types.records import HealthCheck, NodeService, Weights

ID1 = "aaaaaaaa-0000-0000-0000-000000000001"
ID2 = "bbbbbbbb-0000-0000-0000-000000000002"


def names(log: Log, service: str, **arguments: object) -> list[tuple[str, str]]:
    rows = log.store.service_nodes(service, **arguments).value  # type: ignore[arg-type]
    return [(row.record.node.node, row.record.service.id) for row in rows]


def test_register_node_service_and_checks_in_one():
    log = Log()
    assert log.register(
        "n1",
        id=ID1,
        node_meta={"env": "prod"},
        service=NodeService(service="web", tags=["a"]),
        check=HealthCheck(name="alive"),
        checks=[HealthCheck(check_id="c2", service_id="web", status="foo")],
    )
    assert log.store.get_node("N1").id == ID1
    service = log.store.get_service("n1", "web")
    assert (service.weights, service.create_index) == (Weights(), 1)
    alive = log.store.get_check("n1", "alive")
    assert (alive.node, alive.status, alive.service_name) == ("n1", "critical", "")
    check = log.store.get_check("n1", "c2")
    assert (check.status, check.service_name, check.service_tags) == (
        "foo",
        "web",
        ["a"],
    )


def test_tags_of_a_check_are_those_of_its_writing():
    log = Log()
    log.service("n1", "web", tags=["a"])
    log.check("n1", "c", "passing", "web")
    log.service("n1", "web", tags=["b"])
    assert log.store.get_check("n1", "c").service_tags == ["a"]


REFUSALS = [
    (
        {"check": HealthCheck(check_id="c", service_id="absent")},
        'failed inserting check: Missing service registration on node "n1"',
    ),
    (
        {"checks": [HealthCheck(check_id="c", node="other")]},
        'check node "other" does not match node "n1"',
    ),
    (
        {"service": NodeService(service="s", meta={"a b": "c"})},
        "failed inserting service: Invalid Service Meta for node n1 and serviceID s: "
        "Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
    ),
]


@pytest.mark.parametrize(("fields", "text"), REFUSALS)
def test_a_refused_registration_changes_nothing(fields: dict[str, object], text: str):
    log = Log()
    log.service("n1", "web")
    before = image(log.store)
    fields.setdefault("service", NodeService(service="new"))
    refused = log.register("n1", address="10.9.9.9", **fields)
    assert isinstance(refused, CommandError)
    assert str(refused) == text
    assert image(log.store) == before
    assert log.store.services().value == {"web": []}


def test_identical_registrations_move_no_index():
    log = Log()
    for _ in range(2):
        log.service("n1", "web", tags=["a"])
        log.check("n1", "c", "passing", "web")
    assert log.store.table_index("nodes", "services") == 1
    assert log.store.table_index("checks") == 2
    assert log.store.service_nodes("web").index == 2


def test_skip_node_update_leaves_a_node_alone_and_creates_an_unknown_one():
    log = Log()
    log.register("n1", address="a")
    log.register("n1", address="b", skip_node_update=True)
    assert log.store.get_node("n1").address == "a"
    log.register("n2", address="", skip_node_update=True)
    assert log.store.get_node("n2").address == ""


def test_a_live_holder_keeps_its_name():
    log = Log()
    log.register("X", id=ID1, address="1.1.1.1")
    log.check("X", "serfHealth", "passing")
    refused = log.register("x", id=ID2)
    assert str(refused) == (
        f'failed inserting node: Error while renaming Node ID: "{ID2}": Node name x '
        f"is reserved by node {ID1} with name X (1.1.1.1)"
    )
    log.check("X", "serfHealth", "critical")
    assert log.register("x", id=ID2) is True
    assert log.store.get_node("x").id == ID2


def test_a_node_is_renamed_by_its_id():
    log = Log()
    log.register("old", id=ID1, service=NodeService(service="web"))
    assert log.register("new", id=ID1) is True
    assert log.store.get_node("old") is None
    assert log.store.get_node("new").create_index == 1
    assert log.store.services().value == {}
    log.register("taken", id=ID2)
    assert isinstance(log.register("taken", id=ID1), CommandError)
    assert log.store.get_node("new").id == ID1


def test_nodes_are_found_by_a_unique_id_prefix():
    log = Log()
    log.register("n1", id=ID1)
    log.register("n2", id=ID1[:-1] + "3")
    log.register("n3", id=ID2)
    read = log.store.node_services
    assert read("bb").value.node.node == "n3"
    assert read("bbbbbbbb-00").value.node.node == "n3"
    assert read("N3").value.services == []
    for unknown in ("b", "bbb", "aa", "zz", ""):
        assert read(unknown).value is None
    assert read("absent").index == 1


def test_deregister_takes_what_hangs_below():
    log = Log()
    log.service("n1", "web", id="w1")
    log.check("n1", "cn", "passing")
    log.check("n1", "cs", "passing", "w1")
    for unknown in ({"service_id": "x"}, {"check_id": "x"}):
        assert log.deregister("n1", **unknown) is True
    assert log.deregister("absent") is True
    log.deregister("n1", service_id="w1")
    assert [r.record.check_id for r in log.store.node_checks("n1").value] == ["cn"]
    log.deregister("n1")
    assert log.store.node_checks("n1").value == []
    assert log.store.nodes().value == []


def test_service_reads_filter_and_order():
    log = Log()
    log.register("b", node_meta={"env": "test"})
    log.register("a", node_meta={"env": "prod"})
    for node, service_id, tags in (
        ("b", "2", ["v2", "Blue"]),
        ("b", "1", None),
        ("a", "9", ["v1", "blue"]),
    ):
        service = NodeService(id=service_id, service="web", tags=tags)
        log.register(node, service=service, skip_node_update=True)
    assert names(log, "WEB") == [("a", "9"), ("b", "1"), ("b", "2")]
    assert names(log, "web", tags=["BLUE"]) == [("a", "9"), ("b", "2")]
    assert names(log, "web", tags=["blue", "v2"]) == [("b", "2")]
    assert names(log, "web", meta_filters={"env": "prod"}) == [("a", "9")]
    assert log.store.services().value == {"web": ["v1", "blue", "v2", "Blue"]}
    assert log.store.services({"env": "test"}).value == {"web": ["v2", "Blue"]}
    assert len(log.store.nodes({"env": "test"}).value) == 1


def test_connect_reads_find_proxies_and_native_instances():
    log = Log()
    log.service("n", "web")
    proxy = {"DestinationServiceName": "web"}
    log.service("n", "web-proxy", kind="connect-proxy", port=1, proxy=proxy)
    assert names(log, "web", connect=True) == [("n", "web-proxy")]
    index = log.index
    assert log.store.service_nodes("web", connect=True).index == index
    log.service("m", "web", connect={"Native": True})
    assert names(log, "web", connect=True) == [("m", "web"), ("n", "web-proxy")]
    log.deregister("n", service_id="web-proxy")
    log.deregister("m", service_id="web")
    assert names(log, "web", connect=True) == []
    assert log.store.service_nodes("web", connect=True).index == log.index


def test_health_rows_hold_node_checks_first_and_passing_filters():
    log = Log()
    log.service("n1", "web")
    log.check("n1", "a-svc", "passing", "web")
    log.check("n1", "z-node", "passing")
    log.service("n2", "web")
    log.check("n2", "c", "warning", "web")
    rows = log.store.check_service_nodes("web").value
    assert [c.check_id for c in rows[0].record.checks] == ["z-node", "a-svc"]
    passing = log.store.check_service_nodes("web", passing_only=True).value
    assert passing == [rows[0]]
    warning = log.store.checks_in_state("warning").value
    assert [row.record.check_id for row in warning] == ["c"]
    assert len(log.store.checks_in_state("any").value) == 3
    assert log.store.checks_in_state("other").value == []
    assert len(log.store.service_checks("web").value) == 2


def test_rows_are_kept_until_a_part_changes():
    log = Log()
    log.service("n1", "web")
    log.service("n2", "web")
    log.check("n1", "c", "passing", "web")

    def rows() -> list[object]:
        return list(log.store.check_service_nodes("web").value)

    first = rows()
    log.set("unrelated")
    log.check("n1", "c", "passing", "web")
    assert [a is b for a, b in zip(first, rows(), strict=True)] == [True, True]
    log.check("n1", "c", "critical", "web")
    second = rows()
    assert [a is b for a, b in zip(first, second, strict=True)] == [False, True]
    log.check("n2", "node", "passing")
    third = rows()
    assert [a is b for a, b in zip(second, third, strict=True)] == [True, False]
    log.register("n2", address="new")
    assert rows()[1].record.node.address == "new"  # type: ignore[attr-defined]
    assert log.store.service_nodes("web").value[1].record.node.address == "new"


def test_a_service_may_change_its_name_under_its_id():
    log = Log()
    log.service("n1", "web", id="x")
    log.service("n1", "db", id="x")
    assert log.store.services().value == {"db": []}
    assert log.store.service_nodes("web").value == []
    assert log.store.service_nodes("web").index == 2
