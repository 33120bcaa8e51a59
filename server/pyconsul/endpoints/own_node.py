"""The leader's own entry in the catalog: node, ``consul`` service, serfHealth.

What Consul's leader does for each alive server (``agent-behaviour.md`` section
4); with one server, for itself. It is written when leadership is gained and,
as drift may come, looked at again every minute; nothing is proposed while
the catalog agrees.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from typing import TYPE_CHECKING

from pyconsul.state import commands
from pyconsul.types.messages import RegisterRequest
from pyconsul.types.records import HealthCheck, NodeService, Weights

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server

RECONCILE_S = 60.0
SERF_CHECK_ID = "serfHealth"
SERF_CHECK_NAME = "Serf Health Status"
ALIVE_OUTPUT = "Agent alive and reachable"
SERVICE = "consul"


class OwnNode:
    """Keeps the leader's catalog entry; runs while this server leads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Reconcile now and every minute."""
        self.stop()
        self._tick()

    def stop(self) -> None:
        """Another server leads, or this one stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        server = self._server
        if not self._agrees():
            command = commands.encode_register(self._request())
            server.log.propose(command).add_done_callback(_note)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(RECONCILE_S, self._tick)

    def _request(self) -> RegisterRequest:
        o = self._server.options
        return RegisterRequest(
            datacenter=o.datacenter,
            id=o.node_id,
            node=o.node_name,
            address=o.address,
            service=self._service(),
            check=HealthCheck(
                node=o.node_name,
                check_id=SERF_CHECK_ID,
                name=SERF_CHECK_NAME,
                status="passing",
                output=ALIVE_OUTPUT,
            ),
            # Tagged addresses and meta are the agent's own to write.
            skip_node_update=True,
        )

    def _service(self) -> NodeService:
        return NodeService(
            id=SERVICE,
            service=SERVICE,
            port=self._server.options.server_port,
            weights=Weights(),
            meta={
                "non_voter": "false",
                "raft_version": "3",
                "read_replica": "false",
                "serf_protocol_current": "2",
                "serf_protocol_max": "5",
                "serf_protocol_min": "1",
                "version": self._server.options.version,
            },
        )

    def _agrees(self) -> bool:
        o, state = self._server.options, self._server.state
        node = state.get_node(o.node_name)
        service = state.get_service(o.node_name, SERVICE)
        check = state.get_check(o.node_name, SERF_CHECK_ID)
        if node is None or service is None or check is None:
            return False
        wanted = self._service()
        return (
            node.id == o.node_id
            and check.status == "passing"
            and (service.port, service.meta) == (wanted.port, wanted.meta)
        )


def _note(done: Future[object]) -> None:
    """Take the outcome: a failed write is made up at the next look."""
    if not done.cancelled():
        done.exception()
