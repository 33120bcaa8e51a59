"""What a dry run shows: the whole text when piped, a diff on a terminal."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

_RED, _GREEN, _CYAN, _BOLD, _END = (f"\x1b[{code}m" for code in (31, 32, 36, 1, 0))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal might obey; data must not reach it."""
NOT_A_FILE = "(no destination)"


def whole(path: Path | None, content: bytes) -> str:
    """Return the reference's form: ``> PATH``, then the text."""
    text = content.decode("utf-8", "surrogateescape").removesuffix("\n")
    return f"> {path or NOT_A_FILE}\n{text}"


def diff(
    path: Path | None, old: bytes | None, new: bytes, *, colour: bool = True
) -> str:
    """Return a unified diff of the file; control characters are made visible."""
    name = str(path or NOT_A_FILE)
    before, after = ((b or b"").decode("utf-8", "replace") for b in (old, new))
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        "/dev/null" if old is None else name,
        name,
        lineterm="",
    )
    return "\n".join(_painted(_visible(line), colour) for line in lines)


def _visible(line: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line)


def _painted(line: str, colour: bool) -> str:
    if not colour:
        return line
    if line.startswith(("---", "+++")):
        return f"{_BOLD}{line}{_END}"
    for sign, paint in (("-", _RED), ("+", _GREEN), ("@@", _CYAN)):
        if line.startswith(sign):
            return f"{paint}{line}{_END}"
    return line


def print_to_stdout(text: str) -> None:
    """Print a dry run's file, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()
