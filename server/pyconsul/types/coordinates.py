"""Network coordinates and what their calls carry (wire names of ``wire-rpc.md``)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from pyconsul.types.messages import WriteOptions
from pyconsul.types.records import Record

DIMENSIONS = 8
START_ERROR = 1.5
HEIGHT_MIN = 10e-6


class Coord(Record, frozen=True, kw_only=True):
    """A Vivaldi coordinate with height; everything in seconds."""

    vec: list[float] = msgspec.field(default_factory=list[float])
    error: float = 0.0
    adjustment: float = 0.0
    height: float = 0.0


class Coordinate(Record, frozen=True, kw_only=True):
    """A node's coordinate in a network segment (empty: the default one)."""

    node: str = ""
    segment: str = ""
    coord: Coord | None = None


class CoordinateUpdateRequest(WriteOptions, frozen=True, kw_only=True):
    """``Coordinate.Update``."""

    node: str = ""
    segment: str = ""
    coord: Coord | None = None


def origin() -> Coord:
    """Return where every node starts."""
    return Coord(vec=[0.0] * DIMENSIONS, error=START_ERROR, height=HEIGHT_MIN)


def round_trip(one: Coord, other: Coord) -> float:
    """Return the estimated round trip in seconds (``agent-behaviour.md`` 7)."""
    raw = math.dist(one.vec, other.vec) + one.height + other.height
    adjusted = raw + one.adjustment + other.adjustment
    return adjusted if adjusted > 0 else raw


def distance(
    one: Mapping[str, Coordinate], other: Mapping[str, Coordinate], preferred: str = ""
) -> float:
    """Return the round trip of two nodes in seconds, of their coordinates by segment.

    Coordinates of different segments say nothing about each other: without a common
    one it is infinite. Of several it is ``preferred``, the default one, the first.
    """
    segment = min(
        one.keys() & other.keys(),
        key=lambda name: (name != preferred, name),
        default=None,
    )
    if segment is None:
        return math.inf
    start, end = one[segment].coord, other[segment].coord
    if start is None or end is None:
        return math.inf
    return round_trip(start, end)
