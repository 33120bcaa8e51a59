"""From definitions to records: services, their checks, their sidecars. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, cast

from msgspec.structs import replace

from pyconsul.config.definitions import (
    CHECK_STATES,
    CheckDefinition,
    ServiceDefinition,
    complete_proxy,
    validate_meta,
)
from pyconsul.types.durations import SECOND, format_duration
from pyconsul.types.errors import BadRequestError
from pyconsul.types.records import HealthCheck, NodeService, ServiceAddress, Weights

SIDECAR_SUFFIX = "-sidecar-proxy"
PROXY_KINDS = frozenset(
    {
        "connect-proxy",
        "mesh-gateway",
        "terminating-gateway",
        "ingress-gateway",
        "api-gateway",
    }
)
_ANYWHERE = frozenset({"0.0.0.0", "::", "[::]"})


@dataclass(slots=True, frozen=True)
class PlannedCheck:
    """A check to add: its record and how it runs."""

    check: HealthCheck
    definition: CheckDefinition


def validate_service(definition: ServiceDefinition) -> None:
    """Raise ``BadRequestError`` with the API's text for a refused service."""
    if not definition.name:
        raise BadRequestError("Missing service name")
    addresses = [definition.address]
    addresses += [one.address for one in (definition.tagged_addresses or {}).values()]
    if any(address in _ANYWHERE for address in addresses):
        raise BadRequestError("Invalid service address")
    try:
        validate_meta(definition.meta)
    except BadRequestError as error:
        raise BadRequestError(f"Invalid Service Meta: {error}") from None
    if definition.weights is not None:
        _validate_weights(definition.weights)
    for check in definition.all_checks:
        validate_check(check)
        if check.status and check.status not in CHECK_STATES:
            raise BadRequestError(
                "Status for checks must 'passing', 'warning', 'critical'"
            )
    _validate_proxy(definition)


def validate_check(check: CheckDefinition) -> None:
    """Raise ``BadRequestError`` for a check that cannot be run."""
    try:
        check.validate()
    except BadRequestError as error:
        raise BadRequestError(f"Invalid check: {error}") from None


def _validate_weights(weights: Weights) -> None:
    if weights.passing < 1:
        reason = "Passing must be greater than 0"
    elif weights.warning < 0:
        reason = "Warning must be greater or equal than 0"
    elif max(weights.passing, weights.warning) > 65535:
        reason = "DNS Weight must be between 0 and 65535"
    else:
        return
    raise BadRequestError(f"Invalid Weights: {reason}")


def _validate_proxy(definition: ServiceDefinition) -> None:
    problems: list[str] = []
    proxy = definition.proxy or {}
    if definition.kind == "connect-proxy":
        target = str(proxy.get("DestinationServiceName", "")).strip()
        if not target:
            problems.append(
                "Proxy.DestinationServiceName must be non-empty for Connect proxy "
                "services"
            )
        elif target == "*":
            problems.append(
                "Proxy.DestinationServiceName must not be a wildcard for Connect "
                "proxy services"
            )
        if not definition.port and not definition.socket_path:
            problems.append("Port or SocketPath must be set for a Connect proxy")
        if definition.connect is not None and definition.connect.native:
            problems.append(
                "A Proxy cannot also be Connect Native, only typical services"
            )
        upstreams = cast("list[dict[str, Any]]", proxy.get("Upstreams") or [])
        for upstream in upstreams:
            if not upstream.get("DestinationName"):
                problems.append("upstream destination name cannot be empty")
            if not upstream.get("LocalBindPort") and not upstream.get(
                "LocalBindSocketPath"
            ):
                problems.append(
                    "upstream local bind port or local socket path must be defined "
                    "and nonzero"
                )
    elif definition.kind == "mesh-gateway" and not definition.port:
        problems.append("Port must be non-zero for a mesh-gateway")
    sidecar = definition.connect and definition.connect.sidecar_service
    if sidecar and sidecar.id:
        problems.append(
            "A SidecarService cannot specify an ID as this is managed by the agent"
        )
    if sidecar and sidecar.connect and sidecar.connect.sidecar_service:
        problems.append("A SidecarService cannot have a nested SidecarService")
    if problems:
        word = "error" if len(problems) == 1 else "errors"
        lines = "\n".join("\t* " + text for text in problems)
        raise BadRequestError(f"{len(problems)} {word} occurred:\n{lines}\n\n")


def service_record(definition: ServiceDefinition) -> NodeService:
    """Return the record of a definition, defaults filled in."""
    native = definition.connect is not None and definition.connect.native
    return NodeService(
        kind=definition.kind,
        id=definition.id or definition.name,
        service=definition.name,
        tags=definition.tags,
        address=definition.address,
        tagged_addresses=_tagged(definition) or None,
        meta=definition.meta or {},
        port=definition.port,
        socket_path=definition.socket_path,
        weights=definition.weights or Weights(),
        enable_tag_override=definition.enable_tag_override,
        proxy=complete_proxy(definition.proxy)
        if definition.kind in PROXY_KINDS
        else None,
        connect={"Native": True} if native else None,
    )


def _tagged(definition: ServiceDefinition) -> dict[str, ServiceAddress]:
    """Add the address itself under the tags of its family."""
    found = dict(definition.tagged_addresses or {})
    try:
        version = ipaddress.ip_address(definition.address).version
    except ValueError:
        return found
    own = ServiceAddress(address=definition.address, port=definition.port)
    for tag in (f"lan_ipv{version}", f"wan_ipv{version}"):
        found.setdefault(tag, own)
    return found


def service_checks(
    definition: ServiceDefinition, service: NodeService, node: str
) -> list[PlannedCheck]:
    """Return the checks a service brings, with their ids and names."""
    given = definition.all_checks
    planned: list[PlannedCheck] = []
    for position, check in enumerate(given, 1):
        suffix = f":{position}" if len(given) > 1 else ""
        record = HealthCheck(
            node=node,
            check_id=check.key or f"service:{service.id}{suffix}",
            name=check.name or f"Service '{service.service}' check",
            status=check.status or "critical",
            notes=check.notes,
            service_id=service.id,
            service_name=service.service,
            service_tags=service.tags,
            type=check.kind,
        )
        planned.append(PlannedCheck(record, check))
    return planned


def check_record(
    definition: CheckDefinition, service: NodeService | None, node: str
) -> HealthCheck:
    """Return the record of a check registered by itself."""
    return HealthCheck(
        node=node,
        check_id=definition.key or definition.name,
        name=definition.name,
        status=definition.status or "critical",
        notes=definition.notes,
        service_id=service.id if service else "",
        service_name=service.service if service else "",
        service_tags=service.tags if service else None,
        type=definition.kind,
        interval=format_duration(definition.interval),
        timeout=format_duration(definition.timeout),
    )


def sidecar_definition(
    parent: ServiceDefinition,
    in_use: Collection[int],
    ports: range,
    kept_port: int,
) -> ServiceDefinition | None:
    """Return the sidecar a service asks for, or ``None``.

    ``kept_port`` is the one it had before (0 for none); otherwise it gets the
    lowest of ``ports`` that is not ``in_use``.
    """
    given = parent.connect and parent.connect.sidecar_service
    if not given:
        return None
    parent_id = parent.id or parent.name
    proxy = dict(given.proxy or {})
    proxy.setdefault("DestinationServiceName", parent.name)
    proxy.setdefault("DestinationServiceID", parent_id)
    proxy.setdefault("LocalServiceAddress", "127.0.0.1")
    if parent.port:
        proxy.setdefault("LocalServicePort", parent.port)
    port = given.port or kept_port or _free_port(in_use, ports)
    checks = given.all_checks or [
        CheckDefinition(
            name="Connect Sidecar Listening",
            tcp=f"127.0.0.1:{port}",
            interval=10 * SECOND,
        ),
        CheckDefinition(
            name=f"Connect Sidecar Aliasing {parent_id}", alias_service=parent_id
        ),
    ]
    return replace(
        given,
        kind=given.kind or "connect-proxy",
        id=parent_id + SIDECAR_SUFFIX,
        name=given.name or parent.name + SIDECAR_SUFFIX,
        tags=given.tags or parent.tags,
        meta=given.meta or parent.meta,
        address=given.address or parent.address,
        token=given.token or parent.token,
        port=port,
        proxy=proxy,
        check=None,
        checks=checks,
        connect=None,
    )


def _free_port(in_use: Iterable[int], ports: range) -> int:
    used = set(in_use)
    for port in ports:
        if port not in used:
            return port
    raise BadRequestError(
        "Invalid SidecarService: none left in the configured range "
        f"[{ports.start}, {ports.stop - 1}]"
    )
