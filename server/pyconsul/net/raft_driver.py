"""The asyncio shell of the Raft core: group commit, apply, snapshots, timers.

Proposals that arrive while a sync runs form the next batch; the store's writer
thread reports back by ``call_soon_threadsafe``. Nothing here blocks the loop:
applying and snapshots go in slices of a few milliseconds, files in threads. A
client that goes away cancels only its own future. When the disk fails, waiting
proposals fail with its error and this server stops leading until restarted.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from pyconsul.net.log_store import LogStore, Recovered
from pyconsul.net.snapshot_files import SnapshotWriter
from pyconsul.raft.codec import decode_configuration, encode_configuration
from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    BARRIER,
    COMMAND,
    CONFIGURATION,
    Configuration,
    ConfigurationError,
    Entry,
    HardState,
    Message,
    NotLeaderError,
    Peer,
    Ready,
    Settings,
    SnapshotMeta,
    SnapshotRequest,
)
from pyconsul.raft.replication import Leadership
from pyconsul.types.errors import ConsulError, NoLeaderError, StartError

_log = logging.getLogger(__name__)

SLICE_SECONDS = 0.003
"""The longest the loop is held by applying or by making a snapshot."""
MAX_SYNCS_QUEUED = 2
"""Batches given to the store at once: one being synced, one ready to go."""
MAX_CALLERS = 64
"""Addresses remembered of servers that sent messages."""
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


class Transport(Protocol):
    """Carries messages to other servers; losing some is allowed."""

    def send(self, address: str, message: Message) -> None:
        """Send without blocking; what cannot be sent is dropped."""
        ...


class RaftDriver:
    """One server's Raft: see ``docs/design.md`` for the names others use.

    ``bootstrap`` makes an empty log a cluster of this one voter. Limits are
    entries and bytes of log; ``snapshot_interval`` is in seconds.
    """

    def __init__(
        self,
        store: LogStore,
        fsm: Fsm,
        node_id: str,
        address: str,
        *,
        bootstrap: bool = True,
        transport: Transport | None = None,
        settings: Settings | None = None,
        snapshot_threshold: int = 16384,
        snapshot_bytes: int = 64 << 20,
        snapshot_interval: float = 30.0,
        trailing_logs: int = 10240,
        trailing_bytes: int = 16 << 20,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_leader_change: list[Callable[[bool], None]] = []
        self.is_leader = False
        """Leads, and has applied everything of earlier terms."""
        self.store = store
        self.fsm = fsm
        self.node_id = node_id
        self.address = address
        self._bootstrap = bootstrap
        self._transport = transport
        self._settings = settings or Settings()
        self._snapshot_threshold = snapshot_threshold
        self._snapshot_bytes = snapshot_bytes
        self._snapshot_interval = snapshot_interval
        self._trailing_logs = trailing_logs
        self._trailing_bytes = trailing_bytes
        self._rng = rng or random.Random()
        self._clock = clock
        self._core: Raft | None = None
        self._failed: ConsulError | None = None
        self._batch: list[bytes] = []
        self._batch_futures: list[asyncio.Future[object]] = []
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._lead: Leadership | None = None
        self._reads: dict[int, asyncio.Future[None]] = {}
        self._confirmed: list[tuple[int, asyncio.Future[None]]] = []
        self._read_context = 0
        self._applying: list[Entry] = []
        self._apply_at = 0
        self._applied_bytes = 0
        self._in_flight: list[Ready] = []
        self._pump_scheduled = False
        self._installing = False
        self._snapshot_task: asyncio.Task[None] | None = None
        self._snapshot_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._frozen = False

    # --- life ---

    async def start(self) -> None:
        """Open the store, restore the newest snapshot, begin.

        Raises ``CorruptLogError`` or ``StartError``. The rest of the log is
        applied once committed, which a lone voter does at once.
        """
        self._loop = asyncio.get_running_loop()
        in_thread = partial(self._loop.run_in_executor, None)
        try:
            found: Recovered = await in_thread(self.store.open)
            if self._bootstrap and found.last_index == 0 and found.snapshot is None:
                await self._write_first_entry(found)
        except OSError as error:
            raise StartError(f"raft: cannot open the log: {error}") from error
        meta = found.snapshot
        if meta is not None:
            self.fsm.restore(self.store.snapshots.read(meta))
        self._freeze()
        configurations = [
            (index, decode_configuration(data)) for index, data in found.configurations
        ]
        if meta is not None:
            configurations = [
                (meta.configuration_index, meta.configuration),
                *(c for c in configurations if c[0] > meta.index),
            ]
        log = RaftLog(
            self.store,
            first_index=found.first_index,
            last_index=found.last_index,
            terms=found.terms,
            snapshot_index=meta.index if meta else 0,
            snapshot_term=meta.term if meta else 0,
        )
        now = self._clock()
        self._snapshot_at = now
        self._core = Raft(
            self.node_id,
            log,
            hard_state=found.hard_state,
            configurations=configurations,
            snapshot=meta,
            settings=self._settings,
            rng=self._rng,
            now=now,
        )
        self._core.tick(now)
        self._pump()

    async def stop(self) -> None:
        """Finish what is on its way to the disk; fail what still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = [*self._tasks]
        if self._snapshot_task is not None:
            tasks.append(self._snapshot_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail(ConsulError("raft is shutting down"))
        await asyncio.get_running_loop().run_in_executor(None, self.store.close)

    async def _write_first_entry(self, found: Recovered) -> None:
        me = Peer(id=self.node_id, address=self.address)
        data = encode_configuration(Configuration(servers=(me,)))
        state = HardState(term=1)
        await self._durably(
            partial(self.store.submit, state, [Entry(1, 1, CONFIGURATION, data)])
        )
        found.hard_state = state
        found.last_index = 1
        found.terms = [(1, 1)]
        found.configurations = [(1, data)]

    async def _durably(
        self, start: Callable[[Callable[[OSError | None], None]], None]
    ) -> None:
        done: asyncio.Future[OSError | None] = self._loop.create_future()

        def settle(error: OSError | None) -> None:
            if not done.done():
                done.set_result(error)

        start(lambda error: self._call_on_loop(settle, error))
        if (error := await done) is not None:
            raise error

    def _freeze(self) -> None:
        gc.collect()
        gc.freeze()

    # --- what others call ---

    def propose(self, command: bytes) -> asyncio.Future[object]:
        """Replicate a command; the future gives what the FSM returned.

        Fails with ``NoLeaderError``, with the ``ConsulError`` the FSM returned,
        or with one that says why the outcome is unknown.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        if self._failed is not None:
            future.set_exception(self._failed)
        elif self._core is None or self._core.leadership is None:
            future.set_exception(NoLeaderError())
        else:
            self._batch.append(command)
            self._batch_futures.append(future)
            if not self._pump_scheduled:
                self._pump_scheduled = True
                self._loop.call_soon(self._pump)
        return future

    def barrier(self) -> asyncio.Future[object]:
        """Resolve once everything proposed before is applied."""
        return self._propose_now(lambda core: core.propose(b"", BARRIER))

    def verify_leader(self) -> asyncio.Future[None]:
        """Resolve once a quorum confirmed this leader and reads are current."""
        future: asyncio.Future[None] = self._loop.create_future()
        core = self._core
        if self._failed is not None:
            future.set_exception(self._failed)
            return future
        if core is not None:
            core.tick(self._clock())
        if core is None or core.leadership is None:
            future.set_exception(NoLeaderError())
            return future
        if core.leadership.alone() and self.is_leader:
            # Every answered write is applied already; nobody else can write.
            future.set_result(None)
            return future
        self._read_context += 1
        self._reads[self._read_context] = future
        core.read_index(self._read_context)
        self._schedule()
        return future

    def change_membership(
        self, change: Callable[[Configuration], Configuration]
    ) -> asyncio.Future[object]:
        """Change the configuration by one server, e.g. ``c.without(id)``."""
        return self._propose_now(
            lambda core: core.change_configuration(change(core.configuration))
        )

    def transfer_leadership(self, target: str = "") -> str:
        """Hand over to another voter; return its id. Raises ``ConsulError``."""
        core = self._core
        if core is None:
            raise NoLeaderError
        core.tick(self._clock())
        try:
            chosen = core.transfer_leadership(target)
        except NotLeaderError:
            raise NoLeaderError from None
        except ConfigurationError as error:
            raise ConsulError(str(error)) from error
        self._schedule()
        return chosen

    def receive(self, message: Message, address: str) -> None:
        """Take a message of the server at ``address``.

        A server that has just joined knows its leader by this address only.
        """
        if self._core is None or self._failed is not None:
            return
        if self._callers.get(message.sender) != address:
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
            self._callers[message.sender] = address
        self._core.step(message, self._clock())
        self._schedule()

    @property
    def leader_address(self) -> str:
        """``ip:port`` of the leader; empty when none is known."""
        core = self._core
        if core is None or self._failed is not None or not core.leader_id:
            return ""
        return self._address_of(core, core.leader_id)

    @property
    def configuration(self) -> Configuration:
        """The latest membership."""
        return self._core.configuration if self._core else Configuration()

    @property
    def configuration_index(self) -> int:
        """The index the latest membership was written at."""
        return self._core.configuration_index if self._core else 0

    def has_lease(self) -> bool:
        """Tell whether default reads may be answered without asking a quorum."""
        core = self._core
        return self.is_leader and core is not None and core.has_lease(self._clock())

    def peers(self) -> list[str]:
        """Return the addresses of all servers of the cluster."""
        return [s.address for s in self.configuration.servers]

    def last_contact_ms(self) -> int:
        """Return milliseconds since the leader was heard; 0 on the leader."""
        core = self._core
        if core is None or core.leadership is not None:
            return 0
        contact = core.last_leader_contact
        return 0 if contact is None else int((self._clock() - contact) * 1000)

    def stats(self) -> dict[str, str]:
        """Return the ``raft`` section of ``consul info``."""
        core = self._core
        if core is None:
            return {"state": "Shutdown"}
        log = core.log
        servers = core.configuration.servers
        leading = core.leadership is not None
        contact = "0" if leading else f"{self.last_contact_ms()}ms"
        if not leading and core.last_leader_contact is None:
            contact = "never"
        others = len(core.configuration.voters() - {self.node_id})
        return {
            "applied_index": str(log.applied),
            "commit_index": str(log.committed),
            "fsm_pending": str(len(self._applying) - self._apply_at),
            "last_contact": contact,
            "last_log_index": str(log.last_index),
            "last_log_term": str(log.last_term),
            "last_snapshot_index": str(log.snapshot_index),
            "last_snapshot_term": str(log.snapshot_term),
            "latest_configuration": " ".join(f"{s.id}@{s.address}" for s in servers),
            "latest_configuration_index": str(core.configuration_index),
            "num_peers": str(others),
            "protocol_version": "3",
            "protocol_version_max": "3",
            "protocol_version_min": "0",
            "snapshot_version_max": "1",
            "snapshot_version_min": "0",
            "state": "Shutdown" if self._failed else core.role.value,
            "term": str(core.term),
        }

    # --- the pump ---

    def _propose_now(self, start: Callable[[Raft], int]) -> asyncio.Future[object]:
        future: asyncio.Future[object] = self._loop.create_future()
        core = self._core
        if self._failed is not None:
            future.set_exception(self._failed)
            return future
        if core is None or core.leadership is None:
            future.set_exception(NoLeaderError())
            return future
        self._flush_batch(core)
        core.tick(self._clock())
        try:
            self._waiting[start(core)] = future
        except NotLeaderError:
            future.set_exception(NoLeaderError())
        except ConfigurationError as error:
            future.set_exception(ConsulError(str(error)))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _flush_batch(self, core: Raft) -> None:
        batch, self._batch = self._batch, []
        futures, self._batch_futures = self._batch_futures, []
        if not batch:
            return
        try:
            first = core.propose_many(batch)
        except NotLeaderError:
            for future in futures:
                _settle(future, NoLeaderError())
            return
        self._waiting.update(enumerate(futures, first))

    def _pump(self) -> None:
        """Move everything that can move, for one slice of time."""
        self._pump_scheduled = False
        core = self._core
        if core is None or self._failed is not None or self._installing:
            return
        deadline = time.perf_counter() + SLICE_SECONDS
        while True:
            if self._batch and len(self._in_flight) < MAX_SYNCS_QUEUED:
                self._flush_batch(core)
            ready = core.ready()
            if ready is not None:
                self._handle(ready)
                if self._installing or self._failed is not None:
                    break
            self._note_leadership(core)
            if self._applying:
                self._apply(core, deadline)
            elif ready is None:
                break
            if time.perf_counter() >= deadline:
                self._schedule()
                break
        self._arm_timer(core)

    def _handle(self, ready: Ready) -> None:
        if ready.messages:
            self._send(ready.messages)
        for read in ready.reads:
            if (waiter := self._reads.pop(read.context, None)) is not None:
                self._confirmed.append((read.index, waiter))
        if ready.snapshot is not None:
            self._applying = []
            self._installing = True
            self._start(self._install(ready, ready.snapshot))
            return
        if ready.committed:
            self._applying = ready.committed
            self._apply_at = 0
        elif ready.reads:
            self._release_reads()
        if ready.must_persist():
            self._in_flight.append(ready)
            if self.store.durable:
                done = partial(self._call_on_loop, self._on_durable, ready)
            else:
                done = partial(self._on_durable, ready)
            self.store.submit(ready.hard_state, ready.entries, done)
        elif ready.after_persist:
            if self._in_flight:
                self._in_flight[-1].after_persist.extend(ready.after_persist)
            else:
                self._send(ready.after_persist)

    def _call_on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            pass  # the loop was closed without stop(): nobody waits any more

    def _on_durable(self, ready: Ready, error: OSError | None) -> None:
        core = self._core
        if core is None or self._failed is not None:
            return
        self._in_flight.remove(ready)
        if error is not None:
            _log.error("raft: stopped: error=%s", error)
            self._fail(ConsulError(f"raft: the log cannot be written: {error}"))
            return
        core.persisted(ready)
        self._send(ready.after_persist)
        if self.store.durable:
            self._pump()

    def _apply(self, core: Raft, deadline: float) -> None:
        entries = self._applying
        at = self._apply_at
        stop = len(entries)
        apply = self.fsm.apply
        waiting = self._waiting
        while at < stop:
            entry = entries[at]
            at += 1
            result: object = None
            if entry.type == COMMAND:
                self._applied_bytes += len(entry.data)
                try:
                    result = apply(entry.index, entry.data)
                except Exception as error:
                    # Every server fails alike; stopping would not undo it.
                    _log.exception("raft: a command failed: index=%d", entry.index)
                    result = ConsulError(f"internal error: {error}")
            future = waiting.pop(entry.index, None)
            if future is not None and not future.done():
                if isinstance(result, ConsulError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            if not at & 15 and time.perf_counter() >= deadline:
                break
        self._apply_at = at
        core.applied_to(entries[at - 1].index)
        if at == stop:
            self._applying = []
        self._release_reads()
        self._maybe_snapshot(core)

    def _release_reads(self) -> None:
        core = self._core
        if not self._confirmed or core is None:
            return
        applied = core.log.applied
        later: list[tuple[int, asyncio.Future[None]]] = []
        for index, future in self._confirmed:
            if index > applied:
                later.append((index, future))
            elif not future.done():
                future.set_result(None)
        self._confirmed = later

    def _note_leadership(self, core: Raft) -> None:
        if core.leadership is not self._lead:
            if self._lead is not None:
                self._drop_waiting(ConsulError("leadership lost while committing log"))
            self._lead = core.leadership
            self._tell_leader(False)
            if core.leadership is not None:
                _log.info("raft: elected: id=%s term=%d", self.node_id, core.term)
                core.propose(b"", BARRIER)
        if self._lead is not None and not self.is_leader and core.caught_up():
            if not self._frozen:
                self._frozen = True
                gc.freeze()
            self._tell_leader(True)

    def _tell_leader(self, leads: bool) -> None:
        if leads == self.is_leader:
            return
        self.is_leader = leads
        for callback in list(self.on_leader_change):
            try:
                callback(leads)
            except Exception:
                _log.exception("raft: a leader callback failed")

    def _drop_waiting(self, error: ConsulError) -> None:
        futures: list[asyncio.Future[Any]] = [
            *self._waiting.values(),
            *self._batch_futures,
            *self._reads.values(),
            *(future for _, future in self._confirmed),
        ]
        self._waiting.clear()
        self._batch.clear()
        self._batch_futures.clear()
        self._reads.clear()
        self._confirmed.clear()
        for future in futures:
            _settle(future, error)

    def _fail(self, error: ConsulError) -> None:
        if self._failed is not None:
            return
        self._failed = error
        if self._core is not None:
            self._core.step_down()
        self._drop_waiting(error)
        self._lead = None
        self._tell_leader(False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_timer(self, core: Raft) -> None:
        due = core.next_deadline()
        if due == self._timer_at:
            return
        self._timer_at = due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None and self._failed is None:
            delay = max(due - self._clock(), 0.0)
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = None
        if self._core is not None and self._failed is None:
            self._core.tick(self._clock())
            self._pump()

    # --- messages and snapshots between servers ---

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, messages: list[Message]) -> None:
        core = self._core
        if self._transport is None or core is None:
            return
        for message in messages:
            address = self._address_of(core, message.target)
            if not address:
                continue
            if isinstance(message, SnapshotRequest):
                self._start(self._send_snapshot(address, message))
            else:
                self._transport.send(address, message)

    def _address_of(self, core: Raft, server_id: str) -> str:
        peer = core.configuration.get(server_id)
        return peer.address if peer else self._callers.get(server_id, "")

    async def _send_snapshot(self, address: str, message: SnapshotRequest) -> None:
        def load() -> bytes:
            return b"".join(self.store.snapshots.read(message.meta))

        try:
            data = await self._loop.run_in_executor(None, load)
        except (OSError, KeyError) as error:
            _log.warning("raft: snapshot not sent: peer=%s error=%r", address, error)
            if self._core is not None:
                self._core.snapshot_failed(message.target)
            return
        if self._transport is not None:
            full = SnapshotRequest(
                sender=message.sender,
                target=message.target,
                term=message.term,
                meta=message.meta,
                data=data,
            )
            self._transport.send(address, full)

    async def _install(self, ready: Ready, snapshot: SnapshotRequest) -> None:
        core = self._core
        assert core is not None
        try:
            if ready.hard_state is not None:
                await self._durably(partial(self.store.submit, ready.hard_state, ()))
            await self._loop.run_in_executor(
                None, self._write_snapshot, snapshot.meta, [snapshot.data]
            )
            await self._durably(partial(self.store.reset, snapshot.meta.index))
            if ready.entries:
                await self._durably(partial(self.store.submit, None, ready.entries))
        except OSError as error:
            self._fail(ConsulError(f"raft: a snapshot cannot be written: {error}"))
            return
        self.fsm.restore([snapshot.data])
        self._applied_bytes = 0
        core.persisted(ready)
        self._installing = False
        self._send(ready.after_persist)
        self._pump()

    def _write_snapshot(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        writer = self.store.snapshots.create(meta)
        try:
            for chunk in chunks:
                writer.write(chunk)
            writer.commit()
        except OSError:
            writer.abort()
            raise

    # --- own snapshots ---

    def _maybe_snapshot(self, core: Raft) -> None:
        if self._snapshot_task is not None or self._installing:
            return
        behind = core.log.applied - core.log.snapshot_index
        if behind < self._snapshot_threshold and (
            self._applied_bytes < self._snapshot_bytes
        ):
            return
        if self._applied_bytes < self._snapshot_bytes and (
            self._clock() - self._snapshot_at < self._snapshot_interval
        ):
            return
        self._snapshot_task = self._loop.create_task(self._take_snapshot(core))

    async def snapshot(self) -> None:
        """Take a snapshot of everything applied by now."""
        if self._core is None:
            raise NoLeaderError
        while self._snapshot_task is not None:
            await asyncio.shield(self._snapshot_task)
        self._snapshot_task = self._loop.create_task(self._take_snapshot(self._core))
        await asyncio.shield(self._snapshot_task)

    async def _take_snapshot(self, core: Raft) -> None:
        self._snapshot_at = self._clock()
        counted, self._applied_bytes = self._applied_bytes, 0
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
            view = self.fsm.snapshot()
            in_thread = partial(self._loop.run_in_executor, None)
            begun: SnapshotWriter = await in_thread(self.store.snapshots.create, meta)
            writer = begun
            await self._write_slices(begun, view)
            await in_thread(begun.commit)
            writer = None
            if core.log.snapshot_index < index:
                first_kept = self._first_kept(core, index)
                core.compact(meta, first_kept)
                self.store.compact(first_kept)
        except OSError as error:
            self._applied_bytes += counted
            _log.error("raft: snapshot failed: index=%d error=%s", index, error)
        finally:
            if writer is not None:
                writer.abort()
            self._snapshot_task = None

    async def _write_slices(self, writer: SnapshotWriter, view: FsmSnapshot) -> None:
        pieces: list[bytes] = []
        size = 0
        deadline = time.perf_counter() + SLICE_SECONDS
        for chunk in view.chunks():
            pieces.append(chunk)
            size += len(chunk)
            if size >= _WRITE_PIECE:
                await self._loop.run_in_executor(None, writer.write, b"".join(pieces))
                pieces, size = [], 0
                deadline = time.perf_counter() + SLICE_SECONDS
            elif time.perf_counter() >= deadline:
                await asyncio.sleep(0)
                deadline = time.perf_counter() + SLICE_SECONDS
        await self._loop.run_in_executor(None, writer.write, b"".join(pieces))

    def _first_kept(self, core: Raft, index: int) -> int:
        """Keep a tail for slow followers: bounded in entries and in bytes."""
        low = max(index - self._trailing_logs + 1, core.log.first_index)
        high = index + 1
        while low < high:
            middle = (low + high) // 2
            if self.store.bytes_since(middle - 1) <= self._trailing_bytes:
                high = middle
            else:
                low = middle + 1
        return low

    async def user_restore(self, chunks: Iterable[bytes], index: int) -> None:
        """Replace the state by an archive's ``state.bin`` (``PUT /v1/snapshot``).

        ``index`` is the archive's. The result stands after everything logged;
        followers get it as a snapshot. Raises ``NoLeaderError``, ``ConsulError``.
        """
        await self.barrier()
        core = self._core
        if core is None:
            raise NoLeaderError
        while self._snapshot_task is not None:
            await asyncio.shield(self._snapshot_task)
        if core.leadership is None or self._installing:
            raise NoLeaderError
        self._installing = True
        try:
            self._drop_waiting(ConsulError("aborted by a snapshot restore"))
            where, configuration = core.applied_configuration()
            meta = SnapshotMeta(
                index=max(core.log.last_index, index) + 1,
                term=core.term,
                configuration=configuration,
                configuration_index=where,
            )
            pieces = list(chunks)
            await self._loop.run_in_executor(None, self._write_snapshot, meta, pieces)
            await self._durably(partial(self.store.reset, meta.index))
            self.fsm.restore(pieces)
            core.log.restore(meta.index, meta.term)
            core.snapshot = meta
            self._applied_bytes = 0
        except OSError as error:
            failure = ConsulError(f"raft: the snapshot cannot be written: {error}")
            self._fail(failure)
            raise failure from error
        finally:
            self._installing = False
            self._schedule()
        await self.barrier()


def _settle(future: asyncio.Future[Any], error: ConsulError) -> None:
    if not future.done():
        future.set_exception(error)
