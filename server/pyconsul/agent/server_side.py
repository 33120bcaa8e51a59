"""A server's half of an agent: log, state, endpoints, RPC and duties.

Made before the gossip pools start, since their events go here; begun in two
steps around them: first the RPC port listens, so that who hears of this server
can reach it, then, once members are known, Raft.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyconsul import CONSUL_VERSION
from pyconsul.agent.client_side import call_times
from pyconsul.config.model import AgentConfig, Limits
from pyconsul.endpoints.bootstrap import Bootstrap
from pyconsul.endpoints.pool import join_address, server_of
from pyconsul.endpoints.request_limits import RequestLimits
from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.net.disk_store import DiskStore
from pyconsul.net.forwarder import LeaderForwarder
from pyconsul.net.log_store import LogStore, MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_recovery import PEERS_FILE
from pyconsul.net.raft_transport import RaftTransport
from pyconsul.net.rpc_pool import RpcPool, RpcPoolLimits
from pyconsul.net.rpc_server import RpcServer, RpcServerLimits
from pyconsul.net.snapshot_ports import ServerSnapshots
from pyconsul.net.snapshot_stream import SnapshotClient, serve_snapshots
from pyconsul.raft.messages import Settings
from pyconsul.serf.member import MemberEvent, Status
from pyconsul.state.store import StateStore
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError

if TYPE_CHECKING:
    from pyconsul.agent.pools import Pools

log = logging.getLogger("server")
LEAVE_RAFT_S = 5.0
"""How long a server that leaves waits to be out of the Raft configuration."""
_LEAVE_POLL_S = 0.05


def request_limits(limits: Limits) -> RequestLimits:
    """Return what ``limits.request_limits`` says."""
    return RequestLimits(
        limits.request_limits_mode,
        limits.request_limits_read_rate,
        limits.request_limits_write_rate,
    )


class ServerSide:
    """``server`` is the ``Caller``; everything ends with ``closing``."""

    def __init__(self, config: AgentConfig, pools: Pools) -> None:
        self._config = config
        self._pools = pools
        self._requests = request_limits(config.limits)
        scale = config.performance.raft_multiplier
        hold_s = config.performance.rpc_hold_timeout / SECOND
        address = join_address(config.advertise_addr, config.ports.server)
        self.transport = RaftTransport(
            config.node_id, address, timeout_s=max(1.0 * scale, 1.0)
        )
        self.state = StateStore()
        store: LogStore = MemoryStore()
        peers_file: Path | None = None
        if config.data_dir:
            folder = Path(config.data_dir) / "raft"
            folder.mkdir(parents=True, exist_ok=True)
            store = DiskStore(folder)
            peers_file = folder / PEERS_FILE
        self.driver = RaftDriver(
            store,
            self.state,
            config.node_id,
            address,
            bootstrap=config.bootstrap or config.dev_mode,
            peers_file=peers_file,
            transport=self.transport,
            settings=Settings(
                election_timeout=1.0 * scale,
                founding_spread=0.25 * scale,
                heartbeat_interval=0.15 * scale,
                lease_timeout=0.5 * scale,
            ),
            snapshot_threshold=config.raft_snapshot_threshold,
            snapshot_interval=config.raft_snapshot_interval / SECOND,
            trailing_logs=config.raft_trailing_logs,
        )
        times = self._times = call_times(config)
        self.rpc_pool = RpcPool(RpcPoolLimits(idle_streams=64))
        self.server = Server(
            self.driver,
            self.state,
            ServerOptions(
                datacenter=config.datacenter,
                node_name=config.node_name,
                node_id=config.node_id,
                address=config.advertise_addr,
                server_port=config.ports.server,
                version=CONSUL_VERSION,
                session_ttl_min_s=config.session_ttl_min / SECOND,
                default_query_time_s=config.default_query_time / SECOND,
                max_query_time_s=config.max_query_time / SECOND,
                coordinate_period_s=0.1 if config.dev_mode else 5.0,
                rpc_hold_timeout_s=hold_s,
                heartbeat_s=0.15 * scale,
                autopilot=config.autopilot,
                request_limits=request_limits(config.limits),
            ),
            forwarder=LeaderForwarder(self.rpc_pool, hold_s, times),
            times=times,
        )
        self.server.cluster.attach(pools.lan, pools.wan, self.rpc_pool)
        self.driver.on_restored.append(self.server.on_restored)
        folder = Path(config.data_dir) if config.data_dir else None
        self.snapshots = ServerSnapshots(
            self.server, self.driver, SnapshotClient(), folder=folder, hold_s=hold_s
        )
        self.rpc_server = RpcServer(
            self.server,
            raft=self.transport,
            snapshot=partial(serve_snapshots, self.snapshots, folder),
            limits=RpcServerLimits(
                max_conns_per_client=config.limits.rpc_max_conns_per_client,
                handshake_timeout_s=config.limits.rpc_handshake_timeout / SECOND,
            ),
        )
        self._bootstrap = Bootstrap(
            self.driver,
            pools.lan,
            self.rpc_pool,
            datacenter=config.datacenter,
            node_id=config.node_id,
            expect=config.bootstrap_expect,
        )

    async def listen(self, closing: contextlib.AsyncExitStack) -> None:
        """Listen for RPC; raises ``StartError``."""
        closing.push_async_callback(self.rpc_pool.close)
        closing.push_async_callback(self.transport.close)
        if self._config.ports.server > 0:
            await self.rpc_server.start(
                self._config.bind_addr, self._config.ports.server
            )
            closing.push_async_callback(self.rpc_server.stop)

    async def start(self, closing: contextlib.AsyncExitStack) -> None:
        """Begin with Raft; raises ``StartError``."""
        await self.driver.start()
        closing.push_async_callback(self.driver.stop)
        closing.callback(self.server.stop)
        closing.callback(self._bootstrap.stop)
        self._bootstrap.start()

    def reconfigure(
        self,
        *,
        max_conns_per_client: int,
        snapshot_threshold: int,
        snapshot_interval_s: float,
        trailing_logs: int,
        requests: RequestLimits,
        answer_s: float,
    ) -> None:
        """Take new limits (reload)."""
        self._times.answer_s = answer_s
        if requests != self._requests:
            self._requests = requests
            self.server.limiter.configure(requests)
        self.rpc_server.limits = msgspec.structs.replace(
            self.rpc_server.limits, max_conns_per_client=max_conns_per_client
        )
        self.driver.limit_snapshots(
            threshold=snapshot_threshold,
            interval=snapshot_interval_s,
            trailing_logs=trailing_logs,
        )

    def may_keep(self) -> bool:
        """Whether answers once given may be given again without asking anew.

        Where reads are limited each one has to be counted.
        """
        return not self.server.limiter.limits_reads and self.driver.has_lease()

    def kept_contact_ms(self) -> int:
        """Age of stale answers that may be given again; -1: none may."""
        return (
            -1 if self.server.limiter.limits_reads else self.server.stale_contact_ms()
        )

    def on_members(self, event: MemberEvent) -> None:
        """Members of the LAN pool changed."""
        for member in event.members:
            found = server_of(member, self._config.datacenter)
            if found is not None and found.status is Status.ALIVE:
                self.driver.addresses[found.id] = found.address
        self.server.cluster.on_members(event)
        self._bootstrap.on_members()

    async def hand_over(self) -> None:
        """Have another server lead, before this one leaves."""
        if not self.driver.is_leader:
            return
        voters = self.driver.configuration.voters()
        if len(voters) < 2:
            return
        try:
            self.driver.transfer_leadership()
        except ConsulError as error:
            log.warning('failed to transfer leadership: error="%s"', error)
            return
        for _ in range(int(LEAVE_RAFT_S / _LEAVE_POLL_S)):
            if not self.driver.is_leader and self.driver.leader_address:
                return
            await asyncio.sleep(_LEAVE_POLL_S)

    async def out_of_raft(self) -> None:
        """Wait until the leader has removed this server from the peers."""
        if len(self.driver.configuration.servers) < 2:
            return
        for _ in range(int(LEAVE_RAFT_S / _LEAVE_POLL_S)):
            if self.driver.configuration.get(self._config.node_id) is None:
                return
            await asyncio.sleep(_LEAVE_POLL_S)
        log.warning("failed to leave raft configuration gracefully, timeout")
