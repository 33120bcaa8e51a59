"""The log's files: ``log/*.seg`` of records (``log_records.py``).

Preallocated with zeros, so that a torn write shows as such and a sync has no
metadata to write. One thread writes; reads come from others. Thread safety: the
list of segments is guarded by one lock, held only for list work and reads,
never across a sync.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from array import array
from pathlib import Path

from pyconsul.net.log_records import (
    HEADER,
    HEADER_BYTES,
    HEADER_MAGIC,
    encode_records,
    has_records,
    is_damage,
    parse_record,
    scan_segment,
)
from pyconsul.net.log_store import Recovered
from pyconsul.net.snapshot_files import sync_directory
from pyconsul.raft.messages import CONFIGURATION, Entry, SnapshotMeta
from pyconsul.types.errors import CorruptLogError

_log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 << 20
_ZEROS = bytes(1 << 20)
_SEGMENT_NAME = "{:020d}.seg"


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


class LogSegments:
    """The entries on disk; ``directory`` is the agent's ``raft`` directory."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._log_dir = directory / "log"
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._spare: _Segment | None = None
        self._spare_thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._next = 1

    def open(self, found: Recovered) -> None:
        """Check every record, cut a torn tail, and fill in what was found.

        ``found.snapshot`` is the newest valid one. Raises ``CorruptLogError``.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._scan(found)
        snapshot = found.snapshot
        if snapshot is not None and self._segments:
            if found.first_index > snapshot.index + 1:
                raise self.corrupt(
                    self._segments[0].path,
                    0,
                    f"the log begins at {found.first_index}, but the newest valid "
                    f"snapshot ends at {snapshot.index}",
                )
            if found.last_index < snapshot.index or not _agrees(found, snapshot):
                # An installed snapshot replaced the log; the crash came between.
                self._drop_all()
        elif snapshot is None and found.first_index > 1:
            raise self.corrupt(
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
                        raise self.corrupt(
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
        """Return the bytes of the entries after ``index``."""
        total = 0
        with self._lock:
            for segment in self._segments:
                if segment.last > index and segment.offsets:
                    skip = max(index + 1 - segment.first, 0)
                    total += segment.end - segment.offsets[skip]
        return total

    def append(self, entries: list[Entry]) -> None:
        """Write entries durably; those at and after the first one go."""
        first = entries[0].index
        if first < self._next:
            self._truncate_from(first)
        data, offsets = encode_records(entries)
        segment = self._segments[-1]
        if segment.end + len(data) > segment.size:
            segment = self._roll(first, len(data))
        start = segment.end
        write_all(segment.fd, data, start)
        os.fdatasync(segment.fd)
        with self._lock:
            segment.offsets.extend(array("Q", [start + o for o in offsets]))
            segment.end = start + len(data)
        self._next = entries[-1].index + 1

    def reset(self, index: int) -> None:
        """Drop everything; the next entry comes after ``index``."""
        self._drop_all()
        self._next = index + 1
        self._add_segment(self._create(self._next, self._take_spare()))

    def close(self) -> None:
        """Release the files; nobody writes any more."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        spare = self._take_spare()
        if spare is not None:
            os.close(spare.fd)
            spare.path.unlink(missing_ok=True)

    def corrupt(self, path: Path, offset: int, what: str) -> CorruptLogError:
        """Return the error that says what to do about a damaged file."""
        return CorruptLogError(
            f"raft: the log is damaged: {path} at offset {offset}: {what}. "
            "Nothing was changed. To recover: if other servers are healthy, move "
            f"{self._directory} away and start this server again, it rejoins and "
            "copies their state; otherwise move it away, start, and restore the "
            "latest backup with 'snapshot restore'."
        )

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
                raise self.corrupt(
                    path, 0, f"entry {expected} is missing; this file begins at {first}"
                )
            scan = scan_segment(data, first)
            bad_index = first + len(scan.offsets)
            ends_early = (not is_last and not self._continues(paths, bad_index)) or (
                is_damage(data, scan.end, bad_index)
            )
            if ends_early:
                raise self.corrupt(
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
        raise self.corrupt(path, 0, "the file's header is damaged")

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
            write_all(spare.fd, HEADER.pack(HEADER_MAGIC, first), 0)
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
                write_all(fd, _ZEROS[:piece], at)
                at += piece
            os.fsync(fd)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return _Segment(path, fd, 0, size)

    def prepare_spare(self) -> None:
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

    def delete_before(self, first_kept: int) -> None:
        """Delete segments of which no entry is kept."""
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


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write all of ``data`` at ``at``; raises ``OSError``."""
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
