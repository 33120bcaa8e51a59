"""One agent from start to stop: who is started, in which order, by one owner.

A start that fails raises ``StartError`` naming the step and leaves nothing
behind; cancellation is the way to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import uuid
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyconsul import CONSUL_VERSION
from pyconsul.agent.info import FullAgent, Process
from pyconsul.agent.logs import LogOutput
from pyconsul.agent.persist import write_atomic
from pyconsul.config.model import AgentConfig
from pyconsul.dns.options import DnsOptions
from pyconsul.dns.server import DnsServer
from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.http.agent_api import add_agent_routes
from pyconsul.http.api import build_routes
from pyconsul.http.face import HttpOptions
from pyconsul.http.server import HttpServer
from pyconsul.net.log_store import DiskStore, LogStore, MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.raft.messages import Settings
from pyconsul.state.store import StateStore
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError, NoServersError, StartError
from pyconsul.types.messages import Caller, Reply

log = logging.getLogger("agent")
GRACEFUL_S = 15.0


class NoServers:
    """The ``Caller`` of a client agent that knows no server."""

    def call(self, method: str, args: Any) -> Reply | asyncio.Future[Reply]:
        """Raise ``NoServersError``."""
        raise NoServersError


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
        except (OSError, ValueError) as error:
            raise StartError(f"failed to setup node ID: {error}") from None
    if not chosen:
        chosen = str(uuid.uuid4())
    if path:
        try:
            os.makedirs(config.data_dir, mode=0o700, exist_ok=True)
            write_atomic(path, chosen.encode())
        except OSError as error:
            raise StartError(f"failed to setup node ID: {error}") from None
    return chosen


class Lifecycle:
    """Builds and runs one agent; ``run`` returns the exit status."""

    def __init__(
        self,
        config: AgentConfig,
        output: LogOutput,
        load_config: Callable[[], AgentConfig],
    ) -> None:
        self._config = config
        self._output = output
        self._load_config = load_config
        self._stop: asyncio.Event = asyncio.Event()
        self._status = 0
        self._driver: RaftDriver | None = None
        self._server: Server | None = None
        self._closing = contextlib.AsyncExitStack()

    # -- the whole ----------------------------------------------------------

    async def run(self) -> int:
        """Start, serve until told to stop, stop; raises ``StartError``."""
        async with self._closing:
            try:
                agent = await self._start()
            except ConsulError as error:
                raise StartError(str(error)) from error
            self._signals()
            log.info("Consul agent running!")
            runner = asyncio.ensure_future(agent.run())
            stopper = asyncio.ensure_future(self._stop.wait())
            try:
                await asyncio.wait(
                    {runner, stopper}, return_when=asyncio.FIRST_COMPLETED
                )
                if runner.done():
                    await runner
            finally:
                for task in (runner, stopper):
                    task.cancel()
                await asyncio.gather(runner, stopper, return_exceptions=True)
        log.info("Exit code: code=%d", self._status)
        return self._status

    async def _start(self) -> FullAgent:
        config = self._config
        for warning in config.warnings:
            log.warning("%s", warning)
        caller: Caller = await self._start_server() if config.server else NoServers()
        process = Process(
            is_leader=lambda: bool(self._driver and self._driver.is_leader),
            leader_address=lambda: self._driver.leader_address if self._driver else "",
            raft_stats=lambda: self._driver.stats() if self._driver else {},
            reload=self._reload,
            leave=self._leave,
            log=self._output,
        )
        agent = self._agent = FullAgent(config, caller, process)
        self._closing.callback(agent.stop_checks)
        agent.load(config)
        if self._server is not None:
            self._driver_started(agent)
        await self._start_dns(caller)
        await self._start_http(caller, agent)
        self._write_pid()
        return agent

    def _driver_started(self, agent: FullAgent) -> None:
        """Have leadership tell the agent, now if it is held already."""
        assert self._driver is not None

        def changed(leads: bool) -> None:
            if leads:
                log.info("New leader elected: payload=%s", self._config.node_name)
                agent.sync.leads()

        self._driver.on_leader_change.append(changed)
        if self._driver.is_leader:
            changed(True)

    # -- the server's half ----------------------------------------------------

    async def _start_server(self) -> Server:
        config = self._config
        state = StateStore()
        store: LogStore = MemoryStore()
        if config.data_dir:
            folder = Path(config.data_dir) / "raft"
            folder.mkdir(parents=True, exist_ok=True)
            store = DiskStore(folder)
        scale = config.performance.raft_multiplier
        host = config.advertise_addr
        shown = f"[{host}]" if ":" in host else host
        driver = RaftDriver(
            store,
            state,
            config.node_id,
            f"{shown}:{config.ports.server}",
            bootstrap=config.bootstrap or config.dev_mode,
            settings=Settings(
                election_timeout=1.0 * scale,
                heartbeat_interval=0.15 * scale,
                lease_timeout=0.5 * scale,
            ),
            snapshot_threshold=config.raft_snapshot_threshold,
            snapshot_interval=config.raft_snapshot_interval / SECOND,
            trailing_logs=config.raft_trailing_logs,
        )
        self._driver = driver
        server = Server(
            driver,
            state,
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
                rpc_hold_timeout_s=config.performance.rpc_hold_timeout / SECOND,
            ),
        )
        self._server = server
        await driver.start()
        self._closing.push_async_callback(driver.stop)
        self._closing.callback(server.stop)
        return server

    # -- the faces ---------------------------------------------------------------

    async def _start_http(self, caller: Caller, agent: FullAgent) -> None:
        config = self._config
        raw = config.raw
        options = HttpOptions(
            node_name=config.node_name,
            datacenter=config.datacenter,
            acl_enabled=config.acl_enabled,
            pretty=config.dev_mode,
            kv_max_value_size=config.limits.kv_max_value_size,
            txn_max_req_len=config.limits.txn_max_req_len,
            max_conns_per_client=config.limits.http_max_conns_per_client,
            use_cache=config.http.use_cache,
            response_headers=config.http.response_headers,
            block_endpoints=config.http.block_endpoints,
            allow_write_from=tuple(
                ipaddress.ip_network(one, strict=False)
                for one in config.http.allow_write_http_from
            ),
            unprintable_char_filter=not raw.get("disable_http_unprintable_char_filter"),
            disable_coordinates=config.disable_coordinates,
        )
        routes = build_routes(options, ui_path=_ui_path(config))
        add_agent_routes(routes, agent)
        http = HttpServer(caller, routes, options)
        self._closing.push_async_callback(http.stop)
        driver = self._driver
        if driver is not None:
            http.face.leads = lambda: driver.is_leader
            # Kept answers hold while this server leads, whatever the cells say.
            driver.on_leader_change.append(lambda _: http.face.forget())
        if config.ports.http <= 0:
            return
        for address in config.http_addrs:
            if address.startswith("unix://"):
                await http.start_unix(address.removeprefix("unix://"))
                continue
            host = address.strip("[]")
            with _listening("tcp", host, config.ports.http):
                await http.start(host, config.ports.http)
            log.info(
                "Starting server: address=%s:%d network=tcp protocol=http",
                address,
                config.ports.http,
            )

    async def _start_dns(self, caller: Caller) -> None:
        config = self._config
        if config.ports.dns <= 0:
            return
        dns = config.dns
        options = DnsOptions(
            datacenter=config.datacenter,
            node_name=config.node_name,
            domain=config.domain.strip("."),
            alt_domain=config.alt_domain.strip("."),
            node_ttl=dns.node_ttl // SECOND,
            service_ttl={key: ttl // SECOND for key, ttl in dns.service_ttl.items()},
            only_passing=dns.only_passing,
            udp_answer_limit=dns.udp_answer_limit,
            a_record_limit=dns.a_record_limit,
            enable_truncate=dns.enable_truncate,
            disable_compression=dns.disable_compression,
            enable_additional_node_meta_txt=dns.enable_additional_node_meta_txt,
            allow_stale=dns.allow_stale,
            recursors=tuple(_recursor(text) for text in config.recursors),
            recursor_timeout_s=dns.recursor_timeout / SECOND,
            soa_refresh=dns.soa_refresh,
            soa_retry=dns.soa_retry,
            soa_expire=dns.soa_expire,
            soa_min_ttl=dns.soa_min_ttl,
        )
        for address in config.dns_addrs:
            server = DnsServer(caller, options)
            host = address.strip("[]")
            with _listening("udp", host, config.ports.dns):
                await server.start(host, config.ports.dns)
            self._closing.push_async_callback(server.stop)
            if self._driver is not None:
                self._driver.on_leader_change.append(lambda _, s=server: s.hot.clear())
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
            reason = (error.strerror or str(error)).lower()
            raise StartError(
                f"Could not open pid file: open {path}: {reason}"
            ) from None
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
        if self._stop.is_set():
            return
        log.info("Caught: signal=%s", name)
        if graceful:
            log.info("Gracefully shutting down agent...")
            self._status = 0
        else:
            log.info("Graceful shutdown disabled. Exiting")
            self._status = 1
        self._stop.set()

    def _leave(self) -> None:
        """Stop because the API said so: a clean end."""
        self._status = 0
        self._stop.set()

    def _reload_on_signal(self) -> None:
        log.info("Caught: signal=hangup")
        try:
            self._reload()
        except ConsulError as error:
            log.error('Reload config failed: error="%s"', error)

    def _reload(self) -> None:
        """Take what may change while running; errors leave all as it was."""
        fresh = self._load_config()
        config = replace(
            self._config,
            services=fresh.services,
            checks=fresh.checks,
            node_meta=fresh.node_meta,
            log_level=fresh.log_level,
            discard_check_output=fresh.discard_check_output,
        )
        self._output.set_level(config.log_level)
        self._agent.reconfigure(config)
        self._config = config


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _ui_path(config: AgentConfig) -> str:
    """Return where the UI is served, empty when it is off."""
    if not config.ui:
        return ""
    settings: dict[str, Any] = config.raw.get("ui_config") or {}
    path = settings.get("content_path") or config.raw.get("ui_content_path")
    return f"/{str(path or '').strip('/') or 'ui'}/"


def _recursor(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return text.strip("[]"), 53


@contextlib.contextmanager
def _listening(network: str, host: str, port: int) -> Generator[None]:
    """Turn a failure to listen into Go's words for it."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise StartError(f"listen {network} {host}:{port}: bind: {reason}") from None
