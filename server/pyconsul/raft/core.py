"""Raft, pure: messages, time and proposals in, ``Ready`` out.

The shell calls ``tick(now)`` when ``next_deadline()`` comes, ``step(message,
now)`` for each message, ``propose(...)`` for commands (after a ``tick`` for what
needs the time: membership, transfer, reads), then takes ``ready()``
and does what ``Ready`` says (its docstring states the order). Pre-vote,
check-quorum with a leader lease, pipelined appends, read index, leadership
transfer, non-voters, single-server membership change.
"""

from __future__ import annotations

from pyconsul.raft.codec import encode_configuration
from pyconsul.raft.following import Following
from pyconsul.raft.messages import (
    CONFIGURATION,
    AppendRequest,
    AppendResponse,
    Configuration,
    ConfigurationError,
    Entry,
    HardState,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    NotLeaderError,
    Ready,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from pyconsul.raft.node import Role


class Raft(Following):
    """One server of a Raft cluster.

    ``configurations`` are the membership entries known from the snapshot and
    the log, oldest first; each holds from the moment it is appended.
    """

    # --- what the shell may ask -------------------------------------------

    def caught_up(self) -> bool:
        """Tell whether a leader has applied everything of earlier terms."""
        lead = self.leadership
        return lead is not None and self.log.applied >= lead.term_start

    def has_lease(self, now: float) -> bool:
        """Tell whether no other leader can have been elected at ``now``."""
        lead = self.leadership
        if lead is None or lead.handed_over:
            # A voter told to campaign is heard although this leader is alive.
            return False
        return lead.alone() or now - lead.lease_start < self.settings.lease_timeout

    def next_deadline(self) -> float | None:
        """Return when ``tick`` is next due; ``None``: not before a message."""
        lead = self.leadership
        if lead is not None:
            if lead.alone() and not lead.followers:
                return None
            due = lead.heartbeat_due
            if lead.transfer_target:
                due = min(due, lead.transfer_deadline)
            return min(due, lead.commit_due) if lead.commit_waits() else due
        waits = self.is_voter() or self.leader_id
        return self._election_due if waits else None

    # --- inputs -------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let time pass: elections, heartbeats, the lease."""
        self._now = max(self._now, now)
        lead = self.leadership
        if lead is None:
            voters = self.configuration.voters()
            alone = len(voters) == 1 and self.id in voters
            if alone and self.role is not Role.FOLLOWER:
                return  # its own vote is on its way to the disk
            if alone or (self._now >= self._election_due and self.is_voter()):
                self._campaign(pre=not alone)
            elif self.leader_id and self._now >= self._election_due:
                # It may not stand, but knows that nobody leads it any more.
                self._become_follower(self.term, "")
            return
        if lead.transfer_target and self._now >= lead.transfer_deadline:
            lead.transfer_target = ""
        if not lead.alone() and (
            self._now - lead.lease_start > self.settings.lease_timeout
        ):
            self._become_follower(self.term, "")
        elif self._now >= lead.heartbeat_due:
            self._messages.extend(lead.begin_round(self._now))
            self._reads.extend(lead.confirmed_reads())

    def change_configuration(self, new: Configuration) -> int:
        """Propose a membership that differs in one server; return its index.

        Raises ``NotLeaderError``, or ``ConfigurationError`` when another change
        is under way, this term has committed nothing, or more would change.
        """
        lead = self.leadership
        if lead is None or lead.transfer_target:
            raise NotLeaderError
        if self.configuration_index > self.log.committed:
            raise ConfigurationError("another configuration change is under way")
        if self.log.committed < lead.term_start:
            raise ConfigurationError("the leader has committed nothing in its term")
        old = {s.id: s for s in self.configuration.servers}
        fresh = {s.id: s for s in new.servers}
        changed = [k for k in old.keys() | fresh.keys() if old.get(k) != fresh.get(k)]
        if len(changed) > 1:
            raise ConfigurationError("a change may touch one server only")
        if len(fresh) != len(new.servers):
            raise ConfigurationError("found duplicate ID in configuration")
        if not new.voters():
            raise ConfigurationError("need at least one voter in configuration")
        index = self.propose(encode_configuration(new), CONFIGURATION)
        self._adopt(index, new)
        return index

    def read_index(self, context: int) -> None:
        """Confirm leadership with a quorum; answered in ``Ready.reads``."""
        if self.leadership is None:
            raise NotLeaderError
        self.leadership.want_read(context)

    def transfer_leadership(self, target: str = "") -> str:
        """Hand over to ``target`` or the most advanced voter; return its id."""
        lead = self.leadership
        if lead is None:
            raise NotLeaderError
        others = [v for v in lead.voters if v in lead.followers]
        if target and target not in others:
            raise ConfigurationError(f"{target} is not another voter")
        if not others:
            raise ConfigurationError("there is no other voter")
        chosen = target or max(others, key=lambda v: (lead.followers[v].match, v))
        lead.transfer_target = chosen
        lead.transfer_deadline = self._now + self.settings.election_timeout
        self._maybe_timeout_now()
        return chosen

    def step_down(self) -> None:
        """Stop leading or standing, as when the disk has failed."""
        self._become_follower(self.term, "")

    def bootstrap(self, configuration: Configuration) -> None:
        """Begin the log of a new cluster; raises ``ConfigurationError``.

        Every server that is told so must be told the same configuration.
        """
        if self.log.last_index or self.log.snapshot_index or self.term:
            raise ConfigurationError("bootstrap only works on new clusters")
        if not configuration.voters():
            raise ConfigurationError("a cluster needs at least one voter")
        self._become_follower(1, "")
        data = encode_configuration(configuration)
        self.log.append([Entry(1, 1, CONFIGURATION, data)])
        self._adopt(1, configuration)
        self._reset_election_timer()
        spread = self.settings.founding_spread
        if spread is not None:
            # There is no leader to wait for.
            self._election_due = self._now + spread * self._rng.random()

    def appends_lost(self, peer: str, *, retry: bool) -> None:
        """Note that the connection to ``peer`` broke with appends under way.

        It is probed anew: at once with ``retry``, else after its next sign of
        life.
        """
        lead = self.leadership
        if lead is not None and (progress := lead.followers.get(peer)):
            progress.lost(retry=retry)

    def step(self, message: Message, now: float) -> None:
        """Take one message from another server.

        A request gets exactly one answer, in this or a later ``Ready``.
        """
        self._now = max(self._now, now)
        if isinstance(message, TimeoutNow):
            self._on_timeout_now(message)
            return
        if message.term > self.term:
            if isinstance(message, VoteRequest):
                if not message.transfer and self._leader_is_fresh():
                    self._refuse_vote(message)
                    return
                if not message.pre:
                    self._become_follower(message.term, "")
            elif not (
                isinstance(message, VoteResponse) and message.pre and message.granted
            ):
                self._become_follower(message.term, "")
        elif message.term < self.term:
            self._answer_old_term(message)
            return
        match message:
            case AppendRequest() | HeartbeatRequest() | SnapshotRequest():
                if self.leadership is not None:
                    # Only a server that lost its memory can lead this term too.
                    self._refuse(message)
                    return
                self._follow(message)
                if isinstance(message, AppendRequest):
                    self._on_append(message)
                elif isinstance(message, HeartbeatRequest):
                    self._on_heartbeat(message)
                else:
                    self._on_snapshot(message)
            case VoteRequest():
                self._on_vote_request(message)
            case VoteResponse():
                self._on_vote_response(message)
            case _:
                self._on_answer(message)

    # --- outputs --------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Return the work that has come up since the last call, if any."""
        lead = self.leadership
        if lead is not None:
            if lead.has_unsent_reads():
                self._messages.extend(lead.begin_round(self._now))
                self._reads.extend(lead.confirmed_reads())
            if lead.followers:
                self._messages.extend(lead.appends(self._now, self.snapshot))
        ready = Ready()
        state = self._handed_state
        if state.term != self.term or state.vote != self.vote:
            self._handed_state = HardState(term=self.term, vote=self.vote)
            ready.hard_state = self._handed_state
        if self._restore is not None:
            ready.snapshot, self._restore = self._restore, None
        log = self.log
        ready.entries = log.take_unhanded()
        if log.delivered == log.applied and ready.snapshot is None:
            ready.committed = log.entries(
                log.delivered + 1,
                min(log.committed, log.stable),
                self.settings.max_apply_entries,
                self.settings.max_apply_bytes,
            )
            if ready.committed:
                log.delivered = ready.committed[-1].index
        if self._messages:
            ready.messages, self._messages = self._messages, []
        if self._after_persist:
            ready.after_persist, self._after_persist = self._after_persist, []
        if self._reads:
            ready.reads, self._reads = self._reads, []
        if (
            ready.must_persist()
            or ready.committed
            or ready.messages
            or ready.after_persist
            or ready.reads
        ):
            return ready
        return None

    def take_messages(self) -> list[Message]:
        """Return what may be sent while a snapshot is being installed."""
        found, self._messages = self._messages, []
        return found

    def persisted(self, ready: Ready) -> None:
        """Note that everything ``ready`` asked to be persisted is durable."""
        state = ready.hard_state
        if state is not None:
            self._durable_term = state.term
        if (
            state is not None
            and self.role is Role.CANDIDATE
            and state.term == self.term
            and state.vote == self.id
        ):
            self._count_vote(self.id, granted=True)
        if ready.entries:
            last = ready.entries[-1]
            self.stable_to(last.index, last.term)

    def stable_to(self, index: int, term: int) -> None:
        """Note that the log is durable up to ``index`` of ``term``."""
        self.log.stable_to(index, term)
        if self.leadership is not None:
            self._maybe_commit()

    def applied_to(self, index: int) -> None:
        """Note that the FSM has applied everything up to ``index``."""
        self.log.applied_to(index)
        self.log.trim(self.settings.cache_entries, self.settings.cache_bytes)
        held = self._configurations
        while len(held) > 1 and held[1][0] <= index:
            held.pop(0)

    def advance(self, ready: Ready) -> None:
        """Do ``persisted`` and ``applied_to`` for a shell that works in place."""
        self.persisted(ready)
        if ready.committed:
            self.applied_to(ready.committed[-1].index)

    def compact(self, meta: SnapshotMeta, first_kept: int) -> None:
        """Note a durable snapshot; forget entries before ``first_kept``."""
        self.snapshot = meta
        self.log.compact(min(first_kept, meta.index + 1), meta.index, meta.term)

    def restored(self, meta: SnapshotMeta) -> None:
        """Note that a leader's shell replaced log and state by a snapshot.

        Followers get it too: what they had may differ.
        """
        self.log.restore(meta.index, meta.term)
        self.snapshot = meta

    def snapshot_failed(self, peer: str) -> None:
        """Note that a snapshot did not reach ``peer``.

        It is probed again after its next sign of life.
        """
        if self.leadership and (progress := self.leadership.followers.get(peer)):
            progress.begin_probe()
            progress.probe_sent = True

    # --- leading --------------------------------------------------------------------

    def _on_answer(self, message: Message) -> None:
        lead = self.leadership
        if lead is None:
            return
        if isinstance(message, AppendResponse):
            if lead.on_append_response(message):
                self._maybe_commit()
                self._maybe_timeout_now()
        elif isinstance(message, HeartbeatResponse):
            probe = lead.on_heartbeat_response(message, self._now)
            if probe is not None:
                self._messages.append(probe)
            self._reads.extend(lead.confirmed_reads())

    def _maybe_commit(self) -> None:
        lead = self.leadership
        log = self.log
        if lead is None:
            return
        index = lead.quorum_index()
        # Only entries of the own term commit by counting; earlier ones with them.
        if index > log.committed and index >= lead.term_start:
            log.committed = index
            lead.committed(self._now)
            self._messages.extend(lead.farewells(self._now))
            if self.configuration_index <= index and not self.is_voter():
                lead.commit_due = self._now
                self._messages.extend(lead.appends(self._now, self.snapshot))
                self._become_follower(self.term, "")

    def _maybe_timeout_now(self) -> None:
        lead = self.leadership
        if lead is None or not lead.transfer_target:
            return
        progress = lead.followers.get(lead.transfer_target)
        if progress is not None and progress.match == self.log.last_index:
            lead.handed_over = True
            self._messages.append(
                TimeoutNow(sender=self.id, target=lead.transfer_target, term=self.term)
            )
