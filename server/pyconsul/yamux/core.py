"""A yamux session: many ordered byte streams on one connection, no I/O.

Bytes and ``now`` (seconds of any steady clock) go in by ``receive`` and
``tick``; events come out of them, and bytes by ``take_output``. Both sides
grant each other a window of bytes a stream; what exceeds the peer's window
waits here. Source: ``wire-rpc.md`` section 3.

A stream's life: open (SYN, answered by ACK), each side ends its half by FIN,
and the stream is forgotten when both have; RST forgets it at once. Frames of
forgotten streams are discarded, since they may have crossed our RST.
"""

from __future__ import annotations

from collections import deque

from pyconsul.types.errors import ConsulError
from pyconsul.yamux.events import (
    Event,
    SessionFailed,
    StreamData,
    StreamDrained,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WentAway,
    YamuxSettings,
)
from pyconsul.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    GO_AWAY_NORMAL,
    GO_AWAY_PROTOCOL_ERROR,
    HEADER,
    HEADER_SIZE,
    INITIAL_WINDOW,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
)


class YamuxError(ConsulError):
    """No stream can be opened: too many unacknowledged, or the peer went away."""


class _Stream:
    """One stream's windows and halves."""

    __slots__ = (
        "acknowledged",
        "ended",
        "ending",
        "owed",
        "pending",
        "receive_window",
        "remote_ended",
        "send_window",
    )

    def __init__(self, window: int) -> None:
        self.send_window = INITIAL_WINDOW
        self.receive_window = window
        self.owed = 0  # consumed, and not yet granted again
        self.pending: deque[memoryview] | None = None
        self.acknowledged = False
        self.ending = False  # finish() was called
        self.ended = False  # our FIN is sent
        self.remote_ended = False


class Session:
    """One side of a connection; ``client`` is the side that dialed."""

    def __init__(
        self, *, client: bool, now: float, settings: YamuxSettings | None = None
    ) -> None:
        self.settings = settings or YamuxSettings()
        self.failed = ""
        """Why the session is over; empty while it lives."""
        self._client = client
        self._next_id = 1 if client else 2
        self._streams: dict[int, _Stream] = {}
        # Ids by the time they began to wait, oldest first.
        self._unacknowledged: dict[int, float] = {}
        self._half_closed: dict[int, float] = {}
        self._unaccepted: set[int] = set()
        self._incoming = 0
        self._now = now
        self._local_away = False
        self._remote_away = False
        self._ping_value = 0
        self._ping_sent: float | None = None
        self._last_ping = now
        self._last_received = now
        self._out: list[bytes | memoryview] = []
        self._replies = 0
        # The parser: a part of a header, or what is left of a body.
        self._head = b""
        self._body_stream = 0
        self._body_left = 0
        self._body_flags = 0

    # Streams we open, and writing.

    @property
    def can_open(self) -> bool:
        """Whether ``open`` would succeed now."""
        return (
            len(self._unacknowledged) < self.settings.accept_backlog
            and not self._remote_away
            and not self._local_away
            and not self.failed
            and self._next_id <= MAX_STREAM_ID
        )

    @property
    def went_away(self) -> bool:
        """Whether the peer, or we, or an error ended the opening of streams."""
        return self._remote_away or self._local_away or bool(self.failed)

    @property
    def stream_count(self) -> int:
        """How many streams are alive, of both sides."""
        return len(self._streams)

    def open(self, now: float) -> int:
        """Open a stream; its id. Raises ``YamuxError`` when none can be."""
        if not self.can_open:
            raise YamuxError(self.failed or "streams exhausted")
        ident = self._next_id
        self._next_id += 2
        self._streams[ident] = _Stream(self.settings.window)
        self._unacknowledged[ident] = now
        # The first grant is the initial window, so only what exceeds it is sent.
        extra = self.settings.window - INITIAL_WINDOW
        self._out.append(frame(WINDOW_UPDATE, SYN, ident, extra))
        return ident

    def accept(self, ident: int) -> None:
        """Accept a stream the peer opened."""
        stream = self._streams.get(ident)
        if stream is None or ident not in self._unaccepted:
            return
        self._unaccepted.discard(ident)
        stream.acknowledged = True
        extra = self.settings.window - INITIAL_WINDOW
        self._out.append(frame(WINDOW_UPDATE, ACK, ident, extra))

    def send(self, ident: int, data: bytes) -> None:
        """Send on a stream; what exceeds the peer's window waits.

        Data for a stream that is gone or was finished is dropped.
        """
        stream = self._streams.get(ident)
        if stream is None or stream.ending or not data:
            return
        size = len(data)
        if stream.pending is None and size <= stream.send_window:
            stream.send_window -= size
            self._out.append(HEADER.pack(0, DATA, 0, ident, size))
            self._out.append(data)
            return
        if stream.pending is None:
            stream.pending = deque()
        stream.pending.append(memoryview(data))
        self._push(ident, stream)

    def pending(self, ident: int) -> bool:
        """Whether bytes of the stream still wait for the peer's window."""
        stream = self._streams.get(ident)
        return stream is not None and stream.pending is not None

    def finish(self, ident: int) -> None:
        """End our half once everything is sent (FIN)."""
        stream = self._streams.get(ident)
        if stream is None or stream.ending:
            return
        stream.ending = True
        if stream.pending is None:
            self._send_fin(ident, stream)

    def reset(self, ident: int) -> None:
        """Forget the stream now, here and at the peer (RST)."""
        if ident in self._streams:
            self._forget(ident)
            self._out.append(frame(WINDOW_UPDATE, RST, ident, 0))

    def consumed(self, ident: int, size: int) -> None:
        """Grant ``size`` received bytes to the peer again."""
        stream = self._streams.get(ident)
        if stream is None:
            return
        stream.owed += size
        # Small grants would cost a frame a message: wait for half a window.
        if stream.owed * 2 >= self.settings.window and not stream.remote_ended:
            stream.receive_window += stream.owed
            self._out.append(frame(WINDOW_UPDATE, 0, ident, stream.owed))
            stream.owed = 0

    def go_away(self, code: int = GO_AWAY_NORMAL) -> None:
        """Tell the peer to open no more streams."""
        if not self._local_away:
            self._local_away = True
            self._out.append(frame(GO_AWAY, 0, 0, code))

    def take_output(self) -> bytes:
        """Return what is to be written, and forget it."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._replies = 0
        return data

    # Time.

    def tick(self, now: float) -> list[Event]:
        """Do what is due: keepalive and the time-outs; call about each second."""
        self._now = now
        events: list[Event] = []
        if self.failed:
            return events
        settings = self.settings
        if self._ping_sent is not None:
            # A long transfer may hold the answer up: any byte is a sign of life.
            heard = max(self._ping_sent, self._last_received)
            if now - heard >= settings.keepalive_timeout_s:
                self._fail("keepalive timeout", events)
                return events
        elif now - self._last_ping >= settings.keepalive_s:
            self.ping(now)
        for ident, since in self._unacknowledged.items():
            if now - since >= settings.open_timeout_s:
                self._fail(f"stream {ident} was not acknowledged", events)
                return events
            break
        expired: list[int] = []
        for ident, since in self._half_closed.items():
            if now - since < settings.close_timeout_s:
                break
            expired.append(ident)
        for ident in expired:
            acknowledged = self._streams[ident].acknowledged
            self.reset(ident)
            events.append(StreamReset(ident, acknowledged))
        return events

    def ping(self, now: float) -> None:
        """Ask the peer for a sign of life; ``tick`` does so by itself."""
        self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
        self._ping_sent = self._last_ping = now
        self._out.append(frame(PING, SYN, 0, self._ping_value))

    # Reading.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the connection; what they mean, in order."""
        self._now = self._last_received = now
        events: list[Event] = []
        if self.failed:
            return events
        if self._head:
            data = self._head + data
            self._head = b""
        position, size = 0, len(data)
        while position < size:
            if self._body_left:
                part = data[position : position + self._body_left]
                position += len(part)
                self._body_left -= len(part)
                self._on_body(part, events)
                continue
            if size - position < HEADER_SIZE:
                self._head = data[position:]
                break
            version, kind, flags, ident, length = HEADER.unpack_from(data, position)
            position += HEADER_SIZE
            if version != 0 or kind > GO_AWAY:
                self._fail("invalid frame", events)
            elif kind <= WINDOW_UPDATE:
                self._on_stream_frame(kind, flags, ident, length, events)
            elif kind == PING:
                self._on_ping(flags, length, events)
            else:
                self._remote_away = True
                events.append(WentAway(length))
            if self.failed:
                break
        return events

    def _on_stream_frame(
        self, kind: int, flags: int, ident: int, length: int, events: list[Event]
    ) -> None:
        if flags & SYN and not self._on_syn(ident, events):
            return
        stream = self._streams.get(ident)
        if flags & ~SYN and stream is not None:
            if flags & ACK:
                stream.acknowledged = True
                self._unacknowledged.pop(ident, None)
            if flags & RST:
                self._forget(ident)
                events.append(StreamReset(ident, stream.acknowledged))
                stream = None
        if kind == DATA and length:
            if length > self.settings.window or (
                stream is not None and length > stream.receive_window
            ):
                self._fail("receive window exceeded", events)
                return
            self._body_stream = ident
            self._body_left = length
            self._body_flags = flags & FIN
            if stream is not None:
                stream.receive_window -= length
            return
        if stream is None:
            return
        if kind == WINDOW_UPDATE and length:
            stream.send_window += length
            if stream.send_window > MAX_WINDOW:
                self._fail("send window overflow", events)
                return
            if stream.pending is not None and self._push(ident, stream):
                events.append(StreamDrained(ident))
        if flags & FIN:
            self._on_fin(ident, stream, events)

    def _on_syn(self, ident: int, events: list[Event]) -> bool:
        """Open the peer's stream; whether the frame is to be read on."""
        ours = ident % 2 == (1 if self._client else 0)
        if ours or ident == 0 or ident in self._streams:
            self._fail("duplicate stream initiated", events)
            return False
        settings = self.settings
        if (
            self._local_away
            or len(self._unaccepted) >= settings.accept_backlog
            or self._incoming >= settings.max_streams
        ):
            self._reply(frame(WINDOW_UPDATE, RST, ident, 0), events)
            return not self.failed
        self._streams[ident] = _Stream(settings.window)
        self._unaccepted.add(ident)
        self._incoming += 1
        events.append(StreamOpened(ident))
        return True

    def _on_body(self, part: bytes, events: list[Event]) -> None:
        ident = self._body_stream
        stream = self._streams.get(ident)
        if stream is None or stream.remote_ended:
            return
        events.append(StreamData(ident, part))
        if not self._body_left and self._body_flags:
            self._on_fin(ident, stream, events)

    def _on_fin(self, ident: int, stream: _Stream, events: list[Event]) -> None:
        if stream.remote_ended:
            return
        stream.remote_ended = True
        events.append(StreamEnded(ident))
        if stream.ended:
            self._forget(ident)

    def _on_ping(self, flags: int, value: int, events: list[Event]) -> None:
        if flags & SYN:
            self._reply(frame(PING, ACK, 0, value), events)
        elif flags & ACK and value == self._ping_value:
            self._ping_sent = None

    # Inside.

    def _reply(self, data: bytes, events: list[Event]) -> None:
        self._replies += 1
        if self._replies > self.settings.max_replies:
            self._fail("the peer does not read", events)
        else:
            self._out.append(data)

    def _push(self, ident: int, stream: _Stream) -> bool:
        """Send of what waits as much as the window takes; whether that was all."""
        pending = stream.pending
        while pending and stream.send_window:
            first = pending[0]
            size = min(len(first), stream.send_window)
            if size == len(first):
                pending.popleft()
            else:
                pending[0] = first[size:]
            stream.send_window -= size
            self._out.append(HEADER.pack(0, DATA, 0, ident, size))
            self._out.append(first[:size])
        if pending:
            return False
        stream.pending = None
        if stream.ending and not stream.ended:
            self._send_fin(ident, stream)
        return True

    def _send_fin(self, ident: int, stream: _Stream) -> None:
        self._out.append(frame(WINDOW_UPDATE, FIN, ident, 0))
        stream.ended = True
        if stream.remote_ended:
            self._forget(ident)
        else:
            self._half_closed[ident] = self._now

    def _forget(self, ident: int) -> None:
        del self._streams[ident]
        self._unacknowledged.pop(ident, None)
        self._half_closed.pop(ident, None)
        self._unaccepted.discard(ident)
        if ident % 2 == (0 if self._client else 1):
            self._incoming -= 1

    def _fail(self, reason: str, events: list[Event]) -> None:
        self.failed = reason
        self._body_left = 0
        if reason != "keepalive timeout":
            self.go_away(GO_AWAY_PROTOCOL_ERROR)
        events.append(SessionFailed(reason))
