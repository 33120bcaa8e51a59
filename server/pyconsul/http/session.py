"""``/v1/session/`` (reference 7)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import LOCK_DELAY, STRING, Shape, build, decode, list_of
from pyconsul.http.encoding import TRUE, body_response, json_response, session_view
from pyconsul.http.params import read, read_options, value_view, write_options
from pyconsul.http.routing import Answer, Request, Response, Routes, then
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import BadRequestError, NotFoundError
from pyconsul.types.messages import (
    DCSpecificRequest,
    NodeSpecificRequest,
    Reply,
    SessionRequest,
    SessionSpecificRequest,
)
from pyconsul.types.records import Session

DEFAULT_LOCK_DELAY = 15 * SECOND
DEFAULT_CHECKS = ["serfHealth"]

_CREATE = Shape(
    {
        "Node": STRING,
        "Name": STRING,
        "LockDelay": LOCK_DELAY,
        "Behavior": STRING,
        "TTL": STRING,
        "NodeChecks": list_of(STRING),
        "Checks": list_of(STRING),
        "ServiceChecks": list_of(
            Shape({"ID": STRING, "Namespace": STRING}, ignore_unknown=True)
        ),
    },
    ignore_unknown=True,
)


def add_routes(routes: Routes) -> None:
    """Add the session routes."""
    routes.add("session/create", PUT=create)
    routes.add("session/destroy/", PUT=destroy)
    routes.add("session/renew/", PUT=renew)
    routes.add("session/info/", GET=info)
    routes.add("session/node/", GET=of_node)
    routes.add("session/list", GET=all_sessions)


def create(request: Request) -> Answer:
    """Make a session; the body and everything in it may be left out."""
    fields: dict[str, Any] = {}
    if request.body:
        fields = decode(request.body, _CREATE)
    old_checks = fields.pop("Checks", None)
    fields.setdefault(
        "NodeChecks", DEFAULT_CHECKS if old_checks is None else old_checks
    )
    fields.setdefault("Node", request.face.options.node_name)
    fields.setdefault("LockDelay", DEFAULT_LOCK_DELAY)
    fields["Behavior"] = fields.get("Behavior") or "release"
    args = SessionRequest(
        op="create", session=build(fields, Session), **write_options(request)
    )
    return then(
        request.face.caller.call("Session.Apply", args),
        lambda reply: json_response(request, {"ID": reply.value}),
    )


def _session_id(request: Request) -> str:
    if not request.argument:
        raise BadRequestError("Missing session")
    return request.argument


def destroy(request: Request) -> Answer:
    """End a session; one that does not exist is no error."""
    args = SessionRequest(
        op="destroy",
        session=Session(id=_session_id(request)),
        **write_options(request),
    )
    return then(
        request.face.caller.call("Session.Apply", args),
        lambda reply: body_response(request, TRUE),
    )


def renew(request: Request) -> Answer:
    """Start a session's TTL anew; 404 when it is gone."""
    session = _session_id(request)
    args = SessionSpecificRequest(session_id=session, **write_options(request))

    def done(reply: Reply) -> Response:
        if not reply.value:
            raise NotFoundError(f"Session id '{session}' not found")
        return json_response(request, _views(reply.value))

    return then(request.face.caller.call("Session.Renew", args), done)


def _views(sessions: list[Session]) -> list[dict[str, Any]]:
    return [session_view(session) for session in sessions]


_sessions = value_view(_views)


def info(request: Request) -> Answer:
    """Return a list of the one session, or an empty one."""
    args = SessionSpecificRequest(
        session_id=_session_id(request), **read_options(request)
    )
    return read(request, "Session.Get", args, _sessions)


def of_node(request: Request) -> Answer:
    """Return the sessions of a node."""
    if not request.argument:
        raise BadRequestError("Missing node name")
    args = NodeSpecificRequest(node=request.argument, **read_options(request))
    return read(request, "Session.NodeSessions", args, _sessions)


def all_sessions(request: Request) -> Answer:
    """Return every session."""
    args = DCSpecificRequest(**read_options(request))
    return read(request, "Session.List", args, _sessions)
