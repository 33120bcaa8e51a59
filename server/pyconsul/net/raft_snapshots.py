"""Snapshots of a running server: taken, sent, received, installed, restored.

The loop is never held for long: views are written in slices of a few
milliseconds, files are written and synced in threads. A snapshot from the
leader goes from the socket into a file, and the state is restored from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import msgspec

from pyconsul.net.log_store import LogStore
from pyconsul.net.snapshot_files import SnapshotWriter
from pyconsul.raft.core import Raft
from pyconsul.raft.messages import Message, Ready, SnapshotMeta, SnapshotRequest
from pyconsul.types.errors import ConsulError, NoLeaderError

_log = logging.getLogger(__name__)

SLICE_SECONDS = 0.003
"""The longest the loop is held by applying or by making a snapshot."""
_WRITE_PIECE = 1 << 20


class FsmSnapshot(Protocol):
    """A point-in-time view of the state machine."""

    def chunks(self) -> Iterator[bytes]:
        """Yield ``state.bin`` in small pieces."""
        ...


class Fsm(Protocol):
    """The replicated state machine."""

    def apply(self, index: int, data: bytes, /) -> object:
        """Apply one command; a refusal is a ``ConsulError`` returned."""
        ...

    def snapshot(self) -> FsmSnapshot:
        """Return a view that later commands do not change."""
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace everything."""
        ...


@runtime_checkable
class ChunkedFsm(Protocol):
    """A state machine that takes commands in chunks, as foreign leaders cut them."""

    def apply_chunk(
        self, index: int, term: int, data: bytes, extensions: bytes, /
    ) -> object:
        """Take one chunk; the last one gives what ``apply`` would."""
        ...


@runtime_checkable
class PreparingFsm(Protocol):
    """A state machine that can read a snapshot in a thread.

    A large one takes seconds, in which a leader that is not heard is replaced.
    """

    def prepare(self, chunks: Iterable[bytes], /) -> Callable[[], Callable[[], None]]:
        """Read everything; what returns replaces the state at once.

        And that returns what frees the old one, which is for a thread, too.
        """
        ...


_Take = Callable[[], Callable[[], None] | None]


class SnapshotSender(Protocol):
    """The part of the transport that streams snapshots."""

    async def send_snapshot(
        self,
        address: str,
        message: SnapshotRequest,
        size: int,
        chunks: Iterator[bytes],
    ) -> Message:
        """Stream a snapshot and return the answer."""
        ...


class Host(Protocol):
    """What snapshots need of the driver."""

    @property
    def core(self) -> Raft | None:
        """The core, once started."""
        ...

    def step(self, message: Message, address: str) -> None:
        """Give the core a message; raises ``ConsulError``."""
        ...

    async def durably(
        self, start: Callable[[Callable[[OSError | None], None]], None]
    ) -> None:
        """Wait for the store; raises ``OSError``."""
        ...

    def barrier(self) -> asyncio.Future[object]:
        """Resolve once everything proposed before is applied."""
        ...

    def drop_waiting(self, error: ConsulError) -> None:
        """Fail what waits for its entry."""
        ...

    def fail(self, error: ConsulError) -> None:
        """Stop for good."""
        ...

    def schedule(self) -> None:
        """Have the pump run soon."""
        ...


class SnapshotLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When snapshots are taken and how much log stays behind them."""

    threshold: int
    threshold_bytes: int
    interval_s: float
    trailing_logs: int
    trailing_bytes: int


class RaftSnapshots:
    """All work with snapshots of one driver."""

    def __init__(
        self,
        host: Host,
        store: LogStore,
        fsm: Fsm,
        limits: SnapshotLimits,
        clock: Callable[[], float],
    ) -> None:
        self.installing = False
        """The log and the state are being replaced: nothing else may move."""
        self.applied_bytes = 0
        """Command bytes applied since the last snapshot."""
        self.on_restored: list[Callable[[], None]] = []
        """Called when the whole state of a running server was replaced."""
        self._host = host
        self._store = store
        self._fsm = fsm
        self.limits = limits
        self._clock = clock
        self._taken_at = clock()
        self._taking: asyncio.Task[None] | None = None
        self._sending: set[str] = set()
        self._receiving = False
        self._received: SnapshotWriter | None = None
        self._freeing: set[asyncio.Future[None]] = set()

    async def stop(self) -> None:
        """Give up what is under way."""
        await asyncio.gather(*self._freeing, return_exceptions=True)
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        if self._received is not None:
            self._received.abort()
            self._received = None

    # --- own snapshots ---

    def maybe_take(self, core: Raft) -> None:
        """Begin a snapshot when enough has been applied."""
        limits = self.limits
        if self._taking is not None or self.installing:
            return
        behind = core.log.applied - core.log.snapshot_index
        many_bytes = self.applied_bytes >= limits.threshold_bytes
        if behind < limits.threshold and not many_bytes:
            return
        if not many_bytes and self._clock() - self._taken_at < limits.interval_s:
            return
        self._taking = asyncio.get_running_loop().create_task(self._take(core))

    async def take(self) -> None:
        """Take a snapshot of everything applied by now."""
        await self._wait_for_taking()
        core = self._host.core
        if core is None:
            raise NoLeaderError
        self._taking = asyncio.get_running_loop().create_task(self._take(core))
        await asyncio.shield(self._taking)

    async def _wait_for_taking(self) -> None:
        while self._taking is not None:
            await asyncio.shield(self._taking)

    async def _take(self, core: Raft) -> None:
        self._taken_at = self._clock()
        counted, self.applied_bytes = self.applied_bytes, 0
        index = core.log.applied
        term = core.log.term(index)
        where, configuration = core.applied_configuration()
        writer: SnapshotWriter | None = None
        try:
            if term is None or index <= core.log.snapshot_index:
                return
            meta = SnapshotMeta(
                index=index,
                term=term,
                configuration=configuration,
                configuration_index=where,
            )
            view = self._fsm.snapshot()
            writer = begun = await asyncio.to_thread(self._store.snapshots.create, meta)
            await write_slices(begun.write, view)
            await asyncio.to_thread(begun.commit)
            writer = None
            if core.log.snapshot_index < index:
                first_kept = self._first_kept(core, index)
                core.compact(meta, first_kept)
                self._store.compact(first_kept)
        except OSError as error:
            self.applied_bytes += counted
            _log.error("raft: snapshot failed: index=%d error=%s", index, error)
        finally:
            if writer is not None:
                writer.abort()
            self._taking = None

    def _first_kept(self, core: Raft, index: int) -> int:
        """Keep a tail for slow followers: bounded in entries and in bytes."""
        limits = self.limits
        low = max(index - limits.trailing_logs + 1, core.log.first_index)
        high = index + 1
        while low < high:
            middle = (low + high) // 2
            if self._store.bytes_since(middle - 1) <= limits.trailing_bytes:
                high = middle
            else:
                low = middle + 1
        return low

    # --- to and from other servers ---

    async def send(
        self, sender: SnapshotSender, address: str, message: SnapshotRequest
    ) -> None:
        """Stream the snapshot the core wants sent; tell it what came of it."""
        peer = message.target
        if peer in self._sending:
            return  # a long stream; its own outcome counts
        self._sending.add(peer)
        try:
            size = self._store.snapshots.size(message.meta)
            chunks = self._store.snapshots.read(message.meta)
            _log.info("raft: send snapshot: peer=%s size=%d", address, size)
            answer = await sender.send_snapshot(address, message, size, chunks)
            self._host.step(answer, address)
        except (OSError, KeyError, ValueError, ConsulError) as error:
            _log.warning("raft: snapshot not sent: peer=%s error=%r", address, error)
            if (core := self._host.core) is not None:
                core.snapshot_failed(peer)
        finally:
            self._sending.discard(peer)

    async def receive(
        self,
        message: SnapshotRequest,
        address: str,
        size: int,
        read: Callable[[], Awaitable[bytes]],
    ) -> None:
        """Stream a leader's snapshot into a file and have the core judge it.

        Raises ``ConsulError`` when that is not possible now.
        """
        core = self._host.core
        if core is None or self._receiving or self.installing:
            raise ConsulError("a snapshot is being received or installed already")
        self._receiving = True
        writer: SnapshotWriter | None = None
        try:
            current = message.term >= core.term
            if current:
                writer = await asyncio.to_thread(
                    self._store.snapshots.create, message.meta
                )
            left = size
            while left:
                data = await read()
                left -= len(data)
                if writer is not None:
                    await asyncio.to_thread(writer.write, data)
            self._host.step(message, address)
            if writer is not None and core.wants_snapshot(message):
                self._received, writer = writer, None
        except OSError as error:
            raise ConsulError(f"the snapshot was not stored: {error}") from error
        finally:
            if writer is not None:
                writer.abort()
            self._receiving = False

    async def install(self, ready: Ready, snapshot: SnapshotRequest) -> bool:
        """Replace log and state by what ``receive`` stored.

        Returns ``False`` when the disk failed, and with it this server.
        """
        writer, self._received = self._received, None
        assert writer is not None, "receive() comes first"
        meta = snapshot.meta
        submit = self._store.submit
        durably = self._host.durably
        try:
            if ready.hard_state is not None:
                await durably(partial(submit, ready.hard_state, ()))
            await asyncio.to_thread(writer.commit)
            take = await self.prepared(meta)
            await durably(partial(self._store.reset, meta.index))
            if ready.entries:
                await durably(partial(submit, None, ready.entries))
            self.replace_state(take)
        except OSError as error:
            self._host.fail(ConsulError(f"raft: a snapshot cannot be written: {error}"))
            return False
        self.applied_bytes = 0
        self.installing = False
        self._tell_restored()
        return True

    def replace_state(self, take: _Take) -> None:
        """Replace the state by what ``prepared`` gave; free the old one beside."""
        free = take()
        if free is not None:
            loop = asyncio.get_running_loop()
            freeing = loop.run_in_executor(None, free)
            self._freeing.add(freeing)
            freeing.add_done_callback(self._freeing.discard)

    async def prepared(self, meta: SnapshotMeta) -> _Take:
        """Return what replaces the state by a stored snapshot."""
        chunks = self._store.snapshots.read(meta)
        if isinstance(self._fsm, PreparingFsm):
            return await asyncio.to_thread(self._fsm.prepare, chunks)
        return partial(self._fsm.restore, chunks)

    # --- archives ---

    async def user_restore(self, chunks: Iterable[bytes], index: int) -> None:
        """See ``RaftDriver.user_restore``."""
        await self._host.barrier()
        core = self._host.core
        if core is None:
            raise NoLeaderError
        await self._wait_for_taking()
        if core.leadership is None or self.installing:
            raise NoLeaderError
        self.installing = True
        try:
            self._host.drop_waiting(ConsulError("aborted by a snapshot restore"))
            where, configuration = core.applied_configuration()
            meta = SnapshotMeta(
                index=max(core.log.last_index, index) + 1,
                term=core.term,
                configuration=configuration,
                configuration_index=where,
            )
            await asyncio.to_thread(self._write, meta, chunks)
            take = await self.prepared(meta)
            await self._host.durably(partial(self._store.reset, meta.index))
            self.replace_state(take)
            core.restored(meta)
            self.applied_bytes = 0
        except OSError as error:
            failure = ConsulError(f"raft: the snapshot cannot be written: {error}")
            self._host.fail(failure)
            raise failure from error
        finally:
            self.installing = False
            self._host.schedule()
        await self._host.barrier()
        self._tell_restored()

    def _tell_restored(self) -> None:
        for callback in list(self.on_restored):
            callback()

    def _write(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        writer = self._store.snapshots.create(meta)
        try:
            for chunk in chunks:
                writer.write(chunk)
            writer.commit()
        except OSError:
            writer.abort()
            raise


async def write_slices(write: Callable[[bytes], object], view: FsmSnapshot) -> None:
    """Write a view, holding the loop a few milliseconds at a time; in threads."""
    pieces: list[bytes] = []
    size = 0
    deadline = time.perf_counter() + SLICE_SECONDS
    for chunk in view.chunks():
        pieces.append(chunk)
        size += len(chunk)
        if size >= _WRITE_PIECE:
            await asyncio.to_thread(write, b"".join(pieces))
            pieces, size = [], 0
            deadline = time.perf_counter() + SLICE_SECONDS
        elif time.perf_counter() >= deadline:
            await asyncio.sleep(0)
            deadline = time.perf_counter() + SLICE_SECONDS
    await asyncio.to_thread(write, b"".join(pieces))
