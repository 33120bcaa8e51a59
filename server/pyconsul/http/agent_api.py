"""What the agent-local routes need of the agent, and the routes together.

The agent (``agent/agent.py``) implements ``AgentApi``; handlers know no more
of it. Changes answer by a future that is done after one attempt to tell the
servers. Refusals are ``ConsulError``s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pyconsul.config.definitions import CheckDefinition, ServiceDefinition
from pyconsul.http.routing import Answer, Response, Routes, StreamSink, then
from pyconsul.types.records import HealthCheck, NodeService, UserEvent

Done = asyncio.Future[None]
Unsubscribe = Callable[[], None]


class AgentApi(Protocol):
    """The agent behind the routes below ``/v1/agent`` and ``/v1/event``."""

    @property
    def datacenter(self) -> str:
        """Name of the agent's datacenter."""
        ...

    @property
    def acl_enabled(self) -> bool:
        """Whether tokens mean anything here."""
        ...

    def services(self) -> Mapping[str, NodeService]:
        """Return the local services by id."""
        ...

    def checks(self) -> Mapping[str, HealthCheck]:
        """Return the local checks by id."""
        ...

    def on_local_change(self, callback: Callable[[], None]) -> Unsubscribe:
        """Call back at every change of services or checks."""
        ...

    def register_service(
        self, definition: ServiceDefinition, token: str, *, replace_checks: bool
    ) -> Done:
        """Add or replace a service, its checks and its sidecar."""
        ...

    def deregister_service(self, service_id: str, token: str) -> Done:
        """Remove a service, its checks and its sidecar."""
        ...

    def register_check(self, definition: CheckDefinition, token: str) -> Done:
        """Add or replace a check."""
        ...

    def deregister_check(self, check_id: str, token: str) -> Done:
        """Remove a check."""
        ...

    def update_ttl(
        self, check_id: str, status: str, output: str, token: str
    ) -> Done | None:
        """Take a report to a TTL check; ``None``: nothing is left to be done."""
        ...

    def service_maintenance(
        self, service_id: str, enable: bool, reason: str, token: str
    ) -> Done:
        """Begin or end a service's maintenance."""
        ...

    def node_maintenance(self, enable: bool, reason: str, token: str) -> Done:
        """Begin or end the node's maintenance."""
        ...

    def self_view(self, token: str) -> Mapping[str, Any]:
        """Return the answer of ``agent/self``."""
        ...

    def members(self, wan: bool, token: str) -> list[dict[str, Any]]:
        """Return the members of the LAN or WAN pool."""
        ...

    def metrics_view(self) -> Mapping[str, Any]:
        """Return the last complete interval."""
        ...

    def metrics_stream(self) -> Callable[[StreamSink], None]:
        """Return what streams every interval, as it ends."""
        ...

    def prometheus(self) -> str | None:
        """Return the text exposition, ``None`` when it is not enabled."""
        ...

    def host_view(self) -> Mapping[str, Any]:
        """Return facts about the machine."""
        ...

    def version_view(self) -> Mapping[str, Any]:
        """Return the answer of ``agent/version``."""
        ...

    def monitor(self, level: str, as_json: bool) -> Callable[[StreamSink], None]:
        """Return what streams the log from ``level`` on."""
        ...

    def set_token(self, kind: str, secret: str, token: str) -> None:
        """Set one of the agent's own tokens."""
        ...

    def join(self, address: str, wan: bool, token: str) -> Done:
        """Join the pool of another agent."""
        ...

    def leave(self, token: str) -> Done:
        """Leave the pool, then stop the process."""
        ...

    def force_leave(self, node: str, prune: bool, wan: bool, token: str) -> Done:
        """Have a failed member counted as left."""
        ...

    def reload(self, token: str) -> Done:
        """Read the configuration again."""
        ...

    def fire_event(
        self, event: UserEvent, datacenter: str, token: str
    ) -> asyncio.Future[UserEvent]:
        """Send a user event; gives it with its id."""
        ...

    def events(self, name: str) -> list[UserEvent]:
        """Return the events this agent received, oldest first."""
        ...

    def on_event(self, callback: Callable[[], None]) -> Unsubscribe:
        """Call back at every event received."""
        ...


def empty_when(done: Done | None) -> Answer:
    """Answer 200 without a body once ``done`` is; ``None`` is done."""
    return Response(200) if done is None else then(done, lambda _: Response(200))


def wait_for(
    subscribe: Callable[[Callable[[], None]], Unsubscribe],
    ready: Callable[[], bool],
    seconds: float,
) -> asyncio.Future[None]:
    """Return a future that is done when ``ready()`` after a change, or in time.

    Nothing is left subscribed when it is cancelled (the client left).
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def changed() -> None:
        if ready():
            finish()

    timer = loop.call_later(seconds, finish)
    unsubscribe = subscribe(changed)

    def ended(_: asyncio.Future[None]) -> None:
        timer.cancel()
        unsubscribe()

    future.add_done_callback(ended)
    return future


def add_agent_routes(routes: Routes, agent: AgentApi) -> None:
    """Add everything that the agent answers itself."""
    from pyconsul.http import agent_checks, agent_events, agent_info, agent_services

    agent_services.add_routes(routes, agent)
    agent_checks.add_routes(routes, agent)
    agent_info.add_routes(routes, agent)
    agent_events.add_routes(routes, agent)
