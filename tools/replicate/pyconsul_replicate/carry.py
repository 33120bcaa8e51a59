"""Two-way: a pass's copies and deletes, in transactions with the status key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .batches import MAX_BODY, Mark, Operation, size_of
from .ledger import Ledger
from .merge import SIDES, Copy, Facts, Merge, Remove, Rows, Side, after, other
from .model import CONFLICT_DIR, Entry, Pair
from .plan import Delete, Write
from .store import Store

STATUS_ROOM = 100_000
"""Bytes of a transaction that are left to the status key."""
Unit = Copy | Remove
"""What is carried out whole or not at all."""


class Carrier:
    """Carries out one pass; ``told`` hears what was done at which side."""

    def __init__(
        self,
        pair: Pair,
        stores: tuple[Store, Store],
        ledger: Ledger,
        rows: Rows,
        found: Merge,
        told: Callable[[Side, Sequence[Unit]], None],
    ) -> None:
        self._pair = pair
        self._stores = stores
        self._ledger = ledger
        self._waiting = found.waiting
        self._newest = [
            max((entry.modify_index for entry in side.values()), default=0)
            for side in rows
        ]
        self._told = told
        self.lost = 0
        """Keys that had changed."""

    @property
    def has_news(self) -> bool:
        """Whether the status keys could say more than they do."""
        return any(
            (new.index, new.before, new.open) != (old.index, old.before, old.open)
            for new, old in zip(
                self._facts(), map(self._ledger.facts, SIDES), strict=True
            )
        )

    async def carry_out(self, side: Side, units: Sequence[Unit]) -> None:
        """Do what a side gets; raises OvertakenError."""
        batch: list[Unit] = []
        count, room = 0, 0
        large: list[Copy] = []
        most = self._stores[side].most - 1
        for unit in units:
            parts = self._operations(unit)
            size = sum(map(size_of, parts))
            if isinstance(unit, Copy) and size > MAX_BODY - STATUS_ROOM:
                large.append(unit)
                continue
            full = count + len(parts) > most or size > room
            if batch and full:
                await self.commit(side, batch)
                batch = []
            if not batch:
                count, room = 0, MAX_BODY - STATUS_ROOM
            batch.append(unit)
            count, room = count + len(parts), room - size
        if batch:
            await self.commit(side, batch)
        for copy in large:
            await self._write_large(copy)

    async def commit(self, side: Side, batch: Sequence[Unit]) -> None:
        """Commit a transaction without what has changed; raises OvertakenError."""
        units = list(batch)
        while True:
            for unit in units:
                for waiting in self._waiting:
                    waiting.pop(unit.key, None)
            parts = [self._operations(unit) for unit in units]
            lost = await self._ledger.commit(
                side, [part for group in parts for part in group], self._facts()
            )
            if not lost:
                self._told(side, units)
                return
            whose = [at for at, group in enumerate(parts) for _ in group]
            gone = {whose[at] for at in lost}
            self.lost += len(gone)
            for at in gone:
                self._waits_again(units[at])
            units = [unit for at, unit in enumerate(units) if at not in gone]
            if not units:
                return

    def _facts(self) -> tuple[Facts, Facts]:
        here, there = (
            after(self._ledger.facts(side), self._newest[side], self._waiting[side])
            for side in SIDES
        )
        return here, there

    def _waits_again(self, unit: Unit) -> None:
        if isinstance(unit, Remove):
            return  # What was to be deleted is settled, or another version by now.
        ends = [(other(unit.side), unit.entry.modify_index)]
        if unit.loser:
            ends.append((unit.side, unit.loser.modify_index))
        for side, index in ends:
            waiting = self._waiting[side]
            waiting[unit.key] = index
            rest = sorted(waiting.items(), key=lambda item: (item[1], item[0]))
            waiting.clear()
            waiting.update(rest)

    async def _write_large(self, copy: Copy) -> None:
        """Write what no transaction can carry; the loser of a conflict is kept first.

        The status key follows: a crash between makes no harm but where the other
        side changes meanwhile, which then is a conflict.
        """
        store, side = self._stores[copy.side], copy.side
        if copy.loser:
            await store.keep(_kept(copy.loser))
        write = self._write(copy)
        if not await store.write_large(write):
            self.lost += 1
            return
        for entry in (await store.entries(write.key, exact=True)).entries:
            if entry.same_content(copy.entry):
                self._ledger.own(side, entry.modify_index)
        for waiting in self._waiting:
            waiting.pop(copy.key, None)
        await self._ledger.commit(side, [], self._facts())
        self._told(side, [copy])

    def _operations(self, unit: Unit) -> list[Operation | Mark]:
        if isinstance(unit, Remove):
            return [Delete(name_at(self._pair, unit.side, unit.key), unit.index)]
        kept: list[Operation | Mark] = [_kept(unit.loser)] if unit.loser else []
        return [self._write(unit), *kept]

    def _write(self, copy: Copy) -> Write:
        entry, key = copy.entry, name_at(self._pair, copy.side, copy.key)
        return Write(
            key, entry.value or "", entry.flags, copy.index, entry.modify_index
        )


def _kept(loser: Entry) -> Mark:
    return Mark(f"{CONFLICT_DIR}/{loser.key}", loser.value or "", loser.flags)


def name_at(pair: Pair, side: Side, key: str) -> str:
    """Return the name that a key of the source has at a side."""
    return pair.to_destination(key) if side else key
