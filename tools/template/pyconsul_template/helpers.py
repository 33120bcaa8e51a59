"""Helper functions of templates: pure values in, values out.

Each is registered once, in the reference's argument order (the value last), and
serves both as a function, ``split(",", s)``, and as a filter, ``s | split(",")``.
``HELPERS`` has them under their Python names, ``aliases`` adds the reference's
camelCase ones. A wrong value raises ``HelperError`` with the helper's name.
Source: consul-template's documented helpers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, cast

import msgspec

from pyconsul_client.yaml_text import to_yaml
from pyconsul_template.grouping import (
    HelperError,
    by_key,
    by_meta,
    by_port,
    by_tag,
    parse_int,
)

INDENT_MAX = 1_000
REPEAT_MAX = 100_000


def _plain(value: object) -> Any:
    """Return ``value`` as JSON's own types, keys as in the reference."""
    return msgspec.to_builtins(
        value, str_keys=True, enc_hook=lambda other: _iterated(other)
    )


def _iterated(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, Iterable):
        return list(cast("Iterable[object]", value))
    raise HelperError(f"cannot encode a {type(value).__name__}")


def _to_json(value: object, *, indent: int | None, escape: bool) -> str:
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        _plain(value),
        sort_keys=True,
        indent=indent,
        separators=separators,
        ensure_ascii=False,
    )
    for char in "\u2028\u2029<>&" if escape else "\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def to_json(value: object) -> str:
    """Return compact JSON, keys sorted, ``<>&`` escaped."""
    return _to_json(value, indent=None, escape=True)


def to_json_pretty(value: object) -> str:
    """Return JSON indented by two, ``<>&`` escaped."""
    return _to_json(value, indent=2, escape=True)


def to_unescaped_json(value: object) -> str:
    """Return compact JSON with ``<>&`` as they are."""
    return _to_json(value, indent=None, escape=False)


def to_unescaped_json_pretty(value: object) -> str:
    """Return JSON indented by two with ``<>&`` as they are."""
    return _to_json(value, indent=2, escape=False)


def _to_yaml(value: object) -> str:
    return to_yaml(_with_lists(_plain(value)))


def _with_lists(value: Any) -> Any:
    """Return JSON's own types with lists for the tuples of records."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return {key: _with_lists(item) for key, item in found.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in cast("Iterable[Any]", value)]
    return value


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, ``{}`` for an empty one."""
    if not text:
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HelperError(f"parse_json: {error}") from None


def parse_bool(text: str) -> bool:
    """Return a Go boolean (``1 t true 0 f false``), false for an empty text."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("", "0", "f", "F", "FALSE", "false", "False"):
        return False
    raise HelperError(f"parse_bool: {text!r} is no boolean")


def parse_uint(text: str) -> int:
    """Return a whole number from 0, 0 for an empty text."""
    if not re.fullmatch(r"[0-9]{1,20}|", text) or int(text or "0") >= 1 << 64:
        raise HelperError(f"parse_uint: {text!r} is no whole number from 0")
    return int(text or "0")


def parse_float(text: str) -> float:
    """Return a number, 0 for an empty text."""
    try:
        return float(text or "0")
    except ValueError:
        raise HelperError(f"parse_float: {text!r} is no number") from None


def _decoded(name: str, text: str, decode: Callable[[bytes], bytes]) -> str:
    try:
        return decode(text.encode()).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError) as error:
        raise HelperError(f"{name}: {error}") from None


def _one_line(raw: bytes) -> bytes:
    """Return base64 without the line ends that are allowed in it."""
    return raw.replace(b"\r", b"").replace(b"\n", b"")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def base64_encode(text: str) -> str:
    """Return standard base64."""
    return base64.b64encode(_bytes(text)).decode()


def base64_decode(text: str) -> str:
    """Return the text of standard base64."""
    return _decoded(
        "base64_decode",
        text,
        lambda raw: base64.b64decode(_one_line(raw), validate=True),
    )


def base64_url_encode(text: str) -> str:
    """Return base64 in the alphabet for URLs."""
    return base64.urlsafe_b64encode(_bytes(text)).decode()


def base64_url_decode(text: str) -> str:
    """Return the text of base64 in the alphabet for URLs."""
    return _decoded(
        "base64_url_decode",
        text,
        lambda raw: base64.b64decode(_one_line(raw), altchars=b"-_", validate=True),
    )


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(_bytes(text)).hexdigest()


def md5sum(text: str) -> str:
    """Return the MD5 of a text, in hexadecimal; a fingerprint, no protection."""
    return hashlib.md5(_bytes(text), usedforsecurity=False).hexdigest()


def hmac_sha256_hex(message: str, key: str) -> str:
    """Return the HMAC-SHA-256 of ``message`` under ``key``, in hexadecimal."""
    return hmac.new(_bytes(key), _bytes(message), "sha256").hexdigest()


def split(separator: str, text: str) -> list[str]:
    """Return the parts of a text without white space around; none of an empty one."""
    text = text.strip()
    if not text:
        return []
    return text.split(separator) if separator else list(text)


def join(separator: str, values: Iterable[object]) -> str:
    """Return the values as one text."""
    return separator.join(str(value) for value in values)


def split_to_map(item_separator: str, pair_separator: str, text: str) -> dict[str, str]:
    """Return ``a=1,b=2`` as a map; a part without the pair separator maps to ``""``."""
    parts = (part.partition(pair_separator) for part in split(item_separator, text))
    return {name: value for name, _, value in parts}


def trim(cutset: str, text: str) -> str:
    """Return the text without the characters of ``cutset`` at its ends."""
    return text.strip(cutset)


def trim_prefix(prefix: str, text: str) -> str:
    """Return the text without ``prefix`` in front."""
    return text.removeprefix(prefix)


def trim_suffix(suffix: str, text: str) -> str:
    """Return the text without ``suffix`` at its end."""
    return text.removesuffix(suffix)


def trim_space(text: str) -> str:
    """Return the text without white space at its ends."""
    return text.strip()


def to_lower(text: str) -> str:
    """Return the text in lower case."""
    return text.lower()


def to_upper(text: str) -> str:
    """Return the text in upper case."""
    return text.upper()


def to_title(text: str) -> str:
    """Return the text with each word's first letter in upper case."""
    return re.sub(r"(?<![\w'])\w", lambda match: match[0].upper(), text)


def replace_all(old: str, new: str, text: str) -> str:
    """Return the text with every ``old`` replaced."""
    return text.replace(old, new)


_OF_GO = re.compile(r"\[:\^?\w+:\]|\\[zpPQ]|\(\?[a-zA-Z]*U")
"""Syntax of Go's patterns that Python has not, or not with the same sense."""


def _pattern(name: str, pattern: str) -> re.Pattern[str]:
    if _OF_GO.search(pattern):
        from pyconsul_template.ctmpl.errors import GoExecError
        from pyconsul_template.ctmpl.regex import compiled

        try:
            return compiled(pattern)
        except GoExecError as error:
            raise HelperError(f"{name}: {error}") from None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise HelperError(f"{name}: {error}") from None


def regex_match(pattern: str, text: str) -> bool:
    """Return whether the pattern is found anywhere in the text."""
    return _pattern("regex_match", pattern).search(text) is not None


def regex_replace_all(pattern: str, replacement: str, text: str) -> str:
    """Return the text with every match replaced; ``$1`` or ``${1}`` is a group."""
    compiled = _pattern("regex_replace_all", pattern)
    escaped = replacement.replace("\\", r"\\")
    template = re.sub(
        r"\$(?:\$|(\w+)|\{(\w+)\})",
        lambda m: "$" if m[0] == "$$" else rf"\g<{m[1] or m[2]}>",
        escaped,
    )
    try:
        return compiled.sub(template, text)
    except (re.error, IndexError) as error:
        raise HelperError(f"regex_replace_all: {error}") from None


def indent(spaces: int, text: str) -> str:
    """Return the text with every line that is not empty moved right."""
    if not 0 <= spaces <= INDENT_MAX:
        raise HelperError(f"indent: {spaces} is not from 0 to {INDENT_MAX}")
    pad = " " * spaces
    return "\n".join(pad + line if line else line for line in text.split("\n"))


def loop(start: int | str, stop: int | str | None = None) -> range:
    """Return the numbers up to ``start``, or from ``start`` up to ``stop``."""
    first, last = (0, int(start)) if stop is None else (int(start), int(stop))
    if last - first > REPEAT_MAX:
        raise HelperError(f"loop: over {REPEAT_MAX} turns")
    return range(first, last)


def contains(value: object, values: Any) -> bool:
    """Return whether a list, map or text has ``value``."""
    return value in values


def contains_all(needles: Iterable[object], values: Any) -> bool:
    """Return whether all needles are among the values."""
    return all(needle in values for needle in needles)


def contains_any(needles: Iterable[object], values: Any) -> bool:
    """Return whether a needle is among the values."""
    return any(needle in values for needle in needles)


def contains_none(needles: Iterable[object], values: Any) -> bool:
    """Return whether no needle is among the values."""
    return not contains_any(needles, values)


def contains_not_all(needles: Iterable[object], values: Any) -> bool:
    """Return whether a needle is not among the values."""
    return not contains_all(needles, values)


def explode(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return pairs as nested maps, one level a key segment."""
    return explode_map({pair.key: pair.value for pair in pairs})


def explode_map(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map of ``a/b`` keys as nested maps."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        here = root
        *folders, leaf = [part for part in key.split("/") if part] or [""]
        for folder in folders:
            below = here.setdefault(folder, {})
            if not isinstance(below, dict):
                raise HelperError(f"explode: {key} is below a key with a value")
            here = cast("dict[str, Any]", below)
        if isinstance(here.get(leaf), dict):
            raise HelperError(f"explode: {key} is both a key and a folder")
        here[leaf] = value
    return root


def merge_map(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return both maps as one, level by level; ``high`` wins."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_map(
                cast("Mapping[str, Any]", old), cast("Mapping[str, Any]", value)
            )
        else:
            merged[key] = value
    return merged


def merge_missing(first: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both maps as one, level by level; what the first has stays."""
    return merge_map(more, first)


def add(b: float, a: float) -> float:
    """Return ``a + b``."""
    return a + b


def subtract(b: float, a: float) -> float:
    """Return ``a - b``."""
    return a - b


def multiply(b: float, a: float) -> float:
    """Return ``a * b``."""
    return a * b


def divide(b: float, a: float) -> float:
    """Return ``a / b``; whole numbers divide towards zero."""
    if not b:
        raise HelperError("divide: by zero")
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return a / b


def modulo(b: int, a: int) -> int:
    """Return what is left of ``a`` divided by ``b``."""
    if not b:
        raise HelperError("modulo: by zero")
    return a - b * int(divide(b, a))


def minimum(b: float, a: float) -> float:
    """Return the smaller number."""
    return min(a, b)


def maximum(b: float, a: float) -> float:
    """Return the larger number."""
    return max(a, b)


def timestamp(
    layout: str = "", zone: str = "UTC", *, now: datetime | None = None
) -> str:
    """Return the time: RFC 3339, ``"unix"``, or by a layout.

    A layout with ``%`` is ``strftime``'s, another is Go's. ``zone`` is a name such
    as ``Europe/Berlin``, or ``Local``.
    """
    from pyconsul_template.ctmpl import gotime

    moment = now or datetime.now(UTC)
    if layout == "unix":
        return str(int(moment.timestamp()))
    if zone != "UTC":
        moment = moment.astimezone(zone_named(zone))
    if "%" in layout:
        return moment.strftime(layout)
    return gotime.formatted(moment, layout or gotime.RFC3339)


def zone_named(name: str) -> tzinfo | None:
    """Return a time zone, ``None`` for ``Local``; HelperError for an unknown one."""
    if name == "Local":
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise HelperError(f"timestamp: no time zone {name!r}") from None


HELPERS: Mapping[str, Callable[..., Any]] = {
    "to_yaml": _to_yaml,
    "merge_map": merge_missing,
    "merge_map_with_override": merge_map,
    **{
        function.__name__: function
        for function in (
            *(to_json, to_json_pretty, to_unescaped_json, to_unescaped_json_pretty),
            *(parse_json, parse_bool, parse_int, parse_uint, parse_float),
            *(base64_encode, base64_decode, base64_url_encode, base64_url_decode),
            *(sha256_hex, md5sum, hmac_sha256_hex),
            *(split, join, split_to_map, trim, trim_prefix, trim_suffix, trim_space),
            *(to_lower, to_upper, to_title, replace_all, indent, loop),
            *(regex_match, regex_replace_all, timestamp),
            *(contains, contains_all, contains_any, contains_none, contains_not_all),
            *(by_tag, by_port, by_key, by_meta, explode, explode_map),
            *(add, subtract, multiply, divide, modulo, minimum, maximum),
        )
    },
}
FUNCTIONS_ONLY = frozenset({"loop", "timestamp"})
"""Helpers without a value to filter."""
JINJA_FILTERS = frozenset({"join", "indent", "trim"})
"""Names that stay Jinja2's as filters; as functions they are the reference's."""
_CAPITALS = {"json": "JSON", "yaml": "YAML", "url": "URL", "sha256": "SHA256"}


def camel_case(name: str) -> str:
    """Return the reference's spelling: ``to_json`` is ``toJSON``."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in rest)


def as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` taking its last argument first, as filters do."""

    def apply(value: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, value, **kwargs)

    return apply
