"""yamux frames: the 12-byte header and what its numbers mean.

Source: ``wire-rpc.md`` section 3. A header is version, type, flags, stream and
length, big-endian; only data frames have a body.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct(">BBHII")
HEADER_SIZE = HEADER.size

DATA = 0
WINDOW_UPDATE = 1
PING = 2
GO_AWAY = 3

SYN = 1
ACK = 2
FIN = 4
RST = 8

GO_AWAY_NORMAL = 0
GO_AWAY_PROTOCOL_ERROR = 1
GO_AWAY_INTERNAL_ERROR = 2

INITIAL_WINDOW = 256 * 1024
"""Bytes a side may send on a new stream before the other grants more."""

MAX_WINDOW = (1 << 32) - 1
MAX_STREAM_ID = (1 << 32) - 1


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return the header of a frame (``length`` as its type means it)."""
    return HEADER.pack(0, kind, flags, stream, length)
