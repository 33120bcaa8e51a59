"""The records of the Raft core: entries, messages, configuration, ``Ready``.

Indexes are 1-based (0 means none); times are seconds of the shell's clock.
Entry types are those of ``wire-raft.md`` section 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

COMMAND = 0
NOOP = 1
BARRIER = 4
CONFIGURATION = 5

VOTER = 0
NONVOTER = 1
STAGING = 2


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One log entry; ``data`` of a configuration entry is its msgpack.

    ``extensions`` name the chunk of a command that ``data`` is, if it is one.
    """

    index: int
    term: int
    type: int
    data: bytes
    extensions: bytes = b""


class Peer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A server of the cluster: ``suffrage`` is VOTER, NONVOTER or STAGING."""

    id: str
    address: str
    suffrage: int = VOTER


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part in the cluster."""

    servers: tuple[Peer, ...] = ()

    def voters(self) -> frozenset[str]:
        """Return the ids whose votes and acknowledgements count."""
        return frozenset(s.id for s in self.servers if s.suffrage == VOTER)

    def get(self, server_id: str) -> Peer | None:
        """Return the server of that id, if it is a member."""
        for server in self.servers:
            if server.id == server_id:
                return server
        return None

    def with_server(self, server: Peer) -> Configuration:
        """Return this configuration with ``server`` added or replaced."""
        kept = [s for s in self.servers if s.id != server.id]
        if len(kept) == len(self.servers):
            return Configuration(servers=(*kept, server))
        return Configuration(
            servers=tuple(server if s.id == server.id else s for s in self.servers)
        )

    def without(self, server_id: str) -> Configuration:
        """Return this configuration without the server of that id."""
        return Configuration(
            servers=tuple(s for s in self.servers if s.id != server_id)
        )


class HardState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What must be durable before a vote or an append is answered."""

    term: int = 0
    vote: str = ""


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot stands for: everything up to ``index``."""

    index: int
    term: int
    configuration: Configuration = Configuration()
    configuration_index: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries; ids name servers, not addresses.

    ``tag`` is the shell's name of a request; its one answer carries it too.
    """

    sender: str
    target: str
    term: int
    tag: int = 0


class AppendRequest(Message, frozen=True, kw_only=True):
    """Entries that follow ``(prev_index, prev_term)``, and the commit index."""

    prev_index: int
    prev_term: int
    entries: list[Entry] = msgspec.field(default_factory=list[Entry])
    commit: int = 0


class AppendResponse(Message, frozen=True, kw_only=True):
    """``index`` is the match on success, else the refused ``prev_index``.

    On refusal ``hint_index`` is the last place in the follower's log that may
    agree with the leader's; ``commit`` is what it now knows to be committed.
    """

    success: bool
    index: int
    hint_index: int = 0
    commit: int = 0


class HeartbeatRequest(Message, frozen=True, kw_only=True):
    """Leader's sign of life; ``round`` comes back in the answer."""

    round: int = 0


class HeartbeatResponse(Message, frozen=True, kw_only=True):
    """A follower still follows; proves leadership at ``round``'s sending."""

    round: int = 0


class VoteRequest(Message, frozen=True, kw_only=True):
    """``pre``: would you vote for me in ``term``? Changes nothing."""

    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


class VoteResponse(Message, frozen=True, kw_only=True):
    """The answer to a vote or a pre-vote."""

    granted: bool
    pre: bool = False


class SnapshotRequest(Message, frozen=True, kw_only=True):
    """Install a snapshot; the shells carry ``state.bin`` beside it."""

    meta: SnapshotMeta


class TimeoutNow(Message, frozen=True, kw_only=True):
    """Leadership transfer: campaign at once, whatever ``term`` says."""


class TimeoutNowResponse(Message, frozen=True, kw_only=True):
    """The request to campaign has arrived."""


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A confirmed read: valid once ``index`` is applied."""

    context: int
    index: int


class Ready(msgspec.Struct, kw_only=True):
    """Work the core hands to its shell.

    Order: ``messages`` may leave at once, beside the local sync. ``snapshot``,
    then ``hard_state``, then ``entries`` are made durable (an entry whose index
    exists replaces it and all that follow); after that, and after all earlier
    ``Ready``, the shell calls ``persisted(ready)`` and sends ``after_persist``.
    ``committed`` is applied in order, then ``applied_to(last index)``; it is
    always durable already, and no more is given until that call.
    """

    hard_state: HardState | None = None
    snapshot: SnapshotRequest | None = None
    entries: list[Entry] = msgspec.field(default_factory=list[Entry])
    messages: list[Message] = msgspec.field(default_factory=list[Message])
    after_persist: list[Message] = msgspec.field(default_factory=list[Message])
    committed: list[Entry] = msgspec.field(default_factory=list[Entry])
    reads: list[ReadState] = msgspec.field(default_factory=list[ReadState])

    def must_persist(self) -> bool:
        """Tell whether anything here needs the disk."""
        return bool(self.entries or self.hard_state or self.snapshot)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Timings (seconds) and limits; defaults are Consul's at multiplier 5."""

    election_timeout: float = 5.0
    """A follower waits this to twice this for its leader."""
    founding_spread: float | None = None
    """The founder of a cluster stands within this, a random part of it, which keeps
    apart servers that found it at the same time; ``None``: it waits as others do."""
    heartbeat_interval: float = 0.75
    lease_timeout: float = 2.5
    """A leader that no quorum answered for this long steps down."""
    snapshot_retry: float = 60.0
    """How long an unanswered snapshot is waited for before another is sent."""
    commit_interval: float = 0.002
    """How long a commit may wait for entries to ride with to the followers."""
    max_append_entries: int = 1024
    max_append_bytes: int = 1 << 20
    max_inflight: int = 128
    """Unanswered append messages a peer (hashicorp/raft: 128)."""
    max_apply_entries: int = 1024
    max_apply_bytes: int = 4 << 20
    cache_entries: int = 1024
    cache_bytes: int = 4 << 20
    """Applied entries kept in memory for followers; older ones are read back."""


class NotLeaderError(Exception):
    """The core was asked for what only a leader (or a ready one) can do."""


class ConfigurationError(Exception):
    """The membership change is not allowed now; the text says why."""


def size_of(entries: Iterable[Entry]) -> int:
    """Return the bytes entries take, headers counted roughly."""
    return sum(len(e.data) + 32 for e in entries)
