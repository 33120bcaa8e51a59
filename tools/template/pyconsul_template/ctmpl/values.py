"""Go's values in Python: fields, type names, comparison, ranges, printing.

A Go string is ``str`` (bytes that are no UTF-8 as surrogates), a number ``int``
or ``float``, a list ``list``, a map ``dict``, nil ``None``. ``Strings`` and
``StringMap`` are lists and maps that hold only strings, which Go tells apart.
Records are structs: always true, their fields by the reference's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

import msgspec

from pyconsul_client.records import (
    AgentService,
    CatalogNode,
    HealthCheck,
    ServiceEntry,
)
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.pending import PENDING, Pending
from pyconsul_template.records import (
    Instance,
    NodeDetail,
    NodeRecord,
    NodeService,
    Pair,
    ServiceName,
    spellings,
)

TEXT_MAX = 256 * 1024 * 1024
"""Characters of one value; a larger one is refused."""

PLAIN_DIGITS_MAX = 6
"""Places before the point from which on a float is written with an exponent."""


class Strings(list[str]):
    """``[]string``."""

    __slots__ = ()


class StringMap(dict[str, Any]):
    """``map[string]string``."""

    __slots__ = ()


class Unsigned(int):
    """``uint64``."""


class Byte(Unsigned):
    """``uint8``."""


class Long(int):
    """``int64``."""


class Loop:
    """What ``loop`` gives: numbers, a Go channel."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __str__(self) -> str:
        # A channel prints as its address, which is as good as any other.
        return f"0xc{id(self) & 0xFFFFFFFFF:09x}"


class NodeNotFound(msgspec.Struct, frozen=True):
    """What ``node`` gives for an unknown one: true, and without a node."""

    node: None = msgspec.field(name="Node", default=None)
    services: tuple[NodeService, ...] = msgspec.field(name="Services", default=())


_TYPES: dict[type, str] = {
    str: "string",
    int: "int",
    Long: "int64",
    Unsigned: "uint64",
    Byte: "uint8",
    float: "float64",
    complex: "complex128",
    bool: "bool",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    tuple: "dependency.ServiceTags",
    Strings: "[]string",
    StringMap: "map[string]string",
    Loop: "<-chan int64",
    type(None): "<nil>",
    Instance: "*dependency.HealthService",
    Pair: "*dependency.KeyPair",
    ServiceName: "*dependency.CatalogSnippet",
    NodeRecord: "*dependency.Node",
    NodeDetail: "*dependency.CatalogNode",
    NodeNotFound: "*dependency.CatalogNode",
    NodeService: "*dependency.CatalogNodeService",
    HealthCheck: "*api.HealthCheck",
}


def type_name(value: object) -> str:
    """Return the name of a value's type in Go."""
    kind = value.__class__
    if kind is list:
        items = cast("list[object]", value)
        if items and isinstance(items[0], msgspec.Struct):
            return f"[]{type_name(items[0])}"
    if kind is tuple:
        entries = cast("tuple[object, ...]", value)
        if entries and not isinstance(entries[0], str):
            return f"[]{type_name(entries[0])}"
    return _TYPES.get(kind, f"*{kind.__name__}")


def keys_sorted(value: Mapping[Any, Any]) -> list[Any]:
    """Return a map's keys in Go's order."""
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=lambda key: (type_name(key), str(key)))


# Fields

Getter = Callable[[Any], Any]

_MAP_FIELDS = frozenset(
    ("meta", "node_meta", "tagged_addresses", "node_tagged_addresses")
)
"""Fields of records that are ``map[string]string``."""
_UNSIGNED_FIELDS = frozenset(("create_index", "modify_index", "lock_index", "flags"))
"""Fields of pairs that are ``uint64``."""
FIELD_ORDER: dict[type, tuple[str, ...]] = {
    Pair: (
        "path",
        "key",
        "value",
        "create_index",
        "modify_index",
        "lock_index",
        "flags",
        "session",
    ),
    Instance: (
        "node",
        "node_id",
        "node_address",
        "node_tagged_addresses",
        "node_meta",
        "address",
        "tagged_addresses",
        "meta",
        "id",
        "name",
        "tags",
        "checks",
        "status",
        "port",
        "weights",
    ),
}


class Fields(dict[type, Getter]):
    """How to read one field name of a value, by the value's class."""

    def __init__(self, name: str, *, strict: bool, is_first: bool) -> None:
        super().__init__()
        self._name = name
        self._strict = strict
        self._is_first = is_first

    def __missing__(self, kind: type) -> Getter:
        getter = self[kind] = self._getter(kind)
        return getter

    def _getter(self, kind: type) -> Getter:
        name = self._name
        if issubclass(kind, dict):
            return self._map_getter(zero="" if kind is StringMap else None)
        if issubclass(kind, Pending):
            return lambda value: value
        if issubclass(kind, msgspec.Struct):
            field = spellings(kind).get(name) if name[:1].isupper() else None
            if field is None:
                return self._no_field
            if field in _MAP_FIELDS and kind is not HealthCheck:
                return lambda value: StringMap(getattr(value, field))
            if kind is Pair and field in _UNSIGNED_FIELDS:
                return lambda value: Unsigned(getattr(value, field))
            if field == "service_tags":
                return lambda value: Strings(getattr(value, field) or ())
            return attrgetter(field)
        if kind is type(None):
            return self._of_nil
        if kind is tuple and name == "AggregatedStatus":
            return _aggregated
        return self._no_field

    def _map_getter(self, zero: str | None) -> Getter:
        name, strict = self._name, self._strict

        def get(value: dict[Any, Any]) -> Any:
            try:
                return value[name]
            except KeyError:
                if strict:
                    raise GoExecError(f'map has no entry for key "{name}"') from None
                return zero

        return get

    def _of_nil(self, _value: None) -> Any:
        if not self._is_first:
            raise GoExecError(f"nil pointer evaluating interface {{}}.{self._name}")
        if self._strict:
            raise GoExecError(f'nil data; no entry for key "{self._name}"')
        return None

    def _no_field(self, value: object) -> Any:
        raise GoExecError(
            f"can't evaluate field {self._name} in type {type_name(value)}"
        )


def _aggregated(checks: Sequence[HealthCheck]) -> str:
    """Return the worst status of checks."""
    return ServiceEntry(
        node=CatalogNode(), service=AgentService(), checks=list(checks)
    ).status


# Comparison

_KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    Long: "int",
    Unsigned: "int",
    Byte: "int",
    float: "float",
    complex: "complex",
    str: "string",
}


def _equal(a: Any, b: Any) -> bool:
    left, right = _KINDS.get(a.__class__), _KINDS.get(b.__class__)
    if left is not None and left == right:
        return a == b
    if a is None or b is None:
        return a is b
    if left != right:
        raise GoExecError("incompatible types for comparison")
    for value in (a, b):
        if isinstance(value, list | dict | tuple):
            raise GoExecError(f"uncomparable type {type_name(cast('object', value))}")
    return a is b


def eq(first: Any, *others: Any) -> bool:
    """Return whether the first value equals any of the others."""
    if not others:
        raise GoExecError("error calling eq: missing argument for comparison")
    for other in others:
        if first.__class__ is other.__class__ is str:
            if first == other:
                return True
            continue
        if first is PENDING or other is PENDING:
            return cast("Any", PENDING)
        try:
            if _equal(first, other):
                return True
        except GoExecError as error:
            raise GoExecError(f"error calling eq: {error}") from None
    return False


def ne(a: Any, b: Any) -> bool:
    """Return whether two values differ."""
    if a is PENDING or b is PENDING:
        return cast("Any", PENDING)
    try:
        return not _equal(a, b)
    except GoExecError as error:
        raise GoExecError(f"error calling ne: {error}") from None


def _ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    def apply(a: Any, b: Any) -> Any:
        if a is PENDING or b is PENDING:
            return PENDING
        left, right = _KINDS.get(a.__class__), _KINDS.get(b.__class__)
        if left is None or right is None:
            raise GoExecError(f"error calling {name}: invalid type for comparison")
        if left != right:
            raise GoExecError(
                f"error calling {name}: incompatible types for comparison"
            )
        if left in ("bool", "complex"):
            raise GoExecError(f"error calling {name}: invalid type for comparison")
        if left == "string":
            return compare(go_bytes(a), go_bytes(b))
        return compare(a, b)

    return apply


lt = _ordered("lt", lambda a, b: a < b)
le = _ordered("le", lambda a, b: a <= b)
gt = _ordered("gt", lambda a, b: not a <= b)
ge = _ordered("ge", lambda a, b: not a < b)


def go_bytes(text: str) -> bytes:
    """Return a string's bytes."""
    return text.encode("utf-8", "surrogateescape")


def go_text(raw: bytes) -> str:
    """Return the string of bytes."""
    return raw.decode("utf-8", "surrogateescape")


# Ranges


def elements(value: Any) -> Sequence[Any]:
    """Return what ``range`` with at most one variable goes through."""
    kind = value.__class__
    if kind is list or kind is tuple or kind is Strings:
        return value
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        return [found[key] for key in keys_sorted(found)]
    if kind is Loop:
        return value.numbers
    if value is None or value is PENDING:
        return ()
    if isinstance(value, int) and kind is not bool:
        return range(value)
    raise GoExecError(f"range can't iterate over {printed(value)}")


def pairs(value: Any) -> Sequence[tuple[Any, Any]]:
    """Return what ``range`` with two variables goes through."""
    kind = value.__class__
    if kind is list or kind is tuple or kind is Strings:
        return list(enumerate(cast("Sequence[Any]", value)))
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        return [(key, found[key]) for key in keys_sorted(found)]
    if kind is Loop:
        return list(enumerate(cast("Loop", value).numbers))
    if isinstance(value, int) and kind is not bool:
        raise GoExecError(
            f"can't use {printed(value)} to iterate over more than one variable"
        )
    if value is None or value is PENDING:
        return ()
    raise GoExecError(f"range can't iterate over {printed(value)}")


# Printing


def float_text(value: float) -> str:
    """Return a float as ``%v`` prints it: the shortest text that reads back."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = float.__repr__(value).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.lstrip("-").partition(".")
    if part == "0":
        part = ""
    digits = (whole + part).lstrip("0")
    zeros = len(whole + part) - len(digits)
    point = len(whole) - zeros + int(exponent or 0)
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0"
    power = point - 1
    # As recorded: 12345678 from JSON prints as 1.2345678e+07, 100000 in full.
    if power < -4 or power >= PLAIN_DIGITS_MAX:
        power_text = f"{abs(power):02d}"
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{power_text}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def struct_values(value: msgspec.Struct) -> Iterable[tuple[str, Any]]:
    """Return a record's fields, reference names and values, in Go's order."""
    kind = type(value)
    wire = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    for field in FIELD_ORDER.get(kind, kind.__struct_fields__):
        item = getattr(value, field)
        is_unsigned = kind is Pair and item.__class__ is int
        yield wire[field], Unsigned(item) if is_unsigned else item


def printed(value: Any) -> str:
    """Return a value as ``%v`` prints it."""
    kind = value.__class__
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return float_text(value)
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        inner = " ".join(
            f"{printed(k)}:{printed(found[k])}" for k in keys_sorted(found)
        )
        return f"map[{inner}]"
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return f"[{' '.join(map(printed, items))}]"
    if isinstance(value, msgspec.Struct):
        inner = " ".join(printed(item) for _, item in struct_values(value))
        return f"&{{{inner}}}"
    if kind is complex:
        imaginary = float_text(value.imag)
        sign = "" if imaginary[0] in "+-" else "+"
        return f"({float_text(value.real)}{sign}{imaginary}i)"
    return str(value)


def shown(value: Any) -> str:
    """Return a value as an action prints it: a pointer as what it points to."""
    if value is None:
        return "<no value>"
    if isinstance(value, Loop):
        raise GoExecError(f"can't print a value of type {type_name(value)}")
    text = printed(value)
    return text.removeprefix("&") if isinstance(value, msgspec.Struct) else text


def shown_if_possible(value: Any) -> Any:
    """Return what is printed in a value's place: nothing and pointers are texts."""
    if isinstance(value, msgspec.Struct):
        return _Shown(shown(value))
    return shown(value) if value is None else value


class _Shown(str):
    """A record's text, which is no string among the operands of ``print``."""

    __slots__ = ()


def print_values(*values: Any) -> str:
    """Return ``print``: a space between two operands when neither is a string."""
    found: list[str] = []
    was_string = True
    for value in values:
        is_string = value.__class__ is str
        if not (is_string or was_string):
            found.append(" ")
        found.append(printed(value))
        was_string = is_string
    return bounded("".join(found))


def println_values(*values: Any) -> str:
    """Return ``println``: operands with spaces between, and a line end."""
    return bounded(" ".join(map(printed, values)) + "\n")


def bounded(text: str) -> str:
    """Return a text that is not too long to go on with."""
    if len(text) > TEXT_MAX:
        raise GoExecError(f"text is over {TEXT_MAX} characters")
    return text
