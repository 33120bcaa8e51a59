"""From a check's definition to its runner."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pyconsul.agent.checks.alias import LocalAlias, RemoteAlias
from pyconsul.agent.checks.dial import ClientTls
from pyconsul.agent.checks.docker import DockerProbe
from pyconsul.agent.checks.http import HttpProbe
from pyconsul.agent.checks.http2 import GrpcProbe, PingProbe
from pyconsul.agent.checks.os_service import OsServiceProbe
from pyconsul.agent.checks.runner import Gate, Probe, Runner, TimedRunner
from pyconsul.agent.checks.script import ScriptProbe
from pyconsul.agent.checks.status import Notify, Thresholds
from pyconsul.agent.checks.tcp import TcpProbe, UdpProbe
from pyconsul.agent.checks.ttl import TtlRunner
from pyconsul.agent.local import LocalState
from pyconsul.config.definitions import MIN_INTERVAL, CheckDefinition
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import MINUTE, SECOND, format_duration
from pyconsul.types.messages import Caller

TIMEOUT_S = 10.0
SCRIPT_TIMEOUT_S = 30.0

log = logging.getLogger("agent")


@dataclass(slots=True)
class RunnerFactory:
    """What all runners of an agent share."""

    local: LocalState
    caller: Caller
    random: Random
    gate: Gate
    output_max: int
    tls: ClientTls = field(default_factory=ClientTls)

    def make(
        self, check_id: str, definition: CheckDefinition, notify: Notify
    ) -> Runner | TtlRunner | None:
        """Return the runner; ``None`` for checks that nothing runs."""
        kind = definition.kind
        limit = min(definition.output_max_size or self.output_max, self.output_max)
        _warn(check_id, definition)
        if kind == "ttl":
            return TtlRunner(definition.ttl / SECOND, notify, limit)
        if kind == "alias":
            return self._alias(check_id, definition, notify)
        probe = self._probe(definition, limit)
        if probe is None:
            return None
        return TimedRunner(
            check_id,
            probe,
            max(definition.interval, MIN_INTERVAL) / SECOND,
            Thresholds(
                definition.success_before_passing,
                definition.failures_before_warning,
                definition.failures_before_critical,
            ),
            notify,
            self.gate,
            self.random,
        )

    def _alias(
        self, check_id: str, definition: CheckDefinition, notify: Notify
    ) -> Runner:
        node, service = definition.alias_node, definition.alias_service
        if not node or node == self.local.options.node:
            return LocalAlias(check_id, service, self.local, notify)
        return RemoteAlias(check_id, node, service, self.caller, notify)

    def _probe(self, definition: CheckDefinition, limit: int) -> Probe | None:
        commands = ("script", "docker", "os_service")
        default = SCRIPT_TIMEOUT_S if definition.kind in commands else TIMEOUT_S
        timeout = definition.timeout / SECOND or default
        tls = definition.tls_server_name
        match definition.kind:
            case "http":
                return HttpProbe(
                    definition.http,
                    timeout,
                    limit,
                    method=definition.method,
                    header=definition.header,
                    body=definition.body,
                    disable_redirects=definition.disable_redirects,
                    tls=self.tls,
                    tls_skip_verify=definition.tls_skip_verify,
                    tls_server_name=tls,
                )
            case "tcp":
                context = self._context(definition, definition.tcp_use_tls)
                return TcpProbe(definition.tcp, timeout, tls=context, server_name=tls)
            case "udp":
                return UdpProbe(definition.udp, timeout)
            case "script":
                return ScriptProbe(definition.args or [], timeout, limit)
            case "docker":
                container = definition.docker_container_id
                return DockerProbe(container, definition.args or [], timeout, limit)
            case "os_service":
                return OsServiceProbe(definition.os_service, timeout)
            case "grpc":
                context = self._context(definition, definition.grpc_use_tls, True)
                return GrpcProbe(definition.grpc, timeout, context, tls)
            case "h2ping":
                context = self._context(definition, definition.h2ping_use_tls, True)
                return PingProbe(definition.h2ping, timeout, context, tls)
            case _:
                return None

    def _context(
        self, definition: CheckDefinition, wanted: bool, http2: bool = False
    ) -> ssl.SSLContext | None:
        if not wanted:
            return None
        return self.tls.context(definition.tls_skip_verify, http2=http2)


def check_tls(config: AgentConfig) -> ClientTls:
    """Return what checks show and trust, of ``enable_agent_tls_for_checks``."""
    raw: Mapping[str, Any] = config.raw
    if not raw.get("enable_agent_tls_for_checks"):
        return ClientTls()
    section: Mapping[str, Any] = raw.get("tls") or {}
    defaults: Mapping[str, Any] = section.get("defaults") or {}

    def path(name: str) -> str:
        return str(raw.get(name) or defaults.get(name) or "")

    return ClientTls(
        path("ca_file"), path("ca_path"), path("cert_file"), path("key_file")
    )


def _warn(check_id: str, definition: CheckDefinition) -> None:
    """Say which times of a definition are raised to their minimum."""
    if 0 < definition.interval < MIN_INTERVAL:
        log.warning(
            "check has interval below minimum: check=%s minimum_interval=%s",
            check_id,
            format_duration(MIN_INTERVAL),
        )
    if 0 < definition.deregister_critical_service_after < MINUTE:
        log.warning(
            "check has deregister interval below minimum: check=%s minimum_interval=%s",
            check_id,
            format_duration(MINUTE),
        )
