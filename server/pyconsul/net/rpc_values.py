"""Values of the RPC wire that more than one method carries (``wire-rpc.md``).

``*_to_plain`` makes what ``gomsgpack.pack`` writes, ``*_from_plain`` reads what
``gomsgpack.unpack`` returned and raises ``MsgpackError`` for anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from pyconsul.state.config_entries import entry_of
from pyconsul.types.config_entries import ConfigEntry, GatewayService
from pyconsul.types.gomsgpack import (
    MsgpackError,
    Plain,
    from_plain,
    pack,
    raw_bytes,
    to_plain,
    unpack,
    unpack_stream,
)
from pyconsul.types.gotime import read_time
from pyconsul.types.messages import Row
from pyconsul.types.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    NodeServices,
    ServiceInstance,
    Weights,
)

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Read = Callable[[Any], Any]

RAW_LIMIT = 64 << 20
"""Bytes of the largest value inside a raw."""


def wrong(what: str, value: Any, wanted: str) -> MsgpackError:
    """Return the error of a value that is not of its field's type."""
    return MsgpackError(f"msgpack decode error: {what}: {_name(value)} for {wanted}")


def _name(value: Any) -> str:
    return "nil" if value is None else type(value).__name__


def as_map(value: Any, what: str) -> Plain:
    """Return a map; nil is an empty one."""
    if value is None:
        return {}
    if value.__class__ is not dict:
        raise wrong(what, value, "map")
    return cast(Plain, value)


def as_list(value: Any, what: str) -> list[Any]:
    """Return a list; nil is an empty one."""
    if value is None:
        return []
    if value.__class__ is not list:
        raise wrong(what, value, "list")
    return cast("list[Any]", value)


def as_text(value: Any, what: str) -> str:
    """Return text; nil is empty."""
    if value is None:
        return ""
    if value.__class__ is not str:
        raise wrong(what, value, "str")
    return cast(str, value)


def as_bool(value: Any, what: str) -> bool:
    """Return a boolean; nil is false."""
    if value is None:
        return False
    if value.__class__ is not bool:
        raise wrong(what, value, "bool")
    return cast(bool, value)


def as_uint(value: Any, what: str) -> int:
    """Return a number that is not negative; nil is zero."""
    if value is None:
        return 0
    if value.__class__ is not int or value < 0:
        raise wrong(what, value, "uint")
    return cast(int, value)


def texts(value: Any, what: str) -> list[str]:
    """Return a list of text."""
    return [as_text(item, what) for item in as_list(value, what)]


def tags_by_name(value: Any) -> dict[str, list[str]]:
    """Return names with their lists of text."""
    held = as_map(value, "Services")
    return {
        as_text(name, "Services"): texts(tags, "Services")
        for name, tags in held.items()
    }


def items(value: Any, what: str, read: Callable[[Any], T]) -> list[T]:
    """Return a list of structures; nil pointers in it are dropped."""
    return [read(item) for item in as_list(value, what) if item is not None]


def records(what: str, kind: type[S]) -> Callable[[Any], list[S]]:
    """Return the reader of a list of one structure."""
    return lambda value: items(value, what, lambda one: from_plain(one, kind))


def rows(what: str, read: Read) -> Callable[[Any], list[Row]]:
    """Return the reader of a list of rows."""
    return lambda value: [
        Row(read(item)) for item in as_list(value, what) if item is not None
    ]


class RowMemo:
    """Rows read before: instances come again and again, mostly unchanged.

    A row is found by its node and service, and is the same one (with its JSON)
    if its map is equal to the one it was read from. ``limit`` rows are kept.
    """

    __slots__ = ("_limit", "_read", "_rows", "_where")

    def __init__(
        self, read: Read, where: Callable[[Plain], object], limit: int = 1024
    ) -> None:
        self._read = read
        self._where = where
        self._limit = limit
        self._rows: dict[object, tuple[Plain, Row]] = {}

    def row(self, plain: Any) -> Row:
        """Return the row of a map; raises ``MsgpackError``."""
        held = as_map(plain, "Nodes")
        try:
            where = self._where(held)
            known = self._rows.get(where)
        except (KeyError, TypeError):  # not what a server writes
            return Row(self._read(held))
        if known is not None and known[0] == held:
            return known[1]
        row = Row(self._read(held), held)
        if len(self._rows) >= self._limit:
            self._rows.clear()
        self._rows[where] = (held, row)
        return row

    def rows(self, value: Any) -> list[Row]:
        """Return the rows of a list."""
        row = self.row
        return [row(one) for one in as_list(value, "Nodes") if one is not None]


def plain_list(values: list[Any], write: Callable[[Any], Any]) -> list[Any] | None:
    """Return a list as Go writes it: nil when it is empty."""
    return [write(value) for value in values] or None


def plain_rows(values: list[Row], write: Callable[[Any], Any]) -> list[Any] | None:
    """Return rows as Go writes them; each row's map is made once in its life."""
    return [row.plain(write) for row in values] or None


# -- services with their nodes


def instance_to_plain(instance: ServiceInstance) -> Plain:
    """Return ``ServiceNode``, which is flat and has the service's indexes."""
    node, service = instance.node, instance.service
    held = to_plain(service)
    return {
        "Address": node.address,
        "CreateIndex": service.create_index,
        "Datacenter": node.datacenter,
        "ID": node.id,
        "ModifyIndex": service.modify_index,
        "Node": node.node,
        "NodeMeta": node.meta,
        "ServiceAddress": service.address,
        "ServiceConnect": held["Connect"],
        "ServiceEnableTagOverride": service.enable_tag_override,
        "ServiceID": service.id,
        "ServiceKind": service.kind,
        "ServiceMeta": service.meta or {},
        "ServiceName": service.service,
        "ServicePort": service.port,
        "ServiceProxy": held["Proxy"],
        "ServiceSocketPath": service.socket_path,
        "ServiceTaggedAddresses": held["TaggedAddresses"],
        "ServiceTags": service.tags,
        # A value there, a pointer here.
        "ServiceWeights": held["Weights"] or to_plain(Weights()),
        "TaggedAddresses": node.tagged_addresses,
    }


_SERVICE_NAMES = {
    "Service": "ServiceName",
    **{
        name: f"Service{name}"
        for name in (
            "Address",
            "Connect",
            "EnableTagOverride",
            "ID",
            "Kind",
            "Meta",
            "Port",
            "Proxy",
            "SocketPath",
            "TaggedAddresses",
            "Tags",
            "Weights",
        )
    },
    "CreateIndex": "CreateIndex",
    "ModifyIndex": "ModifyIndex",
}
_NODE_NAMES = {
    **{n: n for n in ("ID", "Node", "Address", "Datacenter", "TaggedAddresses")},
    "Meta": "NodeMeta",
}


def instance_from_plain(plain: Any) -> ServiceInstance:
    """Read ``ServiceNode``; it does not hold the node's indexes."""
    get = as_map(plain, "ServiceNodes").get
    return ServiceInstance(
        node=from_plain({n: get(w) for n, w in _NODE_NAMES.items()}, Node),
        service=from_plain({n: get(w) for n, w in _SERVICE_NAMES.items()}, NodeService),
    )


def healthy_to_plain(found: CheckServiceNode) -> Plain:
    """Return ``CheckServiceNode``."""
    return {
        "Checks": plain_list(found.checks, to_plain),
        "Node": to_plain(found.node),
        "Service": to_plain(found.service),
    }


def healthy_from_plain(plain: Any) -> CheckServiceNode:
    """Read ``CheckServiceNode``."""
    get = as_map(plain, "Nodes").get
    return CheckServiceNode(
        node=from_plain(as_map(get("Node"), "Node"), Node),
        service=from_plain(as_map(get("Service"), "Service"), NodeService),
        checks=checks_from_plain(get("Checks")),
    )


checks_from_plain = records("Checks", HealthCheck)


def services_by_id(value: NodeServices | None) -> Plain | None:
    """Return ``NodeServices``: a map by id; nil for an unknown node."""
    if value is None:
        return None
    return {
        "Node": to_plain(value.node),
        "Services": {service.id: to_plain(service) for service in value.services},
    }


def services_listed(value: NodeServices | None) -> Plain:
    """Return ``NodeServiceList``; both members nil for an unknown node."""
    if value is None:
        return {"Node": None, "Services": None}
    return {
        "Node": to_plain(value.node),
        "Services": [to_plain(service) for service in value.services],
    }


def node_services_from_plain(plain: Any) -> NodeServices | None:
    """Read ``NodeServices`` or ``NodeServiceList``; services come by id."""
    get = as_map(plain, "NodeServices").get
    node, held = get("Node"), get("Services")
    if node is None:
        return None
    if held.__class__ is dict:
        held = list(cast(Plain, held).values())
    services = items(held, "Services", lambda one: from_plain(one, NodeService))
    services.sort(key=lambda service: service.id)
    return NodeServices(node=from_plain(node, Node), services=services)


# -- services behind gateways


def gateway_service_to_plain(found: GatewayService) -> Plain:
    """Return ``GatewayService``; names of services are structures there."""
    plain = to_plain(found)
    plain["Gateway"] = {"Name": found.gateway}
    plain["Service"] = {"Name": found.service}
    return plain


def gateway_service_from_plain(plain: Any) -> GatewayService:
    """Read ``GatewayService``."""
    held = dict(as_map(plain, "GatewayService"))
    for name in ("Gateway", "Service"):
        held[name] = as_map(held.get(name), name).get("Name")
    return from_plain(held, GatewayService)


# -- times


def time_from_plain(value: Any) -> int:
    """Read a time as nanoseconds since 1970; the zone does not count."""
    if value is None:
        return 0
    if not isinstance(value, str | bytes):
        raise wrong("time", value, "time")
    try:
        return read_time(raw_bytes(value))
    except ValueError as error:
        raise MsgpackError(f"msgpack decode error: {error}") from None


# -- values that are one raw


def raw_parts(value: Any, what: str) -> list[Any]:
    """Return the msgpack values one after another inside a raw."""
    if not isinstance(value, str | bytes):
        raise wrong(what, value, "raw")
    return list(unpack_stream([raw_bytes(value)], RAW_LIMIT))


def pack_parts(*parts: Any, single_floats: bool = False) -> bytes:
    """Return values one after another, to stand in one raw."""
    return b"".join([pack(part, single_floats=single_floats) for part in parts])


def config_entry_from_plain(kind: str, value: Any) -> ConfigEntry:
    """Read an entry, which may be a raw of its own; no kind: its own ``Kind``."""
    if isinstance(value, str | bytes):
        value = unpack(raw_bytes(value))
    plain = as_map(value, "Entry")
    if not kind:
        # Only mesh entries do not say what they are.
        kind = as_text(plain.get("Kind"), "Kind") or "mesh"
    return entry_of(kind, plain)


def single_floats(entry: ConfigEntry) -> bool:
    """Tell whether an entry's floats are single: the weights of splits."""
    return entry.kind == "service-splitter"
