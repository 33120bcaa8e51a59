"""What can be selected from each kind of record, as data.

A ``Schema`` maps selector names to a field: how to get its value, and its
kind. ``None`` anywhere counts as the kind's zero value, as Go has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import attrgetter
from typing import Any


class Kind(Enum):
    """What operators a field takes."""

    STRING = auto()
    INT = auto()
    BOOL = auto()
    STRINGS = auto()
    """A list of strings."""
    OBJECT = auto()
    OBJECTS = auto()
    """A list of objects: a comparison holds if it does for any of them."""
    MAP = auto()
    """String keys; ``inner`` is the kind of the values."""


@dataclass(slots=True, frozen=True)
class Field:
    """A selectable field."""

    get: Callable[[Any], Any]
    kind: Kind
    fields: Schema = field(default_factory=dict[str, "Field"])
    """Of an object, or of each element."""
    inner: Field | None = None
    """Of a map: the kind of a value, its ``get`` unused."""


Schema = Mapping[str, Field]


def _identity(value: Any) -> Any:
    return value


def _attribute(name: str) -> Callable[[Any], Any]:
    """Read an attribute of a value that may be ``None``."""
    getter = attrgetter(name)
    return lambda value: None if value is None else getter(value)


def _item(name: str) -> Callable[[Any], Any]:
    """Read a key of a decoded wire map that may be ``None``."""

    def get(value: Any) -> Any:
        return value.get(name) if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    return get


def _string(path: str) -> Field:
    return Field(attrgetter(path), Kind.STRING)


def _int(path: str) -> Field:
    return Field(attrgetter(path), Kind.INT)


def _strings(path: str) -> Field:
    return Field(attrgetter(path), Kind.STRINGS)


def _map(path: str, inner: Field) -> Field:
    return Field(attrgetter(path), Kind.MAP, inner=inner)


def _key(name: str, kind: Kind = Kind.STRING, fields: Schema | None = None) -> Field:
    return Field(_item(name), kind, fields or {})


_TEXT = Field(_identity, Kind.STRING)
_ADDRESS = Field(
    _identity,
    Kind.OBJECT,
    {
        "Address": Field(_attribute("address"), Kind.STRING),
        "Port": Field(_attribute("port"), Kind.INT),
    },
)
_WEIGHTS: Schema = {
    "Passing": Field(_attribute("passing"), Kind.INT),
    "Warning": Field(_attribute("warning"), Kind.INT),
}
_CONNECT: Schema = {"Native": _key("Native", Kind.BOOL)}
_MESH_GATEWAY: Schema = {"Mode": _key("Mode")}
_TRANSPARENT_PROXY: Schema = {
    "OutboundListenerPort": _key("OutboundListenerPort", Kind.INT),
    "DialedDirectly": _key("DialedDirectly", Kind.BOOL),
}
_UPSTREAM: Schema = {
    "DestinationType": _key("DestinationType"),
    "DestinationNamespace": _key("DestinationNamespace"),
    "DestinationName": _key("DestinationName"),
    "Datacenter": _key("Datacenter"),
    "LocalBindAddress": _key("LocalBindAddress"),
    "LocalBindPort": _key("LocalBindPort", Kind.INT),
    "LocalBindSocketPath": _key("LocalBindSocketPath"),
    "LocalBindSocketMode": _key("LocalBindSocketMode"),
    "MeshGateway": _key("MeshGateway", Kind.OBJECT, _MESH_GATEWAY),
}
_PROXY: Schema = {
    "DestinationServiceName": _key("DestinationServiceName"),
    "DestinationServiceID": _key("DestinationServiceID"),
    "LocalServiceAddress": _key("LocalServiceAddress"),
    "LocalServicePort": _key("LocalServicePort", Kind.INT),
    "LocalServiceSocketPath": _key("LocalServiceSocketPath"),
    "Mode": _key("Mode"),
    "TransparentProxy": _key("TransparentProxy", Kind.OBJECT, _TRANSPARENT_PROXY),
    "Upstreams": _key("Upstreams", Kind.OBJECTS, _UPSTREAM),
    "MeshGateway": _key("MeshGateway", Kind.OBJECT, _MESH_GATEWAY),
}


def _service(base: str, prefix: str) -> dict[str, Field]:
    """Fields of a service instance at attribute path ``base``."""
    connect = Field(attrgetter(base + "connect"), Kind.OBJECT, _CONNECT)
    override = Field(attrgetter(base + "enable_tag_override"), Kind.BOOL)
    weights = Field(attrgetter(base + "weights"), Kind.OBJECT, _WEIGHTS)
    return {
        prefix + "Kind": _string(base + "kind"),
        prefix + "ID": _string(base + "id"),
        ("ServiceName" if prefix else "Service"): _string(base + "service"),
        prefix + "Tags": _strings(base + "tags"),
        prefix + "Address": _string(base + "address"),
        prefix + "TaggedAddresses": _map(base + "tagged_addresses", _ADDRESS),
        prefix + "Meta": _map(base + "meta", _TEXT),
        prefix + "Port": _int(base + "port"),
        prefix + "SocketPath": _string(base + "socket_path"),
        prefix + "Weights": weights,
        prefix + "EnableTagOverride": override,
        prefix + "Proxy": Field(attrgetter(base + "proxy"), Kind.OBJECT, _PROXY),
        prefix + "Connect": connect,
    }


def _node(base: str, meta: str) -> dict[str, Field]:
    return {
        "ID": _string(base + "id"),
        "Node": _string(base + "node"),
        "Address": _string(base + "address"),
        "Datacenter": _string(base + "datacenter"),
        "TaggedAddresses": _map(base + "tagged_addresses", _TEXT),
        meta: _map(base + "meta", _TEXT),
    }


NODE: Schema = _node("", "Meta")
"""``Node``: ``catalog/nodes``."""

NODE_SERVICE: Schema = _service("", "")
"""``NodeService``: ``catalog/node``, ``catalog/node-services``, ``agent/services``."""

SERVICE_NODE: Schema = {
    **_node("node.", "NodeMeta"),
    **_service("service.", "Service"),
}
"""``ServiceInstance`` under its flattened names: ``catalog/service``."""

HEALTH_CHECK: Schema = {
    "Node": _string("node"),
    "CheckID": _string("check_id"),
    "Name": _string("name"),
    "Status": _string("status"),
    "Notes": _string("notes"),
    "Output": _string("output"),
    "ServiceID": _string("service_id"),
    "ServiceName": _string("service_name"),
    "ServiceTags": _strings("service_tags"),
    "Type": _string("type"),
    "Interval": _string("interval"),
    "Timeout": _string("timeout"),
    "ExposedPort": _int("exposed_port"),
}
"""``HealthCheck``: ``health/node``, ``health/checks``, ``health/state``."""

CHECK_SERVICE_NODE: Schema = {
    "Node": Field(attrgetter("node"), Kind.OBJECT, NODE),
    "Service": Field(attrgetter("service"), Kind.OBJECT, NODE_SERVICE),
    "Checks": Field(attrgetter("checks"), Kind.OBJECTS, HEALTH_CHECK),
}
"""``CheckServiceNode``: ``health/service`` and its kin."""

NODE_INFO: Schema = {
    "ID": _string("id"),
    "Node": _string("node"),
    "Address": _string("address"),
    "TaggedAddresses": _map("tagged_addresses", _TEXT),
    "Meta": _map("meta", _TEXT),
    "Services": Field(attrgetter("services"), Kind.OBJECTS, NODE_SERVICE),
    "Checks": Field(attrgetter("checks"), Kind.OBJECTS, HEALTH_CHECK),
}
"""``NodeInfo``: ``internal/ui/nodes``."""

INTENTION: Schema = {
    "ID": _string("id"),
    "Description": _string("description"),
    "SourceNS": _string("source_ns"),
    "SourceName": _string("source_name"),
    "DestinationNS": _string("destination_ns"),
    "DestinationName": _string("destination_name"),
    "SourceType": _string("source_type"),
    "Action": _string("action"),
    "Meta": _map("meta", _TEXT),
    "Precedence": _int("precedence"),
}
"""``Intention``: ``connect/intentions``."""

MEMBER: Schema = {
    "Name": _key("Name"),
    "Addr": _key("Addr"),
    "Port": _key("Port", Kind.INT),
    "Status": _key("Status", Kind.INT),
    "Tags": Field(_item("Tags"), Kind.MAP, inner=_TEXT),
}
"""A member as ``agent/members`` tells it: for the command line."""
