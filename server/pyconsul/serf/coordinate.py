"""Network coordinates: Vivaldi with height, adjustment and gravity (8.8).

Dabek et al., "Vivaldi: A Decentralized Network Coordinate System"; the latency
filter and the adjustment term follow Ledlie et al., gravity Phoenix-style drift
control. Everything is in seconds.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Final

from pyconsul.types import gomsgpack
from pyconsul.types.coordinates import (
    DIMENSIONS,
    HEIGHT_MIN,
    START_ERROR,
    Coord,
    origin,
    round_trip,
)

ACK_VERSION: Final = 1
RTT_MAX_S: Final = 10.0
_ERROR_MAX: Final = START_ERROR
_CE: Final = 0.25
_CC: Final = 0.25
_WINDOW: Final = 20
_FILTER_SAMPLES: Final = 3
_GRAVITY_RHO: Final = 150.0
_ZERO: Final = 1e-6
_ORIGIN: Final = origin()


def encode_ack(coordinate: Coord) -> bytes:
    """Return the ping payload that carries a coordinate."""
    return bytes((ACK_VERSION,)) + gomsgpack.encode(coordinate)


def decode_ack(payload: bytes) -> Coord | None:
    """Read a ping payload; ``None`` when it holds no usable coordinate."""
    if not payload or payload[0] != ACK_VERSION:
        return None
    try:
        coordinate = gomsgpack.decode(payload[1:], Coord)
    except (gomsgpack.MsgpackError, RecursionError, OverflowError):
        return None
    return coordinate if is_valid(coordinate) else None


def is_valid(coordinate: Coord) -> bool:
    """Tell whether it has our dimensions and only finite numbers."""
    return (
        len(coordinate.vec) == DIMENSIONS
        and all(map(math.isfinite, coordinate.vec))
        and math.isfinite(coordinate.error)
        and math.isfinite(coordinate.adjustment)
        and math.isfinite(coordinate.height)
    )


class CoordinateClient:
    """One node's place, learnt from round trips to others."""

    def __init__(self, rng: random.Random) -> None:
        """Start at the origin, knowing nothing."""
        self.coordinate = origin()
        self.resets = 0
        self._rng = rng
        self._samples: deque[float] = deque(maxlen=_WINDOW)
        self._latencies: dict[str, tuple[float, ...]] = {}

    def update(self, node: str, other: Coord, rtt_s: float) -> bool:
        """Learn from a round trip; ``False`` if the sample was not usable."""
        if not is_valid(other) or not 0 <= rtt_s <= RTT_MAX_S:
            return False
        rtt = self._filtered(node, rtt_s)
        coordinate = self._vivaldi(self.coordinate, other, rtt)
        coordinate = self._adjusted(coordinate, other, rtt)
        coordinate = self._pulled(coordinate)
        if is_valid(coordinate):
            self.coordinate = coordinate
        else:
            self.reset()
        return True

    def reset(self) -> None:
        """Start again at the origin, and count that."""
        self.resets += 1
        self.coordinate = origin()

    def forget(self, node: str) -> None:
        """Drop what is kept about a node."""
        self._latencies.pop(node, None)

    def _filtered(self, node: str, rtt_s: float) -> float:
        samples = (*self._latencies.get(node, ()), rtt_s)[-_FILTER_SAMPLES:]
        self._latencies[node] = samples
        return sorted(samples)[len(samples) // 2]

    def _vivaldi(self, own: Coord, other: Coord, rtt_s: float) -> Coord:
        distance = round_trip(own, other)
        rtt = max(rtt_s, _ZERO)
        wrongness = abs(distance - rtt) / rtt
        weight = own.error / max(own.error + other.error, _ZERO)
        error = _CE * weight * wrongness + own.error * (1.0 - _CE * weight)
        force = _CC * weight * (rtt - distance)
        return self._pushed(own, other, force, min(_ERROR_MAX, error))

    def _adjusted(self, own: Coord, other: Coord, rtt_s: float) -> Coord:
        raw = math.dist(own.vec, other.vec) + own.height + other.height
        self._samples.append(rtt_s - raw)
        # Slots of the window that are still unused count as zero.
        adjustment = math.fsum(self._samples) / (2.0 * _WINDOW)
        return Coord(
            vec=own.vec, error=own.error, adjustment=adjustment, height=own.height
        )

    def _pulled(self, own: Coord) -> Coord:
        distance = round_trip(_ORIGIN, own)
        force = -1.0 * (distance / _GRAVITY_RHO) ** 2
        return self._pushed(own, _ORIGIN, force, own.error)

    def _pushed(self, own: Coord, other: Coord, force: float, error: float) -> Coord:
        """Move along the line from ``other`` by ``force``."""
        difference = [a - b for a, b in zip(own.vec, other.vec, strict=True)]
        magnitude = math.hypot(*difference)
        height = own.height
        if magnitude > _ZERO:
            unit = [part / magnitude for part in difference]
            lift = (own.height + other.height) * force / magnitude
            height = max(HEIGHT_MIN, lift + own.height)
        else:
            unit = self._random_unit()
        vec = [place + part * force for place, part in zip(own.vec, unit, strict=True)]
        return Coord(vec=vec, error=error, adjustment=own.adjustment, height=height)

    def _random_unit(self) -> list[float]:
        parts = [self._rng.random() - 0.5 for _ in range(DIMENSIONS)]
        magnitude = math.hypot(*parts)
        if magnitude > _ZERO:
            return [part / magnitude for part in parts]
        return [1.0] + [0.0] * (DIMENSIONS - 1)
