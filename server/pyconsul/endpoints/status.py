"""Status: who leads, and who is in the Raft configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints import autopilot
from pyconsul.endpoints.follower_reads import LEADS
from pyconsul.types.messages import EmptyRequest, Reply

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server, WriteHandler


def leader(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Status.Leader``: ``ip:port``, or empty."""
    return Reply(server.log.leader_address)


def peers(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Status.Peers``: ``ip:port`` of every server in the configuration."""
    return Reply(server.log.peers())


def raft_stats(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Status.RaftStats``: a ``RaftStats``, for autopilot and followers' reads.

    ``0`` is said by who leads with a lease and has applied all it has written:
    nobody may take anything else for the state that the leader reads from.
    """
    log = server.log
    stats = autopilot.raft_stats(log)
    settled = log.has_lease() and log.applied_index == stats.last_index
    if stats.last_contact == LEADS and not settled:
        stats = replace(stats, last_contact="never")
    return Reply(stats)


def ping(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Status.Ping``: ``True``; whoever gets it can reach us."""
    return Reply(True)


LOCAL: dict[str, WriteHandler] = {
    "Status.Leader": leader,
    "Status.Peers": peers,
    "Status.Ping": ping,
    "Status.RaftStats": raft_stats,
}
