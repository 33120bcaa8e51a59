"""The rules of a supervised child: what to do at each event. No I/O.

The driver reports events (``start``, ``changed``, ``passed``, ``quit``,
``exited``, ``tick``) and carries out the actions it gets, in order, before the
next event. Times are seconds of any monotonic clock. Source: consul-template's
exec mode, observed.
"""

from __future__ import annotations

import signal

from .exits import KILLED, STOPPED

SPAWN = "spawn"
"""Start the child, with the newest environment."""
SEND = "send"
"""Send the child a signal: ``number``."""
SWEEP = "sweep"
"""Kill what is left of the child's process group."""
RUN = "run"
"""Run the command that tells the child of a change."""
LEAVE = "leave"
"""End, with the status ``number``."""

RESTART_S = 1.0
"""Pause before a child that ended by itself starts again; it doubles."""
RESTART_MAX_S = 60.0
STEADY_S = 60.0
"""A child that ran so long has not failed at once: the pause is short again."""

Action = tuple[str, int]


class ChildRules:
    """How a child is told to end; times in seconds."""

    __slots__ = (
        *("kill_signal", "kill_timeout", "reload_signal", "splay"),
        *("restart", "runs_command"),
    )

    def __init__(
        self,
        kill_signal: int = signal.SIGINT,
        kill_timeout: float = 30.0,
        splay: float = 0.0,
        reload_signal: int = 0,
        restart: str = "never",
        runs_command: bool = False,
    ) -> None:
        self.kill_signal = kill_signal
        self.kill_timeout = kill_timeout
        """From the kill signal to SIGKILL."""
        self.splay = splay
        """The most that is waited, at random, before a restart."""
        self.reload_signal = reload_signal
        """Sent instead of a restart; 0: restart."""
        self.restart = restart
        """What follows when it ends by itself: ``never`` (we leave with its
        status), ``on-failure`` or ``always`` another start."""
        self.runs_command = runs_command
        """Whether a change is told by a command, neither signal nor restart."""


class Supervision:
    """One child; see the module. ``status`` of an exit is negative for a signal."""

    def __init__(self, rules: ChildRules) -> None:
        self.rules = rules
        self.running = False
        self.restarts = 0
        self.deadline: float | None = None
        """When to call ``tick``."""
        self._stopping = False
        self._splaying = False
        self._leave: int | None = None
        """Status to leave with once the child has ended."""
        self._told_to_end = False
        self._pausing = False
        self._pauses = 0
        self._started_at = 0.0

    def start(self, now: float = 0.0) -> list[Action]:
        """Start the first child."""
        self.running = True
        self._started_at = now
        return [(SPAWN, 0)]

    def changed(
        self, now: float, chance: float, *, force: bool = False
    ) -> list[Action]:
        """The environment changed; ``chance`` from 0 to 1 picks the splay.

        ``force`` restarts at once, also a child that could be signalled.
        """
        if not self.running or self._stopping or self._told_to_end:
            return []  # The next start takes the newest environment.
        if self._splaying and not force:
            return []
        if self.rules.splay and not force:
            self._splaying = True
            self.deadline = now + self.rules.splay * chance
            return []
        return self._act(now, restart=force)

    def passed(self, number: int) -> list[Action]:
        """A signal came that is for the child."""
        if not self.running:
            if self._pausing and number == signal.SIGTERM:
                return [(LEAVE, STOPPED)]
            return []
        if number == signal.SIGTERM:
            # Whoever sends it wants all of us gone: no restart after it.
            self._told_to_end = True
            self._splaying = False
            if not self._stopping:
                self.deadline = None
        return [(SEND, number)]

    def quit(self, now: float, status: int = STOPPED) -> list[Action]:
        """Stop the child and end with ``status``; no splay."""
        self._leave = status
        if not self.running:
            return [(LEAVE, status)]
        if self._stopping:
            return []
        return self._act(now, restart=True)

    def exited(self, status: int, now: float = 0.0) -> list[Action]:
        """The child ended; ``now`` matters to one that is started again."""
        self.running = False
        self.deadline = None
        stopping, self._stopping = self._stopping, False
        self._splaying = False
        if self._leave is not None:
            return [(SWEEP, 0), (LEAVE, self._leave)]
        if stopping and not self._told_to_end:
            self.running = True
            self.restarts += 1
            self._started_at = now
            return [(SWEEP, 0), (SPAWN, 0)]
        again = self.rules.restart == "always" or (
            self.rules.restart == "on-failure" and status
        )
        if again and not self._told_to_end:
            if now - self._started_at >= STEADY_S:
                self._pauses = 0
            self._pausing = True
            self.deadline = now + min(RESTART_S * 2**self._pauses, RESTART_MAX_S)
            self._pauses = min(self._pauses + 1, 10)
            return [(SWEEP, 0)]
        return [(LEAVE, KILLED if status < 0 else status)]

    def tick(self, now: float) -> list[Action]:
        """Do what ``deadline`` was for, if it has come."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        if self._pausing:
            self._pausing = False
            self.running = True
            self.restarts += 1
            self._started_at = now
            return [(SPAWN, 0)]
        if self._splaying:
            self._splaying = False
            return self._act(now, restart=False)
        if self._stopping:
            return [(SEND, signal.SIGKILL)]
        return []

    def _act(self, now: float, *, restart: bool) -> list[Action]:
        if self.rules.reload_signal and not restart:
            return [(SEND, self.rules.reload_signal)]
        if self.rules.runs_command and not restart:
            return [(RUN, 0)]
        self._splaying = False
        self._stopping = True
        self.deadline = now + self.rules.kill_timeout
        return [(SEND, self.rules.kill_signal)]
