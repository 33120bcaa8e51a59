"""Config entries and gateway services (``http-api-connect.md`` section 4)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.futures import then
from pyconsul.state.config_entries import WILDCARD, encode_config_entry
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
_PROTOCOLS = ("tcp", "http", "http2", "grpc")


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
    if entry.kind in _CHECKS:
        _CHECKS[entry.kind](fields)
    return replace(entry, name=name, fields=fields)


def _service_defaults(fields: dict[str, Any]) -> None:
    fields["Protocol"] = fields["Protocol"].lower()


def _splitter(fields: dict[str, Any]) -> None:
    if not fields["Splits"]:
        raise ConsulError("no splits configured")
    for split in fields["Splits"]:
        split["Weight"] = float(split["Weight"])
    # Hundredths, so that weights such as 33.33 add up.
    total = sum(round(split["Weight"] * 100) for split in fields["Splits"])
    if total != 10000:
        raise ConsulError(
            f"the sum of all split weights must be 100, not {total / 100:f}"
        )


def _resolver(fields: dict[str, Any]) -> None:
    default = fields["DefaultSubset"]
    if default and default not in (fields["Subsets"] or {}):
        raise ConsulError(f'DefaultSubset "{default}" is not a valid subset')
    redirect = fields["Redirect"]
    if redirect is not None and not any(redirect.values()):
        raise ConsulError("Redirect is empty")


def _ingress(fields: dict[str, Any]) -> None:
    ports: set[int] = set()
    for listener in fields["Listeners"] or ():
        protocol = listener["Protocol"] = listener["Protocol"].lower() or "tcp"
        port, services = listener["Port"], listener["Services"]
        if port in ports:
            raise ConsulError(f"port {port} declared on two listeners")
        ports.add(port)
        if protocol not in _PROTOCOLS:
            raise ConsulError(
                "protocol must be 'tcp', 'http', 'http2', or 'grpc'."
                f" '{protocol}' is an unsupported protocol"
            )
        if not services:
            raise ConsulError(f"No service declared for listener with port {port}")
        if protocol == "tcp" and len(services) > 1:
            raise ConsulError(
                "Multiple services per listener are only supported for protocol ="
                f" 'http' (listener on port {port})"
            )
        for service in services:
            if not service["Name"]:
                raise ConsulError(
                    f"Service name cannot be blank (listener on port {port})"
                )
            if service["Name"] == WILDCARD and protocol == "tcp":
                raise ConsulError(
                    "Wildcard service name is only valid for protocol = 'http'"
                    f" (listener on port {port})"
                )


def _terminating(fields: dict[str, Any]) -> None:
    seen: set[str] = set()
    for service in fields["Services"] or ():
        name = service["Name"]
        if not name:
            raise ConsulError("Service name cannot be blank.")
        if name in seen:
            raise ConsulError(
                f'service "{name}" was specified more than once within a namespace'
            )
        seen.add(name)
        # A client certificate needs its key and the other way round.
        if (service["CertFile"] or service["KeyFile"]) and not (
            service["CAFile"] and service["CertFile"] and service["KeyFile"]
        ):
            raise ConsulError(
                f'service "{name}" must have a CertFile, CAFile, and KeyFile'
                " specified for TLS origination"
            )


_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "service-defaults": _service_defaults,
    "service-splitter": _splitter,
    "service-resolver": _resolver,
    "ingress-gateway": _ingress,
    "terminating-gateway": _terminating,
}

READS: dict[str, ReadHandler] = {
    "ConfigEntry.Get": get,
    "ConfigEntry.List": list_entries,
    "Catalog.GatewayServices": gateway_services,
}
WRITES: dict[str, WriteHandler] = {
    "ConfigEntry.Apply": apply,
    "ConfigEntry.Delete": delete,
}
