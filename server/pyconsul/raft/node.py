"""What every server of a Raft cluster has, whatever its role."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum

from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    COMMAND,
    Configuration,
    Entry,
    HardState,
    Message,
    NotLeaderError,
    ReadState,
    Settings,
    SnapshotMeta,
    SnapshotRequest,
)
from pyconsul.raft.replication import Leadership


class Role(Enum):
    """What a server is in its term; the value is Consul's spelling."""

    FOLLOWER = "Follower"
    PRE_CANDIDATE = "PreCandidate"
    CANDIDATE = "Candidate"
    LEADER = "Leader"


class Node:
    """Term, log, membership and what waits to be handed to the shell."""

    def __init__(
        self,
        server_id: str,
        log: RaftLog,
        *,
        hard_state: HardState | None = None,
        configurations: Sequence[tuple[int, Configuration]] = (),
        snapshot: SnapshotMeta | None = None,
        settings: Settings | None = None,
        rng: random.Random,
        now: float,
    ) -> None:
        state = hard_state or HardState()
        self.id = server_id
        self.log = log
        self.settings = settings or Settings()
        self.term: int = state.term
        self.vote: str = state.vote
        self.role = Role.FOLLOWER
        self.leader_id = ""
        self.leadership: Leadership | None = None
        self.snapshot = snapshot
        self.last_leader_contact: float | None = None
        self._configurations = list(configurations) or [(0, Configuration())]
        self._rng = rng
        self._now = now
        self._votes: dict[str, bool] = {}
        self._handed_state = state
        self._durable_term = state.term
        self._restore: SnapshotRequest | None = None
        self._messages: list[Message] = []
        self._after_persist: list[Message] = []
        self._reads: list[ReadState] = []
        self._election_due = 0.0
        # A voter that crashed may have promised a leader its lease.
        self._promised_until = now + self.settings.lease_timeout if state.term else now
        self._reset_election_timer()

    @property
    def configuration(self) -> Configuration:
        """The latest membership, committed or not."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where the latest membership stands in the log."""
        return self._configurations[-1][0]

    def applied_configuration(self) -> tuple[int, Configuration]:
        """Return the membership as of the last applied entry."""
        found = self._configurations[0]
        for index, configuration in self._configurations:
            if index <= self.log.applied:
                found = (index, configuration)
        return found

    def is_voter(self) -> bool:
        """Tell whether this server may stand for election.

        One that an uncommitted change demotes or removes still may: the others
        can lack that very entry and then elect nobody else (thesis 4.2.2).
        """
        if self.id in self.configuration.voters():
            return True
        return self.configuration_index > self.log.committed and any(
            self.id in held.voters() for _, held in self._configurations
        )

    def propose(self, data: bytes, type: int = COMMAND) -> int:
        """Append one entry; return its index. Raises ``NotLeaderError``."""
        return self.propose_many((data,), type)

    def propose_many(
        self,
        batch: Sequence[bytes],
        type: int = COMMAND,
        *,
        extensions: Sequence[bytes] = (),
    ) -> int:
        """Append entries in order; return the index of the first.

        ``extensions`` are one for each entry, or none at all.
        """
        lead = self.leadership
        if lead is None or lead.transfer_target:
            raise NotLeaderError
        term = self.term
        first = self.log.last_index + 1
        if extensions:
            entries = [
                Entry(first + at, term, type, data, extensions[at])
                for at, data in enumerate(batch)
            ]
        else:
            entries = [
                Entry(at, term, type, data) for at, data in enumerate(batch, first)
            ]
        self.log.append(entries)
        return first

    def _become_follower(self, term: int, leader: str) -> None:
        if term > self.term:
            self.term = term
            self.vote = ""
        if self.role is not Role.FOLLOWER or self.leadership is not None:
            self._reset_election_timer()
        if self.leadership is not None:
            # Until now the leader was here; its state is no older than that.
            self.last_leader_contact = self._now
        self.role = Role.FOLLOWER
        self.leader_id = leader
        self.leadership = None

    def _reset_election_timer(self) -> None:
        timeout = self.settings.election_timeout
        self._election_due = self._now + timeout * (1 + self._rng.random())

    def _adopt(self, index: int, configuration: Configuration) -> None:
        self._configurations.append((index, configuration))
        if self.leadership is not None:
            self.leadership.adopt(configuration, self._now)
