"""``rtt`` against an agent that answers from a table."""

from __future__ import annotations

from typing import Any

import pytest


def place(node: str, x: float, segment: str = "") -> dict[str, Any]:
    coord = {"Vec": [x] + [0] * 7, "Error": 1.5, "Adjustment": 0, "Height": 1e-5}
    return {"Node": node, "Segment": segment, "Coord": coord}


@pytest.fixture
def places(agent: Any) -> Any:
    agent.answer(
        "GET /v1/coordinate/nodes",
        [
            place("n1", 0),
            place("n2", 0.0125),
            place("n2", 0.5, "x"),
            place("n3", 0.75, "x"),
            {"Node": "n4", "Segment": "", "Coord": None},
        ],
    )
    agent.answer(
        "GET /v1/coordinate/datacenters",
        [
            {"Datacenter": "dc1", "AreaID": "wan", "Coordinates": [place("s1", 0)]},
            {"Datacenter": "dc2", "AreaID": "wan", "Coordinates": [place("s1", 0.1)]},
            {"Datacenter": "dc3", "AreaID": "other", "Coordinates": [place("s1", 0)]},
            {"Datacenter": "dc4", "AreaID": "wan", "Coordinates": None},
        ],
    )
    config = {"NodeName": "s1", "Datacenter": "dc1"}
    agent.answer("GET /v1/agent/self", {"Config": config})
    return agent


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["n1", "n2"], "n1 <-> n2 rtt: 12.520 ms (using LAN"),
        (["N1", "n2"], "N1 <-> n2 rtt: 12.520 ms (using LAN"),
        (["n2", "n3"], "n2 <-> n3 rtt: 250.020 ms (using LAN"),
        (["-wan", "s1.dc2", "s1.dc1"], "s1.dc2 <-> s1.dc1 rtt: 100.020 ms (using WAN"),
        (["-wan", "s1.dc2"], "s1.dc2 <-> s1.dc1 rtt: 100.020 ms (using WAN"),
    ],
)
def test_estimates(places: Any, run: Any, words: list[str], text: str) -> None:
    assert run("rtt", *words) == (0, f"Estimated {text} coordinates)\n", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["n1", "nope"], 'Could not find a coordinate for node "nope"'),
        (["n1", "n4"], 'Could not find a coordinate for node "n4"'),
        (["n1"], 'Could not find a coordinate for node "s1"'),
        (["n1", "n3"], "The nodes have no network segment in common"),
        (["-wan", "s1.dc2", "s1.dc3"], "Could not find a coordinate for node"),
        (["-wan", "s1"], "Node names must be specified as <node name>.<datacenter>"),
        ([], "One or two node names must be specified\n\nUsage: pyconsul rtt"),
        (["a", "b", "c"], "One or two node names must be specified\n\nUsage:"),
    ],
)
def test_what_cannot_be_estimated(
    places: Any, run: Any, words: list[str], text: str
) -> None:
    status, out, err = run("rtt", *words)
    assert (status, out) == (1, "")
    assert err.startswith(text)


def test_an_agent_without_coordinates_is_told(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/coordinate/nodes", b"Coordinate support disabled", 401)
    assert run("rtt", "a", "b") == (
        1,
        "",
        "Error getting coordinates: Unexpected response code: 401 "
        "(Coordinate support disabled)\n",
    )
