"""JSON settings files of the tools, read into typed structs.

Errors name the file and the field. Durations are Go's (``"1m30s"``) or plain
numbers of seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from .errors import SettingsError
from .goflags import parse_duration

T = TypeVar("T")

MAX_SIZE = 4 * 1024 * 1024
"""Largest settings file, bytes."""

_WHERE = re.compile(r" - at `\$?\.?(.*)`$")
_BYTE = re.compile(r" \(byte (\d+)\)$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")


def load(path: str | Path, kind: type[T]) -> T:
    """Return the file's settings as ``kind``.

    Raises SettingsError: unreadable, too large, not JSON (with line and column),
    an unknown or missing field, a wrong type.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"{path}: {reason}") from error
    if len(data) > MAX_SIZE:
        raise SettingsError(f"{path}: larger than {MAX_SIZE} bytes")
    return parse(data, kind, str(path))


def parse(data: bytes, kind: type[T], name: str) -> T:
    """Return JSON text as ``kind``; ``name`` stands for it in errors."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}: {_describe(str(error))}") from error
    except msgspec.DecodeError as error:
        text = str(error)
        place = _BYTE.search(text)
        if place is None:
            raise SettingsError(f"{name}: {text}") from error
        before = data[: int(place[1])]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        reason = text[: place.start()]
        raise SettingsError(f"{name}:{line}:{column}: {reason}") from error


def seconds(value: str | float, field: str) -> float:
    """Return the seconds of a duration setting; SettingsError names ``field``."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise SettingsError(f"{field}: {error}") from error
    return float(value)


def _describe(text: str) -> str:
    where = _WHERE.search(text)
    field = where[1] if where else ""
    reason = text[: where.start()] if where else text
    for pattern, words in ((_UNKNOWN, "unknown field"), (_MISSING, "is missing")):
        match = pattern.fullmatch(reason)
        if match:
            return f"{field}.{match[1]}: {words}" if field else f"{match[1]}: {words}"
    reason = reason[:1].lower() + reason[1:]
    return f"{field}: {reason}" if field else reason
