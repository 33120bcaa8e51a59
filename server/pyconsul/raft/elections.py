"""Elections of the Raft core: campaigns, pre-votes, votes, hand-over."""

from __future__ import annotations

from pyconsul.raft.messages import (
    NOOP,
    TimeoutNow,
    TimeoutNowResponse,
    VoteRequest,
    VoteResponse,
)
from pyconsul.raft.node import Node, Role
from pyconsul.raft.quorum import tally
from pyconsul.raft.replication import Leadership


class Elections(Node):
    """How a server comes to lead, and whom it helps to."""

    def _campaign(self, *, pre: bool, transfer: bool = False) -> None:
        self._reset_election_timer()
        self.leader_id = ""
        self._votes = {}
        if pre:
            self.role = Role.PRE_CANDIDATE
            term = self.term + 1
        else:
            self.role = Role.CANDIDATE
            self.term += 1
            self.vote = self.id
            term = self.term
        for voter in sorted(self.configuration.voters() - {self.id}):
            # A request must not leave before the own vote is durable: a crash
            # in between could make this server lead the same term twice.
            self._after_persist.append(
                VoteRequest(
                    sender=self.id,
                    target=voter,
                    term=term,
                    last_index=self.log.last_index,
                    last_term=self.log.last_term,
                    pre=pre,
                    transfer=transfer,
                )
            )
        if pre:
            self._count_vote(self.id, granted=True)

    def _count_vote(self, voter: str, *, granted: bool) -> None:
        self._votes.setdefault(voter, granted)
        verdict = tally(self.configuration.voters(), self._votes)
        if verdict == "lost":
            self._become_follower(self.term, "")
        elif verdict == "won" and self.role is Role.PRE_CANDIDATE:
            self._campaign(pre=False)
        elif verdict == "won" and self.role is Role.CANDIDATE:
            self._become_leader()

    def _become_leader(self) -> None:
        self.role = Role.LEADER
        self.leader_id = self.id
        lead = Leadership(self.id, self.term, self.log, self.settings, self._now)
        lead.adopt(self.configuration, self._now)
        self.leadership = lead
        self.propose(b"", NOOP)
        self._messages.extend(lead.begin_round(self._now))

    def _leader_is_fresh(self) -> bool:
        if self.role is Role.LEADER or self._now < self._promised_until:
            return True
        contact = self.last_leader_contact
        return (
            self.leader_id != ""
            and contact is not None
            and self._now - contact < self.settings.election_timeout
        )

    def _on_vote_request(self, message: VoteRequest) -> None:
        log = self.log
        free = self.vote in ("", message.sender) and self.leader_id == ""
        may_vote = free or (message.pre and message.term > self.term)
        up_to_date = (message.last_term, message.last_index) >= (
            log.last_term,
            log.last_index,
        )
        granted = may_vote and up_to_date
        if granted and not message.pre:
            self.vote = message.sender
            self._reset_election_timer()
        self._answer_vote(message, granted)

    def _refuse_vote(self, message: VoteRequest) -> None:
        self._answer_vote(message, granted=False)

    def _answer_vote(self, message: VoteRequest, granted: bool) -> None:
        self._after_persist.append(
            VoteResponse(
                sender=self.id,
                target=message.sender,
                term=message.term if granted else self.term,
                tag=message.tag,
                granted=granted,
                pre=message.pre,
            )
        )

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        # The wire carries no term here: the sender must be who leads now.
        trusted = not message.sender or self.leader_id in ("", message.sender)
        if trusted and self.is_voter() and self.role is not Role.LEADER:
            self._campaign(pre=False, transfer=True)
        self._messages.append(
            TimeoutNowResponse(
                sender=self.id,
                target=message.sender,
                term=self.term,
                tag=message.tag,
            )
        )

    def _on_vote_response(self, message: VoteResponse) -> None:
        if message.pre and self.role is Role.PRE_CANDIDATE:
            if not message.granted or message.term == self.term + 1:
                self._count_vote(message.sender, granted=message.granted)
        elif (
            not message.pre
            and self.role is Role.CANDIDATE
            and message.term == self.term
        ):
            self._count_vote(message.sender, granted=message.granted)
