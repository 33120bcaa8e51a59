"""A full disk is waited for: proposals fail meanwhile, the log stays whole."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from pyconsul.net import disk_store
from pyconsul.net.disk_store import DiskStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.raft.messages import COMMAND, Entry, HardState
from pyconsul.types.errors import ConsulError

SEGMENT = 4096


class Disk:
    """``os`` of the store, with as many bytes as ``room`` says (``None``: plenty)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.number = errno.ENOSPC
        self.refused = threading.Semaphore(0)
        self._pwrite = os.pwrite
        monkeypatch.setattr(disk_store.os, "pwrite", self.pwrite)
        monkeypatch.setattr(disk_store, "RETRY_S", 0.01)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        if self.room is None:
            return self._pwrite(fd, data, at)
        if self.room == 0:
            self.refused.release()
            raise OSError(self.number, os.strerror(self.number))
        # As a file system does: what fits is written, the rest is not.
        written = self._pwrite(fd, bytes(data[: self.room]), at)
        self.room -= written
        return written

    def wait_refused(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.refused.acquire(timeout=20)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Outcome:
    """What a submission was told, in order."""

    def __init__(self) -> None:
        self.errors: list[OSError | None] = []
        self._told = threading.Event()

    def __call__(self, error: OSError | None) -> None:
        self.errors.append(error)
        self._told.set()

    def wait(self) -> list[OSError | None]:
        assert self._told.wait(20)
        return self.errors


def command(index: int, term: int = 1, size: int = 900) -> Entry:
    return Entry(index, term, COMMAND, bytes([65 + index % 26]) * size)


def submit(
    store: DiskStore, *entries: Entry, state: HardState | None = None
) -> Outcome:
    outcome = Outcome()
    store.submit(state, entries, outcome)
    return outcome


def reopened(path: Path) -> list[Entry]:
    store = DiskStore(path, segment_bytes=SEGMENT)
    found = store.open()
    try:
        if found.last_index < found.first_index:
            return []
        return store.read(found.first_index, found.last_index, 1 << 30)
    finally:
        store.close()


@pytest.mark.parametrize("room", [0, 1, 20, 500, 1000, 4200, 9000])
def test_what_was_submitted_is_written_once_there_is_room(
    tmp_path: Path, disk: Disk, room: int
) -> None:
    store = DiskStore(tmp_path, segment_bytes=SEGMENT)
    told: list[int] = []
    store.on_full(lambda error: told.append(error.errno or 0 if error else 0))
    store.open()
    assert submit(store, command(1), state=HardState(term=1, vote="a")).wait() == [None]
    disk.room = room
    batches = [
        submit(store, *(command(n) for n in range(2 + 3 * at, 5 + 3 * at)))
        for at in range(4)
    ]
    # The tail is written again, in another term, while the disk is full.
    again = submit(
        store, command(9, 2), command(10, 2), state=HardState(term=2, vote="b")
    )
    disk.wait_refused(2)
    assert not again.errors
    assert store.read(1, 1, 1) == [command(1)]
    disk.room = None
    assert all(batch.wait() == [None] for batch in batches)
    assert again.wait() == [None]
    assert told == [errno.ENOSPC, 0]
    wanted = [*map(command, range(1, 9)), command(9, 2), command(10, 2)]
    assert store.read(1, 10, 1 << 20) == wanted
    assert submit(store, command(11, 2)).wait() == [None]
    store.close()
    assert reopened(tmp_path) == [*wanted, command(11, 2)]


@pytest.mark.parametrize("room", [0, 30, 700, 5000])
def test_a_log_cut_off_by_a_full_disk_opens_again(
    tmp_path: Path, disk: Disk, room: int
) -> None:
    store = DiskStore(tmp_path, segment_bytes=SEGMENT)
    store.open()
    assert submit(store, command(1), command(2)).wait() == [None]
    disk.room = room
    lost = submit(store, *(command(n) for n in range(3, 12)))
    disk.wait_refused()
    store.close()
    (error,) = lost.wait()
    assert error is not None
    assert error.errno == errno.ENOSPC
    disk.room = None
    found = reopened(tmp_path)
    assert found[:2] == [command(1), command(2)]
    assert found == [command(n + 1) for n in range(len(found))]


def test_a_reset_and_what_follows_wait_for_room(tmp_path: Path, disk: Disk) -> None:
    store = DiskStore(tmp_path, segment_bytes=SEGMENT)
    store.open()
    assert submit(store, command(1), command(2)).wait() == [None]
    disk.room = 0
    before, reset = submit(store, command(3)), Outcome()
    disk.wait_refused()
    store.reset(100, reset)
    after = submit(store, command(101, 3), command(102, 3))
    disk.wait_refused(3)
    disk.room = None
    assert before.wait() == reset.wait() == after.wait() == [None]
    assert store.read(101, 102, 1 << 20) == [command(101, 3), command(102, 3)]
    assert store.read(1, 100, 1 << 20) == []
    store.close()


def test_compaction_goes_on_while_the_disk_is_full(tmp_path: Path, disk: Disk) -> None:
    store = DiskStore(tmp_path, segment_bytes=SEGMENT)
    store.open()
    for index in range(1, 13):
        assert submit(store, command(index)).wait() == [None]
    assert len(list((tmp_path / "log").glob("*.seg"))) == 3
    disk.room = 0
    waiting = submit(store, command(13))
    disk.wait_refused()
    store.compact(9)
    # A try after the one during which the order came sees it carried out.
    disk.wait_refused(3)
    assert len(list((tmp_path / "log").glob("*.seg"))) == 1
    disk.room = None
    assert waiting.wait() == [None]
    assert store.read(9, 13, 1 << 20) == [command(n) for n in range(9, 14)]
    store.close()


def test_any_other_error_is_final(tmp_path: Path, disk: Disk) -> None:
    store = DiskStore(tmp_path, segment_bytes=SEGMENT)
    told: list[OSError | None] = []
    store.on_full(told.append)
    store.open()
    disk.room, disk.number = 0, errno.EIO
    (error,) = submit(store, command(1)).wait()
    disk.room = None
    (later,) = submit(store, command(1)).wait()
    assert error is not None
    assert later is error
    assert error.errno == errno.EIO
    assert told == []
    store.close()


class Rows:
    """Counts how often each command was applied."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def apply(self, index: int, data: bytes) -> object:
        self.rows[data.decode()] = self.rows.get(data.decode(), 0) + 1
        return index

    def snapshot(self) -> Rows:
        return self

    def chunks(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.rows = {}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the code under test has no event)
        await asyncio.sleep(0.001)


def test_a_lone_leader_says_why_and_goes_on(tmp_path: Path, disk: Disk) -> None:
    async def main() -> None:
        fsm = Rows()
        store = DiskStore(tmp_path, segment_bytes=SEGMENT)
        driver = RaftDriver(store, fsm, "a", "127.0.0.1:8300")
        await driver.start()
        await until(lambda: driver.is_leader)
        await driver.propose(b"before")
        disk.room = 0
        under_way = [driver.propose(b"first"), driver.propose(b"second")]
        for future in under_way:
            with pytest.raises(ConsulError, match="No space left on device"):
                await future
        for _ in range(3):
            with pytest.raises(ConsulError, match="log cannot be written"):
                await driver.propose(b"refused")
        with pytest.raises(ConsulError, match="log cannot be written"):
            await driver.barrier()
        # It leads on, and reads need no disk.
        assert driver.is_leader
        await driver.verify_leader()
        assert fsm.rows == {"before": 1}
        disk.room = None
        await until(lambda: len(fsm.rows) == 3)
        await driver.propose(b"after")
        expected = {"before": 1, "first": 1, "second": 1, "after": 1}
        assert fsm.rows == expected
        await driver.stop()
        fsm = Rows()
        again = DiskStore(tmp_path, segment_bytes=SEGMENT)
        driver = RaftDriver(again, fsm, "a", "127.0.0.1:8300")
        await driver.start()
        await until(lambda: driver.is_leader)
        assert fsm.rows == expected
        await driver.stop()

    asyncio.run(asyncio.wait_for(main(), 40))
