"""Small looks of the runner: at files, at names, at how long a key may be absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pyconsul_template.source import Entry, describe

NAMES_MAX = 20
"""Missing things named in one message."""


def named(entries: Iterable[Entry]) -> str:
    """Return the entries' names in order, not too many of them."""
    names = sorted(describe(entry.query) for entry in entries)
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file's text; ``None`` for no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class Limits:
    """How long keys may be absent: ``key(..., timeout=...)``. Times in seconds."""

    def __init__(self) -> None:
        """No key has a limit."""
        self._at: dict[tuple[int, Entry], tuple[float, float]] = {}

    def note(
        self,
        index: int,
        absent: frozenset[Entry],
        limits: Mapping[Entry, float],
        now: float,
    ) -> None:
        """Take what a template's render missed, and what of it has a limit."""
        for key in [
            key for key in self._at if key[0] == index and key[1] not in absent
        ]:
            del self._at[key]
        for entry, limit_s in limits.items():
            if entry in absent:
                self._at.setdefault((index, entry), (now + limit_s, limit_s))

    def passed(self, now: float) -> str:
        """Return what is absent for too long, empty when nothing is."""
        late = {e: limit for (_, e), (at, limit) in self._at.items() if at <= now}
        return "; ".join(
            f"{describe(entry.query)} is absent for {limit:g}s"
            for entry, limit in late.items()
        )

    def next_timer(self) -> float | None:
        """Return when the next limit is over."""
        return min((at for at, _ in self._at.values()), default=None)
