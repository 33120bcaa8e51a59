"""Tell the servers where this agent is on the network (``agent-behaviour.md`` 7)."""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import TYPE_CHECKING

from pyconsul.agent.antientropy import answer
from pyconsul.config.model import AgentConfig
from pyconsul.types.coordinates import CoordinateUpdateRequest
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Caller

if TYPE_CHECKING:
    from pyconsul.agent.pools import Pools

log = logging.getLogger("agent")
INTERVAL_MIN_S = 15.0
UPDATES_PER_S = 64.0
"""All agents together send about this many."""


class CoordinateSender:
    """Sends the LAN coordinate now and then; ``run`` is its one task."""

    def __init__(
        self,
        caller: Caller,
        pools: Pools,
        config: AgentConfig,
        random: Random | None = None,
    ) -> None:
        self._caller = caller
        self._pools = pools
        self._config = config
        self._random = random or Random()

    async def run(self) -> None:
        """Send until cancelled; what fails is made up by the next."""
        config = self._config
        while True:
            interval = max(INTERVAL_MIN_S, self._pools.alive() / UPDATES_PER_S)
            await asyncio.sleep(interval * (1 + self._random.random()))
            request = CoordinateUpdateRequest(
                datacenter=config.datacenter,
                node=config.node_name,
                segment=config.segment,
                coord=self._pools.lan.coordinate(),
            )
            try:
                await answer(self._caller, "Coordinate.Update", request)
            except ConsulError as error:
                log.warning('Coordinate update error: error="%s"', error)
