"""Two-way: what is known of both sides, in a status key at each.

Every transaction carries the status key of its side, on condition that it is the
one that was read: the facts are as new as the data, and of two instances one is
told to look again. What the two keys say is put together; where facts no longer hold
(a side was restored, other keys are excluded) a higher ``Epoch`` begins without any.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pyconsul_client.errors import ApiError

from .batches import Mark, Operation
from .errors import OvertakenError
from .merge import SIDES, Facts, Side, other
from .model import Pair, Rules
from .plan import Write

if TYPE_CHECKING:
    from .store import Listing, Store


class Known(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """What is known of one side."""

    facts: Facts = Facts()
    index: int = 0
    """Highest index of its KV store that was seen."""
    cluster: str = ""
    """Its trust domain, ``""`` where unknown."""

    def joined(self, other: Known) -> Known:
        """Return what two status keys of one epoch know together."""
        return Known(
            self.facts.joined(other.facts),
            max(self.index, other.index),
            self.cluster or other.cluster,
        )


class Noted(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """What a status key says; ``mine`` is the side that it lies at."""

    epoch: int = 0
    rules: str = ""
    """What takes part; facts of other rules say nothing."""
    mine: Known = Known()
    other: Known = Known()


class _Key(msgspec.Struct, rename="pascal"):
    """A status key; its other fields are for those who look for loops."""

    two_way: Noted


_KEY = msgspec.json.Decoder(_Key)


class Ledger:
    """The facts of one pair between two stores."""

    def __init__(
        self,
        pair: Pair,
        rules: Rules,
        stores: tuple[Store, Store],
        status_dir: str,
        datacenters: tuple[str, str],
        clusters: tuple[str, str],
    ) -> None:
        here, there = datacenters
        text = "\n".join((here, pair.source, there, pair.destination))
        self.key = f"{status_dir.strip('/')}/{_digest(text)}"
        self.clusters = clusters
        self._pair = pair
        self._stores = stores
        self._datacenters = datacenters
        parts = (*sorted(rules.excludes), "", *sorted(rules.patterns))
        self._rules = _digest("\n".join((*parts, str(pair.only_key))))
        self._at = [0, 0]
        """The indexes of the status keys."""
        self._known = [Known(), Known()]
        self._written = [0, 0]
        self._epoch = 0
        self.missing = False
        """Whether a status key is missing, or says what no longer holds."""

    async def load(self) -> str:
        """Read both status keys; return why they say nothing, ``""`` if they do."""
        ends, indexes = await asyncio.gather(
            asyncio.gather(
                *(
                    store.entries(self.key, exact=True, consistent=True)
                    for store in self._stores
                )
            ),
            asyncio.gather(*(store.kv_index() for store in self._stores)),
        )
        self._at = [end.entries[0].modify_index if end.entries else 0 for end in ends]
        read = [_noted(end) for end in ends]
        epoch = max(noted.epoch for noted in read)
        known = [Known(), Known()]
        why = ""
        for side in SIDES:
            noted = read[side]
            if noted.epoch == epoch:
                # Whatever lies at the index of a status key was written with it.
                mine = noted.mine.facts.with_own([self._at[side]])
                noted.mine = msgspec.structs.replace(noted.mine, facts=mine)
                known[side] = known[side].joined(noted.mine)
                known[other(side)] = known[other(side)].joined(noted.other)
                if epoch and noted.rules != self._rules:
                    why = "other keys are excluded than before"
        for side in SIDES:
            old, new = known[side].cluster, self.clusters[side]
            if indexes[side] < known[side].index or (old and new and old != new):
                why = f"the {('source', 'destination')[side]} is restored, or another"
        self._epoch = epoch + bool(why) or 1
        self.missing = any(noted.epoch != self._epoch for noted in read)
        self._known = [
            Known(
                Facts() if why else known[side].facts,
                indexes[side] if why else max(known[side].index, indexes[side]),
                self.clusters[side] or known[side].cluster,
            )
            for side in SIDES
        ]
        return why

    @property
    def marks(self) -> tuple[int, int]:
        """The indexes of both status keys: others when another instance worked."""
        return self._at[0], self._at[1]

    def written(self, side: Side) -> int:
        """Return the index of our newest change of keys at a side."""
        return self._written[side]

    def facts(self, side: Side) -> Facts:
        """Return what is known of the versions of a side."""
        return self._known[side].facts

    def known(self, side: Side) -> Known:
        """Return all that is known of a side."""
        return self._known[side]

    def own(self, side: Side, index: int) -> None:
        """Note that what lies at an index was written by us."""
        self._written[side] = index
        self._note(side, index)

    def _note(self, side: Side, index: int) -> None:
        known = self._known[side]
        self._known[side] = Known(
            known.facts.with_own([index]), max(known.index, index), known.cluster
        )

    async def commit(
        self,
        side: Side,
        operations: Sequence[Operation | Mark],
        facts: tuple[Facts, Facts],
    ) -> dict[int, str]:
        """Commit with the status key of a side; return what it fell over.

        Raises OvertakenError when another instance wrote that key.
        """
        known = [
            msgspec.structs.replace(known, facts=fact)
            for known, fact in zip(self._known, facts, strict=True)
        ]
        value = b64encode(self._value(side, known)).decode()
        status = Write(self.key, value, 0, self._at[side], 0)
        new, lost = await self._stores[side].commit([*operations, status], None)
        for text in lost.values():
            if "ermission denied" in text:
                raise ApiError(403, text)
        if len(operations) in lost:
            raise OvertakenError(f"{self.key}: written by another instance")
        if not lost:
            self._at[side] = new[self.key]
            self._known = known
            self._note(side, new[self.key])
            if operations:
                self._written[side] = new[self.key]
        return lost

    def _value(self, side: Side, known: Sequence[Known]) -> bytes:
        written, across = self._pair.written, other(side)
        seen_by_others = {
            "LastReplicated": 0,
            "Source": written[across],
            "Destination": written[side],
            "Datacenter": self._datacenters[across],
            "Into": self._datacenters[side],
        }
        noted = Noted(
            epoch=self._epoch, rules=self._rules, mine=known[side], other=known[across]
        )
        return msgspec.json.encode({**seen_by_others, "TwoWay": noted})


def _noted(found: Listing) -> Noted:
    """Return what a status key says; an unreadable one says nothing."""
    for entry in found.entries:
        try:
            return _KEY.decode(b64decode(entry.value or "")).two_way
        except (msgspec.MsgspecError, ValueError):
            break
    return Noted()


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
