"""Config entries: their records and the fields of each kind.

A kind's fields are a table (``KINDS``), read by everyone who handles entries:
the wire (all fields, sorted), request bodies (any spelling) and JSON answers
(this order, ``omit`` as Go's ``omitempty``). Sources: ``rpc-schema.json`` and
``http-api-connect.md`` section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from pyconsul.types.messages import QueryOptions, WriteOptions
from pyconsul.types.records import Record

Plain = dict[str, Any]
Basic = Literal["str", "int", "bool", "float", "duration", "any"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its wire name, what it holds, and how.

    ``of`` is a basic kind or the fields of a structure. ``form`` is ``value``,
    ``pointer`` (may be nil), ``list`` or ``map`` (keys are text).
    """

    name: str
    of: Basic | tuple[Field, ...]
    form: Literal["value", "pointer", "list", "map"] = "value"
    omit: bool = True

    @property
    def zero(self) -> Any:
        """What Go has there when nothing was given."""
        if self.form != "value":
            return None
        if isinstance(self.of, tuple):
            return complete(self.of, {})
        return _ZERO[self.of]


_ZERO: dict[str, Any] = {
    "str": "",
    "int": 0,
    "bool": False,
    "float": 0.0,
    "duration": 0,
    "any": None,
}


def complete(fields: tuple[Field, ...], given: Plain) -> Plain:
    """Return a structure with every field, sorted as on the wire.

    What is not in ``fields`` is kept: a newer server may have written it.
    Values of a wrong type count as not given, so readers may rely on types.
    """
    result = dict(given)
    for field in fields:
        result[field.name] = _completed(field, given.get(field.name))
    return dict(sorted(result.items()))


def _completed(field: Field, value: Any) -> Any:
    if value is None:
        return field.zero
    if isinstance(field.of, str):
        return _completed_basic(field, field.of, value)
    if field.form == "list" and isinstance(value, list):
        items = cast("list[Any]", value)
        return [
            complete(field.of, cast(Plain, item))
            for item in items
            if isinstance(item, dict)
        ]
    if not isinstance(value, dict):
        return field.zero
    held = cast(Plain, value)
    if field.form == "map":
        return {
            key: complete(field.of, cast(Plain, item))
            for key, item in held.items()
            if isinstance(item, dict)
        }
    return complete(field.of, held)


def _completed_basic(field: Field, of: Basic, value: Any) -> Any:
    if field.form == "list":
        if not isinstance(value, list):
            return None
        return [item for item in cast("list[Any]", value) if _fits(of, item)]
    if field.form == "map":
        if not isinstance(value, dict):
            return None
        held = cast("dict[Any, Any]", value)
        return {k: v for k, v in held.items() if isinstance(k, str) and _fits(of, v)}
    return value if _fits(of, value) else field.zero


def _fits(of: Basic, value: Any) -> bool:
    if of == "any":
        return True
    if of == "float":
        return type(value) in (int, float)
    return type(value) is type(_ZERO[of])


def _text(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, "str") for name in names)


def _texts(name: str, *, omit: bool = True) -> Field:
    return Field(name, "str", "list", omit)


_META = Field("Meta", "str", "map")
_HEAD = (Field("Kind", "str", omit=False), Field("Name", "str", omit=False))
_MESH_GATEWAY = Field("MeshGateway", _text("Mode"), omit=False)
_TRANSPARENT = Field(
    "TransparentProxy",
    (Field("OutboundListenerPort", "int"), Field("DialedDirectly", "bool")),
    omit=False,
)
_EXPOSE = Field(
    "Expose",
    (
        Field("Checks", "bool"),
        Field(
            "Paths",
            (
                Field("ListenerPort", "int"),
                Field("Path", "str"),
                Field("LocalPathPort", "int"),
                Field("Protocol", "str"),
                Field("ParsedFromCheck", "bool"),
            ),
            "list",
        ),
    ),
    omit=False,
)
_UPSTREAM = (
    *_text("Name", "EnvoyListenerJSON", "EnvoyClusterJSON", "Protocol"),
    Field("ConnectTimeoutMs", "int"),
    Field(
        "Limits",
        (
            Field("MaxConnections", "int", "pointer"),
            Field("MaxPendingRequests", "int", "pointer"),
            Field("MaxConcurrentRequests", "int", "pointer"),
        ),
        "pointer",
    ),
    Field(
        "PassiveHealthCheck",
        (Field("Interval", "duration"), Field("MaxFailures", "int")),
        "pointer",
    ),
    _MESH_GATEWAY,
)
_SERVICE_DEFAULTS = (
    *_HEAD,
    Field("Protocol", "str", omit=False),
    Field("Mode", "str"),
    _TRANSPARENT,
    _MESH_GATEWAY,
    _EXPOSE,
    Field("ExternalSNI", "str"),
    Field(
        "UpstreamConfig",
        (
            Field("Overrides", _UPSTREAM, "list"),
            Field("Defaults", _UPSTREAM, "pointer"),
        ),
        "pointer",
    ),
    _META,
)
_PROXY_DEFAULTS = (
    *_HEAD,
    Field("Config", "any", "map", omit=False),
    Field("Mode", "str"),
    _TRANSPARENT,
    _MESH_GATEWAY,
    _EXPOSE,
    _META,
)
_ROUTE_MATCH = (
    *_text("PathExact", "PathPrefix", "PathRegex"),
    Field(
        "Header",
        (
            Field("Name", "str", omit=False),
            Field("Present", "bool"),
            *_text("Exact", "Prefix", "Suffix", "Regex"),
            Field("Invert", "bool"),
        ),
        "list",
    ),
    Field(
        "QueryParam",
        (
            Field("Name", "str", omit=False),
            Field("Present", "bool"),
            *_text("Exact", "Regex"),
        ),
        "list",
    ),
    _texts("Methods"),
)
_SERVICE_ROUTER = (
    *_HEAD,
    Field(
        "Routes",
        (
            Field("Match", (Field("HTTP", _ROUTE_MATCH, "pointer"),), "pointer"),
            Field(
                "Destination",
                (
                    Field("RequestTimeout", "duration"),
                    *_text("Service", "ServiceSubset", "Namespace", "PrefixRewrite"),
                    Field("NumRetries", "int"),
                    Field("RetryOnConnectFailure", "bool"),
                    Field("RetryOnStatusCodes", "int", "list"),
                ),
                "pointer",
            ),
        ),
        "list",
        omit=False,
    ),
    _META,
)
_SERVICE_SPLITTER = (
    *_HEAD,
    Field(
        "Splits",
        (
            Field("Weight", "float", omit=False),
            *_text("Service", "ServiceSubset", "Namespace"),
        ),
        "list",
        omit=False,
    ),
    _META,
)
_BALANCER = (
    Field("Policy", "str"),
    Field(
        "RingHashConfig",
        (Field("MinimumRingSize", "int"), Field("MaximumRingSize", "int")),
        "pointer",
    ),
    Field("LeastRequestConfig", (Field("ChoiceCount", "int"),), "pointer"),
    Field(
        "HashPolicies",
        (
            *_text("Field", "FieldValue"),
            Field(
                "CookieConfig",
                (
                    Field("Session", "bool"),
                    Field("TTL", "duration"),
                    Field("Path", "str"),
                ),
                "pointer",
            ),
            Field("SourceIP", "bool"),
            Field("Terminal", "bool"),
        ),
        "list",
    ),
)
_SERVICE_RESOLVER = (
    Field("ConnectTimeout", "duration"),
    *_HEAD,
    Field("DefaultSubset", "str"),
    Field("Subsets", (Field("Filter", "str"), Field("OnlyPassing", "bool")), "map"),
    Field(
        "Redirect",
        _text("Service", "ServiceSubset", "Namespace", "Datacenter"),
        "pointer",
    ),
    Field(
        "Failover",
        (*_text("Service", "ServiceSubset", "Namespace"), _texts("Datacenters")),
        "map",
    ),
    Field("LoadBalancer", _BALANCER, "pointer"),
    _META,
)
_INGRESS_GATEWAY = (
    *_HEAD,
    Field("TLS", (Field("Enabled", "bool", omit=False),), omit=False),
    Field(
        "Listeners",
        (
            Field("Port", "int", omit=False),
            Field("Protocol", "str", omit=False),
            Field(
                "Services",
                (
                    Field("Name", "str", omit=False),
                    _texts("Hosts", omit=False),
                    _META,
                ),
                "list",
                omit=False,
            ),
        ),
        "list",
        omit=False,
    ),
    _META,
)
_TERMINATING_GATEWAY = (
    *_HEAD,
    Field(
        "Services",
        (
            Field("Name", "str", omit=False),
            *_text("CAFile", "CertFile", "KeyFile", "SNI"),
        ),
        "list",
        omit=False,
    ),
    _META,
)
_MESH = (
    Field("TransparentProxy", (Field("MeshDestinationsOnly", "bool"),), omit=False),
    _META,
)

KINDS: dict[str, tuple[Field, ...]] = {
    "service-defaults": _SERVICE_DEFAULTS,
    "proxy-defaults": _PROXY_DEFAULTS,
    "service-router": _SERVICE_ROUTER,
    "service-splitter": _SERVICE_SPLITTER,
    "service-resolver": _SERVICE_RESOLVER,
    "ingress-gateway": _INGRESS_GATEWAY,
    "terminating-gateway": _TERMINATING_GATEWAY,
    "mesh": _MESH,
}
"""The kinds that can be written, with their fields."""

READABLE = frozenset((*KINDS, "service-intentions"))
"""The kinds that can be asked for; intentions come from archives only."""

FIXED_NAMES = {"proxy-defaults": "global", "mesh": "mesh"}
"""Kinds of which there is one entry, under this name."""


class ConfigEntry(Record, frozen=True, kw_only=True):
    """A config entry; ``fields`` are the kind's, complete, without indexes."""

    kind: str = ""
    name: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    create_index: int = 0
    modify_index: int = 0


class GatewayService(Record, frozen=True, kw_only=True):
    """A service behind a gateway, as the gateway's config entry says."""

    gateway: str = ""
    service: str = ""
    gateway_kind: str = ""
    port: int = 0
    protocol: str = ""
    hosts: list[str] | None = None
    ca_file: str = msgspec.field(name="CAFile", default="")
    cert_file: str = ""
    key_file: str = ""
    sni: str = msgspec.field(name="SNI", default="")
    from_wildcard: bool = False
    create_index: int = 0
    modify_index: int = 0


class ConfigEntryRequest(WriteOptions, frozen=True, kw_only=True):
    """``ConfigEntry.Apply`` and ``.Delete``.

    ``op`` is ``upsert``, ``upsert-cas`` (the entry's ``modify_index`` is the
    one expected, 0 for "not there") or ``delete``.
    """

    op: str = "upsert"
    entry: ConfigEntry = ConfigEntry()


class ConfigEntryQuery(QueryOptions, frozen=True, kw_only=True):
    """``ConfigEntry.Get`` and ``.List`` (no name; no kind means every kind)."""

    kind: str = ""
    name: str = ""
