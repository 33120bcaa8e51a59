"""The member table: memberlist events and intents become a status (8.4).

Intents carry a Lamport time; the newest one about a member counts, whatever
the order of arrival. So a graceful leave, whose intent comes before the dead
message, ends as *left*, and a crash as *failed*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from pyconsul.gossip.messages import Node
from pyconsul.serf.clock import LamportClock
from pyconsul.serf.member import Member, MemberEvent, Status
from pyconsul.serf.messages import JoinIntent, LeaveIntent
from pyconsul.serf.settings import Settings
from pyconsul.serf.tags import decode_tags
from pyconsul.types.durations import SECOND, DurationError, parse_duration

RECONNECT_TAG: Final = "rc_tm"
_RECENT_INTENTS_MAX: Final = 8192
"""Intents about unknown names come from the network: the oldest go first."""


@dataclass(slots=True)
class MemberState:
    """A member, and the time of the last intent about it."""

    member: Member
    status_ltime: int = 0
    position: int = 0


@dataclass(slots=True, frozen=True)
class RecentIntent:
    """An intent about a member that is not known (yet)."""

    is_join: bool
    ltime: int
    heard_at: float


class MemberTable:
    """Members by name; events go to ``emit`` in order.

    ``on_accused`` is called when a leave intent names us while we stay,
    ``on_prune`` when a member is to be forgotten, ``on_forgotten`` when it was.
    """

    def __init__(
        self,
        local_name: str,
        settings: Settings,
        *,
        emit: Callable[[MemberEvent], None],
        on_accused: Callable[[], None],
        on_prune: Callable[[Member], None],
        on_forgotten: Callable[[str], None],
    ) -> None:
        """Begin empty."""
        self.clock = LamportClock()
        self.states: dict[str, MemberState] = {}
        self.failed: dict[str, None] = {}
        self.left: dict[str, None] = {}
        self.is_staying = True
        """Whether a leave intent about us is to be refuted."""
        self._names: list[str] = []  # for random choice
        self._local_name = local_name
        self._settings = settings
        self._emit = emit
        self._on_accused = on_accused
        self._on_prune = on_prune
        self._on_forgotten = on_forgotten
        self._recent: dict[str, RecentIntent] = {}

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Member]:
        return (state.member for state in self.states.values())

    def get(self, name: str) -> Member | None:
        """Return a member by name."""
        state = self.states.get(name)
        return None if state is None else state.member

    def at(self, position: int) -> Member:
        """Return the member at a position below ``len``, for random choice."""
        return self.states[self._names[position]].member

    # What memberlist tells.

    def joined(self, node: Node) -> None:
        """A node is alive that was not before."""
        member = member_of(node)
        state = self.states.get(node.name)
        if state is None:
            state = MemberState(member, position=len(self._names))
            recent = self._recent.pop(node.name, None)
            if recent is not None:
                state.status_ltime = recent.ltime
                if not recent.is_join:
                    state.member = replace(member, status=Status.LEAVING)
            self.states[node.name] = state
            self._names.append(node.name)
        else:
            state.member = member
            self.failed.pop(node.name, None)
            self.left.pop(node.name, None)
        self._emit(MemberEvent(kind="join", members=[state.member]))

    def gone(self, node: Node, now: float) -> None:
        """A node is dead or left."""
        state = self.states.get(node.name)
        if state is None:
            return
        if state.member.status is Status.LEAVING:
            self._settle(state, Status.LEFT, now)
        elif state.member.status is Status.ALIVE:
            self._settle(state, Status.FAILED, now)

    def updated(self, node: Node) -> None:
        """A node's tags, address or versions changed."""
        state = self.states.get(node.name)
        if state is None:
            return
        held = state.member
        state.member = replace(
            member_of(node), status=held.status, left_at=held.left_at
        )
        self._emit(MemberEvent(kind="update", members=[state.member]))

    # What intents tell; they return whether to pass the intent on.

    def join_intent(self, intent: JoinIntent, now: float) -> bool:
        """A node says that it joined."""
        self.clock.witness(intent.ltime)
        state = self.states.get(intent.node)
        if state is None:
            return self._keep_recent(intent.node, RecentIntent(True, intent.ltime, now))
        if intent.ltime <= state.status_ltime:
            return False
        state.status_ltime = intent.ltime
        if state.member.status is Status.LEAVING:
            state.member = replace(state.member, status=Status.ALIVE)
        return True

    def leave_intent(self, intent: LeaveIntent, now: float) -> bool:
        """A node is about to leave, or was made to."""
        self.clock.witness(intent.ltime)
        state = self.states.get(intent.node)
        if state is None:
            recent = RecentIntent(False, intent.ltime, now)
            return self._keep_recent(intent.node, recent)
        is_accused = intent.node == self._local_name and self.is_staying
        if is_accused and intent.ltime >= state.status_ltime:
            # Also at equal times: others may have heard this one first.
            self._on_accused()
            return False
        if intent.ltime <= state.status_ltime:
            return False
        status = state.member.status
        if status is Status.ALIVE:
            state.status_ltime = intent.ltime
            state.member = replace(state.member, status=Status.LEAVING)
        elif status is Status.FAILED:
            state.status_ltime = intent.ltime
            # It failed at some time; what starts now is its time as a left one.
            self.failed.pop(intent.node, None)
            self._settle(state, Status.LEFT, state.member.left_at)
        elif not intent.prune:
            # The time stays: else two nodes would push it up at each other,
            # one with every push/pull (the tombstone quirk of 8.3).
            return False
        else:
            state.status_ltime = intent.ltime
        if intent.prune:
            self._on_prune(state.member)
        return True

    def is_news(self, name: str, ltime: int) -> bool:
        """Tell whether a join intent would change anything."""
        state = self.states.get(name)
        return state is None or ltime > state.status_ltime

    # Time.

    def reap(self, now: float) -> None:
        """Forget members that failed or left long ago, and old intents."""
        for name in list(self.failed):
            member = self.states[name].member
            if now - member.left_at > self._reconnect_timeout_s(member):
                self.forget(name)
        for name in list(self.left):
            member = self.states[name].member
            if now - member.left_at > self._settings.tombstone_timeout_s:
                self.forget(name)
        oldest = now - self._settings.recent_intent_timeout_s
        for name in [n for n, i in self._recent.items() if i.heard_at < oldest]:
            del self._recent[name]

    def forget(self, name: str) -> None:
        """Erase a member; emits ``reap``."""
        state = self.states.pop(name, None)
        if state is None:
            return
        self.failed.pop(name, None)
        self.left.pop(name, None)
        last = self._names.pop()
        if last != name:
            self._names[state.position] = last
            self.states[last].position = state.position
        self._on_forgotten(name)
        self._emit(MemberEvent(kind="reap", members=[state.member]))

    def forget_unless_alive(self, name: str) -> None:
        """Erase a member that was to be pruned, if it has not come back."""
        state = self.states.get(name)
        if state is not None and state.member.status is not Status.ALIVE:
            self.forget(name)

    def _settle(self, state: MemberState, status: Status, at: float) -> None:
        state.member = replace(state.member, status=status, left_at=at)
        name = state.member.name
        if status is Status.LEFT:
            self.left[name] = None
            self._emit(MemberEvent(kind="leave", members=[state.member]))
        else:
            self.failed[name] = None
            self._emit(MemberEvent(kind="failed", members=[state.member]))

    def _keep_recent(self, name: str, intent: RecentIntent) -> bool:
        held = self._recent.get(name)
        if held is not None and intent.ltime <= held.ltime:
            return False
        if held is None and len(self._recent) >= _RECENT_INTENTS_MAX:
            del self._recent[next(iter(self._recent))]
        self._recent[name] = intent
        return True

    def _reconnect_timeout_s(self, member: Member) -> float:
        text = member.tags.get(RECONNECT_TAG)
        if text:
            try:
                return parse_duration(text) / SECOND
            except DurationError:
                pass  # as if it had not said anything
        return self._settings.reconnect_timeout_s


def member_of(node: Node) -> Member:
    """Return a node as a live member."""
    return _member(node.name, node.host, node.port, node.meta, node.versions)


@lru_cache(maxsize=8192)
def _member(name: str, host: str, port: int, meta: bytes, versions: bytes) -> Member:
    # Cached: alive messages repeat, and so do members across simulated cores.
    pmin, pmax, pcur, dmin, dmax, dcur = versions.ljust(6, b"\0")[:6]
    return Member(
        name=name,
        host=host,
        port=port,
        tags=decode_tags(meta),
        status=Status.ALIVE,
        protocol_min=pmin,
        protocol_max=pmax,
        protocol_cur=pcur,
        delegate_min=dmin,
        delegate_max=dmax,
        delegate_cur=dcur,
    )
