from __future__ import annotations

from typing import Any

import pytest
from state_help import Log, image, uuid

from pyconsul.types.errors import CommandError
from pyconsul.types.records import ServiceCheckRef, Session


def ready() -> Log:
    log = Log()
    log.register("N1")
    log.service("n1", "web", id="w")
    log.check("n1", "serfHealth", "passing")
    log.check("n1", "wc", "passing", "w")
    return log


def test_create_stores_indexes_and_default_behaviour():
    log = ready()
    assert log.session(1, "n1", ttl="10s") == uuid(1)
    (session,) = log.store.session_get(uuid(1)).value
    assert (session.behavior, session.create_index) == ("release", log.index)
    assert log.store.sessions().value == [session]
    assert log.store.node_sessions("n1").value == [session]
    assert log.store.node_sessions("n2").value == []
    assert log.store.sessions().index == log.index


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"node": "no"}, "Missing node registration"),
        ({"node_checks": ["zz"]}, "Missing check 'zz' registration"),
        ({"node_checks": ["bad"]}, "Check 'bad' is in critical state"),
        (
            {"service_checks": [ServiceCheckRef(id="zz")]},
            "Missing check 'zz' registration",
        ),
        ({"behavior": "explode"}, "Invalid session behavior: explode"),
    ],
)
def test_create_refusals(fields: dict[str, Any], text: str):
    log = ready()
    log.check("n1", "bad", "critical")
    before = image(log.store)
    refused = log.session(1, fields.pop("node", "n1"), **fields)
    assert isinstance(refused, CommandError)
    assert str(refused) == text
    assert image(log.store) == before


def test_destroy():
    log = ready()
    log.session(1, "n1")
    assert log.destroy(uuid(2)) is True
    assert str(log.destroy("x")).startswith("failed session lookup: ")
    assert log.destroy(uuid(1)) is True
    assert log.store.session_get(uuid(1)).value == []
    assert log.store.node_sessions("n1").value == []
    with pytest.raises(CommandError, match="failed session lookup"):
        log.store.session_get("x")


ENDINGS = {
    "destroyed": lambda log: log.destroy(uuid(1)),
    "node gone": lambda log: log.deregister("n1"),
    "node check critical": lambda log: log.check("n1", "serfHealth", "critical"),
    "node check gone": lambda log: log.deregister("n1", check_id="serfHealth"),
    "service check critical": lambda log: log.check("n1", "wc", "critical", "w"),
    "service gone": lambda log: log.deregister("n1", service_id="w"),
}


@pytest.mark.parametrize("ending", sorted(ENDINGS))
@pytest.mark.parametrize("behavior", ["release", "delete"])
def test_an_ended_session_frees_its_keys_at_once(ending: str, behavior: str):
    log = ready()
    heard: list[tuple[Session, list[str]]] = []
    log.store.on_session_invalidated = lambda s, keys: heard.append((s, list(keys)))
    log.session(
        1,
        "n1",
        behavior=behavior,
        node_checks=["serfHealth"],
        service_checks=[ServiceCheckRef(id="wc")],
    )
    for key in ("a", "b"):
        assert log.kv("lock", key, b"v", flags=3, session=uuid(1)) is True
    log.set("c")
    assert ENDINGS[ending](log) is True
    assert log.store.get_session(uuid(1)) is None
    assert [(session.id, keys) for session, keys in heard] == [(uuid(1), ["a", "b"])]
    assert log.store.sessions().index == log.index
    rows = {row.record.key: row.record for row in log.store.kv_list("").value}
    if behavior == "delete":
        assert set(rows) == {"c"}
        return
    for key in ("a", "b"):
        held = rows[key]
        assert (held.session, held.value, held.flags) == ("", b"v", 3)
        assert (held.lock_index, held.modify_index) == (1, log.index)


def test_other_checks_do_not_end_a_session():
    log = ready()
    log.session(1, "n1", node_checks=["serfHealth"])
    log.check("n1", "serfHealth", "warning")
    log.check("n1", "wc", "critical", "w")
    log.check("n1", "other", "critical")
    log.deregister("n1", service_id="w")
    assert log.store.get_session(uuid(1)) is not None


def test_a_released_key_ends_with_no_session():
    log = ready()
    heard: list[list[str]] = []
    log.store.on_session_invalidated = lambda _, keys: heard.append(list(keys))
    log.session(1, "n1")
    log.kv("lock", "a", session=uuid(1))
    log.kv("unlock", "a", session=uuid(1))
    log.kv("lock", "b", session=uuid(1))
    log.kv("delete", "b")
    log.destroy(uuid(1))
    assert heard == [[]]
