"""Default reads of a follower: answered here when it has what the leader has.

One question to the leader (``Status.RaftStats``: does it lead, and which index
has it applied?) serves all reads that came before it was asked. Whoever stands
at that very index gives the leader's own answer of that moment, and only the
question has to travel: the read index of Raft (Ongaro 2014, 6.4), with the
leader's lease for a quorum. To stand further is as bad as to lag: the leader
may learn of a commit last (its disk is slow), and would still give the older
value to whoever reads next.

A server that stands elsewhere, a leader without a lease, or a question nobody
answers: then each read goes to the leader itself, by ``otherwise``, which also
waits and retries.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Any

from pyconsul.endpoints.futures import follow
from pyconsul.types.messages import EmptyRequest, Reply
from pyconsul.types.operations import RaftStats

STATS_METHOD = "Status.RaftStats"
LEADS = "0"
"""The last contact of a leader with a lease that has applied all it has."""

PATIENCE_S = 1.0
"""How long the leader may take to say where it is."""

Answer = Callable[[str, Any], "Reply | Future[Reply]"]

_Read = tuple[str, Any, "Future[Reply]"]


class FollowerReads:
    """Reads that wait until this server is known to be equal enough.

    ``ask`` sends one call to the leader, or gives ``None`` when none is known;
    ``here`` answers from this server's state; ``applied`` is the index it has.
    """

    def __init__(
        self,
        ask: Callable[[str, Any], Future[Reply] | None],
        here: Answer,
        otherwise: Answer,
        applied: Callable[[], int],
    ) -> None:
        self._ask = ask
        self._here = here
        self._otherwise = otherwise
        self._applied = applied
        self._coming: list[_Read] = []
        self._asked: Future[Reply] | None = None
        self._timer: TimerHandle | None = None

    def call(self, method: str, args: Any) -> Future[Reply]:
        """Return a future of the answer to a read that does not block."""
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        # A question under way was perhaps answered before this read began.
        self._coming.append((method, args, future))
        if self._asked is None:
            self._ask_leader()
        return future

    def give_up(self) -> None:
        """Another leader is known, or none: the question is void."""
        if self._asked is not None:
            self._asked.cancel()

    def _ask_leader(self) -> None:
        reads, self._coming = self._coming, []
        asked = self._ask(STATS_METHOD, EmptyRequest())
        if asked is None:
            self._answer(reads, self._otherwise)
            return
        self._asked = asked
        # One lost question must not hold up all reads.
        self._timer = asked.get_loop().call_later(PATIENCE_S, asked.cancel)
        asked.add_done_callback(partial(self._told, reads))

    def _told(self, reads: list[_Read], done: Future[Reply]) -> None:
        self._asked = None
        if self._timer is not None:
            self._timer.cancel()
        if self._coming:
            self._ask_leader()
        equal = False
        if not done.cancelled() and done.exception() is None:
            stats: RaftStats = done.result().value
            equal = stats.last_contact == LEADS and stats.last_index == self._applied()
        self._answer(reads, self._here if equal else self._otherwise)

    @staticmethod
    def _answer(reads: list[_Read], how: Answer) -> None:
        for method, args, future in reads:
            if future.done():
                continue  # nobody waits any more
            try:
                reply = how(method, args)
            except Exception as error:
                future.set_exception(error)
                continue
            if isinstance(reply, Reply):
                future.set_result(reply)
            else:
                follow(reply, future)
