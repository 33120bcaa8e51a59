"""Whose key it is: the datacenter a copy comes from, in the high bits of its flags.

A mark is 16 bits over the 48 that are left to applications. What carries one is a
copy and is not copied on, so that nothing turns in a circle, however many
datacenters copy into each other; what carries none is its datacenter's own, and
nobody else changes or deletes it.
"""

from __future__ import annotations

import hashlib

from .model import LOCK_FLAG, SEMAPHORE_FLAG

SHIFT = 48
PLAIN = (1 << SHIFT) - 1
_TAKEN = {0, LOCK_FLAG >> SHIFT, SEMAPHORE_FLAG >> SHIFT}


def mark_of(datacenter: str) -> int:
    """Return the mark of a datacenter: 1 to 65535, none that locks have."""
    digest = hashlib.md5(datacenter.lower().encode(), usedforsecurity=False).digest()
    mark = int.from_bytes(digest[:2], "big")
    while mark in _TAKEN:
        mark = (mark + 1) % (1 << 16)
    return mark


class Origin:
    """The marks between two datacenters; ValueError when they cannot be told apart."""

    def __init__(self, source: str, destination: str) -> None:
        self._mark = mark_of(source)
        if not source or not destination or self._mark == mark_of(destination):
            raise ValueError(
                f'no different marks for datacenters "{source}" and "{destination}"'
            )

    @staticmethod
    def plain(flags: int) -> int:
        """Return flags without a mark."""
        return flags & PLAIN

    def marked(self, flags: int) -> int | None:
        """Return the flags of a copy; ``None`` for what is a copy itself."""
        return None if flags >> SHIFT else flags | self._mark << SHIFT

    def ours(self, flags: int) -> bool:
        """Whether a destination key is a copy from this source."""
        return flags >> SHIFT == self._mark
