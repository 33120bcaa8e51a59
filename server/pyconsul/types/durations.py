"""Go durations: ``"1m30s"`` and integer nanoseconds (reference 1.6)."""

from __future__ import annotations

import re

from pyconsul.types.errors import BadRequestError

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_UNITS = {
    "ns": 1,
    "us": MICROSECOND,
    "µs": MICROSECOND,  # U+00B5
    "μs": MICROSECOND,  # U+03BC
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_MAX = (1 << 63) - 1
_DIGITS = 19
"""Of the largest number of nanoseconds."""


class DurationError(BadRequestError):
    """The text is no Go duration."""


def parse_duration(text: str) -> int:
    """Return nanoseconds of a Go duration; raises ``DurationError``."""
    rest = text
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise DurationError(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        match = _PART.match(rest)
        assert match is not None
        whole, fraction, unit = match.groups()
        if not whole and not fraction:
            raise DurationError(f'time: invalid duration "{text}"')
        if not unit:
            raise DurationError(f'time: missing unit in duration "{text}"')
        scale = _UNITS.get(unit)
        if scale is None:
            raise DurationError(f'time: unknown unit "{unit}" in duration "{text}"')
        whole = whole.lstrip("0")
        if len(whole) > _DIGITS:
            raise DurationError(f'time: invalid duration "{text}"')
        total += int(whole or "0") * scale
        if fraction:
            fraction = fraction[:_DIGITS]
            total += int(fraction) * scale // 10 ** len(fraction)
        rest = rest[match.end() :]
    if total > _MAX:
        raise DurationError(f'time: invalid duration "{text}"')
    return sign * total


def format_duration(ns: int) -> str:
    """Return the text Go prints: ``72h0m0s``, ``1.5s``, ``200ms``, ``0s``."""
    if ns == 0:
        return "0s"
    sign = "-" if ns < 0 else ""
    ns = abs(ns)
    if ns < SECOND:
        for unit, scale in (("ms", MILLISECOND), ("µs", MICROSECOND), ("ns", 1)):
            if ns >= scale:
                return sign + _decimal(ns, scale) + unit
    hours, rest = divmod(ns, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = _decimal(rest, SECOND) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    if minutes:
        return f"{sign}{minutes}m{seconds}"
    return sign + seconds


def _decimal(value: int, scale: int) -> str:
    whole, part = divmod(value, scale)
    if not part:
        return str(whole)
    digits = len(str(scale)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0")
