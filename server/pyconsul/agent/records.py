"""From definitions to records: services, their checks, their sidecars. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from pyconsul.config.definitions import (
    CHECK_STATES,
    CheckDefinition,
    ServiceDefinition,
    complete_proxy,
    validate_meta,
)
from pyconsul.types.durations import SECOND, format_duration
from pyconsul.types.errors import BadRequestError, ConsulError
from pyconsul.types.proxy_rules import multi_error, proxy_problems, weights_problem
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


_FAMILIES = {"lan_ipv4": 4, "wan_ipv4": 4, "lan_ipv6": 6, "wan_ipv6": 6}


def validate_service(definition: ServiceDefinition) -> None:
    """Raise ``BadRequestError`` with the API's text for a refused service."""
    if not definition.name:
        raise BadRequestError("Missing service name")
    if definition.address in _ANYWHERE:
        raise BadRequestError("Invalid service address")
    problem = definition.weights and weights_problem(definition.weights)
    if problem:
        raise BadRequestError(f"Invalid Weights: {problem}")
    try:
        validate_meta(definition.meta)
    except BadRequestError as error:
        raise BadRequestError(f"Invalid Service Meta: {error}") from None
    problems = _problems(definition)
    if problems:
        raise BadRequestError(multi_error(problems))
    _validate_checks(definition, "Invalid check")
    sidecar = definition.connect and definition.connect.sidecar_service
    if sidecar:
        _validate_checks(sidecar, "Invalid check in sidecar_service")
        _validate_sidecar(sidecar)
    for name, version in _FAMILIES.items():
        tagged = (definition.tagged_addresses or {}).get(name)
        if tagged is not None and _family(tagged.address) != version:
            raise ConsulError(
                f'Service tagged address "{name}" must be a valid ipv{version} address'
            )


def _family(address: str) -> int:
    """Return 4 or 6, 0 for what is no address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0


def validate_file_check(definition: CheckDefinition) -> None:
    """Raise ``ConsulError`` for what the API would not let a check be."""
    if not definition.key and not definition.name:
        raise ConsulError("CheckID missing")
    if definition.status and definition.status not in CHECK_STATES:
        raise ConsulError("Bad check status")


def _validate_checks(definition: ServiceDefinition, prefix: str) -> None:
    for check in definition.all_checks:
        validate_check(check, prefix)
        if check.status and check.status not in CHECK_STATES:
            raise BadRequestError(
                "Status for checks must 'passing', 'warning', 'critical'"
            )


def _validate_sidecar(sidecar: ServiceDefinition) -> None:
    try:
        validate_meta(sidecar.meta)
    except BadRequestError as error:
        raise BadRequestError(f"Invalid SidecarService: {error}") from None
    if sidecar.connect is not None and sidecar.connect.native:
        problems = ["A Proxy cannot also be Connect Native, only typical services"]
        raise BadRequestError(f"Failed Validation: {multi_error(problems)}")


def validate_completed_sidecar(sidecar: ServiceDefinition) -> None:
    """Raise ``BadRequestError`` for what a sidecar with its defaults gets wrong."""
    problems = _problems(sidecar)
    if problems:
        raise BadRequestError(f"Failed Validation: {multi_error(problems)}")


def validate_check(check: CheckDefinition, prefix: str = "Invalid check") -> None:
    """Raise ``BadRequestError`` for a check that cannot be run."""
    try:
        check.validate()
    except BadRequestError as error:
        raise BadRequestError(f"{prefix}: {error}") from None


def _problems(definition: ServiceDefinition) -> list[str]:
    connect = definition.connect
    sidecar = connect and connect.sidecar_service
    problems = proxy_problems(
        definition.kind,
        definition.proxy,
        port=definition.port,
        socket_path=definition.socket_path,
        native=connect is not None and connect.native,
        has_sidecar=sidecar is not None,
    )
    if sidecar and sidecar.id:
        problems.append(
            "A SidecarService cannot specify an ID as this is managed by the agent"
        )
    if sidecar and sidecar.connect and sidecar.connect.sidecar_service:
        problems.append("A SidecarService cannot have a nested SidecarService")
    return problems


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
        kind="connect-proxy",
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
