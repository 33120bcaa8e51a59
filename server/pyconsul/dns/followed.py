"""``dns_config.use_cache``: replies of servers, kept and followed by a client agent.

The first question for something fetches it; from then on a blocking query waits
for its next change, so that what is kept is true but for the way here. What
nobody asked for in ``IDLE_S`` is followed no longer. A server has the state
itself and needs none of this.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import Future, Task
from collections.abc import Callable
from typing import Any

from msgspec import json
from msgspec.structs import replace

from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Caller, Reply

FOLLOWED = frozenset(("Health.ServiceNodes", "Catalog.NodeServices"))
"""What is kept: nearly all that is asked."""

FOLLOWED_MAX = 1024
"""Kept replies, each with a query that waits."""

IDLE_S = 600.0
RETRY_MAX_S = 60.0


class Version:
    """A ``Cell``: fires once, when the reply it came with is no longer kept."""

    def __init__(self) -> None:
        self._waiters: set[Any] = set()
        self._fired = False

    def subscribe(self, waiter: Any) -> None:
        """Call ``waiter.fire()`` at the end, at once if that is past."""
        if self._fired:
            waiter.fire()
        else:
            self._waiters.add(waiter)

    def unsubscribe(self, waiter: Any) -> None:
        """Forget ``waiter``."""
        self._waiters.discard(waiter)

    def fire(self) -> None:
        """The reply has been replaced, or cannot be vouched for."""
        self._fired = True
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.fire()


class Followed:
    """One kept reply and what keeps it true."""

    def __init__(
        self, owner: FollowedReads, method: str, args: Any, reply: Reply
    ) -> None:
        self._owner = owner
        self._method = method
        self._args = args
        self.reply = reply
        self.version = Version()
        self.true_until: float | None = None
        """When it was last known to be true; ``None``: it is now."""
        self.used_at = owner.clock()
        self.task: Task[None] | None = None

    async def follow(self) -> None:
        """Wait for changes while somebody wants to know."""
        clock, pause = self._owner.clock, 0.0
        seen_at = clock()
        while clock() - self.used_at < IDLE_S:
            again = replace(self._args, min_query_index=max(self.reply.index, 1))
            began = clock()
            try:
                fresh = self._owner.caller.call(self._method, again)
                if isinstance(fresh, Future):
                    fresh = await fresh
            except ConsulError:
                self.true_until = seen_at
                self.version.fire()
                pause = min(max(2 * pause, 1.0), RETRY_MAX_S)
                await asyncio.sleep(pause)
                continue
            pause, seen_at = 0.0, clock()
            self._take(fresh)
            await asyncio.sleep(max(self._owner.pause_s - (clock() - began), 0.0))

    def _take(self, fresh: Reply) -> None:
        changed = fresh.index != self.reply.index or self.true_until is not None
        self.reply, self.true_until = fresh, None
        if changed:
            old, self.version = self.version, Version()
            old.fire()

    def shown(self) -> Reply:
        """Return the reply with its version; without one it is not to be kept."""
        return Reply(
            self.reply.value,
            self.reply.index,
            (self.version,) if self.true_until is None else (),
            known_leader=self.reply.known_leader,
            last_contact_ms=self.reply.last_contact_ms,
        )


class FollowedReads:
    """The kept replies of one DNS server. ``rate``: fetches a second of each."""

    def __init__(
        self, caller: Caller, clock: Callable[[], float], rate: float = math.inf
    ) -> None:
        self.caller = caller
        self.clock = clock
        self.pause_s = 1.0 / rate
        self._entries: dict[tuple[str, bytes], Followed] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, method: str, args: Any, max_age_s: float) -> Reply:
        """Return what is known, or what a server says; raises ``ConsulError``.

        With ``max_age_s`` a reply that could not be confirmed for longer is
        asked for anew; 0 takes it however old it is.
        """
        key = (method, json.encode(args))
        entry = self._entries.get(key)
        if entry is not None:
            now = entry.used_at = self.clock()
            until = entry.true_until
            if until is None or not max_age_s or now - until <= max_age_s:
                return entry.shown()
        found = self.caller.call(method, args)
        if not isinstance(found, Future):
            return found
        reply = await found
        if key in self._entries or len(self._entries) >= FOLLOWED_MAX:
            return Reply(reply.value, reply.index)
        entry = self._entries[key] = Followed(self, method, args, reply)
        entry.task = asyncio.get_running_loop().create_task(entry.follow())
        entry.task.add_done_callback(lambda _: self._ended(key, entry))
        return entry.shown()

    def _ended(self, key: tuple[str, bytes], entry: Followed) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
        entry.version.fire()

    def close(self) -> None:
        """Follow nothing any more."""
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            if entry.task is not None:
                entry.task.cancel()
