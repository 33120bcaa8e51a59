"""Writing to stdout, and columns as Consul's tables have them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def write(data: bytes) -> None:
    """Write bytes to stdout as they are."""
    sys.stdout.buffer.write(data)


def line(text: str) -> None:
    """Write a line to stdout; bytes of an argument that are no UTF-8 survive."""
    write(text.encode("utf-8", "surrogateescape") + b"\n")


def table(rows: Iterable[Sequence[str]]) -> None:
    """Write rows with columns two blanks apart, without blanks at the ends."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line("  ".join(padded).rstrip())


def pairs(items: dict[str, str] | None, between: str) -> str:
    """Return ``k=v`` of every item, sorted, in one text."""
    return between.join(
        f"{key}={value}" for key, value in sorted((items or {}).items())
    )
