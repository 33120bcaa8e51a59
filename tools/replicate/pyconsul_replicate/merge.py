"""Two-way: what has to go where, of two states and what is known of them.

A *version* is a key at one side with its ``ModifyIndex``. It is *settled* when the
other side has taken it in: copied it, sent it, or holds the same. Settled versions
are facts that stay true, so losing some of them can make a change look like a
conflict, never a conflict like a change. From there it is a merge of three:

=============  =============  ==============================================
one side       the other      what follows
=============  =============  ==============================================
equal          equal          both are settled
not settled    settled        it goes to the other side
absent         settled        it was deleted here: deleted there
absent         not settled    it is new, or a write that beats a delete
not settled    not settled    a conflict: the policy decides
=============  =============  ==============================================

Indexes of two clusters are never compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Literal

import msgspec

from .model import Entry

POLICIES = ("refuse", "source", "destination", "last")
"""Who wins a conflict; ``last`` is the version that was seen last."""
MAX_OPEN = 128
MAX_OPEN_BYTES = 16 * 1024
MAX_OWN = 256
"""What a status key has room for; beyond it facts are forgotten."""
Side = Literal[0, 1]
"""The source is 0, the destination 1."""
SIDES: tuple[Side, Side] = (0, 1)
Rows = tuple[dict[str, Entry], dict[str, Entry]]
"""The entries of both sides by the names they have at the source."""


def other(side: Side) -> Side:
    """Return the side across."""
    return 1 if side == 0 else 0


class Facts(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """Which versions of one side are settled.

    All before the version (``index``, ``before``) but those in ``open``, and those
    of our own transactions.
    """

    index: int = 0
    before: str = ""
    own: tuple[int, ...] = ()
    open: dict[str, int] = {}

    def settled(self, key: str, index: int) -> bool:
        """Whether the other side has taken this version in."""
        if index in self.own:
            return True
        passed = (index, key) < (self.index, self.before)
        return passed and self.open.get(key) != index

    def joined(self, other: Facts) -> Facts:
        """Return what both know together."""
        low, high = sorted((self, other), key=lambda facts: (facts.index, facts.before))
        left = {k: at for k, at in high.open.items() if not low.settled(k, at)}
        facts = msgspec.structs.replace(high, open=left)
        return facts.with_own(low.own)

    def with_own(self, indexes: Iterable[int]) -> Facts:
        """Return the facts after more transactions of our own."""
        own = {*self.own, *indexes} - {0}
        return msgspec.structs.replace(self, own=tuple(sorted(own)[-MAX_OWN:]))


class Copy(msgspec.Struct, frozen=True):
    """One version to write at ``side``, where the key is still at ``index``."""

    side: Side
    key: str
    entry: Entry
    index: int
    loser: Entry | None = None
    """What a conflict overwrites."""


class Remove(msgspec.Struct, frozen=True):
    """One key to delete at ``side`` if it is still at ``index``."""

    side: Side
    key: str
    index: int


class Merge(msgspec.Struct, kw_only=True):
    """The outcome of comparing two states."""

    copies: tuple[list[Copy], list[Copy]]
    """By the side they go to, in the order of the versions copied."""
    removes: tuple[list[Remove], list[Remove]]
    open: list[str] = []
    """Conflicts that nobody decides."""
    held: list[str] = []
    """Keys that differ, and that a session or lock holds at one side."""
    waiting: tuple[dict[str, int], dict[str, int]]
    """Versions that are not settled before something is done, in their order."""
    adopted: int = 0
    """Versions not known to be settled whose other side is equal."""
    unchanged: int = 0

    @property
    def changes(self) -> int:
        """How many keys are to be written or deleted."""
        return sum(map(len, (*self.copies, *self.removes)))


class Watched:
    """When each version that is not settled was first seen, in comparisons."""

    def __init__(self) -> None:
        self._seen: tuple[dict[str, tuple[int, int]], ...] = ({}, {})
        self._clock = count(1)

    def look(self, waiting: tuple[dict[str, int], dict[str, int]]) -> None:
        """Note what is not settled now; forget the rest."""
        now = next(self._clock)
        self._seen = tuple(
            {
                key: old
                if (old := before.get(key)) and old[0] == index
                else (index, now)
                for key, index in versions.items()
            }
            for before, versions in zip(self._seen, waiting, strict=True)
        )

    def later(self, key: str) -> Side:
        """Return whose version was seen later; of two seen at once the source's."""
        here, there = (seen.get(key, (0, 0))[1] for seen in self._seen)
        return 1 if there > here else 0


def merge(
    rows: Rows,
    facts: tuple[Facts, Facts],
    policy: str,
    watched: Watched,
    *,
    delete: bool = True,
) -> Merge:
    """Return what makes both sides equal."""
    fresh = tuple(_unsettled(rows[side], facts[side]) for side in SIDES)
    waiting = (fresh[0], fresh[1])
    watched.look(waiting)
    found = Merge(copies=([], []), removes=([], []), waiting=({}, {}), open=[], held=[])
    handled: list[str] = []
    for key in rows[0].keys() | rows[1].keys():
        ends = rows[0].get(key), rows[1].get(key)
        new = key in waiting[0], key in waiting[1]
        if _equal(*ends):
            found.unchanged += 1
            found.adopted += sum(new)
            handled.append(key)
        elif any(end and (end.session or end.is_lock) for end in ends):
            found.held.append(key)
        else:
            _decide(found, key, ends, new, policy, watched, delete=delete)
    for key in handled:
        for versions in waiting:
            versions.pop(key, None)
    found.waiting = (_sorted(waiting[0]), _sorted(waiting[1]))
    for copies in found.copies:
        copies.sort(key=lambda copy: (copy.entry.modify_index, copy.key))
    for removes in found.removes:
        removes.sort(key=lambda remove: remove.key)
    found.open.sort()
    return found


def _decide(
    found: Merge,
    key: str,
    ends: tuple[Entry | None, Entry | None],
    new: tuple[bool, bool],
    policy: str,
    watched: Watched,
    *,
    delete: bool,
) -> None:
    """Put a key whose ends differ where it belongs."""
    for side in SIDES:
        here, there = ends[side], ends[other(side)]
        if here is None:
            assert there is not None
            if new[other(side)]:
                found.copies[side].append(Copy(side, key, there, 0))
            elif delete:
                remove = Remove(other(side), key, there.modify_index)
                found.removes[other(side)].append(remove)
            return
    here, there = ends
    assert here is not None
    assert there is not None
    if new[0] != new[1]:
        _copy(found, 0 if new[0] else 1, key, (here, there))
    elif policy == "refuse":
        found.open.append(key)
    else:
        # Two that are settled and differ: a side was restored. Nothing was seen.
        last = watched.later(key) if all(new) else 0
        winner: Side = last if policy == "last" else SIDES[policy == "destination"]
        _copy(found, winner, key, (here, there), conflict=True)


def _copy(
    found: Merge,
    winner: Side,
    key: str,
    ends: tuple[Entry, Entry],
    *,
    conflict: bool = False,
) -> None:
    loser = ends[other(winner)]
    copy = Copy(
        other(winner),
        key,
        ends[winner],
        loser.modify_index,
        loser if conflict else None,
    )
    found.copies[other(winner)].append(copy)


def _equal(left: Entry | None, right: Entry | None) -> bool:
    return left is not None and right is not None and left.same_content(right)


def _unsettled(rows: Mapping[str, Entry], facts: Facts) -> dict[str, int]:
    return {
        key: entry.modify_index
        for key, entry in rows.items()
        if not facts.settled(key, entry.modify_index)
    }


def _sorted(versions: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(versions.items(), key=lambda item: (item[1], item[0])))


def after(facts: Facts, newest: int, waiting: Mapping[str, int]) -> Facts:
    """Return the facts of a side that was compared, and of which ``waiting`` is left.

    ``newest`` is the highest version compared; ``waiting`` is in the order of its
    versions. What does not fit is forgotten.
    """
    still: dict[str, int] = {}
    top, before, room = 0, "", MAX_OPEN_BYTES
    for key, index in waiting.items():
        room -= len(msgspec.json.encode(key))
        if len(still) == MAX_OPEN or room < 0:
            top, before = index, key
            break
        still[key] = index
    else:
        top = max(newest + 1, facts.index)
    own = tuple(index for index in facts.own if index >= top)
    return Facts(top, before, own[-MAX_OWN:], still)
