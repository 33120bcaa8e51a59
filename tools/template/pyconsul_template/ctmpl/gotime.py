"""Times by Go's layouts, such as ``2006-01-02T15:04:05Z07:00``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

RFC3339 = "2006-01-02T15:04:05Z07:00"
_ELEMENT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006"
    r"|[Z-](?:07:00:00|070000|07:00|0700|07)"
    r"|[.,](?:0+|9+)(?!\d)|002|01|02|03|04|05|06|15|PM|pm|__2|_2(?!006)|1|2|3|4|5"
)


def _offset(moment: datetime, separator: str) -> str:
    offset = moment.utcoffset()
    seconds = int(offset.total_seconds()) if offset else 0
    sign, seconds = "-" if seconds < 0 else "+", abs(seconds)
    parts = seconds // 3600, seconds // 60 % 60, seconds % 60
    return sign + separator.join(f"{part:02d}" for part in parts)


def _zulu(moment: datetime, separator: str) -> str:
    return _offset(moment, separator) if moment.utcoffset() else "Z"


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_VALUES: dict[str, Callable[[datetime], str]] = {
    "January": lambda t: _MONTHS[t.month - 1],
    "Jan": lambda t: _MONTHS[t.month - 1][:3],
    "Monday": lambda t: _DAYS[t.weekday()],
    "Mon": lambda t: _DAYS[t.weekday()][:3],
    "MST": lambda t: t.tzname() or "UTC",
    "2006": lambda t: f"{t.year:04d}",
    "06": lambda t: f"{t.year % 100:02d}",
    "01": lambda t: f"{t.month:02d}",
    "1": lambda t: str(t.month),
    "002": lambda t: f"{t.timetuple().tm_yday:03d}",
    "02": lambda t: f"{t.day:02d}",
    "__2": lambda t: f"{t.timetuple().tm_yday:3d}",
    "_2": lambda t: f"{t.day:2d}",
    "2": lambda t: str(t.day),
    "15": lambda t: f"{t.hour:02d}",
    "03": lambda t: f"{t.hour % 12 or 12:02d}",
    "3": lambda t: str(t.hour % 12 or 12),
    "04": lambda t: f"{t.minute:02d}",
    "4": lambda t: str(t.minute),
    "05": lambda t: f"{t.second:02d}",
    "5": lambda t: str(t.second),
    "PM": lambda t: "AM" if t.hour < 12 else "PM",
    "pm": lambda t: "am" if t.hour < 12 else "pm",
    "-07:00:00": lambda t: _offset(t, ":"),
    "-070000": lambda t: _offset(t, ""),
    "-07:00": lambda t: _offset(t, ":")[:6],
    "-0700": lambda t: _offset(t, "")[:5],
    "-07": lambda t: _offset(t, "")[:3],
    "Z07:00:00": lambda t: _zulu(t, ":"),
    "Z070000": lambda t: _zulu(t, ""),
    "Z07:00": lambda t: _zulu(t, ":")[:6],
    "Z0700": lambda t: _zulu(t, "")[:5],
    "Z07": lambda t: _zulu(t, "")[:3],
}


_DIGITS = {
    **{"2006": ("year", "\\d{4}"), "06": ("short", "\\d{2}")},
    **{"01": ("month", "\\d{2}"), "1": ("month", "\\d{1,2}")},
    **{"02": ("day", "\\d{2}"), "2": ("day", "\\d{1,2}"), "_2": ("day", " ?\\d{1,2}")},
    **{"15": ("hour", "\\d{1,2}"), "03": ("half", "\\d{2}"), "3": ("half", "\\d{1,2}")},
    **{"04": ("minute", "\\d{2}"), "4": ("minute", "\\d{1,2}")},
    **{"05": ("second", "\\d{2}"), "5": ("second", "\\d{1,2}")},
    **{"002": ("of_year", "\\d{3}"), "__2": ("of_year", " {0,2}\\d{1,3}")},
}
_WORDS = {
    "January": ("name", "|".join(_MONTHS)),
    "Jan": ("name", "|".join(month[:3] for month in _MONTHS)),
    "Monday": ("weekday", "|".join(_DAYS)),
    "Mon": ("weekday", "|".join(day[:3] for day in _DAYS)),
    **{"PM": ("noon", "AM|PM"), "pm": ("noon", "am|pm")},
    "MST": ("zone", "[A-Z]{3,4}"),
    **dict.fromkeys(
        ("-07:00:00", "-070000", "-07:00", "-0700", "-07"),
        ("offset", r"[+-]\d\d(?::?\d\d){0,2}"),
    ),
    **dict.fromkeys(
        ("Z07:00:00", "Z070000", "Z07:00", "Z0700", "Z07"),
        ("offset", r"Z|[+-]\d\d(?::?\d\d){0,2}"),
    ),
}


def parsed(layout: str, text: str, zone: tzinfo | None = UTC) -> datetime:
    """Return the time that ``text`` gives by a layout; raises ``ValueError``.

    ``zone`` is that of a text without one; ``None`` is the machine's own.
    """
    pattern, at = "", 0
    fields: dict[str, str] = {}
    for number, match in enumerate(_ELEMENT.finditer(layout)):
        pattern += re.escape(layout[at : match.start()])
        at = match.end()
        kind, digits = (_DIGITS | _WORDS).get(match[0], ("fraction", r"[.,]\d+"))
        fields[f"f{number}"] = kind
        pattern += f"(?P<f{number}>{digits})"
        if match[0] in ("05", "5"):
            # As in Go, digits behind the seconds need no place in the layout.
            pattern += r"(?P<more>[.,]\d+)?" if "more" not in fields else ""
            fields["more"] = "fraction"
    found = re.fullmatch(pattern + re.escape(layout[at:]), text, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is no time by the layout {layout!r}")
    given = {kind: found[name] for name, kind in fields.items() if found[name]}
    moment = _moment(given)
    offset = given.get("offset")
    if offset == "Z" or given.get("zone") == "UTC":
        zone = UTC
    elif offset:
        plain = offset[1:].replace(":", "").ljust(6, "0")
        hours, minutes, seconds = int(plain[:2]), int(plain[2:4]), int(plain[4:])
        span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        zone = timezone(-span if offset[0] == "-" else span)
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def _moment(given: dict[str, str]) -> datetime:
    year = int(given.get("year", "0"))
    if "short" in given:
        year = int(given["short"])
        year += 1900 if year >= 69 else 2000
    month = int(given.get("month", "1"))
    if "name" in given:
        month = next(
            number
            for number, name in enumerate(_MONTHS, 1)
            if name.startswith(given["name"])
        )
    hour = int(given.get("hour", "0"))
    if "half" in given:
        hour = int(given["half"]) % 12
        hour += 12 if given.get("noon", "").upper() == "PM" else 0
    fraction = given.get("fraction", ".0")[1:7].ljust(6, "0")
    moment = datetime(
        max(year, 1),
        month,
        int(given.get("day", "1")),
        hour,
        int(given.get("minute", "0")),
        int(given.get("second", "0")),
        int(fraction),
    )
    if "of_year" in given:
        moment += timedelta(days=int(given["of_year"]) - 1)
    return moment


def formatted(moment: datetime, layout: str) -> str:
    """Return a time by a layout."""

    def element(match: re.Match[str]) -> str:
        text = match[0]
        value = _VALUES.get(text)
        if value is not None:
            return value(moment)
        digits = f"{moment.microsecond:06d}000"[: len(text) - 1].ljust(
            len(text) - 1, "0"
        )
        if text[1] == "9":
            digits = digits.rstrip("0")
            return text[0] + digits if digits else ""
        return text[0] + digits

    return _ELEMENT.sub(element, layout)
