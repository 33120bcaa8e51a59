"""Each row of the index granularity table: what wakes a read, what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from state_help import Counter, Log, uuid

from pyconsul.state.store import StateStore
from pyconsul.state.watch import Read
from pyconsul.types.messages import TxnKVOp, TxnOp
from pyconsul.types.records import DirEntry, NodeService

Reader = Callable[[StateStore], Read]
Write = Callable[[Log], object]

READS: dict[str, Reader] = {
    "key": lambda s: s.kv_get("p/a"),
    "absent key": lambda s: s.kv_get("p/none"),
    "prefix": lambda s: s.kv_list("p/"),
    "keys": lambda s: s.kv_keys("p/", "/"),
    "all keys": lambda s: s.kv_list(""),
    "session": lambda s: s.session_get(uuid(1)),
    "sessions": lambda s: s.sessions(),
    "node sessions": lambda s: s.node_sessions("n1"),
    "nodes": lambda s: s.nodes(),
    "services": lambda s: s.services(),
    "services by meta": lambda s: s.services({"a": "b"}),
    "service": lambda s: s.service_nodes("web"),
    "health": lambda s: s.check_service_nodes("web"),
    "connect": lambda s: s.service_nodes("web", connect=True),
    "absent service": lambda s: s.service_nodes("none"),
    "service checks": lambda s: s.service_checks("web"),
    "service checks by meta": lambda s: s.service_checks("web", {"a": "b"}),
    "node checks": lambda s: s.node_checks("n1"),
    "state": lambda s: s.checks_in_state("passing"),
    "node": lambda s: s.node_services("n1"),
}

CHECKS = {"service checks", "node checks", "state"}
WEB = {"service", "health", "service checks by meta"}
SERVICES = {"services", "services by meta", "node"}
NODES = {"nodes", "services by meta", "node"}
SESSIONS = {"session", "sessions", "node sessions"}
BELOW = {"prefix", "keys", "all keys"}

WRITES: dict[str, tuple[Write, set[str]]] = {
    "set key": (lambda g: g.set("p/a", b"2"), BELOW | {"key"}),
    "set same": (lambda g: g.set("p/a", b"v"), set()),
    "new key": (lambda g: g.set("p/none"), BELOW | {"absent key"}),
    "elsewhere": (lambda g: g.set("q"), {"all keys"}),
    "delete key": (lambda g: g.kv("delete", "p/a"), BELOW | {"key"}),
    "delete absent": (lambda g: g.kv("delete", "p/none"), set()),
    "delete tree": (lambda g: g.kv("delete-tree", "p"), BELOW | {"key"}),
    "lock": (lambda g: g.kv("lock", "p/a", session=uuid(1)), BELOW | {"key"}),
    "new session": (lambda g: g.session(2, "n1"), SESSIONS),
    "end session": (lambda g: g.destroy(uuid(1)), SESSIONS),
    "new node": (lambda g: g.register("n9"), NODES),
    "change host": (
        lambda g: g.register("n1", address="2"),
        NODES | WEB | {"connect"},
    ),
    "same host": (lambda g: g.register("n1"), set()),
    "drop other node": (lambda g: g.deregister("n2"), NODES | SERVICES),
    "new instance": (
        lambda g: g.register(
            "n2", service=NodeService(service="web"), skip_node_update=True
        ),
        WEB | SERVICES,
    ),
    "same instance": (lambda g: g.service("n1", "web"), set()),
    "drop instance": (
        lambda g: g.deregister("n1", service_id="web"),
        WEB | SERVICES | CHECKS,  # its check goes with it
    ),
    "new proxy": (
        lambda g: g.service(
            "n2",
            "web-proxy",
            kind="connect-proxy",
            proxy={"DestinationServiceName": "web"},
        ),
        SERVICES | {"connect"},
    ),
    "other service": (lambda g: g.service("n2", "new"), SERVICES),
    "first of a service": (
        lambda g: g.service("n2", "none"),
        SERVICES | {"absent service"},
    ),
    "service check": (lambda g: g.check("n1", "c", "critical", "web"), WEB | CHECKS),
    "other's check": (lambda g: g.check("n2", "c", "critical", "db"), CHECKS),
    "node check": (
        lambda g: g.check("n1", "alive", "critical"),
        WEB | CHECKS | {"connect"},
    ),
    "other's node check": (lambda g: g.check("n2", "alive", "critical"), CHECKS),
    "same check": (lambda g: g.check("n1", "c", "passing", "web"), set()),
    "drop check": (lambda g: g.deregister("n1", check_id="c"), WEB | CHECKS),
    "refused": (lambda g: g.check("n1", "new", "passing", "nope"), set()),
    "rolled back": (
        lambda g: g.txn(
            TxnOp(kv=TxnKVOp(verb="set", dir_ent=DirEntry(key="p/a", value=b"9"))),
            TxnOp(kv=TxnKVOp(verb="get", dir_ent=DirEntry(key="nowhere"))),
        ),
        set(),
    ),
    "reap": (lambda g: g.reap(g.index), set()),
    "coordinates": (lambda g: g.apply(b"\x86\x90"), set()),
}


def filled() -> Log:
    log = Log()
    log.set("gone")
    log.kv("delete", "gone")
    log.set("p/a")
    log.service("n1", "web")
    log.service(
        "n1",
        "web-sidecar",
        kind="connect-proxy",
        proxy={"DestinationServiceName": "web"},
    )
    log.check("n1", "c", "passing", "web")
    log.service("n2", "db")
    log.session(1, "n1")
    return log


@pytest.mark.parametrize("name", sorted(WRITES))
def test_a_write_wakes_exactly_who_reads_what_it_changed(name: str):
    write, expected = WRITES[name]
    log = filled()
    before = {reader: READS[reader](log.store) for reader in READS}
    waiters = {reader: Counter(read) for reader, read in before.items()}
    write(log)
    woken = {reader for reader, waiter in waiters.items() if waiter.fired}
    assert woken == expected
    for reader in woken:
        # Who is woken finds a higher index, or it would sleep on.
        assert READS[reader](log.store).index == log.index, reader
        assert waiters[reader].fired == 1
    for reader in set(READS) - woken - {"absent key", "absent service"}:
        assert READS[reader](log.store).index == before[reader].index, reader


def test_the_last_instance_leaves_the_extinction_index():
    log = filled()
    assert log.store.service_nodes("none").index == 1
    log.deregister("n2", service_id="db")
    gone = log.index
    log.set("later")
    assert log.store.service_nodes("db").index == gone
    assert log.store.service_nodes("none").index == gone


def test_a_restore_wakes_everybody():
    log = filled()
    waiters = [Counter(read(log.store)) for read in READS.values()]
    log.store.restore(list(log.store.snapshot().chunks()))
    assert [waiter.fired for waiter in waiters] == [1] * len(READS)
    spaces = (log.store.watch.keys, log.store.watch.prefixes, log.store.watch.tables)
    assert not any(space.waiting for space in spaces)
    assert not log.store.watch.prefixes.lengths
