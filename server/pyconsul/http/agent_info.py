"""``/v1/agent/*``: the agent about itself, and orders to it (4.1, 4.2)."""

from __future__ import annotations

from pyconsul.http.agent_api import AgentApi, empty_when
from pyconsul.http.agent_services import bool_parameter
from pyconsul.http.agent_shapes import TOKEN
from pyconsul.http.decoding import decode
from pyconsul.http.encoding import json_response
from pyconsul.http.params import token_of
from pyconsul.http.routing import (
    Answer,
    Request,
    Response,
    Routes,
    text_response,
)
from pyconsul.types.errors import AclDisabledError, BadRequestError, ConsulError

EXPOSITION = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
LEVELS = ("trace", "debug", "info", "warn", "err", "error")


class _Info:
    def __init__(self, agent: AgentApi) -> None:
        self._agent = agent

    def self_(self, request: Request) -> Answer:
        """Configuration, member, coordinate, statistics."""
        return json_response(request, self._agent.self_view(token_of(request)))

    def members(self, request: Request) -> Answer:
        """Members of the LAN pool, or with ``wan`` of the WAN pool."""
        wan = bool(request.query.get("wan"))
        segment = request.query.get("segment")
        if segment and wan:
            raise BadRequestError("Cannot provide a segment with wan=true")
        if segment and segment != "_all":
            raise ConsulError(
                "Network segments are not supported in this version of Consul"
            )
        return json_response(request, self._agent.members(wan, token_of(request)))

    def metrics(self, request: Request) -> Answer:
        """The last interval's metrics, as JSON or for Prometheus."""
        accept = request.header(b"accept")
        if (
            request.query.get("format") == "prometheus"
            or "application/openmetrics-text" in accept
            or accept == "text/plain;version=0.4.0"
        ):
            text = self._agent.prometheus()
            if text is None:
                return text_response(
                    415,
                    "Prometheus is not enabled since its retention time "
                    "is not positive",
                )
            return Response(200, text.encode(), EXPOSITION)
        return json_response(request, self._agent.metrics_view())

    def metrics_stream(self, request: Request) -> Answer:
        """Every interval's metrics, as it ends."""
        return Response(200, stream=self._agent.metrics_stream())

    def host(self, request: Request) -> Answer:
        """Facts about the machine."""
        return json_response(request, self._agent.host_view())

    def version(self, request: Request) -> Answer:
        """Version of the program."""
        return json_response(request, self._agent.version_view())

    def monitor(self, request: Request) -> Answer:
        """The log, as it is written."""
        level = request.query.get("loglevel") or "info"
        if level.lower() not in LEVELS:
            raise BadRequestError(f"Bad request: Unknown log level: {level}")
        as_json = "logjson" in request.query
        return Response(200, stream=self._agent.monitor(level.upper(), as_json))

    def maintenance(self, request: Request) -> Answer:
        """Begin or end the node's maintenance."""
        enable = bool_parameter(request, "enable")
        reason = request.query.get("reason")
        return empty_when(
            self._agent.node_maintenance(enable, reason, token_of(request))
        )

    def token(self, request: Request) -> Answer:
        """Set one of the agent's own tokens."""
        if not self._agent.acl_enabled:
            raise AclDisabledError
        secret = str(decode(request.body, TOKEN).get("Token", ""))
        self._agent.set_token(request.argument, secret, token_of(request))
        return Response(200)

    def join(self, request: Request) -> Answer:
        """Join another agent."""
        wan = bool(request.query.get("wan"))
        return empty_when(self._agent.join(request.argument, wan, token_of(request)))

    def leave(self, request: Request) -> Answer:
        """Leave, then stop."""
        return empty_when(self._agent.leave(token_of(request)))

    def force_leave(self, request: Request) -> Answer:
        """Have a failed member counted as left."""
        prune = "prune" in request.query
        wan = bool(request.query.get("wan"))
        return empty_when(
            self._agent.force_leave(request.argument, prune, wan, token_of(request))
        )

    def reload(self, request: Request) -> Answer:
        """Read the configuration again."""
        return empty_when(self._agent.reload(token_of(request)))


def add_routes(routes: Routes, agent: AgentApi) -> None:
    """Add the routes of the agent itself."""
    handlers = _Info(agent)
    routes.add("agent/self", GET=handlers.self_)
    routes.add("agent/members", GET=handlers.members)
    routes.add("agent/metrics", GET=handlers.metrics)
    routes.add("agent/metrics/stream", GET=handlers.metrics_stream)
    routes.add("agent/host", GET=handlers.host)
    routes.add("agent/version", GET=handlers.version)
    routes.add("agent/monitor", GET=handlers.monitor)
    routes.add("agent/maintenance", PUT=handlers.maintenance)
    routes.add("agent/token/", PUT=handlers.token)
    routes.add("agent/join/", PUT=handlers.join)
    routes.add("agent/leave", PUT=handlers.leave)
    routes.add("agent/force-leave/", PUT=handlers.force_leave)
    routes.add("agent/reload", PUT=handlers.reload)
