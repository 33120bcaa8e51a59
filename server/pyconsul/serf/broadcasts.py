"""Serf's own broadcast queue: messages never replace each other (7.3).

Order of sending: fewest transmits, then longest, then newest; a message that
does not fit lets shorter ones pass. Taking costs the messages taken, not the
length of the queue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

Done = Callable[[], None]
# Negative length, negative number: a tier sorts as it is sent.
_Entry = tuple[int, int, bytes, Done | None]


class BroadcastQueue:
    """Messages waiting to be piggybacked, each a bounded number of times."""

    def __init__(self) -> None:
        """Begin empty."""
        self._tiers: dict[int, list[_Entry]] = {}  # by transmits
        self._count = 0
        self._number = 0

    def __len__(self) -> int:
        return self._count

    def add(self, payload: bytes, done: Done | None = None) -> None:
        """Queue a message; ``done`` is called once it has been sent out."""
        self._number += 1
        entry = (-len(payload), -self._number, payload, done)
        insort(self._tiers.setdefault(0, []), entry)
        self._count += 1

    def take(self, overhead: int, limit: int, transmits_max: int) -> list[bytes]:
        """Return what fits into ``limit`` bytes, each with its overhead."""
        if not self._count:
            return []
        taken: list[tuple[int, _Entry]] = []
        free = limit - overhead
        for transmits in sorted(self._tiers):
            tier = self._tiers[transmits]
            at = bisect_left(tier, (-free,))
            while at < len(tier):
                entry = tier.pop(at)
                taken.append((transmits + 1, entry))
                free -= overhead - entry[0]
                at = bisect_left(tier, (-free,), at)
            if not tier:
                del self._tiers[transmits]
        finished: list[Done] = []
        for transmits, entry in taken:
            if transmits < transmits_max:
                insort(self._tiers.setdefault(transmits, []), entry)
                continue
            self._count -= 1
            if entry[3] is not None:
                finished.append(entry[3])
        for done in finished:
            done()
        return [entry[2] for _, entry in taken]

    def prune(self, depth: int) -> None:
        """Drop what is most sent, then shortest and oldest, above ``depth``."""
        finished: list[Done] = []
        while self._count > depth:
            transmits = max(self._tiers)
            entry = self._tiers[transmits].pop()
            self._count -= 1
            if not self._tiers[transmits]:
                del self._tiers[transmits]
            if entry[3] is not None:
                finished.append(entry[3])
        for done in finished:
            done()
