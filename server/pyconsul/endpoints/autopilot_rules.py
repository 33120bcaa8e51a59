"""Autopilot's decisions, pure: who is healthy, promoted, or removed.

``agent-behaviour.md`` section 4. Durations are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pyconsul.endpoints.pool import ServerMember
from pyconsul.raft.messages import NONVOTER, VOTER, Configuration, Peer
from pyconsul.serf.member import Status
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.operations import AutopilotConfig, RaftStats, ServerHealth


def contact_ns(text: str) -> int:
    """Return the nanoseconds of a ``LastContact``, -1 for ``never`` and the like."""
    try:
        return parse_duration(text or "0")
    except DurationError:
        return -1


def is_healthy(
    config: AutopilotConfig,
    status: Status,
    stats: RaftStats | None,
    leader: RaftStats,
    *,
    heartbeat_ns: int = 0,
) -> bool:
    """Say whether a server that answered ``stats`` keeps up with the leader.

    A leader with nothing to say is heard once in ``heartbeat_ns``: only what
    is later than that counts as silence.
    """
    silence_ns = config.last_contact_threshold + heartbeat_ns
    if status != Status.ALIVE or stats is None:
        return False
    return (
        0 <= contact_ns(stats.last_contact) <= silence_ns
        and stats.last_term == leader.last_term
        and stats.last_index + config.max_trailing_logs >= leader.last_index
    )


def failure_tolerance(servers: Iterable[ServerHealth]) -> int:
    """Return how many more voters may fail before the quorum is lost."""
    voters = [server for server in servers if server.voter]
    quorum = len(voters) // 2 + 1
    return max(0, sum(server.healthy for server in voters) - quorum)


def promotions(
    servers: Iterable[ServerHealth],
    replicas: frozenset[str],
    now_ns: int,
    stable_ns: int,
) -> list[str]:
    """Return the ids of non-voters that are stable and may vote."""
    return [
        server.id
        for server in servers
        if not server.voter
        and server.healthy
        and server.id not in replicas
        and now_ns - server.stable_since >= stable_ns
    ]


class Removals(msgspec.Struct, frozen=True, kw_only=True):
    """Dead servers: ids to drop from Raft, members that gossip is to drop.

    ``refused`` is ``(id, why)`` of those that have to stay.
    """

    stale: list[str]
    failed: list[str]
    refused: list[tuple[str, str]]


def removals(
    configuration: Configuration,
    members: Mapping[str, ServerMember],
    own_id: str,
    min_quorum: int,
) -> Removals:
    """Return the dead servers that may be removed in one pass.

    ``members`` by id. Non-voters always; of the voters less than half, and
    never so many that fewer than ``min_quorum`` are left.
    """
    found = Removals(stale=[], failed=[], refused=[])
    dead = [p for p in configuration.servers if _is_dead(p, members, own_id)]
    voters = len(configuration.voters())
    allowed = (voters - 1) // 2
    # Those without a member first: nothing else will ever remove them.
    for peer in sorted(dead, key=lambda peer: peer.id in members):
        if peer.suffrage == VOTER:
            if voters - 1 < min_quorum:
                why = "would leave less voters than the minimum number allowed"
                found.refused.append((peer.id, why))
                continue
            if allowed < 1:
                why = "removal of a majority of servers is not safe"
                found.refused.append((peer.id, why))
                continue
            voters -= 1
            allowed -= 1
        member = members.get(peer.id)
        if member is None:
            found.stale.append(peer.id)
        else:
            found.failed.append(member.name)
    return found


def _is_dead(peer: Peer, members: Mapping[str, ServerMember], own_id: str) -> bool:
    if peer.id == own_id:
        return False
    member = members.get(peer.id)
    return member is None or member.status == Status.FAILED


def duplicate_of(configuration: Configuration, server: ServerMember) -> Peer | None:
    """Return the peer that has the server's address, but another id."""
    for peer in configuration.servers:
        if peer.address == server.address and peer.id != server.id:
            return peer
    return None


def may_replace(configuration: Configuration, peer: Peer) -> bool:
    """Say whether a peer may be dropped for a newcomer at its address."""
    return peer.suffrage != VOTER or (len(configuration.voters()) - 1) // 2 >= 1


def is_foreign(configuration: Configuration, server: ServerMember, led_by: str) -> bool:
    """Say whether a server that is no peer is led by somebody else than our peers.

    ``led_by`` is its answer to ``Status.Leader``. Itself it can only lead alone.
    """
    ours = {peer.address for peer in configuration.servers} - {server.address}
    return led_by != "" and led_by not in ours


def with_newcomer(configuration: Configuration, server: ServerMember) -> Configuration:
    """Return the configuration with the server in it, at its address.

    A known server keeps its vote; a new one has none yet.
    """
    known = configuration.get(server.id)
    if known is None:
        newcomer = Peer(id=server.id, address=server.address, suffrage=NONVOTER)
        return configuration.with_server(newcomer)
    if known.address == server.address:
        return configuration
    moved = Peer(id=known.id, address=server.address, suffrage=known.suffrage)
    return configuration.with_server(moved)


def promoted(configuration: Configuration, server_id: str) -> Configuration:
    """Return the configuration with that non-voter voting."""
    known = configuration.get(server_id)
    if known is None or known.suffrage == VOTER:
        return configuration
    voter = Peer(id=known.id, address=known.address, suffrage=VOTER)
    return configuration.with_server(voter)


def by_id(servers: Sequence[ServerMember]) -> dict[str, ServerMember]:
    """Return the servers by id; of several with one id, the one that lives."""
    found: dict[str, ServerMember] = {}
    for server in servers:
        if server.id and (
            server.id not in found or found[server.id].status != Status.ALIVE
        ):
            found[server.id] = server
    return found
