from __future__ import annotations

import pytest
from state_help import Counter, Log, image

from pyconsul.state import commands
from pyconsul.state.store import StateStore
from pyconsul.types.coordinates import (
    Coord,
    Coordinate,
    distance,
    origin,
    round_trip,
)
from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import unpack

# A command as a Consul server wrote it.
REAL = bytes.fromhex(
    "869183a5436f6f726484aa41646a7573746d656e74cb3f1ad6da8aae4135a54572726f72cb3fe54e"
    "7d6d91ebaaa6486569676874cb3f1f2e0219ac067da356656398cbbef3785cf4d964e2cb3f302aef"
    "c5a6a241cbbf21fdb12140542bcbbebefbafc34e70e6cb3f28eaf4901f03a0cb3f2b3604861f4aa1"
    "cb3f161ea4fdf284f6cbbf21f021fb2a9ed1a44e6f6465a27231a75365676d656e74a0"
)


def at(x: float, **fields: float) -> Coord:
    return Coord(vec=[x] + [0.0] * 7, error=1.5, height=1e-5, **fields)


def update(log: Log, *found: Coordinate) -> None:
    log.apply(commands.encode_coordinates(found))


def test_a_real_command_is_read_and_written_byte_for_byte():
    batch = commands.decode_coordinates(unpack(REAL[1:]))
    assert [found.node for found in batch] == ["r1"]
    assert commands.encode_coordinates(batch) == REAL
    log = Log()
    log.register("R1")
    log.apply(REAL)
    (held,) = log.store.coordinates("r1").value
    assert held.coord.error == 0.6658312931098085


def test_the_latest_of_each_segment_is_kept_and_strangers_are_dropped():
    log = Log()
    log.register("n1")
    waiter = Counter(log.store.coordinates())
    update(
        log,
        Coordinate(node="n1", coord=at(1)),
        Coordinate(node="n1", segment="b", coord=at(2)),
        Coordinate(node="stranger", coord=at(3)),
    )
    assert waiter.fired == 1
    update(log, Coordinate(node="n1", coord=at(4)))
    read = log.store.coordinates()
    assert [(c.segment, c.coord.vec[0]) for c in read.value] == [("", 4), ("b", 2)]
    assert read.index == log.index
    assert log.store.coordinates("absent").value == []


def test_a_nodes_coordinates_go_with_it():
    log = Log()
    log.register("n1")
    update(log, Coordinate(node="n1", coord=at(1)))
    log.deregister("n1")
    assert log.store.coordinates().value == []
    assert log.store.coordinates().index == log.index


def test_coordinates_survive_a_snapshot():
    log = Log()
    log.register("n1")
    update(log, Coordinate(node="n1", coord=at(1.25)))
    state = image(log.store)
    store = StateStore()
    store.restore([state])
    assert store.coordinates("n1").value == log.store.coordinates("n1").value
    assert store.coordinates().index == log.store.coordinates().index
    assert image(store) == state


def test_a_malformed_batch_is_refused():
    refused = Log().apply(bytes((commands.COORDINATES,)) + b"\x80")
    assert isinstance(refused, CommandError)


def test_round_trip_is_symmetric_and_never_negative_by_adjustment():
    assert round_trip(at(0.5), at(1.0)) == round_trip(at(1.0), at(0.5))
    assert round_trip(at(0.5), at(1.0)) == pytest.approx(0.50002)
    pulled = at(1.0, adjustment=-9.0)
    assert round_trip(at(0.5), pulled) == pytest.approx(0.50002)
    assert round_trip(origin(), origin()) == 2e-5


def places(**found: float) -> dict[str, Coordinate]:
    """Coordinates by segment; ``default`` is the one without a name."""
    named = {name.replace("default", ""): at(x) for name, x in found.items()}
    return {
        name: Coordinate(segment=name, coord=coord) for name, coord in named.items()
    }


def test_distances_are_taken_in_a_common_segment():
    server = places(default=0.0, alpha=1.0, beta=2.0)
    assert distance(places(alpha=4.0), server) == pytest.approx(3.00002)
    assert distance(server, places(alpha=4.0)) == pytest.approx(3.00002)
    assert distance(places(beta=4.0), places(alpha=4.0)) == float("inf")
    assert distance(places(default=4.0), {}) == float("inf")
    other = places(default=10.0, alpha=10.0, beta=10.0)
    assert distance(server, other) == pytest.approx(10.00002)
    assert distance(server, other, "beta") == pytest.approx(8.00002)
    assert distance(server, other, "nowhere") == pytest.approx(10.00002)
    del server[""]
    assert distance(server, other) == pytest.approx(9.00002)
