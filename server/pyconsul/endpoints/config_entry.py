"""Config entries and gateway services (``http-api-connect.md`` section 4)."""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.config_entry_rules import check
from pyconsul.endpoints.futures import then
from pyconsul.state.config_entries import encode_config_entry
from pyconsul.state.watch import Read
from pyconsul.types.config_entries import (
    FIXED_NAMES,
    KINDS,
    READABLE,
    ConfigEntry,
    ConfigEntryQuery,
    ConfigEntryRequest,
    complete,
)
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.mesh import ConfigEntryListAllRequest
from pyconsul.types.messages import Reply, ServiceSpecificRequest

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_READ_BY_SERVICE = frozenset(
    (
        "ingress-gateway",
        "service-defaults",
        "service-intentions",
        "service-resolver",
        "service-router",
        "service-splitter",
        "terminating-gateway",
    )
)
_WRITE_BY_SERVICE = frozenset(
    ("service-defaults", "service-resolver", "service-router", "service-splitter")
)


# -- reads


def get(server: Server, args: ConfigEntryQuery, who: Authorizer) -> Read:
    """``ConfigEntry.Get``: a row of ``ConfigEntry``, or ``None``."""
    _check_kind(args.kind)
    if not _may_read(who, args.kind, args.name):
        raise PermissionDeniedError
    return server.state.config_entry(args.kind, args.name)


def list_entries(server: Server, args: ConfigEntryQuery, who: Authorizer) -> Read:
    """``ConfigEntry.List``: rows by kind and name; no kind means every kind."""
    if args.kind:
        _check_kind(args.kind)
    read = server.state.config_entries(args.kind)
    if not who.allows_all:
        read.value = [
            row
            for row in read.value
            if _may_read(who, row.record.kind, row.record.name)
        ]
    return read


def list_all(server: Server, args: ConfigEntryListAllRequest, who: Authorizer) -> Read:
    """``ConfigEntry.ListAll``: rows of the kinds asked for, by kind and name.

    Kinds that there are not have no entries; no kinds mean every kind.
    """
    read = list_entries(server, ConfigEntryQuery(), who)
    if args.kinds:
        wanted = frozenset(args.kinds)
        read.value = [row for row in read.value if row.record.kind in wanted]
    return read


def gateway_services(
    server: Server, args: ServiceSpecificRequest, who: Authorizer
) -> Read:
    """``Catalog.GatewayServices``: list of ``GatewayService``."""
    read = server.state.gateway_services(args.service_name)
    if not who.allows_all:
        read.value = [s for s in read.value if who.service_read(s.service)]
    return read


def _check_kind(kind: str) -> None:
    if kind not in READABLE:
        raise ConsulError(f"invalid config entry kind: {kind}")


def _may_read(who: Authorizer, kind: str, name: str) -> bool:
    return (
        who.allows_all or kind not in _READ_BY_SERVICE or bool(who.service_read(name))
    )


# -- writes


def apply(
    server: Server, args: ConfigEntryRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``ConfigEntry.Apply``: ``False`` when the expected index was not found."""
    request = replace(args, entry=normalise(args.entry))
    _authorize_write(request.entry, who)
    return _propose(server, request)


def delete(
    server: Server, args: ConfigEntryRequest, who: Authorizer
) -> Reply | Future[Reply]:
    """``ConfigEntry.Delete``: an entry that does not exist is no error."""
    _check_kind(args.entry.kind)
    _authorize_write(args.entry, who)
    return _propose(server, replace(args, op="delete"))


def _propose(server: Server, request: ConfigEntryRequest) -> Future[Reply]:
    proposed = server.log.propose(encode_config_entry(request))
    return then(proposed, lambda result: Reply(result is not False))


def _authorize_write(entry: ConfigEntry, who: Authorizer) -> None:
    """Only service kinds are a service's business; the rest is the mesh's."""
    if who.allows_all:
        return
    if entry.kind not in _WRITE_BY_SERVICE or not who.service_write(entry.name):
        raise PermissionDeniedError


def normalise(entry: ConfigEntry) -> ConfigEntry:
    """Return the entry with defaults filled in; raises ``ConsulError``."""
    if entry.kind not in KINDS:
        raise ConsulError(f"invalid config entry kind: {entry.kind}")
    name = FIXED_NAMES.get(entry.kind, entry.name)
    if not name:
        raise ConsulError("Name is required")
    given = entry.fields
    if entry.kind != "mesh":
        given = {**given, "Kind": entry.kind, "Name": name}
    fields = complete(KINDS[entry.kind], given)
    check(entry.kind, name, fields)
    return replace(entry, name=name, fields=fields)


READS: dict[str, ReadHandler] = {
    "ConfigEntry.Get": get,
    "ConfigEntry.List": list_entries,
    "ConfigEntry.ListAll": list_all,
    "Catalog.GatewayServices": gateway_services,
}
WRITES: dict[str, WriteHandler] = {
    "ConfigEntry.Apply": apply,
    "ConfigEntry.Delete": delete,
}
