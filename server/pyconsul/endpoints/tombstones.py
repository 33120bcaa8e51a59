"""Tombstone reaping: the leader forgets deletions after a while.

A deletion's index is noted in a 30 s bin; when the bin is 15 min old one
``reap`` command drops every tombstone up to it (``agent-behaviour.md`` 4).
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from typing import TYPE_CHECKING

from pyconsul.state import commands
from pyconsul.types.messages import TombstoneRequest

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server

TOMBSTONE_TTL_S = 900.0
GRANULARITY_S = 30.0


class TombstoneReaper:
    """Runs while this server leads; one timer in all."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._bins: list[tuple[float, int]] = []
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin anew: every tombstone gets a full period."""
        self.stop()
        self._tick()

    def stop(self) -> None:
        """Another server leads, or this one stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._bins.clear()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        newest = self._server.state.tombstone_max()
        if newest and (not self._bins or newest > self._bins[-1][1]):
            self._bins.append((now + TOMBSTONE_TTL_S, newest))
        due = [index for deadline, index in self._bins if deadline <= now]
        self._bins = [entry for entry in self._bins if entry[0] > now]
        if due:
            request = TombstoneRequest(reap_index=due[-1])
            reaped = self._server.log.propose(commands.encode_tombstone(request))
            reaped.add_done_callback(_note)
        self._timer = loop.call_later(GRANULARITY_S, self._tick)


def _note(done: Future[object]) -> None:
    """Take the outcome: a failed reap is made up by the next leader's."""
    if not done.cancelled():
        done.exception()
