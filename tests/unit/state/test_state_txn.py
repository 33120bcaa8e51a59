from __future__ import annotations

from typing import Any

import pytest
from state_help import Log, image, uuid

from pyconsul.types.messages import (
    TxnCheckOp,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnServiceOp,
    TxnSessionOp,
)
from pyconsul.types.records import DirEntry, HealthCheck, Node, NodeService, Session


def kv(verb: str, key: str, value: bytes = b"", **fields: Any) -> TxnOp:
    return TxnOp(
        kv=TxnKVOp(verb=verb, dir_ent=DirEntry(key=key, value=value, **fields))
    )


def node(verb: str, name: str, **fields: Any) -> TxnOp:
    return TxnOp(node=TxnNodeOp(verb=verb, node=Node(node=name, **fields)))


def service(verb: str, on: str, name: str, **fields: Any) -> TxnOp:
    instance = NodeService(service=name, **fields)
    return TxnOp(service=TxnServiceOp(verb=verb, node=on, service=instance))


def check(verb: str, on: str, check_id: str, **fields: Any) -> TxnOp:
    record = HealthCheck(node=on, check_id=check_id, **fields)
    return TxnOp(check=TxnCheckOp(verb=verb, check=record))


def filled() -> Log:
    log = Log()
    log.set("k", b"v", flags=3)  # 1
    log.service("n", "web")  # 2
    log.check("n", "c", "passing", "web")  # 3
    log.session(1, "n")  # 4
    log.session(2, "n")  # 5
    log.kv("lock", "held", b"h", session=uuid(1))  # 6
    return log


def test_results_come_in_order_and_only_gets_carry_values():
    log = filled()
    response = log.txn(
        kv("set", "new", b"1"),
        kv("get", "new"),
        kv("cas", "k", b"2", modify_index=1),
        kv("check-not-exists", "nowhere"),
        kv("check-index", "held", modify_index=6),
        kv("check-session", "held", session=uuid(1)),
        kv("lock", "mine", b"m", session=uuid(2)),
        kv("unlock", "mine", session=uuid(2)),
        kv("delete", "k"),
        kv("get-tree", ""),
    )
    assert response.errors == []
    seen = [(r.kv.key, r.kv.value) for r in response.results]
    assert seen == [
        ("new", b""),
        ("new", b"1"),
        ("k", b""),
        ("held", b""),
        ("held", b""),
        ("mine", b""),
        ("mine", b""),
        ("held", b"h"),
        ("mine", b""),
        ("new", b"1"),
    ]


FAILURES = [
    (kv("cas", "k", modify_index=9), 'failed to set key "k", index is stale'),
    (kv("cas", "k"), 'failed to set key "k", index is stale'),
    (kv("get", "x"), 'key "x" doesn\'t exist'),
    (
        kv("lock", "held", session=uuid(2)),
        'failed to lock key "held", lock is already held',
    ),
    (kv("lock", "x"), "missing session"),
    (kv("lock", "x", session=uuid(9)), f'invalid session "{uuid(9)}"'),
    (
        kv("unlock", "held", session=uuid(2)),
        'failed to unlock key "held", lock isn\'t held, or is held by another session',
    ),
    (
        kv("check-index", "x", modify_index=1),
        'failed to check index, key "x" doesn\'t exist',
    ),
    (
        kv("check-index", "k", modify_index=77),
        'failed index check for key "k", current modify index 1 != 77',
    ),
    (kv("check-session", "x"), 'failed to check session, key "x" doesn\'t exist'),
    (
        kv("check-session", "k", session="x"),
        'failed session check for key "k", current session "" != "x"',
    ),
    (kv("check-not-exists", "k"), 'key "k" exists'),
    (kv("delete-cas", "k", modify_index=9), 'failed to delete key "k", index is stale'),
    (kv("nope", "k"), 'unknown KV verb "nope"'),
    (node("get", "x"), 'node "x" doesn\'t exist'),
    (node("cas", "n", modify_index=9), 'failed to set node "n", index is stale'),
    (
        node("delete-cas", "n", modify_index=9),
        'failed to delete node "n", index is stale',
    ),
    (node("nope", "n"), 'unknown Node verb "nope"'),
    (service("get", "n", "x"), 'service "x" on node "n" doesn\'t exist'),
    (service("set", "x", "web"), "Missing node registration"),
    (
        service("cas", "n", "web", modify_index=9),
        'failed to set service "web" on node "n", index is stale',
    ),
    (
        service("delete-cas", "n", "web", modify_index=9),
        'failed to delete service "web" on node "n", index is stale',
    ),
    (service("nope", "n", "web"), 'unknown Service verb "nope"'),
    (check("get", "n", "x"), 'check "x" on node "n" doesn\'t exist'),
    (check("set", "x", "c"), "Missing node registration"),
    (
        check("cas", "n", "c", modify_index=9),
        'failed to set check "c" on node "n", index is stale',
    ),
    (
        check("delete-cas", "n", "c", modify_index=9),
        'failed to delete check "c" on node "n", index is stale',
    ),
    (check("nope", "n", "c"), 'unknown Check verb "nope"'),
]

# One of everything that writes: a failure after it has to undo it all.
STORM = (
    kv("set", "k", b"other"),
    kv("set", "z", b"1"),
    kv("delete", "k"),
    kv("set", "k", b"back"),
    kv("lock", "free", session=uuid(2)),
    kv("delete-tree", "z"),
    node("set", "n", address="changed"),
    node("set", "m", id="cccccccc-0000-0000-0000-000000000001"),
    service("set", "m", "db"),
    service("set", "n", "web", port=99),
    service(
        "set", "n", "px", kind="connect-proxy", proxy={"DestinationServiceName": "web"}
    ),
    check("set", "n", "c", status="critical", service_id="web"),
    check("set", "m", "new", status="passing"),
    TxnOp(session=TxnSessionOp(verb="delete", session=Session(id=uuid(1)))),
    node("delete", "m"),
    node("delete", "n"),
    kv("set", "k", b"v", flags=3),
)
INNOCENT = ("set", "held", "free")


@pytest.mark.parametrize(("op", "text"), FAILURES)
def test_a_failure_names_the_operation(op: TxnOp, text: str):
    log = filled()
    before = image(log.store)
    response = log.txn(kv("set", "first", b"1"), op)
    assert [(e.op_index, e.what) for e in response.errors] == [(1, text)]
    assert response.results == []
    assert image(log.store) == before


def test_several_errors_are_listed():
    response = filled().txn(kv("get", "x"), kv("set", "y"), kv("get", "z"))
    assert [error.op_index for error in response.errors] == [0, 2]


@pytest.mark.parametrize("length", range(1, len(STORM) + 1))
def test_a_rollback_restores_everything(length: int):
    log, twin = filled(), filled()
    ended: list[object] = []
    log.store.on_session_invalidated = lambda *args: ended.append(args)
    reads = (
        lambda s: [row.record for row in s.check_service_nodes("web").value],
        lambda s: [r.record for r in s.check_service_nodes("web", connect=True).value],
        lambda s: s.services().value,
        lambda s: s.kv_keys("").value,
        lambda s: s.node_sessions("n").value,
    )
    before = [read(log.store) for read in reads]
    response = log.txn(*STORM[:length], kv("get", "nowhere"))
    assert [error.op_index for error in response.errors] == [length]
    assert image(log.store) == image(twin.store)
    assert [read(log.store) for read in reads] == before
    assert ended == []
    # What the tables keep beside the records is whole, too.
    twin.index = log.index
    for each in (log, twin):
        each.destroy(uuid(1))
        each.deregister("n")
        each.kv("delete-tree", "")
    assert image(log.store) == image(twin.store)


def test_the_storm_itself_succeeds():
    log = filled()
    assert log.txn(*STORM).errors == []
    assert log.store.nodes().value == []
    assert log.store.all_sessions() == []
    assert log.store.kv_keys("").value == ["free", "held", "k"]


def test_catalog_verbs_return_what_is_stored():
    log = filled()
    response = log.txn(
        node("get", "n"),
        service("get", "n", "web"),
        check("cas", "n", "c", modify_index=3, status="warning", service_id="web"),
        check("delete-cas", "n", "c", modify_index=7),
        service("delete", "n", "web"),
        node("delete-cas", "n", modify_index=2),
    )
    assert response.errors == []
    first, second, third = response.results
    assert first.node is not None
    assert first.node.modify_index == 2
    assert second.service is not None
    assert third.check is not None
    assert (third.check.status, third.check.modify_index) == ("warning", 7)
    assert log.store.get_node("n") is None


def test_reads_need_no_command_and_refuse_writes():
    log = filled()
    before = image(log.store)
    response = log.store.txn_read([kv("get", "k"), node("get", "n")])
    assert [bool(r.kv) for r in response.results] == [True, False]
    response = log.store.txn_read([kv("set", "k", b"no"), kv("get-or-empty", "x")])
    assert [e.what for e in response.errors] == ['unknown KV verb "set"']
    assert image(log.store) == before
