"""Sprig's less common functions of numbers, lists, maps, types and times.

Imported when a template calls one. Source: sprig's documentation. The value
worked on is the last argument.
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from pyconsul_client.goflags import parse_duration
from pyconsul_template.ctmpl import encode, gotime
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.sprig import list_of, map_of, moment_of, real, whole
from pyconsul_template.ctmpl.values import Long, type_name

# Numbers


def _exact(value: Any) -> Decimal:
    return Decimal(repr(float(real(value))))


def _exactly(compute: Callable[[Decimal, Decimal], Decimal]) -> Callable[..., float]:
    """Return a function of floats computed in decimal digits: 1.1 + 2.2 is 3.3."""

    def apply(first: Any, *others: Any) -> float:
        found = _exact(first)
        for other in others:
            try:
                found = compute(found, _exact(other))
            except ArithmeticError as error:
                raise GoExecError(f"decimal division by 0: {error}") from None
        return float(found)

    return apply


add_floats = _exactly(lambda a, b: a + b)
subtract_floats = _exactly(lambda a, b: a - b)
multiply_floats = _exactly(lambda a, b: a * b)
divide_floats = _exactly(lambda a, b: a / b)


def add_one_float(value: Any) -> float:
    """Return the value and 1."""
    return add_floats(value, 1)


def greatest_float(*values: Any) -> float:
    """Return the greatest."""
    return max(map(real, values))


def least_float(*values: Any) -> float:
    """Return the least."""
    return min(map(real, values))


def ceiling(value: Any) -> float:
    """Return the next whole number."""
    return _rounded(value, math.ceil)


def floor(value: Any) -> float:
    """Return the whole number before."""
    return _rounded(value, math.floor)


def _rounded(value: Any, compute: Callable[[float], int]) -> float:
    number = real(value)
    return float(compute(number)) if math.isfinite(number) else number


def rounded(value: Any, places: Any, half: Any = 0.5) -> float:
    """Return a number of so many places; from ``half`` on it is rounded up."""
    number, scale = float(real(value)), 10.0 ** whole(places)
    scaled = number * scale
    if not math.isfinite(scaled) or not scale:
        return number
    is_up = math.modf(scaled)[0] >= real(half)
    return (math.ceil(scaled) if is_up else math.floor(scaled)) / scale


def octal(value: Any) -> Long:
    """Return the number that octal digits stand for."""
    text = str(value)
    return Long(int(text, 8) if re.fullmatch(r"[+-]?[0-7]{1,21}", text) else 0)


# Lists


def slice_of(values: Any, *bounds: Any) -> list[Any]:
    """Return the elements from the first bound up to before the second."""
    found = list_of(values)
    numbers = [whole(bound) for bound in bounds]
    start, end = [*numbers, *(0, len(found))[len(numbers) :]][:2]
    if not 0 <= start <= end <= len(found):
        raise GoExecError(f"slice index out of range: {start}:{end}")
    return found[start:end]


def chunks(size: Any, values: Any) -> list[list[Any]]:
    """Return the list in lists of so many elements."""
    found, count = list_of(values), whole(size)
    if count < 1:
        raise GoExecError("chunk: the size has to be above 0")
    return [found[at : at + count] for at in range(0, len(found), count)]


# Maps


def pluck(key: str, *maps: Any) -> list[Any]:
    """Return the values of a key in the maps that have it."""
    return [found[key] for found in map(map_of, maps) if key in found]


def merge_overwrite(target: Any, *sources: Any) -> Any:
    """Return the maps as the first one; values of later ones win, empty ones not."""
    found = map_of(target)
    for source in sources:
        for key, value in map_of(source).items():
            old = found.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                merge_overwrite(cast("Any", old), cast("Any", value))
            elif value or key not in found:
                found[key] = value
    return found


# Kinds and copies


def deep_copy(value: Any) -> Any:
    """Return a copy; lists and maps in it are copies, too."""
    return copy.deepcopy(value)


def deep_equal(a: Any, b: Any) -> bool:
    """Return whether two values and their types are the same."""
    return type(a) is type(b) and a == b


_KINDS = {
    **{"string": "string", "int": "int", "int64": "int64", "uint64": "uint64"},
    **{"float64": "float64", "bool": "bool", "<nil>": "invalid"},
}


def kind_of(value: Any) -> str:
    """Return what a value is in Go: ``string``, ``slice``, ``map``, ..."""
    if isinstance(value, dict):
        return "map"
    if isinstance(value, list | tuple):
        return "slice"
    if isinstance(value, msgspec.Struct):
        return "ptr"
    if isinstance(value, datetime):
        return "struct"
    return _KINDS.get(type_name(value), "ptr")


def kind_is(kind: str, value: Any) -> bool:
    """Return whether a value is of a kind."""
    return kind == kind_of(value)


def type_of(value: Any) -> str:
    """Return the name of a value's type in Go."""
    return "time.Time" if isinstance(value, datetime) else type_name(value)


def type_is(name: str, value: Any) -> bool:
    """Return whether a value's type has a name."""
    return name == type_of(value)


def type_is_like(name: str, value: Any) -> bool:
    """Return whether a value, or what it points to, has a type."""
    return type_of(value) in (name, f"*{name}")


# Formats


def to_raw_json(value: Any) -> str:
    """Return JSON with ``<>&`` as they are."""
    return encode.to_unescaped_json(value)


def expand_environment(text: str) -> str:
    """Return the text with ``$NAME`` and ``${NAME}`` from the environment."""
    return re.sub(
        r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))",
        lambda found: os.environ.get(found[1] or found[2], ""),
        text,
    )


def environment(name: str) -> str:
    """Return a variable of the environment."""
    return os.environ.get(name, "")


# Times


def _zone(name: str) -> tzinfo | None:
    """Return a time zone by name; ``Local`` is ``None``, an unknown one UTC."""
    if name == "Local":
        return None
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def date_in_zone(layout: str, moment: Any, zone: str) -> str:
    """Return a time of a zone by a Go layout."""
    return gotime.formatted(moment_of(moment).astimezone(_zone(zone)), layout)


def html_date(moment: Any) -> str:
    """Return a time's day."""
    return gotime.formatted(moment_of(moment).astimezone(), "2006-01-02")


def html_date_in_zone(moment: Any, zone: str) -> str:
    """Return the day a time is in a zone."""
    return date_in_zone("2006-01-02", moment, zone)


def unix_epoch(moment: Any) -> str:
    """Return the seconds since 1970."""
    return str(math.floor(moment_of(moment).timestamp()))


def date_modify(span: str, moment: Any) -> datetime:
    """Return a time moved by a Go duration; a wrong one moves it by nothing."""
    try:
        return must_date_modify(span, moment)
    except GoExecError:
        return moment_of(moment)


def must_date_modify(span: str, moment: Any) -> datetime:
    """Return a time moved by a Go duration."""
    try:
        return moment_of(moment) + timedelta(seconds=_span(span))
    except OverflowError as error:
        raise GoExecError(f"{error}") from None


def _span(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise GoExecError(f"{error}") from None


def ago(moment: Any) -> str:
    """Return how long ago a time is, in whole seconds, as a Go duration."""
    return _duration_text(
        round((datetime.now(UTC) - moment_of(moment)).total_seconds())
    )


def duration(seconds: Any) -> str:
    """Return seconds as a Go duration: 95 is ``1m35s``."""
    return _duration_text(whole(seconds))


def _duration_text(seconds: int) -> str:
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{rest}s"
    return f"{sign}{minutes}m{rest}s" if minutes else f"{sign}{rest}s"


_UNITS = (
    *(("y", 365 * 86400), ("mo", 30 * 86400), ("d", 86400)),
    *(("h", 3600), ("m", 60), ("s", 1)),
)


def duration_rounded(value: Any) -> str:
    """Return a duration, or the time since a moment, in its largest unit."""
    if isinstance(value, datetime):
        seconds = abs((datetime.now(UTC) - moment_of(value)).total_seconds())
    elif isinstance(value, str):
        try:
            seconds = abs(_span(value))
        except GoExecError:
            seconds = 0.0
    else:
        seconds = abs(whole(value)) / 1e9
    for unit, size in _UNITS:
        if seconds > size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def to_date(layout: str, text: str) -> datetime:
    """Return the time a text stands for; of a wrong one year 1."""
    try:
        return gotime.parsed(layout, text, None)
    except ValueError:
        return datetime(1, 1, 1, tzinfo=UTC)


def must_to_date(layout: str, text: str) -> datetime:
    """Return the time a text stands for, by a Go layout."""
    try:
        return gotime.parsed(layout, text, None)
    except ValueError as error:
        raise GoExecError(f"{error}") from None
