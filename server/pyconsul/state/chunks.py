"""Commands that a leader cut into chunks, put together again.

Leaders cut commands of more than 512 KiB, ours (``net/raft_waiting.py``) as
Consul's; each chunk is a log entry with ``Extensions``: protobuf of 1 operation,
2 position, 3 how many there are (``wire-raft.md`` section 2). The command is
applied with the last chunk. A new term ends what was unfinished: who proposed it
has been told so. What is held is part of the state, and of snapshots (record 29).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import Plain, raw_bytes

MAX_CHUNKS = 1 << 16
_OP, _POSITION, _COUNT = 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Place(msgspec.Struct, frozen=True):
    """Where a chunk belongs: ``position`` of ``count`` in operation ``op``."""

    op: int
    position: int
    count: int


class Chunks:
    """The chunks of operations that are not whole yet, all of one term."""

    __slots__ = ("_ops", "_term")

    def __init__(self) -> None:
        self._term = 0
        self._ops: dict[int, tuple[int, dict[int, bytes]]] = {}

    def add(self, term: int, data: bytes, extensions: bytes) -> bytes | None:
        """Take a chunk; return the whole command if it was the last missing.

        Raises ``CommandError`` when the extensions cannot be meant.
        """
        place = read_place(extensions)
        if term != self._term:
            self._ops.clear()
            self._term = term
        count, parts = self._ops.setdefault(place.op, (place.count, {}))
        if place.count != count:
            raise CommandError("chunks disagree how many there are")
        parts[place.position] = data
        if len(parts) < count:
            return None
        del self._ops[place.op]
        return b"".join(parts[position] for position in range(count))

    def to_plain(self) -> Plain:
        """Return the body of a snapshot's record."""
        return {
            "ChunkMap": {
                op: [
                    None
                    if position not in parts
                    else {
                        "Data": parts[position],
                        "NumChunks": count,
                        "OpNum": op,
                        "SequenceNum": position,
                        "Term": self._term,
                    }
                    for position in range(count)
                ]
                for op, (count, parts) in sorted(self._ops.items())
            }
        }

    def load(self, body: Any) -> None:
        """Take a snapshot's record; what cannot be read there is left out."""
        found = cast(Plain, body).get("ChunkMap") if isinstance(body, dict) else None
        if not isinstance(found, dict):
            return
        for listed in cast("dict[Any, Any]", found).values():
            if not isinstance(listed, list):
                continue
            for chunk in cast("list[Any]", listed):
                if isinstance(chunk, dict):
                    self._load_one(cast(Plain, chunk))

    def _load_one(self, chunk: Plain) -> None:
        numbers = [chunk.get(k, 0) for k in ("OpNum", "SequenceNum", "NumChunks")]
        term = chunk.get("Term", 0)
        if any(type(number) is not int for number in (*numbers, term)):
            return
        place = Place(*numbers)
        if not _is_possible(place):
            return
        self._term = term
        _, parts = self._ops.setdefault(place.op, (place.count, {}))
        parts[place.position] = raw_bytes(chunk.get("Data"))


def encode_place(place: Place) -> bytes:
    """Return the ``Extensions`` of a chunk; protobuf leaves zeros out."""
    fields = ((_OP, place.op), (_POSITION, place.position), (_COUNT, place.count))
    return b"".join(
        bytes((number << 3,)) + _encode_varint(value)
        for number, value in fields
        if value
    )


def read_place(extensions: bytes) -> Place:
    """Return what an entry's ``Extensions`` say; raises ``CommandError``."""
    numbers = {_OP: 0, _POSITION: 0, _COUNT: 0}
    at = 0
    while at < len(extensions):
        key, at = _varint(extensions, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(extensions, at)
            if number in numbers:
                numbers[number] = value
        elif kind == _BYTES:
            size, at = _varint(extensions, at)
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise CommandError("bad extensions of a log entry")
    place = Place(numbers[_OP], numbers[_POSITION], numbers[_COUNT])
    if at != len(extensions) or not _is_possible(place):
        raise CommandError("bad extensions of a log entry")
    return place


def _is_possible(place: Place) -> bool:
    return 0 <= place.position < place.count <= MAX_CHUNKS


def _encode_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise CommandError("bad extensions of a log entry")
