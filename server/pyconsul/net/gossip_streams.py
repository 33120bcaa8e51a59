"""The TCP exchanges of a gossip pool: ours with others, and theirs with us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import STREAMS_MAX, OpenStream
from pyconsul.gossip.stream import StreamError, StreamReader
from pyconsul.net.gossip_addresses import dial_failure
from pyconsul.net.gossip_options import PoolOptions
from pyconsul.net.gossip_sockets import close_stream

_log = logging.getLogger("pyconsul.net.gossip_pool")
_READ_BYTES = 64 << 10


class Streams:
    """Reads and writes whole messages, at most ``STREAMS_MAX`` of others at once.

    ``receive`` gets a message of others and returns what to answer; ``done`` is
    told of ours: its id, the reply (``None``: none came) and why it failed.
    """

    def __init__(
        self,
        options: PoolOptions,
        keyring: Keyring,
        tasks: set[asyncio.Task[None]],
        receive: Callable[[bytes], bytes | None],
        done: Callable[[int, bytes | None, str], None],
    ) -> None:
        self._options = options
        self._keyring = keyring
        self._tasks = tasks
        self._receive = receive
        self._done = done
        self.incoming = 0
        self.stopped = False

    async def exchange(self, stream: OpenStream) -> None:
        """Write, read the reply if one is due, and tell of it."""
        reply: bytes | None = None
        failure = ""
        host, port = stream.address
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout_at(stream.deadline):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(stream.data)
                await writer.drain()
                reply = b""
                if stream.wants_reply:
                    reply = await self._read(reader, reply=True)
                if reply is None:
                    failure = "EOF"
        except StreamError as error:
            failure = str(error)
        except (OSError, ValueError, OverflowError) as error:
            cause = error if isinstance(error, OSError) else OSError(str(error))
            failure = dial_failure(host, port, cause)
            if writer is not None:
                failure = failure.replace("dial", "read", 1)
        finally:
            if writer is not None:
                await close_stream(writer)
        self._done(stream.id, reply, failure)

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one incoming exchange."""
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername") or ("",)
        if (
            self.stopped
            or task is None
            or self.incoming >= STREAMS_MAX
            or not self._options.allows(str(peer[0]))
        ):
            writer.transport.abort()
            return
        self._tasks.add(task)
        self.incoming += 1
        try:
            async with asyncio.timeout(self._options.memberlist_settings().tcp_timeout):
                await self._serve(reader, writer)
        except (OSError, EOFError):
            pass  # the peer is gone, or too slow
        except asyncio.CancelledError:
            if not self.stopped:
                raise  # by ``stop``: the task ends well, or asyncio complains
        finally:
            self.incoming -= 1
            self._tasks.discard(task)
            await close_stream(writer)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            data = await self._read(reader, reply=False)
        except StreamError as error:
            peer = writer.get_extra_info("peername")
            _log.error("memberlist: Failed to receive: %s from=%s", error, peer)
            if error.answer:
                writer.write(error.answer)
                await writer.drain()
            return
        if data is None:
            return
        reply = self._receive(data)
        if reply:
            writer.write(reply)
            await writer.drain()

    async def _read(self, reader: asyncio.StreamReader, *, reply: bool) -> bytes | None:
        """Return one whole message, None if the peer closed before."""
        settings = self._options.memberlist_settings()
        parser = StreamReader(
            self._keyring,
            settings.label,
            reply=reply,
            verify_incoming=settings.verify_incoming,
            verify_outgoing=settings.verify_outgoing,
        )
        while data := await reader.read(_READ_BYTES):
            message = parser.feed(data)
            if message is not None:
                return message
        return None
