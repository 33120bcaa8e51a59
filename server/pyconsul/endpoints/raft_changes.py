"""Changes of the Raft configuration, one after the other.

Raft takes one change at a time; what is asked meanwhile waits here, and is
looked at again when its turn comes, as the configuration may have changed.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyconsul.raft.messages import Configuration

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server

_log = logging.getLogger("server.raft")
Change = Callable[[Configuration], Configuration]


class RaftChanges:
    """The queue; it is emptied when leadership ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: dict[str, Change] = {}
        self._running = ""

    def add(self, what: str, change: Change) -> None:
        """Do ``change`` soon; ``what`` names it in the log and is done once.

        A change that leaves the configuration as it is costs nothing; one that
        fails is logged, and is for the next pass of who asked for it.
        """
        if what != self._running:
            self._waiting[what] = change
            self._next()

    def stop(self) -> None:
        """Forget what waits: another server leads."""
        self._waiting.clear()
        self._running = ""

    def _next(self) -> None:
        log = self._server.log
        while self._waiting and not self._running and log.is_leader:
            what = next(iter(self._waiting))
            change = self._waiting.pop(what)
            if change(log.configuration) == log.configuration:
                continue
            self._running = what
            log.change_membership(change).add_done_callback(
                lambda done, what=what: self._done(what, done)
            )

    def _done(self, what: str, done: Future[object]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            _log.warning(
                'failed to change the peers: change="%s" error="%s"', what, error
            )
        elif not done.cancelled():
            _log.info("changed the peers: change=%r", what)
        if what == self._running:
            self._running = ""
            self._next()
