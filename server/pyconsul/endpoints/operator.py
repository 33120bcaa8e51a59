"""Operator: Raft peers and autopilot (``http-api-operator-acl.md`` 1, 2)."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.futures import then
from pyconsul.raft.messages import VOTER, Peer
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import DCSpecificRequest, EmptyRequest, Reply
from pyconsul.types.operations import (
    AutopilotSetConfigRequest,
    RaftRemovePeerRequest,
    RaftTransferLeaderRequest,
)
from pyconsul.types.ui import RaftConfiguration, RaftServer

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_log = logging.getLogger("server.operator")
_UNKNOWN = "(unknown)"
_PROTOCOL = "3"
TRANSFER_S = 5.0
"""How long another server may take to lead; it needs one election."""


def raft_configuration(server: Server, args: EmptyRequest, who: Authorizer) -> Read:
    """``Operator.RaftGetConfiguration``: a ``RaftConfiguration``; never blocks."""
    _check(who)
    log = server.log
    names = {row.record.id: row.record.node for row in server.state.nodes().value}
    members = server.cluster.autopilot.servers()
    names |= {member.id: member.name for member in members.values()}
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


def remove_peer_by_id(
    server: Server, args: RaftRemovePeerRequest, who: Authorizer
) -> Future[Reply]:
    """``Operator.RaftRemovePeerByID``: ``True`` once it is out."""
    _check(who)
    peer = server.log.configuration.get(args.id)
    if peer is None:
        raise ConsulError(f'id "{args.id}" was not found in the Raft configuration')
    return _remove(server, peer)


def remove_peer_by_address(
    server: Server, args: RaftRemovePeerRequest, who: Authorizer
) -> Future[Reply]:
    """``Operator.RaftRemovePeerByAddress``: ``True`` once it is out."""
    _check(who)
    for peer in server.log.configuration.servers:
        if peer.address == args.address:
            return _remove(server, peer)
    raise ConsulError(
        f'address "{args.address}" was not found in the Raft configuration'
    )


def _remove(server: Server, peer: Peer) -> Future[Reply]:
    removed = server.log.change_membership(lambda known: known.without(peer.id))

    def done(_: object) -> Reply:
        _log.warning("removed Raft peer: id=%s address=%s", peer.id, peer.address)
        return Reply(True)

    return then(removed, done)


def transfer_leader(
    server: Server, args: RaftTransferLeaderRequest, who: Authorizer
) -> Future[Reply]:
    """``Operator.TransferLeader``: ``True`` once this server leads no more."""
    _check(who)
    if args.id and server.log.configuration.get(args.id) is None:
        raise ConsulError(f'id "{args.id}" was not found in the Raft configuration')
    loop = asyncio.get_running_loop()
    done: Future[Reply] = loop.create_future()

    def changed(leads: bool) -> None:
        if not leads and not done.done():
            done.set_result(Reply(True))

    def late() -> None:
        if not done.done():
            done.set_exception(ConsulError("leadership transfer timeout"))

    callbacks = server.log.on_leader_change
    callbacks.append(changed)
    timer = loop.call_later(TRANSFER_S, late)

    def ended(_: Future[Reply]) -> None:
        timer.cancel()
        callbacks.remove(changed)

    done.add_done_callback(ended)
    try:
        chosen = server.log.transfer_leadership(args.id)
    except ConsulError as error:
        done.set_exception(error)
    else:
        _log.info("transferring the leadership: to=%s", chosen)
    return done


def autopilot_config(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Operator.AutopilotGetConfiguration``: an ``AutopilotConfig``."""
    _check(who)
    read = server.state.autopilot_config()
    read.value = server.cluster.autopilot.config
    return read


def set_autopilot_config(
    server: Server, args: AutopilotSetConfigRequest, who: Authorizer
) -> Future[Reply]:
    """``Operator.AutopilotSetConfiguration``: whether it was written."""
    _check(who)
    written = server.log.propose(commands.encode_autopilot(args))
    return then(written, lambda result: Reply(result))


def server_health(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Operator.ServerHealth``: an ``AutopilotHealth``; never blocks."""
    _check(who)
    return Read(server.cluster.autopilot.health(), 1, ())


def _check(who: Authorizer) -> None:
    if not who.allows_all:
        raise PermissionDeniedError


READS: dict[str, ReadHandler] = {
    "Operator.AutopilotGetConfiguration": autopilot_config,
    "Operator.RaftGetConfiguration": raft_configuration,
    "Operator.ServerHealth": server_health,
}
WRITES: dict[str, WriteHandler] = {
    "Operator.AutopilotSetConfiguration": set_autopilot_config,
    "Operator.RaftRemovePeerByAddress": remove_peer_by_address,
    "Operator.RaftRemovePeerByID": remove_peer_by_id,
    "Operator.TransferLeader": transfer_leader,
}
