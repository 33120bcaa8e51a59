"""Intentions: who may reach whom (``http-api-connect.md`` section 2).

They are in the config entries of their destinations. Entries of the kind come
by archives only; without any, every list is empty and the default decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyconsul.acl.authorizer import Authorizer
from pyconsul.filter import INTENTION, compile_filter
from pyconsul.state.watch import Read
from pyconsul.types.config_entries import ConfigEntry
from pyconsul.types.errors import (
    ConsulError,
    NotFoundError,
    PermissionDeniedError,
)
from pyconsul.types.gomsgpack import from_plain
from pyconsul.types.intentions import (
    NAMESPACE,
    WILDCARD,
    Intention,
    IntentionListRequest,
    IntentionQueryRequest,
    Intentions,
    SourceIntention,
)

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server

_KIND = "service-intentions"


def list_intentions(
    server: Server, args: IntentionListRequest, who: Authorizer
) -> Read:
    """``Intention.List``: ``Intentions``, the most precise first."""
    read = _all(server)
    found: list[Intention] = read.value
    if not who.allows_all:
        found = []
    if args.legacy:
        found = [intention for intention in found if intention.id]
    if args.filter:
        selects = compile_filter(args.filter, INTENTION)
        found = [intention for intention in found if selects(intention)]
    read.value = Intentions(intentions=found, data_origin=_origin(server))
    return read


def get(server: Server, args: IntentionQueryRequest, who: Authorizer) -> Read:
    """``Intention.Get``: ``Intentions`` of one, by id or by both names."""
    read, exact = _all(server), args.exact
    if exact is None and not args.intention_id:
        raise ConsulError("Intention not specified")
    if exact is not None:
        _check_namespace("source", exact.source_ns)
        _check_namespace("destination", exact.destination_ns)
        names = (exact.source_name, exact.destination_name)
        found = [i for i in read.value if (i.source_name, i.destination_name) == names]
    else:
        found = [i for i in read.value if i.id == args.intention_id]
    if not found:
        raise NotFoundError("Intention not found")
    if not who.allows_all:
        raise PermissionDeniedError
    read.value = Intentions(intentions=found, data_origin=_origin(server))
    return read


def match(server: Server, args: IntentionQueryRequest, who: Authorizer) -> Read:
    """``Intention.Match``: a ``list[Intention]`` for each name asked for."""
    wanted = args.match
    if wanted is None or wanted.type not in ("source", "destination"):
        kind = "" if wanted is None else wanted.type
        raise ConsulError(f"invalid intention match type: {kind}")
    if not who.allows_all:
        raise PermissionDeniedError
    read = _all(server)
    found: list[list[Intention]] = []
    for entry in wanted.entries or ():
        _check_namespace(wanted.type, entry.namespace)
        names = (entry.name, WILDCARD)
        if wanted.type == "source":
            found.append([i for i in read.value if i.source_name in names])
        else:
            found.append([i for i in read.value if i.destination_name in names])
    read.value = found
    return read


def of_gateway(server: Server, args: IntentionQueryRequest, who: Authorizer) -> Read:
    """``Internal.GatewayIntentions``: ``Intentions`` to a terminating gateway's."""
    entries = [] if args.match is None else args.match.entries or []
    if len(entries) != 1:
        raise ConsulError(f"Expected 1 gateway name, got {len(entries)}")
    _check_namespace("destination", entries[0].namespace)
    if not (who.allows_all or who.service_read(entries[0].name)):
        raise PermissionDeniedError
    linked = server.state.gateway_services(entries[0].name)
    names = {
        one.service for one in linked.value if one.gateway_kind == "terminating-gateway"
    }
    read = _all(server)
    found = [
        one
        for one in read.value
        if who.allows_all
        and names
        and (one.destination_name in names or one.destination_name == WILDCARD)
    ]
    return Read(
        Intentions(intentions=found, data_origin=_origin(server)),
        max(read.index, linked.index),
        (*read.cells, *linked.cells),
    )


def check(server: Server, args: IntentionQueryRequest, who: Authorizer) -> Read:
    """``Intention.Check``: whether the source may reach the destination.

    The most precise intention decides; one that depends on the request does
    not allow. Without any the default does: what tokens may do by default.
    """
    wanted = args.check
    if wanted is None:
        raise ConsulError("Check must be specified on args")
    if wanted.source_type not in ("", "consul"):
        raise ConsulError(f'unsupported SourceType: "{wanted.source_type}"')
    _check_namespace("source", wanted.source_ns)
    _check_namespace("destination", wanted.destination_ns)
    read = _all(server)
    allowed = who.allows_all
    for intention in read.value:
        if intention.source_name in (
            wanted.source_name,
            WILDCARD,
        ) and intention.destination_name in (wanted.destination_name, WILDCARD):
            allowed = intention.action == "allow"
            break
    read.value = allowed
    return read


def _check_namespace(side: str, namespace: str) -> None:
    if namespace not in ("", NAMESPACE, WILDCARD):
        raise ConsulError(
            f'Invalid {side} namespace "{namespace}": '
            "Namespaces is a Consul Enterprise feature"
        )


# -- what there is


def _all(server: Server) -> Read:
    """Return all intentions, by precedence, then by names."""
    legacy = server.state.legacy_intentions()
    read = server.state.config_entries(_KIND)
    found: list[Intention] = list(legacy.value)
    for row in read.value:
        found.extend(_of_entry(row.record))
    found.sort(key=_place)
    index = max(read.index, legacy.index)
    return Read(found, index, (*read.cells, *legacy.cells))


def _place(intention: Intention) -> tuple[Any, ...]:
    return (-intention.precedence, intention.source_name, intention.destination_name)


def _of_entry(entry: ConfigEntry) -> Iterable[Intention]:
    for plain in entry.fields.get("Sources") or ():
        source = from_plain(plain, SourceIntention)
        yield Intention(
            id=source.legacy_id,
            description=source.description,
            source_ns=NAMESPACE,
            source_name=source.name,
            destination_ns=NAMESPACE,
            destination_name=entry.name,
            source_type=source.type,
            action=source.action,
            permissions=source.permissions,
            meta=source.legacy_meta,
            precedence=source.precedence,
            created_at=source.legacy_create_time or Intention().created_at,
            updated_at=source.legacy_update_time or Intention().updated_at,
            create_index=entry.create_index,
            modify_index=entry.modify_index,
        )


def _origin(server: Server) -> str:
    """Say where intentions are kept: as before 1.9 until a leader moved them."""
    return "legacy" if server.state.legacy_intentions().value else "config"


READS: dict[str, ReadHandler] = {
    "Intention.Check": check,
    "Intention.Get": get,
    "Intention.List": list_intentions,
    "Intention.Match": match,
    "Internal.GatewayIntentions": of_gateway,
}
