"""The one normaliser of JSON request bodies: Go's habits (reference 1.6).

Field names match without regard to case, ``null`` is the zero value, unknown
fields are refused by name, durations are text or nanoseconds, bytes are
base64, the last of repeated keys wins and data after the value is ignored.

A ``Shape`` says which fields an object may have and of which ``Kind`` they
are. ``decode(body, SHAPE)`` returns a dict with canonical names and checked
values, holding only what was given and not null; ``decode_as`` makes a record
of it. Both raise ``BadRequestError`` with the endpoint's prefix.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.errors import BadRequestError

T = TypeVar("T")

Kind = Callable[[Any, str], Any]
"""Checks a value: ``kind(value, ".Field")``; raises ``DecodeError``."""

_MAX_INT = (1 << 63) - 1
_MAX_UINT = (1 << 64) - 1
_DIGITS_MAX = 400
"""Of an integer in a body: a number with more is infinite."""


class DecodeError(ValueError):
    """What is wrong with a body; the endpoint's prefix is put before it."""


def _refuse(value: Any, where: str, go_type: str) -> NoReturn:
    if isinstance(value, bool):
        given = "bool"
    elif isinstance(value, str):
        given = "string"
    elif isinstance(value, int):
        given = f"number {value}"
    elif isinstance(value, float):
        given = f"number {value!r}"
    elif isinstance(value, list):
        given = "array"
    else:
        given = "object"
    raise DecodeError(
        f"json: cannot unmarshal {given} into Go struct field {where} of type {go_type}"
        if where
        else f"json: cannot unmarshal {given} into Go value of type {go_type}"
    )


def STRING(value: Any, where: str) -> str:
    """Accept text."""
    if not isinstance(value, str):
        _refuse(value, where, "string")
    return value


def BOOL(value: Any, where: str) -> bool:
    """Accept a boolean."""
    if not isinstance(value, bool):
        _refuse(value, where, "bool")
    return value


def INT(value: Any, where: str) -> int:
    """Accept a signed 64-bit number."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INT:
        _refuse(value, where, "int")
    return value


def UINT(value: Any, where: str) -> int:
    """Accept an unsigned 64-bit number."""
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(value, where, "uint64")
    if not 0 <= value <= _MAX_UINT:
        _refuse(value, where, "uint64")
    return value


def BYTES(value: Any, where: str) -> bytes:
    """Accept standard base64."""
    text = STRING(value, where).replace("\n", "").replace("\r", "")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(f"illegal base64 data at input byte {_bad(text)}") from None


def _bad(text: str) -> int:
    """Return where the base64 stops being valid."""
    for at, char in enumerate(text):
        if not (char.isascii() and (char.isalnum() or char in "+/")):
            return at
    return len(text) // 4 * 4


def DURATION(value: Any, where: str) -> int:
    """Accept a Go duration, or a number of nanoseconds (fractions cut)."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except DurationError as error:
            raise DecodeError(str(error)) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(value, where, "time.Duration")
    return _whole(value, where)


def _whole(value: float, where: str) -> int:
    if not -float(_MAX_INT) <= value <= float(_MAX_INT):
        _refuse(value, where, "time.Duration")
    return int(value)


def LOCK_DELAY(value: Any, where: str) -> int:
    """Accept a session's lock delay: a number below 1000 means seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _whole(value, where)
        return number * 1_000_000_000 if number < 1000 else number
    return DURATION(value, where)


def ANY(value: Any, where: str) -> Any:
    """Accept everything as it is."""
    return value


def list_of(kind: Kind) -> Kind:
    """Accept a list; null is ``""`` among texts, and dropped elsewhere."""
    zeros = [""] if kind is STRING else []

    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            _refuse(value, where, "[]string")
        items = cast("list[Any]", value)
        return [
            one
            for item in items
            for one in (zeros if item is None else [kind(item, where)])
        ]

    return check


def map_of(kind: Kind, zero: Any = "") -> Kind:
    """Accept an object with any keys; null values become ``zero``."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            _refuse(value, where, "map[string]string")
        items = cast("dict[str, Any]", value)
        return {
            key: zero if item is None else kind(item, where)
            for key, item in items.items()
        }

    return check


class Shape:
    """An object's fields; itself a ``Kind``.

    ``fields`` maps canonical names to kinds, ``aliases`` further spellings to
    canonical names. ``ignore_unknown`` for the endpoints that do.
    """

    def __init__(
        self,
        fields: Mapping[str, Kind],
        *,
        aliases: Mapping[str, str] | None = None,
        ignore_unknown: bool = False,
    ) -> None:
        self.fields = dict(fields)
        self.ignore_unknown = ignore_unknown
        self._names = {name.lower(): name for name in fields}
        for spelling, name in (aliases or {}).items():
            self._names[spelling.lower()] = name

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        """Check an object; raises ``DecodeError``."""
        if not isinstance(value, dict):
            _refuse(value, where, "struct")
        result: dict[str, Any] = {}
        for given, item in cast("dict[str, Any]", value).items():
            name = self._names.get(given.lower())
            if name is None:
                if given.lower() in ("namespace", "partition") and item in (
                    None,
                    "",
                    "default",
                ):
                    continue
                if self.ignore_unknown:
                    continue
                raise DecodeError(f'json: unknown field "{given}"')
            if item is None:
                result.pop(name, None)
            else:
                result[name] = self.fields[name](item, f"{where}.{name}")
        return result


def _constant(text: str) -> NoReturn:
    raise DecodeError(f"invalid character '{text[:1]}' looking for beginning of value")


def _integer(text: str) -> float:
    """Return an integer; one that no field can hold only as a float."""
    return int(text) if len(text) <= _DIGITS_MAX else float(text)


def _mended(value: Any) -> Any:
    """Return a value without lone surrogates, which are no text."""
    if isinstance(value, str):
        units = value.encode("utf-16-le", "surrogatepass")
        return units.decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        return {_mended(key): _mended(item) for key, item in given.items()}
    return value


_lenient = json.JSONDecoder(parse_constant=_constant, parse_int=_integer)


def parse_json(body: bytes) -> Any:
    """Return the first JSON value of a body; raises ``DecodeError``."""
    try:
        return msgspec.json.decode(body)
    except ValueError:  # msgspec's own, text that is no UTF-8, and huge numbers
        pass
    except RecursionError:
        raise DecodeError("exceeded max depth") from None
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise DecodeError("EOF")
    try:
        return _mended(_lenient.raw_decode(text)[0])
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
            raise DecodeError("unexpected EOF") from None
        raise DecodeError(
            f"invalid character '{text[error.pos]}' looking for beginning of value"
        ) from None
    except RecursionError:
        raise DecodeError("exceeded max depth") from None


def decode(
    body: bytes, kind: Kind, prefix: str = "Request decode failed: "
) -> dict[str, Any]:
    """Return a body's fields by canonical name; a ``null`` body is empty."""
    return _decoded(body, kind, prefix, {})


def decode_list(
    body: bytes, kind: Kind, prefix: str = "Request decode failed: "
) -> list[Any]:
    """Return a body that is a list of ``kind``; a ``null`` body is empty."""
    return _decoded(body, list_of(kind), prefix, [])


def _decoded(body: bytes, kind: Kind, prefix: str, empty: Any) -> Any:
    try:
        value = parse_json(body)
        return empty if value is None else kind(value, "")
    except DecodeError as error:
        raise BadRequestError(prefix + str(error)) from None


def decode_as(
    body: bytes, kind: Kind, record: type[T], prefix: str = "Request decode failed: "
) -> T:
    """Return a body as a record with wire names."""
    return build(decode(body, kind, prefix), record, prefix)


def build(fields: Any, record: type[T], prefix: str = "Request decode failed: ") -> T:
    """Make a record of normalised fields."""
    try:
        return msgspec.convert(fields, record)
    except msgspec.ValidationError as error:
        raise BadRequestError(prefix + str(error)) from None
