"""A simulated disk below the Raft driver: what is not synced yet may be lost.

The log is kept as the records of ``net/log_records.py``. A power cut in the
middle of a sync leaves any of the sectors being written as zeros; opening finds
the end with the production scan, which must neither take a torn tail for damage
nor lose a record that was synced.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence

from sim_loop import SimLoop

from pyconsul.net.log_records import (
    HEADER,
    HEADER_MAGIC,
    encode_records,
    is_damage,
    parse_record,
    scan_segment,
)
from pyconsul.net.log_store import Done, Recovered
from pyconsul.net.snapshot_files import SnapshotWriter
from pyconsul.raft.codec import encode_configuration
from pyconsul.raft.messages import (
    CONFIGURATION,
    Configuration,
    Entry,
    HardState,
    SnapshotMeta,
)

SECTOR = 512
_TAIL = 24


class SimDisk:
    """What survives a crash: term and vote, records, whole snapshots."""

    def __init__(self) -> None:
        self.state = HardState()
        self.first = 1
        self.entries: list[Entry] = []
        self.records: list[bytes] = []
        self.snapshots: list[tuple[SnapshotMeta, bytes]] = []
        self.torn = 0
        self.failing = False
        """Every write of the log fails, as with EIO; until the machine is restarted."""
        self.full = False
        """No snapshot can be written."""
        self.lose_synced = 0
        """A broken disk: this many synced entries are gone after a crash."""

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def begin(self, configuration: Configuration) -> None:
        """Hold the first entry of a new cluster."""
        self.state = HardState(term=1)
        self.put([Entry(1, 1, CONFIGURATION, encode_configuration(configuration))])

    def has(self, index: int, term: int) -> bool:
        """Tell whether an entry is durable here, in the log or a snapshot."""
        if self.first <= index <= self.last:
            return self.entries[index - self.first].term == term
        return any(meta.index >= index for meta, _ in self.snapshots)

    def put(self, entries: Sequence[Entry]) -> None:
        """Write entries whole; they replace what stands there."""
        self.cut(entries[0].index)
        data, offsets = encode_records(entries)
        ends = [*offsets[1:], len(data)]
        self.records += [
            data[start:end] for start, end in zip(offsets, ends, strict=True)
        ]
        self.entries += entries

    def cut(self, index: int) -> None:
        keep = index - self.first
        assert 0 <= keep <= len(self.entries), "a gap in the log"
        del self.entries[keep:]
        del self.records[keep:]

    def tear(self, entries: Sequence[Entry], rng: random.Random) -> None:
        """Lose power while ``entries`` are written: recover what is whole."""
        self.cut(entries[0].index)
        data = bytearray(encode_records(entries)[0])
        kept = self.records[-_TAIL:]
        first = self.last - len(kept) + 1
        before = HEADER.pack(HEADER_MAGIC, first) + b"".join(kept)
        share = rng.choice((0.0, 0.5, 0.9, 1.0))
        at = len(before)
        end = at + len(data)
        sector = at // SECTOR * SECTOR
        while sector < end:
            if rng.random() >= share:
                low, high = max(sector, at) - at, min(sector + SECTOR, end) - at
                data[low:high] = bytes(high - low)
            sector += SECTOR
        whole = before + bytes(data) + bytes(SECTOR)
        scan = scan_segment(whole, first)
        bad = first + len(scan.offsets)
        assert bad > self.last, "a synced record is lost to a torn write"
        assert not is_damage(whole, scan.end, bad), "a torn tail counts as damage"
        found: list[Entry] = []
        for offset in scan.offsets[len(kept) :]:
            record = parse_record(whole, offset)
            assert record is not None
            found.append(record[0])
        self.torn += 1
        if found:
            self.put(found)

    def crash(self) -> None:
        """The machine is off; forget what a broken disk forgets."""
        self.failing = False
        if self.lose_synced and len(self.entries) > self.lose_synced:
            self.cut(self.last + 1 - self.lose_synced)


class SimStore:
    """A ``LogStore`` on a disk, for one boot; syncs take time, in batches."""

    durable = True

    def __init__(
        self,
        disk: SimDisk,
        loop: SimLoop,
        rng: random.Random,
        sync_s: float,
        on_entries: Callable[[Sequence[Entry], int], None],
        on_state: Callable[[HardState], None],
    ) -> None:
        self.disk = disk
        self.snapshots = SimSnapshots(disk)
        self._loop = loop
        self._rng = rng
        self._sync_s = sync_s
        self._on_entries = on_entries
        self._on_state = on_state
        self._queue: list[tuple[HardState | None, Sequence[Entry], int, Done]] = []
        self._broken = False
        self._syncing: list[tuple[HardState | None, Sequence[Entry], int, Done]] = []

    def open(self) -> Recovered:
        disk = self.disk
        found = Recovered(hard_state=disk.state)
        found.snapshot = meta = self.snapshots.newest()
        if meta is not None:
            behind = disk.last < meta.index
            if behind or (
                meta.index >= disk.first
                and disk.entries[meta.index - disk.first].term != meta.term
            ):
                # An installed snapshot replaced the log; the crash came between.
                disk.entries, disk.records = [], []
                disk.first = meta.index + 1
        else:
            assert disk.first == 1, "the log was cut without a snapshot"
        found.first_index = disk.first
        found.last_index = disk.last
        for entry in disk.entries:
            if not found.terms or found.terms[-1][1] != entry.term:
                found.terms.append((entry.index, entry.term))
            if entry.type == CONFIGURATION:
                found.configurations.append((entry.index, entry.data))
        return found

    def submit(
        self, hard_state: HardState | None, entries: Sequence[Entry], done: Done
    ) -> None:
        if entries:
            self._on_entries(entries, self._term_before(entries[0].index - 1))
        self._queue.append((hard_state, list(entries), -1, done))
        self._begin()

    def reset(self, index: int, done: Done) -> None:
        self._queue.append((None, (), index, done))
        self._begin()

    def _term_before(self, before: int) -> int:
        """The term of an entry, as the log is once all is written; 0: unknown."""
        for _, queued, reset, _ in reversed(self._syncing + self._queue):
            if reset >= 0:
                return 0
            if queued and queued[0].index <= before:
                at = before - queued[0].index
                return queued[at].term if at < len(queued) else 0
        disk = self.disk
        if disk.first <= before <= disk.last:
            return disk.entries[before - disk.first].term
        return 0

    def _begin(self) -> None:
        if self._syncing or not self._queue:
            return
        self._syncing, self._queue = self._queue, []
        slow = self._rng.random() < 0.05
        delay = self._rng.expovariate(1 / self._sync_s) * (10 if slow else 1)
        self._loop.call_later(delay, self._synced)

    def _synced(self) -> None:
        batch, self._syncing = self._syncing, []
        self._broken = self._broken or self.disk.failing
        error = OSError(errno.EIO, "broken") if self._broken else None
        if error is None:
            for hard_state, entries, reset, _ in batch:
                self._write(hard_state, entries, reset)
        for *_, done in batch:
            done(error)
        self._begin()

    def _write(
        self, hard_state: HardState | None, entries: Sequence[Entry], reset: int
    ) -> None:
        disk = self.disk
        if reset >= 0:
            disk.entries, disk.records = [], []
            disk.first = reset + 1
        if hard_state is not None:
            disk.state = hard_state
            self._on_state(hard_state)
        if entries:
            disk.put(entries)

    def crash(self) -> None:
        """Power is cut: of the sync under way anything may be there."""
        # After one error nothing more is written, see ``LogStore``.
        rng, batch = self._rng, [] if self._broken else self._syncing
        self._syncing, self._queue = [], []
        for hard_state, entries, reset, _ in batch:
            how = rng.random()
            if how < 0.3:
                break
            if how < 0.6:
                self._write(hard_state, entries, reset)
                continue
            self._write(hard_state, (), reset)
            if entries:
                self.disk.tear(entries, rng)
            break
        self.disk.crash()

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        disk = self.disk
        found: list[Entry] = []
        size = 0
        for entry in disk.entries[first - disk.first : last - disk.first + 1]:
            size += len(entry.data)
            if found and size > max_bytes:
                break
            found.append(entry)
        assert found
        assert found[0].index == first
        return found

    def compact(self, first_kept: int) -> None:
        disk = self.disk
        drop = first_kept - disk.first
        if drop > 0:
            assert drop <= len(disk.entries)
            del disk.entries[:drop]
            del disk.records[:drop]
            disk.first = first_kept

    def on_full(self, told: Done) -> None:
        """This disk is never full."""

    def bytes_since(self, index: int) -> int:
        disk = self.disk
        return sum(map(len, disk.records[max(index + 1 - disk.first, 0) :]))

    def close(self) -> None:
        pass


class SimSnapshots:
    """The two newest whole snapshots of a disk."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def newest(self) -> SnapshotMeta | None:
        held = self._disk.snapshots
        return held[-1][0] if held else None

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        return _SimWriter(self._disk, meta)

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        data = self._find(meta)
        return iter([data[at : at + 4096] for at in range(0, len(data), 4096)])

    def size(self, meta: SnapshotMeta) -> int:
        return len(self._find(meta))

    def _find(self, meta: SnapshotMeta) -> bytes:
        for held, data in self._disk.snapshots:
            if (held.index, held.term) == (meta.index, meta.term):
                return data
        raise KeyError(meta.index)


class _SimWriter:
    def __init__(self, disk: SimDisk, meta: SnapshotMeta) -> None:
        self._disk = disk
        self._meta = meta
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._check()
        self._pieces.append(data)

    def commit(self) -> None:
        self._check()
        held = self._disk.snapshots
        held.append((self._meta, b"".join(self._pieces)))
        held.sort(key=lambda pair: (pair[0].index, pair[0].term))
        del held[:-2]

    def abort(self) -> None:
        self._pieces = []

    def _check(self) -> None:
        if self._disk.full:
            raise OSError(errno.ENOSPC, "no space left on device")
