"""What only a leader has: followers' progress, lease rounds, pending reads.

A *round* numbers one volley of heartbeats. A follower's answer to round ``r``
proves that it still followed when round ``r`` was *sent*, so one number serves
the leader's lease, check-quorum and read index. Pure, like the core it is of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    Configuration,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    ReadState,
    Settings,
    SnapshotMeta,
    SnapshotRequest,
)
from pyconsul.raft.quorum import agreed
from pyconsul.raft.tracker import Flow, Progress


class Leadership:
    """One term of leading; made on election, dropped on stepping down."""

    def __init__(
        self,
        server_id: str,
        term: int,
        log: RaftLog,
        settings: Settings,
        now: float,
    ) -> None:
        self.id = server_id
        self.term = term
        self.log = log
        self.settings = settings
        self.term_start = log.last_index + 1
        self.followers: dict[str, Progress] = {}
        self._departing: dict[str, tuple[Progress, int]] = {}
        """Servers removed at an index that is not committed yet."""
        self.voters: frozenset[str] = frozenset()
        self.round = 0
        self.lease_start = now
        self.heartbeat_due = now
        self.commit_due = now
        """When followers are told of a commit, if no entries tell them before."""
        self.transfer_target = ""
        self.transfer_deadline = 0.0
        self.handed_over = False
        """Another was told to campaign: leases are void for the rest of the term."""
        self._rounds: deque[tuple[int, float]] = deque()
        self._unsent_reads: list[int] = []
        self._reads: deque[tuple[int, int, int]] = deque()

    def adopt(self, configuration: Configuration, now: float) -> None:
        """Follow a new membership: track who joined, forget who left."""
        if self.alone():
            # Until now no round was needed; others get a whole lease to answer.
            self.lease_start = now
            self.heartbeat_due = now
        self.voters = configuration.voters()
        members = {s.id for s in configuration.servers if s.id != self.id}
        for gone in self.followers.keys() - members:
            self._departing[gone] = self.followers.pop(gone), self.log.last_index
        for server_id in sorted(members - self.followers.keys()):
            self._departing.pop(server_id, None)
            self.followers[server_id] = Progress(
                self.log.last_index + 1, self.settings.max_inflight
            )

    def quorum_index(self) -> int:
        """Return the highest index that a majority of voters has durably."""
        if len(self.voters) == 1 and self.id in self.voters:
            return self.log.stable
        return int(agreed(self._match(v) for v in self.voters))

    def _match(self, voter: str) -> int:
        if voter == self.id:
            return self.log.stable
        progress = self.followers.get(voter)
        return progress.match if progress else 0

    # --- rounds: heartbeats, lease, reads -------------------------------

    def begin_round(self, now: float) -> Iterable[Message]:
        """Number a new volley and return its heartbeats."""
        self.round += 1
        self._rounds.append((self.round, now))
        for context in self._unsent_reads:
            index = max(self.log.committed, self.term_start)
            self._reads.append((self.round, context, index))
        self._unsent_reads.clear()
        self.heartbeat_due = now + self.settings.heartbeat_interval
        for peer in self.followers:
            yield HeartbeatRequest(
                sender=self.id,
                target=peer,
                term=self.term,
                round=self.round,
            )

    def want_read(self, context: int) -> None:
        """Ask that the next round confirm a read."""
        self._unsent_reads.append(context)

    def has_unsent_reads(self) -> bool:
        """Tell whether a read waits for a round to be sent."""
        return bool(self._unsent_reads)

    def confirmed_reads(self) -> list[ReadState]:
        """Advance the lease by the rounds a quorum answered; return its reads."""
        confirmed = int(
            agreed(
                self.round
                if v == self.id
                else (p.round if (p := self.followers.get(v)) else 0)
                for v in self.voters
            )
        )
        while self._rounds and self._rounds[0][0] <= confirmed:
            self.lease_start = max(self.lease_start, self._rounds.popleft()[1])
        found: list[ReadState] = []
        while self._reads and self._reads[0][0] <= confirmed:
            _, context, index = self._reads.popleft()
            found.append(ReadState(context, index))
        return found

    def alone(self) -> bool:
        """Tell whether this leader is the only voter."""
        return len(self.voters) == 1 and self.id in self.voters

    # --- appends ---------------------------------------------------------

    def committed(self, now: float) -> None:
        """Note that the commit index moved; followers must learn of it soon."""
        if self.commit_due <= now:
            self.commit_due = now + self.settings.commit_interval

    def farewells(self, now: float) -> list[Message]:
        """Tell servers whose removal is committed so, once, as far as they follow.

        One that knows can leave at once, and will not stand for election.
        """
        out: list[Message] = []
        for peer, (progress, index) in sorted(self._departing.items()):
            if index > self.log.committed:
                continue
            del self._departing[peer]
            if progress.flow is Flow.REPLICATE:
                message = self._append(peer, progress, now, None)
                if message is not None:
                    out.append(message)
        return out

    def commit_waits(self) -> bool:
        """Tell whether some follower is to be told of a commit when it is due."""
        committed = self.log.committed
        for progress in self.followers.values():
            if progress.sent_commit < committed and not progress.paused():
                return True
        return False

    def appends(self, now: float, snapshot: SnapshotMeta | None) -> list[Message]:
        """Return every append (or snapshot) that may be sent now."""
        out: list[Message] = []
        tell_commit = now >= self.commit_due
        for peer, progress in self.followers.items():
            while not progress.paused():
                behind = progress.next <= self.log.last_index
                stale_commit = tell_commit and progress.sent_commit < self.log.committed
                probing = progress.flow is Flow.PROBE
                if not behind and not stale_commit and not probing:
                    break
                message = self._append(peer, progress, now, snapshot)
                if message is None:
                    break
                out.append(message)
        return out

    def _append(
        self,
        peer: str,
        progress: Progress,
        now: float,
        snapshot: SnapshotMeta | None,
    ) -> Message | None:
        log = self.log
        prev = progress.next - 1
        prev_term = log.term(prev)
        if prev_term is None or progress.next < log.first_index:
            if snapshot is None:
                return None
            progress.begin_snapshot(snapshot.index, now)
            return SnapshotRequest(
                sender=self.id, target=peer, term=self.term, meta=snapshot
            )
        entries = log.entries(
            progress.next,
            log.last_index,
            self.settings.max_append_entries,
            self.settings.max_append_bytes,
        )
        progress.sent(prev + len(entries), len(entries))
        progress.sent_commit = log.committed
        return AppendRequest(
            sender=self.id,
            target=peer,
            term=self.term,
            prev_index=prev,
            prev_term=prev_term,
            entries=entries,
            commit=log.committed,
        )

    def on_append_response(self, message: AppendResponse) -> bool:
        """Learn from an answer; tell whether the peer's match moved."""
        progress = self.followers.get(message.sender)
        if progress is None:
            return False
        if message.success:
            progress.known_commit = max(progress.known_commit, message.commit)
            return progress.accepted(min(message.index, self.log.last_index))
        progress.refused(message.index, message.hint_index)
        return False

    def on_heartbeat_response(
        self, message: HeartbeatResponse, now: float
    ) -> Message | None:
        """Note the round; return a probe when appends may have been lost."""
        progress = self.followers.get(message.sender)
        if progress is None:
            return None
        progress.round = max(progress.round, min(message.round, self.round))
        if progress.flow is Flow.SNAPSHOT:
            if now - progress.snapshot_sent_at >= self.settings.snapshot_retry:
                progress.begin_probe()
            return None
        progress.probe_sent = False
        if progress.flow is Flow.PROBE:
            return None
        lost = progress.inflight and progress.match < self.log.last_index
        if not lost and progress.known_commit >= self.log.committed:
            return None
        if len(progress.inflight) >= progress.max_inflight:
            progress.inflight.popleft()
        prev = progress.next - 1
        prev_term = self.log.term(prev)
        if prev_term is None:
            return None
        progress.sent_commit = self.log.committed
        return AppendRequest(
            sender=self.id,
            target=message.sender,
            term=self.term,
            prev_index=prev,
            prev_term=prev_term,
            commit=self.log.committed,
        )
