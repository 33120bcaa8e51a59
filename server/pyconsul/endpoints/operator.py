"""Operator: the Raft configuration (``http-api-operator-acl.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.raft.messages import VOTER
from pyconsul.state.watch import Read
from pyconsul.types.errors import PermissionDeniedError
from pyconsul.types.messages import EmptyRequest
from pyconsul.types.ui import RaftConfiguration, RaftServer

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server

_UNKNOWN = "(unknown)"
_PROTOCOL = "3"


def raft_configuration(server: Server, args: EmptyRequest, who: Authorizer) -> Read:
    """``Operator.RaftGetConfiguration``: a ``RaftConfiguration``; never blocks."""
    if not who.allows_all:
        raise PermissionDeniedError
    log = server.log
    names = {row.record.id: row.record.node for row in server.state.nodes().value}
    names[server.options.node_id] = server.options.node_name
    leader = log.leader_address
    servers = [
        RaftServer(
            id=peer.id,
            node=names.get(peer.id, _UNKNOWN),
            address=peer.address,
            leader=peer.address == leader,
            protocol_version=_PROTOCOL,
            voter=peer.suffrage == VOTER,
        )
        for peer in log.configuration.servers
    ]
    value = RaftConfiguration(servers=servers, index=log.configuration_index)
    return Read(value, 1, ())


READS: dict[str, ReadHandler] = {"Operator.RaftGetConfiguration": raft_configuration}
