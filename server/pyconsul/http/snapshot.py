"""``/v1/snapshot``: the whole state as an archive (``http-api.md`` section 9).

The archive comes and goes in pieces; an upload waits in a file without a name.
"""

from __future__ import annotations

import asyncio
import logging
from typing import BinaryIO

from pyconsul.http.params import meta_headers, read_options, token_of
from pyconsul.http.routing import Answer, Request, Response, Routes, StreamSink
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply
from pyconsul.types.snapshots import (
    RESTORE,
    SAVE,
    SavedSnapshot,
    SnapshotPort,
    SnapshotRequest,
)

ARCHIVE_LIMIT = 64 << 30
"""Bytes of an archive."""

_GZIP = b"Content-Type: application/x-gzip\r\n"
_MS = 1_000_000
_log = logging.getLogger(__name__)


def add_routes(routes: Routes, port: SnapshotPort) -> None:
    """Add the route; archives come from and go to ``port``."""
    handlers = _Handlers(port)
    routes.add(
        "snapshot",
        body_limit=ARCHIVE_LIMIT,
        spooled=True,
        GET=handlers.save,
        PUT=handlers.restore,
    )


def _request(request: Request, op: int) -> SnapshotRequest:
    options = read_options(request)
    return SnapshotRequest(
        datacenter=options.get("datacenter", ""),
        token=token_of(request),
        allow_stale=options.get("allow_stale", False),
        op=op,
    )


class _Handlers:
    def __init__(self, port: SnapshotPort) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def save(self, request: Request) -> Answer:
        """Stream an archive of the state."""
        return asyncio.get_running_loop().create_task(
            self._save(_request(request, SAVE))
        )

    async def _save(self, wanted: SnapshotRequest) -> Response:
        saved = await self._port.save(wanted)
        meta = saved.reply
        reply = Reply(
            None,
            index=meta.index,
            known_leader=meta.known_leader,
            last_contact_ms=meta.last_contact // _MS,
        )

        def begin(sink: StreamSink) -> None:
            task = asyncio.get_running_loop().create_task(self._copy(saved, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            sink.on_close(lambda: _cancel(task))

        return Response(200, b"", _GZIP, meta_headers(reply), stream=begin)

    @staticmethod
    async def _copy(saved: SavedSnapshot, sink: StreamSink) -> None:
        try:
            while piece := await saved.read():
                sink.write(piece)
                await sink.drain()
        except ConsulError as error:
            _log.warning("http: a snapshot broke off: %s", error)
            sink.abort()
        else:
            sink.close()
        finally:
            saved.close()

    def restore(self, request: Request) -> Answer:
        """Replace the state by the archive in the body."""
        wanted = _request(request, RESTORE)
        upload, request.upload = request.upload, None
        return asyncio.get_running_loop().create_task(self._restore(wanted, upload))

    async def _restore(
        self, wanted: SnapshotRequest, upload: BinaryIO | None
    ) -> Response:
        if upload is None:
            raise ConsulError("failed to decompress snapshot: EOF")
        # Whoever asked may go: what has begun is finished.
        task = asyncio.get_running_loop().create_task(self._apply(wanted, upload))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)
        return Response(200)

    async def _apply(self, wanted: SnapshotRequest, upload: BinaryIO) -> None:
        with upload:
            upload.seek(0)
            await self._port.restore(wanted, upload)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("http: a restore failed: %s", error)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
