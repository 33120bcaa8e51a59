"""Calls to servers: one multiplexed connection an address, dialed on demand.

``RpcPool.call`` answers by a plain future. Calls of one turn of the loop leave
in one write; each call in flight has a yamux stream of its own, and idle
streams are used again. A future that is cancelled resets its stream, which
makes the server drop the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, cast

import msgspec

from pyconsul.net.rpc_errors import (
    ENDING,
    NO_METHOD,
    RpcConnectionError,
    broken_call,
    dial_error,
    error_from_text,
)
from pyconsul.net.rpc_stream import (
    MIB,
    FramingError,
    Methods,
    PairReader,
    RpcMethod,
    encode_pair,
    known_methods,
)
from pyconsul.net.yamux_link import YamuxLink
from pyconsul.types.errors import ConsulError, NotFoundError
from pyconsul.types.messages import Reply
from pyconsul.yamux import (
    Event,
    StreamData,
    StreamEnded,
    StreamReset,
    WentAway,
    YamuxSettings,
)

__all__ = ["RpcConnectionError", "RpcPool", "RpcPoolLimits"]

_log = logging.getLogger(__name__)

_TAG = b"\x04"


class RpcPoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the pool; seconds, bytes, counts. Source: ``wire-rpc.md`` 2, 3."""

    dial_timeout_s: float = 10.0
    idle_s: float = 120.0
    """A connection without calls is closed after this."""
    idle_streams: int = 32
    """Streams kept for reuse (64 on servers)."""
    max_reply: int = 256 * MIB
    max_waiting: int = 65536
    """Calls of one connection that wait for it, or for a stream."""
    tick_s: float = 0.25
    """How exactly time-outs are kept."""
    yamux: YamuxSettings = YamuxSettings()


class _Call(asyncio.Future[Reply]):
    """A call under way: the caller's future, and where the answer will come.

    ``cancel`` is overridden rather than watched by a callback, which would
    cost every call a turn of the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        method: RpcMethod,
        args: Any,
        deadline: float,
    ) -> None:
        super().__init__(loop=loop)
        self.name = name
        self.method = method
        self.args = args
        self.deadline = deadline
        self.request = b""
        self.link: _ClientLink | None = None
        self.stream = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel; the server is told by a reset of the stream."""
        if not super().cancel(msg):
            return False
        if self.link is not None:
            self.link.abandon(self)
        return True

    def fail(self, error: ConsulError) -> None:
        """End with an error, unless it is over."""
        self.link = None
        if not self.done():
            self.set_exception(error)


class _Stream:
    """A stream of ours: the call it carries, if any."""

    __slots__ = ("call", "reader")

    def __init__(self, limit: int) -> None:
        self.call: _Call | None = None
        self.reader = PairReader(limit)


class RpcPool:
    """Multiplexed connections to servers; every method runs on one loop."""

    def __init__(
        self,
        limits: RpcPoolLimits | None = None,
        *,
        methods: Methods | None = None,
    ) -> None:
        self.limits = limits or RpcPoolLimits()
        self._methods = known_methods() if methods is None else methods
        self._by_address: dict[str, _ClientLink] = {}
        self._links: set[_ClientLink] = set()  # also those that take no new calls
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._seq = 0
        self._closed = False

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> asyncio.Future[Reply]:
        """Call ``method`` of the server at ``address`` (``host:port``).

        The future fails with the server's error, or with
        ``RpcConnectionError``; cancelling it cancels the call at the server.
        """
        loop = asyncio.get_running_loop()
        codec = self._methods.get(method)
        if codec is None:
            return _failed(loop, ConsulError(f"{NO_METHOD}{method}"))
        if self._closed:
            return _failed(loop, broken_call("rpc: pool is closed", sent=False))
        call = _Call(loop, method, codec, args, loop.time() + timeout_s)
        self._seq += 1
        try:
            call.request = encode_pair(
                {"Seq": self._seq, "ServiceMethod": method}, codec.args_to_plain(args)
            )
        except ConsulError as error:
            call.set_exception(error)
            return call
        link = self._by_address.get(address)
        if link is None:
            link = self._dial(loop, address)
        link.submit(call)
        return call

    async def close(self) -> None:
        """Close every connection; calls under way fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dials = list(self._dials)
        for task in dials:
            task.cancel()
        links = list(self._links)
        for link in links:
            link.close()
        await asyncio.gather(*dials, return_exceptions=True)
        await asyncio.gather(*(link.lost for link in links))

    def forget(self, link: _ClientLink) -> None:
        """Give the connection no new calls."""
        if self._by_address.get(link.address) is link:
            del self._by_address[link.address]

    def lost(self, link: _ClientLink) -> None:
        """Tick the connection no more."""
        self.forget(link)
        self._links.discard(link)

    def _dial(self, loop: asyncio.AbstractEventLoop, address: str) -> _ClientLink:
        link = _ClientLink(self, loop, address)
        self._by_address[address] = link
        self._links.add(link)
        task = loop.create_task(self._connect(link))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        if self._timer is None:
            self._timer = loop.call_later(self.limits.tick_s, self._tick, loop)
        return link

    async def _connect(self, link: _ClientLink) -> None:
        host, _, port = link.address.rpartition(":")
        try:
            async with asyncio.timeout(self.limits.dial_timeout_s):
                await link.loop.create_connection(
                    lambda: link, host.strip("[]"), int(port)
                )
        except OSError as error:
            link.not_connected(dial_error(link.address, error))
        except (ValueError, OverflowError):
            link.not_connected(
                dial_error(link.address, OSError("missing or bad port in address"))
            )
        except asyncio.CancelledError:
            link.not_connected(broken_call("rpc: pool is closed", sent=False))
            raise

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for link in list(self._links):
            link.tick(now)
        self._timer = None
        if self._links:
            self._timer = loop.call_later(self.limits.tick_s, self._tick, loop)


class _ClientLink(YamuxLink):
    """A connection to one server: calls wait, run, and give streams back."""

    def __init__(
        self, pool: RpcPool, loop: asyncio.AbstractEventLoop, address: str
    ) -> None:
        super().__init__(loop, client=True, settings=pool.limits.yamux)
        self.address = address
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed, or could not be made."""
        self._pool = pool
        self._limits = pool.limits
        self._waiting: deque[_Call] = deque()
        self._streams: dict[int, _Stream] = {}
        self._idle: list[int] = []  # the last one used is the next one used
        self._idle_low = 0  # the fewest of them since the last tick
        self._idle_since = loop.time()
        self._running = 0

    # Calls.

    def submit(self, call: _Call) -> None:
        """Send a call, or let it wait for the connection or for a stream."""
        call.link = self
        if self.transport is None or self._waiting:
            if len(self._waiting) >= self._limits.max_waiting:
                call.fail(broken_call("too many calls wait", sent=False))
            else:
                self._waiting.append(call)
        elif not self._begin(call):
            self._waiting.append(call)

    def abandon(self, call: _Call) -> None:
        """Forget a call nobody waits for; the server learns it by RST."""
        call.link = None
        stream = self._streams.get(call.stream)
        if stream is not None and stream.call is call:
            del self._streams[call.stream]
            self._count(-1)
            self.session.reset(call.stream)
            self.schedule_flush()

    def _begin(self, call: _Call) -> bool:
        """Send a call on an idle or a new stream; whether there was one."""
        session = self.session
        if self._idle:
            ident = self._idle.pop()
            self._idle_low = min(self._idle_low, len(self._idle))
            stream = self._streams[ident]
        elif session.can_open:
            ident = session.open(self.loop.time())
            stream = self._streams[ident] = _Stream(self._limits.max_reply)
        else:
            return False
        stream.call = call
        call.stream = ident
        self._count(1)
        session.send(ident, call.request)
        call.request = b""
        self.schedule_flush()
        return True

    def _begin_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            if not waiting[0].done() and not self._begin(waiting[0]):
                break
            waiting.popleft()

    def _close_idle(self) -> None:
        """Close streams beyond those to keep, when none of them was needed."""
        # Not as each call ends: a steady load would open them again at once.
        excess = self._idle_low - self._limits.idle_streams
        if excess > 0:
            for ident in self._idle[:excess]:
                del self._streams[ident]
                self.session.finish(ident)
            del self._idle[:excess]
        self._idle_low = len(self._idle)

    def _count(self, change: int) -> None:
        self._running += change
        if not self._running:
            self._idle_since = self.loop.time()

    # The connection's life.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.gone:
            cast(asyncio.Transport, transport).abort()
            return
        cast(asyncio.Transport, transport).write(_TAG)
        self._begin_waiting()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._set_lost()

    def not_connected(self, error: RpcConnectionError) -> None:
        """Fail what waits: there will be no connection."""
        if self.transport is not None:
            return  # it was made while the dial was given up; its loss is told
        self._pool.lost(self)
        self.gone = True
        self._fail_waiting(error)
        self._set_lost()

    def close(self) -> None:
        """Close in order; calls under way fail."""
        self.session.go_away()
        if self.transport is None and not self.gone:
            return  # the dial's cancellation ends it
        self.drop("EOF")

    def tick(self, now: float) -> None:
        """Time out calls, keep the connection alive, close it when idle."""
        for stream in list(self._streams.values()):
            call = stream.call
            if call is not None and now >= call.deadline:
                self.abandon(call)
                call.fail(broken_call("i/o deadline reached", sent=True))
        if self._waiting:
            for call in [c for c in self._waiting if now >= c.deadline]:
                call.fail(broken_call("i/o deadline reached", sent=False))
            self._waiting = deque(c for c in self._waiting if not c.done())
        if self.transport is None or self.gone:
            return
        self._close_idle()
        super().tick(now)
        idle = not self._running and not self._waiting
        if idle and not self.gone:
            drained = self.session.went_away
            if drained or now - self._idle_since >= self._limits.idle_s:
                self.close()

    def on_gone(self, reason: str) -> None:
        if reason != "EOF":
            _log.warning("rpc: connection to %s dropped: %s", self.address, reason)
        self._pool.lost(self)
        streams, self._streams = self._streams, {}
        self._idle.clear()
        self._running = 0
        for stream in streams.values():
            if stream.call is not None:
                stream.call.fail(broken_call(reason, sent=True))
        self._fail_waiting(broken_call(reason, sent=False))

    def _fail_waiting(self, error: RpcConnectionError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.fail(RpcConnectionError(str(error), sent=False))

    def _set_lost(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    # Events of the session.

    def on_event(self, event: Event) -> None:
        match event:
            case StreamData(ident, data):
                self.session.consumed(ident, len(data))
                stream = self._streams.get(ident)
                if stream is not None:
                    self._on_data(ident, stream, data)
            case StreamEnded(ident):
                self.session.finish(ident)
                self._on_end(ident, sent=True)
            case StreamReset(ident, acknowledged):
                self._on_end(ident, sent=acknowledged)
            case WentAway():
                self._pool.forget(self)
                self._fail_waiting(broken_call(sent=False))
            case _:
                pass

    def after_events(self) -> None:
        if self._waiting and not self.gone:
            self._begin_waiting()

    def _on_data(self, ident: int, stream: _Stream, data: bytes) -> None:
        call = stream.call
        if call is None:
            self._discard(ident)  # nothing was asked
            return
        try:
            pair = stream.reader.feed(data)
            if pair is not None and not isinstance(pair[0].get("Error", ""), str):
                raise FramingError("malformed header")
        except FramingError as error:
            self._discard(ident)
            call.fail(broken_call(str(error), sent=True))
            return
        if pair is not None:
            self._on_reply(ident, stream, call, *pair)

    def _on_reply(
        self,
        ident: int,
        stream: _Stream,
        call: _Call,
        header: dict[str, Any],
        body: Any,
    ) -> None:
        stream.call = None
        call.link = None
        self._count(-1)
        text: str = header.get("Error", "")
        ending = text.startswith(ENDING) or self.session.pending(ident)
        if ending or stream.reader.buffered:
            self._discard(ident)  # the server closes it, or answers unasked
        else:
            self._idle.append(ident)
        if call.done():
            return
        if text:
            error = error_from_text(text)
            absent = (
                call.method.absent_reply(text)
                if isinstance(error, NotFoundError)
                else None
            )
            if absent is not None:
                call.set_result(absent)
            else:
                call.set_exception(error)
            return
        try:
            reply = call.method.reply_from_plain(body, call.args)
        except ConsulError as error:
            call.set_exception(error)
        except Exception as error:
            _log.exception("rpc: the reply of %s cannot be read", call.name)
            call.set_exception(
                ConsulError(f"{call.name}: bad reply: {type(error).__name__}")
            )
        else:
            call.set_result(reply)

    def _on_end(self, ident: int, *, sent: bool) -> None:
        """Fail the call of a stream the server ended, or take it out of use."""
        stream = self._streams.pop(ident, None)
        if stream is None:
            return
        if stream.call is None:
            self._idle.remove(ident)
            self._idle_low = min(self._idle_low, len(self._idle))
            return
        self._count(-1)
        stream.call.fail(broken_call(sent=sent))

    def _discard(self, ident: int) -> None:
        stream = self._streams.pop(ident)
        if stream.call is not None:
            self._count(-1)
        elif ident in self._idle:
            self._idle.remove(ident)
            self._idle_low = min(self._idle_low, len(self._idle))
        self.session.reset(ident)


def _failed(
    loop: asyncio.AbstractEventLoop, error: ConsulError
) -> asyncio.Future[Reply]:
    future: asyncio.Future[Reply] = loop.create_future()
    future.set_exception(error)
    return future
