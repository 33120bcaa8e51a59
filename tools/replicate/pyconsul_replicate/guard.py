"""What stands between a plan and its deletes: grace, the leader's word, limits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from pyconsul_client.errors import ApiError

from .model import Pair, Rules
from .plan import Delete, refusal
from .store import Status, Store

FEW = 16
"""Deletes up to which each key is asked for alone."""
WINDOW_S = 60.0
"""Deletes of so long count together: a tree that goes away bit by bit is one that
goes away."""


class Sight(msgspec.Struct, frozen=True):
    """What a pass knows beside its plan."""

    known: int
    """Source keys that take part."""
    held: int
    """Keys in the tree of the destination."""
    status: Status
    cluster: str
    """Of the source, ``""`` where unknown."""


class Guard:
    """Decides on the deletes of one job; ``clock`` counts seconds."""

    def __init__(
        self,
        pair: Pair,
        rules: Rules,
        source: Store,
        takes: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pair = pair
        self._rules = rules
        self._source = source
        self._takes = takes
        self._clock = clock
        self._missing: dict[str, float] = {}
        """Destination keys whose source is gone, and since when."""
        self._asked = 0.0
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def waiting(self) -> int:
        """How many deletes wait for their grace to end."""
        return len(self._missing)

    @property
    def next_due(self) -> float:
        """Return when the next delete is due, on the clock; for ever if none."""
        grace = self._rules.delete_after
        # What was due and is still there waits for the next full pass.
        times = (at + grace for at in self._missing.values())
        return min((at for at in times if at > self._asked), default=float("inf"))

    def due(self, deletes: list[Delete], *, whole: bool) -> list[Delete]:
        """Return those whose grace is over; ``whole``: there are no others."""
        grace = self._rules.delete_after
        if not grace:
            return deletes
        now = self._asked = self._clock()
        if whole:
            keys = {delete.key for delete in deletes}
            self._missing = {k: at for k, at in self._missing.items() if k in keys}
        for delete in deletes:
            self._missing.setdefault(delete.key, now)
        return [d for d in deletes if now - self._missing[d.key] >= grace]

    def back(self, key: str) -> None:
        """A key is at the source, or gone at the destination: nothing waits."""
        self._missing.pop(key, None)

    def carried_out(self, count: int) -> None:
        """So many deletes were done."""
        if count:
            self._recent.append((self._clock(), count))

    async def confirm(
        self, deletes: list[Delete], sight: Sight
    ) -> tuple[list[Delete], str]:
        """Return the deletes a proven leader of the source agrees to, or why none."""
        if not deletes:
            return [], ""
        pair, source = self._pair, self._source
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
        left = sight.known
        if len(keys) > FEW:
            names = await self._names()
            alive |= names
            left = sum(map(self._takes, names))
        confirmed = [
            delete
            for delete, key in zip(deletes, keys, strict=True)
            if key not in alive
        ]
        reason = refusal(
            pair,
            self._rules,
            deletes=len(confirmed),
            recent=self._recently(),
            source_keys=left,
            destination_keys=sight.held,
            source_index=index,
            last_index=sight.status.source_index,
            clusters=(sight.cluster, sight.status.cluster),
        )
        return ([], reason) if reason else (confirmed, "")

    def _recently(self) -> int:
        start = self._clock() - WINDOW_S
        while self._recent and self._recent[0][0] < start:
            self._recent.popleft()
        return sum(count for _, count in self._recent)

    async def _names(self) -> set[str]:
        root = self._pair.source
        if not root or root.endswith("/"):
            return await self._source.names(root)
        found = await self._source.names(f"{root}/")
        return found | {root} if await self._source.exists(root) else found
