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
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pyconsul.net.log_store import LogStore
from pyconsul.net.raft_opening import Opening, make_core, open_store
from pyconsul.net.raft_snapshots import (
    SLICE_SECONDS,
    Fsm,
    RaftSnapshots,
    SnapshotLimits,
    SnapshotSender,
)
from pyconsul.net.raft_status import info_section, raft_stats
from pyconsul.net.raft_transport import Read, Receiver
from pyconsul.raft.core import Raft
from pyconsul.raft.messages import (
    BARRIER,
    COMMAND,
    NONVOTER,
    Configuration,
    ConfigurationError,
    Entry,
    Message,
    NotLeaderError,
    Peer,
    Ready,
    Settings,
    SnapshotRequest,
)
from pyconsul.raft.replication import Leadership
from pyconsul.types.errors import ConsulError, NoLeaderError
from pyconsul.types.operations import RaftStats

_log = logging.getLogger(__name__)

MAX_SYNCS_QUEUED = 2
"""Batches given to the store at once: one being synced, one ready to go."""
MAX_CALLERS = 64
"""Addresses remembered of servers that sent messages."""


class Transport(SnapshotSender, Protocol):
    """Carries messages to other servers; losing some is allowed."""

    def attach(self, receiver: Receiver) -> None:
        """Name who takes the messages."""
        ...

    def send(self, address: str, message: Message) -> None:
        """Send without blocking; what cannot be sent is dropped."""
        ...

    def refuse_waiting(self, reason: str) -> None:
        """Answer every request that still waits with an error."""
        ...


class RaftDriver:
    """One server's Raft: see ``docs/design.md`` for the names others use.

    ``bootstrap`` makes an empty log a cluster of this one voter; without it an
    empty server waits for a leader, or for ``bootstrap()``. ``peers_file`` is
    ``raft/peers.json``, if recovery is offered. Limits are entries and bytes of
    log; ``snapshot_interval`` is in seconds.
    """

    def __init__(
        self,
        store: LogStore,
        fsm: Fsm,
        node_id: str,
        address: str,
        *,
        bootstrap: bool = True,
        peers_file: Path | None = None,
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
        self.on_leader_known: list[Callable[[str], None]] = []
        """Called with the leader's address, or an empty text, when it changes."""
        self.is_leader = False
        """Leads, and has applied everything of earlier terms."""
        self.store = store
        self.fsm = fsm
        self.node_id = node_id
        self.address = address
        self._transport = transport
        self._opening = Opening(
            node_id=node_id,
            address=address,
            bootstrap=bootstrap,
            peers_file=peers_file,
            settings=settings or Settings(),
            rng=rng or random.Random(),
        )
        self._snapshots = RaftSnapshots(
            self,
            store,
            fsm,
            SnapshotLimits(
                threshold=snapshot_threshold,
                threshold_bytes=snapshot_bytes,
                interval_s=snapshot_interval,
                trailing_logs=trailing_logs,
                trailing_bytes=trailing_bytes,
            ),
            clock,
        )
        self._clock = clock
        self.core: Raft | None = None
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
        self._in_flight: list[Ready] = []
        self._pump_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._frozen = False
        self._leader_id = ""
        self._leader_address = ""
        if transport is not None:
            transport.attach(self)

    # --- life ---

    async def start(self) -> None:
        """Open the store, restore the newest snapshot, begin.

        Raises ``CorruptLogError`` or ``StartError``. The rest of the log is
        applied once committed, which a lone voter does at once.
        """
        self._loop = asyncio.get_running_loop()
        found = await open_store(self.store, self._opening, self.durably)
        if found.snapshot is not None:
            self.fsm.restore(self.store.snapshots.read(found.snapshot))
        gc.collect()
        gc.freeze()
        now = self._clock()
        self.core = make_core(self.store, found, self._opening, now)
        self.core.tick(now)
        self._pump()

    async def stop(self) -> None:
        """Finish what is on its way to the disk; fail what still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._snapshots.stop()
        self.fail(ConsulError("raft is shutting down"))
        await asyncio.get_running_loop().run_in_executor(None, self.store.close)

    async def durably(
        self, start: Callable[[Callable[[OSError | None], None]], None]
    ) -> None:
        """Wait until the store has done what ``start`` begins."""
        done: asyncio.Future[OSError | None] = self._loop.create_future()

        def settle(error: OSError | None) -> None:
            if not done.done():
                done.set_result(error)

        start(lambda error: self._call_on_loop(settle, error))
        if (error := await done) is not None:
            raise error

    # --- what others call ---

    def propose(self, command: bytes) -> asyncio.Future[object]:
        """Replicate a command; the future gives what the FSM returned.

        Fails with ``NoLeaderError``, with the ``ConsulError`` the FSM returned,
        or with one that says why the outcome is unknown.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        if self._failed is not None:
            future.set_exception(self._failed)
        elif self.core is None or self.core.leadership is None:
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
        core = self.core
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
        self.schedule()
        return future

    def change_membership(
        self, change: Callable[[Configuration], Configuration]
    ) -> asyncio.Future[object]:
        """Change the configuration by one server, e.g. ``c.without(id)``."""
        return self._propose_now(
            lambda core: core.change_configuration(change(core.configuration))
        )

    def add_voter(self, server_id: str, address: str) -> asyncio.Future[object]:
        """Make a server a voter, or note its new address."""
        peer = Peer(id=server_id, address=address)
        return self.change_membership(lambda c: c.with_server(peer))

    def add_nonvoter(self, server_id: str, address: str) -> asyncio.Future[object]:
        """Add a server that gets the log and does not vote.

        A voter of that id stays one and only gets the address.
        """

        def change(old: Configuration) -> Configuration:
            known = old.get(server_id)
            suffrage = known.suffrage if known else NONVOTER
            return old.with_server(
                Peer(id=server_id, address=address, suffrage=suffrage)
            )

        return self.change_membership(change)

    def promote(self, server_id: str) -> asyncio.Future[object]:
        """Let a member vote; fails with ``ConsulError`` when it is none."""
        return self.change_membership(
            lambda c: c.with_server(
                Peer(id=server_id, address=_member(c, server_id).address)
            )
        )

    def demote(self, server_id: str) -> asyncio.Future[object]:
        """Take a member's vote; fails with ``ConsulError`` when it is none."""
        return self.change_membership(
            lambda c: c.with_server(
                Peer(
                    id=server_id,
                    address=_member(c, server_id).address,
                    suffrage=NONVOTER,
                )
            )
        )

    def remove_server(self, server_id: str) -> asyncio.Future[object]:
        """Remove a member; fails with ``ConsulError`` when it is none."""
        return self.change_membership(lambda c: c.without(_member(c, server_id).id))

    def bootstrap(self, configuration: Configuration) -> None:
        """Begin a cluster on an empty log; raises ``ConsulError``.

        Every server that bootstraps must be given the same configuration.
        """
        core = self.core
        if core is None or self._failed is not None:
            raise self._failed or ConsulError("raft is not started")
        core.tick(self._clock())
        try:
            core.bootstrap(configuration)
        except ConfigurationError as error:
            raise ConsulError(str(error)) from error
        self.schedule()

    @property
    def has_state(self) -> bool:
        """Whether this server has any log, snapshot or term."""
        core = self.core
        return core is not None and bool(
            core.log.last_index or core.log.snapshot_index or core.term
        )

    @property
    def has_leader_contact(self) -> bool:
        """Whether this server leads or has ever heard a leader since its start."""
        core = self.core
        return core is not None and (
            core.leadership is not None or core.last_leader_contact is not None
        )

    def transfer_leadership(self, target: str = "") -> str:
        """Hand over to another voter; return its id. Raises ``ConsulError``."""
        core = self.core
        if core is None:
            raise NoLeaderError
        core.tick(self._clock())
        try:
            chosen = core.transfer_leadership(target)
        except NotLeaderError:
            raise NoLeaderError from None
        except ConfigurationError as error:
            raise ConsulError(str(error)) from error
        self.schedule()
        return chosen

    @property
    def leader_address(self) -> str:
        """``ip:port`` of the leader; empty when none is known."""
        core = self.core
        if core is None or self._failed is not None or not core.leader_id:
            return ""
        return self._address_of(core, core.leader_id)

    @property
    def term(self) -> int:
        """The current term; 0 before the start."""
        return self.core.term if self.core else 0

    @property
    def last_log_index(self) -> int:
        """The index of the last entry, committed or not."""
        return self.core.log.last_index if self.core else 0

    @property
    def last_log_term(self) -> int:
        """The term of the last entry."""
        return self.core.log.last_term if self.core else 0

    @property
    def configuration(self) -> Configuration:
        """The latest membership."""
        return self.core.configuration if self.core else Configuration()

    @property
    def configuration_index(self) -> int:
        """The index the latest membership was written at."""
        return self.core.configuration_index if self.core else 0

    def has_lease(self) -> bool:
        """Tell whether default reads may be answered without asking a quorum."""
        core = self.core
        return self.is_leader and core is not None and core.has_lease(self._clock())

    def peers(self) -> list[str]:
        """Return the addresses of all servers of the cluster."""
        return [s.address for s in self.configuration.servers]

    def last_contact_ms(self) -> int:
        """Return milliseconds since the leader was heard; 0 on the leader."""
        core = self.core
        if core is None or core.leadership is not None:
            return 0
        contact = core.last_leader_contact
        return 0 if contact is None else int((self._clock() - contact) * 1000)

    def raft_stats(self) -> RaftStats:
        """Return the answer to ``Status.RaftStats``."""
        core = self.core
        if core is None:
            return RaftStats(last_contact="never")
        return raft_stats(core, self.last_contact_ms())

    def stats(self) -> dict[str, str]:
        """Return the ``raft`` section of ``consul info``."""
        core = self.core
        if core is None:
            return {"state": "Shutdown"}
        return info_section(
            core,
            contact_ms=self.last_contact_ms(),
            pending=len(self._applying) - self._apply_at,
            stopped=self._failed is not None,
        )

    # --- the pump ---

    def _propose_now(self, start: Callable[[Raft], int]) -> asyncio.Future[object]:
        future: asyncio.Future[object] = self._loop.create_future()
        core = self.core
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
        self.schedule()
        return future

    def schedule(self) -> None:
        """Have the pump run in the loop's next turn."""
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
        core = self.core
        if core is None or self._failed is not None:
            return
        if self._snapshots.installing:
            self._send(core.take_messages())
            self._arm_timer(core)
            return
        deadline = time.perf_counter() + SLICE_SECONDS
        while True:
            if self._batch and len(self._in_flight) < MAX_SYNCS_QUEUED:
                self._flush_batch(core)
            ready = core.ready()
            if ready is not None:
                self._handle(ready)
                if self._snapshots.installing or self._failed is not None:
                    break
            self._note_leadership(core)
            if self._applying:
                self._apply(core, deadline)
            elif ready is None:
                break
            if time.perf_counter() >= deadline:
                self.schedule()
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
            self._snapshots.installing = True
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
        core = self.core
        if core is None or self._failed is not None:
            return
        self._in_flight.remove(ready)
        if error is not None:
            _log.error("raft: stopped: error=%s", error)
            self.fail(ConsulError(f"raft: the log cannot be written: {error}"))
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
                self._snapshots.applied_bytes += len(entry.data)
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
        self._snapshots.maybe_take(core)

    def _release_reads(self) -> None:
        core = self.core
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
                self._drop_uncommitted(core, self._lead.term)
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
        if core.leader_id != self._leader_id or (
            self._leader_id and not self._leader_address
        ):
            self._leader_id = core.leader_id
            self._tell_known(self.leader_address)

    def _tell_known(self, address: str) -> None:
        if address == self._leader_address:
            return
        self._leader_address = address
        for callback in list(self.on_leader_known):
            try:
                callback(address)
            except Exception:
                _log.exception("raft: a leader callback failed")

    def _tell_leader(self, leads: bool) -> None:
        if leads == self.is_leader:
            return
        self.is_leader = leads
        for callback in list(self.on_leader_change):
            try:
                callback(leads)
            except Exception:
                _log.exception("raft: a leader callback failed")

    def _drop_uncommitted(self, core: Raft, term: int) -> None:
        """Fail what the lost term has not committed; the rest will be applied."""
        log = core.log
        kept = {
            index: future
            for index, future in self._waiting.items()
            if index <= log.committed and log.term(index) == term
        }
        for index in kept:
            del self._waiting[index]
        self.drop_waiting(ConsulError("leadership lost while committing log"))
        self._waiting.update(kept)

    def drop_waiting(self, error: ConsulError) -> None:
        """Fail what waits: with ``error``, or as never proposed."""
        unsent: list[asyncio.Future[Any]] = [
            *self._batch_futures,
            *self._reads.values(),
            *(future for _, future in self._confirmed),
        ]
        proposed = list(self._waiting.values())
        self._waiting.clear()
        self._batch.clear()
        self._batch_futures.clear()
        self._reads.clear()
        self._confirmed.clear()
        for future in proposed:
            _settle(future, error)
        for future in unsent:
            _settle(future, self._failed or NoLeaderError())

    def fail(self, error: ConsulError) -> None:
        """Stop for good: everything that waits or comes fails with ``error``."""
        if self._failed is not None:
            return
        self._failed = error
        if self.core is not None:
            self.core.step_down()
        self.drop_waiting(error)
        self._lead = None
        self._tell_leader(False)
        self._tell_known("")
        if self._transport is not None:
            self._transport.refuse_waiting(str(error))
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
        if self.core is not None and self._failed is None:
            self.core.tick(self._clock())
            self._pump()

    # --- messages between servers ---

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, messages: list[Message]) -> None:
        core = self.core
        transport = self._transport
        if transport is None or core is None:
            return
        for message in messages:
            address = self._address_of(core, message.target)
            if isinstance(message, SnapshotRequest):
                self._start(self._snapshots.send(transport, address, message))
            elif message.tag or address:
                transport.send(address, message)

    def _address_of(self, core: Raft, server_id: str) -> str:
        peer = core.configuration.get(server_id)
        return peer.address if peer else self._callers.get(server_id, "")

    def receive(self, message: Message, address: str) -> None:
        """Take a message of the server at ``address``.

        A server that has just joined knows its leader by this address only.
        Raises ``ConsulError`` when this server has stopped.
        """
        core = self.core
        if core is None or self._failed is not None:
            raise self._failed or ConsulError("raft is not started")
        if self._callers.get(message.sender) != address:
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
            self._callers[message.sender] = address
        core.step(message, self._clock())
        self.schedule()

    step = receive

    async def receive_snapshot(
        self, message: SnapshotRequest, address: str, size: int, read: Read
    ) -> None:
        """Take a leader's snapshot of ``size`` bytes; see ``raft_snapshots.py``.

        Raises ``ConsulError`` when it cannot be taken now.
        """
        if self.core is None or self._failed is not None:
            raise self._failed or ConsulError("raft is not started")
        await self._snapshots.receive(message, address, size, read)

    def appends_lost(self, server_id: str, *, retry: bool) -> None:
        """Probe a follower anew: the connection its appends went by is gone."""
        if self.core is not None:
            self.core.appends_lost(server_id, retry=retry)
            self.schedule()

    def id_of(self, address: str) -> str:
        """Return the id of the member at ``address``; empty when unknown."""
        for server in self.configuration.servers:
            if server.address == address:
                return server.id
        return ""

    async def _install(self, ready: Ready, snapshot: SnapshotRequest) -> None:
        if await self._snapshots.install(ready, snapshot) and self.core is not None:
            self.core.persisted(ready)
            self._send(ready.after_persist)
            self._pump()

    # --- snapshots ---

    async def snapshot(self) -> None:
        """Take a snapshot of everything applied by now."""
        await self._snapshots.take()

    async def user_restore(self, chunks: Iterable[bytes], index: int) -> None:
        """Replace the state by an archive's ``state.bin`` (``PUT /v1/snapshot``).

        ``index`` is the archive's. The result stands after everything logged;
        followers get it as a snapshot. Raises ``NoLeaderError``, ``ConsulError``.
        """
        await self._snapshots.user_restore(chunks, index)


def _member(configuration: Configuration, server_id: str) -> Peer:
    found = configuration.get(server_id)
    if found is None:
        raise ConfigurationError(f"{server_id} is not a member")
    return found


def _settle(future: asyncio.Future[Any], error: ConsulError) -> None:
    if not future.done():
        future.set_exception(error)
