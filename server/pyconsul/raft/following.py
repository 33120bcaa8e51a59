"""Following, for the Raft core: appends, heartbeats and snapshots of a leader."""

from __future__ import annotations

from pyconsul.raft.codec import decode_configuration
from pyconsul.raft.elections import Elections
from pyconsul.raft.messages import (
    CONFIGURATION,
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    SnapshotRequest,
    VoteRequest,
)


class Following(Elections):
    """What a server does for the leader of its term."""

    def _answer_old_term(self, message: Message) -> None:
        if isinstance(message, VoteRequest):
            self._refuse_vote(message)
        elif isinstance(message, (AppendRequest, HeartbeatRequest, SnapshotRequest)):
            # Tells a deposed leader, or one cut off while we campaigned, our term.
            self._refuse(message)

    def _refuse(self, message: Message) -> None:
        prev = message.prev_index if isinstance(message, AppendRequest) else 0
        self._answer(message, False, prev, self.log.last_index)

    def _follow(self, message: Message) -> None:
        self._become_follower(message.term, message.sender)
        self.last_leader_contact = self._now
        self._reset_election_timer()

    def _accept(self, message: Message, index: int, commit: int) -> None:
        self._answer(message, True, index, self.log.last_index, commit)

    def _answer(
        self, message: Message, success: bool, index: int, hint: int, commit: int = 0
    ) -> None:
        self._after_persist.append(
            AppendResponse(
                sender=self.id,
                target=message.sender,
                term=self.term,
                tag=message.tag,
                success=success,
                index=index,
                hint_index=hint,
                commit=commit,
            )
        )

    def _on_append(self, message: AppendRequest) -> None:
        log = self.log
        entries = message.entries
        last_new = message.prev_index + len(entries)
        if message.prev_index < log.committed:
            # What is committed here is the same in every leader's log.
            entries = entries[log.committed - message.prev_index :]
        elif log.term(message.prev_index) != message.prev_term:
            hint_index, _ = log.last_at_most(
                min(message.prev_index, log.last_index), message.prev_term
            )
            self._answer(message, False, message.prev_index, hint_index)
            return
        fresh = entries[log.conflict(entries) :]
        if fresh:
            if fresh[0].index <= log.last_index:
                log.truncate_from(fresh[0].index)
                while self._configurations[-1][0] >= fresh[0].index:
                    self._configurations.pop()
            log.append(fresh)
            for entry in fresh:
                if entry.type == CONFIGURATION:
                    self._adopt(entry.index, decode_configuration(entry.data))
        commit = min(message.commit, last_new)
        log.committed = max(log.committed, commit)
        self._accept(message, last_new, commit)

    def _on_heartbeat(self, message: HeartbeatRequest) -> None:
        answer = HeartbeatResponse(
            sender=self.id,
            target=message.sender,
            term=self.term,
            tag=message.tag,
            round=message.round,
        )
        # The answer promises the term only, not the entries being written.
        if self._durable_term == self.term:
            self._messages.append(answer)
        else:
            self._after_persist.append(answer)

    def _on_snapshot(self, message: SnapshotRequest) -> None:
        meta = message.meta
        log = self.log
        if meta.index > log.committed:
            if log.term(meta.index) == meta.term:
                log.committed = meta.index
            else:
                log.restore(meta.index, meta.term)
                self._configurations = [(meta.configuration_index, meta.configuration)]
                self.snapshot = meta
                self._restore = message
        self._accept(message, meta.index, 0)

    def wants_snapshot(self, message: SnapshotRequest) -> bool:
        """Tell whether the snapshot of this request is the next to install."""
        return self._restore is message
