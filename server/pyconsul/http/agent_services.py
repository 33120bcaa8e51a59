"""``/v1/agent/service*`` and ``/v1/agent/health/service/*`` (4.1, 4.4)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from pyconsul.config.definitions import ServiceDefinition
from pyconsul.http.agent_api import AgentApi, empty_when, wait_for
from pyconsul.http.agent_filter import filtered
from pyconsul.http.agent_shapes import SERVICE
from pyconsul.http.decoding import build, decode
from pyconsul.http.encoding import (
    addresses_view,
    json_response,
    proxy_view,
    sorted_map,
    weights_view,
)
from pyconsul.http.params import check_edition, parse_bool, token_of, wait_options
from pyconsul.http.routing import (
    PLAIN,
    Answer,
    Request,
    Response,
    Routes,
    header_line,
    text_response,
    then,
)
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import BadRequestError, ConsulError, NotFoundError
from pyconsul.types.records import HealthCheck, NodeService

DEFAULT_WAIT_S = 300.0
MAX_WAIT_S = 600.0
MAINTENANCE_IDS = ("_node_maintenance", "_service_maintenance:")
_CODES = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}
_WORST = ("passing", "warning", "critical", "maintenance")


def agent_service_view(
    service: NodeService, datacenter: str, content_hash: str = ""
) -> dict[str, Any]:
    """Return a service as its own agent shows it."""
    view: dict[str, Any] = {}
    if service.kind:
        view["Kind"] = service.kind
    view["ID"] = service.id
    view["Service"] = service.service
    view["Tags"] = service.tags or []
    view["Meta"] = sorted_map(service.meta) or {}
    view["Port"] = service.port
    view["Address"] = service.address
    if service.socket_path:
        view["SocketPath"] = service.socket_path
    if service.tagged_addresses:
        view["TaggedAddresses"] = addresses_view(service.tagged_addresses)
    view["Weights"] = weights_view(service.weights)
    view["EnableTagOverride"] = service.enable_tag_override
    if content_hash:
        view["ContentHash"] = content_hash
    if service.proxy is not None:
        proxy = proxy_view(service.proxy)
        if not proxy.get("Mode"):
            proxy.pop("Mode", None)
        view["Proxy"] = proxy
    if service.connect and service.connect.get("Native"):
        view["Connect"] = {"Native": True}
    view["Datacenter"] = datacenter
    return view


def content_hash(service: NodeService) -> str:
    """Return sixteen hex digits that change when the definition does."""
    data = msgspec.json.encode(agent_service_view(service, ""))
    return blake2b(data, digest_size=8).hexdigest()


def agent_check_view(check: HealthCheck) -> dict[str, Any]:
    """Return a check as the agent's health answers show it."""
    return {
        "Node": check.node,
        "CheckID": check.check_id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": None,
        "Type": "",
        "Definition": {
            "Interval": "0s",
            "Timeout": "0s",
            "DeregisterCriticalServiceAfter": "0s",
            "HTTP": "",
            "Header": None,
            "Method": "",
            "Body": "",
            "TLSServerName": "",
            "TLSSkipVerify": False,
            "TCP": "",
            "GRPC": "",
            "GRPCUseTLS": False,
        },
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }


def aggregated(checks: Iterable[HealthCheck]) -> str:
    """Return the worst status; maintenance is worse than critical."""
    worst = 0
    for check in checks:
        if check.check_id.startswith(MAINTENANCE_IDS):
            return "maintenance"
        if check.status in _WORST:
            worst = max(worst, _WORST.index(check.status))
    return _WORST[worst]


def wants_text(request: Request) -> bool:
    """Say whether the client asked for the one word."""
    accept = request.header(b"accept")
    return accept.startswith("text/plain") or request.query.get("format") == "text"


def bool_parameter(request: Request, name: str) -> bool:
    """Return a required boolean; raises ``BadRequestError``."""
    if name not in request.query:
        raise BadRequestError(f"Missing value for {name}")
    text = request.query.get(name)
    value = parse_bool(text)
    if value is None:
        raise BadRequestError(f'Invalid value for {name}: "{text}"')
    return value


class _Services:
    def __init__(self, agent: AgentApi) -> None:
        self._agent = agent

    def listed(self, request: Request) -> Answer:
        """All local services by id."""
        check_edition(request)
        dc = self._agent.datacenter
        found = filtered(request, self._agent.services(), "services")
        return json_response(
            request,
            {key: agent_service_view(found[key], dc) for key in sorted(found)},
        )

    def read(self, request: Request) -> Answer:
        """One service; with ``hash`` wait until it changes."""
        seconds = _wait_of(request)
        check_edition(request)
        name = request.argument
        wanted = request.query.get("hash")
        service = self._agent.services().get(name)
        if not wanted or service is None or content_hash(service) != wanted:
            return self._shown(request)

        def changed() -> bool:
            now = self._agent.services().get(name)
            return now is None or content_hash(now) != wanted

        waiting = wait_for(self._agent.on_local_change, changed, seconds)
        return then(waiting, lambda _: self._shown(request))

    def _shown(self, request: Request) -> Response:
        service = self._agent.services().get(request.argument)
        if service is None:
            raise NotFoundError(f"unknown service ID: {request.argument}")
        view = agent_service_view(
            service, self._agent.datacenter, content_hash(service)
        )
        return json_response(request, view)

    def register(self, request: Request) -> Answer:
        """Add or replace a service."""
        check_edition(request)
        definition = build(decode(request.body, SERVICE), ServiceDefinition)
        query = request.query
        name = "replace-existing-checks"
        replace = name in query and query.get(name) in ("", "true")
        return empty_when(
            self._agent.register_service(
                definition, token_of(request), replace_checks=replace
            )
        )

    def deregister(self, request: Request) -> Answer:
        """Remove a service."""
        check_edition(request)
        if not request.argument:
            raise ConsulError("ServiceID missing")
        return empty_when(
            self._agent.deregister_service(request.argument, token_of(request))
        )

    def maintenance(self, request: Request) -> Answer:
        """Begin or end a service's maintenance."""
        if not request.argument:
            raise BadRequestError("Missing service ID")
        enable = bool_parameter(request, "enable")
        check_edition(request)
        reason = request.query.get("reason")
        return empty_when(
            self._agent.service_maintenance(
                request.argument, enable, reason, token_of(request)
            )
        )

    def health_by_id(self, request: Request) -> Answer:
        """Health of one service."""
        name = request.argument
        if not name:
            raise ConsulError("Bad request: Missing serviceID")
        check_edition(request)
        service = self._agent.services().get(name)
        if service is None:
            reason = f"ServiceId {name} not found"
            if wants_text(request):
                # Observed: the text of this one answer is JSON.
                line = header_line("X-Consul-Reason", reason)
                return json_response(request, reason, line, 404)
            empty = {
                "AggregatedStatus": "critical",
                "Service": None,
                "Checks": None,
            }
            return _health_answer(request, 404, reason, empty)
        view = self._health(service)
        status: str = view["AggregatedStatus"]
        return _health_answer(request, _CODES[status], status, view)

    def health_by_name(self, request: Request) -> Answer:
        """Health of all services of a name; the worst decides."""
        name = request.argument
        if not name:
            raise ConsulError("Bad request: Missing service Name")
        check_edition(request)
        views = [
            self._health(service)
            for _, service in sorted(self._agent.services().items())
            if service.service == name
        ]
        if not views:
            return _health_answer(request, 404, f"ServiceName {name} Not Found", [])
        worst = max((view["AggregatedStatus"] for view in views), key=_WORST.index)
        return _health_answer(request, _CODES[worst], worst, views)

    def _health(self, service: NodeService) -> dict[str, Any]:
        checks = [
            check
            for _, check in sorted(self._agent.checks().items())
            if check.service_id in ("", service.id)
        ]
        return {
            "AggregatedStatus": aggregated(checks),
            "Service": agent_service_view(service, self._agent.datacenter),
            "Checks": [agent_check_view(check) for check in checks],
        }


def _health_answer(
    request: Request, code: int, reason: str, view: Mapping[str, Any] | list[Any]
) -> Response:
    line = header_line("X-Consul-Reason", reason)
    if wants_text(request):
        answer = text_response(code, reason)
        answer.content_type = PLAIN
        answer.headers = line
        return answer
    return json_response(request, view, line, code)


def _wait_of(request: Request) -> float:
    """Return how long to wait, in seconds; a bad index is refused, too."""
    given: int = wait_options(request).get("max_query_time", 0)
    seconds = min(given / SECOND or DEFAULT_WAIT_S, MAX_WAIT_S)
    return seconds + random.random() * seconds / 16


def add_routes(routes: Routes, agent: AgentApi) -> None:
    """Add the routes of services."""
    handlers = _Services(agent)
    routes.add("agent/services", GET=handlers.listed)
    routes.add("agent/service/", GET=handlers.read)
    routes.add("agent/service/register", PUT=handlers.register)
    routes.add("agent/service/deregister/", PUT=handlers.deregister)
    routes.add("agent/service/maintenance/", PUT=handlers.maintenance)
    routes.add("agent/health/service/id/", GET=handlers.health_by_id)
    routes.add("agent/health/service/name/", GET=handlers.health_by_name)
