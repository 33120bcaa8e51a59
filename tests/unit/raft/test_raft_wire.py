"""Bytes between servers: messages of a real cluster, round trips, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul.raft import wire, wire_readers
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    Peer,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    TimeoutNowResponse,
    VoteRequest,
    VoteResponse,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "data" / "raft_wire" / "raft.json").read_text()
)["rpc"]


def read_request(data: bytes, tag: int = 0) -> tuple[int, wire.Incoming]:
    reader = wire_readers.RequestReader()
    reader.feed(data)
    found = reader.next()
    assert found is not None
    return found[0], wire.decode_request(found[0], found[1], "me", tag)


def read_response(asked: wire.Asked, data: bytes) -> Message:
    reader = wire_readers.ResponseReader()
    reader.feed(data)
    found = reader.next()
    assert found is not None
    assert found[0] == ""
    return wire.decode_response(asked, found[1])


def test_a_stranger_at_the_address_does_not_answer_for_the_server() -> None:
    request = VoteRequest(sender="me", target="lost", term=3, last_index=1, last_term=1)
    vote = VoteResponse(sender="new", target="me", term=3, granted=True)
    for name in ("new", "lost"):
        encoder = wire.Encoder(name, "10.0.0.2:8300")
        data = encoder.response(wire.VOTE, vote)
        if name == "lost":
            assert read_response(wire.ask(request), data)
            continue
        with pytest.raises(wire.StrangerError, match="'new' answered for 'lost'"):
            read_response(wire.ask(request), data)


@pytest.mark.parametrize("case", VECTORS, ids=lambda c: c["id"])
def test_messages_of_a_real_cluster(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["request_hex"])
    kind, incoming = read_request(data)
    address = case["request"].get("Leader") or case["request"].get("Candidate") or ""
    assert incoming.address == address
    assert incoming.message.sender == ""
    logs = case["request"].get("Entries") or []
    times = [bytes.fromhex(log["AppendedAt"].removeprefix("hex:")) for log in logs]
    encoder = wire.Encoder("", address, identify=False)
    again = encoder.request(incoming.message, size=incoming.size, times=times)
    assert again == data[: len(again)]
    assert kind == wire.SNAPSHOT or len(again) == len(data)
    if isinstance(incoming.message, AppendRequest):
        assert [e.index for e in incoming.message.entries] == [
            log["Index"] for log in logs
        ]
    if "response_hex" not in case:
        return
    answer = bytes.fromhex(case["response_hex"])
    message = read_response(wire.ask(incoming.message), answer)
    if isinstance(message, HeartbeatResponse):
        assert case["id"] == "raft-appendentries-heartbeat"
        assert encoder.response(kind, message).endswith(b"\xa4Term" + b"\x02")
        return
    assert encoder.response(kind, message) == answer


ENTRIES = [
    Entry(70_000, 3, 1, b""),
    Entry(70_001, 3, 0, b"x" * 40),
    Entry(70_002, 3, 0, b"\0" * 70_000),
]
META = SnapshotMeta(
    index=9,
    term=2,
    configuration=Configuration(servers=(Peer(id="a", address="h:1"),)),
    configuration_index=4,
)
REQUESTS: list[Message] = [
    AppendRequest(
        sender="a",
        target="me",
        term=300,
        prev_index=69_999,
        prev_term=2,
        entries=ENTRIES,
        commit=5_000_000_000,
    ),
    AppendRequest(
        sender="a", target="me", term=3, prev_index=9, prev_term=2, commit=200
    ),
    HeartbeatRequest(sender="a", target="me", term=3),
    VoteRequest(sender="a", target="me", term=3, last_index=1, last_term=2),
    VoteRequest(
        sender="a", target="me", term=3, last_index=1, last_term=2, transfer=True
    ),
    VoteRequest(sender="a", target="me", term=3, last_index=1, last_term=2, pre=True),
    SnapshotRequest(sender="a", target="me", term=3, meta=META),
    TimeoutNow(sender="a", target="me", term=0),
]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: type(m).__name__)
def test_requests_round_trip_with_identity(message: Message) -> None:
    data = wire.Encoder("a", "h:1").request(message, size=77)
    _, incoming = read_request(data)
    assert incoming.message == message
    assert incoming.address == "h:1"
    assert incoming.size == (77 if isinstance(message, SnapshotRequest) else 0)


def test_requests_arrive_in_any_pieces() -> None:
    encoder = wire.Encoder("a", "h:1")
    data = b"".join(encoder.request(m) for m in REQUESTS)
    reader = wire_readers.RequestReader()
    found: list[Message] = []
    for at in range(0, len(data), 997):
        reader.feed(data[at : at + 997])
        while (request := reader.next()) is not None:
            found.append(wire.decode_request(*request, "me").message)
    assert found == REQUESTS


def test_what_follows_a_snapshot_header_is_raw() -> None:
    reader = wire_readers.RequestReader()
    reader.feed(wire.Encoder("a", "h:1").request(REQUESTS[6], size=5) + b"\x00\xc1abc")
    assert reader.next() is not None
    assert reader.rest(2) == b"\x00\xc1"
    assert reader.rest(10) == b"abc"
    assert reader.rest(10) == b""


def test_answers_are_completed_by_what_was_asked() -> None:
    encoder = wire.Encoder("me", "h:2")
    append = wire.ask(REQUESTS[0])
    yes = AppendResponse(
        sender="me", target="a", term=300, success=True, index=70_002, commit=70_002
    )
    assert read_response(append, encoder.response(wire.APPEND, yes)) == yes
    no = AppendResponse(
        sender="me", target="a", term=301, success=False, index=69_999, hint_index=12
    )
    assert read_response(append, encoder.response(wire.APPEND, no)) == no
    beat = wire.ask(HeartbeatRequest(sender="a", target="me", term=3, round=8))
    alive = HeartbeatResponse(sender="me", target="a", term=3, round=8)
    assert read_response(beat, encoder.response(wire.APPEND, alive)) == alive
    installed = AppendResponse(
        sender="me", target="a", term=3, success=True, index=META.index
    )
    snapshot = wire.ask(REQUESTS[6])
    assert read_response(snapshot, encoder.response(wire.SNAPSHOT, installed)) == (
        installed
    )
    gone = TimeoutNowResponse(sender="me", target="a", term=0)
    now = wire.ask(REQUESTS[7])
    assert read_response(now, encoder.response(wire.TIMEOUT_NOW, gone)) == gone
    for kind, pre in ((wire.VOTE, False), (wire.PRE_VOTE, True)):
        vote = VoteResponse(sender="me", target="a", term=3, granted=True, pre=pre)
        asked = wire.ask(REQUESTS[5 if pre else 3])
        assert read_response(asked, encoder.response(kind, vote)) == vote


def test_a_granted_pre_vote_may_name_the_voters_own_term() -> None:
    vote = VoteResponse(sender="me", target="a", term=2, granted=True, pre=True)
    data = wire.Encoder("me", "h:2").response(wire.PRE_VOTE, vote)
    assert read_response(wire.ask(REQUESTS[5]), data).term == 3


def test_an_error_is_a_text_and_a_map() -> None:
    reader = wire_readers.ResponseReader()
    reader.feed(wire.Encoder("me", "h:2").error("no way"))
    found = reader.next()
    assert found is not None
    assert found[0] == "no way"
    assert isinstance(found[1], dict)
    assert reader.next() is None


def entry_map(**changes: object) -> dict[bytes, object]:
    plain: dict[bytes, object] = {
        b"Index": 1,
        b"Term": 1,
        b"Type": 0,
        b"Data": b"x",
    }
    plain.update({k.encode(): v for k, v in changes.items()})
    return plain


def append_map(**changes: object) -> dict[bytes, object]:
    plain: dict[bytes, object] = {
        b"ProtocolVersion": 3,
        b"Term": 1,
        b"Entries": [entry_map()],
    }
    plain.update({k.encode(): v for k, v in changes.items()})
    return plain


def test_the_extensions_of_an_entry_travel_with_it() -> None:
    entries = [Entry(1, 1, 0, b"a", b"\x08\x01"), Entry(2, 1, 0, b"b")]
    sent = AppendRequest(
        sender="a", target="b", term=1, prev_index=0, prev_term=0, entries=entries
    )
    _, incoming = read_request(wire.Encoder("a", "x:1").request(sent))
    assert isinstance(incoming.message, AppendRequest)
    assert incoming.message.entries == entries


BAD: list[tuple[int, object, str]] = [
    (9, append_map(), "unknown rpc type 9"),
    (0, 7, "must be a map"),
    (0, append_map(ProtocolVersion=4), "protocol version 4"),
    (0, append_map(ProtocolVersion=0), "protocol version 0"),
    (0, append_map(Term=-1), "Term is no index"),
    (0, append_map(Term="x"), "Term is no index"),
    (0, append_map(Term=1 << 63), "Term is no index"),
    (0, append_map(ID=5), "ID is no string"),
    (0, append_map(ID=b"x" * 2000), "ID is too long"),
    (0, append_map(Entries=b"x"), "Entries is no array"),
    (0, append_map(Entries=[7]), "bad entry"),
    (0, append_map(Entries=[entry_map(Index=2)]), "not in order"),
    (0, append_map(Entries=[entry_map(Term=2)]), "not in order"),
    (0, append_map(Entries=[entry_map(Type=-1)]), "not in order"),
    (0, append_map(Entries=[entry_map(Data=[1])]), "not in order"),
    (0, append_map(Entries=[entry_map(Extensions=7)]), "extensions"),
    (0, append_map(Entries=[entry_map(Extensions=b"x" * 5000)]), "extensions"),
    (0, append_map(Entries=[{b"Index": 1}]), "bad entry"),
    (2, append_map(), "snapshot version"),
    (2, append_map(SnapshotVersion=1, Configuration=b"\xc1"), "configuration entry"),
]


@pytest.mark.parametrize(("kind", "plain", "text"), BAD)
def test_bad_requests_are_named(kind: int, plain: object, text: str) -> None:
    with pytest.raises(wire.WireError, match=text):
        wire.decode_request(kind, plain, "me")


def test_bad_streams_are_refused() -> None:
    reader = wire_readers.RequestReader()
    reader.feed(b"\x07")
    with pytest.raises(wire.WireError, match="unknown rpc type 7"):
        reader.next()
    reader = wire_readers.RequestReader()
    reader.feed(b"\x00\xc1")
    with pytest.raises(wire.WireError, match="bad msgpack"):
        reader.next()
    answers = wire_readers.ResponseReader()
    answers.feed(b"\x07")
    with pytest.raises(wire.WireError, match="error text"):
        answers.next()
