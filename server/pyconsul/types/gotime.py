"""Times as Go marshals them (``wire-rpc.md`` 2): fields of the kind ``Time``.

A ``Time`` is nanoseconds since 1970; 0 is Go's zero time, of the year 1. The
zone does not count: what is read in one is written in UTC.
"""

from __future__ import annotations

import struct
from typing import NewType

Time = NewType("Time", int)
"""Nanoseconds since 1970, 0 for Go's zero time."""

_FORM = struct.Struct(">BqiH")
_YEAR_1 = 62_135_596_800
_SECOND = 1_000_000_000
_UTC = 0xFFFF


def write_time(nanoseconds: int) -> bytes:
    """Return a time as the 15 bytes that Go makes of it."""
    if not nanoseconds:
        return _FORM.pack(1, 0, 0, _UTC)
    seconds, rest = divmod(nanoseconds, _SECOND)
    return _FORM.pack(1, seconds + _YEAR_1, rest, _UTC)


def read_time(raw: bytes) -> Time:
    """Read what Go marshalled; raises ``ValueError`` for anything else."""
    if not (len(raw) == 15 and raw[0] == 1) and not (len(raw) == 16 and raw[0] == 2):
        raise ValueError("time is malformed")
    _, seconds, rest, _ = _FORM.unpack_from(raw)
    if not seconds and not rest:
        return Time(0)
    return Time((seconds - _YEAR_1) * _SECOND + rest)
