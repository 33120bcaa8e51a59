"""Where the Raft log lives: on disk with one sync a batch, or in memory.

``DiskStore`` keeps ``log/*.seg`` (``log_records.py``), ``state`` (term and
vote) and ``snapshots/`` (``snapshot_files.py``) under one directory. A writer
thread takes whatever was submitted while it was syncing as the next batch.
A full disk is a slow one: the writer tries the same again until there is room,
and says so by ``on_full``. ``open()`` and everything the writer does may block;
``submit`` and ``read`` are for the event loop. Thread safety: the segment list
is guarded by one lock, held only for list work, never across a sync.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol
from zlib import crc32

import msgspec

from pyconsul.net.log_records import (
    HEADER,
    HEADER_BYTES,
    HEADER_MAGIC,
    encode_records,
    has_records,
    is_damage,
    parse_record,
    record_size,
    scan_segment,
)
from pyconsul.net.snapshot_files import (
    MemorySnapshots,
    SnapshotFiles,
    Snapshots,
    sync_directory,
)
from pyconsul.raft.messages import CONFIGURATION, Entry, HardState, SnapshotMeta
from pyconsul.types.errors import CorruptLogError

_log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 << 20
_ZEROS = bytes(1 << 20)
_SEGMENT_NAME = "{:020d}.seg"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that pass when somebody makes room."""
RETRY_S = 0.5
"""How often a full disk is tried again."""

Done = Callable[[OSError | None], None]


class Recovered(msgspec.Struct, kw_only=True):
    """What ``open()`` found; an empty log has ``last_index = first_index - 1``."""

    hard_state: HardState = HardState()
    first_index: int = 1
    last_index: int = 0
    terms: list[tuple[int, int]] = msgspec.field(default_factory=list[tuple[int, int]])
    configurations: list[tuple[int, bytes]] = msgspec.field(
        default_factory=list[tuple[int, bytes]]
    )
    snapshot: SnapshotMeta | None = None


class LogStore(Protocol):
    """What the Raft driver needs of a store."""

    snapshots: Snapshots
    durable: bool
    """``False``: ``submit`` is complete when it returns."""

    def open(self) -> Recovered:
        """Check and load everything; raises ``CorruptLogError``, ``OSError``."""
        ...

    def submit(
        self, hard_state: HardState | None, entries: Sequence[Entry], done: Done
    ) -> None:
        """Make these durable, in order of submission, then call ``done``.

        ``done(error)`` is called from the writer thread. An entry whose index
        exists replaces it and all that follow. After one error every later
        submission fails with it; a full disk is none, unless the store is closed.
        """
        ...

    def on_full(self, told: Done) -> None:
        """Have ``told(error)`` called when the disk is full, ``told(None)`` when it
        no longer is: from the writer thread, before the ``done`` of what waited.
        """
        ...

    def reset(self, index: int, done: Done) -> None:
        """Drop the whole log; the next entry is ``index + 1``."""
        ...

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return entries in order, cut after ``max_bytes`` but never empty."""
        ...

    def compact(self, first_kept: int) -> None:
        """Delete what lies wholly before ``first_kept``; returns at once."""
        ...

    def bytes_since(self, index: int) -> int:
        """Return about how many bytes the entries after ``index`` take."""
        ...

    def close(self) -> None:
        """Finish what was submitted and release the files."""
        ...


class _Segment:
    __slots__ = ("end", "fd", "first", "offsets", "path", "size")

    def __init__(self, path: Path, fd: int, first: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.first = first
        self.size = size
        self.offsets = array("Q")
        self.end = HEADER_BYTES

    @property
    def last(self) -> int:
        return self.first + len(self.offsets) - 1


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
        self._log_dir = directory / "log"
        self._state_path = directory / "state"
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._spare: _Segment | None = None
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._spare_thread: threading.Thread | None = None
        self._error: OSError | None = None
        self._told: Done | None = None
        self._next = 1

    # --- opening ------------------------------------------------------------

    def open(self) -> Recovered:
        """Check every record, cut a torn tail, start the writer thread."""
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = Recovered(hard_state=self._load_state())
        found.snapshot = self.snapshots.newest()
        self._scan(found)
        snapshot = found.snapshot
        if snapshot is not None and self._segments:
            if found.first_index > snapshot.index + 1:
                raise self._corrupt(
                    self._segments[0].path,
                    0,
                    f"the log begins at {found.first_index}, but the newest valid "
                    f"snapshot ends at {snapshot.index}",
                )
            if found.last_index < snapshot.index or not _agrees(found, snapshot):
                # An installed snapshot replaced the log; the crash came between.
                self._drop_all()
        elif snapshot is None and found.first_index > 1:
            raise self._corrupt(
                self._segments[0].path,
                0,
                f"the log begins at {found.first_index} and there is no snapshot",
            )
        if snapshot is not None and not self._segments:
            found.first_index = snapshot.index + 1
            found.last_index = snapshot.index
            found.terms = []
            found.configurations = []
        self._next = found.last_index + 1
        if not self._segments:
            self._segments.append(self._create(self._next))
        self._thread = threading.Thread(
            target=self._write_loop, name="raft-log", daemon=True
        )
        self._thread.start()
        return found

    def _scan(self, found: Recovered) -> None:
        for leftover in self._log_dir.glob("*.tmp"):
            leftover.unlink()
        paths = sorted(self._log_dir.glob("*.seg"))
        # Trailing segments without records were made ahead of need.
        while paths and not has_records(paths[-1].read_bytes()):
            if len(paths) == 1 or not _is_zero_after_header(paths[-1]):
                break
            paths.pop().unlink()
        expected: int | None = None
        for position, path in enumerate(paths):
            is_last = position == len(paths) - 1
            data = path.read_bytes()
            first = self._first_index(path, data)
            if expected is not None and first != expected:
                raise self._corrupt(
                    path, 0, f"entry {expected} is missing; this file begins at {first}"
                )
            scan = scan_segment(data, first)
            bad_index = first + len(scan.offsets)
            ends_early = (not is_last and not self._continues(paths, bad_index)) or (
                is_damage(data, scan.end, bad_index)
            )
            if ends_early:
                raise self._corrupt(
                    path,
                    scan.end,
                    f"entry {bad_index} is damaged or missing, later ones are not",
                )
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            segment = _Segment(path, fd, first, len(data))
            segment.offsets, segment.end = scan.offsets, scan.end
            dirty = len(data.rstrip(b"\0")) > scan.end
            if is_last and (dirty or len(data) < self._segment_bytes):
                if dirty:
                    _log.warning(
                        "raft: cut a torn tail: file=%s offset=%d index=%d",
                        path,
                        scan.end,
                        bad_index,
                    )
                self._zero_tail(segment)
            self._segments.append(segment)
            if position == 0:
                found.first_index = first
            for index, term, kind in scan.entries:
                if not found.terms or found.terms[-1][1] != term:
                    found.terms.append((index, term))
                if kind == CONFIGURATION:
                    record = parse_record(data, scan.offsets[index - first])
                    assert record is not None
                    found.configurations.append((index, record[0].data))
            found.last_index = bad_index - 1
            expected = bad_index

    def _continues(self, paths: list[Path], index: int) -> bool:
        return (self._log_dir / _SEGMENT_NAME.format(index)) in paths

    def _first_index(self, path: Path, data: bytes) -> int:
        if len(data) >= HEADER_BYTES:
            magic, first = HEADER.unpack_from(data)
            if magic == HEADER_MAGIC and path.name == _SEGMENT_NAME.format(first):
                return first
        raise self._corrupt(path, 0, "the file's header is damaged")

    def _corrupt(self, path: Path, offset: int, what: str) -> CorruptLogError:
        return CorruptLogError(
            f"raft: the log is damaged: {path} at offset {offset}: {what}. "
            "Nothing was changed. To recover: if other servers are healthy, move "
            f"{self.directory} away and start this server again, it rejoins and "
            "copies their state; otherwise move it away, start, and restore the "
            "latest backup with 'snapshot restore'."
        )

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
            raise self._corrupt(self._state_path, 0, str(error)) from error

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
        """See ``LogStore``; one positioned read a segment and a piece."""
        found: list[Entry] = []
        left = max_bytes
        with self._lock:
            for segment in self._segments:
                if segment.last < first or segment.first > last:
                    continue
                low = max(first, segment.first) - segment.first
                high = min(last, segment.last) - segment.first
                offsets = segment.offsets
                stop = low
                start_at = offsets[low]
                while stop < high and offsets[stop + 1] - start_at < left:
                    stop += 1
                end_at = (
                    offsets[stop + 1]
                    if stop < segment.last - segment.first
                    else (segment.end)
                )
                data = os.pread(segment.fd, end_at - start_at, start_at)
                for position in range(low, stop + 1):
                    record = parse_record(data, offsets[position] - start_at)
                    if record is None:
                        raise self._corrupt(
                            segment.path,
                            offsets[position],
                            f"entry {segment.first + position} cannot be read back",
                        )
                    found.append(record[0])
                left -= len(data)
                if stop < high or left <= 0:
                    break
        return found

    def bytes_since(self, index: int) -> int:
        """See ``LogStore``."""
        total = 0
        with self._lock:
            for segment in self._segments:
                if segment.last > index and segment.offsets:
                    skip = max(index + 1 - segment.first, 0)
                    total += segment.end - segment.offsets[skip]
        return total

    def close(self) -> None:
        """See ``LogStore``."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        spare = self._take_spare()
        if spare is not None:
            os.close(spare.fd)
            spare.path.unlink(missing_ok=True)

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
                self._prepare_spare()

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
                self._delete_before(job.compact_to)  # This may be the room.
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
                self._drop_all()
                self._next = reset_to + 1
                self._add_segment(self._create(self._next, self._take_spare()))
                del jobs[0]

    def _write_entries(self, jobs: list[_Job]) -> None:
        pending: list[Entry] = []
        for job in jobs:
            if job.hard_state is not None:
                self._save_state(job.hard_state)
            entries = job.entries
            if entries:
                if pending and entries[0].index != pending[-1].index + 1:
                    self._append(pending)
                    pending = []
                pending.extend(entries)
            if job.compact_to is not None:
                self._delete_before(job.compact_to)
        if pending:
            self._append(pending)

    def _append(self, entries: list[Entry]) -> None:
        first = entries[0].index
        if first < self._next:
            self._truncate_from(first)
        data, offsets = encode_records(entries)
        segment = self._segments[-1]
        if segment.end + len(data) > segment.size:
            segment = self._roll(first, len(data))
        start = segment.end
        _write_all(segment.fd, data, start)
        os.fdatasync(segment.fd)
        with self._lock:
            segment.offsets.extend(array("Q", [start + o for o in offsets]))
            segment.end = start + len(data)
        self._next = entries[-1].index + 1

    def _roll(self, first: int, needed: int) -> _Segment:
        """Begin a segment; a batch never spans two, so a big one grows its own."""
        spare = self._take_spare()
        size = max(self._segment_bytes, HEADER_BYTES + needed)
        if spare is not None and size > spare.size:
            os.close(spare.fd)
            spare.path.unlink()
            spare = None
        segment = self._create(first, spare, size)
        if not self._segments[-1].offsets:
            empty = self._segments[-1]
            with self._lock:
                self._segments.pop()
            os.close(empty.fd)
            if empty.path != segment.path:
                empty.path.unlink()
        self._add_segment(segment)
        return segment

    def _add_segment(self, segment: _Segment) -> None:
        with self._lock:
            self._segments.append(segment)

    def _create(
        self, first: int, spare: _Segment | None = None, size: int = 0
    ) -> _Segment:
        if spare is None:
            spare = self._allocate(size or self._segment_bytes)
        path = self._log_dir / _SEGMENT_NAME.format(first)
        try:
            _write_all(spare.fd, HEADER.pack(HEADER_MAGIC, first), 0)
            os.fsync(spare.fd)
            spare.path.rename(path)
            sync_directory(self._log_dir)
        except OSError:
            os.close(spare.fd)
            spare.path.unlink(missing_ok=True)
            raise
        return _Segment(path, spare.fd, first, spare.size)

    def _allocate(self, size: int) -> _Segment:
        path = self._log_dir / "next.tmp"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while at < size:
                piece = min(len(_ZEROS), size - at)
                _write_all(fd, _ZEROS[:piece], at)
                at += piece
            os.fsync(fd)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return _Segment(path, fd, 0, size)

    def _prepare_spare(self) -> None:
        """Zero-fill the next segment beside the log, before it is needed."""
        segment = self._segments[-1]
        if (
            self._spare is None
            and self._spare_thread is None
            and segment.end * 2 >= segment.size
        ):
            self._spare_thread = threading.Thread(
                target=self._make_spare, name="raft-log-spare", daemon=True
            )
            self._spare_thread.start()

    def _make_spare(self) -> None:
        try:
            self._spare = self._allocate(self._segment_bytes)
        except OSError as error:
            _log.warning("raft: no room for the next segment: error=%s", error)

    def _take_spare(self) -> _Segment | None:
        if self._spare_thread is not None:
            self._spare_thread.join()
            self._spare_thread = None
        spare, self._spare = self._spare, None
        return spare

    def _truncate_from(self, index: int) -> None:
        while len(self._segments) > 1 and self._segments[-1].first >= index:
            with self._lock:
                segment = self._segments.pop()
            os.close(segment.fd)
            segment.path.unlink()
            sync_directory(self._log_dir)
        segment = self._segments[-1]
        keep = index - segment.first
        if keep < 0:
            raise OSError(errno.EINVAL, f"entry {index} was compacted away")
        if keep < len(segment.offsets):
            with self._lock:
                segment.end = segment.offsets[keep]
                del segment.offsets[keep:]
            self._zero_tail(segment)

    def _zero_tail(self, segment: _Segment) -> None:
        """Make everything after the last record zeros, durably, in one step."""
        segment.size = max(self._segment_bytes, segment.end)
        os.ftruncate(segment.fd, segment.end)
        os.ftruncate(segment.fd, segment.size)
        os.fsync(segment.fd)

    def _delete_before(self, first_kept: int) -> None:
        while len(self._segments) > 1 and self._segments[0].last < first_kept:
            with self._lock:
                segment = self._segments.pop(0)
            os.close(segment.fd)
            segment.path.unlink()
        sync_directory(self._log_dir)

    def _drop_all(self) -> None:
        with self._lock:
            dropped, self._segments = self._segments, []
        # Newest first: what a crash leaves is then still a log without gaps.
        for segment in reversed(dropped):
            os.close(segment.fd)
            segment.path.unlink()
        sync_directory(self._log_dir)

    def _save_state(self, state: HardState) -> None:
        body = msgspec.msgpack.encode(state)
        temporary = self._state_path.with_suffix(".tmp")
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            _write_all(fd, crc32(body).to_bytes(4, "little") + body, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(self._state_path)
        sync_directory(self.directory)


class MemoryStore:
    """The store of ``-dev``: nothing survives, ``submit`` completes at once."""

    durable = False

    def __init__(self) -> None:
        self.snapshots: Snapshots = MemorySnapshots()
        self._entries: list[Entry] = []
        self._sizes = array("Q")
        self._total = 0
        self._first = 1

    def open(self) -> Recovered:
        """See ``LogStore``; always empty."""
        return Recovered()

    def submit(
        self, hard_state: HardState | None, entries: Sequence[Entry], done: Done
    ) -> None:
        """See ``LogStore``."""
        if entries:
            keep = entries[0].index - self._first
            if keep < len(self._entries):
                del self._entries[keep:]
                del self._sizes[keep:]
            for entry in entries:
                self._entries.append(entry)
                self._sizes.append(self._total)
                self._total += record_size(len(entry.data))
        done(None)

    def on_full(self, told: Done) -> None:
        """See ``LogStore``; memory is never full."""

    def reset(self, index: int, done: Done) -> None:
        """See ``LogStore``."""
        self._entries.clear()
        self._sizes = array("Q")
        self._first = index + 1
        done(None)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """See ``LogStore``."""
        found: list[Entry] = []
        size = 0
        for entry in self._entries[first - self._first : last - self._first + 1]:
            size += len(entry.data)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    def compact(self, first_kept: int) -> None:
        """See ``LogStore``."""
        drop = min(first_kept - self._first, len(self._entries))
        if drop > 0:
            del self._entries[:drop]
            del self._sizes[:drop]
            self._first += drop

    def bytes_since(self, index: int) -> int:
        """See ``LogStore``."""
        at = max(index + 1 - self._first, 0)
        return self._total - self._sizes[at] if at < len(self._sizes) else 0

    def close(self) -> None:
        """See ``LogStore``."""


def _write_all(fd: int, data: bytes, at: int) -> None:
    written = os.pwrite(fd, data, at)
    while written < len(data):
        more = os.pwrite(fd, memoryview(data)[written:], at + written)
        if more == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += more


def _agrees(found: Recovered, snapshot: SnapshotMeta) -> bool:
    if snapshot.index < found.first_index:
        return True
    terms = [term for first, term in found.terms if first <= snapshot.index]
    return terms[-1] == snapshot.term


def _is_zero_after_header(path: Path) -> bool:
    return len(path.read_bytes().rstrip(b"\0")) <= HEADER_BYTES
