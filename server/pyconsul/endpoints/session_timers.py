"""Session TTLs: timers of the leader that destroy what was not renewed.

A timer runs for twice the TTL, so a session never ends early; a new leader
gives each a full period (``agent-behaviour.md`` section 4).
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from typing import TYPE_CHECKING

from pyconsul.state import commands
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.messages import SessionRequest
from pyconsul.types.records import Session

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server

TTL_FACTOR = 2
DESTROY_ATTEMPTS_MAX = 6
DESTROY_RETRY_S = 10.0
"""Doubles with each failed attempt."""


class SessionTimers:
    """One timer a session with a TTL."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timers: dict[str, TimerHandle] = {}
        self._ending: set[str] = set()

    def __len__(self) -> int:
        return len(self._timers)

    def arm(self, session: Session) -> None:
        """Start the session's period anew."""
        try:
            ttl_s = parse_duration(session.ttl or "0") / 1e9
        except DurationError:
            ttl_s = 0.0  # a restored record may hold any text
        self.forget(session.id)
        if ttl_s > 0:
            self._start(session.id, ttl_s * TTL_FACTOR, 0)

    def is_ending(self, session_id: str) -> bool:
        """Say whether its time was up and the command that ends it is under way.

        Nothing can keep such a session: a renewal would promise too much.
        """
        return session_id in self._ending

    def arm_all(self) -> None:
        """Give every session a full period: we have just come to lead."""
        self.stop()
        for session in self._server.state.all_sessions():
            self.arm(session)

    def forget(self, session_id: str) -> None:
        """The session has ended."""
        timer = self._timers.pop(session_id, None)
        if timer is not None:
            timer.cancel()

    def stop(self) -> None:
        """Cancel all: another server leads, or this one stops."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _start(self, session_id: str, delay_s: float, attempt: int) -> None:
        loop = asyncio.get_running_loop()
        self._timers[session_id] = loop.call_later(
            delay_s, self._expire, session_id, attempt
        )

    def _expire(self, session_id: str, attempt: int) -> None:
        self._timers.pop(session_id, None)
        request = SessionRequest(op="destroy", session=Session(id=session_id))
        proposed = self._server.log.propose(commands.encode_session(request))
        self._ending.add(session_id)

        def retry(done: Future[object]) -> None:
            self._ending.discard(session_id)
            if done.cancelled() or done.exception() is None:
                return
            if attempt + 1 < DESTROY_ATTEMPTS_MAX and self._server.log.is_leader:
                self._start(session_id, DESTROY_RETRY_S * 2**attempt, attempt + 1)

        proposed.add_done_callback(retry)
