"""Service and check definitions, as files and the agent's API give them.

One pair of records serves both: wire names are the API's (``Name``, ``HTTP``),
field names are the files' keys. Durations are integer nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from pyconsul.types.durations import SECOND, DurationError, parse_duration
from pyconsul.types.errors import BadRequestError, ConfigError
from pyconsul.types.proxy_rules import weights_problem
from pyconsul.types.records import Record, ServiceAddress, Weights

_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
META_PAIRS = 64
META_KEY_LENGTH = 128
META_VALUE_LENGTH = 512
CHECK_STATES = ("passing", "warning", "critical")
MIN_INTERVAL = SECOND


class CheckDefinition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How a check is run. ``CheckID`` is ``id`` under the name services use."""

    id: str = msgspec.field(name="ID", default="")
    check_id: str = msgspec.field(name="CheckID", default="")
    name: str = ""
    notes: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    token: str = ""
    status: str = ""
    args: list[str] | None = msgspec.field(name="ScriptArgs", default=None)
    http: str = msgspec.field(name="HTTP", default="")
    header: dict[str, list[str]] | None = None
    method: str = ""
    body: str = ""
    disable_redirects: bool = False
    tcp: str = msgspec.field(name="TCP", default="")
    tcp_use_tls: bool = msgspec.field(name="TCPUseTLS", default=False)
    udp: str = msgspec.field(name="UDP", default="")
    interval: int = 0
    docker_container_id: str = msgspec.field(name="DockerContainerID", default="")
    shell: str = ""
    grpc: str = msgspec.field(name="GRPC", default="")
    grpc_use_tls: bool = msgspec.field(name="GRPCUseTLS", default=False)
    tls_server_name: str = msgspec.field(name="TLSServerName", default="")
    tls_skip_verify: bool = msgspec.field(name="TLSSkipVerify", default=False)
    alias_node: str = ""
    alias_service: str = ""
    timeout: int = 0
    ttl: int = msgspec.field(name="TTL", default=0)
    h2ping: str = msgspec.field(name="H2PING", default="")
    h2ping_use_tls: bool = msgspec.field(name="H2PingUseTLS", default=True)
    os_service: str = msgspec.field(name="OSService", default="")
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after: int = 0
    output_max_size: int = 0

    @property
    def key(self) -> str:
        """The id given, under either name."""
        return self.check_id or self.id

    @property
    def kind(self) -> str:
        """The type string shown, by the field that is filled; "" for none."""
        for name, given in (
            ("ttl", self.ttl > 0),
            ("http", self.http),
            ("tcp", self.tcp),
            ("udp", self.udp),
            ("grpc", self.grpc),
            ("docker", self.args and self.docker_container_id),
            ("script", self.args),
            ("h2ping", self.h2ping),
            ("alias", self.alias_node or self.alias_service),
            ("os_service", self.os_service),
        ):
            if given:
                return name
        return ""

    def validate(self) -> None:
        """Raise ``BadRequestError`` with the text of the API's 400."""
        kind = self.kind
        alias = bool(self.alias_node or self.alias_service)
        timed = bool(
            self.http
            or self.tcp
            or self.udp
            or self.grpc
            or self.args
            or self.h2ping
            or self.os_service
        )
        if timed and self.interval <= 0:
            raise BadRequestError(
                "Interval must be > 0 for Script, HTTP, H2PING, or TCP checks"
            )
        if self.interval > 0 and self.ttl > 0:
            raise BadRequestError("Interval and TTL cannot both be specified")
        if alias and self.interval > 0:
            raise BadRequestError("Interval cannot be set for Alias checks")
        if alias and self.ttl > 0:
            raise BadRequestError("TTL must be not be set for Alias checks")
        if not timed and not alias and kind != "ttl":
            raise BadRequestError("TTL must be > 0 for TTL checks")
        if self.output_max_size < 0:
            raise BadRequestError("MaxOutputMaxSize must be positive")
        if self.failures_before_warning > self.failures_before_critical > 0:
            raise BadRequestError(
                "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"
            )


class ConnectDefinition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The ``Connect`` block of a service."""

    native: bool = False
    sidecar_service: ServiceDefinition | None = None


class ServiceDefinition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A service instance to register at an agent, with its checks."""

    kind: str = ""
    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    tags: list[str] | None = None
    address: str = ""
    tagged_addresses: dict[str, ServiceAddress] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    socket_path: str = ""
    check: CheckDefinition | None = None
    checks: list[CheckDefinition] | None = None
    weights: Weights | None = None
    token: str = ""
    enable_tag_override: bool = False
    proxy: dict[str, Any] | None = None
    connect: ConnectDefinition | None = None
    locality: dict[str, str] | None = None

    @property
    def all_checks(self) -> list[CheckDefinition]:
        """``Check`` (unless empty), then ``Checks``."""
        found = list(self.checks or [])
        if self.check is not None and self.check != CheckDefinition():
            found.insert(0, self.check)
        return found


def validate_meta(meta: Mapping[str, str] | None, *, reserved: bool = True) -> None:
    """Raise ``BadRequestError`` when a pair of node or service meta is refused."""
    if not meta:
        return
    if len(meta) > META_PAIRS:
        raise BadRequestError(
            f"Node metadata cannot contain more than {META_PAIRS} key/value pairs"
        )
    for key, value in meta.items():
        reason = _meta_problem(key, value, reserved)
        if reason:
            raise BadRequestError(
                f"Couldn't load metadata pair ('{key}', '{value}'): {reason}"
            )


def _meta_problem(key: str, value: str, reserved: bool) -> str:
    if not key:
        return "Key cannot be blank"
    if _META_KEY.fullmatch(key) is None:
        return "Key contains invalid characters"
    if len(key) > META_KEY_LENGTH:
        return f"Key is too long (limit: {META_KEY_LENGTH} characters)"
    if reserved and key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    if len(value) > META_VALUE_LENGTH:
        return f"Value is too long (limit: {META_VALUE_LENGTH} characters)"
    return ""


_CHECK_DURATIONS = ("interval", "timeout", "ttl", "deregister_critical_service_after")


def check_from_config(raw: Mapping[str, Any], problems: list[str]) -> CheckDefinition:
    """Build a check of a file's decoded keys; add what is wrong to ``problems``.

    A check is named by its id there, as in ``check[web].ttl``.
    """
    fields = dict(raw)
    path = f"check[{fields.get('id', '')}]"
    for name in _CHECK_DURATIONS:
        if name in fields:
            fields[name] = _duration(fields[name], f"{path}.{name}", problems)
    return CheckDefinition(**fields)


def service_from_config(
    raw: Mapping[str, Any], problems: list[str]
) -> ServiceDefinition:
    """Build a service of a file's decoded keys; add what is wrong to ``problems``."""
    fields = dict(raw)
    name = fields.get("name", "")
    if "check" in fields:
        fields["check"] = check_from_config(fields["check"], problems)
    if "checks" in fields:
        fields["checks"] = [
            check_from_config(one, problems) for one in fields["checks"]
        ]
    try:
        validate_meta(fields.get("meta"))
    except BadRequestError as error:
        problems.append(f"invalid meta for service {name}: {error}")
    if "weights" in fields:
        fields["weights"] = Weights(**fields["weights"])
        reason = weights_problem(fields["weights"])
        if reason:
            problems.append(f"Invalid weight definition for service {name}: {reason}")
    if "tagged_addresses" in fields:
        fields["tagged_addresses"] = {
            key: ServiceAddress(**one)
            for key, one in fields["tagged_addresses"].items()
        }
    if "proxy" in fields:
        fields["proxy"] = pascal(fields["proxy"])
    if "connect" in fields:
        connect = dict(fields["connect"])
        if "sidecar_service" in connect:
            connect["sidecar_service"] = service_from_config(
                connect["sidecar_service"], problems
            )
        fields["connect"] = ConnectDefinition(**connect)
    return ServiceDefinition(**fields)


def refuse_problems(problems: list[str]) -> None:
    """Raise ``ConfigError`` with all of ``problems``, if there are any."""
    if problems:
        word = "error" if len(problems) == 1 else "errors"
        lines = "\n".join("\t* " + text for text in problems)
        raise ConfigError(f"{len(problems)} {word} occurred:\n{lines}")


def _duration(text: str, path: str, problems: list[str]) -> int:
    try:
        return parse_duration(text)
    except DurationError as error:
        problems.append(f'{path}: invalid duration: "{text}": {error}')
        return 0


_WORDS = {"id": "ID", "http": "HTTP", "tls": "TLS"}


def pascal(raw: Any) -> Any:
    """Return decoded file keys in the API's spelling; ``Config`` stays as it is."""
    if isinstance(raw, dict):
        given = cast("dict[str, Any]", raw)
        return {
            _pascal_word(key): value if key == "config" else pascal(value)
            for key, value in given.items()
        }
    if isinstance(raw, list):
        return [pascal(one) for one in cast("list[Any]", raw)]
    return raw


def _pascal_word(key: str) -> str:
    return "".join(_WORDS.get(part, part.capitalize()) for part in key.split("_"))


_UPSTREAM_ORDER = (
    "DestinationType",
    "DestinationNamespace",
    "DestinationPartition",
    "DestinationPeer",
    "DestinationName",
    "Datacenter",
    "LocalBindAddress",
    "LocalBindPort",
    "LocalBindSocketPath",
    "LocalBindSocketMode",
    "Config",
    "MeshGateway",
)
_PROXY_ORDER = (
    "DestinationServiceName",
    "DestinationServiceID",
    "LocalServiceAddress",
    "LocalServicePort",
    "LocalServiceSocketPath",
    "Mode",
    "TransparentProxy",
    "Config",
    "Upstreams",
    "MeshGateway",
    "Expose",
)


def complete_proxy(raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a proxy block in wire order, empty values left out, defaults in."""
    given = dict(raw or {})
    given.setdefault("MeshGateway", {})
    given.setdefault("Expose", {})
    upstreams = cast("list[Mapping[str, Any]]", given.get("Upstreams") or [])
    given["Upstreams"] = [
        _ordered(
            {"DestinationType": "service", "MeshGateway": {}, **one}, _UPSTREAM_ORDER
        )
        for one in upstreams
    ]
    return _ordered(given, _PROXY_ORDER)


def _ordered(given: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    keep = ("MeshGateway", "Expose")
    return {
        name: given[name] if given[name] is not None else {}
        for name in order
        if name in given and (given[name] or name in keep)
    }
