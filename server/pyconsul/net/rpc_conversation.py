"""The serving side of one net/rpc conversation: read a call, answer it, again.

A conversation runs on a yamux stream or on a bare connection; ``Channel`` is
what it needs of either. Calls of one conversation are answered one by one, as
Go does; no call makes a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any, Protocol

from pyconsul.net.rpc_errors import ILL_FORMED, NO_METHOD, NO_SERVICE, UNREADABLE
from pyconsul.net.rpc_stream import (
    FramingError,
    Methods,
    PairReader,
    RpcMethod,
    encode_pair,
)
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Caller, Reply

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """A stream or connection as a conversation sees it."""

    buffered: int
    """Bytes of incomplete messages held for this connection."""

    def write(self, stream: int, data: bytes) -> bool:
        """Send; whether the peer took it all, else ``resume`` follows."""
        ...

    def consumed(self, stream: int, size: int) -> None:
        """Let the peer send ``size`` more bytes."""
        ...

    def finish(self, stream: int) -> None:
        """End the stream after what was written."""
        ...


class Service:
    """What all conversations of a server share."""

    def __init__(self, caller: Caller, methods: Methods, max_message: int) -> None:
        self.caller = caller
        self.methods = methods
        self.max_message = max_message
        self.running = 0
        """Calls that wait for an answer."""
        self.services = {name.partition(".")[0] for name in methods}

    def unknown(self, name: str) -> str:
        """Return what Go says of a method nobody serves."""
        service, dot, _ = name.rpartition(".")
        if not dot:
            return f"{ILL_FORMED}{name}"
        return f"{NO_METHOD if service in self.services else NO_SERVICE}{name}"


class Conversation:
    """Serves the calls of one stream."""

    __slots__ = (
        "_blocked",
        "_channel",
        "_counted",
        "_ended",
        "_held",
        "_reader",
        "_service",
        "_stream",
        "_waiting",
    )

    def __init__(self, service: Service, channel: Channel, stream: int = 0) -> None:
        self._service = service
        self._channel = channel
        self._stream = stream
        self._reader = PairReader(service.max_message)
        self._held: deque[bytes] = deque()  # came while a call was running
        self._waiting: asyncio.Future[Reply] | None = None
        self._blocked = False  # a reply waits for the peer's window
        self._counted = 0  # our part of channel.buffered
        self._ended = False

    @property
    def busy(self) -> bool:
        """Whether a call runs, or its answer is still on the way out."""
        return self._waiting is not None or self._blocked

    def receive(self, data: bytes) -> None:
        """Take bytes of the stream. Raises ``FramingError``."""
        if self._ended:
            self._channel.consumed(self._stream, len(data))
        elif self._waiting is not None or self._blocked:
            # Not granted again: what a peer can pile up is its window.
            self._held.append(data)
        else:
            self._feed(data)

    def resume(self) -> None:
        """Go on after a reply that had to wait. Raises ``FramingError``."""
        if self._blocked and not self._ended:
            self._blocked = False
            self._go_on()

    def cancel(self) -> None:
        """Drop the conversation, and the call it waits for."""
        self._ended = True
        self._count(0)
        self._held.clear()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._service.running -= 1
            waiting.cancel()

    def _feed(self, data: bytes) -> None:
        self._channel.consumed(self._stream, len(data))
        self._serve_all(self._reader.feed(data))

    def _go_on(self) -> None:
        """Serve what came meanwhile, until a call waits again."""
        self._serve_all(self._reader.next())
        while self._held and not self.busy and not self._ended:
            self._feed(self._held.popleft())

    def _serve_all(self, pair: tuple[dict[str, Any], Any] | None) -> None:
        reader = self._reader
        while pair is not None and self._serve(*pair):
            pair = reader.next()
        self._count(0 if self._ended else reader.buffered)

    def _count(self, size: int) -> None:
        self._channel.buffered += size - self._counted
        self._counted = size

    def _serve(self, header: dict[str, Any], body: Any) -> bool:
        """Run one call; whether the next may be read. Raises ``FramingError``."""
        service = self._service
        name, seq = header.get("ServiceMethod", ""), header.get("Seq", 0)
        if name.__class__ is not str or seq.__class__ is not int:
            raise FramingError("malformed header")
        method = service.methods.get(name)
        if method is None:
            self._refuse(name, seq, service.unknown(name))
            return False
        try:
            args = method.args_from_plain(body)
        except ConsulError as error:
            self._refuse(name, seq, f"{UNREADABLE}{error}")
            return False
        except Exception as error:
            _log.exception("rpc: the argument of %s cannot be read", name)
            self._refuse(name, seq, f"{UNREADABLE}{type(error).__name__}")
            return False
        try:
            answer = service.caller.call(name, args)
        except Exception as error:
            return self._write_error(name, seq, error)
        if isinstance(answer, Reply):
            return self._write_reply(name, seq, method, args, answer)
        self._waiting = answer
        service.running += 1
        answer.add_done_callback(partial(self._settled, name, seq, method, args))
        return False

    def _settled(
        self,
        name: str,
        seq: int,
        method: RpcMethod,
        args: Any,
        answer: asyncio.Future[Reply],
    ) -> None:
        if self._waiting is not answer:
            if not answer.cancelled():
                answer.exception()  # nobody waits for it any more
            return
        self._waiting = None
        self._service.running -= 1
        if answer.cancelled():
            done = self._write_error(name, seq, ConsulError("the call was cancelled"))
        elif (error := answer.exception()) is not None:
            done = self._write_error(name, seq, error)
        else:
            done = self._write_reply(name, seq, method, args, answer.result())
        if done:
            try:
                self._go_on()
            except ConsulError as error:
                _log.warning("rpc: conversation dropped: %s", error)
                self._channel.finish(self._stream)
                self.cancel()

    def _write_reply(
        self, name: str, seq: int, method: RpcMethod, args: Any, reply: Reply
    ) -> bool:
        header = {"Error": "", "Seq": seq, "ServiceMethod": name}
        try:
            encoded = encode_pair(header, method.reply_to_plain(reply, args))
        except Exception as error:
            return self._write_error(name, seq, error)
        return self._write(encoded)

    def _write_error(self, name: str, seq: int, error: BaseException) -> bool:
        if isinstance(error, ConsulError):
            text = str(error)
        else:
            _log.error("rpc: %s failed", name, exc_info=error)
            text = f"internal error: {type(error).__name__}"
        return self._write(
            encode_pair({"Error": text, "Seq": seq, "ServiceMethod": name}, {})
        )

    def _refuse(self, name: str, seq: int, text: str) -> None:
        """Answer a call that cannot be read; Go closes the stream after it."""
        header = {"Error": text, "Seq": seq, "ServiceMethod": name}
        self._channel.write(self._stream, encode_pair(header, {}))
        self._channel.finish(self._stream)
        self._ended = True

    def _write(self, data: bytes) -> bool:
        self._blocked = not self._channel.write(self._stream, data)
        return not self._blocked
