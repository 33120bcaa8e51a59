"""The asyncio shell: group commit, restart, snapshots, failures, three servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyconsul.net import disk_store
from pyconsul.net.disk_store import DiskStore
from pyconsul.net.log_store import LogStore, MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_waiting import CHUNK_BYTES
from pyconsul.raft import wire, wire_readers
from pyconsul.raft.messages import COMMAND, AppendRequest, Entry
from pyconsul.state.chunks import Chunks
from pyconsul.types.errors import CommandError, ConsulError, NoLeaderError


class View:
    def __init__(self, rows: dict[str, int]) -> None:
        self.rows = rows

    def chunks(self) -> Iterator[bytes]:
        data = msgspec.json.encode(self.rows)
        for at in range(0, len(data), 7):
            yield data[at : at + 7]


class Rows:
    """Keeps the index of each command's last application."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.order: list[int] = []

    def apply(self, index: int, data: bytes) -> object:
        self.order.append(index)
        text = data.decode()
        if text == "refuse":
            return CommandError("refused")
        if text == "crash":
            raise ValueError("a bug")
        self.rows[text] = index
        return index

    def snapshot(self) -> View:
        return View(dict(self.rows))

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.rows = msgspec.json.decode(b"".join(chunks), type=dict[str, int])


def go(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the code under test has no event)
        await asyncio.sleep(0.001)


async def lone(store: LogStore, fsm: Rows, **options: Any) -> RaftDriver:
    driver = RaftDriver(store, fsm, "a", "127.0.0.1:8300", **options)
    await driver.start()
    await until(lambda: driver.is_leader)
    return driver


def stores(tmp_path: Path) -> list[LogStore]:
    return [MemoryStore(), DiskStore(tmp_path / "raft", segment_bytes=1 << 16)]


class ChunkedRows(Rows):
    """Applies a command when its second chunk is there."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[int, bytes, bytes]] = []

    def apply_chunk(
        self, index: int, term: int, data: bytes, extensions: bytes
    ) -> object:
        self.parts.append((term, data, extensions))
        if len(self.parts) < 2:
            return None
        return self.apply(index, b"".join(data for _, data, _ in self.parts))


@pytest.mark.parametrize("fsm", [Rows(), ChunkedRows()])
def test_chunks_in_the_log_go_to_the_state_machine_as_chunks(fsm: Rows) -> None:
    async def main() -> None:
        store = MemoryStore()
        driver = await lone(store, fsm)
        core = driver.core
        assert core is not None
        # Our own leaders cut only what is large; another's log holds these.
        first = core.log.last_index + 1
        parts = [
            Entry(first, 1, COMMAND, b"ab", b"1"),
            Entry(first + 1, 1, 0, b"c", b"2"),
        ]
        core.log.append(parts)
        assert await driver.propose(b"after") == first + 2
        if isinstance(fsm, ChunkedRows):
            assert fsm.parts == [(1, b"ab", b"1"), (1, b"c", b"2")]
            assert fsm.rows == {"abc": first + 1, "after": first + 2}
        else:
            assert fsm.rows == {"after": first + 2}, "half a command is none"
        await driver.stop()

    go(main())


@pytest.mark.parametrize("which", [0, 1])
def test_results_refusals_and_order(tmp_path: Path, which: int) -> None:
    async def main() -> None:
        fsm = Rows()
        driver = await lone(stores(tmp_path)[which], fsm)
        # Configuration, noop, barrier: the first command is entry 4.
        futures = [driver.propose(b"k%d" % i) for i in range(500)]
        refused = driver.propose(b"refuse")
        crashed = driver.propose(b"crash")
        after = driver.propose(b"after")
        futures[3].cancel()
        first = 4 if which else int(str(await futures[0]))
        assert await futures[0] == first
        assert await futures[499] == first + 499
        with pytest.raises(CommandError, match="refused"):
            await refused
        with pytest.raises(ConsulError, match="internal error"):
            await crashed
        assert await after == first + 502
        assert fsm.order == list(range(first, first + 503))
        assert fsm.rows["k3"] == first + 3, "a gone client's write still happens"
        assert driver.leader_address == "127.0.0.1:8300"
        assert driver.peers() == ["127.0.0.1:8300"]
        assert driver.last_contact_ms() == 0
        await driver.verify_leader()
        stats = driver.stats()
        assert stats["state"] == "Leader"
        assert stats["num_peers"] == "0"
        assert stats["applied_index"] == str(first + 502)
        await driver.stop()
        with pytest.raises(ConsulError, match="shutting down"):
            await driver.propose(b"late")

    go(main())


def test_everything_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        driver = await lone(DiskStore(tmp_path), Rows())
        for future in [driver.propose(b"k%d" % i) for i in range(3000)]:
            await future
        await driver.stop()
        fsm = Rows()
        driver = await lone(DiskStore(tmp_path), fsm)
        assert len(fsm.rows) == 3000
        assert driver.stats()["term"] == "3"
        await driver.stop()

    go(main())


@pytest.mark.parametrize("which", [0, 1])
def test_snapshots_bound_the_log_and_restore(tmp_path: Path, which: int) -> None:
    async def main() -> None:
        options = {
            "snapshot_threshold": 100,
            "snapshot_interval": 0.0,
            "trailing_logs": 20,
        }
        store = stores(tmp_path)[which]
        driver = await lone(store, Rows(), **options)
        for burst in range(20):
            batch = [
                driver.propose(b"%05d" % i + b"x" * 300)
                for i in range(burst * 100, burst * 100 + 100)
            ]
            await asyncio.gather(*batch)
        await driver.snapshot()
        stats = driver.stats()
        assert stats["last_snapshot_index"] == stats["applied_index"]
        await driver.propose(b"tail")
        await driver.stop()
        if which == 0:
            return
        used = sum(f.stat().st_size for f in (tmp_path / "raft" / "log").iterdir())
        assert used < 5 * (1 << 16), "segments before the snapshot are deleted"
        assert len(list((tmp_path / "raft" / "snapshots").iterdir())) == 2
        fsm = Rows()
        driver = await lone(DiskStore(tmp_path / "raft"), fsm, **options)
        assert len(fsm.rows) == 2001
        assert len(fsm.order) == 1, "only what follows the snapshot is applied again"
        await driver.stop()

    go(main())


def test_trailing_entries_are_bounded_in_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        store = DiskStore(tmp_path, segment_bytes=1 << 15)
        driver = await lone(store, Rows(), trailing_bytes=50_000)
        for i in range(100):
            await driver.propose(b"%05d" % i + b"y" * 5000)
        await driver.snapshot()
        await driver.barrier()
        assert store.bytes_since(0) < 50_000 + 3 * (1 << 15)
        await driver.stop()

    go(main())


def test_a_broken_disk_fails_writes_and_ends_leading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        driver = await lone(DiskStore(tmp_path), Rows())
        seen: list[bool] = []
        driver.on_leader_change.append(seen.append)
        await driver.propose(b"before")

        def broken(fd: int, data: bytes, at: int) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(disk_store.os, "pwrite", broken)
        lost = [driver.propose(b"lost"), driver.propose(b"lost too")]
        for future in lost:
            with pytest.raises(ConsulError, match="Input/output error"):
                await future
        with pytest.raises(ConsulError, match="Input/output"):
            await driver.propose(b"later")
        assert not driver.is_leader
        assert driver.leader_address == ""
        assert seen == [False]
        monkeypatch.undo()
        await driver.stop()
        fsm = Rows()
        driver = await lone(DiskStore(tmp_path), fsm)
        assert set(fsm.rows) == {"before"}
        await driver.stop()

    go(main())


class WholeRows(Rows):
    """Puts chunks together, and notes how commands came."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks = Chunks()
        self.came: list[tuple[int, int]] = []

    def apply(self, index: int, data: bytes) -> object:
        self.came.append((index, len(data)))
        self.rows[str(len(data))] = index
        return len(data)

    def apply_chunk(
        self, index: int, term: int, data: bytes, extensions: bytes
    ) -> object:
        self.order.append(index)
        command = self.chunks.add(term, data, extensions)
        return None if command is None else self.apply(index, command)


def test_large_commands_are_cut_and_answered_once_whole() -> None:
    async def main() -> None:
        fsm = WholeRows()
        driver = await lone(MemoryStore(), fsm)
        sizes = [10, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 1, 0]
        futures = [driver.propose(bytes(size)) for size in sizes]
        assert [await future for future in futures] == sizes
        first = fsm.came[0][0]
        # Whole ones take one entry, the others as many as they have chunks.
        expected = list(zip([0, 1, 3, 6, 7, 8], sizes, strict=True))
        assert [(index - first, size) for index, size in fsm.came] == expected
        assert fsm.order == [first + at for at in (2, 3, 4, 5, 6)]
        core = driver.core
        assert core is not None
        held = core.log.entries(first, first + 8, 100, 1 << 30)
        assert max(len(entry.data) for entry in held) == CHUNK_BYTES
        await driver.stop()

    go(main())


class PreparedRows(Rows):
    """Reads snapshots in whatever thread it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.read_in: list[int] = []
        self.freed_in: list[int] = []

    def prepare(self, chunks: Iterable[bytes]) -> Callable[[], Callable[[], None]]:
        self.read_in.append(threading.get_ident())
        rows = msgspec.json.decode(b"".join(chunks), type=dict[str, int])

        def take() -> Callable[[], None]:
            self.rows = rows
            return lambda: self.freed_in.append(threading.get_ident())

        return take

    def restore(self, chunks: Iterable[bytes]) -> None:
        raise AssertionError("the loop would stand still meanwhile")


def test_a_start_reads_its_snapshot_beside_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        driver = await lone(DiskStore(tmp_path), PreparedRows())
        await driver.propose(b"kept")
        await driver.snapshot()
        await driver.stop()
        fsm = PreparedRows()
        driver = await lone(DiskStore(tmp_path), fsm)
        assert set(fsm.rows) == {"kept"}
        assert len(fsm.read_in) == 1
        await driver.stop()
        assert len(fsm.freed_in) == 1
        assert threading.get_ident() not in fsm.read_in + fsm.freed_in

    go(main())


def test_a_command_that_no_follower_takes_is_refused() -> None:
    async def main() -> None:
        fsm = Rows()
        driver = await lone(MemoryStore(), fsm)
        with pytest.raises(ConsulError, match="exceeds the limit of 67043328 bytes"):
            await driver.propose(bytes(wire.MAX_COMMAND_BYTES + 1))
        assert await driver.propose(b"small")
        assert set(fsm.rows) == {"small"}
        encoder = wire.Encoder("a", "x:1")
        largest = Entry(1, 1, COMMAND, bytes(wire.MAX_COMMAND_BYTES))
        reader = wire_readers.RequestReader()
        reader.feed(
            encoder.request(
                AppendRequest(
                    sender="a",
                    target="b",
                    term=1,
                    prev_index=0,
                    prev_term=0,
                    entries=[largest],
                )
            )
        )
        assert reader.next() is not None
        await driver.stop()

    go(main())


def test_a_broken_leader_callback_stops_nothing() -> None:
    async def main() -> None:
        driver = RaftDriver(MemoryStore(), Rows(), "a", "x:1")
        seen: list[bool] = []

        def broken(leads: bool) -> None:
            raise RuntimeError("broken")

        driver.on_leader_change += [broken, seen.append]
        with pytest.raises(NoLeaderError):
            driver.transfer_leadership()
        await driver.start()
        await until(lambda: driver.is_leader)
        assert seen == [True]
        assert await driver.propose(b"x")
        await driver.stop()
        assert seen == [True, False]

    go(main())


def test_the_loop_is_not_held_by_a_long_batch() -> None:
    class Slow(Rows):
        def apply(self, index: int, data: bytes) -> object:
            end = time.perf_counter() + 0.0002
            while time.perf_counter() < end:
                pass
            return super().apply(index, data)

    async def main() -> None:
        driver = await lone(MemoryStore(), Slow())
        futures = [driver.propose(b"%d" % i) for i in range(1000)]
        turns = 0
        while not futures[-1].done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 25, "200 ms of work in slices of a few milliseconds"
        await driver.stop()

    go(main())


def test_user_restore_replaces_state_and_survives(tmp_path: Path) -> None:
    async def main() -> None:
        fsm = Rows()
        driver = await lone(DiskStore(tmp_path), fsm)
        await driver.propose(b"old")
        told: list[dict[str, int]] = []
        driver.on_restored.append(lambda: told.append(dict(fsm.rows)))
        await driver.user_restore([b'{"new":', b"7}"], 5000)
        assert fsm.rows == {"new": 7}
        assert told == [{"new": 7}]
        meta, view = driver.view()
        assert b"".join(view.chunks()) == b'{"new":7}'
        assert meta.index > 5000
        assert meta.term == driver.term
        after = await driver.propose(b"after")
        assert isinstance(after, int)
        assert after > 5001
        await driver.stop()
        fsm = Rows()
        driver = await lone(DiskStore(tmp_path), fsm)
        assert fsm.rows == {"new": 7, "after": after}
        await driver.stop()

    go(main())
