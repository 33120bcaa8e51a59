from __future__ import annotations

from typing import Any

import pytest
from state_help import Counter, Log, image, uuid

from pyconsul.state import commands, query_templates
from pyconsul.state.store import StateStore
from pyconsul.types.errors import CommandError, ConsulError
from pyconsul.types.queries import (
    PreparedQuery,
    PreparedQueryRequest,
    QueryTemplate,
    ServiceQuery,
)

PREFIX = QueryTemplate(type="name_prefix_match")


def apply(log: Log, op: str, number: int, **fields: Any) -> Any:
    fields.setdefault("service", ServiceQuery(service="web"))
    query = PreparedQuery(id=uuid(number), **fields)
    request = PreparedQueryRequest(op=op, query=query)
    return log.apply(commands.encode_prepared_query(request))


def named(log: Log, wanted: str) -> str | None:
    found = log.store.resolve_query(wanted)
    return found.id if found is not None else None


def test_create_update_delete():
    log = Log()
    waiter = Counter(log.store.prepared_queries())
    assert apply(log, "create", 1, name="Web") == uuid(1)
    assert waiter.fired == 1
    assert named(log, "wEB") == named(log, uuid(1)) == uuid(1)
    apply(log, "update", 1, name="renamed")
    (query,) = log.store.prepared_query(uuid(1)).value
    assert (query.create_index, query.modify_index) == (1, 2)
    assert named(log, "web") is None
    assert named(log, "renamed") == uuid(1)
    apply(log, "delete", 1)
    assert log.store.prepared_queries().value == []
    assert named(log, "renamed") is None
    assert log.store.prepared_queries().index == 3


def test_a_refused_query_changes_nothing():
    log = Log()
    apply(log, "create", 1, name="web")
    apply(log, "create", 2, name="other")
    before = image(log.store)
    taken = apply(log, "update", 2, name="WEB")
    assert str(taken) == "name 'WEB' aliases an existing query name"
    stranger = apply(log, "create", 3, name="x", session=uuid(9))
    assert str(stranger) == f'invalid session "{uuid(9)}"'
    assert isinstance(apply(log, "replace", 1, name="web"), CommandError)
    assert image(log.store) == before


def test_a_malformed_id_is_an_error():
    with pytest.raises(ConsulError, match="UUID must be 36 characters"):
        Log().store.prepared_query("short")


def test_queries_end_with_their_session():
    log = Log()
    log.register("n1")
    log.session(5, "n1")
    apply(log, "create", 1, session=uuid(5))
    apply(log, "create", 2, name="stays")
    log.destroy(uuid(5))
    assert [q.id for q in log.store.prepared_queries().value] == [uuid(2)]
    assert log.store.prepared_queries().index == log.index


def test_queries_survive_a_snapshot():
    log = Log()
    apply(log, "create", 1, name="web")
    apply(log, "create", 2, name="geo-", template=PREFIX)
    state = image(log.store)
    store = StateStore()
    store.restore([state])
    assert image(store) == state
    assert store.prepared_queries().index == 2
    for wanted in ("web", "geo-x"):
        assert store.resolve_query(wanted) == log.store.resolve_query(wanted)


def test_the_longest_template_wins_and_is_rendered():
    log = Log()
    service = ServiceQuery(
        service="${name.suffix}-$${x}",
        tags=["${name.prefix}", "${agent.segment}"],
        node_meta={"k": "${ name.full }"},
    )
    tidy = QueryTemplate(type="name_prefix_match", remove_empty_tags=True)
    apply(log, "create", 1, name="", template=PREFIX)
    apply(log, "create", 2, name="geo-", template=tidy, service=service)
    found = log.store.resolve_query("geo-Db")
    assert found is not None
    assert found.service.service == "Db-${x}"
    assert found.service.tags == ["geo-"]
    assert found.service.node_meta == {"k": "geo-Db"}
    assert named(log, "anything") == uuid(1)
    with pytest.raises(ConsulError, match="by name"):
        log.store.resolve_query(uuid(2))


@pytest.mark.parametrize(
    ("template", "service", "text"),
    [
        (QueryTemplate(type="nope"), "w", "Bad Template.Type 'nope'"),
        (
            QueryTemplate(type="name_prefix_match", regexp="("),
            "w",
            "Bad Regexp: error parsing regexp",
        ),
        (PREFIX, "${x", "Bad format '${x' in Service.Service: parse error"),
        (PREFIX, "${x}", "Bad format '${x}' in Service.Service: unknown variable"),
    ],
)
def test_templates_that_do_not_compile(
    template: QueryTemplate, service: str, text: str
) -> None:
    refused = apply(
        Log(),
        "create",
        1,
        name="t",
        template=template,
        service=ServiceQuery(service=service),
    )
    assert isinstance(refused, CommandError)
    assert str(refused).startswith("failed compiling template: " + text)


def rendered(regexp: str, service: str, name: str) -> str:
    template = QueryTemplate(type="name_prefix_match", regexp=regexp)
    query = PreparedQuery(
        name="geo-", template=template, service=ServiceQuery(service=service)
    )
    return query_templates.render(query, name).service.service


@pytest.mark.parametrize(
    ("regexp", "service", "name", "expected"),
    [
        ("", "${match(1)}x", "geo-web", "x"),
        ("^geo-(.*?)-([^-]+?)$", "${match(1)}.${match(2)}", "geo-a-b-c", "a-b.c"),
        ("^geo-(.*)$", "${match( 0 )}", "geo-Web", "geo-Web"),
        ("^geo-(.*)$", "x${match(2)}y${match(99999999999999999999)}", "geo-w", "xy"),
        ("^geo-(?:(a)|(b))", "<${match(1)}|${match(02)}>", "geo-b", "<|b>"),
        ("^other", "x${match(0)}", "geo-b", "x"),
    ],
)
def test_groups_of_the_regexp(
    regexp: str, service: str, name: str, expected: str
) -> None:
    assert rendered(regexp, service, name) == expected


def test_a_name_too_long_for_the_regexp_is_an_error():
    with pytest.raises(ConsulError, match="text too long"):
        rendered("(a{500}){5}", "${match(0)}", "geo-" + "a" * 1000)


def test_a_template_knows_the_segment_of_the_agent():
    log = Log()
    service = ServiceQuery(service="${agent.segment}-x")
    apply(log, "create", 1, name="s", template=PREFIX, service=service)
    found = log.store.resolve_query("s", "alpha")
    assert found is not None
    assert found.service.service == "alpha-x"


def test_names_are_those_of_queries_and_templates_together():
    log = Log()
    apply(log, "create", 1, name="web")
    taken = apply(log, "create", 2, name="WEB", template=PREFIX)
    assert str(taken) == "name 'WEB' aliases an existing query name"
    apply(log, "create", 2, name="geo-", template=PREFIX)
    taken = apply(log, "create", 3, name="Geo-")
    assert str(taken) == "name 'Geo-' aliases an existing query name"
    assert apply(log, "update", 2, name="geo-", template=PREFIX) == uuid(2)
    assert named(log, "geo-") == uuid(2)
    assert apply(log, "update", 2, name="geo-") == uuid(2)
    assert (named(log, "geo-"), named(log, "geo-x")) == (uuid(2), None)


def test_a_second_template_without_a_name_is_refused():
    log = Log()
    apply(log, "create", 1, name="", template=PREFIX)
    refused = apply(log, "create", 2, name="", template=PREFIX)
    assert str(refused) == "a query template with an empty name already exists"
    assert apply(log, "update", 1, name="", template=PREFIX) == uuid(1)


def test_a_name_does_not_hide_an_id():
    log = Log()
    apply(log, "create", 1, name="web")
    refused = apply(log, "create", 2, name=uuid(1))
    assert str(refused) == f"name '{uuid(1)}' aliases an existing query ID"
    assert apply(log, "create", 2, name=uuid(3)) == uuid(2)
