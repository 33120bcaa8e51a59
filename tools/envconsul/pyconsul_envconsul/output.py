"""Variables as text, and in files only we may read."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEMD = {"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`"}


def render(variables: Mapping[bytes, bytes], form: str) -> bytes:
    """Return the variables as ``dotenv``, ``export``, ``json`` or ``systemd``."""
    pairs = sorted(
        (os.fsdecode(name), os.fsdecode(value)) for name, value in variables.items()
    )
    if form == "json":
        return (json.dumps(dict(pairs), indent=2) + "\n").encode()
    if form == "export":
        lines = [f"export {name}={_single_quoted(value)}\n" for name, value in pairs]
    elif form == "systemd":
        lines = [f'{name}="{_escaped(value, _SYSTEMD)}"\n' for name, value in pairs]
    else:
        newline = _SYSTEMD | {"\n": "\\n", "\r": "\\r"}
        lines = [f'{name}="{_escaped(value, newline)}"\n' for name, value in pairs]
    return os.fsencode("".join(lines))


def difference(before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> str:
    """Return one line a name that is new (``+``) or has another value (``~``)."""
    lines = [
        f"{'~' if name in before else '+'} {os.fsdecode(name)}\n"
        for name, value in sorted(after.items())
        if before.get(name) != value
    ]
    return "".join(lines)


def write_private(path: str, data: bytes) -> None:
    """Replace a file at once, mode 0600; raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    number = os.open(temporary, flags, 0o600)
    try:
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def cache_text(variables: Mapping[bytes, bytes]) -> bytes:
    """Return the variables for a cache file."""
    pairs = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
    return json.dumps({"version": 1, "variables": pairs}).encode()


def read_cache(path: str) -> dict[bytes, bytes] | None:
    """Return what a cache file holds, ``None`` when there is none to use."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(64 * 1024 * 1024))
        if found["version"] != 1:
            return None
        pairs: dict[str, str] = found["variables"]
        return {os.fsencode(name): os.fsencode(value) for name, value in pairs.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _single_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _escaped(value: str, table: dict[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in value)
