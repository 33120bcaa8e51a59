"""Queries and key operations between whole nodes."""

from __future__ import annotations

import base64

import pytest
from serf_pool import VirtualPool

from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import MergeRefusedError
from pyconsul.serf import codec
from pyconsul.serf.core import QueryParams, Serf
from pyconsul.serf.keys import KeyAnswer, KeyResponse, KeyTally, decode_key, shortened
from pyconsul.serf.messages import EventMessage, Kind, QueryResponse
from pyconsul.serf.outputs import (
    ConflictLost,
    KeyringChanged,
    KeysDone,
    NameConflict,
    QueryAck,
    QueryAnswer,
    QueryDone,
    QueryEvent,
)
from pyconsul.serf.queries import simple_search
from pyconsul.serf.settings import SERF, Settings
from pyconsul.types.errors import (
    BadRequestError,
    ConfigError,
    ConsulError,
    TooLargeError,
)

ONE = b"1" * 16
TWO = b"2" * 32


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def pool_of(*names: str, key: bytes | None = None, seed: int = 1) -> VirtualPool:
    pool = VirtualPool(seed)
    for name in names:
        keyring = Keyring([key] if key else [])
        pool.add(name, tags={"role": f"r{name}"}, keyring=keyring)
    for name in names[1:]:
        pool.join(name, names[0])
    pool.run(2.0)
    return pool


def ask(pool: VirtualPool, name: str, params: QueryParams) -> int:
    handle: int = pool.do(name, lambda serf: serf.query(params, pool.now))
    return handle


def answer_all(pool: VirtualPool, *names: str) -> None:
    for name in names:
        for query in pool.of(name, QueryEvent):
            payload = f"from {name}".encode()
            pool.do(name, lambda serf, q=query, p=payload: serf.respond(q, p, pool.now))


def test_query_with_acks_and_answers() -> None:
    pool = pool_of("a", "b", "c")
    handle = ask(pool, "a", QueryParams(name="load", payload=b"?", request_ack=True))
    pool.run(1.5)
    (event,) = pool.of("b", QueryEvent)
    assert (event.name, event.payload, event.source_node) == ("load", b"?", "a")
    answer_all(pool, "a", "b", "c")
    pool.run(0.1)
    assert {ack.node for ack in pool.of("a", QueryAck)} == {"a", "b", "c"}
    answers = {found.node: found.payload for found in pool.of("a", QueryAnswer)}
    assert answers == {"a": b"from a", "b": b"from b", "c": b"from c"}
    assert pool.of("a", QueryDone) == []
    pool.run(3.0)  # 3.2 s for a small pool
    assert pool.of("a", QueryDone) == [QueryDone(id=handle)]


def test_a_node_counts_once_and_only_in_time() -> None:
    pool = pool_of("a", "b")
    ask(pool, "a", QueryParams(name="q", timeout_s=2.0))
    pool.run(1.0)
    (event,) = pool.of("b", QueryEvent)
    response = codec.encode(
        QueryResponse(ltime=event.ltime, id=event.id, source="b", payload=b"x")
    )
    a = pool.nodes["a"].address
    for _ in range(2):
        pool.do("b", lambda serf: serf.send(a, response))
    stranger = codec.encode(
        QueryResponse(ltime=event.ltime, id=event.id ^ 1, source="z", payload=b"x")
    )
    pool.do("b", lambda serf: serf.send(a, stranger))
    pool.run(0.1)
    assert [found.node for found in pool.of("a", QueryAnswer)] == ["b"]
    pool.run(2.0)
    pool.do("b", lambda serf: serf.send(a, response.replace(b"\xa1b", b"\xa1c")))
    pool.run(0.1)
    assert len(pool.of("a", QueryAnswer)) == 1


def test_answers_are_checked() -> None:
    pool = pool_of("a", "b")
    ask(pool, "a", QueryParams(name="q", timeout_s=2.0))
    pool.run(1.0)
    (event,) = pool.of("b", QueryEvent)
    b = pool.nodes["b"]
    with pytest.raises(TooLargeError, match="response exceeds limit of 1024 bytes"):
        b.respond(event, b"x" * 1024, pool.now)
    b.respond(event, b"x", pool.now)
    with pytest.raises(ConsulError, match="response already sent"):
        b.respond(event, b"x", pool.now)
    pool.run(2.0)
    with pytest.raises(ConsulError, match="response is past the deadline"):
        b.respond(event, b"x", pool.now)


def test_filters() -> None:
    pool = pool_of("a", "b", "c")
    ask(pool, "a", QueryParams(name="nodes", filter_nodes=["b", "zz"]))
    ask(pool, "a", QueryParams(name="tags", filter_tags={"role": "^r[bc]"}))
    ask(pool, "a", QueryParams(name="bad", filter_tags={"role": "("}))
    ask(pool, "a", QueryParams(name="absent", filter_tags={"other": "^$"}))
    both = QueryParams(name="both", filter_nodes=["b"], filter_tags={"role": "c"})
    ask(pool, "a", both)
    pool.run(2.0)
    heard = {n: {event.name for event in pool.of(n, QueryEvent)} for n in "abc"}
    assert heard == {
        "a": {"absent"},
        "b": {"nodes", "tags", "absent"},
        "c": {"tags", "absent"},
    }


def test_relayed_answers_arrive_when_the_direct_way_is_lost() -> None:
    pool = pool_of("a", "b", "c")
    a = pool.nodes["a"].address

    def drop_direct(serf: Serf) -> None:
        send = serf.memberlist.send_user

        def send_user(address: tuple[str, int], payload: bytes) -> None:
            if not (address == a and payload[0] == Kind.QUERY_RESPONSE):
                send(address, payload)

        serf.memberlist.send_user = send_user  # type: ignore[method-assign]

    drop_direct(pool.nodes["b"])
    params = QueryParams(name="q", request_ack=True, relay_factor=2)
    ask(pool, "a", params)
    pool.run(1.0)
    answer_all(pool, "b")
    pool.run(0.5)
    assert "b" in {ack.node for ack in pool.of("a", QueryAck)}
    assert {found.node for found in pool.of("a", QueryAnswer)} == {"b"}


def test_relays_of_relays_are_dropped() -> None:
    pool = pool_of("a", "b")
    inner = codec.encode(EventMessage(ltime=9, name="x"))
    serf = pool.nodes["a"]
    once = codec.encode_relay(pool.nodes["b"].address, "b", inner)
    for _ in range(2):
        once = codec.encode_relay(serf.address, "a", once)
    pool.do("b", lambda b: b.send(serf.address, once))
    pool.run(0.5)
    assert serf.stats()["event_time"] == "1"


def test_internal_ping_is_acked_and_not_delivered() -> None:
    pool = pool_of("a", "b")
    ask(pool, "a", QueryParams(name="_serf_ping", request_ack=True))
    ask(pool, "a", QueryParams(name="_serf_unknown"))
    pool.run(1.0)
    assert {ack.node for ack in pool.of("a", QueryAck)} == {"a", "b"}
    assert pool.of("b", QueryEvent) == []


def test_limits_of_queries() -> None:
    serf = pool_of("a").nodes["a"]
    with pytest.raises(TooLargeError, match="query exceeds limit of 1024 bytes"):
        serf.query(QueryParams(name="q", payload=b"x" * 1024), 0.0)
    with pytest.raises(BadRequestError, match="relay factor"):
        serf.query(QueryParams(name="q", relay_factor=256), 0.0)


def test_limits_of_user_events() -> None:
    serf = pool_of("a").nodes["a"]
    text = "user event exceeds configured limit of 512 bytes {} encoding"
    with pytest.raises(TooLargeError, match=text.format("before")):
        serf.user_event("n", b"x" * 512, False, 0.0)
    with pytest.raises(TooLargeError, match=text.format("after")):
        serf.user_event("n", b"x" * 500, False, 0.0)
    serf.user_event("n", b"x" * 470, False, 0.0)
    with pytest.raises(ConfigError, match="exceeds limit of 9216 bytes"):
        VirtualPool().add("z", settings=Settings(user_event_bytes_max=9217))


def test_keys_install_use_remove_list() -> None:
    pool = pool_of("a", "b", "c", key=ONE)

    def operate(operation: str, key: bytes = b"") -> KeyResponse:
        before = len(pool.of("a", KeysDone))
        handle: int = pool.do(
            "a", lambda serf: serf.key_operation(operation, text_of(key), pool.now)
        )
        begun = pool.now
        assert pool.run(5.0, until=lambda: len(pool.of("a", KeysDone)) > before)
        assert pool.now - begun < 2.0  # all answered: no need to wait
        done: KeysDone = pool.of("a", KeysDone)[-1]
        assert done.id == handle
        return done.response

    listed = operate("list")
    assert (listed.num_nodes, listed.num_responses, listed.error) == (3, 3, "")
    assert listed.keys == listed.primary_keys == {text_of(ONE): 3}
    failed = operate("use", TWO)
    assert failed.error == "3/3 nodes reported failure"
    assert set(failed.messages.values()) == {"Requested key is not in the keyring"}
    assert operate("install", TWO).error == ""
    assert pool.of("b", KeyringChanged)[-1].keys == [ONE, TWO]
    assert operate("use", TWO).error == ""
    assert operate("remove", ONE).error == ""
    removed = operate("remove", TWO)
    assert removed.messages["b"] == "Removing the primary key is not allowed"
    assert operate("list").keys == {text_of(TWO): 3}
    pool.run(60.0)  # and the pool still holds together
    assert pool.nodes["a"].stats()["failed"] == "0"
    assert pool.nodes["a"].encrypted


def test_keys_without_encryption() -> None:
    pool = pool_of("a")
    for operation in ("list", "install"):
        pool.do("a", lambda s, o=operation: s.key_operation(o, text_of(ONE), pool.now))
    listed, installed = [done.response for done in pool.of("a", KeysDone)]
    assert listed.error == "1/1 nodes reported failure"
    assert listed.messages == {"a": "Keyring is empty (encryption not enabled)"}
    text = "No keyring to modify (encryption not enabled)"
    assert installed.messages == {"a": text}


def test_key_answers_missing() -> None:
    pool = pool_of("a", "b", key=ONE)
    pool.cut.add("b")
    pool.do("a", lambda serf: serf.key_operation("list", "", pool.now))
    assert pool.run(15.0, until=lambda: bool(pool.of("a", KeysDone)))
    assert pool.of("a", KeysDone)[0].response.error == "1/2 nodes reported success"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("!", "illegal base64 data at input byte 0"),
        ("abcd*", "illegal base64 data at input byte 4"),
        ("abcde", "illegal base64 data at input byte 4"),
    ],
)
def test_bad_keys(text: str, error: str) -> None:
    with pytest.raises(BadRequestError, match=error):
        decode_key(text)


def test_unknown_key_operation() -> None:
    serf = pool_of("a").nodes["a"]
    with pytest.raises(BadRequestError):
        serf.key_operation("steal", "", 0.0)


def test_long_key_lists_are_truncated() -> None:
    keys = [text_of(bytes([number]) * 32) for number in range(50)]
    full = KeyAnswer(result=True, keys=keys, primary_key=keys[0])
    sizes = [
        (len(codec.encode_typed(Kind.KEY_RESPONSE, short)), short)
        for short in shortened(full)
    ]
    fitting = next(short for size, short in sizes if size <= 900)
    count = len(fitting.keys)
    assert 0 < count < 50
    assert fitting.message == (
        f"truncated key list response, showing first {count} of 50 keys"
    )


def test_key_tally_of_odd_answers() -> None:
    tally = KeyTally(2)
    tally.add("a", b"\x07\x80")
    tally.add("b", b"\x08\xc1")
    response = tally.response()
    assert response.error == "2/2 nodes reported failure"
    assert response.messages["a"].startswith("Invalid key query response type")
    assert response.messages["b"].startswith("Failed to decode key query response")


def test_name_conflict_the_latecomer_loses() -> None:
    pool = VirtualPool()
    for name in "abcd":
        pool.add(name, settings=SERF)
    for name in "bcd":
        pool.join(name, "a")
    pool.run(5.0)
    pool.add("twin", name="b", settings=SERF, host="10.0.1.1")
    pool.join("twin", "a")
    pool.run(20.0)
    assert pool.of("a", NameConflict)
    assert pool.of("twin", ConflictLost)
    assert pool.of("b", ConflictLost) == []


def test_merge_check_refuses_a_join() -> None:
    pool = pool_of("a")

    def refuse(members: object) -> None:
        raise MergeRefusedError("Member 'b' part of wrong datacenter 'dc2'")

    pool.add("b", merge=refuse)
    pool.join("b", "a")
    assert [member.name for member in pool.nodes["b"].members()] == ["b"]


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("b.*", "abc", True), ("^b", "abc", False), ("a+b?", "xaab", True)],
)
def test_simple_search(pattern: str, text: str, found: bool) -> None:
    assert simple_search(pattern, text) is found


@pytest.mark.parametrize("pattern", ["(a+)+b", "a*a*a*b", "x" * 200, "(", r"(a)\1"])
def test_costly_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern not supported|missing \)"):
        simple_search(pattern, "a")
