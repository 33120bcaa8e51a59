"""Helpers whose rules for Go's values differ from those of the Jinja2 side."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from pyconsul_template import helpers as shared
from pyconsul_template.ctmpl import gotime
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.printf import quoted
from pyconsul_template.ctmpl.values import (
    Long,
    Loop,
    Strings,
    Unsigned,
    bounded,
    go_text,
    type_name,
)

WORD = 1 << 64
_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FLOAT = re.compile(
    r"[+-]?(?:0[xX](?:[0-9a-fA-F_]+\.?[0-9a-fA-F_]*|\.[0-9a-fA-F_]+)[pP][+-]?[0-9_]+"
    r"|(?:[0-9_]+\.?[0-9_]*|\.[0-9_]+)(?:[eE][+-]?[0-9_]+)?"
    r"|(?i:inf|infinity))|(?i:nan)"
)
_MISPLACED = re.compile(r"(?<![0-9a-fA-FxX])_|_(?![0-9a-fA-F])")


def _int64(value: int) -> Long:
    """Return a whole number as 64 bits hold it."""
    return Long((value + WORD // 2) % WORD - WORD // 2)


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    shown = quoted(value) if isinstance(value, str) else value
    raise GoExecError(f"{name}: unknown type for {shown} ({type_name(value)})")


def _arithmetic(
    name: str, compute: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    """Return a function of the second and the first operand."""

    def apply(b: Any, a: Any) -> Any:
        left, right = _number(name, a), _number(name, b)
        found = compute(left, right)
        if isinstance(left, Unsigned) and isinstance(right, Unsigned):
            return Unsigned(found % WORD)
        return _int64(found) if isinstance(found, int) else found

    return apply


def _divided(a: float, b: float) -> float:
    if isinstance(a, int) and isinstance(b, int):
        if not b:
            raise GoExecError("runtime error: integer divide by zero")
        return shared.divide(b, a)
    if not b:
        return float("nan") if not a or a != a else float("inf") if a > 0 else -1e999
    return a / b


def _remainder(a: float, b: float) -> int:
    if not (isinstance(a, int) and isinstance(b, int)):
        raise GoExecError("modulo: only whole numbers have a remainder")
    if not b:
        raise GoExecError("runtime error: integer divide by zero")
    return a - b * int(shared.divide(b, a))


ARITHMETIC = {
    "add": _arithmetic("add", lambda a, b: a + b),
    "subtract": _arithmetic("subtract", lambda a, b: a - b),
    "multiply": _arithmetic("multiply", lambda a, b: a * b),
    "divide": _arithmetic("divide", _divided),
    "modulo": _arithmetic("modulo", _remainder),
    "minimum": _arithmetic("minimum", min),
    "maximum": _arithmetic("maximum", max),
}


def _clean(value: Any) -> Any:
    """Return a JSON value whose strings have U+FFFD for what is no Unicode."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return {_clean(key): _clean(item) for key, item in found.items()}
    return value


def _json_number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise GoExecError(f"cannot unmarshal number {text[:40]} into float64")
    return value


def _json_constant(text: str) -> float:
    raise GoExecError(f"invalid character {text[0]!r} looking for beginning of value")


def parse_json(text: str) -> Any:
    """Return a JSON value, all numbers floats; ``{}`` for an empty text."""
    if not text:
        return {}
    try:
        value = json.loads(
            text,
            parse_int=_json_number,
            parse_float=_json_number,
            parse_constant=_json_constant,
        )
    except json.JSONDecodeError as error:
        raise GoExecError(f"{error}") from None
    if not text.isascii() or _ESCAPED_SURROGATE.search(text):
        return _clean(value)
    return value


def _parsed_int(name: str, function: str, pattern: str, text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(pattern, text):
        raise GoExecError(
            f"{name}: strconv.{function}: parsing {quoted(text)}: invalid syntax"
        )
    digits = text.lstrip("+-0")
    value = int(text) if len(digits) < 25 else WORD
    low, high = (0, WORD) if function == "ParseUint" else (-WORD // 2, WORD // 2)
    if not low <= value < high:
        raise GoExecError(
            f"{name}: strconv.{function}: parsing {quoted(text)}: value out of range"
        )
    return value


def parse_int(text: str) -> Long:
    """Return a whole number; 0 for an empty text."""
    return Long(_parsed_int("parseInt", "ParseInt", r"[+-]?[0-9]+", text))


def parse_uint(text: str) -> Unsigned:
    """Return a whole number from 0; 0 for an empty text."""
    return Unsigned(_parsed_int("parseUint", "ParseUint", r"[0-9]+", text))


def parse_float(text: str) -> float:
    """Return a number; 0 for an empty text."""
    if not text:
        return 0.0
    start = f"parseFloat: strconv.ParseFloat: parsing {quoted(text)}"
    if not _FLOAT.fullmatch(text) or _MISPLACED.search(text):
        raise GoExecError(f"{start}: invalid syntax")
    plain = text.replace("_", "")
    try:
        value = float.fromhex(plain) if "0x" in plain.lower() else float(plain)
    except OverflowError:
        value = math.inf
    if math.isinf(value) and "n" not in plain.lower():
        raise GoExecError(f"{start}: value out of range")
    return value


def parse_bool(text: str) -> bool:
    """Return a boolean; false for an empty text."""
    try:
        return shared.parse_bool(text)
    except shared.HelperError:
        raise GoExecError(
            f"parseBool: strconv.ParseBool: parsing {quoted(text)}: invalid syntax"
        ) from None


def split(separator: str, text: str) -> Strings:
    """Return the parts of a text without white space around; none for nothing."""
    return Strings(shared.split(separator, text.strip()))


def join(separator: str, values: Any) -> str:
    """Return strings as one."""
    return bounded(separator.join(values))


def split_to_map(items: str, inner: str, text: str) -> dict[str, Any]:
    """Return ``a=1,b=2`` as a map."""
    return dict(shared.split_to_map(items, inner, text))


def _decode(name: str, alphabet: str) -> Callable[[str], str]:
    letter = f"[A-Za-z0-9{re.escape(alphabet)}]"
    whole = re.compile(f"(?:{letter}{{4}})*(?:{letter}{{2}}==|{letter}{{3}}=)?")

    def apply(text: str) -> str:
        plain = re.sub(r"[\r\n]", "", text)
        good = whole.match(plain)
        end = good.end() if good else 0
        if end < len(plain):
            if plain[end - 1 : end] != "=":
                letters = re.match(f"{letter}*", plain)
                end = letters.end() if letters else 0
                if end == len(plain):
                    end -= end % 4
            raise GoExecError(f"{name}: illegal base64 data at input byte {end}")
        return go_text(base64.b64decode(plain, altchars=alphabet.encode()))

    return apply


base64_decode = _decode("base64Decode", "+/")
base64_url_decode = _decode("base64URLDecode", "-_")


def to_title(text: str) -> str:
    """Return the text with the first letter of each word in upper case."""
    return re.sub(r"(?<!\w)\w", lambda found: _one(found[0], found[0].title()), text)


def to_upper(text: str) -> str:
    """Return the text in upper case, letter by letter."""
    if text.isascii():
        return text.upper()
    return "".join(_one(char, char.upper()) for char in text)


def to_lower(text: str) -> str:
    """Return the text in lower case, letter by letter."""
    if text.isascii():
        return text.lower()
    return "".join(char.lower()[:1] for char in text)


def _one(char: str, changed: str) -> str:
    """Return a changed letter, or the letter where Go knows no single one for it."""
    return changed if len(changed) == 1 else char


def loop(first: Any, stop: Any = None) -> Loop:
    """Return the numbers from 0, or from ``first``, up to before the last."""
    start, end = (0, first) if stop is None else (first, stop)
    low, high = _loop_bound(start), _loop_bound(end)
    if high - low > shared.REPEAT_MAX:
        raise GoExecError(f"loop: over {shared.REPEAT_MAX} turns")
    return Loop(range(low, high))


def _loop_bound(value: Any) -> int:
    if isinstance(value, str):
        return parse_int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise GoExecError(f"loop: unknown type for {value} ({type_name(value)})")


def contains(value: Any, values: Any) -> bool:
    """Return whether a list has a value, a map a key, or a string a part."""
    if isinstance(values, str):
        return isinstance(value, str) and value in values
    if isinstance(values, list | tuple):
        found = cast("list[Any]", values)
        return value is not None and any(
            item.__class__ is value.__class__ and item == value for item in found
        )
    return isinstance(values, Mapping) and isinstance(value, str) and value in values


def contains_all(needles: list[Any], values: Any) -> bool:
    """Return whether all needles are in the list."""
    return all(contains(needle, values) for needle in needles)


def contains_any(needles: list[Any], values: Any) -> bool:
    """Return whether a needle is in the list."""
    return any(contains(needle, values) for needle in needles)


def timestamp(layout: str = "", zone: str = "UTC") -> str:
    """Return the time of a zone: RFC 3339, ``"unix"``, or by a Go layout."""
    now = datetime.now(UTC)
    if layout == "unix":
        return str(int(now.timestamp()))
    if zone != "UTC":
        try:
            now = now.astimezone(shared.zone_named(zone))
        except shared.HelperError as error:
            raise GoExecError(str(error)) from None
    return gotime.formatted(now, layout or gotime.RFC3339)


def merge_map(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Return both maps as one; what the first has stays."""
    return shared.merge_map(high, low)


def merge_map_override(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Return both maps as one; what the second has wins."""
    return shared.merge_map(low, high)


def explode(pairs: Sequence[Any] | None) -> dict[str, Any]:
    """Return pairs as nested maps; no pairs are an empty map."""
    return shared.explode(pairs or ())


def explode_map(flat: dict[str, Any]) -> dict[str, Any]:
    """Return a map of ``a/b`` keys as nested maps."""
    return shared.explode_map(flat)


def replace_all(old: str, new: str, text: str) -> str:
    """Return the text with every ``old`` replaced."""
    return bounded(text.replace(old, new))


def by_key(found: Any) -> dict[str, Any]:
    """Return pairs by top folder, then by the rest of the key, which is theirs."""
    return {
        top: {
            rest: msgspec.structs.replace(pair, key=rest)
            for rest, pair in pairs.items()
        }
        for top, pairs in shared.by_key(found).items()
    }
