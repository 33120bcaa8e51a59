"""A client agent's half: it answers everything by asking servers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyconsul.config.model import AgentConfig
from pyconsul.endpoints.pool import server_of
from pyconsul.endpoints.routed_calls import CallTimes
from pyconsul.net.client_caller import ClientCaller
from pyconsul.net.rpc_pool import RpcPool
from pyconsul.net.snapshot_ports import ClientSnapshots
from pyconsul.net.snapshot_stream import SnapshotClient
from pyconsul.serf.member import MemberEvent, Status
from pyconsul.types.durations import SECOND

if TYPE_CHECKING:
    from pyconsul.agent.pools import Pools


def call_times(config: AgentConfig) -> CallTimes:
    """Return how long this agent waits for answers of servers."""
    return CallTimes(
        config.default_query_time / SECOND,
        config.max_query_time / SECOND,
        config.limits.rpc_client_timeout / SECOND,
    )


class ClientSide:
    """``caller`` is the ``Caller``; ``on_server`` hears of servers that came."""

    def __init__(self, config: AgentConfig, pools: Pools) -> None:
        self._datacenter = config.datacenter
        self.rpc_pool = RpcPool()
        rate = config.limits.rpc_rate
        self.caller = ClientCaller(
            self.rpc_pool,
            hold_s=config.performance.rpc_hold_timeout / SECOND,
            rate=rate if rate >= 0 else math.inf,
            burst=config.limits.rpc_max_burst,
            nodes=pools.alive,
            times=call_times(config),
        )
        self.snapshots = ClientSnapshots(self.caller.servers, SnapshotClient())

    @property
    def on_server(self) -> list[Callable[[], None]]:
        """Called when a server was added."""
        return self.caller.on_server

    def known_servers(self) -> int:
        """Return how many servers could be asked."""
        return len(self.caller.servers)

    async def start(self, closing: contextlib.AsyncExitStack) -> None:
        """Begin to rebalance."""
        self.caller.start()
        closing.push_async_callback(self.rpc_pool.close)
        closing.callback(self.caller.stop)

    def on_members(self, event: MemberEvent) -> None:
        """Members of the LAN pool changed."""
        for member in event.members:
            server = server_of(member, self._datacenter)
            if server is None:
                continue
            if member.status is Status.ALIVE and event.kind in ("join", "update"):
                self.caller.add_server(server.name, server.address)
            elif event.kind in ("leave", "failed", "reap"):
                self.caller.remove_server(server.name)
