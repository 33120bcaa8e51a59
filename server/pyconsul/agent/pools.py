"""The agent's gossip pools: made from its configuration, joined, left.

Every agent is in the LAN pool of its datacenter; servers are in the WAN pool
too, as ``NODE.DATACENTER``, unless its port is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pyconsul import CONSUL_VERSION
from pyconsul.agent.debug_config import hide_words
from pyconsul.agent.join_providers import discover, is_provider
from pyconsul.config.model import AgentConfig, Gossip
from pyconsul.gossip.messages import LAN, WAN, MergeRefusedError, Settings
from pyconsul.net.gossip_options import PoolEvent, PoolOptions
from pyconsul.net.gossip_pool import GossipPool
from pyconsul.serf.consul import (
    ACLS_DISABLED,
    ACLS_ENABLED,
    AgentTags,
    ServerTags,
    client_tags,
    lan_merge_check,
    lan_tags,
    server_info,
    wan_merge_check,
    wan_name,
    wan_tags,
)
from pyconsul.serf.delegate import MergeCheck
from pyconsul.serf.member import Member, Status
from pyconsul.serf.settings import CONSUL
from pyconsul.types.durations import SECOND, format_duration
from pyconsul.types.errors import ConsulError, StartError

log = logging.getLogger("agent")
DEAD_NODE_RECLAIM_S = 30.0
"""After it the name of a failed node may come back with another address."""
FLOOD_S = 60.0
FIRST_RETRY_S = 1.0
"""Before the second attempt to join; doubles up to ``retry_interval``."""
OnEvent = Callable[[PoolEvent], None]


class Pools:
    """``lan`` always, ``wan`` on servers; ``start`` binds their ports."""

    def __init__(self, config: AgentConfig, on_lan: OnEvent, on_wan: OnEvent) -> None:
        self._config = config
        self.servers_changed = asyncio.Event()
        """Set when members joined: ``flood`` looks again at once."""
        self.lan = GossipPool(_lan_options(config, self._known), on_lan)
        self.wan: GossipPool | None = None
        if config.server and config.ports.serf_wan > 0:
            self.wan = GossipPool(_wan_options(config), on_wan)

    def _known(self, name: str) -> Member | None:
        return self.lan.member(name)

    def all(self) -> list[GossipPool]:
        """Return the pools there are."""
        return [self.lan, self.wan] if self.wan is not None else [self.lan]

    def pool(self, wan: bool) -> GossipPool | None:
        """Return the LAN pool, or the WAN pool if there is one."""
        return self.wan if wan else self.lan

    def alive(self) -> int:
        """Return how many members of the LAN pool are alive."""
        return sum(m.status is Status.ALIVE for m in self.lan.members())

    async def start(self) -> None:
        """Bind the ports; raises ``StartError`` with nothing left behind."""
        for pool in self.all():
            await pool.start()

    async def first_joins(self) -> None:
        """Do ``start_join``, which must work once; raises ``StartError``."""
        for wan, addresses in (
            (False, self._config.start_join),
            (True, self._config.start_join_wan),
        ):
            pool = self.wan if wan else self.lan
            if not addresses or pool is None:
                continue
            try:
                await self.join(addresses, wan=wan)
            except ConsulError as error:
                raise StartError(str(error)) from None

    async def keep_joining(self) -> None:
        """Do ``retry_join`` and ``retry_join_wan`` until each worked once.

        Raises ``ConsulError`` when the attempts allowed are used up.
        """
        config = self._config
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._retry(
                    config.retry_join, config.retry_interval, config.retry_max, False
                )
            )
            if self.wan is not None:
                group.create_task(
                    self._retry(
                        config.retry_join_wan,
                        config.retry_interval_wan,
                        config.retry_max_wan,
                        True,
                    )
                )

    async def _retry(
        self, addresses: Sequence[str], interval: int, most: int, wan: bool
    ) -> None:
        if not addresses:
            return
        where = "WAN" if wan else "LAN"
        log.info("Joining cluster...: cluster=%s", where)
        attempt = 0
        while True:
            try:
                found = await _discovered(addresses, where)
                joined = await self.join(found, wan=wan)
            except ConsulError as error:
                reason = str(error)
            else:
                log.info(
                    "Join cluster completed. Synced with initial agents: "
                    "cluster=%s num_agents=%d",
                    where,
                    joined,
                )
                return
            attempt += 1
            # Agents started together miss each other by moments only.
            pause = min(FIRST_RETRY_S * 2 ** (attempt - 1), interval / SECOND)
            if most > 0 and attempt > most:
                raise ConsulError(f"max join {where} retry exhausted, exiting")
            log.warning(
                "Join cluster failed, will retry: cluster=%s retry_interval=%gs "
                'error="%s"',
                where,
                pause,
                reason,
            )
            await asyncio.sleep(pause)

    async def flood(self) -> None:
        """Have every server of the LAN in the WAN pool: now and again.

        So it is enough that one server of a datacenter joins another's.
        """
        wan = self.wan
        while wan is not None:
            for member in self.lan.members():
                server = server_info(member)
                if server is None or server.status is not Status.ALIVE:
                    continue
                name = wan_name(server.name, server.datacenter)
                known = wan.member(name)
                if known is not None and known.status is Status.ALIVE:
                    continue
                if server.wan_join_port <= 0:
                    continue
                host = f"[{server.host}]" if ":" in server.host else server.host
                with contextlib.suppress(ConsulError):  # logged; tried again
                    await wan.join([f"{name}/{host}:{server.wan_join_port}"])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLOOD_S):
                    await self.servers_changed.wait()
            self.servers_changed.clear()

    async def join(self, addresses: Sequence[str], *, wan: bool) -> int:
        """Join through any of the addresses; raises ``ConsulError``."""
        pool = self.wan if wan else self.lan
        if pool is None:
            raise ConsulError("Must be a server to join WAN cluster")
        word = "wan_addresses" if wan else "lan_addresses"
        log.info(
            "(%s) joining: %s=[%s]", "WAN" if wan else "LAN", word, ", ".join(addresses)
        )
        return await pool.join(list(addresses))

    async def leave(self) -> None:
        """Leave gracefully: the WAN first, then the LAN."""
        for pool in reversed(self.all()):
            with contextlib.suppress(ConsulError):
                await pool.leave()

    async def stop(self) -> None:
        """Close the sockets."""
        for pool in self.all():
            await pool.stop()


async def _discovered(addresses: Sequence[str], where: str) -> list[str]:
    """Return the addresses to join now; raises ``ConsulError`` without any.

    Providers are asked anew at every attempt; one that fails is logged.
    """
    found: list[str] = []
    for text in addresses:
        if not is_provider(text):
            found.append(text)
            continue
        shown = hide_words(text)
        try:
            servers = await discover(text)
        except ConsulError as error:
            log.error(
                'Cannot discover address: cluster=%s address="%s" error="%s"',
                where,
                shown,
                error,
            )
            continue
        log.info(
            'Discovered servers: cluster=%s address="%s" servers="%s"',
            where,
            shown,
            " ".join(servers),
        )
        found += servers
    if not found:
        raise ConsulError("No servers to join")
    return found


def _networks(cidrs: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text, strict=False) for text in cidrs)


def _within(cidrs: Sequence[str], name: str, check: MergeCheck) -> MergeCheck:
    """Return a check that also refuses members with other addresses."""
    networks = _networks(cidrs)
    if not networks:
        return check

    def checked(members: Sequence[Member]) -> None:
        for member in members:
            if member.name == name:
                continue
            if not any(ip_address(member.host) in network for network in networks):
                raise MergeRefusedError(
                    f"Rejected node {member.name} ({member.host}): "
                    "its address is not allowed"
                )
        check(members)

    return checked


def _lan_options(
    config: AgentConfig, known: Callable[[str], Member | None]
) -> PoolOptions:
    facts = {
        "datacenter": config.datacenter,
        "node_id": config.node_id,
        "version": CONSUL_VERSION,
        "segment": config.segment,
        "acls": ACLS_ENABLED if config.acl_enabled else ACLS_DISABLED,
    }
    if config.server:
        tags = lan_tags(_server_tags(config))
    else:
        rejoin = config.advertise_reconnect_timeout
        shown = format_duration(rejoin) if rejoin else ""
        tags = client_tags(AgentTags(**facts, reconnect_timeout=shown))
    return PoolOptions(
        name=config.node_name,
        bind_host=config.serf_lan or config.bind_addr,
        port=config.ports.serf_lan,
        advertise_host=config.advertise_addr,
        tags=tags,
        memberlist=_tuned(LAN, config, config.gossip_lan),
        serf=replace(CONSUL, reconnect_timeout_s=config.reconnect_timeout / SECOND),
        encrypt=config.encrypt,
        keyring_file=_file(config, "local.keyring"),
        snapshot_file=_file(config, "local.snapshot"),
        rejoin_after_leave=config.rejoin_after_leave,
        allowed=_networks(config.serf_lan_allowed_cidrs),
        merge=_within(
            config.serf_lan_allowed_cidrs,
            config.node_name,
            lan_merge_check(
                datacenter=config.datacenter,
                segment=config.segment,
                node_id=config.node_id,
                node_name=config.node_name,
                known=known,
            ),
        ),
        disable_coordinates=config.disable_coordinates,
    )


def _wan_options(config: AgentConfig) -> PoolOptions:
    timeout = config.reconnect_timeout_wan
    return PoolOptions(
        name=wan_name(config.node_name, config.datacenter),
        bind_host=config.serf_wan or config.bind_addr,
        port=config.ports.serf_wan,
        advertise_host=config.advertise_addr_wan,
        wan=True,
        tags=wan_tags(_server_tags(config)),
        # The flag default of Consul's WAN is that of its LAN.
        memberlist=_tuned(replace(WAN, gossip_nodes=3), config, config.gossip_wan),
        serf=replace(CONSUL, reconnect_timeout_s=timeout / SECOND),
        encrypt=config.encrypt,
        keyring_file=_file(config, "remote.keyring"),
        snapshot_file=_file(config, "remote.snapshot"),
        rejoin_after_leave=config.rejoin_after_leave,
        allowed=_networks(config.serf_wan_allowed_cidrs),
        merge=_within(
            config.serf_wan_allowed_cidrs,
            wan_name(config.node_name, config.datacenter),
            wan_merge_check,
        ),
        disable_coordinates=config.disable_coordinates,
    )


def _server_tags(config: AgentConfig) -> ServerTags:
    return ServerTags(
        datacenter=config.datacenter,
        node_id=config.node_id,
        version=CONSUL_VERSION,
        segment=config.segment,
        acls=ACLS_ENABLED if config.acl_enabled else ACLS_DISABLED,
        port=config.ports.server,
        wan_join_port=config.ports.serf_wan,
        bootstrap=config.bootstrap,
        expect=config.bootstrap_expect,
        read_replica=bool(config.raw.get("read_replica")),
    )


def _tuned(preset: Settings, config: AgentConfig, given: Gossip) -> Settings:
    """Return a preset with what the configuration says."""
    changes: dict[str, Any] = {
        "dead_node_reclaim_time": DEAD_NODE_RECLAIM_S,
        "verify_incoming": config.encrypt_verify_incoming,
        "verify_outgoing": config.encrypt_verify_outgoing,
    }
    for name in ("gossip_interval", "probe_interval", "probe_timeout"):
        if value := getattr(given, name):
            changes[name] = value / SECOND
    for name in ("gossip_nodes", "suspicion_mult", "retransmit_mult"):
        if value := getattr(given, name):
            changes[name] = value
    return replace(preset, **changes)


def _file(config: AgentConfig, name: str) -> Path | None:
    """Return a file of the pools; agents without a data directory have none."""
    if not config.data_dir:
        return None
    if name.endswith(".keyring") and config.disable_keyring_file:
        return None
    folder = Path(config.data_dir) / "serf"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / name
