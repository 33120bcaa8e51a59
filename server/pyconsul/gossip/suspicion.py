"""Countdown until a suspect is declared dead (``wire-gossip.md`` 7.4).

Each independent confirmation shortens it, from the longest wait with none
down to the shortest once ``wanted`` have come.
"""

from __future__ import annotations

import math

from pyconsul.gossip.messages import Settings


def shortest_timeout_s(settings: Settings, node_count: int) -> float:
    """Return ``suspicion_mult * max(1, log10 n) * probe_interval``."""
    scale = max(1.0, math.log10(max(1, node_count)))
    return settings.suspicion_mult * scale * settings.probe_interval


class Suspicion:
    """One suspect's countdown; ``deadline`` moves as others confirm."""

    def __init__(
        self, accuser: str, *, settings: Settings, node_count: int, now: float
    ) -> None:
        self.wanted = settings.suspicion_mult - 2
        if node_count - 2 < self.wanted:
            self.wanted = 0  # too few others to confirm anything
        self.min_s = shortest_timeout_s(settings, node_count)
        self.max_s = settings.suspicion_max_timeout_mult * self.min_s
        self.started_at = now
        self._accusers = {accuser}
        self.deadline = now + self.timeout_s()

    def timeout_s(self) -> float:
        """Return the whole wait, given the confirmations so far."""
        if self.wanted < 1:
            return self.min_s
        confirmations = len(self._accusers) - 1
        part = math.log(confirmations + 1) / math.log(self.wanted + 1)
        left_s = self.max_s - part * (self.max_s - self.min_s)
        return max(self.min_s, math.floor(left_s * 1000) / 1000)

    def confirm(self, accuser: str) -> bool:
        """Take another accusation; whether it is news."""
        if len(self._accusers) > self.wanted or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        self.deadline = self.started_at + self.timeout_s()
        return True
