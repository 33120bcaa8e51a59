"""What a yamux session tells the layer above, and its settings."""

from __future__ import annotations

import msgspec

from pyconsul.yamux.frames import INITIAL_WINDOW


class YamuxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of a session; seconds, bytes, counts.

    Defaults are those of ``wire-rpc.md`` section 3, except ``max_streams`` and
    ``max_replies``, which bound what a peer can make us hold.
    """

    accept_backlog: int = 256
    """Streams opened and not yet accepted, in both directions."""
    max_streams: int = 8192
    """Streams the peer may have open; the next one is reset."""
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 10.0
    open_timeout_s: float = 75.0
    """A stream that is not acknowledged within this ends the session."""
    close_timeout_s: float = 300.0
    """A stream we closed and the peer did not is reset after this."""
    window: int = INITIAL_WINDOW
    max_replies: int = 65536
    """Control frames owed to a peer that does not read; more end the session."""


class StreamOpened(msgspec.Struct, frozen=True, gc=False):
    """The peer opened a stream; answer with ``accept`` or ``reset``."""

    stream: int


class StreamData(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a stream; call ``consumed`` once they need no memory here."""

    stream: int
    data: bytes


class StreamEnded(msgspec.Struct, frozen=True, gc=False):
    """The peer will send no more on this stream (FIN)."""

    stream: int


class StreamReset(msgspec.Struct, frozen=True, gc=False):
    """The stream is gone; never ``acknowledged``: the peer took none of it."""

    stream: int
    acknowledged: bool


class StreamDrained(msgspec.Struct, frozen=True, gc=False):
    """Everything sent on the stream fitted the peer's window by now."""

    stream: int


class WentAway(msgspec.Struct, frozen=True, gc=False):
    """The peer accepts no new streams; those that are open go on."""

    code: int


class SessionFailed(msgspec.Struct, frozen=True, gc=False):
    """The session is over: close the connection after writing its output."""

    reason: str


Event = (
    StreamOpened
    | StreamData
    | StreamEnded
    | StreamReset
    | StreamDrained
    | WentAway
    | SessionFailed
)
