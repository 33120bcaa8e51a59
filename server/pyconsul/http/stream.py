"""Streaming answers: pieces written as they come (agent/monitor, snapshots)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_MAX_STREAM_BUFFER = 16 << 20
"""Bytes a slow reader may leave unread before it is disconnected."""


class Stream:
    """The ``StreamSink`` of a connection: chunked, or until close for 1.0."""

    def __init__(
        self, transport: asyncio.Transport, chunked: bool, ended: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._chunked = chunked
        self._ended = ended
        self._open = True
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        """Send a piece; a client that reads too slowly is disconnected."""
        if not self._open or not data:
            return
        if self._transport.get_write_buffer_size() > _MAX_STREAM_BUFFER:
            self._transport.abort()
            return
        if self._chunked:
            self._transport.writelines([b"%x\r\n" % len(data), data, b"\r\n"])
        else:
            self._transport.write(data)

    def close(self) -> None:
        """End the answer."""
        if self._open:
            if self._chunked:
                self._transport.write(b"0\r\n\r\n")
            self.lost()
            self._ended()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once the answer has ended."""
        if self._open:
            self._callbacks.append(callback)
        else:
            callback()

    def lost(self) -> None:
        """The client has gone, or the answer is complete."""
        if self._open:
            self._open = False
            for callback in self._callbacks:
                callback()
