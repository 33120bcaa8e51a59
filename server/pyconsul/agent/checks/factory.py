"""From a check's definition to its runner."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pyconsul.agent.checks.alias import LocalAlias, RemoteAlias
from pyconsul.agent.checks.http import HttpProbe
from pyconsul.agent.checks.http2 import GrpcProbe, PingProbe
from pyconsul.agent.checks.runner import Gate, Probe, Runner, TimedRunner
from pyconsul.agent.checks.script import ScriptProbe
from pyconsul.agent.checks.status import Notify, Thresholds
from pyconsul.agent.checks.tcp import TcpProbe, UdpProbe, client_tls
from pyconsul.agent.checks.ttl import TtlRunner
from pyconsul.agent.local import LocalState
from pyconsul.config.definitions import MIN_INTERVAL, CheckDefinition
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Caller

TIMEOUT_S = 10.0
SCRIPT_TIMEOUT_S = 30.0


@dataclass(slots=True)
class RunnerFactory:
    """What all runners of an agent share."""

    local: LocalState
    caller: Caller
    random: Random
    gate: Gate
    output_max: int

    def make(
        self, check_id: str, definition: CheckDefinition, notify: Notify
    ) -> Runner | TtlRunner | None:
        """Return the runner; ``None`` for checks that nothing runs.

        Raises ``ConsulError`` for a kind this agent cannot run.
        """
        kind = definition.kind
        limit = definition.output_max_size or self.output_max
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
        timeout = definition.timeout / SECOND
        tls = definition.tls_server_name
        match definition.kind:
            case "http":
                return HttpProbe(
                    definition.http,
                    timeout or TIMEOUT_S,
                    limit,
                    method=definition.method,
                    header=definition.header,
                    body=definition.body,
                    disable_redirects=definition.disable_redirects,
                    tls_skip_verify=definition.tls_skip_verify,
                    tls_server_name=tls,
                )
            case "tcp":
                context = None
                if definition.tcp_use_tls:
                    context = client_tls(definition.tls_skip_verify)
                return TcpProbe(
                    definition.tcp, timeout or TIMEOUT_S, tls=context, server_name=tls
                )
            case "udp":
                return UdpProbe(definition.udp, timeout or TIMEOUT_S)
            case "script":
                wait = timeout or SCRIPT_TIMEOUT_S
                return ScriptProbe(definition.args or [], wait, limit)
            case "grpc":
                context = None
                if definition.grpc_use_tls:
                    context = client_tls(definition.tls_skip_verify)
                return GrpcProbe(definition.grpc, timeout or TIMEOUT_S, context, tls)
            case "h2ping":
                context = None
                if definition.h2ping_use_tls:
                    context = client_tls(definition.tls_skip_verify)
                return PingProbe(definition.h2ping, timeout or TIMEOUT_S, context, tls)
            case "docker" | "os_service":
                raise ConsulError(
                    f"{definition.kind} checks are not supported by this agent"
                )
            case _:
                return None
