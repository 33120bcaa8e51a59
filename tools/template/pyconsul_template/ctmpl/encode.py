"""JSON, YAML and TOML texts in the layout of Go's encoders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec

from pyconsul_client.yaml_text import Ordered, to_yaml
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import (
    float_text,
    keys_sorted,
    struct_values,
    type_name,
)

DEPTH_MAX = 100
_JSON_ESCAPES = {
    **{'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"},
    **{"\b": "\\b", "\f": "\\f"},
}
_HTML = frozenset("<>&")


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value with records as maps, lists and maps as Python's own."""
    if depth > DEPTH_MAX:
        raise GoExecError(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        return {str(key): plain(found[key], depth + 1) for key in keys_sorted(found)}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in cast("Sequence[Any]", value)]
    if isinstance(value, msgspec.Struct):
        return {name: plain(item, depth + 1) for name, item in struct_values(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    raise GoExecError(f"unsupported type: {type_name(value)}")


def json_string(text: str, *, escape: bool) -> str:
    """Return a string as JSON; ``escape`` also writes ``<>&`` as codes."""
    found = ['"']
    for char in text:
        code = ord(char)
        if char in _JSON_ESCAPES:
            found.append(_JSON_ESCAPES[char])
        elif 0xD800 <= code < 0xE000:
            found.append("\\ufffd")
        elif code < 0x20 or code in (0x2028, 0x2029) or (escape and char in _HTML):
            found.append(f"\\u{code:04x}")
        else:
            found.append(char)
    found.append('"')
    return "".join(found)


def json_float(value: float) -> str:
    """Return a float as JSON: with an exponent only from 1e21 or below 1e-6."""
    if not math.isfinite(value):
        raise GoExecError(f"json: unsupported value: {float_text(value)}")
    size = abs(value)
    if size and (size < 1e-6 or size >= 1e21):
        mantissa, _, power = repr(value).partition("e")
        mantissa = mantissa.removesuffix(".0")
        sign = power[0] if power[:1] in ("-", "+") else "+"
        return f"{mantissa}e{sign}{power.lstrip('+-0')}"
    # The shortest digits that read back, and zeros for the rest.
    text = repr(value)
    if "e" in text:
        return format(Decimal(text), "f")
    return text.removesuffix(".0")


def to_json(value: Any, *, indent: str = "", escape: bool = True) -> str:
    """Return JSON, map keys sorted; ``indent`` puts each item on its own line."""
    return "".join(_json(plain(value), indent, "\n", escape=escape))


def to_json_pretty(value: Any) -> str:
    """Return JSON with each item on its own line."""
    return to_json(value, indent="  ")


def to_unescaped_json(value: Any) -> str:
    """Return JSON with ``<>&`` as they are."""
    return to_json(value, escape=False)


def to_unescaped_json_pretty(value: Any) -> str:
    """Return JSON with each item on its own line and ``<>&`` as they are."""
    return to_json(value, indent="  ", escape=False)


def _json(value: Any, indent: str, line: str, *, escape: bool) -> Iterable[str]:
    if isinstance(value, dict | list) and value:
        is_map = isinstance(value, dict)
        opening, closing = "{}" if is_map else "[]"
        inner = line + indent
        items: Iterable[tuple[str, Any]] = (
            cast("dict[str, Any]", value).items()
            if is_map
            else (("", item) for item in cast("list[Any]", value))
        )
        before = opening
        for key, item in items:
            yield before
            if indent:
                yield inner
            if is_map:
                yield json_string(key, escape=escape)
                yield ": " if indent else ":"
            yield from _json(item, indent, inner, escape=escape)
            before = ","
        if indent:
            yield line
        yield closing
    elif isinstance(value, dict):
        yield "{}"
    elif isinstance(value, list):
        yield "[]"
    elif isinstance(value, str):
        yield json_string(value, escape=escape)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif value is None:
        yield "null"
    else:
        yield json_float(value) if isinstance(value, float) else str(value)


def yaml_of(value: Any) -> str:
    """Return YAML in yaml.v2's layout, without white space around."""
    return to_yaml(_yaml_value(value, 0)).strip()


class _YamlFloat(float):
    """A float that YAML shows as Go does: ``1.2345678e+07``."""

    def __repr__(self) -> str:
        return float_text(self)


def _yaml_value(value: Any, depth: int) -> Any:
    """Return a value with floats that show as in Go, records in the order of fields."""
    if depth > DEPTH_MAX:
        raise GoExecError(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        return {str(key): _yaml_value(found[key], depth + 1) for key in found}
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [_yaml_value(item, depth + 1) for item in items]
    if isinstance(value, msgspec.Struct):
        # Without names of their own, fields have them in small letters.
        return Ordered(
            (name.lower(), _yaml_value(item, depth + 1))
            for name, item in struct_values(value)
        )
    if isinstance(value, float):
        return _YamlFloat(value)
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    raise GoExecError(f"unsupported type: {type_name(value)}")


def toml_of(value: Any) -> str:
    """Return TOML: plain values first, then tables, keys sorted."""
    if not isinstance(value, dict | msgspec.Struct):
        raise GoExecError("toml: top-level values must be Go maps or structs")
    lines: list[str] = []
    _table(plain(value), (), lines)
    return "\n".join(lines).strip()


def _table(table: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    pad = "  " * len(path)
    direct, below = _parts(table)
    for key, value in direct:
        lines.append(f"{pad}{_toml_key(key)} = {_toml(value)}")
    for key, value in below:
        here = (*path, key)
        name = ".".join(map(_toml_key, here))
        head = "  " * (len(here) - 1)
        if isinstance(value, dict):
            # A line is left free before the outermost tables alone.
            if not path:
                lines.append("")
            lines.append(f"{head}[{name}]")
            _table(cast("dict[str, Any]", value), here, lines)
            continue
        for item in cast("list[dict[str, Any]]", value):
            lines.extend(("", f"{head}[[{name}]]"))
            _table(item, here, lines)


def _parts(
    table: dict[str, Any],
) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return what is written in a table's own lines, and the tables in it."""
    direct: list[tuple[str, Any]] = []
    below: list[tuple[str, Any]] = []
    for pair in table.items():
        value = pair[1]
        if value is not None:
            is_table = isinstance(value, dict) or _is_table_list(value)
            (below if is_table else direct).append(pair)
    return direct, below


def _is_table_list(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, dict) for item in cast("list[Any]", value))


_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_TOML_ESCAPES = {
    **{'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n"},
    **{"\f": "\\f", "\r": "\\r"},
}


def _toml_key(key: str) -> str:
    return key if key and _BARE.issuperset(key) else _toml_string(key)


def _toml_string(text: str) -> str:
    found = (
        _TOML_ESCAPES.get(char)
        or (f"\\u{ord(char):04x}" if char < " " or char == "\x7f" else char)
        for char in text
    )
    return f'"{"".join(found)}"'


def _toml_float(value: float) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "+inf" if value > 0 else "-inf"
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"


def _toml(value: Any) -> str:
    match value:
        case str():
            return _toml_string(value)
        case bool():
            return "true" if value else "false"
        case float():
            return _toml_float(value)
        case list():
            items = cast("list[Any]", value)
            if None in items:
                raise GoExecError("toml: cannot encode array with nil element")
            return f"[{', '.join(map(_toml, items))}]"
        case dict():
            direct, below = _parts(cast("dict[str, Any]", value))
            pairs = (f"{_toml_key(k)} = {_toml(v)}" for k, v in (*direct, *below))
            return f"{{{', '.join(pairs)}}}"
        case _:
            return str(value)
