"""Status: who leads, and who is in the Raft configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints import autopilot
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
    """``Status.RaftStats``: a ``RaftStats`` of this server, for autopilot."""
    return Reply(autopilot.raft_stats(server.log))


def ping(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Status.Ping``: ``True``; whoever gets it can reach us."""
    return Reply(True)


LOCAL: dict[str, WriteHandler] = {
    "Status.Leader": leader,
    "Status.Peers": peers,
    "Status.Ping": ping,
    "Status.RaftStats": raft_stats,
}
