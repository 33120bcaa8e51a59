"""Variables as text, and in files only we may read."""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYSTEMD = {"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`"}


def render(
    variables: Mapping[bytes, bytes], form: str, dropped: Callable[[str], None]
) -> bytes:
    """Return the variables as ``dotenv``, ``export``, ``json`` or ``systemd``.

    All but JSON are read by line: a name that is none there could be a command
    to whoever reads it. It is left out, and ``dropped`` hears of it.
    """
    pairs = sorted(
        (os.fsdecode(name), os.fsdecode(value)) for name, value in variables.items()
    )
    if form == "json":
        return (json.dumps(dict(pairs), indent=2) + "\n").encode()
    for name, _ in pairs:
        if not _NAME.fullmatch(name):
            dropped(f"{name!r} is no name in a {form} file; -sanitize makes one")
    pairs = [pair for pair in pairs if _NAME.fullmatch(pair[0])]
    if form == "export":
        lines = [f"export {name}={_single_quoted(value)}\n" for name, value in pairs]
    elif form == "systemd":
        lines = [f'{name}="{_escaped(value, _SYSTEMD)}"\n' for name, value in pairs]
    else:
        lines = [f"{name}={_dotenv_quoted(value)}\n" for name, value in pairs]
    return os.fsencode("".join(lines))


def difference(before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> str:
    """Return one line a name that is new (``+``), changed (``~``) or gone (``-``).

    No line shows a value. Names with a line break are shown escaped.
    """
    lines: list[str] = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            mark = "-" if name not in after else "~" if name in before else "+"
            text = os.fsdecode(name)
            lines.append(f"{mark} {text if text.isprintable() else ascii(text)}\n")
    return "".join(lines)


_STREAMS = ("/dev/stdout", "/dev/stderr")
"""Links, perhaps to files, that stay links."""


def write_private(path: str, data: bytes) -> None:
    """Replace a file at once, mode 0600; a pipe or device is written to.

    Raises OSError.
    """
    if path in _STREAMS or (os.path.exists(path) and not os.path.isfile(path)):
        # A rename would take /dev/null from everybody.
        with open(path, "ab") as file:
            file.write(data)
        return
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


def _single_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _dotenv_quoted(value: str) -> str:
    """Quote for readers of ``.env``, which differ: ``'`` is literal to all of them.

    Inside it some take a backslash for an escape, so such values go in ``"``, where
    nothing is left that a shell would run.
    """
    if "'" not in value and "\\\\" not in value and not value.endswith("\\"):
        return f"'{value}'"
    return f'"{_escaped(value, _SYSTEMD)}"'


def _escaped(value: str, table: dict[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in value)
