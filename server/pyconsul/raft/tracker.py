"""What a leader knows of one follower: where its log agrees, what is under way."""

from __future__ import annotations

from collections import deque
from enum import Enum


class Flow(Enum):
    """How a follower is fed."""

    PROBE = "probe"
    """Its log is unknown: one append at a time until one is accepted."""
    REPLICATE = "replicate"
    """Its log is known: appends are sent ahead of their answers."""
    SNAPSHOT = "snapshot"
    """It needs entries that are gone: wait until a snapshot is installed."""


class Progress:
    """Replication state of one follower.

    ``match`` is the highest index known to be stored there, ``next`` the first
    index of the next append; always ``match < next``.
    """

    __slots__ = (
        "flow",
        "inflight",
        "known_commit",
        "match",
        "max_inflight",
        "next",
        "probe_sent",
        "round",
        "sent_commit",
        "snapshot_index",
        "snapshot_sent_at",
    )

    def __init__(self, next_index: int, max_inflight: int) -> None:
        self.match = 0
        self.next = next_index
        self.flow = Flow.PROBE
        self.probe_sent = False
        self.inflight: deque[int] = deque()
        self.max_inflight = max_inflight
        self.round = 0
        self.sent_commit = 0
        self.known_commit = 0
        self.snapshot_index = 0
        self.snapshot_sent_at = 0.0

    def paused(self) -> bool:
        """Tell whether nothing may be sent until an answer comes."""
        if self.flow is Flow.PROBE:
            return self.probe_sent
        if self.flow is Flow.REPLICATE:
            return len(self.inflight) >= self.max_inflight
        return True

    def sent(self, last: int, count: int) -> None:
        """Note an append that ended at index ``last``, of ``count`` entries."""
        if self.flow is Flow.PROBE:
            self.probe_sent = True
        elif count:
            self.inflight.append(last)
            self.next = last + 1

    def accepted(self, index: int) -> bool:
        """Note success up to ``index``; tell whether ``match`` moved."""
        moved = index > self.match
        if moved:
            self.match = index
        self.next = max(self.next, self.match + 1)
        while self.inflight and self.inflight[0] <= index:
            self.inflight.popleft()
        if self.flow is Flow.PROBE or (
            self.flow is Flow.SNAPSHOT and self.match >= self.snapshot_index
        ):
            self._enter(Flow.REPLICATE)
            self.next = self.match + 1
        return moved

    def refused(self, prev_index: int, retry_after: int) -> bool:
        """Note a refusal; ``retry_after`` is where both logs may agree.

        Returns ``False`` for an answer that newer knowledge has overtaken. A
        follower that lost its disk no longer has what it once confirmed.
        """
        if self.flow is Flow.SNAPSHOT:
            return False
        if self.flow is Flow.REPLICATE:
            if prev_index <= self.match and retry_after >= self.match:
                return False
            self._enter(Flow.PROBE)
        elif self.next - 1 != prev_index:
            return False
        self.match = min(self.match, retry_after)
        self.next = max(min(prev_index, retry_after + 1), self.match + 1)
        self.probe_sent = False
        return True

    def lost(self, *, retry: bool) -> None:
        """Note that appends under way were lost; probe now or later."""
        if self.flow is not Flow.SNAPSHOT:
            self._enter(Flow.PROBE)
            self.next = self.match + 1
            self.probe_sent = not retry

    def begin_snapshot(self, index: int, now: float) -> None:
        """Note that the snapshot up to ``index`` was sent at ``now``."""
        self._enter(Flow.SNAPSHOT)
        self.snapshot_index = index
        self.snapshot_sent_at = now

    def begin_probe(self) -> None:
        """Go back to probing, as after a failed snapshot."""
        self._enter(Flow.PROBE)
        self.next = self.match + 1

    def _enter(self, flow: Flow) -> None:
        self.flow = flow
        self.probe_sent = False
        self.inflight.clear()
