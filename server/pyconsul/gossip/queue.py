"""The broadcast queue (``wire-gossip.md`` 7.3).

What has been sent least goes first, of these the longest, of these the newest;
a message leaves the queue when it was sent often enough for all to hear it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass


def retransmit_limit(retransmit_mult: int, node_count: int) -> int:
    """Return how often a broadcast is sent in a pool of ``node_count``."""
    return retransmit_mult * math.ceil(math.log10(node_count + 1))


def sure_limit(retransmit_mult: int, node_count: int) -> int:
    """Return how often to send what nothing repairs soon: events, queries, intents.

    At least the ``retransmit_limit``, and more where that leaves nodes out: of
    events sent four times by each of nine nodes, one in 24 misses a node until
    the next push/pull (eight times by each of 99: one in 45). A node is missed
    by all with probability e^-sent, so ln n + 9 sendings miss one of n in about
    one event in 10,000; few nodes are all reached in two turns. Probes find out
    what membership messages failed to tell: more of these would only delay.
    """
    others = max(node_count - 1, 0)
    enough = min(2 * others, math.log(others + 1) + 9)
    usual = retransmit_limit(retransmit_mult, node_count)
    return max(usual, math.ceil(retransmit_mult / 4 * enough))


@dataclass(slots=True, eq=False)
class _Broadcast:
    data: bytes
    name: str | None
    done: Callable[[], None] | None
    key: tuple[int, int]  # (-length, -number): the order inside a tier
    sent: int = 0


_Entry = tuple[int, int, _Broadcast]


class BroadcastQueue:
    """Messages to piggyback on packets.

    ``name`` makes a broadcast replace the one queued under the same name; with
    ``None`` it is unique. ``done`` is called when it was sent often enough, or
    was replaced or pruned.
    """

    def __init__(self, retransmit_mult: int) -> None:
        self.retransmit_mult = retransmit_mult
        self._tiers: list[list[_Entry]] = [[]]  # by how often it was sent
        self._by_name: dict[str, _Broadcast] = {}
        self._number = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        data: bytes,
        name: str | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """Queue a message."""
        if name is not None:
            old = self._by_name.get(name)
            if old is not None:
                self._drop(old)
        self._number += 1
        broadcast = _Broadcast(data, name, done, (-len(data), -self._number))
        if name is not None:
            self._by_name[name] = broadcast
        self._insert(broadcast)
        self._count += 1

    def take(self, overhead: int, limit: int, node_count: int) -> list[bytes]:
        """Return messages whose lengths plus overheads fit into ``limit``.

        Each counts as sent once more.
        """
        taken: list[bytes] = []
        if not self._count:
            return taken
        free = limit - overhead
        again: list[_Broadcast] = []
        for tier in self._tiers:
            at = 0
            while at < len(tier) and free > 0:
                entry = tier[at]
                if len(entry[2].data) > free:
                    # The longest that fits: shorter ones stand further back.
                    at = bisect_left(tier, (-free,), at)
                    continue
                del tier[at]
                taken.append(entry[2].data)
                free -= overhead - entry[0]
                again.append(entry[2])
        often_enough = retransmit_limit(self.retransmit_mult, node_count)
        for broadcast in again:
            broadcast.sent += 1
            if broadcast.sent >= often_enough:
                self._finish(broadcast)
            else:
                self._insert(broadcast)
        return taken

    def prune(self, retain: int) -> None:
        """Drop what was sent most until ``retain`` messages are left."""
        for tier in reversed(self._tiers):
            while tier and self._count > retain:
                self._finish(tier.pop()[2])

    def _insert(self, broadcast: _Broadcast) -> None:
        while len(self._tiers) <= broadcast.sent:
            self._tiers.append([])
        insort(self._tiers[broadcast.sent], (*broadcast.key, broadcast))

    def _drop(self, broadcast: _Broadcast) -> None:
        tier = self._tiers[broadcast.sent]
        del tier[bisect_left(tier, broadcast.key)]  # type: ignore[type-var]
        self._finish(broadcast)

    def _finish(self, broadcast: _Broadcast) -> None:
        self._count -= 1
        if broadcast.name is not None:
            del self._by_name[broadcast.name]
        if broadcast.done is not None:
            broadcast.done()
