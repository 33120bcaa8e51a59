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
        self._resumed: asyncio.Future[None] | None = None
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

    def abort(self) -> None:
        """Break the connection off: what was sent is not whole."""
        if self._open:
            self._transport.abort()

    async def drain(self) -> None:
        """Wait until the client has read enough, or has gone."""
        if self._resumed is not None:
            await asyncio.shield(self._resumed)

    def pause(self) -> None:
        """The client reads slowly."""
        if self._resumed is None and self._open:
            self._resumed = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """The client has caught up."""
        waiting, self._resumed = self._resumed, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

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
            self.resume()
            for callback in self._callbacks:
                callback()
