"""What a job counts, and what it says: lag, warnings, differences."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from pyconsul_client.tool.journal import Journal

from .model import Entry, Rules
from .plan import Plan

NAMED = 5
"""Keys that a warning names."""


class Counters(msgspec.Struct, kw_only=True):
    """What a job has done so far; shown by the status page."""

    passes: int = 0
    changes: int = 0
    written: int = 0
    bytes: int = 0
    """Of the values written."""
    deleted: int = 0
    conflicts: int = 0
    refused_deletes: int = 0
    """Deletes that the last pass wanted and did not carry out."""
    waiting_deletes: int = 0
    """Deletes whose grace is not over."""
    skipped_locked: int = 0
    open_conflicts: int = 0
    """Keys that changed at both sides and were left alone."""
    decided_conflicts: int = 0
    """Keys that changed at both sides, of which one version won."""
    errors: int = 0
    source_keys: int = 0
    source_index: int = 0
    last_success: float = 0.0
    """Unix time."""
    last_error: str = ""
    following: bool = False
    leading: bool = True
    """Whether this instance is the one that works."""
    seen_index: int = 0
    """Of the newest answer of the source."""
    done_index: int = 0
    """Up to which everything was copied."""
    behind_since: float = 0.0
    """Unix time since when something waits, or nothing is known; 0: up to date."""

    @property
    def lag_index(self) -> int:
        """How far the copy is behind, in indexes of the source."""
        return max(0, self.seen_index - self.done_index)

    @property
    def lag_seconds(self) -> float:
        """For how long the copy has been behind."""
        return max(0.0, time.time() - self.behind_since) if self.behind_since else 0.0

    def heard(self, index: int) -> None:
        """The source has something new."""
        self.seen_index = max(self.seen_index, index)
        self.behind_since = self.behind_since or time.time()

    def caught_up(self, index: int) -> None:
        """Everything up to an index is copied, or refused."""
        self.done_index = index
        self.seen_index = max(self.seen_index, index)
        if self.seen_index == index:
            self.behind_since = 0.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a job works; times in seconds."""

    status_dir: str
    dry_run: bool = False
    verify: bool = False
    """Compare once more with what leaders say."""
    look_only: bool = False
    """Copy nothing."""
    allow_loop: bool = False
    addressed: bool = False
    """Whether the source is another agent than the destination."""
    reconcile_s: float = 60.0
    block_s: int = 300
    settle: tuple[float, float] = (0.0, 0.0)
    """Least quiet and longest wait before changes are acted on."""


class Warner:
    """Tells of keys that are treated differently, once each."""

    def __init__(self, journal: Journal, rules: Rules) -> None:
        self._journal = journal
        self._copied = "not copied" if rules.locks == "skip" else "copied all the same"
        self._warned: set[str] = set()

    def __call__(self, found: Plan) -> None:
        """Warn of what a plan leaves alone."""
        for keys, text in (
            (found.locked, "is locked at the destination: left alone"),
            (found.locks, f"belongs to a lock or semaphore: {self._copied}"),
            (found.foreign, "differs, and is the destination's own: left alone"),
            (found.copies, "has the mark of a copy in its flags: not copied on"),
        ):
            fresh = [key for key in keys if key not in self._warned]
            self._warned.update(fresh)
            for key in fresh[:NAMED]:
                self._journal.warn(f'"{key}" {text}')
            if len(fresh) > NAMED:
                self._journal.warn(f"and {len(fresh) - NAMED} more keys: {text}")


def size(value: str | None) -> int:
    """Return the bytes that a base64 text stands for."""
    if not value:
        return 0
    return len(value) // 4 * 3 - value[-2:].count("=")


def differences(found: Plan, held: Mapping[str, Entry]) -> list[str]:
    """Return a line for each key that is to change: ``+``, ``~``, ``-``."""
    lines = [
        (d.key, f"- {d.key} ({size(held[d.key].value)} bytes)") for d in found.deletes
    ]
    for write in found.writes:
        old = held.get(write.key)
        new = f"{size(write.value)} bytes, flags {write.flags}"
        if old is None:
            lines.append((write.key, f"+ {write.key} ({new})"))
        else:
            before = f"{size(old.value)} bytes, flags {old.flags}"
            lines.append((write.key, f"~ {write.key} ({before} to {new})"))
    return [line for _, line in sorted(lines)]
