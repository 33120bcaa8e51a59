"""``/v1/event/*``: fire user events, list those received (reference 8)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from pyconsul.http.agent_api import AgentApi, wait_for
from pyconsul.http.encoding import json_response
from pyconsul.http.params import token_of, wait_options
from pyconsul.http.routing import Answer, Request, Response, Routes, then
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import BadRequestError
from pyconsul.types.records import UserEvent

DEFAULT_WAIT_S = 600.0
MAX_PAYLOAD = 1 << 20
EMPTY_INDEX = 1


def event_view(event: UserEvent) -> dict[str, Any]:
    """Return an event; an empty payload is null."""
    return {
        "ID": event.id,
        "Name": event.name,
        "Payload": b64encode(event.payload).decode() if event.payload else None,
        "NodeFilter": event.node_filter,
        "ServiceFilter": event.service_filter,
        "TagFilter": event.tag_filter,
        "Version": event.version,
        "LTime": event.l_time,
    }


def list_index(events: list[UserEvent]) -> int:
    """Return the index of a list: the halves of the last one's UUID, XORed."""
    if not events:
        return EMPTY_INDEX
    digits = events[-1].id.replace("-", "")
    return int(digits[:16], 16) ^ int(digits[16:], 16)


class _Events:
    def __init__(self, agent: AgentApi) -> None:
        self._agent = agent

    def fire(self, request: Request) -> Answer:
        """Send an event; its answer has no Lamport time yet."""
        if not request.argument:
            raise BadRequestError("Missing name")
        query = request.query
        event = UserEvent(
            name=request.argument,
            payload=request.body,
            node_filter=query.get("node"),
            service_filter=query.get("service"),
            tag_filter=query.get("tag"),
        )
        fired = self._agent.fire_event(event, query.get("dc"), token_of(request))
        return then(fired, lambda sent: json_response(request, event_view(sent)))

    def listed(self, request: Request) -> Answer:
        """List events; waits only while the index is the one given."""
        options = wait_options(request)
        index: int = options.get("min_query_index", 0)
        name = request.query.get("name")
        if not index or list_index(self._agent.events(name)) != index:
            return self._shown(request, name)
        wait: int = options.get("max_query_time", 0)
        seconds = min(wait / SECOND, DEFAULT_WAIT_S) if wait else DEFAULT_WAIT_S

        def changed() -> bool:
            return list_index(self._agent.events(name)) != index

        waiting = wait_for(self._agent.on_event, changed, seconds)
        return then(waiting, lambda _: self._shown(request, name))

    def _shown(self, request: Request, name: str) -> Response:
        events = self._agent.events(name)
        line = b"X-Consul-Index: %d\r\n" % list_index(events)
        return json_response(request, [event_view(event) for event in events], line)


def add_routes(routes: Routes, agent: AgentApi) -> None:
    """Add the routes of events."""
    handlers = _Events(agent)
    routes.add("event/fire/", body_limit=MAX_PAYLOAD, PUT=handlers.fire)
    routes.add("event/list", GET=handlers.listed)
