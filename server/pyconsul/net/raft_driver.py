"""One server's Raft as others call it: proposals, reads, membership, life.

The moving parts are in ``raft_pump.py``, snapshots in ``raft_snapshots.py``, the
start in ``raft_opening.py``. A client that goes away cancels only its own
future. When the disk fails, waiting proposals fail with its error and this
server stops leading until restarted.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from pyconsul.net.log_store import LogStore
from pyconsul.net.raft_opening import Opening, make_core, open_store
from pyconsul.net.raft_pump import RaftPump, Transport
from pyconsul.net.raft_snapshots import (
    Fsm,
    FsmSnapshot,
    SnapshotLimits,
)
from pyconsul.net.raft_status import info_section, raft_stats
from pyconsul.raft.messages import (
    NONVOTER,
    Configuration,
    ConfigurationError,
    NotLeaderError,
    Peer,
    Settings,
    SnapshotMeta,
)
from pyconsul.raft.wire import MAX_COMMAND_BYTES
from pyconsul.types.errors import ConsulError, NoLeaderError
from pyconsul.types.operations import RaftStats


class RaftDriver(RaftPump):
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
        limits = SnapshotLimits(
            threshold=snapshot_threshold,
            threshold_bytes=snapshot_bytes,
            interval_s=snapshot_interval,
            trailing_logs=trailing_logs,
            trailing_bytes=trailing_bytes,
        )
        super().__init__(store, fsm, node_id, transport, limits, clock)
        self.address = address
        self._opening = Opening(
            node_id=node_id,
            address=address,
            bootstrap=bootstrap,
            peers_file=peers_file,
            settings=settings or Settings(),
            rng=rng or random.Random(),
        )

    def limit_snapshots(
        self, *, threshold: int, interval: float, trailing_logs: int
    ) -> None:
        """Take new limits (reload); ``interval`` is in seconds."""
        self._snapshots.limits = msgspec.structs.replace(
            self._snapshots.limits,
            threshold=threshold,
            interval_s=interval,
            trailing_logs=trailing_logs,
        )

    # --- life ---

    async def start(self) -> None:
        """Open the store, restore the newest snapshot, begin.

        Raises ``CorruptLogError`` or ``StartError``. The rest of the log is
        applied once committed, which a lone voter does at once.
        """
        self._loop = asyncio.get_running_loop()
        self.watch_room()
        found = await open_store(self.store, self._opening, self.durably)
        if found.snapshot is not None:
            # Gossip goes on already: a silent server would be suspected.
            take = await self._snapshots.prepared(found.snapshot)
            self._snapshots.replace_state(take)
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

    # --- what others call ---

    def propose(self, command: bytes) -> asyncio.Future[object]:
        """Replicate a command; the future gives what the FSM returned.

        Fails with ``NoLeaderError``, with the ``ConsulError`` the FSM returned,
        or with one that says why the outcome is unknown.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        if (broken := self._failed or self._stalled) is not None:
            future.set_exception(broken)
        elif self.core is None or self.core.leadership is None:
            future.set_exception(NoLeaderError())
        elif len(command) > MAX_COMMAND_BYTES:
            future.set_exception(
                ConsulError(
                    f"command of {len(command)} bytes exceeds the limit of "
                    f"{MAX_COMMAND_BYTES} bytes of a Raft entry"
                )
            )
        else:
            self.waiting.batch.append(command)
            self.waiting.batch_futures.append(future)
            if not self._pump_scheduled:
                self._pump_scheduled = True
                self._loop.call_soon(self._pump)
        return future

    def verify_leader(self) -> asyncio.Future[None]:
        """Resolve once a quorum confirmed this leader and reads are current."""
        future: asyncio.Future[None] = self._loop.create_future()
        core = self.core
        if self._failed is not None:
            future.set_exception(self._failed)
            return future
        if core is not None:
            self._let_time_pass(core)
        if core is None or core.leadership is None:
            future.set_exception(NoLeaderError())
            return future
        if core.leadership.alone() and self.is_leader:
            # Every answered write is applied already; nobody else can write.
            future.set_result(None)
            return future
        core.read_index(self.waiting.add_read(future))
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

    @property
    def applied_index(self) -> int:
        """The index up to which the FSM has applied the log."""
        return 0 if self.core is None else self.core.log.applied

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

    # --- snapshots ---

    async def snapshot(self) -> None:
        """Take a snapshot of everything applied by now."""
        await self._snapshots.take()

    @property
    def on_restored(self) -> list[Callable[[], None]]:
        """Called when a leader's snapshot or an archive replaced the state."""
        return self._snapshots.on_restored

    def view(self) -> tuple[SnapshotMeta, FsmSnapshot]:
        """Return everything applied by now, and what it stands for.

        Raises ``NoLeaderError`` before the first entry.
        """
        core = self.core
        term = core.log.term(core.log.applied) if core is not None else None
        if core is None or term is None:
            raise NoLeaderError
        where, configuration = core.applied_configuration()
        meta = SnapshotMeta(
            index=core.log.applied,
            term=term,
            configuration=configuration,
            configuration_index=where,
        )
        return meta, self.fsm.snapshot()

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
