"""Members into the catalog: what the leader does about each of gossip's members.

``agent-behaviour.md`` section 4. Every member is looked at when it changes,
when leadership is gained and every minute; nothing is proposed while the
catalog agrees, and what failed is made up at the next look.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future, TimerHandle
from typing import TYPE_CHECKING

from pyconsul.endpoints.pool import (
    CLIENT_ROLE,
    SERVER_ROLE,
    Pool,
    ServerMember,
    server_of,
)
from pyconsul.serf.member import Member, MemberEvent, Status
from pyconsul.state import commands
from pyconsul.types.messages import DeregisterRequest, RegisterRequest
from pyconsul.types.records import HealthCheck, Node, NodeService, Weights

if TYPE_CHECKING:
    from pyconsul.endpoints.autopilot import Autopilot
    from pyconsul.endpoints.server import Server

_log = logging.getLogger("server")
RECONCILE_S = 60.0
SERF_CHECK_ID = "serfHealth"
SERF_CHECK_NAME = "Serf Health Status"
ALIVE_OUTPUT = "Agent alive and reachable"
FAILED_OUTPUT = "Agent not live or unreachable"
SERVICE = "consul"


class MemberReconciler:
    """Keeps the catalog and the Raft peers as gossip has the members."""

    def __init__(self, server: Server, pool: Pool, autopilot: Autopilot) -> None:
        self._server = server
        self.pool = pool
        self._autopilot = autopilot
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Look at all members now and every minute.

        What has no member is only looked at from the second time on: gossip
        may still be finding the others after a restart.
        """
        self.stop()
        self.reconcile()
        self._arm()

    def stop(self) -> None:
        """Another server leads, or this one stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(RECONCILE_S, self._tick)

    def _tick(self) -> None:
        self.reconcile()
        self._reap_unowned()
        self._arm()

    def reconcile(self) -> None:
        """Look at every member."""
        for member in self.pool.members():
            self._look(member, "")

    def handle(self, event: MemberEvent) -> None:
        """Members changed; only the leader does something about it."""
        if self._server.log.is_leader:
            for member in event.members:
                self._look(member, event.kind)

    def _look(self, member: Member, kind: str) -> None:
        tags = member.tags
        if tags.get("dc") != self._server.options.datacenter:
            if tags.get("role") in (CLIENT_ROLE, SERVER_ROLE):
                _log.warning("skipping reconcile of node: member=%s", member.name)
            return
        if tags.get("role") not in (CLIENT_ROLE, SERVER_ROLE):
            return
        if kind == "reap":
            self._gone(member.name, tags.get("id", ""), "reaped")
        elif member.status == Status.ALIVE:
            self._alive(member)
        elif member.status == Status.FAILED:
            self._failed(member)
        elif member.status == Status.LEFT:
            self._gone(member.name, tags.get("id", ""), "left")

    # -- alive

    def _alive(self, member: Member) -> None:
        info = server_of(member, self._server.options.datacenter)
        if info is None and member.tags.get("role") == SERVER_ROLE:
            return
        service = None
        if info is not None:
            service = _service(member, info)
            self._join(info)
        state = self._server.state
        node = state.get_node(member.name)
        node_id = member.tags.get("id", "")
        keep = node is not None and _same_node(node, node_id, member.host)
        if keep and self._agrees(member.name, service):
            return
        if node is not None and node.id.lower() != node_id.lower():
            self._retire(node)
        _log.info("member joined, marking health alive: member=%s", member.name)
        self._propose(
            commands.encode_register(
                RegisterRequest(
                    datacenter=self._server.options.datacenter,
                    id=node_id,
                    node=member.name,
                    address=member.host,
                    # These are the agent's own to write.
                    tagged_addresses=node.tagged_addresses if node else None,
                    node_meta=node.meta if node else None,
                    service=service,
                    check=_check(member.name, "passing", ALIVE_OUTPUT),
                    # The agent may have written itself since we looked: a new
                    # node is only made where there is none.
                    skip_node_update=keep or node is None,
                )
            )
        )

    def _retire(self, node: Node) -> None:
        """Free the name of a node that another member has, with another id.

        A name is reserved for a node as long as that is not critical; a member
        that was replaced before anybody saw it fail never would be.
        """
        if self._lives(node.id):
            return
        check = self._server.state.get_check(node.node, SERF_CHECK_ID)
        if node.id and check is not None and check.status != "critical":
            self._critical(node.node, node.id, node.address)

    def _lives(self, node_id: str) -> bool:
        """Say whether a member with that id is alive, whatever its name."""
        wanted = node_id.lower()
        return any(
            member.status == Status.ALIVE
            and member.tags.get("id", "").lower() == wanted
            for member in self.pool.members()
        )

    def _agrees(self, name: str, wanted: NodeService | None) -> bool:
        state = self._server.state
        check = state.get_check(name, SERF_CHECK_ID)
        if check is None or (check.status, check.output) != ("passing", ALIVE_OUTPUT):
            return False
        if wanted is None:
            return True
        service = state.get_service(name, SERVICE)
        return service is not None and (service.port, service.meta) == (
            wanted.port,
            wanted.meta,
        )

    def _join(self, info: ServerMember) -> None:
        """Make a server a Raft peer, unless two would found a cluster each."""
        if info.bootstrap:
            for other in self._servers():
                if other.bootstrap and other.name != info.name:
                    _log.error(
                        "Two nodes are in bootstrap mode. Only one node should be in "
                        "bootstrap mode, not adding Raft peer.: "
                        "node_to_add=%s other=%s",
                        info.name,
                        other.name,
                    )
                    return
        self._autopilot.add_server(info)

    def _servers(self) -> list[ServerMember]:
        datacenter = self._server.options.datacenter
        found = (server_of(m, datacenter) for m in self.pool.members())
        return [info for info in found if info is not None]

    # -- failed, left, reaped

    def _failed(self, member: Member) -> None:
        state = self._server.state
        node = state.get_node(member.name)
        if node is None:
            _log.info(
                "ignoring failed event for member because it does not exist in "
                "the catalog: member=%s",
                member.name,
            )
            return
        node_id = member.tags.get("id", "")
        if node.id and node_id and node.id.lower() != node_id.lower():
            return  # the name has a new owner
        check = state.get_check(member.name, SERF_CHECK_ID)
        if check is not None and check.status == "critical":
            return
        _log.info("member failed, marking health critical: member=%s", member.name)
        self._critical(member.name, node_id, member.host)

    def _critical(self, name: str, node_id: str, address: str) -> None:
        self._propose(
            commands.encode_register(
                RegisterRequest(
                    datacenter=self._server.options.datacenter,
                    id=node_id,
                    node=name,
                    address=address,
                    check=_check(name, "critical", FAILED_OUTPUT),
                    skip_node_update=True,
                )
            )
        )

    def _gone(self, name: str, node_id: str, reason: str) -> None:
        options = self._server.options
        if name.lower() == options.node_name.lower():
            _log.warning("deregistering self should be done by follower: name=%s", name)
            return
        if node_id and not self._lives(node_id):
            # Else it has another name now, and is a peer as before.
            self._autopilot.remove_server(node_id)
        node = self._server.state.get_node(name)
        if node is None:
            return
        if node.id and node_id and node.id.lower() != node_id.lower():
            return  # the name has a new owner
        _log.info("deregistering member: member=%s reason=%s", name, reason)
        self._propose(
            commands.encode_deregister(
                DeregisterRequest(datacenter=options.datacenter, node=name)
            )
        )

    def _reap_unowned(self) -> None:
        """Remove nodes that gossip spoke for and knows no more."""
        known = {member.name.lower() for member in self.pool.members()}
        for node in self._server.state.serf_nodes():
            if node.node.lower() not in known:
                self._gone(node.node, node.id, "reaped")

    def _propose(self, command: bytes) -> None:
        self._server.log.propose(command).add_done_callback(_note)


def _same_node(node: Node, node_id: str, host: str) -> bool:
    return node.id.lower() == node_id.lower() and node.address == host


def _check(node: str, status: str, output: str) -> HealthCheck:
    return HealthCheck(
        node=node,
        check_id=SERF_CHECK_ID,
        name=SERF_CHECK_NAME,
        status=status,
        output=output,
    )


def _service(member: Member, info: ServerMember) -> NodeService:
    tags = member.tags
    return NodeService(
        id=SERVICE,
        service=SERVICE,
        port=info.port,
        weights=Weights(),
        meta={
            "non_voter": "true" if "nonvoter" in tags else "false",
            "raft_version": tags.get("raft_vsn", "3"),
            "read_replica": "true" if "read_replica" in tags else "false",
            "serf_protocol_current": str(member.protocol_cur),
            "serf_protocol_max": str(member.protocol_max),
            "serf_protocol_min": str(member.protocol_min),
            "version": info.version,
        },
    )


def _note(done: Future[object]) -> None:
    """Take the outcome: a failed write is made up at the next look."""
    if not done.cancelled():
        error = done.exception()
        if error is not None:
            _log.warning('failed to reconcile member: error="%s"', error)
