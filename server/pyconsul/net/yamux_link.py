"""The shell of a yamux session: one asyncio protocol, no protocol decisions.

All frames of one turn of the event loop leave in one write. While the
transport's buffer is full, output stays in the session; a peer that takes
nothing for ``stall_s`` is dropped.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import cast

from pyconsul.yamux import Event, Session, SessionFailed, YamuxSettings

STALL_S = 10.0


class YamuxLink(asyncio.Protocol, ABC):
    """Moves bytes between a transport and a session; subclasses take events."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        client: bool,
        settings: YamuxSettings | None = None,
    ) -> None:
        self.loop = loop
        self.session = Session(client=client, now=loop.time(), settings=settings)
        self.transport: asyncio.Transport | None = None
        self.gone = False
        """Whether the connection is lost, or being dropped."""
        self._scheduled = False
        self._paused = False
        self._stalled_size = 0
        self._stalled_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport and tell the layer above once."""
        self.transport = None
        if not self.gone:
            self.gone = True
            self.on_gone("EOF")

    def data_received(self, data: bytes) -> None:
        """Run the session over the bytes; answers leave in one write."""
        if self.gone:
            return
        self._scheduled = True  # the write below takes everything
        try:
            self.handle(self.session.receive(data, self.loop.time()))
        finally:
            self.flush()

    def handle(self, events: list[Event]) -> None:
        """Give events to the layer above, and end a failed session."""
        for event in events:
            if event.__class__ is SessionFailed:
                self.drop(cast(SessionFailed, event).reason)
                return
            self.on_event(event)
        self.after_events()

    def tick(self, now: float) -> None:
        """Keepalive and time-outs; the owner calls it about each second."""
        if self.gone:
            return
        self.handle(self.session.tick(now))
        self.flush()
        if not self._paused or self.transport is None:
            return
        size = self.transport.get_write_buffer_size()
        if size != self._stalled_size:
            self._stalled_size, self._stalled_since = size, now
        elif now - self._stalled_since >= STALL_S:
            self.drop("connection write timeout")

    def schedule_flush(self) -> None:
        """Write the session's output at the end of this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the session's output now, unless the transport is full."""
        self._scheduled = False
        if self._paused or self.transport is None:
            return
        output = self.session.take_output()
        if output:
            self.transport.write(output)

    def pause_writing(self) -> None:
        """Keep output in the session until the transport has room."""
        self._paused = True
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        """Write what waited."""
        self._paused = False
        self.flush()

    def drop(self, reason: str) -> None:
        """End the connection; ``reason`` is told to the layer above."""
        if self.gone:
            return
        self.gone = True
        self.flush()
        if self.transport is not None:
            if self._paused:
                self.transport.abort()
            else:
                self.transport.close()
        self.on_gone(reason)

    @abstractmethod
    def on_event(self, event: Event) -> None:
        """Take an event of the session."""

    def after_events(self) -> None:
        """Do what the frames read, or the time passed, may have made possible."""

    @abstractmethod
    def on_gone(self, reason: str) -> None:
        """Learn, once, that the connection is over."""
