"""``pyconsul-replicate status``: what a running instance does, for people."""

from __future__ import annotations

import time

import msgspec

from pyconsul_client.tool import exits
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.status import ask, printable


class _Row(msgspec.Struct):
    """What is shown of one job of ``/status``."""

    name: str
    following: bool
    leading: bool
    source_keys: int
    written: int
    deleted: int
    errors: int
    lag_seconds: float
    last_success: float
    last_error: str
    refused_deletes: int
    waiting_deletes: int
    skipped_locked: int
    open_conflicts: int
    decided_conflicts: int


def fetch(address: str) -> str:
    """Return the state of the instance at ``-status-addr``.

    Raises ToolError (14) where none answers.
    """
    try:
        rows = msgspec.convert(ask(address), list[_Row])
    except msgspec.ValidationError as error:
        text = f"{address}: not a pyconsul-replicate"
        raise ToolError(exits.FAILED, text) from error
    return "".join(_lines(row, time.time()) for row in rows)


def _lines(row: _Row, now: float) -> str:
    if not row.leading:
        state = "stands by"
    elif row.lag_seconds:
        state = f"{row.lag_seconds:.0f} s behind"
    else:
        state = "up to date" if row.following else "copying"
    ago = (
        f"{max(0.0, now - row.last_success):.0f} s ago" if row.last_success else "none"
    )
    lines = [
        f"{row.name}: {state}",
        f"{row.source_keys} keys, {row.written} written, {row.deleted} deleted, "
        f"{row.errors} errors, last good pass {ago}",
    ]
    for count, what in (
        (row.refused_deletes, "deletes refused"),
        (row.waiting_deletes, "deletes in their grace"),
        (row.skipped_locked, "locked keys left alone"),
        (row.open_conflicts, "conflicts open"),
        (row.decided_conflicts, "conflicts decided"),
    ):
        if count:
            lines.append(f"{count} {what}")
    if row.last_error and (
        row.lag_seconds or row.refused_deletes or row.open_conflicts
    ):
        lines.append(f"last error: {row.last_error}")
    return "\n  ".join(map(printable, lines)) + "\n"
