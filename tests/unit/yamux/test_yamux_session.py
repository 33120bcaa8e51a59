"""Two sessions joined back to back, and the recorded session of a real server."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul.yamux import (
    Event,
    Session,
    SessionFailed,
    StreamData,
    StreamDrained,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WentAway,
    YamuxError,
    YamuxSettings,
)
from pyconsul.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_SIZE,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
)

VECTOR = Path(__file__).parents[2] / "data" / "rpc" / "rpc.json"


class Pair:
    """A client and a server session; ``pump`` carries bytes until all is quiet."""

    def __init__(self, settings: YamuxSettings | None = None, slow: bool = False):
        self.now = 0.0
        self.client = Session(client=True, now=0.0, settings=settings)
        self.server = Session(client=False, now=0.0, settings=settings)
        self.at_client: list[Event] = []
        self.at_server: list[Event] = []
        self.slow = slow  # the server's layer consumes nothing by itself

    def pump(self) -> None:
        for _ in range(1000):
            up, down = self.client.take_output(), self.server.take_output()
            if not up and not down:
                return
            for event in self.server.receive(up, self.now):
                self.at_server.append(event)
                if isinstance(event, StreamOpened):
                    self.server.accept(event.stream)
                elif isinstance(event, StreamData) and not self.slow:
                    self.server.consumed(event.stream, len(event.data))
            for event in self.client.receive(down, self.now):
                self.at_client.append(event)
                if isinstance(event, StreamData):
                    self.client.consumed(event.stream, len(event.data))
        raise AssertionError("the sessions never fall silent")

    def tick(self, now: float) -> None:
        self.now = now
        self.at_client += self.client.tick(now)
        self.at_server += self.server.tick(now)


def data_of(events: list[Event], stream: int) -> bytes:
    return b"".join(
        e.data for e in events if isinstance(e, StreamData) and e.stream == stream
    )


def frames_of(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Cut output into (type, flags, stream, length, body)."""
    found: list[tuple[int, int, int, int, bytes]] = []
    while data:
        _, kind, flags, stream, length = HEADER.unpack_from(data)
        size = length if kind == DATA else 0
        body = data[HEADER_SIZE : HEADER_SIZE + size]
        found.append((kind, flags, stream, length, body))
        data = data[HEADER_SIZE + size :]
    return found


def recorded() -> list[dict[str, Any]]:
    frames = json.loads(VECTOR.read_text())["yamux_session"]
    assert frames[0]["hex"] == "04"
    return frames[1:]


def test_server_answers_the_recorded_client_as_recorded() -> None:
    session = Session(client=False, now=0.0)
    frames = recorded()
    theirs = [f for f in frames if f["direction"] == "server to client"]
    replies = [bytes.fromhex(f["hex"])[HEADER_SIZE:] for f in theirs]
    replies = [reply for reply in replies if reply]
    requests = 0
    for sent in frames:
        if sent["direction"] == "server to client":
            continue
        for event in session.receive(bytes.fromhex(sent["hex"]), 0.0):
            match event:
                case StreamOpened(stream):
                    session.accept(stream)
                case StreamData(stream, data):
                    session.consumed(stream, len(data))
                    session.send(stream, replies[requests])
                    requests += 1
                case StreamEnded(stream):
                    session.finish(stream)
                case other:
                    assert isinstance(other, WentAway)
    assert requests == len(replies) == 3
    ours = frames_of(session.take_output())
    # The recorded server answered the ping before the FIN that came first.
    assert sorted(ours) == sorted(f for t in theirs for f in frames_of(fromhex(t)))
    assert session.went_away


def fromhex(entry: dict[str, Any]) -> bytes:
    return bytes.fromhex(entry["hex"])


def test_client_speaks_as_the_recorded_one() -> None:
    session = Session(client=True, now=0.0)
    frames = recorded()
    theirs = [f for f in frames if f["direction"] == "client to server"]
    answers = [fromhex(f) for f in frames if f["direction"] == "server to client"]
    bodies = [fromhex(f)[HEADER_SIZE:] for f in theirs]
    bodies = [body for body in bodies if body]
    first = session.open(0.0)
    session.send(first, bodies[0])
    events = session.receive(b"".join(answers[:2]), 0.0)
    session.send(first, bodies[1])
    events += session.receive(answers[2], 0.0)
    second = session.open(0.0)
    session.send(second, bodies[2])
    events += session.receive(b"".join(answers[3:5]), 0.0)
    session.finish(second)
    events += session.receive(answers[-1], 0.0)
    session.go_away()
    assert [e.stream for e in events if isinstance(e, StreamData)] == [1, 1, 3]
    assert isinstance(events[-1], StreamEnded)
    # Credit is returned in larger steps than the recorded client did; pings
    # are the clock's.
    spoken = [f for t in theirs for f in frames_of(fromhex(t))]
    spoken = [
        f for f in spoken if f[0] != PING and not (f[0] == WINDOW_UPDATE and not f[1])
    ]
    assert frames_of(session.take_output()) == spoken


@pytest.mark.parametrize("size", [1, INITIAL_WINDOW, INITIAL_WINDOW + 1, 3_000_000])
def test_any_amount_crosses_both_ways(size: int) -> None:
    pair = Pair()
    stream = pair.client.open(0.0)
    up = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    down = up[::-1][:size]
    up = up[:size]
    pair.client.send(stream, up)
    pair.pump()
    assert data_of(pair.at_server, stream) == up
    pair.server.send(stream, down)
    pair.pump()
    assert data_of(pair.at_client, stream) == down
    drained = StreamDrained(stream) in pair.at_client
    assert drained == (size > INITIAL_WINDOW)
    assert not pair.client.pending(stream)


def test_a_reader_that_consumes_nothing_stops_the_sender_at_the_window() -> None:
    pair = Pair(slow=True)
    stream = pair.client.open(0.0)
    pair.client.send(stream, bytes(INITIAL_WINDOW * 2))
    other = pair.client.open(0.0)
    pair.client.send(other, b"not held up")
    pair.pump()
    assert len(data_of(pair.at_server, stream)) == INITIAL_WINDOW
    assert data_of(pair.at_server, other) == b"not held up"
    assert pair.client.pending(stream)
    pair.server.consumed(stream, INITIAL_WINDOW // 2 - 1)
    pair.pump()
    assert len(data_of(pair.at_server, stream)) == INITIAL_WINDOW
    pair.server.consumed(stream, 1)
    pair.pump()
    assert len(data_of(pair.at_server, stream)) == INITIAL_WINDOW * 3 // 2


def test_fin_follows_what_waits_for_the_window() -> None:
    pair = Pair(slow=True)
    stream = pair.client.open(0.0)
    size = INITIAL_WINDOW + 5
    pair.client.send(stream, bytes(size))
    pair.client.finish(stream)
    pair.client.send(stream, b"too late")
    pair.pump()
    assert StreamEnded(stream) not in pair.at_server
    pair.server.consumed(stream, INITIAL_WINDOW)
    pair.pump()
    assert pair.at_server[-1] == StreamEnded(stream)
    assert len(data_of(pair.at_server, stream)) == size
    pair.server.send(stream, b"the other half still talks")
    pair.server.finish(stream)
    pair.pump()
    assert data_of(pair.at_client, stream) == b"the other half still talks"
    assert pair.client.stream_count == pair.server.stream_count == 0


def test_a_larger_window_is_announced_with_the_stream() -> None:
    pair = Pair(YamuxSettings(window=INITIAL_WINDOW * 4), slow=True)
    stream = pair.client.open(0.0)
    pair.pump()
    pair.client.send(stream, bytes(INITIAL_WINDOW * 5))
    pair.pump()
    assert len(data_of(pair.at_server, stream)) == INITIAL_WINDOW * 4


def test_data_beyond_the_window_ends_the_session() -> None:
    server = Session(client=False, now=0.0)
    server.receive(frame(WINDOW_UPDATE, SYN, 1, 0), 0.0)
    header = frame(DATA, 0, 1, INITIAL_WINDOW)
    assert server.receive(header + bytes(INITIAL_WINDOW), 0.0)
    assert server.receive(frame(DATA, 0, 1, 1), 0.0) == [
        SessionFailed("receive window exceeded")
    ]
    assert frames_of(server.take_output())[-1] == (GO_AWAY, 0, 0, 1, b"")
    assert server.receive(frame(PING, SYN, 0, 1), 0.0) == []
    assert not server.take_output()


@pytest.mark.parametrize(
    "bad",
    [
        b"\x01" + frame(PING, SYN, 0, 1)[1:],
        frame(4, 0, 0, 0),
        frame(WINDOW_UPDATE, SYN, 2, 0),
        frame(WINDOW_UPDATE, SYN, 0, 0),
        frame(WINDOW_UPDATE, SYN, 1, 0) * 2,
        frame(WINDOW_UPDATE, SYN, 1, 0xFFFFFFFF),
        frame(DATA, 0, 9, 0xFFFFFFFF),
        frame(PING, SYN, 0, 1) * 70_000,
    ],
    ids=["version", "type", "parity", "zero", "twice", "credit", "length", "flood"],
)
def test_violations_end_the_session(bad: bytes) -> None:
    server = Session(client=False, now=0.0)
    assert isinstance(server.receive(bad, 0.0)[-1], SessionFailed)
    assert server.failed


def test_reset_is_immediate_on_both_sides() -> None:
    pair = Pair(slow=True)
    stream = pair.client.open(0.0)
    pair.client.send(stream, bytes(INITIAL_WINDOW * 2))
    pair.pump()
    pair.client.reset(stream)
    pair.server.send(stream, b"crosses the reset")
    pair.pump()
    assert pair.at_server[-1] == StreamReset(stream, True)
    assert pair.at_client == []
    assert pair.client.stream_count == pair.server.stream_count == 0


def test_a_stream_refused_was_never_acknowledged() -> None:
    client = Session(client=True, now=0.0)
    server = Session(client=False, now=0.0)
    stream = client.open(0.0)
    client.send(stream, b"x")
    server.go_away()
    assert server.receive(client.take_output(), 0.0) == []
    events = client.receive(server.take_output(), 0.0)
    assert events == [WentAway(0), StreamReset(stream, False)]
    with pytest.raises(YamuxError):
        client.open(0.0)


def test_accept_backlog_resets_the_excess() -> None:
    server = Session(client=False, now=0.0)
    opening = b"".join(frame(WINDOW_UPDATE, SYN, 1 + 2 * i, 0) for i in range(257))
    assert len(server.receive(opening, 0.0)) == 256
    assert frames_of(server.take_output()) == [(WINDOW_UPDATE, RST, 513, 0, b"")]
    server.accept(1)
    assert server.receive(frame(WINDOW_UPDATE, SYN, 515, 0), 0.0) == [StreamOpened(515)]
    assert frames_of(server.take_output()) == [(WINDOW_UPDATE, ACK, 1, 0, b"")]


def test_stream_limit_resets_the_excess() -> None:
    server = Session(client=False, now=0.0, settings=YamuxSettings(max_streams=2))
    for ident in (1, 3, 5):
        for event in server.receive(frame(WINDOW_UPDATE, SYN, ident, 0), 0.0):
            assert isinstance(event, StreamOpened)
            server.accept(event.stream)
    assert frames_of(server.take_output())[-1] == (WINDOW_UPDATE, RST, 5, 0, b"")
    server.receive(frame(WINDOW_UPDATE, RST, 1, 0), 0.0)
    assert server.receive(frame(WINDOW_UPDATE, SYN, 7, 0), 0.0) == [StreamOpened(7)]


def test_client_opens_no_more_than_the_backlog_unacknowledged() -> None:
    pair = Pair()
    for _ in range(256):
        pair.client.open(0.0)
    assert not pair.client.can_open
    with pytest.raises(YamuxError, match="streams exhausted"):
        pair.client.open(0.0)
    pair.pump()
    assert pair.client.can_open


def test_keepalive_pings_are_answered_and_missed() -> None:
    pair = Pair()
    pair.tick(29.9)
    assert not pair.client.take_output()
    pair.tick(30.0)
    pair.pump()
    pair.tick(59.0)
    assert pair.at_client == pair.at_server == []
    lonely = Session(client=True, now=0.0)
    lonely.tick(30.0)
    assert frames_of(lonely.take_output()) == [(PING, SYN, 0, 1, b"")]
    assert lonely.tick(39.9) == []
    # Bytes of a long transfer are a sign of life too.
    assert lonely.receive(frame(PING, SYN, 0, 7), 39.9) == []
    assert lonely.tick(49.8) == []
    assert lonely.tick(49.95) == [SessionFailed("keepalive timeout")]


def test_an_open_nobody_acknowledges_ends_the_session() -> None:
    client = Session(client=True, now=0.0)
    client.open(0.0)
    assert client.tick(29.0) == []
    client.receive(frame(PING, ACK, 0, 1), 74.0)
    assert client.tick(75.0) == [SessionFailed("stream 1 was not acknowledged")]


def test_a_half_closed_stream_is_reset_in_the_end() -> None:
    pair = Pair(YamuxSettings(keepalive_s=1e9))
    stream = pair.client.open(0.0)
    pair.client.finish(stream)
    pair.pump()
    pair.tick(299.0)
    assert pair.client.stream_count == 1
    pair.tick(300.0)
    pair.pump()
    assert pair.at_client[-1] == StreamReset(stream, True)
    assert pair.at_server[-1] == StreamReset(stream, True)


def test_fin_on_a_data_frame_comes_after_its_bytes() -> None:
    server = Session(client=False, now=0.0)
    opening = frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, FIN, 1, 4)
    events = server.receive(opening + b"ab", 0.0)
    events += server.receive(b"cd", 0.0)
    assert events == [
        StreamOpened(1),
        StreamData(1, b"ab"),
        StreamData(1, b"cd"),
        StreamEnded(1),
    ]


def any_frame(kind: int, flags: int, stream: int, body: bytes, length: int) -> bytes:
    if kind == DATA:
        return frame(kind, flags, stream, len(body)) + body
    return frame(kind, flags, stream, length)


FRAMES = st.builds(
    any_frame,
    st.sampled_from([DATA, DATA, WINDOW_UPDATE, WINDOW_UPDATE, PING, GO_AWAY]),
    st.sampled_from([0, 0, SYN, SYN, ACK, FIN, RST, SYN | FIN, FIN | RST, 0xFFFF]),
    st.integers(0, 9),
    st.binary(max_size=40),
    st.sampled_from([0, 1, 1000, 1 << 20, (1 << 32) - 1]),
)


def run(chunks: list[bytes]) -> tuple[list[Event], bytes]:
    session = Session(client=False, now=0.0)
    events: list[Event] = []
    for chunk in chunks:
        for event in session.receive(chunk, 0.0):
            last = events[-1] if events else None
            if (
                isinstance(event, StreamData)
                and isinstance(last, StreamData)
                and last.stream == event.stream
            ):
                events.pop()
                event = StreamData(event.stream, last.data + event.data)
            events.append(event)
    return events, session.take_output()


@given(st.lists(FRAMES, max_size=30), st.binary(max_size=30), st.data())
def test_cuts_between_reads_change_nothing(
    frames: list[bytes], rubbish: bytes, data: st.DataObject
) -> None:
    whole = b"".join(frames) + rubbish
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    bounds = [0, *cuts, len(whole)]
    chunks = [whole[a:b] for a, b in itertools.pairwise(bounds)]
    assert run(chunks) == run([whole])


@given(st.binary(max_size=200))
def test_no_bytes_raise(noise: bytes) -> None:
    events, _ = run([noise])
    failed = [e for e in events if isinstance(e, SessionFailed)]
    assert len(failed) <= 1
    assert not failed or events[-1] is failed[0]
