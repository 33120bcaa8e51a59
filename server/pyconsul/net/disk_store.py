"""The durable store: a writer thread over the log's files.

Under one directory are ``log/*.seg`` (``log_segments.py``), ``state`` (term and
vote) and ``snapshots/`` (``snapshot_files.py``). The thread takes whatever was
submitted while it was syncing as the next batch. A full disk is a slow one: the
writer tries the same again until there is room, and says so by ``on_full``.
``open()`` and everything the writer does may block; ``submit`` and ``read`` are
for the event loop.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from zlib import crc32

import msgspec

from pyconsul.net.log_segments import SEGMENT_BYTES, LogSegments, write_all
from pyconsul.net.log_store import Done, Recovered
from pyconsul.net.snapshot_files import SnapshotFiles, Snapshots, sync_directory
from pyconsul.raft.messages import Entry, HardState

_log = logging.getLogger(__name__)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that pass when somebody makes room."""
RETRY_S = 0.5
"""How often a full disk is tried again."""


class _Job(msgspec.Struct):
    hard_state: HardState | None
    entries: Sequence[Entry]
    done: Done | None
    reset_to: int | None = None
    compact_to: int | None = None


class DiskStore:
    """The durable store; ``directory`` is the agent's ``raft`` directory."""

    durable = True

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.snapshots: Snapshots = SnapshotFiles(directory / "snapshots")
        self._state_path = directory / "state"
        self._files = LogSegments(directory, segment_bytes)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self._told: Done | None = None

    def open(self) -> Recovered:
        """Check every record, cut a torn tail, start the writer thread."""
        found = Recovered(hard_state=self._load_state())
        found.snapshot = self.snapshots.newest()
        self._files.open(found)
        self._thread = threading.Thread(
            target=self._write_loop, name="raft-log", daemon=True
        )
        self._thread.start()
        return found

    # --- for the event loop -----------------------------------------------------

    def submit(
        self, hard_state: HardState | None, entries: Sequence[Entry], done: Done
    ) -> None:
        """See ``LogStore``."""
        self._jobs.put(_Job(hard_state, entries, done))

    def on_full(self, told: Done) -> None:
        """See ``LogStore``."""
        self._told = told

    def reset(self, index: int, done: Done) -> None:
        """See ``LogStore``."""
        self._jobs.put(_Job(None, (), done, reset_to=index))

    def compact(self, first_kept: int) -> None:
        """See ``LogStore``; the writer thread deletes the files."""
        self._jobs.put(_Job(None, (), None, compact_to=first_kept))

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """See ``LogStore``."""
        return self._files.read(first, last, max_bytes)

    def bytes_since(self, index: int) -> int:
        """See ``LogStore``."""
        return self._files.bytes_since(index)

    def close(self) -> None:
        """See ``LogStore``."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._files.close()

    # --- the writer thread ----------------------------------------------------------

    def _write_loop(self) -> None:
        jobs = self._jobs
        closing = False
        while not closing:
            batch = [jobs.get()]
            while not jobs.empty():
                batch.append(jobs.get())
            work = [job for job in batch if job is not None]
            closing = len(work) < len(batch)
            try:
                if self._error is None and not self._write_patiently(work, closing):
                    closing = True
            except OSError as error:
                self._error = error
                _log.error("raft: the log cannot be written: error=%s", error)
            for job in work:
                if job.done is not None:
                    job.done(self._error)
            if self._error is None and not closing:
                self._files.prepare_spare()

    def _write_patiently(self, work: list[_Job], closing: bool) -> bool:
        """Write all, waiting for room; false when closed meanwhile.

        What comes while it waits is added to ``work`` and written, too.
        """
        left = [*work]
        told = False
        while True:
            try:
                self._write(left)
                break
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if not told:
                    told = True
                    _log.error("raft: the disk is full, waiting: error=%s", error)
                    if self._told is not None:
                        self._told(error)
                if closing or not self._await_room(work, left):
                    self._error = error
                    return False
        if told:
            _log.warning("raft: the disk has room again")
            if self._told is not None:
                self._told(None)
        return True

    def _await_room(self, work: list[_Job], left: list[_Job]) -> bool:
        """Take what comes for a while; false when the store is being closed."""
        end = time.monotonic() + RETRY_S
        while (pause := end - time.monotonic()) > 0:
            try:
                job = self._jobs.get(timeout=pause)
            except Empty:
                break
            if job is None:
                return False
            if job.compact_to is not None:
                self._files.delete_before(job.compact_to)  # This may be the room.
            else:
                work.append(job)
                left.append(job)
        return True

    def _write(self, jobs: list[_Job]) -> None:
        """Write in order; takes off the list what need not be written again."""
        while jobs:
            reset_to = jobs[0].reset_to
            if reset_to is None:
                resets = (at for at, job in enumerate(jobs) if job.reset_to is not None)
                stop = next(resets, len(jobs))
                self._write_entries(jobs[:stop])
                del jobs[:stop]
            else:
                self._files.reset(reset_to)
                del jobs[0]

    def _write_entries(self, jobs: list[_Job]) -> None:
        pending: list[Entry] = []
        for job in jobs:
            if job.hard_state is not None:
                self._save_state(job.hard_state)
            entries = job.entries
            if entries:
                if pending and entries[0].index != pending[-1].index + 1:
                    self._files.append(pending)
                    pending = []
                pending.extend(entries)
            if job.compact_to is not None:
                self._files.delete_before(job.compact_to)
        if pending:
            self._files.append(pending)

    def _load_state(self) -> HardState:
        try:
            data = self._state_path.read_bytes()
        except FileNotFoundError:
            return HardState()
        try:
            if crc32(data[4:]) != int.from_bytes(data[:4], "little"):
                raise ValueError("checksum mismatch")
            return msgspec.msgpack.decode(data[4:], type=HardState)
        except (ValueError, msgspec.MsgspecError) as error:
            raise self._files.corrupt(self._state_path, 0, str(error)) from error

    def _save_state(self, state: HardState) -> None:
        body = msgspec.msgpack.encode(state)
        temporary = self._state_path.with_suffix(".tmp")
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            write_all(fd, crc32(body).to_bytes(4, "little") + body, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(self._state_path)
        sync_directory(self.directory)
