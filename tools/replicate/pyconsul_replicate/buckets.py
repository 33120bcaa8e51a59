"""Cuts a big tree into pieces that are watched one by one.

A blocking query answers with all it covers. Over pieces of a few hundred keys
one changed key costs a few hundred rows, not the whole tree. Pieces are text
prefixes (which is how Consul reads), chosen from the keys that are there; a
listing of names watches for keys outside them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence

import msgspec

TARGET = 256
"""Keys a piece should have at most."""
MAX_PIECES = 48
"""Connections are pieces: a server allows 200 from one address by default."""
LAST = "\U0010ffff"


class Piece(msgspec.Struct, frozen=True):
    """A text prefix, or one key, that one blocking query covers."""

    prefix: str
    exact: bool = False

    def covers(self, key: str) -> bool:
        """Whether the key is in this piece."""
        return key == self.prefix if self.exact else key.startswith(self.prefix)


def cut(
    tree: str, keys: Sequence[str], *, target: int = TARGET, most: int = MAX_PIECES
) -> list[Piece]:
    """Return pieces that cover all ``keys`` (sorted, all below ``tree``).

    One piece, the tree itself, also covers keys to come; several cover those
    that begin like the keys that are there.
    """
    heap = [(-len(keys), tree, False, 0, len(keys))]
    done: list[Piece] = []
    while heap:
        size, prefix, exact, low, high = heapq.heappop(heap)
        parts = [] if exact or -size <= target else _split(keys, prefix, low, high)
        if len(parts) < 2 or len(heap) + len(done) + len(parts) > most:
            done.append(Piece(prefix, exact))
            continue
        for part in parts:
            heapq.heappush(heap, part)
    return sorted(done, key=lambda piece: (piece.prefix, not piece.exact))


def _split(
    keys: Sequence[str], prefix: str, low: int, high: int
) -> list[tuple[int, str, bool, int, int]]:
    first, last = keys[low], keys[high - 1]
    size = len(prefix)
    while size < len(first) and first[size : size + 1] == last[size : size + 1]:
        size += 1
    common = first[:size]
    parts: list[tuple[int, str, bool, int, int]] = []
    at = low
    if keys[at] == common:
        parts.append((-1, common, True, at, at + 1))
        at += 1
    while at < high:
        head = keys[at][: size + 1]
        end = high
        if head[-1] != LAST:
            end = bisect_left(keys, head[:-1] + chr(ord(head[-1]) + 1), at, high)
        parts.append((at - end, head, False, at, end))
        at = end
    return parts
