"""The log store under crashes and damage: a torn tail is cut, no more."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from pyconsul.net import disk_store
from pyconsul.net.disk_store import DiskStore
from pyconsul.net.log_records import record_size
from pyconsul.net.log_store import MemoryStore, Recovered
from pyconsul.raft.messages import (
    COMMAND,
    CONFIGURATION,
    Configuration,
    Entry,
    HardState,
    Peer,
    SnapshotMeta,
)
from pyconsul.types.errors import CorruptLogError

SEGMENT = 4096
SNAPSHOT_OF_2 = SnapshotMeta(
    index=2,
    term=1,
    configuration=Configuration(servers=(Peer(id="a", address="127.0.0.1:8300"),)),
    configuration_index=1,
)


def command(index: int, term: int = 1, size: int = 40) -> Entry:
    return Entry(index, term, COMMAND, bytes([65 + index % 26]) * size)


def write(store: DiskStore, *batches: list[Entry], state: HardState | None = None):
    """Write each batch with its own sync."""
    for batch in batches:
        done = threading.Event()
        errors: list[OSError | None] = []
        store.submit(state, batch, lambda e, d=done, r=errors: (r.append(e), d.set()))
        assert done.wait(60)
        assert errors == [None]


def opened(path: Path) -> tuple[DiskStore, Recovered]:
    store = DiskStore(path, segment_bytes=SEGMENT)
    return store, store.open()


def entries_in(path: Path) -> list[Entry]:
    store, found = opened(path)
    try:
        if found.last_index < found.first_index:
            return []
        return store.read(found.first_index, found.last_index, 1 << 30)
    finally:
        store.close()


def only_segment(path: Path) -> Path:
    (segment,) = (path / "log").glob("*.seg")
    return segment


def test_entries_and_state_survive_reopening(tmp_path: Path) -> None:
    store, found = opened(tmp_path)
    assert (found.first_index, found.last_index) == (1, 0)
    written = [command(1), Entry(2, 1, CONFIGURATION, b"conf"), command(3, term=2)]
    write(store, written[:1], written[1:], state=HardState(term=2, vote="b"))
    store.close()
    store, found = opened(tmp_path)
    assert found.hard_state == HardState(term=2, vote="b")
    assert found.terms == [(1, 1), (3, 2)]
    assert found.configurations == [(2, b"conf")]
    assert store.read(1, 3, 1 << 20) == written
    store.close()


def test_extensions_survive_reopening_and_say_nothing_of_the_type(
    tmp_path: Path,
) -> None:
    written = [
        Entry(1, 1, COMMAND, b"part", b"\x08\x01"),
        Entry(2, 1, CONFIGURATION, b"conf"),
        Entry(3, 1, COMMAND, b"", b"only"),
    ]
    store, _ = opened(tmp_path)
    write(store, written)
    store.close()
    store, found = opened(tmp_path)
    assert found.configurations == [(2, b"conf")]
    assert store.read(1, 3, 1 << 20) == written
    store.close()


def test_each_truncation_of_the_tail_keeps_the_synced_prefix(tmp_path: Path) -> None:
    base = tmp_path / "base"
    store, _ = opened(base)
    write(store, [command(1)], [command(2), command(3)], [command(4, size=13)])
    store.close()
    whole = only_segment(base).read_bytes()
    end = len(whole.rstrip(b"\0"))
    ends = [32]
    for size in (40, 40, 40, 13):
        ends.append(ends[-1] + record_size(size))
    for cut in range(32, end):
        copy = tmp_path / "copy"
        shutil.copytree(base, copy)
        os.truncate(only_segment(copy), cut)
        survivors = entries_in(copy)
        expected = sum(1 for e in ends[1:] if e <= cut)
        # Padding is not part of a record: a cut inside it loses nothing.
        assert len(survivors) in (expected, expected + 1), cut
        assert [e.index for e in survivors] == list(range(1, len(survivors) + 1))
        store, _ = opened(copy)
        write(store, [command(len(survivors) + 1, term=7)])
        store.close()
        assert entries_in(copy) == [*survivors, command(len(survivors) + 1, term=7)]
        shutil.rmtree(copy)


def test_a_zeroed_sector_in_the_last_batch_is_torn(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(1)], [command(i, size=300) for i in range(2, 8)])
    store.close()
    with only_segment(tmp_path).open("r+b") as file:
        file.seek(1024)
        file.write(bytes(512))
    survivors = entries_in(tmp_path)
    assert 1 <= len(survivors) < 7
    assert survivors[0] == command(1)


def test_each_flipped_byte_in_the_middle_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    store, _ = opened(base)
    write(store, [command(1)], [command(2)], [command(3)])
    store.close()
    start = 32 + record_size(40)
    unpadded = start + 40 + 40
    for at in range(start, unpadded):
        copy = tmp_path / "copy"
        shutil.copytree(base, copy)
        segment = only_segment(copy)
        data = bytearray(segment.read_bytes())
        data[at] ^= 0x10
        segment.write_bytes(data)
        with pytest.raises(CorruptLogError) as error:
            opened(copy)
        assert str(segment) in str(error.value)
        assert f"offset {start}" in str(error.value)
        assert "snapshot restore" in str(error.value)
        assert segment.read_bytes() == data, "evidence must stay"
        shutil.rmtree(copy)


def test_a_flip_inside_the_last_batch_is_no_torn_write(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(i) for i in range(1, 5)])
    store.close()
    segment = only_segment(tmp_path)
    data = bytearray(segment.read_bytes())
    data[32 + record_size(40) + 45] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptLogError):
        opened(tmp_path)


def test_damage_in_an_older_segment_and_a_missing_one(tmp_path: Path) -> None:
    base = tmp_path / "base"
    store, _ = opened(base)
    for index in range(1, 40):
        write(store, [command(index, size=500)])
    store.close()
    segments = sorted((base / "log").glob("*.seg"))
    assert len(segments) > 3
    data = bytearray(segments[1].read_bytes())
    last_of_second = data.rfind(b"\xa5RL1")
    data[last_of_second + 60] ^= 1
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    (copy / "log" / segments[1].name).write_bytes(data)
    with pytest.raises(CorruptLogError):
        opened(copy)
    shutil.rmtree(copy)
    shutil.copytree(base, copy)
    (copy / "log" / segments[1].name).unlink()
    with pytest.raises(CorruptLogError, match="missing"):
        opened(copy)


def test_a_replaced_suffix_stays_replaced(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    for index in range(1, 30):
        write(store, [command(index, size=500)])
    write(store, [command(5, term=2, size=500)])
    assert store.read(4, 9, 1 << 20) == [
        command(4, size=500),
        command(5, term=2, size=500),
    ]
    store.close()
    found = entries_in(tmp_path)
    assert [e.index for e in found] == [1, 2, 3, 4, 5]
    assert found[-1].term == 2


def test_reads_are_cut_but_never_empty(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(i, size=500) for i in range(1, 5)])
    write(store, [command(i, size=500) for i in range(5, 40)])
    assert [e.index for e in store.read(3, 39, 1)] == [3]
    assert [e.index for e in store.read(3, 39, 1200)] in ([3, 4], [3, 4, 5])
    assert [e.index for e in store.read(3, 39, 1 << 20)] == list(range(3, 40))
    assert store.bytes_since(38) == record_size(500)
    store.close()


def test_compaction_deletes_whole_segments_and_needs_the_snapshot(
    tmp_path: Path,
) -> None:
    store, _ = opened(tmp_path)
    for index in range(1, 40):
        write(store, [command(index, size=500)])
    before = len(list((tmp_path / "log").glob("*.seg")))
    meta = SnapshotMeta(index=30, term=1)
    writer = store.snapshots.create(meta)
    writer.write(b"state")
    writer.commit()
    store.compact(25)
    store.close()
    assert len(list((tmp_path / "log").glob("*.seg"))) < before
    store, found = opened(tmp_path)
    assert found.snapshot == meta
    assert 1 < found.first_index <= 25
    assert found.last_index == 39
    store.close()
    shutil.rmtree(tmp_path / "snapshots")
    with pytest.raises(CorruptLogError, match="no snapshot"):
        opened(tmp_path)


def test_two_snapshots_are_kept_and_a_damaged_one_is_skipped(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(i) for i in range(1, 6)])
    for index in (1, 2, 4):
        meta = SnapshotMeta(
            index=index,
            term=1,
            configuration=SNAPSHOT_OF_2.configuration,
            configuration_index=1,
        )
        writer = store.snapshots.create(meta)
        writer.write(b"state of %d" % index)
        writer.commit()
    store.close()
    kept = sorted(p.name.split("-")[1] for p in (tmp_path / "snapshots").iterdir())
    assert kept == ["2", "4"]
    (newest,) = (tmp_path / "snapshots").glob("1-4-*")
    (newest / "state.bin").write_bytes(b"state of 5")
    store, found = opened(tmp_path)
    assert found.snapshot == SNAPSHOT_OF_2
    assert b"".join(store.snapshots.read(SNAPSHOT_OF_2)) == b"state of 2"
    store.close()


def test_an_installed_snapshot_replaces_a_log_that_disagrees(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(i) for i in range(1, 6)])
    meta = SnapshotMeta(index=3, term=9)
    writer = store.snapshots.create(meta)
    writer.write(b"")
    writer.commit()
    store.close()
    store, found = opened(tmp_path)
    assert (found.first_index, found.last_index) == (4, 3)
    write(store, [command(4, term=9)])
    store.close()
    assert entries_in(tmp_path) == [command(4, term=9)]


def test_a_damaged_vote_is_refused(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(1)], state=HardState(term=3, vote="a"))
    store.close()
    data = bytearray((tmp_path / "state").read_bytes())
    data[-1] ^= 1
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(CorruptLogError):
        opened(tmp_path)


def test_a_full_disk_fails_this_and_all_later_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(tmp_path)
    write(store, [command(1)])

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_store.os, "pwrite", full)
    results: list[OSError | None] = []
    store.submit(None, [command(2)], results.append)
    store.submit(None, [command(3)], results.append)
    store.close()
    assert [e.errno if e else 0 for e in results] == [28, 28]
    monkeypatch.undo()
    assert entries_in(tmp_path) == [command(1)]


def test_memory_store_keeps_the_same_contract() -> None:
    store = MemoryStore()
    results: list[OSError | None] = []
    store.submit(None, [command(i) for i in range(1, 9)], results.append)
    store.submit(None, [command(5, term=2)], results.append)
    assert results == [None, None]
    assert [e.term for e in store.read(4, 5, 1 << 20)] == [1, 2]
    assert [e.index for e in store.read(1, 5, 1)] == [1]
    store.compact(3)
    assert [e.index for e in store.read(3, 5, 1 << 20)] == [3, 4, 5]
    assert store.bytes_since(4) > 0
    store.reset(10, results.append)
    store.submit(None, [command(11)], results.append)
    assert store.read(11, 11, 1) == [command(11)]
