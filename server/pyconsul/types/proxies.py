"""Proxy and connect blocks of services, in the one form that is kept.

A block is a map in wire spelling. Go writes every field (``complete_block``);
we keep what was given: ``reduce_block`` drops the zero values at every depth
and sorts free-form maps, so that equal blocks are equal maps wherever they
came from, and checks the types of what a stranger sent.
"""

from __future__ import annotations

from typing import Any, cast

from pyconsul.types.config_entries import Field, Plain, complete

MAX_DEPTH = 64
"""How deeply free-form values may be nested."""


class BlockError(ValueError):
    """A block is malformed; the text names the field."""


def _text(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, "str") for name in names)


_MESH_GATEWAY = Field("MeshGateway", _text("Mode"))
_UPSTREAM = (
    *_text("DestinationType", "DestinationNamespace", "DestinationName"),
    *_text("Datacenter", "LocalBindAddress"),
    Field("LocalBindPort", "int"),
    *_text("LocalBindSocketPath", "LocalBindSocketMode"),
    Field("Config", "any", "map"),
    _MESH_GATEWAY,
    Field("IngressHosts", "str", "list"),
    Field("CentrallyConfigured", "bool"),
)
_EXPOSE_PATH = (
    Field("ListenerPort", "int"),
    Field("Path", "str"),
    Field("LocalPathPort", "int"),
    Field("Protocol", "str"),
    Field("ParsedFromCheck", "bool"),
)
PROXY: tuple[Field, ...] = (
    *_text("DestinationServiceName", "DestinationServiceID", "LocalServiceAddress"),
    Field("LocalServicePort", "int"),
    *_text("LocalServiceSocketPath", "Mode"),
    Field("Config", "any", "map"),
    Field("Upstreams", _UPSTREAM, "list"),
    _MESH_GATEWAY,
    Field("Expose", (Field("Checks", "bool"), Field("Paths", _EXPOSE_PATH, "list"))),
    Field(
        "TransparentProxy",
        (Field("OutboundListenerPort", "int"), Field("DialedDirectly", "bool")),
    ),
)
"""``ConnectProxyConfig``."""
CONNECT: tuple[Field, ...] = (
    Field("Native", "bool"),
    Field("SidecarService", "any", "pointer"),
)
"""``ServiceConnect``."""

_KINDS: dict[Any, type] = {"str": str, "int": int, "bool": bool}


def complete_block(fields: tuple[Field, ...], given: Plain) -> Plain:
    """Return a block as Go writes it: all fields, sorted."""
    return complete(fields, given)


def reduce_block(fields: tuple[Field, ...], given: Any, where: str) -> Plain:
    """Return a block without its zero values; raises ``BlockError``.

    Fields that are not known are kept: a newer agent may have written them.
    """
    held = _map(given, where)
    left = dict(held)
    kept: Plain = {}
    for field in fields:
        value = left.pop(field.name, None)
        if value:
            value = _reduced(field, value, f"{where}.{field.name}")
            if value:
                kept[field.name] = value
    for name in sorted(left):
        value = checked(left[name], f"{where}.{name}")
        if value:
            kept[name] = value
    return kept


def same_block(
    fields: tuple[Field, ...], one: Plain | None, other: Plain | None
) -> bool:
    """Tell whether two blocks say the same."""
    if one == other:
        return True
    try:
        return reduce_block(fields, one or {}, "") == reduce_block(
            fields, other or {}, ""
        )
    except BlockError:
        return False


def _reduced(field: Field, value: Any, where: str) -> Any:
    if isinstance(field.of, tuple):
        if field.form == "list":
            return [
                reduce_block(field.of, item, where)
                for item in _list(value, where)
                if item is not None
            ]
        return reduce_block(field.of, value, where)
    if field.of == "any":
        return checked(_map(value, where), where)
    kind = _KINDS[field.of]
    for item in _list(value, where) if field.form == "list" else (value,):
        if type(item) is not kind:
            raise BlockError(f"{where}: {type(item).__name__} for {kind.__name__}")
    return value


def _map(value: Any, where: str) -> Plain:
    if type(value) is not dict:
        raise BlockError(f"{where}: {type(value).__name__} for map")
    held = cast("dict[Any, Any]", value)
    for key in held:
        if type(key) is not str:
            raise BlockError(f"{where}: {type(key).__name__} for a key")
    return held


def _list(value: Any, where: str) -> list[Any]:
    if type(value) is not list:
        raise BlockError(f"{where}: {type(value).__name__} for list")
    return cast("list[Any]", value)


def checked(value: Any, where: str, depth: int = 0) -> Any:
    """Return a free-form value with its maps sorted; raises ``BlockError``.

    It is one that JSON can show: text, numbers, booleans, lists, maps of text.
    """
    kind: type = value.__class__
    if value is None or kind in (str, int, float, bool):
        return value
    if depth > MAX_DEPTH:
        raise BlockError(f"{where}: exceeded max depth")
    if kind is list:
        return [checked(item, where, depth + 1) for item in value]
    if kind is not dict:
        raise BlockError(f"{where}: {kind.__name__} for a value")
    held = _map(value, where)
    return {key: checked(held[key], where, depth + 1) for key in sorted(held)}
