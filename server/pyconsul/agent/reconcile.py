"""The leader's catalog entries for members: node, ``serfHealth``, ``consul``.

Until gossip brings other members the only one is this server. It is registered
when it becomes leader, unless the catalog says the same already; tagged
addresses and metadata of a known node are the agent's own to sync.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pyconsul import CONSUL_VERSION
from pyconsul.agent.antientropy import answer
from pyconsul.agent.local import CONSUL_SERVICE_ID, SERF_HEALTH
from pyconsul.config.model import AgentConfig
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import (
    Caller,
    NodeSpecificRequest,
    RegisterRequest,
    Row,
)
from pyconsul.types.records import (
    HealthCheck,
    Node,
    NodeService,
    NodeServices,
    Weights,
)

EVERY_S = 60.0
ALIVE = "Agent alive and reachable"

log = logging.getLogger("agent")


def own_registration(config: AgentConfig, known: Node | None) -> RegisterRequest:
    """Return what the leader registers for itself."""
    return RegisterRequest(
        datacenter=config.datacenter,
        id=config.node_id,
        node=config.node_name,
        address=config.advertise_addr,
        tagged_addresses=known.tagged_addresses if known else None,
        node_meta=known.meta if known else None,
        service=NodeService(
            id=CONSUL_SERVICE_ID,
            service=CONSUL_SERVICE_ID,
            tags=[],
            meta={
                "non_voter": "false",
                "raft_version": "3",
                "read_replica": "false",
                "serf_protocol_current": "2",
                "serf_protocol_max": "5",
                "serf_protocol_min": "1",
                "version": CONSUL_VERSION,
            },
            port=config.ports.server,
            weights=Weights(),
        ),
        check=HealthCheck(
            node=config.node_name,
            check_id=SERF_HEALTH,
            name="Serf Health Status",
            status="passing",
            output=ALIVE,
        ),
    )


class Reconciler:
    """Runs while this server leads: at once, then every minute."""

    def __init__(self, config: AgentConfig, caller: Caller) -> None:
        self._config = config
        self._caller = caller
        self._task: asyncio.Task[None] | None = None

    def leadership(self, leads: bool) -> None:
        """Start on gaining leadership, stop on losing it."""
        self.stop()
        if leads:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="reconcile"
            )

    def stop(self) -> None:
        """Reconcile no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.reconcile()
            except ConsulError as error:
                log.error('failed to reconcile: error="%s"', error)
            await asyncio.sleep(EVERY_S)

    async def reconcile(self) -> bool:
        """Register what is missing or different; say whether anything was."""
        config = self._config
        args = NodeSpecificRequest(
            node=config.node_name, datacenter=config.datacenter, allow_stale=True
        )
        reply = await answer(self._caller, "Catalog.NodeServices", args)
        found: NodeServices | None = _record(reply.value)
        reply = await answer(self._caller, "Health.NodeChecks", args)
        checks: list[HealthCheck] = [_record(row) for row in reply.value]
        wanted = own_registration(config, found.node if found else None)
        if found is not None and _holds(found, checks, wanted):
            return False
        await answer(self._caller, "Catalog.Register", wanted)
        log.info(
            "member joined, marking health alive: member=%s", self._config.node_name
        )
        return True


def _holds(
    found: NodeServices, checks: list[HealthCheck], wanted: RegisterRequest
) -> bool:
    service, check = wanted.service, wanted.check
    assert service is not None
    assert check is not None
    same_node = (found.node.id, found.node.address) == (wanted.id, wanted.address)
    same_service = any(
        (one.id, one.port, one.meta) == (service.id, service.port, service.meta)
        for one in found.services
    )
    same_check = any(
        (one.check_id, one.status, one.output)
        == (check.check_id, check.status, check.output)
        for one in checks
    )
    return same_node and same_service and same_check


def _record(value: Any) -> Any:
    return value.record if isinstance(value, Row) else value
