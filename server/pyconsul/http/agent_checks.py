"""``/v1/agent/check*``: local checks and reports to them (4.3)."""

from __future__ import annotations

from pyconsul.config.definitions import CHECK_STATES, CheckDefinition
from pyconsul.http.agent_api import AgentApi, empty_when
from pyconsul.http.agent_filter import filtered
from pyconsul.http.agent_shapes import CHECK, CHECK_UPDATE
from pyconsul.http.decoding import build, decode
from pyconsul.http.encoding import check_view, json_response
from pyconsul.http.params import check_edition, token_of
from pyconsul.http.routing import Answer, Handler, Request, Routes
from pyconsul.types.errors import BadRequestError, ConsulError


class _Checks:
    def __init__(self, agent: AgentApi) -> None:
        self._agent = agent

    def listed(self, request: Request) -> Answer:
        """All local checks by id."""
        check_edition(request)
        found = filtered(request, self._agent.checks(), "checks")
        return json_response(
            request, {key: check_view(found[key]) for key in sorted(found)}
        )

    def register(self, request: Request) -> Answer:
        """Add or replace a check."""
        check_edition(request)
        definition = build(decode(request.body, CHECK), CheckDefinition)
        if not definition.name:
            raise BadRequestError("Missing check name")
        if definition.status and definition.status not in CHECK_STATES:
            raise BadRequestError("Bad check status")
        return empty_when(self._agent.register_check(definition, token_of(request)))

    def deregister(self, request: Request) -> Answer:
        """Remove a check."""
        check_edition(request)
        if not request.argument:
            raise ConsulError("CheckID missing")
        return empty_when(
            self._agent.deregister_check(request.argument, token_of(request))
        )

    def report(self, status: str) -> Handler:
        """Return the handler of ``pass``, ``warn`` or ``fail``."""

        def handler(request: Request) -> Answer:
            check_edition(request)
            note = request.query.get("note")
            return empty_when(
                self._agent.update_ttl(
                    request.argument, status, note, token_of(request)
                )
            )

        return handler

    def update(self, request: Request) -> Answer:
        """Take status and output from the body."""
        body = decode(request.body, CHECK_UPDATE)
        status = str(body.get("Status", ""))
        if status not in CHECK_STATES:
            raise BadRequestError(f"Invalid check status: '{status}'")
        output = str(body.get("Output", ""))
        check_edition(request)
        return empty_when(
            self._agent.update_ttl(request.argument, status, output, token_of(request))
        )


def add_routes(routes: Routes, agent: AgentApi) -> None:
    """Add the routes of checks."""
    handlers = _Checks(agent)
    routes.add("agent/checks", GET=handlers.listed)
    routes.add("agent/check/register", PUT=handlers.register)
    routes.add("agent/check/deregister/", PUT=handlers.deregister)
    routes.add("agent/check/pass/", PUT=handlers.report("passing"))
    routes.add("agent/check/warn/", PUT=handlers.report("warning"))
    routes.add("agent/check/fail/", PUT=handlers.report("critical"))
    routes.add("agent/check/update/", PUT=handlers.update)
