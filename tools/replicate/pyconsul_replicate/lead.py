"""Several instances, one that works: a lock at the destination of its jobs.

The leader's transactions depend on its session (``check-session``): one that
was paused and has lost the lock writes nothing more.
"""

from __future__ import annotations

import copy
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from pyconsul_client.tool.journal import Journal

from .batches import Fence
from .job import Job
from .model import LEADER_DIR, Pair
from .twoway import TwoWay

if TYPE_CHECKING:
    from pyconsul_client.locks import Lock
    from pyconsul_client.options import Options

DEFAULT_TTL_S = 10.0


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader is chosen."""

    key: str
    """What instances compete for; those of one key do the same work."""
    ttl: float = DEFAULT_TTL_S
    """Seconds, 10 to 86400: others take over within two of it."""
    retries: int | None = None
    """Errors in a row that waiting bears; ``None``: any number."""


def default_key(pairs: Sequence[Pair]) -> str:
    """Return the key of all instances with the same prefixes."""
    text = "\n".join(sorted(f"{pair.datacenter} {pair.status_name}" for pair in pairs))
    name = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{LEADER_DIR}/{name}"


async def lead(
    election: Election,
    options: Options,
    datacenter: str,
    jobs: Sequence[Job | TwoWay],
    journal: Journal,
    work: Callable[[], Awaitable[int]],
) -> int:
    """Do the work whenever we lead, until it ends; return what it returned.

    Raises ClientError when the key is used for something else.
    """
    # Only who asks for it pays for loading the library.
    from pyconsul_client.client import Client
    from pyconsul_client.lock_keys import Mutex
    from pyconsul_client.locks import Lock as MakeLock
    from pyconsul_client.locks import LockRules
    from pyconsul_client.locks import lead as while_leading

    where = copy.copy(options)
    where.datacenter = datacenter
    place = f"{socket.gethostname()} {os.getpid()}"
    # Whoever held it can write no more: nothing to wait for.
    rules = LockRules(ttl=election.ttl, lock_delay=0.0, retries=election.retries)

    async with Client(options=where) as client:

        def make_lock() -> Lock:
            for job in jobs:
                job.counters.leading = False
            mutex = Mutex(client.kv, election.key, place.encode())
            return MakeLock(client.session, mutex, name="replicate", rules=rules)

        async def leading(lock: Lock) -> int:
            journal.info(f"leading by {election.key}")
            for job in jobs:
                job.destination.fence = Fence(election.key, lock.session)
                job.counters.leading = True
            try:
                return await work()
            finally:
                if not lock.held:
                    journal.warn(f"not leading any more by {election.key}")

        journal.info(f"waiting to lead by {election.key}")
        return await while_leading(make_lock, leading)
