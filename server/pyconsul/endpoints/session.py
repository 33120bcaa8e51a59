"""Session: leases that hold locks (``http-api.md`` section 7)."""

from __future__ import annotations

import uuid
from asyncio import Future
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.futures import then
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.durations import SECOND, DurationError, parse_duration
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import (
    DCSpecificRequest,
    NodeSpecificRequest,
    Reply,
    SessionRequest,
    SessionSpecificRequest,
)
from pyconsul.types.records import Session

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

TTL_MAX_S = 86400
_REFUSAL = "apply failed: "


def _readable(read: Read, who: Authorizer) -> Read:
    if not who.allows_all:
        read.value = [s for s in read.value if who.session_read(s.node)]
    return read


def get(server: Server, args: SessionSpecificRequest, who: Authorizer) -> Read:
    """``Session.Get``: a list of none or one."""
    return _readable(server.state.session_get(args.session_id), who)


def list_sessions(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Session.List``: every session."""
    return _readable(server.state.sessions(), who)


def node_sessions(server: Server, args: NodeSpecificRequest, who: Authorizer) -> Read:
    """``Session.NodeSessions``: a node's sessions."""
    return _readable(server.state.node_sessions(args.node), who)


def apply(
    server: Server, args: SessionRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``Session.Apply``: create answers the new id, destroy ``True``."""
    if args.op == "destroy":
        return _destroy(server, args, who)
    if args.op != "create":
        raise ConsulError(f"Invalid session operation {args.op!r}")
    session = _checked(server, args.session)
    if not who.session_write(session.node):
        raise PermissionDeniedError
    # The id is drawn here, by the leader: applying a command draws nothing.
    session = replace(session, id=str(uuid.uuid4()))
    command = commands.encode_session(replace(args, session=session))

    def created(result: object) -> Reply:
        server.session_timers.arm(session)
        return Reply(session.id)

    return then(server.log.propose(command), created, refusal=_REFUSAL)


def _checked(server: Server, session: Session) -> Session:
    if not session.node:
        raise ConsulError("Must provide Node")
    behavior = session.behavior or "release"
    if behavior not in ("release", "delete"):
        raise ConsulError(f"Invalid Behavior setting '{session.behavior}'")
    if session.ttl:
        try:
            ttl = parse_duration(session.ttl)
        except DurationError as error:
            raise ConsulError(f"Session TTL '{session.ttl}' invalid: {error}") from None
        low = server.options.session_ttl_min_s
        if ttl and not low * SECOND <= ttl <= TTL_MAX_S * SECOND:
            raise ConsulError(
                f"Invalid Session TTL '{ttl}', must be between [{low:g}s=24h0m0s]"
            )
    return replace(session, behavior=behavior)


def _destroy(
    server: Server, args: SessionRequest, who: Authorizer
) -> Reply | Future[Reply]:
    if not args.session.id:
        raise ConsulError("Must provide ID")
    if not who.allows_all:
        found = server.state.get_session(args.session.id)
        if found is not None and not who.session_write(found.node):
            raise PermissionDeniedError
    proposed = server.log.propose(commands.encode_session(args))
    return then(proposed, lambda _: Reply(True), refusal=_REFUSAL)


def renew(server: Server, args: SessionSpecificRequest, who: Authorizer) -> Reply:
    """``Session.Renew``: start the TTL anew; an empty list when unknown."""
    found: list[Session] = server.state.session_get(args.session_id).value
    for session in found:
        if not who.session_write(session.node):
            raise PermissionDeniedError
        if server.session_timers.is_ending(session.id):
            return Reply([])
        server.session_timers.arm(session)
    return Reply(found)


READS: dict[str, ReadHandler] = {
    "Session.Get": get,
    "Session.List": list_sessions,
    "Session.NodeSessions": node_sessions,
}
WRITES: dict[str, WriteHandler] = {"Session.Apply": apply, "Session.Renew": renew}
