"""One tree at two sides and written at both: passes, and following both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

import msgspec

from pyconsul_client.errors import ApiError, ClientError
from pyconsul_client.tool.journal import Journal

from .carry import Carrier, Unit, name_at
from .errors import OvertakenError, RefusedError
from .guard import Guard, Sight
from .ledger import Ledger
from .merge import SIDES, Merge, Remove, Rows, Side, Watched, merge, other
from .model import CONFLICT_DIR, Pair, Rules
from .plan import Delete, Filter
from .report import NAMED, Counters, Settings, size
from .sides import check_loop, check_sides
from .store import Listing, Status, Store, listing

MAX_PASSES = 20
"""Comparisons in a row that may find something changed under their hands."""
EARLY_S = 0.2
ECHO_S = 0.25
"""How long a watch may take to tell of what was written here."""
News = asyncio.Queue[tuple[Side, Listing] | ClientError]
_HELD = "is locked at one side and differs: left alone"
_OPEN = "changed at both sides: left alone"


class TwoWay:
    """Keeps a pair equal in both directions; errors are ClientErrors.

    ``policy`` is one of ``merge.POLICIES``.
    """

    def __init__(
        self,
        pair: Pair,
        rules: Rules,
        source: Store,
        destination: Store,
        settings: Settings,
        journal: Journal,
        *,
        policy: str,
        progress: Callable[[str, int, int], None] | None = None,
        show: Callable[[str], None] = print,
    ) -> None:
        self.pair = pair
        self.source = source
        self.destination = destination
        self.settings = settings
        self.counters = Counters(behind_since=time.time())
        self.journal = journal
        self._rules = rules
        self._stores = (source, destination)
        self._policy = policy
        self._progress = progress
        self._show = show
        self._accept = Filter(pair, rules)
        self._back = msgspec.structs.replace(
            pair, source=pair.destination, destination=pair.source
        )
        # The guard of a side decides on its deletes, by the word of the other.
        self._guards = (
            Guard(self._back, rules, destination, self._accept.governs),
            Guard(pair, rules, source, self._accept.takes),
        )
        self._datacenters = (pair.datacenter, "")
        self._ledger = self._make_ledger(("", ""))
        self._watched = Watched()
        self._listings: tuple[Listing, Listing] | None = None
        """What the next comparison is of; ``None``: to be read."""
        self._told: set[tuple[str, str]] = set()

    @property
    def name(self) -> str:
        """The job in messages."""
        return f"{self._place(0)} and {self._place(1)}"

    def _place(self, side: Side) -> str:
        root = (self.pair.source, self.pair.destination)[side] or "/"
        where = self._datacenters[side] or self._stores[side].agent.name
        return f"{root}@{where}"

    async def check(self) -> None:
        """Raise SetupError for one cluster on both sides, and for a loop."""
        self._datacenters = await check_sides(
            self.pair, *self._stores, addressed=self.settings.addressed
        )
        here, there = [await store.cluster() for store in self._stores]
        self._ledger = self._make_ledger((here, there))
        await self.check_loop()

    async def check_loop(self) -> None:
        """Raise SetupError when something else copies between these trees."""
        if self.settings.allow_loop:
            return
        look = partial(
            check_loop, status_dir=self.settings.status_dir, own=self._ledger.key
        )
        here, there = self._datacenters
        await look(self.pair, self.source, (here, there))
        await look(self._back, self.destination, (there, here))

    def _make_ledger(self, clusters: tuple[str, str]) -> Ledger:
        return Ledger(
            self.pair, self._rules, self._stores, self.settings.status_dir,
            self._datacenters, clusters,
        )  # fmt: skip

    # -- looking ----------------------------------------------------------

    async def verify(self) -> bool:
        """Compare with what leaders say; show the differences, true if none."""
        rows, found = await self._compare()
        self._tell(found)
        total = sum(size(entry.value) for entry in rows[0].values())
        same = not (found.changes or found.open or found.held)
        if same:
            self._show(f"# {self.name}: {found.unchanged} keys equal, {total} bytes")
        return same

    async def show(self) -> bool:
        """Show what a pass would change; true if nothing."""
        _, found = await self._compare()
        self._tell(found)
        return not (found.changes or found.open)

    async def _compare(self) -> tuple[Rows, Merge]:
        if why := await self._ledger.load():
            self._show(f"# {self.name}: {why}: nothing is deleted")
        rows = self._rows(await self._read())
        return rows, self._merge(rows, Watched())

    def _merge(self, rows: Rows, watched: Watched) -> Merge:
        facts = self._ledger.facts(0), self._ledger.facts(1)
        return merge(rows, facts, self._policy, watched, delete=self._rules.delete)

    def _tell(self, found: Merge) -> None:
        self._show(f"# {self.name}: {found.changes} to change, {found.unchanged} equal")
        lines: list[tuple[str, str]] = []
        for copy in chain(*found.copies):
            mark = "~" if copy.index else "+"
            text = f"{size(copy.entry.value)} bytes, flags {copy.entry.flags}"
            text += ", a conflict" if copy.loser else ""
            name = name_at(self.pair, copy.side, copy.key)
            line = f"{mark} {name} ({text}) at {self._place(copy.side)}"
            lines.append((copy.key, line))
        for remove in chain(*found.removes):
            name = name_at(self.pair, remove.side, remove.key)
            lines.append((remove.key, f"- {name} at {self._place(remove.side)}"))
        lines += [(key, f"! {key} (changed at both sides)") for key in found.open]
        lines += [(key, f"! {key} (locked)") for key in found.held]
        for _, line in sorted(lines):
            self._show(line)

    # -- a pass -----------------------------------------------------------

    async def once(self) -> None:
        """Make both sides equal; raises RefusedError for what was refused."""
        self._listings = None
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(MAX_PASSES):
            if await self._pass():
                return
            self._listings = None
        raise ApiError(500, f"{self.name}: both sides keep changing")

    async def _pass(self) -> bool:
        """Carry out one comparison; false when something changed meanwhile."""
        ledger, counters = self._ledger, self.counters
        before = ledger.marks
        if why := await ledger.load():
            self.journal.warn(
                f"{self.name}: {why}: both sides are compared anew, and what one of "
                "them lacks is copied, not deleted"
            )
        # Facts and versions must be of one moment: newer facts would tell of older
        # versions that the other side has taken them in, and older facts would take
        # for a user's what another instance copied, one that crashed included.
        if self._listings is None or ledger.marks != before:
            before = ledger.marks
            self._listings = await self._read()
            await ledger.load()
            if ledger.marks != before:
                return False
        rows = self._rows(self._listings)
        found = self._merge(rows, self._watched)
        self._warn(found)
        counters.passes += 1
        counters.source_keys = len(rows[0])
        counters.source_index = ledger.known(0).index
        counters.skipped_locked = len(found.held)
        counters.open_conflicts = len(found.open)
        total, done = found.changes, 0

        def told(side: Side, units: Sequence[Unit]) -> None:
            nonlocal done
            done += len(units)
            self._count(side, units)
            if self._progress and total > self.source.most:
                self._progress(self.name, done, total)

        carrier = Carrier(self.pair, self._stores, ledger, rows, found, told)
        refusals, reason = 0, ""
        missing = ledger.missing
        try:
            for side in (1, 0):  # The destination first: that is where a lock is.
                removes, why, refused = await self._removes(side, rows, found)
                reason, refusals = reason or why, refusals + refused
                await carrier.carry_out(side, [*found.copies[side], *removes])
            if missing or (found.adopted and carrier.has_news):
                for side in (1, 0) if missing else (1,):
                    await carrier.commit(side, [])
        except OvertakenError:
            counters.conflicts += 1
            return False
        counters.conflicts += carrier.lost
        if carrier.lost:
            return False
        counters.refused_deletes = refusals
        counters.waiting_deletes = sum(guard.waiting for guard in self._guards)
        counters.last_success = time.time()
        counters.caught_up(self._listings[0].index)
        if reason:
            raise RefusedError(f"{self.name}: {reason}")
        if found.open:
            raise RefusedError(
                f"{self.name}: {len(found.open)} keys changed at both sides and were "
                f'left alone, "{found.open[0]}" is one'
            )
        return True

    async def _removes(
        self, side: Side, rows: Rows, found: Merge
    ) -> tuple[list[Remove], str, int]:
        """Return the deletes of a side that may happen; why others may not."""
        guard, across = self._guards[side], other(side)
        names = {name_at(self.pair, side, r.key): r for r in found.removes[side]}
        deletes = [Delete(name, remove.index) for name, remove in names.items()]
        due = guard.due(deletes, whole=True)
        known = self._ledger.known(across)
        sight = Sight(
            len(rows[across]), len(rows[side]),
            Status(source_index=known.index, cluster=known.cluster), known.cluster,
        )  # fmt: skip
        confirmed, why = await guard.confirm(due, sight)
        return [names[delete.key] for delete in confirmed], why, len(due) if why else 0

    async def _read(self) -> tuple[Listing, Listing]:
        # Proven leaders are asked: what is compared may not be older than the facts.
        # Of a tree that is a key and a folder, neighbours are read and left out.
        only, pair = self.pair.only_key, self.pair
        here, there = await asyncio.gather(
            self.source.entries(pair.source, exact=only, consistent=True),
            self.destination.entries(pair.destination, exact=only, consistent=True),
        )
        return here, there

    def _rows(self, listings: tuple[Listing, Listing]) -> Rows:
        """Return what takes part, by its names at the source."""
        accept, to_source = self._accept, self.pair.to_source
        here, there = listings
        return (
            {e.key: e for e in here.entries if accept.takes(e.key)},
            {to_source(e.key): e for e in there.entries if accept.governs(e.key)},
        )

    def _count(self, side: Side, units: Iterable[Unit]) -> None:
        counters, deleted = self.counters, 0
        for unit in units:
            counters.changes += 1
            if isinstance(unit, Remove):
                deleted += 1
                self._guards[side].back(name_at(self.pair, side, unit.key))
                continue
            counters.written += 1
            counters.bytes += size(unit.entry.value)
            if unit.loser:
                counters.decided_conflicts += 1
                key, winner = unit.loser.key, self._place(other(side))
                self.journal.warn(
                    f'"{key}" changed at both sides: {winner} wins, the other version '
                    f'is kept at "{CONFLICT_DIR}/{key}" of {self._place(side)}'
                )
        counters.deleted += deleted
        self._guards[side].carried_out(deleted)

    def _warn(self, found: Merge) -> None:
        """Tell of keys that are left alone, once each."""
        told = {(key, _HELD) for key in found.held}
        told |= {(key, _OPEN) for key in found.open}
        fresh = sorted(told - self._told)
        for key, text in fresh[:NAMED]:
            self.journal.warn(f'"{key}" {text}')
        if len(fresh) > NAMED:
            self.journal.warn(f"and {len(fresh) - NAMED} more keys are left alone")
        self._told = told

    # -- following --------------------------------------------------------

    async def follow(self) -> None:
        """Follow both sides for ever; raises ClientError."""
        clock = asyncio.get_running_loop().time
        held = self._listings = await self._read()
        news: News = asyncio.Queue()
        watches = [
            asyncio.create_task(self._watch(side, held[side].index, news))
            for side in SIDES
        ]
        self.counters.following = True
        again = clock() + self.settings.reconcile_s
        try:
            while True:
                await self._settle_or_say()
                if news.empty():
                    self.counters.caught_up(self.counters.seen_index)
                due = min(guard.next_due for guard in self._guards)
                try:
                    async with asyncio.timeout_at(min(again, due)):
                        await self._hear(news)
                except TimeoutError:
                    await self.check_loop()  # One may have been made since.
                    self._listings = None
                    again = clock() + self.settings.reconcile_s
        finally:
            self.counters.following = False
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _hear(self, news: News) -> None:
        """Wait for news, and a moment for what was written here to be among it."""
        held = [*(self._listings or await self._read())]
        older = False
        patience: float | None = None
        while patience is None or self._lags(held):
            try:
                async with asyncio.timeout(patience):
                    items = [await news.get()]
            except TimeoutError:
                if patience is None:
                    raise
                older = True
                break
            patience = ECHO_S
            await self._quiet(news, items)
            for item in items:
                if isinstance(item, ClientError):
                    raise item
                side, found = item
                older = older or found.index < held[side].index
                held[side] = found
        # Nothing older than what was acted on may be compared: read it again.
        self._listings = None if older else (held[0], held[1])

    def _lags(self, held: list[Listing]) -> bool:
        return any(held[side].index < self._ledger.written(side) for side in SIDES)

    async def _settle_or_say(self) -> None:
        try:
            await self._settle()
        except RefusedError as error:
            if self.counters.last_error != str(error):
                self.counters.last_error = str(error)
                self.journal.error(str(error))

    async def _quiet(
        self, news: News, items: list[tuple[Side, Listing] | ClientError]
    ) -> None:
        """Gather until it is quiet for the least, at most for the longest time."""
        least, longest = self.settings.settle
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        while (now := loop.time()) < end:
            try:
                async with asyncio.timeout(min(least, end - now)):
                    items.append(await news.get())
            except TimeoutError:
                break
        while not news.empty():
            items.append(news.get_nowait())

    async def _watch(self, side: Side, index: int, news: News) -> None:
        store, wait = self._stores[side], self.settings.block_s
        root = (self.pair.source, self.pair.destination)[side]
        clock = asyncio.get_running_loop().time
        try:
            while True:
                asked = clock()
                answer = await store.watch(
                    root, exact=self.pair.only_key, index=index, wait=wait
                )
                if answer.index != index:
                    self.counters.heard(0 if side else answer.index)
                    news.put_nowait((side, listing(answer)))
                elif clock() - asked < EARLY_S:
                    # A server in trouble answers at once: no busy loop.
                    await asyncio.sleep(EARLY_S)
                # A lower index is another state; ask for all of it.
                index = answer.index if answer.index >= index else 0
        except ClientError as error:
            news.put_nowait(error)
