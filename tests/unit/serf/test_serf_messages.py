"""Recorded messages of real agents decode, and encode to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from pyconsul.serf import codec
from pyconsul.serf.clock import LTIME_MAX
from pyconsul.serf.keys import encode_request
from pyconsul.serf.messages import (
    JoinIntent,
    KeyAnswer,
    KeyRequest,
    Kind,
    LeaveIntent,
    Query,
    TagFilter,
    WireMember,
)
from pyconsul.serf.tags import decode_tags, encode_tags
from pyconsul.types import gomsgpack
from pyconsul.types.errors import TooLargeError
from pyconsul.types.gomsgpack import MsgpackError

DATA = json.loads(
    (Path(__file__).parents[2] / "data" / "serf" / "messages.json").read_text()
)
MESSAGES: list[dict[str, Any]] = DATA["messages"]
PLAIN = [m for m in MESSAGES if m["serf"] not in ("pushPull", "relay")]


def named(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=lambda v: v["id"])


def wire_value(value: Any) -> Any:
    """Return a vector's value as the decoder gives it."""
    if isinstance(value, str) and value.startswith("hex:"):
        return gomsgpack.pack(bytes.fromhex(value[4:]))
    if isinstance(value, list):
        return [wire_value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return gomsgpack.pack(value)
    return value


def same(ours: Any, theirs: Any) -> bool:
    """Compare a plain value of ours with one of the vector."""
    if isinstance(ours, str | bytes):
        return gomsgpack.pack(ours) == wire_value(theirs)
    if isinstance(ours, list):
        items = cast(list[Any], ours)
        return len(items) == len(theirs) and all(map(same, items, theirs))
    return ours == theirs


@named(PLAIN)
def test_message_round_trip(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["payload_hex"])
    message = codec.decode(payload)
    plain = gomsgpack.to_plain(message)
    body = {k: v for k, v in vector["body"].items() if k != "Payload_decoded"}
    assert set(plain) == set(body)
    for key, value in body.items():
        assert same(plain[key], value), key
    again = codec.encode(message)
    assert codec.decode(again) == message
    # Python's test node did not sort its keys, as Go does.
    if list(body) == sorted(body):
        assert again == payload


@named([m for m in MESSAGES if m["serf"] == "pushPull"])
def test_push_pull(vector: dict[str, Any]) -> None:
    state = codec.decode_push_pull(bytes.fromhex(vector["payload_hex"]))
    body = vector["body"]
    assert state.ltime == body["LTime"]
    assert state.event_ltime == body["EventLTime"]
    assert state.query_ltime == body["QueryLTime"]
    assert state.status_ltimes == body["StatusLTimes"]
    assert state.left_members == body["LeftMembers"]
    events: dict[str, list[dict[str, Any]]] = body["Events"] or {"non_nil": []}
    slots = events["non_nil"]
    expected: list[tuple[Any, list[Any]]] = [
        (slot["value"]["LTime"], [event["Name"] for event in slot["value"]["Events"]])
        for slot in slots
    ]
    found = [(at.ltime, [event.name for event in at.events]) for at in state.events]
    assert found == expected
    again = codec.encode_push_pull(state)
    assert codec.decode_push_pull(again) == state


def test_relay_of_a_real_agent() -> None:
    (vector,) = [m for m in MESSAGES if m["serf"] == "relay"]
    payload = bytes.fromhex(vector["payload_hex"])
    address, inner = codec.decode_relay(payload)
    assert address == ("127.0.0.13", vector["header"]["DestAddr"]["Port"])
    assert codec.decode(inner).ltime == vector["inner"]["body"]["LTime"]
    assert codec.encode_relay(address, "plain1", inner) == payload


def test_filters_of_a_real_agent() -> None:
    (vector,) = [m for m in MESSAGES if m["id"] == "query-filters"]
    query = codec.decode(bytes.fromhex(vector["payload_hex"]))
    assert isinstance(query, Query)
    assert codec.decode_filter(query.filters[0]) == ["py2", "plain2"]
    assert codec.decode_filter(query.filters[1]) == TagFilter(tag="role", expr=".*")
    assert query.filters == [
        codec.encode_node_filter(["py2", "plain2"]),
        codec.encode_tag_filter("role", ".*"),
    ]
    assert codec.unpack_address(query.addr, query.port) == ("127.0.0.13", 21204)


def test_key_answer_of_the_test_node() -> None:
    (vector,) = [m for m in MESSAGES if m["id"] == "key-response"]
    payload = bytes.fromhex(vector["body"]["Payload"][4:])
    found = codec.decode_typed(payload, Kind.KEY_RESPONSE, KeyAnswer)
    assert found.result
    assert len(found.keys) == 2
    assert found.primary_key == found.keys[0]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x63\x80",
        b"\x01\x91\x01",
        b"\x01" + gomsgpack.pack({"LTime": "1", "Node": "a"}),
        b"\x01" + gomsgpack.pack({"LTime": -1, "Node": "a"}),
        b"\x01" + gomsgpack.pack({"LTime": LTIME_MAX, "Node": "a"}),
        b"\x01" + gomsgpack.pack({"LTime": 1, "Node": 7}),
        b"\x04" + gomsgpack.pack({"LTime": 1, "Port": 70000}),
        b"\x04" + gomsgpack.pack({"LTime": 1, "RelayFactor": 256}),
        b"\x04" + gomsgpack.pack({"LTime": 1, "Filters": [3]}),
        b"\x00" + b"\x91" * 5000,
    ],
)
def test_malformed_messages_are_refused(payload: bytes) -> None:
    with pytest.raises(MsgpackError):
        codec.decode(payload)


@pytest.mark.parametrize("payload", [b"\x09", b"\x09\x80", b"\x09\xc1\x00"])
def test_malformed_relays_are_refused(payload: bytes) -> None:
    with pytest.raises(MsgpackError):
        codec.decode_relay(payload)


@pytest.mark.parametrize("data", [b"", b"\x02\x90", b"\x00\x80", b"\x01\x90"])
def test_malformed_filters_are_refused(data: bytes) -> None:
    with pytest.raises(MsgpackError):
        codec.decode_filter(data)


def test_unknown_and_missing_keys() -> None:
    payload = b"\x00" + gomsgpack.pack({"Node": "a", "More": [1]})
    assert codec.decode(payload) == LeaveIntent(node="a")
    payload = b"\x01" + gomsgpack.pack({"LTime": 3})
    assert codec.decode(payload) == JoinIntent(ltime=3)


def test_empty_key_request_is_as_go_writes_it() -> None:
    assert encode_request(b"").hex() == "0781a34b6579a0"
    request = codec.decode_typed(
        encode_request(b"x" * 16), Kind.KEY_REQUEST, KeyRequest
    )
    assert request.key == b"x" * 16


def test_nil_conflict_answer_is_no_member() -> None:
    payload = codec.encode_typed(Kind.CONFLICT_RESPONSE, None)
    assert payload == b"\x06\xc0"
    with pytest.raises(MsgpackError):
        codec.decode_typed(payload, Kind.CONFLICT_RESPONSE, WireMember)


@named(DATA["tags"])
def test_tags_round_trip(vector: dict[str, Any]) -> None:
    assert decode_tags(encode_tags(vector["tags"])) == vector["tags"]


def test_tags_odd_forms() -> None:
    assert decode_tags(b"web") == {"role": "web"}
    assert decode_tags(b"") == {"role": ""}
    assert decode_tags(b"\xff\xc1") == {}
    assert decode_tags(b"\xff\x90") == {}
    assert decode_tags(b"\xff" + gomsgpack.pack({"a": 1, "b": "2"})) == {"b": "2"}
    full = {"a": "x" * (512 - 1 - 1 - 2 - 3)}
    assert len(encode_tags(full)) == 512
    with pytest.raises(TooLargeError, match="Encoded length of tags exceeds limit of"):
        encode_tags({"a": full["a"] + "x"})
