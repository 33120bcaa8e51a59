"""The pump of the Raft driver: from the core to disk, FSM and wire, and back.

Proposals that arrive while a sync runs form the next batch; the store's writer
thread reports back by ``call_soon_threadsafe``. Nothing here blocks the loop:
applying goes in slices of a few milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from pyconsul.net.log_store import LogStore
from pyconsul.net.raft_connections import Read, Receiver
from pyconsul.net.raft_snapshots import (
    SLICE_SECONDS,
    ChunkedFsm,
    Fsm,
    RaftSnapshots,
    SnapshotLimits,
    SnapshotSender,
)
from pyconsul.net.raft_waiting import Waiting
from pyconsul.raft.core import Raft
from pyconsul.raft.messages import (
    BARRIER,
    COMMAND,
    ConfigurationError,
    Entry,
    Message,
    NotLeaderError,
    Ready,
    SnapshotRequest,
)
from pyconsul.raft.replication import Leadership
from pyconsul.types.errors import ConsulError, NoLeaderError

_log = logging.getLogger(__name__)

MAX_SYNCS_QUEUED = 2
"""Batches given to the store at once: one being synced, one ready to go."""
INSTALL_TICK_S = 0.02
"""How often time passes for the core while a snapshot is being installed."""
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


class RaftPump:
    """The state and the moving parts; ``RaftDriver`` is what others call."""

    _loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        store: LogStore,
        fsm: Fsm,
        node_id: str,
        transport: Transport | None,
        limits: SnapshotLimits,
        clock: Callable[[], float],
    ) -> None:
        self.on_leader_change: list[Callable[[bool], None]] = []
        self.on_leader_known: list[Callable[[str], None]] = []
        """Called with the leader's address, or an empty text, when it changes."""
        self.is_leader = False
        """Leads, and has applied everything of earlier terms."""
        self.store = store
        self.fsm = fsm
        self.node_id = node_id
        self.core: Raft | None = None
        self._transport = transport
        self._snapshots = RaftSnapshots(self, store, fsm, limits, clock)
        self._clock = clock
        self._failed: ConsulError | None = None
        self._stalled: ConsulError | None = None
        """Why nothing can be proposed now: the disk is full."""
        self.waiting = Waiting(in_chunks=isinstance(fsm, ChunkedFsm))
        self._lead: Leadership | None = None
        self._applying: list[Entry] = []
        self._apply_at = 0
        self._in_flight: list[Ready] = []
        self._pump_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.addresses: dict[str, str] = {}
        """Where gossip saw servers last, by id. When all have moved at once, the
        configuration, which only a leader may change, has none of the addresses
        that would be needed to elect one."""
        self._callers: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._frozen = False
        self._leader_id = ""
        self._leader_address = ""
        if transport is not None:
            transport.attach(self)

    @property
    def leader_address(self) -> str:
        """``ip:port`` of the leader; empty when none is known."""
        core = self.core
        if core is None or self._failed is not None or not core.leader_id:
            return ""
        return self._address_of(core, core.leader_id)

    async def durably(
        self, start: Callable[[Callable[[OSError | None], None]], None]
    ) -> None:
        """Wait until the store has done what ``start`` begins."""
        done: asyncio.Future[OSError | None] = self._loop.create_future()

        def note(error: OSError | None) -> None:
            if not done.done():
                done.set_result(error)

        start(lambda error: self._call_on_loop(note, error))
        if (error := await done) is not None:
            raise error

    def barrier(self) -> asyncio.Future[object]:
        """Resolve once everything proposed before is applied."""
        return self._propose_now(lambda core: core.propose(b"", BARRIER))

    def _propose_now(self, start: Callable[[Raft], int]) -> asyncio.Future[object]:
        future: asyncio.Future[object] = self._loop.create_future()
        core = self.core
        if (broken := self._failed or self._stalled) is not None:
            future.set_exception(broken)
            return future
        if core is None or core.leadership is None:
            future.set_exception(NoLeaderError())
            return future
        self._flush_batch(core)
        core.tick(self._clock())
        try:
            self.waiting.proposed[start(core)] = future
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
        batch = self.waiting.take_batch(core.log.last_index + 1)
        if not batch.commands:
            return
        try:
            first = core.propose_many(batch.commands, extensions=batch.extensions)
        except NotLeaderError:
            batch.fail(NoLeaderError())
            return
        self.waiting.batch_proposed(first, batch)

    def _pump(self) -> None:
        """Move everything that can move, for one slice of time."""
        self._pump_scheduled = False
        core = self.core
        if core is None or self._failed is not None:
            return
        if self._snapshots.installing:
            self._send(core.take_messages())
            self._arm_timer(core, at_least=INSTALL_TICK_S)
            return
        deadline = time.perf_counter() + SLICE_SECONDS
        while True:
            if self.waiting.batch and len(self._in_flight) < MAX_SYNCS_QUEUED:
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
        if ready.reads:
            self.waiting.confirm(ready.reads)
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

    def watch_room(self) -> None:
        """Have the store say when its disk is full."""
        self.store.on_full(partial(self._call_on_loop, self._on_full))

    def _on_full(self, error: OSError | None) -> None:
        """Stop proposing while the disk is full; ``None``: go on.

        What was submitted waits in the store, as for a slow disk, so its outcome
        is open; but nobody is kept waiting for it. A leader lets others lead, and
        nobody stands for election who could not keep its own vote. A lone server
        leads on: it has nobody to fall behind, and reads need no disk.
        """
        core = self.core
        if core is None or self._failed is not None:
            return
        if error is None:
            self._stalled = None
            self._timer_at = None
            self.schedule()
            return
        self._stalled = ConsulError(f"raft: the log cannot be written: {error}")
        lead = core.leadership
        if lead is None or not lead.alone():
            core.step_down()
        self.waiting.fail_after(core.log.committed, self._stalled)
        self.schedule()

    def _let_time_pass(self, core: Raft) -> None:
        if self._stalled is None or core.leadership is not None:
            core.tick(self._clock())

    def _apply(self, core: Raft, deadline: float) -> None:
        entries = self._applying
        at = self._apply_at
        stop = len(entries)
        size = 0
        apply = self.fsm.apply
        waiting = self.waiting.proposed
        while at < stop:
            entry = entries[at]
            at += 1
            result: object = None
            if entry.type == COMMAND:
                size += len(entry.data)
                try:
                    if entry.extensions:
                        result = self._apply_chunk(entry)
                    else:
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
        self._snapshots.applied_bytes += size
        self._apply_at = at
        core.applied_to(entries[at - 1].index)
        self.waiting.applied(entries[at - 1].index)
        if at == stop:
            self._applying = []
        self._release_reads()
        self._snapshots.maybe_take(core)

    def _apply_chunk(self, entry: Entry) -> object:
        if isinstance(self.fsm, ChunkedFsm):
            return self.fsm.apply_chunk(
                entry.index, entry.term, entry.data, entry.extensions
            )
        return ConsulError("this state machine takes no chunks")

    def _release_reads(self) -> None:
        if self.core is not None:
            self.waiting.release_reads(self.core.log.applied)

    def _note_leadership(self, core: Raft) -> None:
        if core.leadership is not self._lead:
            if self._lead is not None:
                lost = ConsulError("leadership lost while committing log")
                self.waiting.fail_uncommitted(core.log, self._lead.term, lost)
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

    def drop_waiting(self, error: ConsulError) -> None:
        """Fail what waits: with ``error``, or as never proposed."""
        self.waiting.fail_all(error, self._failed or NoLeaderError())

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

    def _arm_timer(self, core: Raft, at_least: float = 0.0) -> None:
        due = core.next_deadline()
        if due == self._timer_at and (self._timer is not None or due is None):
            return
        self._timer_at = due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        idle = self._failed is not None or (
            self._stalled is not None and core.leadership is None
        )
        if due is not None and not idle:
            delay = max(due - self._clock(), at_least)
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = None
        if self.core is not None and self._failed is None:
            self._let_time_pass(self.core)
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
        if seen := self.addresses.get(server_id):
            return seen
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
        core = self.core
        if core is not None:
            for server in core.configuration.servers:
                if self._address_of(core, server.id) == address:
                    return server.id
        return ""

    async def _install(self, ready: Ready, snapshot: SnapshotRequest) -> None:
        if await self._snapshots.install(ready, snapshot) and self.core is not None:
            self.core.persisted(ready)
            self._send(ready.after_persist)
            self._pump()
