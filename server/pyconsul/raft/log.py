"""The core's view of the log: the newest entries in memory, terms of all.

Older entries are read back through a ``LogReader`` (the log store), so memory
stays bounded whatever the log's length. Terms never fall, so they are kept as
runs: ``(first index of the run, term)``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from pyconsul.raft.messages import Entry


class LogReader(Protocol):
    """Reads durable entries back."""

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return entries ``first..last`` in order, cut after ``max_bytes``.

        At least one entry is returned whatever its size.
        """
        ...


class RaftLog:
    """Entries ``first_index..last_index`` and four marks on them.

    ``handed <= last``: given to the store; ``stable <= handed``: durable;
    ``committed``: a quorum has it; ``applied <= delivered``: given to the FSM.
    """

    def __init__(
        self,
        reader: LogReader,
        *,
        first_index: int = 1,
        last_index: int = 0,
        terms: Sequence[tuple[int, int]] = (),
        snapshot_index: int = 0,
        snapshot_term: int = 0,
    ) -> None:
        self._reader = reader
        self._runs = list(terms)
        self._entries: list[Entry] = []
        self._bytes = 0
        self._cache_first = last_index + 1
        self.first_index = first_index
        self.last_index = last_index
        self.snapshot_index = snapshot_index
        self.snapshot_term = snapshot_term
        self.stable = last_index
        self.handed = last_index
        self.committed = snapshot_index
        self.delivered = snapshot_index
        self.applied = snapshot_index
        self.last_term = self.term(last_index) or 0

    def term(self, index: int) -> int | None:
        """Return the term at ``index``; ``None`` when it is not known here."""
        if self.first_index <= index <= self.last_index:
            position = bisect_right(self._runs, index, key=lambda run: run[0])
            return self._runs[position - 1][1] if position else None
        if index == self.snapshot_index:
            return self.snapshot_term
        return 0 if index == 0 else None

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one."""
        for entry in entries:
            if entry.term != self.last_term or not self._runs:
                self._runs.append((entry.index, entry.term))
                self.last_term = entry.term
            self._bytes += len(entry.data) + 32
        self._entries.extend(entries)
        self.last_index = entries[-1].index

    def truncate_from(self, index: int) -> None:
        """Drop ``index`` and everything after it (never committed entries)."""
        assert index > self.committed, "a committed entry would be lost"
        if index < self._cache_first:
            self._entries.clear()
            self._cache_first = index
            self._bytes = 0
        else:
            at = index - self._cache_first
            self._bytes -= sum(len(e.data) + 32 for e in self._entries[at:])
            del self._entries[at:]
        while self._runs and self._runs[-1][0] >= index:
            self._runs.pop()
        self.last_index = index - 1
        self.stable = min(self.stable, index - 1)
        self.handed = min(self.handed, index - 1)
        self.last_term = self.term(index - 1) or 0

    def conflict(self, entries: Sequence[Entry]) -> int:
        """Return the position in ``entries`` of the first one not held here."""
        for position, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                return position
        return len(entries)

    def last_at_most(self, index: int, term: int) -> tuple[int, int]:
        """Return the last place up to ``index`` whose term is at most ``term``.

        The answer is ``(index, term)``; term 0 means it is no longer known.
        """
        index = min(index, self.last_index)
        while True:
            found = self.term(index)
            if found is None:
                return index, 0
            if found <= term or index == 0:
                return index, found
            position = bisect_right(self._runs, index, key=lambda run: run[0])
            start = self._runs[position - 1][0] if position else self.first_index
            index = max(start, self.first_index) - 1

    def entries(self, first: int, last: int, count: int, max_bytes: int) -> list[Entry]:
        """Return entries from ``first`` to ``last``, cut at both limits."""
        last = min(last, first + count - 1, self.last_index)
        if first > last:
            return []
        if first < self._cache_first:
            return self._reader.read(first, min(last, self._cache_first - 1), max_bytes)
        at = first - self._cache_first
        found = self._entries[at : at + last - first + 1]
        if self._bytes > max_bytes:
            size = 0
            for position, entry in enumerate(found):
                size += len(entry.data) + 32
                if size > max_bytes and position:
                    return found[:position]
        return found

    def take_unhanded(self) -> list[Entry]:
        """Return the entries the store has not been given, and mark them."""
        if self.handed == self.last_index:
            return []
        found = self._entries[self.handed + 1 - self._cache_first :]
        self.handed = self.last_index
        return found

    def stable_to(self, index: int, term: int) -> None:
        """Note that entries to ``index`` are durable, unless since replaced."""
        if index > self.stable and self.term(index) == term:
            self.stable = index

    def applied_to(self, index: int) -> None:
        """Note that the FSM has applied entries to ``index``."""
        if index > self.applied:
            self.applied = index

    def trim(self, keep: int, max_bytes: int) -> None:
        """Drop applied, durable entries from memory beyond the two limits."""
        over = len(self._entries) > 2 * keep or self._bytes > 2 * max_bytes
        if not over:
            return
        limit = min(self.applied, self.stable) - self._cache_first + 1
        drop = 0
        size = self._bytes
        while drop < limit and (len(self._entries) - drop > keep or size > max_bytes):
            size -= len(self._entries[drop].data) + 32
            drop += 1
        if drop:
            del self._entries[:drop]
            self._cache_first += drop
            self._bytes = size

    def compact(self, first_kept: int, index: int, term: int) -> None:
        """Forget entries before ``first_kept``; a snapshot stands at ``index``."""
        self.snapshot_index = index
        self.snapshot_term = term
        first_kept = min(first_kept, self.stable + 1, self.applied + 1)
        if first_kept <= self.first_index:
            return
        drop = first_kept - self._cache_first
        if drop > 0:
            self._bytes -= sum(len(e.data) + 32 for e in self._entries[:drop])
            del self._entries[:drop]
            self._cache_first = first_kept
        position = bisect_right(self._runs, first_kept, key=lambda run: run[0])
        del self._runs[: max(position - 1, 0)]
        self.first_index = first_kept

    def restore(self, index: int, term: int) -> None:
        """Become the empty log that follows an installed snapshot."""
        self._entries.clear()
        self._runs.clear()
        self._bytes = 0
        self._cache_first = index + 1
        self.first_index = index + 1
        self.last_index = self.handed = index
        self.last_term = term
        self.snapshot_index = index
        self.snapshot_term = term
        self.committed = self.delivered = self.applied = self.stable = index
