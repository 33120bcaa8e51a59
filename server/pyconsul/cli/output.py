"""Writing to stdout, and columns as Consul's tables have them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def write(data: bytes) -> None:
    """Write bytes to stdout as they are."""
    sys.stdout.buffer.write(data)


def line(text: str) -> None:
    """Write a line to stdout; bytes of an argument that are no UTF-8 survive."""
    write(text.encode("utf-8", "surrogateescape") + b"\n")


_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def go_json(value: object, indent: int | str) -> str:
    """Return a value as indented JSON, escaped as Go does for HTML's sake."""
    import json

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.translate(_ESCAPES)


def in_columns(text: str) -> str:
    """Return lines of cells with tabs after them as columns, six blanks apart.

    A column is as wide as its cells in lines next to each other; the last cell
    of a line belongs to none. So does Go's ``tabwriter``.
    """
    import re

    pages = [
        [re.split("[\t\v]", row) for row in page.split("\n")]
        for page in text.split("\f")
    ]
    last = pages[-1][-1]
    if len(last) > 1 and not last[-1]:
        last.pop()
    for rows in pages:
        for column in range(max(map(len, rows)) - 1):
            start = 0
            for at in range(len(rows) + 1):
                if at < len(rows) and column < len(rows[at]) - 1:
                    continue
                width = max((len(row[column]) for row in rows[start:at]), default=0)
                for row in rows[start:at]:
                    row[column] = row[column].ljust(width + 6)
                start = at + 1
    return "\n".join("".join(row) for rows in pages for row in rows)


GREEN, YELLOW, RED, _BOLD = "32", "33", "31", "1"
STATES = {
    "alive": GREEN,
    "leader": GREEN,
    "leaving": YELLOW,
    "left": YELLOW,
    "failed": RED,
}
"""Colours of the states of members and peers."""


def colours() -> bool:
    """Tell whether to colour: on a terminal, unless ``NO_COLOR`` is set."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def painted(text: str, code: str) -> str:
    """Return a text that terminals show in a colour."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def table(
    rows: Iterable[Sequence[str]],
    coloured: Mapping[int, Mapping[str, str]] | None = None,
) -> None:
    """Write rows with columns two blanks apart, without blanks at the ends.

    The first row is the heading. ``coloured`` has the colours of words by
    column; they show on terminals only.
    """
    cells = [list(row) for row in rows]
    if sys.stdout.isatty():
        # Names come from whoever joined: they shall not steer the terminal.
        cells = [[_harmless(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    if colours():
        lines[0] = painted(lines[0], _BOLD)
        for at, row in enumerate(cells[1:], 1):
            shown: list[str] = []
            for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
                code = (coloured or {}).get(column, {}).get(cell, "")
                shown.append(painted(cell, code) + " " * (width - len(cell)))
            lines[at] = "  ".join(shown).rstrip()
    for one in lines:
        line(one)


def _harmless(text: str) -> str:
    """Return a text with its control characters written out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def pairs(items: dict[str, str] | None, between: str) -> str:
    """Return ``k=v`` of every item, sorted, in one text."""
    return between.join(
        f"{key}={value}" for key, value in sorted((items or {}).items())
    )
