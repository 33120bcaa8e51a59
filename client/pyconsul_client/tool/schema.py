"""Settings files of the tools: HCL 1, JSON, TOML or YAML, by a light schema.

A schema is a dict of key to field; a field turns the file's value into ours or
says what is wrong. Blocks become dicts that hold only what was given, so that
files, environment and flags merge: scalars of the right win, ``Many`` blocks
append. No msgspec here: it would cost half of the start-up budget.
"""

from __future__ import annotations

import os

from ..errors import SettingsError
from ..goflags import parse_duration
from .signals import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Values = dict[str, Any]
    """What was given: by key, blocks as dicts, repeated blocks as lists."""
    Scalar = Callable[[object], Any]
    Schema = dict[str, "Scalar | One | Many"]

MAX_FILE = 4 * 1024 * 1024
MAX_FILES = 1000
SUFFIXES = (".hcl", ".json", ".toml", ".yaml", ".yml")
"""Files of a folder that are read; a file named itself may have any."""


class BareSeconds(float):
    """A duration that was given as a number, without a unit."""


class One:
    """A block that is there once; several are merged."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema


class Many:
    """A block that may be repeated."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema


def text(value: object) -> str:
    """Read a string."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError("expected a string")


def boolean(value: object) -> bool:
    """Read a boolean, also as ``"true"`` or a number."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    if value in ("true", "1"):
        return True
    if value in ("false", "0", ""):
        return False
    raise ValueError("expected true or false")


def number(value: object) -> int:
    """Read a whole number, zero or more."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a whole number")
    return value


def duration(value: object) -> float:
    """Read a Go duration in seconds; a bare number is seconds."""
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = BareSeconds(value)
    else:
        raise ValueError('expected a duration such as "30s"')
    if not 0 <= seconds < float("inf"):
        raise ValueError("a duration may not be negative, nor without end")
    return seconds


def signal_name(value: object) -> int:
    """Read a signal by name; ``""`` is none, 0."""
    return parse_signal(text(value))


def strings(value: object) -> list[str]:
    """Read a list of strings; one string is a list of one."""
    return [text(item) for item in _list(value)]


def wait_times(value: object) -> tuple[float, float]:
    """Read ``"5s"`` (maximum four times that) or ``"5s:10s"``, in seconds."""
    least, colon, most = text(value).partition(":")
    low = duration(least)
    high = duration(most) if colon else 4 * low
    if high < low:
        raise ValueError("the maximum is below the minimum")
    return low, high


def read(paths: list[str], schema: Schema) -> Values:
    """Return the merged settings of files and folders; later ones win.

    A folder is walked in lexical order, symbolic links are not followed.
    Raises SettingsError, which names the file and the key.
    """
    merged: Values = {}
    for count, path in enumerate(_files(paths)):
        if count >= MAX_FILES:
            raise SettingsError(f"more than {MAX_FILES} settings files")
        merged = merge(merged, check(_load(path), schema, path), schema)
    return merged


def check(values: Values, schema: Schema, name: str, where: str = "") -> Values:
    """Return raw values in the shape of the schema; ``name`` is the source."""
    prefix = f"{where}." if where else ""
    if wrong := sorted(set(values) - set(schema)):
        place = f"'{where}'" if where else "the settings"
        raise SettingsError(f"{name}: {place} has invalid keys: {', '.join(wrong)}")
    found: Values = {}
    for key, value in values.items():
        field, place = schema[key], prefix + key
        if isinstance(field, One | Many):
            parts: list[Values] = []
            for block in _list(value):
                if not isinstance(block, dict):
                    raise SettingsError(f"{name}: {place}: expected a block")
                parts.append(check(block, field.schema, name, place))  # pyright: ignore[reportUnknownArgumentType]
            if isinstance(field, Many):
                found[key] = parts
            else:
                found[key] = {}
                for part in parts:
                    found[key] = merge(found[key], part, field.schema)
        else:
            try:
                found[key] = field(value)
            except ValueError as error:
                raise SettingsError(f"{name}: {place}: {error}") from error
    return found


def merge(left: Values, right: Values, schema: Schema) -> Values:
    """Return ``left`` with ``right`` over it."""
    merged = dict(left)
    for key, value in right.items():
        field = schema[key]
        if key in merged and isinstance(field, One):
            merged[key] = merge(merged[key], value, field.schema)
        elif key in merged and isinstance(field, Many):
            merged[key] = [*merged[key], *value]
        else:
            merged[key] = value
    return merged


def put(values: Values, path: str, value: object) -> None:
    """Set ``a.b.c`` in nested values."""
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def get(values: Values, path: str, default: Any = None) -> Any:
    """Return ``a.b.c`` of nested values."""
    found: Any = values
    for part in path.split("."):
        if part not in found:
            return default
        found = found[part]
    return found


def bare_numbers(values: Values, where: str = "") -> Iterator[tuple[str, float]]:
    """Yield the keys of durations without a unit, and their seconds; 0 needs none."""
    for key, value in values.items():
        place = f"{where}.{key}" if where else key
        times = value if isinstance(value, tuple) else (value,)  # pyright: ignore[reportUnknownVariableType]
        bare = [time for time in times if isinstance(time, BareSeconds) and time]  # pyright: ignore[reportUnknownVariableType]
        if bare:
            yield place, bare[0]
        elif isinstance(value, dict):
            yield from bare_numbers(value, place)  # pyright: ignore[reportUnknownArgumentType]


def _list(value: object) -> list[object]:
    if isinstance(value, list):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return [value]


def _files(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        for folder, below, names in os.walk(path):
            below.sort()
            for name in sorted(names):
                full = os.path.join(folder, name)
                if name.endswith(SUFFIXES) and not os.path.islink(full):
                    yield full


def _load(path: str) -> Values:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"{path}: {reason}") from error
    if len(data) > MAX_FILE:
        raise SettingsError(f"{path}: larger than {MAX_FILE} bytes")
    try:
        words = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8") from error
    return parse(words, path)


def parse(words: str, name: str) -> Values:
    """Return the raw values of HCL 1, JSON, or (by ``name``) TOML or YAML text."""
    if name.endswith(".toml"):
        import tomllib

        try:
            return tomllib.loads(words)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{name}: {error}") from error
        except RecursionError as error:
            raise SettingsError(f"{name}: nested too deeply") from error
    if name.endswith((".yaml", ".yml")):
        from ..yaml_parse import YamlError, parse_yaml

        try:
            values = parse_yaml(words)
        except YamlError as error:
            raise SettingsError(f"{name}: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{name}: expected keys with values")
        return values  # pyright: ignore[reportUnknownVariableType]
    from ..hcl import HclError, loads

    try:
        return loads(words)
    except HclError as error:
        raise SettingsError(f"{name}: {error}") from error
