"""Functions every Go template has, but for ``and or not`` and comparisons."""

from __future__ import annotations

import html as html_module
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote_plus

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import (
    Byte,
    Loop,
    StringMap,
    Strings,
    go_bytes,
    go_text,
    print_values,
    shown_if_possible,
    type_name,
)


def index(value: Any, *keys: Any) -> Any:
    """Return ``value[key][key]...``; a missing map key is its zero value."""
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        if not isinstance(key, str):
            found = cast("dict[Any, Any]", value)
            if found and not isinstance(next(iter(found)), str):
                return found.get(key)
            raise GoExecError(
                "value is nil; should be of type string"
                if key is None
                else f"value has type {type_name(key)}; should be string"
            )
        zero = "" if isinstance(value, StringMap) else None
        return cast("dict[Any, Any]", value).get(key, zero)
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return items[_position(key, len(items))]
    if isinstance(value, str):
        raw = go_bytes(value)
        return Byte(raw[_position(key, len(raw))])
    if value is None:
        raise GoExecError("index of untyped nil")
    raise GoExecError(f"can't index item of type {type_name(value)}")


def _position(key: Any, size: int, *, is_bound: bool = False) -> int:
    if key is None:
        raise GoExecError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise GoExecError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key < size + is_bound:
        raise GoExecError(f"index out of range: {key}")
    return key


def slice_(value: Any, *bounds: Any) -> Any:
    """Return ``value[a:b]``; of a string by bytes."""
    if value is None:
        raise GoExecError("slice of untyped nil")
    if len(bounds) > 3:
        raise GoExecError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str):
        if len(bounds) == 3:
            raise GoExecError("cannot 3-index slice a string")
        whole: Any = go_bytes(value)
    elif isinstance(value, list | tuple):
        whole = cast("Sequence[Any]", value)
    else:
        raise GoExecError(f"can't slice item of type {type_name(value)}")
    places = [_position(bound, len(whole), is_bound=True) for bound in bounds]
    if places != sorted(places):
        raise GoExecError(f"invalid slice index: {places[0]} > {places[1]}")
    start, stop = [*places, *(0, len(whole))[len(places) :]][:2]
    part = whole[start:stop]
    if isinstance(part, bytes):
        return go_text(part)
    return Strings(part) if isinstance(value, Strings) else part


def length(value: Any) -> int:
    """Return a length; of a string in bytes."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(go_bytes(value))
    if isinstance(value, list | tuple | Mapping):
        return len(cast("Sequence[Any]", value))
    if isinstance(value, Loop):
        return 0
    if value is None:
        raise GoExecError("len of nil pointer")
    raise GoExecError(f"len of type {type_name(value)}")


def _text(values: Sequence[Any]) -> str:
    """Return values as actions print them, with ``print``'s spaces between."""
    return print_values(*map(shown_if_possible, values))


def html(*values: Any) -> str:
    """Return the text of the values, escaped for HTML."""
    text = html_module.escape(_text(values), quote=True)
    text = text.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    return text.replace("\0", "\ufffd")


_JS = {
    **{"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E"},
    **{"&": "\\u0026", "=": "\\u003D"},
}


def js(*values: Any) -> str:
    """Return the text of the values, escaped for a JavaScript string."""
    found: list[str] = []
    for char in _text(values):
        code = ord(char)
        if char in _JS:
            found.append(_JS[char])
        elif code < 0x20 or not (code < 128 or char.isprintable()):
            found.append(f"\\u{code:04X}")
        else:
            found.append(char)
    return "".join(found)


def urlquery(*values: Any) -> str:
    """Return the text of the values, escaped for a URL's query."""
    return quote_plus(go_bytes(_text(values)), safe="")


def call(function: Any, *args: Any) -> Any:
    """Call a function value; no template of ours gets one."""
    del args
    if function is None:
        raise GoExecError("call of nil")
    raise GoExecError(f"non-function of type {type_name(function)}")
