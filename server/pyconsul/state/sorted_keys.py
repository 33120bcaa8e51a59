"""Sorted set of keys for prefix reads.

Chunks of at most ``_CHUNK`` keys, found by bisecting their first keys. New
keys wait in a small buffer, so that a write pays a set insertion; the buffer
is merged at the next ordered read or when full, which bounds the stall to
about a millisecond (one plain sorted list of a million keys costs 200 us for
every new key).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

_CHUNK = 1024
_PENDING = 512
_LAST = chr(0x10FFFF)


class SortedKeys:
    """A set of ``str`` that can be read in order and by prefix."""

    __slots__ = ("_chunks", "_firsts", "_pending")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._pending: set[str] = set()
        self._chunks: list[list[str]] = []
        self._firsts: list[str] = []
        self._rebuild(list(keys))

    def add(self, key: str) -> None:
        """Add a key that is not in the set."""
        self._pending.add(key)
        if len(self._pending) >= _PENDING:
            self._merge()

    def discard(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        if key in self._pending:
            self._pending.remove(key)
            return
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            return
        chunk = self._chunks[at]
        spot = bisect_left(chunk, key)
        if spot == len(chunk) or chunk[spot] != key:
            return
        del chunk[spot]
        if chunk:
            self._firsts[at] = chunk[0]
        else:
            del self._chunks[at], self._firsts[at]

    def all(self) -> list[str]:
        """Return every key in order."""
        self._merge()
        keys: list[str] = []
        for chunk in self._chunks:
            keys += chunk
        return keys

    def below(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order."""
        if not prefix:
            return self.all()
        self._merge()
        end = _after(prefix)
        chunks = self._chunks
        at = max(bisect_right(self._firsts, prefix) - 1, 0)
        keys: list[str] = []
        while at < len(chunks):
            chunk = chunks[at]
            if end is not None and chunk[0] >= end:
                break
            low = bisect_left(chunk, prefix)
            high = len(chunk) if end is None else bisect_left(chunk, end)
            keys += chunk[low:high]
            at += 1
        return keys

    def _merge(self) -> None:
        pending = self._pending
        if not pending:
            return
        self._pending = set()
        if not self._chunks:
            self._rebuild(list(pending))
            return
        for key in pending:
            self._insert(key)

    def _insert(self, key: str) -> None:
        at = max(bisect_right(self._firsts, key) - 1, 0)
        chunk = self._chunks[at]
        insort(chunk, key)
        if len(chunk) > _CHUNK:
            half = chunk[_CHUNK // 2 :]
            del chunk[_CHUNK // 2 :]
            self._chunks.insert(at + 1, half)
            self._firsts.insert(at + 1, half[0])
        self._firsts[at] = chunk[0]

    def _rebuild(self, keys: list[str]) -> None:
        keys.sort()
        size = _CHUNK // 2
        self._chunks = [keys[i : i + size] for i in range(0, len(keys), size)]
        self._firsts = [chunk[0] for chunk in self._chunks]


def _after(prefix: str) -> str | None:
    """Return the first text after all that start with ``prefix``, if any."""
    trimmed = prefix.rstrip(_LAST)
    if not trimmed:
        return None
    return trimmed[:-1] + chr(ord(trimmed[-1]) + 1)
