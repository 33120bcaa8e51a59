"""One agent from start to stop: who is started, in which order, by one owner.

A start that fails raises ``StartError`` naming the step and leaves nothing
behind; cancellation is the way to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from pyconsul.agent.bootstrap_entries import BootstrapEntries
from pyconsul.agent.client_side import ClientSide
from pyconsul.agent.config_changes import ConfigChanges
from pyconsul.agent.coordinates import CoordinateSender
from pyconsul.agent.faces import (
    dns_options,
    http_options,
    listening,
    own_socket,
    ui_path,
)
from pyconsul.agent.host import host_node_id
from pyconsul.agent.info import FullAgent, Process
from pyconsul.agent.inner_http import InnerHttp
from pyconsul.agent.logs import LogOutput
from pyconsul.agent.metrics.rooms import Rooms
from pyconsul.agent.orphans import let_go_of_orphans
from pyconsul.agent.persist import write_atomic
from pyconsul.agent.pools import Pools
from pyconsul.agent.rejoin_age import RejoinAge
from pyconsul.agent.reload import Reloader
from pyconsul.agent.server_side import ServerSide
from pyconsul.agent.watch_plans import read_watches
from pyconsul.agent.watches import Watches
from pyconsul.config.model import AgentConfig
from pyconsul.dns.server import DnsServer
from pyconsul.http import debug, snapshot
from pyconsul.http.agent_api import add_agent_routes
from pyconsul.http.api import build_routes
from pyconsul.http.server import HttpServer
from pyconsul.net.gossip_options import PoolEvent
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.serf.consul import NEW_LEADER_EVENT, decode_user_event
from pyconsul.serf.member import MemberEvent, UserEvent
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError, StartError, os_reason
from pyconsul.types.messages import Caller

log = logging.getLogger("agent")
GRACEFUL_S = 15.0


def node_id(config: AgentConfig) -> str:
    """Return the node's id: configured, remembered, or new (then remembered)."""
    path = os.path.join(config.data_dir, "node-id") if config.data_dir else ""
    chosen = config.node_id
    if not chosen and path:
        try:
            with open(path, encoding="ascii") as file:
                chosen = str(uuid.UUID(file.read(64).strip()))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StartError(f"failed to setup node ID: {os_reason(error)}") from None
        except ValueError as error:
            raise StartError(f"failed to setup node ID: {path}: {error}") from None
    if not chosen and not config.disable_host_node_id:
        chosen = host_node_id()
    if not chosen:
        chosen = str(uuid.uuid4())
    if path:
        try:
            os.makedirs(config.data_dir, mode=0o700, exist_ok=True)
            write_atomic(path, chosen.encode())
        except OSError as error:
            raise StartError(f"failed to setup node ID: {os_reason(error)}") from None
    return chosen


class Lifecycle:
    """Builds and runs one agent; ``run`` returns the exit status.

    ``signals``: whether the process's signals are for this agent (it then has to
    run in the main thread).
    """

    def __init__(
        self,
        config: AgentConfig,
        output: LogOutput,
        load_config: Callable[[], AgentConfig],
        *,
        signals: bool = True,
    ) -> None:
        self._config = config
        self._takes_signals = signals
        self._output = output
        self._load_config = load_config
        self._stop: asyncio.Event = asyncio.Event()
        self._status = 0
        self._leaving: asyncio.Task[None] | None = None
        self._server_side: ServerSide | None = None
        self._client_side: ClientSide | None = None
        self._closing = contextlib.AsyncExitStack()
        self._dns: list[DnsServer] = []
        self._rooms: Rooms | None = None

    # -- the whole ----------------------------------------------------------

    async def run(self) -> int:
        """Start, serve until told to stop, stop; raises ``StartError``."""
        async with self._closing:
            try:
                agent = await self._started()
            except ConsulError as error:
                raise StartError(str(error)) from error
            except OSError as error:
                raise StartError(os_reason(error)) from error
            if agent is not None:
                if self._takes_signals:
                    self._signals()
                log.info("Consul agent running!")
                await self._until_stopped(agent)
        log.info("Exit code: code=%d", self._status)
        return self._status

    async def _started(self) -> FullAgent | None:
        """Return the agent, ``None`` when a signal ended its start."""
        starting = asyncio.ensure_future(self._start())

        def stop(name: str) -> None:
            log.info("Caught: signal=%s", name)
            self._status = 1
            starting.cancel()

        if self._takes_signals:
            loop = asyncio.get_running_loop()
            early = "cannot reload before agent started"
            loop.add_signal_handler(
                signal.SIGHUP, log.error, 'Caught: signal=hangup error="%s"', early
            )
            loop.add_signal_handler(signal.SIGINT, stop, "interrupt")
            loop.add_signal_handler(signal.SIGTERM, stop, "terminated")
        try:
            await asyncio.wait([starting])
        finally:
            # Whoever ends us ends the start, too.
            starting.cancel()
            await asyncio.wait([starting])
        return None if starting.cancelled() else starting.result()

    async def _until_stopped(self, agent: FullAgent) -> None:
        """Work until an order, or a task that cannot go on, ends it."""
        work: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(agent.run()),
            asyncio.ensure_future(self._join()),
            asyncio.ensure_future(self._stop.wait()),
        ]
        if os.getpid() == 1:
            work.append(asyncio.ensure_future(let_go_of_orphans()))
        if self._config.server:
            work.append(asyncio.ensure_future(self._rejoin_age.run()))
        if self._pools.wan is not None:
            work.append(asyncio.ensure_future(self._pools.flood()))
        if self._config.auto_reload_config:
            changes = ConfigChanges(self._config.config_sources)
            work.append(asyncio.ensure_future(changes.run(self._reload_and_say)))
        if not self._config.disable_coordinates:
            sender = CoordinateSender(agent.caller, self._pools, self._config)
            work.append(asyncio.ensure_future(sender.run()))
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _join(self) -> None:
        """Join whom the configuration names; goes on until all is over."""
        failed = False
        try:
            await self._pools.keep_joining()
        except* ConsulError as errors:
            for error in errors.exceptions:
                log.error("%s", error)
            failed = True
        if failed:
            self._status = 1
            return
        await asyncio.Event().wait()

    async def _start(self) -> FullAgent:
        config = self._config
        said = list(config.warnings)
        self._watch_plans = read_watches(config.watches, said)
        for warning in said:
            log.warning("%s", warning)
        _refuse_policies(config)
        self._rejoin_age = RejoinAge(config, time.time)
        self._rejoin_age.check()
        self._entries = BootstrapEntries(config)
        self._closing.push_async_callback(self._entries.stop)
        pools = self._pools = Pools(config, self._on_lan, self._on_wan)
        caller: Caller
        if config.server:
            server_side = self._server_side = ServerSide(config, pools)
            caller = server_side.server
        else:
            client_side = self._client_side = ClientSide(config, pools)
            caller = client_side.caller
        process = Process(
            is_leader=self._leads,
            leader_address=self._leader_address,
            raft_stats=self._raft_stats,
            known_servers=self._known_servers,
            reload=self._reload_and_raise,
            leave=self.leave,
            pools=pools,
            log=self._output,
        )
        agent = self._agent = FullAgent(config, caller, process)
        agent.sync.members = pools.alive
        self._closing.callback(agent.stop_checks)
        agent.load(config)
        caller = self._metered(caller, agent)
        self._closing.push_async_callback(pools.stop)
        if self._server_side is not None:
            await self._server_side.listen(self._closing)
            await pools.start()
            await self._server_side.start(self._closing)
            self._driver_started(self._server_side.driver, agent)
        elif self._client_side is not None:
            self._client_side.on_server.append(agent.sync.server_up)
            await pools.start()
            await self._client_side.start(self._closing)
        await pools.first_joins()
        await self._start_dns(caller)
        http = await self._start_http(caller, agent)
        self._reloader = Reloader(
            agent=agent,
            output=self._output,
            watches=self._start_watches(http, agent),
            http=http,
            dns=self._dns,
            server=self._server_side,
            client=self._client_side,
        )
        self._write_pid()
        return agent

    def _start_watches(self, http: HttpServer, agent: FullAgent) -> Watches:
        """Begin the watches of the configuration; they ask the face directly."""
        inner = InnerHttp(http.face)
        options = agent.local.options
        watches = Watches(
            inner.get, lambda: options.agent_token or options.default_token
        )
        self._closing.push_async_callback(watches.stop)
        watches.configure(self._watch_plans)
        return watches

    def _metered(self, caller: Caller, agent: FullAgent) -> Caller:
        """Begin to measure; return the caller that faces are to use."""
        rooms = self._rooms = Rooms(agent.telemetry)
        rooms.add_pools(self._pools)
        agent.start_telemetry()
        self._closing.callback(agent.stop_telemetry)
        if self._server_side is not None:
            rooms.add_server(self._server_side)
        elif self._client_side is not None:
            rooms.add_client(self._client_side)
            return rooms.metered(caller, "client.rpc")
        return rooms.metered(caller, "rpc.local")

    def _driver_started(self, driver: RaftDriver, agent: FullAgent) -> None:
        """Have leadership tell the agent, now if it is held already."""

        entries = self._entries

        def changed(leads: bool) -> None:
            if leads:
                agent.sync.leads()
                entries.write(agent.caller)

        driver.on_leader_change.append(changed)
        if driver.is_leader:
            changed(True)

    # -- what the process tells -------------------------------------------------

    def _leads(self) -> bool:
        return self._server_side is not None and self._server_side.driver.is_leader

    def _leader_address(self) -> str:
        return self._server_side.driver.leader_address if self._server_side else ""

    def _raft_stats(self) -> Mapping[str, str]:
        return self._server_side.driver.stats() if self._server_side else {}

    def _known_servers(self) -> int:
        return self._client_side.known_servers() if self._client_side else 0

    # -- events of the pools -----------------------------------------------------

    def _on_lan(self, event: PoolEvent) -> None:
        if self._rooms is not None and isinstance(event, MemberEvent | UserEvent):
            self._rooms.on_lan(event)
        if isinstance(event, MemberEvent):
            self._log_members(event, "LAN")
            if event.kind == "join":
                self._pools.servers_changed.set()
            if self._server_side is not None:
                self._server_side.on_members(event)
            elif self._client_side is not None:
                self._client_side.on_members(event)
        elif isinstance(event, UserEvent):
            if event.name == NEW_LEADER_EVENT:
                leader = event.payload.decode(errors="replace")
                log.info("New leader elected: payload=%s", leader)
                if leader != self._config.node_name:
                    self._agent.sync.server_up()
            elif (user := decode_user_event(event)) is not None:
                self._agent.receive_event(user)

    def _on_wan(self, event: PoolEvent) -> None:
        if isinstance(event, MemberEvent):
            self._log_members(event, "WAN")

    def _log_members(self, event: MemberEvent, where: str) -> None:
        words = _MEMBER_WORDS[event.kind]
        for member in event.members:
            log.info(
                "%s: %s %s: %s",
                f"serf.{where.lower()}",
                words,
                member.name,
                member.host,
            )

    # -- the faces ---------------------------------------------------------------

    async def _start_http(self, caller: Caller, agent: FullAgent) -> HttpServer:
        config = self._config
        options = http_options(config)
        routes = build_routes(options, ui_path=ui_path(config), ui_folder=config.ui_dir)
        add_agent_routes(routes, agent)
        side = self._server_side or self._client_side
        if side is not None:
            snapshot.add_routes(routes, side.snapshots)
        if config.enable_debug or config.dev_mode:
            debug.add_routes(routes)
        http = HttpServer(caller, routes, options)
        if self._rooms is not None:
            self._rooms.add_http(http)
        self._closing.push_async_callback(http.stop)
        if self._server_side is not None:
            driver = self._server_side.driver
            # Kept answers hold while this server leads, whatever the cells say.
            http.face.leads = self._server_side.may_keep
            http.face.contact_ms = self._server_side.kept_contact_ms
            driver.on_leader_change.append(lambda _: http.face.forget())
        if config.ports.http <= 0:
            return http
        for address in config.http_addrs:
            if address.startswith("unix://"):
                path = address.removeprefix("unix://")
                with listening("unix", path, 0):
                    await http.start_unix(path)
                own_socket(path, config.raw.get("unix_sockets") or {})
                continue
            host = address.strip("[]")
            with listening("tcp", host, config.ports.http):
                await http.start(host, config.ports.http)
            log.info(
                "Starting server: address=%s:%d network=tcp protocol=http",
                address,
                config.ports.http,
            )
        return http

    async def _start_dns(self, caller: Caller) -> None:
        config = self._config
        if config.ports.dns <= 0:
            return
        options = dns_options(config)
        for address in config.dns_addrs:
            server = DnsServer(caller, options)
            if self._rooms is not None:
                self._rooms.add_dns(server, config.node_name)
            host = address.strip("[]")
            with listening("udp", host, config.ports.dns):
                await server.start(host, config.ports.dns)
            self._closing.push_async_callback(server.stop)
            self._dns.append(server)
            if self._server_side is not None:
                self._server_side.driver.on_leader_change.append(
                    lambda _, s=server: s.hot.clear()
                )
            log.info("Started DNS server: address=%s:%d", address, config.ports.dns)

    # -- orders --------------------------------------------------------------------

    def _write_pid(self) -> None:
        path = self._config.pid_file
        if not path:
            return
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise StartError(f"Could not open pid file: {os_reason(error)}") from None
        self._closing.callback(_remove, path)

    def _signals(self) -> None:
        loop = asyncio.get_running_loop()
        config = self._config
        loop.add_signal_handler(
            signal.SIGINT, self._signal, "interrupt", not config.skip_leave_on_interrupt
        )
        loop.add_signal_handler(
            signal.SIGTERM, self._signal, "terminated", config.leave_on_terminate
        )
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)

    def _signal(self, name: str, graceful: bool) -> None:
        log.info("Caught: signal=%s", name)
        if self._stop.is_set() or self._leaving is not None:
            # A second signal: no more patience.
            self._status = 1
            self._stop.set()
            return
        if not graceful:
            log.info("Graceful shutdown disabled. Exiting")
            self._status = 1
            self._stop.set()
            return
        log.info("Gracefully shutting down agent...")
        self._leaving = asyncio.get_running_loop().create_task(self._leave_in_time())

    async def _leave_in_time(self) -> None:
        try:
            async with asyncio.timeout(GRACEFUL_S):
                await self.leave()
        except TimeoutError:
            log.error("Timed out on graceful leave")
            self._status = 1
            self._stop.set()

    async def leave(self) -> None:
        """Leave the pools, let others finish with us, then end the process."""
        log.info("Requesting agent leave")
        side = self._server_side
        crowd = self._pools.alive() > 1
        if side is not None:
            await side.hand_over()
        await self._pools.leave()
        if side is not None and crowd:
            # Clients still have connections here; they turn to others.
            await asyncio.sleep(self._config.performance.leave_drain_time / SECOND)
            await side.out_of_raft()
        self._status = 0
        # The answer to who asked has to get out first.
        asyncio.get_running_loop().call_later(0.05, self._stop.set)

    def _reload_on_signal(self) -> None:
        log.info("Caught: signal=hangup")
        self._reload_and_say()

    def _reload_and_say(self) -> None:
        with contextlib.suppress(ConsulError):
            self._reload_and_raise()

    def _reload_and_raise(self) -> None:
        """Reload; who asked gets the error, and the log has it, too."""
        try:
            self._reload()
        except ConsulError as error:
            log.error('Reload config failed: error="%s"', error)
            raise

    def _reload(self) -> None:
        """Take what may change while running; errors leave all as it was."""
        log.info("Reloading configuration...")
        fresh = self._load_config()
        entries = BootstrapEntries(fresh)
        self._config = self._reloader.reload(self._config, fresh)
        self._entries.replace(entries)
        if self._leads():
            self._entries.write(self._agent.caller)


def _refuse_policies(config: AgentConfig) -> None:
    """Raise ``StartError`` for policies that ACLs do not have."""
    acl: Mapping[str, Any] = config.raw.get("acl") or {}
    kind = "server" if config.server else "client"
    down = ("allow", "deny", "extend-cache", "async-cache")
    for name, known in (("default", ("allow", "deny")), ("down", down)):
        policy = acl.get(f"{name}_policy") or config.raw.get(f"acl_{name}_policy")
        if policy and policy not in known:
            raise StartError(
                f"Failed to start Consul {kind}: Unsupported {name} ACL policy: "
                f"{policy}"
            )


_MEMBER_WORDS = {
    "join": "EventMemberJoin:",
    "leave": "EventMemberLeave:",
    "failed": "EventMemberFailed:",
    "update": "EventMemberUpdate:",
    "reap": "EventMemberReap:",
}


def _remove(path: str) -> None:
    if not os.path.isfile(path):
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
