"""YAML text of JSON-like data, in the block style and quoting of yaml.v2."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, cast

_PLAIN = re.compile(r"[A-Za-z0-9_/.+@\\()^$;<=][^\x00-\x1f\x7f\u0080-\u009f]*")
_RESOLVED = re.compile(
    r"~|null|Null|NULL|true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO"
    r"|on|On|ON|off|Off|OFF|y|Y|n|N|<<|="
    r"|[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+]?[0-9]+)?"
    r"|0[xob][0-9a-fA-F_]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?|[0-9]+(:[0-9]+)+"
)
DEPTH_MAX = 100


def to_yaml(value: Any) -> str:
    """Return YAML without a final newline; keys sorted, texts quoted if needed."""
    if isinstance(value, dict | list) and value:
        return "\n".join(_block(value, 0))
    return _scalar(value)


def _block(value: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise ValueError(f"to_yaml: nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        pairs = cast("dict[object, Any]", value)
        for key in sorted(pairs, key=str):
            yield from _entry(f"{_scalar(str(key))}:", pairs[key], depth)
    else:
        for item in cast("list[Any]", value):
            lines = list(_block(item, depth + 1)) if _is_block(item) else None
            if lines is None:
                yield f"- {_scalar(item)}"
            else:
                yield f"- {lines[0]}"
                yield from (f"  {line}" for line in lines[1:])


def _entry(head: str, value: Any, depth: int) -> Iterator[str]:
    if not _is_block(value):
        yield f"{head} {_scalar(value)}"
        return
    yield head
    # yaml.v2 keeps the dash of a list below a key at the key's own column.
    pad = "" if isinstance(value, list) else "  "
    yield from (pad + line for line in _block(value, depth + 1))


def _is_block(value: Any) -> bool:
    return isinstance(value, dict | list) and value not in ({}, [])


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case int() | float():
            return repr(value)
        case dict():
            return "{}"
        case list():
            return "[]"
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    plain = (
        _PLAIN.fullmatch(text)
        and not _RESOLVED.fullmatch(text)
        and ": " not in text
        and " #" not in text
        and not text.endswith((":", " "))
    )
    return text if plain else json.dumps(text, ensure_ascii=False)
