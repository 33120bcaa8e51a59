"""One tree into one destination: a full pass, and then following changes.

A pass reads both sides and compares by content. Following asks blocking
queries over pieces of the tree (``buckets.py``) and writes what changed. Every
write is conditional; whatever is unexpected leads back to a full pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from pyconsul_client.errors import ApiError
from pyconsul_client.tool.journal import Journal

from .batches import MAX_OPERATIONS, Mark, Operation, batches, room, too_large
from .errors import RefusedError, SetupError
from .model import Entry, Held, Pair, Rules, overlap
from .plan import Delete, Filter, Plan, Write, plan, plan_changes, refusal
from .store import (
    Listing,
    Status,
    Store,
    status_of,
    status_value,
)

IN_FLIGHT = 3
MAX_PASSES = 5
"""Passes in a row that may find the destination changed under their hands."""
FEW = 16
"""Deletes up to which each key is asked for alone."""
NAMED = 5
"""Keys that a warning names."""


class Counters(msgspec.Struct, kw_only=True):
    """What a job has done so far; shown by the status page."""

    passes: int = 0
    changes: int = 0
    written: int = 0
    deleted: int = 0
    conflicts: int = 0
    refused_deletes: int = 0
    """Deletes that the last pass wanted and did not carry out."""
    skipped_locked: int = 0
    errors: int = 0
    source_keys: int = 0
    source_index: int = 0
    last_success: float = 0.0
    """Unix time."""
    last_error: str = ""
    following: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a job works; times in seconds."""

    status_dir: str
    dry_run: bool = False
    allow_loop: bool = False
    addressed: bool = False
    """Whether the source is another agent than the destination."""
    reconcile_s: float = 60.0
    block_s: int = 300
    settle: tuple[float, float] = (0.0, 0.0)
    """Least quiet and longest wait before changes are acted on."""


class Job:
    """Copies a pair; errors are ClientErrors."""

    def __init__(
        self,
        pair: Pair,
        rules: Rules,
        source: Store,
        destination: Store,
        settings: Settings,
        journal: Journal,
        *,
        progress: Callable[[str, int, int], None] | None = None,
        show: Callable[[str], None] = print,
    ) -> None:
        self.pair = pair
        self.rules = rules
        self.source = source
        self.destination = destination
        self.settings = settings
        self.counters = Counters()
        self.accept = Filter(pair, rules)
        self.known: dict[str, int] = {}
        """The source keys that take part, with their indexes."""
        self.index = 0
        self.journal = journal
        self._progress = progress
        self._show = show
        self._held: dict[str, Held] = {}
        self._status = Status()
        self._status_key = f"{settings.status_dir.strip('/')}/{pair.status_name}"
        self._datacenters = (pair.datacenter, "")
        self._warned: set[str] = set()

    @property
    def name(self) -> str:
        """The job in messages."""
        datacenter = self._datacenters[0]
        left = (self.pair.source or "/") + (f"@{datacenter}" if datacenter else "")
        right = f"{self.destination.agent.name} {self.pair.destination or '/'}"
        return f"{left} to {right}"

    async def check(self) -> None:
        """Raise SetupError for one cluster on both sides, and for a loop."""
        into = self.destination.agent.datacenter or await _datacenter(self.destination)
        given = self.pair.datacenter
        if not self.settings.addressed:
            if given == into or not given:
                raise SetupError("local datacenter cannot be the source datacenter")
            self._datacenters = (given, into)
        else:
            own = await _datacenter(self.source)
            self._datacenters = (given or own, into)
            if given == into and given != own:
                raise SetupError("local datacenter cannot be the source datacenter")
            if self._datacenters[0] == into and await self._same_leader():
                raise SetupError(
                    "local datacenter cannot be the source datacenter: "
                    "source and destination are one cluster"
                )
        if not self.settings.allow_loop:
            await self._check_loop()

    async def once(self) -> None:
        """Make the destination equal; raises RefusedError for refused deletes."""
        for _ in range(MAX_PASSES):
            if await self._pass():
                return
        raise ApiError(500, f"{self.name}: the destination keeps changing")

    async def _pass(self) -> bool:
        """Carry out one full pass; false when keys changed meanwhile."""
        pair = self.pair
        here, there, status, index = await asyncio.gather(
            self.source.tree(pair, source=True),
            self.destination.tree(pair, source=False),
            self.destination.status(self._status_key),
            self.source.kv_index(),
        )
        self._status = status
        self.index = here.index
        held = {entry.key: entry for entry in there.entries}
        found = plan(pair, self.rules, here.entries, held, self.accept)
        takes = self.accept.takes
        self.known = {e.key: e.modify_index for e in here.entries if takes(e.key)}
        self._held = {
            key: Held(entry.modify_index, bool(entry.session))
            for key, entry in held.items()
        }
        self._warn(found)
        if self.settings.dry_run:
            self._diff(found, here, held)
            return True
        counters = self.counters
        counters.passes += 1
        counters.source_keys = len(self.known)
        counters.source_index = index
        counters.skipped_locked = len(found.locked)
        deletes, refused = await self._confirm(found.deletes)
        clean = await self._carry_out(found.writes, deletes, here.index, index)
        if not clean:
            return False
        counters.refused_deletes = len(found.deletes) if refused else 0
        counters.last_success = time.time()
        if refused:
            raise RefusedError(f"{self.name}: {refused}")
        return True

    async def apply(
        self, changed: Sequence[Entry], removed: Sequence[str], index: int
    ) -> bool:
        """Carry out a few changes; false when a full pass is needed."""
        for entry in changed:
            if self.accept.takes(entry.key):
                self.known[entry.key] = entry.modify_index
        for key in removed:
            self.known.pop(key, None)
        found = plan_changes(
            self.pair, self.rules, changed, removed, self._held, self.accept
        )
        self._warn(found)
        deletes, refused = await self._confirm(found.deletes)
        top = max(self._status.source_index, index)
        if not await self._carry_out(found.writes, deletes, index, top):
            return False
        counters = self.counters
        counters.changes += len(changed) + len(removed)
        counters.source_keys = len(self.known)
        counters.source_index = top
        counters.last_success = time.time()
        if refused:
            counters.refused_deletes = len(found.deletes)
            self.journal.error(f"{self.name}: {refused}")
        # A key that is there again is copied by the pass.
        return refused != "" or len(deletes) == len(found.deletes)

    async def _confirm(self, deletes: list[Delete]) -> tuple[list[Delete], str]:
        """Return the deletes a proven leader of the source agrees to, or why none."""
        if not deletes:
            return [], ""
        pair, source = self.pair, self.source
        index = await source.kv_index()
        keys = [pair.to_source(delete.key) for delete in deletes]
        # Each alone, or a sample: a listing leaves out what the token may not
        # read, where a read of one key is refused.
        some = keys if len(keys) <= FEW else keys[:: len(keys) // FEW]
        try:
            there = await asyncio.gather(*map(source.exists, some))
        except ApiError as error:
            if error.status != 403:
                raise
            return [], f"refusing {len(keys)} deletes: the source may not be read"
        alive = {key for key, found in zip(some, there, strict=True) if found}
        left = len(self.known)
        if len(keys) > FEW:
            names = await self._names()
            alive |= names
            left = sum(map(self.accept.takes, names))
        confirmed = [
            delete
            for delete, key in zip(deletes, keys, strict=True)
            if key not in alive
        ]
        reason = refusal(
            pair,
            self.rules,
            deletes=len(confirmed),
            source_keys=left,
            destination_keys=len(self._held),
            source_index=index,
            last_index=self._status.source_index,
        )
        return ([], reason) if reason else (confirmed, "")

    async def _names(self) -> set[str]:
        root = self.pair.source
        if not root or root.endswith("/"):
            return await self.source.names(root)
        found = await self.source.names(f"{root}/")
        return found | {root} if await self.source.exists(root) else found

    async def _carry_out(
        self,
        writes: list[Write],
        deletes: list[Delete],
        last: int,
        source_index: int,
    ) -> bool:
        operations: list[Operation] = [w for w in writes if not too_large(w)]
        operations += deletes
        large = [w for w in writes if too_large(w)]
        total, clean = len(operations) + len(large), True
        mark = self._mark(last, source_index, force=total > 0)
        if not total and mark is None:
            return True
        groups = list(batches(operations))
        final: list[Operation] = []
        if groups and mark is not None and not large and room(groups[-1], mark):
            final = groups.pop()
        done = 0
        waiting = iter(groups)

        async def work() -> None:
            nonlocal done, clean
            for group in waiting:
                clean = await self._commit(group, None) and clean
                done += len(group)
                if self._progress:
                    self._progress(self.name, done, total)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(IN_FLIGHT, len(groups))):
                    workers.create_task(work())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # One is enough to try again.
        for write in large:
            clean = await self._write_large(write) and clean
        # The mark comes last: a crash before it leads to the same comparison.
        if clean and (final or mark):
            clean = await self._commit(final, mark)
        if self._progress and total > MAX_OPERATIONS:
            self._progress(self.name, total, total)
        return clean

    async def _commit(self, group: list[Operation], mark: Mark | None) -> bool:
        """Commit a transaction without what has changed; false when any had."""
        clean = True
        while group or mark:
            new, lost = await self.destination.commit(group, mark)
            if not lost:
                for operation in group:
                    if isinstance(operation, Delete):
                        self._held.pop(operation.key, None)
                        self.counters.deleted += 1
                    else:
                        self._held[operation.key] = Held(new.get(operation.key, 0))
                        self.counters.written += 1
                return clean
            if min(lost) >= len(group):
                raise ApiError(403, f"{self._status_key}: {next(iter(lost.values()))}")
            refused = next(iter(lost.values()))
            if "ermission denied" in refused:
                raise ApiError(403, refused)
            clean = False
            mark = None  # Not until a pass has nothing left to do.
            self.counters.conflicts += len(lost)
            group = [op for at, op in enumerate(group) if at not in lost]
        return clean

    async def _write_large(self, write: Write) -> bool:
        if not await self.destination.write_large(write):
            self.counters.conflicts += 1
            return False
        found = await self.destination.entries(write.key, exact=True)
        for entry in found.entries:
            self._held[entry.key] = Held(entry.modify_index, bool(entry.session))
        self.counters.written += 1
        return True

    def _mark(self, last: int, source_index: int, *, force: bool) -> Mark | None:
        old = self._status
        if not self.rules.allow_mass_delete:
            source_index = max(source_index, old.source_index)
        new = Status(
            last_replicated=last,
            source=self.pair.written[0],
            destination=self.pair.written[1],
            datacenter=self._datacenters[0],
            into=self._datacenters[1],
            source_index=source_index,
        )
        if not force and new == msgspec.structs.replace(old, source_index=source_index):
            return None
        self._status = new
        return Mark(self._status_key, status_value(new))

    def _warn(self, found: Plan) -> None:
        for keys, text in (
            (found.locked, "is locked at the destination: left alone"),
            (found.locks, "belongs to a lock or semaphore: not copied"),
        ):
            fresh = [key for key in keys if key not in self._warned]
            self._warned.update(fresh)
            for key in fresh[:NAMED]:
                self.journal.warn(f'"{key}" {text}')
            if len(fresh) > NAMED:
                self.journal.warn(f"and {len(fresh) - NAMED} more keys: {text}")

    def _diff(self, found: Plan, here: Listing, held: dict[str, Entry]) -> None:
        sizes = {e.key: len(e.value or "") * 3 // 4 for e in here.entries}
        lines = [(d.key, f"- {d.key}") for d in found.deletes]
        for write in found.writes:
            size = sizes[self.pair.to_source(write.key)]
            old = held.get(write.key)
            sign = "~" if old else "+"
            what = f"about {size} bytes, flags {write.flags}"
            lines.append((write.key, f"{sign} {write.key} ({what})"))
        lines += [(key, f"! {key} (locked)") for key in found.locked]
        self._show(f"# {self.name}: {len(lines)} to change, {found.unchanged} equal")
        for _, line in sorted(lines):
            self._show(line)
        limit = refusal(
            self.pair,
            self.rules,
            deletes=len(found.deletes),
            source_keys=len(self.known),
            destination_keys=len(held),
            source_index=1,
            last_index=0,
        )
        if limit:
            self._show(f"# {limit}")

    async def _same_leader(self) -> bool:
        here, there = await asyncio.gather(
            self.source.leader(), self.destination.leader()
        )
        return here == there

    async def _check_loop(self) -> None:
        """Look whether the source is itself copied from our destination."""
        pair = self.pair
        source, into = self._datacenters
        folder = self.settings.status_dir.strip("/") + "/"
        try:
            found = await self.source.entries(folder)
        except ApiError as error:
            if error.status == 403:
                return  # Their status keys are not ours to read.
            raise
        for entry in found.entries:
            status = status_of(entry)
            if (
                status.datacenter == into
                and status.into == source
                and overlap(status.destination.lstrip("/"), pair.source)
                and overlap(status.source.lstrip("/"), pair.destination)
            ):
                raise SetupError(
                    f'a loop: "{pair.source}" of {source} is itself replicated from '
                    f'"{status.source}" of {into} ({entry.key}); '
                    "-allow-loop if it no longer is"
                )


async def _datacenter(store: Store) -> str:
    try:
        return await store.datacenter()
    except ApiError as error:
        if error.status == 403:
            return ""  # The token may not ask: the checks do without.
        raise
