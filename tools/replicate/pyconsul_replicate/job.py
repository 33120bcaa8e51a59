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
from .guard import FEW, Guard, Sight
from .model import Entry, Held, Pair, Rules
from .origin import Origin
from .plan import Delete, Filter, Plan, Write, plan, plan_changes, refusal
from .report import Counters, Settings, Warner, differences, size
from .sides import check_loop, check_sides
from .store import Listing, Status, Store, status_value

IN_FLIGHT = 3
MAX_PASSES = 5
"""Passes in a row that may find the destination changed under their hands."""


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
        self._cluster = ""
        self._warn = Warner(journal, rules)
        self._left: set[str] = set()
        """Source keys that the filter left out when last seen."""
        self.guard = Guard(pair, rules, source, self.accept.takes)
        self.counters.behind_since = time.time()

    @property
    def name(self) -> str:
        """The job in messages."""
        datacenter = self._datacenters[0]
        left = (self.pair.source or "/") + (f"@{datacenter}" if datacenter else "")
        right = f"{self.destination.agent.name} {self.pair.destination or '/'}"
        return f"{left} to {right}"

    async def check(self) -> None:
        """Raise SetupError for one cluster on both sides, and for a loop."""
        settings = self.settings
        self._datacenters = await check_sides(
            self.pair, self.source, self.destination, addressed=settings.addressed
        )
        if self.rules.origin:
            try:
                self.accept.origin = Origin(*self._datacenters)
            except ValueError as error:
                raise SetupError(f"origin: {error}") from error
        await self.check_loop()
        self._cluster = await self.source.cluster()

    async def check_loop(self) -> None:
        """Raise SetupError when the source is copied from the destination.

        Asked again after a pass: of two that begin at once, one sees the other's
        status key.
        """
        settings = self.settings
        if not settings.allow_loop:
            await check_loop(
                self.pair, self.source, self._datacenters, settings.status_dir,
                marked=self.rules.origin,
            )  # fmt: skip

    async def verify(self) -> bool:
        """Compare with what leaders say; show the differences, true if none."""
        here, there, found = await self._compare(consistent=True)
        held = {entry.key: entry for entry in there.entries}
        self._tell(found, held)
        total = sum(size(entry.value) for entry in here.entries)
        if not self._changes(found):
            self._show(f"# {self.name}: {found.unchanged} keys equal, {total} bytes")
        return not self._changes(found)

    async def show(self) -> bool:
        """Show what a pass would change; true if nothing."""
        _, there, found = await self._compare()
        held = {entry.key: entry for entry in there.entries}
        self._tell(found, held)
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
        return not self._changes(found)

    async def once(self) -> None:
        """Make the destination equal; raises RefusedError for refused deletes."""
        for _ in range(MAX_PASSES):
            if await self._pass():
                return
        raise ApiError(500, f"{self.name}: the destination keeps changing")

    async def _pass(self) -> bool:
        """Carry out one full pass; false when keys changed meanwhile."""
        (here, there, found), status, index = await asyncio.gather(
            self._compare(),
            self.destination.status(self._status_key),
            self.source.kv_index(),
        )
        self._status = status
        self.index = here.index
        self._left = set(found.left)
        self._held = {
            entry.key: Held(
                entry.modify_index, bool(entry.session), self.accept.ours(entry)
            )
            for entry in there.entries
        }
        self._warn(found)
        counters = self.counters
        counters.passes += 1
        counters.source_keys = len(self.known)
        counters.source_index = index
        counters.skipped_locked = len(found.locked)
        due = self.guard.due(found.deletes, whole=True)
        deletes, refused = await self.guard.confirm(due, self._sight())
        clean = await self._carry_out(found.writes, deletes, here.index, index)
        if not clean:
            return False
        counters.refused_deletes = len(due) if refused else 0
        counters.waiting_deletes = self.guard.waiting
        counters.last_success = time.time()
        counters.caught_up(max(here.index, index))
        if refused:
            raise RefusedError(f"{self.name}: {refused}")
        return True

    async def apply(
        self, changed: Sequence[Entry], removed: Sequence[str], index: int
    ) -> bool:
        """Carry out a few changes; false when a full pass is needed."""
        if len(removed) > FEW:
            return False  # Its limit is for all that is gone, not for a piece.
        for entry in changed:
            if self.accept.takes(entry.key):
                self.known[entry.key] = entry.modify_index
                self.guard.back(self.pair.to_destination(entry.key))
        for key in removed:
            self.known.pop(key, None)
        gone = [key for key in removed if key not in self._left]
        found = plan_changes(
            self.pair, self.rules, changed, gone, self._held, self.accept
        )
        self._left.difference_update(removed, (entry.key for entry in changed))
        self._left.update(found.left)
        self._warn(found)
        due = self.guard.due(found.deletes, whole=False)
        deletes, refused = await self.guard.confirm(due, self._sight())
        top = max(self._status.source_index, index)
        if not await self._carry_out(found.writes, deletes, index, top):
            return False
        counters = self.counters
        counters.changes += len(changed) + len(removed)
        counters.source_keys = len(self.known)
        counters.source_index = top
        counters.last_success = time.time()
        if refused:
            counters.refused_deletes = len(due)
            self.journal.error(f"{self.name}: {refused}")
        counters.waiting_deletes = self.guard.waiting
        # A key that is there again is copied by the pass.
        return refused != "" or len(deletes) == len(due)

    async def _compare(
        self, *, consistent: bool = False
    ) -> tuple[Listing, Listing, Plan]:
        """Read both sides; return them and what makes them equal."""
        pair = self.pair
        here, there = await asyncio.gather(
            self.source.tree(pair, source=True, consistent=consistent),
            self.destination.tree(pair, source=False, consistent=consistent),
        )
        held = {entry.key: entry for entry in there.entries}
        takes = self.accept.takes
        self.known = {e.key: e.modify_index for e in here.entries if takes(e.key)}
        return here, there, plan(pair, self.rules, here.entries, held, self.accept)

    def _sight(self) -> Sight:
        return Sight(len(self.known), len(self._held), self._status, self._cluster)

    @staticmethod
    def _changes(found: Plan) -> int:
        return len(found.writes) + len(found.deletes)

    def _tell(self, found: Plan, held: dict[str, Entry]) -> None:
        count = self._changes(found)
        self._show(f"# {self.name}: {count} to change, {found.unchanged} equal")
        for line in differences(found, held):
            self._show(line)
        for key in sorted(found.locked):
            self._show(f"! {key} (locked)")
        for key in sorted(found.foreign):
            self._show(f"! {key} (the destination's own)")

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
        groups = list(batches(operations, self.destination.most))
        final: list[Operation] = []
        if (
            groups
            and mark is not None
            and not large
            and room(groups[-1], mark, self.destination.most)
        ):
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
        clean, deleted = True, 0
        while group or mark:
            new, lost = await self.destination.commit(group, mark)
            if not lost:
                for operation in group:
                    if isinstance(operation, Delete):
                        self._held.pop(operation.key, None)
                        self.guard.back(operation.key)
                        deleted += 1
                    else:
                        self._held[operation.key] = Held(new.get(operation.key, 0))
                        self._wrote(operation)
                self.guard.carried_out(deleted)
                self.counters.deleted += deleted
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
        self._wrote(write)
        return True

    def _wrote(self, write: Write) -> None:
        self.counters.written += 1
        self.counters.bytes += size(write.value)

    def _mark(self, last: int, source_index: int, *, force: bool) -> Mark | None:
        old = self._status
        if not self.rules.allow_mass_delete:
            source_index = max(source_index, old.source_index)
        # An identity that changed stays the old one until that is permitted.
        known = old.cluster and not self.rules.allow_mass_delete
        new = Status(
            last_replicated=last,
            source=self.pair.written[0],
            destination=self.pair.written[1],
            datacenter=self._datacenters[0],
            into=self._datacenters[1],
            source_index=source_index,
            cluster=old.cluster if known else self._cluster or old.cluster,
            origin=self.rules.origin,
        )
        if not force and new == msgspec.structs.replace(old, source_index=source_index):
            return None
        self._status = new
        return Mark(self._status_key, status_value(new))
