"""Where the Raft log, the hard state and snapshots live: the seam.

``DiskStore`` (``disk_store.py``) keeps them in files; ``MemoryStore`` is that
of ``-dev``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from pyconsul.net.log_records import record_size
from pyconsul.net.snapshot_files import MemorySnapshots, Snapshots
from pyconsul.raft.messages import Entry, HardState, SnapshotMeta

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
