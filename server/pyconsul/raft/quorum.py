"""Majorities: what a set of voters has agreed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

Verdict = Literal["won", "lost", "pending"]


def majority(count: int) -> int:
    """Return how many of ``count`` voters are a majority."""
    return count // 2 + 1


def agreed(values: Iterable[float]) -> float:
    """Return the largest value that a majority has reached; no voters: 0."""
    ordered = sorted(values, reverse=True)
    if not ordered:
        return 0
    return ordered[majority(len(ordered)) - 1]


def tally(voters: frozenset[str], votes: Mapping[str, bool]) -> Verdict:
    """Judge an election; votes of others than ``voters`` do not count."""
    yes = sum(1 for v in voters if votes.get(v) is True)
    no = sum(1 for v in voters if votes.get(v) is False)
    needed = majority(len(voters))
    if yes >= needed:
        return "won"
    if no > len(voters) - needed:
        return "lost"
    return "pending"
