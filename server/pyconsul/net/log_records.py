"""The bytes of a log segment: how records are written, found and judged.

A segment is a pre-allocated, zero-filled file named by its first index. After
a 32-byte header come records, each::

    magic u32 | crc u32 | size u32 | type u32 | batch u64 | index u64 | term u64 | data

little-endian, padded to 8 bytes; ``crc`` covers all that follows it. A type with
``EXTENDED`` has the entry's extensions before its data: u16, bytes. ``batch``
is the first index of the synced batch the record was written in. It tells a
torn write from damage: a batch is only begun when the one before is durable,
so a bad record followed by a good one of a *later* batch was once whole.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from zlib import crc32

from pyconsul.raft.messages import Entry

HEADER = struct.Struct("<8sQ16x")
HEADER_MAGIC = b"PYCRAFT1"
HEADER_BYTES = HEADER.size

_RECORD = struct.Struct("<4sIIIQQQ")
_BODY = struct.Struct("<IIQQQ")
RECORD_BYTES = _RECORD.size
_MAGIC = b"\xa5RL1"
_CRC_START = 8
EXTENDED = 0x100
_SECTOR = 512
_pack_body = _BODY.pack
_PADS = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")
_U32 = struct.Struct("<I").pack
_U16 = struct.Struct("<H").pack


def record_size(data_bytes: int) -> int:
    """Return the bytes a record with that much data takes on disk."""
    return (RECORD_BYTES + data_bytes + 7) & ~7


def encode_records(entries: Sequence[Entry]) -> tuple[bytes, array[int]]:
    """Return one batch as bytes, and where each record starts in them."""
    batch = entries[0].index
    parts: list[bytes] = []
    add = parts.append
    offsets = array("Q")
    offset = 0
    for entry in entries:
        data = entry.data
        kind = entry.type
        if entry.extensions:
            data = _U16(len(entry.extensions)) + entry.extensions + data
            kind |= EXTENDED
        size = len(data)
        offsets.append(offset)
        body = _pack_body(size, kind, batch, entry.index, entry.term)
        crc = crc32(data, crc32(body))
        add(_MAGIC)
        add(_U32(crc))
        add(body)
        add(data)
        pad = _PADS[(RECORD_BYTES + size) & 7]
        if pad:
            add(pad)
        offset += (RECORD_BYTES + size + 7) & ~7
    return b"".join(parts), offsets


class Scan:
    """What a segment's bytes hold, up to the first record that is not whole."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.end = HEADER_BYTES
        self.entries: list[tuple[int, int, int]] = []
        """(index, term, type) of each whole record."""


def parse_record(data: bytes | memoryview, at: int) -> tuple[Entry, int, int] | None:
    """Read the record at ``at``: the entry, its batch, its size on disk.

    Returns ``None`` when there is no whole record.
    """
    if at + RECORD_BYTES > len(data):
        return None
    magic, crc, size, kind, batch, index, term = _RECORD.unpack_from(data, at)
    if magic != _MAGIC:
        return None
    end = at + RECORD_BYTES + size
    if end > len(data) or crc32(data[at + _CRC_START : end]) != crc:
        return None
    body = bytes(data[at + RECORD_BYTES : end])
    entry = Entry(index, term, kind, body)
    if kind & EXTENDED:
        cut = 2 + int.from_bytes(body[:2], "little")
        entry = Entry(index, term, kind & ~EXTENDED, body[cut:], body[2:cut])
    return entry, batch, record_size(size)


def scan_segment(data: bytes, first_index: int) -> Scan:
    """Walk the records from the header on, indexes without gaps."""
    scan = Scan()
    expected = first_index
    view = memoryview(data)
    while True:
        found = parse_record(view, scan.end)
        if found is None or found[0].index != expected:
            return scan
        entry, _, size = found
        scan.offsets.append(scan.end)
        scan.entries.append((entry.index, entry.term, entry.type))
        scan.end += size
        expected += 1


def is_damage(data: bytes, at: int, bad_index: int) -> bool:
    """Tell whether the missing record at ``at`` was once durable.

    ``True`` when a whole record of a later batch follows, or one of the same
    batch while every sector in between was written (a torn write leaves the
    zeros of the pre-allocation in some sector).
    """
    position = data.find(_MAGIC, at + 1)
    while position >= 0:
        found = parse_record(data, position)
        if found is not None and found[0].index > bad_index:
            return found[1] > bad_index or not _has_empty_sector(data, at, position)
        position = data.find(_MAGIC, position + 1)
    return False


def has_records(data: bytes) -> bool:
    """Tell whether the segment holds any whole record."""
    return parse_record(data, HEADER_BYTES) is not None


def _has_empty_sector(data: bytes, start: int, end: int) -> bool:
    while start < end:
        stop = min((start // _SECTOR + 1) * _SECTOR, end)
        if not any(data[start:stop]):
            return True
        start = stop
    return False
