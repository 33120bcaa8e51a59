"""Archives over RPC: tag 5, a request map, bytes; a reply map, bytes.

Both sides of ``wire-rpc.md`` section 6. An archive goes through files without
names, so that its size costs no memory; its end is the end of the connection.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from pyconsul.net.raft_connections import split_address
from pyconsul.net.rpc_errors import RpcConnectionError, error_from_text
from pyconsul.net.rpc_stream import MALFORMED, msgpack, new_unpacker
from pyconsul.state.archive import STATE_LIMIT
from pyconsul.types.errors import ConsulError
from pyconsul.types.gomsgpack import MsgpackError, from_plain, pack, to_plain
from pyconsul.types.snapshots import (
    RESTORE,
    SAVE,
    SavedSnapshot,
    SnapshotPort,
    SnapshotReply,
    SnapshotRequest,
)

PIECE = 256 * 1024
"""Bytes of an archive under way at once."""

CONNECT_S = 10.0
ANSWER_S = 600.0
"""How long a server may be silent: it checks and restores a whole archive."""

_TAG = b"\x05"
_MAX_REPLY = 64 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str], Awaitable[Streams]]


def temporary(folder: Path | None) -> BinaryIO:
    """Return a file without a name; it goes when it is closed."""
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))


class FileSnapshot:
    """A ``SavedSnapshot`` that is complete, in a file read from its beginning."""

    def __init__(self, reply: SnapshotReply, file: BinaryIO) -> None:
        self.reply = reply
        self._file = file
        file.seek(0)

    async def read(self) -> bytes:
        """See ``SavedSnapshot``."""
        return await asyncio.to_thread(self._file.read, PIECE)

    def close(self) -> None:
        """See ``SavedSnapshot``."""
        self._file.close()


class _StreamSnapshot:
    """A ``SavedSnapshot`` on its way from another server."""

    def __init__(self, reply: SnapshotReply, rest: bytes, streams: Streams) -> None:
        self.reply = reply
        self._rest = rest
        self._reader, self._writer = streams

    async def read(self) -> bytes:
        """See ``SavedSnapshot``."""
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        try:
            return await asyncio.wait_for(self._reader.read(PIECE), ANSWER_S)
        except (OSError, TimeoutError) as error:
            raise ConsulError(f"snapshot stream broke: {error}") from error

    def close(self) -> None:
        """See ``SavedSnapshot``."""
        self._writer.close()


# -- asking


async def connect_plain(address: str) -> Streams:
    """Connect to an RPC port, ``ip:port``; raises ``OSError``."""
    return await asyncio.open_connection(*split_address(address), limit=PIECE)


class SnapshotClient:
    """Asks servers. Where nobody listens, ``RpcConnectionError`` has no ``sent``."""

    def __init__(self, connect: Connect = connect_plain) -> None:
        self.connect = connect
        """How a connection to ``ip:port`` is made; may be set at any time."""

    async def save(self, address: str, request: SnapshotRequest) -> SavedSnapshot:
        """Begin to save; raises ``ConsulError``."""
        streams = await self._open(address, request)
        try:
            streams[1].write_eof()
            reply, rest = await self._answer(address, streams[0])
        except BaseException:
            streams[1].close()
            raise
        return _StreamSnapshot(reply, rest, streams)

    async def restore(
        self, address: str, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        """Send an archive from where it stands; raises ``ConsulError``."""
        reader, writer = await self._open(address, request)
        try:
            await self._send(writer, archive)
            reply, _ = await self._answer(address, reader)
            return reply
        finally:
            writer.close()

    async def _open(self, address: str, request: SnapshotRequest) -> Streams:
        try:
            streams = await asyncio.wait_for(self.connect(address), CONNECT_S)
        except (OSError, TimeoutError) as error:
            raise RpcConnectionError(
                f"rpc error getting client: failed to get conn: {error or 'timeout'}",
                sent=False,
            ) from error
        streams[1].write(_TAG + pack(to_plain(request)))
        return streams

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, archive: BinaryIO) -> None:
        try:
            while piece := await asyncio.to_thread(archive.read, PIECE):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            # A server that refuses early closes: its answer says why.
            return

    @staticmethod
    async def _answer(
        address: str, reader: asyncio.StreamReader
    ) -> tuple[SnapshotReply, bytes]:
        """Return the reply and what came after it."""
        data = b""
        while True:
            try:
                more = await asyncio.wait_for(reader.read(PIECE), ANSWER_S)
            except (OSError, TimeoutError) as error:
                text = f"snapshot stream of {address} broke: {error or 'timeout'}"
                raise RpcConnectionError(text, sent=True) from error
            data += more
            found = _first_value(data)
            if found is not None:
                break
            if not more or len(data) > _MAX_REPLY + PIECE:
                text = f"failed to decode response of {address}: EOF"
                raise RpcConnectionError(text, sent=True)
        plain, rest = found
        try:
            reply = from_plain(plain, SnapshotReply)
        except MsgpackError as error:
            raise ConsulError(f"failed to decode response: {error}") from error
        if reply.error:
            raise error_from_text(reply.error)
        return reply, rest


def _first_value(data: bytes) -> tuple[Any, bytes] | None:
    unpacker = new_unpacker(len(data) + _MAX_REPLY)
    try:
        unpacker.feed(data)
        value = unpacker.unpack()
    except msgpack.OutOfData:
        return None
    except MALFORMED as error:
        raise ConsulError(f"failed to decode response: {error}") from error
    return value, data[unpacker.tell() :]


# -- answering


async def serve_snapshots(
    port: SnapshotPort,
    folder: Path | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    plain: Any,
) -> None:
    """Serve one connection with the snapshot tag: a hook of ``RpcServer``."""
    try:
        request = from_plain(plain, SnapshotRequest)
        if request.op == SAVE:
            await _serve_save(port, request, writer)
        elif request.op == RESTORE:
            reply = await _serve_restore(port, folder, request, reader)
            writer.write(pack(to_plain(reply)))
        else:
            raise ConsulError(f"unrecognized snapshot op {request.op}")
    except ConsulError as error:
        writer.write(pack(to_plain(SnapshotReply(error=str(error)))))
    await writer.drain()


async def _serve_save(
    port: SnapshotPort, request: SnapshotRequest, writer: asyncio.StreamWriter
) -> None:
    saved = await port.save(request)
    try:
        writer.write(pack(to_plain(saved.reply)))
        try:
            while piece := await saved.read():
                writer.write(piece)
                await writer.drain()
        except ConsulError:
            # Too late for an error: what is cut off cannot be taken for whole.
            cast("asyncio.Transport", writer.transport).abort()
            raise
    finally:
        saved.close()


async def _serve_restore(
    port: SnapshotPort,
    folder: Path | None,
    request: SnapshotRequest,
    reader: asyncio.StreamReader,
) -> SnapshotReply:
    with temporary(folder) as archive:
        size = 0
        while piece := await asyncio.wait_for(reader.read(PIECE), ANSWER_S):
            size += len(piece)
            if size > STATE_LIMIT:
                raise ConsulError("snapshot archive is too large")
            await asyncio.to_thread(archive.write, piece)
        archive.seek(0)
        return await port.restore(request, archive)
