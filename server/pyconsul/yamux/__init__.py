"""yamux, pure: many streams on one connection (``wire-rpc.md`` section 3)."""

from __future__ import annotations

from pyconsul.yamux.core import Session, YamuxError
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

__all__ = [
    "Event",
    "Session",
    "SessionFailed",
    "StreamData",
    "StreamDrained",
    "StreamEnded",
    "StreamOpened",
    "StreamReset",
    "WentAway",
    "YamuxError",
    "YamuxSettings",
]
