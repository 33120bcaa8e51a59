"""Keeps a pool's snapshot file: lines are written every 500 ms, in a thread."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pyconsul.net.gossip_files import SnapshotFile, load_snapshot
from pyconsul.serf.snapshot import FLUSH_INTERVAL_S, SnapshotLog, SnapshotState
from pyconsul.types.errors import StartError, os_reason

_log = logging.getLogger(__name__)


class SnapshotKeeper:
    """One snapshot file between ``open`` and ``close``."""

    def __init__(self, path: Path, *, rejoin_after_leave: bool) -> None:
        self._path = path
        self._log = SnapshotLog(rejoin_after_leave=rejoin_after_leave)
        self._file: SnapshotFile | None = None
        self._pending = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> SnapshotState:
        """Read the file and make ready to append; ``StartError``."""
        self._log.load(await asyncio.to_thread(load_snapshot, self._path))
        try:
            self._file = await asyncio.to_thread(SnapshotFile, self._path)
        except OSError as error:
            raise StartError(f"Failed to open snapshot: {os_reason(error)}") from error
        return self._log.state()

    def note(self, line: str) -> None:
        """Add a line; it is in the file after 500 ms."""
        self._pending += self._log.add(line)
        if self._timer is None and self._writing is None:
            self._wait()

    async def close(self) -> None:
        """Write what is left and close the file; also twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(self._write, file, *self._take())
            await asyncio.to_thread(file.close)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(FLUSH_INTERVAL_S, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        if self._file is not None:
            await asyncio.to_thread(self._write, self._file, *self._take())
        self._writing = None
        if self._pending:
            self._wait()

    def _take(self) -> tuple[bytes, bool]:
        """Return what to write, and whether it replaces the file."""
        pending = bytes(self._pending)
        self._pending.clear()
        if pending and self._log.should_compact():
            return self._log.compacted(), True
        return pending, False

    @staticmethod
    def _write(file: SnapshotFile, data: bytes, replaces: bool) -> None:
        try:
            if replaces:
                file.replace(data)
            elif data:
                file.append(data)
        except OSError as error:
            _log.error("serf: Failed to write snapshot: %s", error.strerror)
