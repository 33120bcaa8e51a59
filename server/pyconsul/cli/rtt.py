"""``rtt``: the estimated round trip between two nodes."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError, WrongUsageError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyconsul.types.coordinates import Coordinate
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

    Segments = dict[str, Coordinate]

_FAILING = "Error getting coordinates"


def _declare(flags: FlagSet) -> None:
    flags.boolean(
        "wan", text="Use the WAN; nodes are servers, as <node name>.<datacenter>."
    )


def _rtt(flags: FlagSet) -> int:
    names = flags.operands
    if not 1 <= len(names) <= 2:
        raise WrongUsageError("One or two node names must be specified")
    wan = flags.switch("wan")
    if wan and any(len(name.split(".")) != 2 for name in names):
        raise CommandError(
            "Node names must be specified as <node name>.<datacenter> with -wan"
        )
    client = AgentClient(flags)
    if len(names) == 1:
        names = [*names, _own_name(client, wan)]
    found = _servers(client) if wan else _nodes(client)
    places = [_place(found, name) for name in names]
    from pyconsul.types.coordinates import distance

    seconds = distance(places[0], places[1])
    if seconds == float("inf"):
        raise CommandError("The nodes have no network segment in common")
    area = "WAN" if wan else "LAN"
    line(
        f"Estimated {names[0]} <-> {names[1]} rtt: {seconds * 1000:.3f} ms "
        f"(using {area} coordinates)"
    )
    return 0


def _place(found: dict[str, Segments], name: str) -> Segments:
    place = found.get(name.lower())
    if place is None:
        raise CommandError(f'Could not find a coordinate for node "{name}"')
    return place


def _own_name(client: AgentClient, wan: bool) -> str:
    failing = "Unable to look up agent info"
    answer = client.get("/v1/agent/self", failing=failing).record() or {}
    config = cast("Record | None", answer.get("Config")) or {}
    name = str(config.get("NodeName"))
    return f"{name}.{config.get('Datacenter')}" if wan else name


def _nodes(client: AgentClient) -> dict[str, Segments]:
    answer = client.get("/v1/coordinate/nodes", failing=_FAILING)
    return _by_name(answer.records(), "")


def _servers(client: AgentClient) -> dict[str, Segments]:
    answer = client.get("/v1/coordinate/datacenters", failing=_FAILING)
    found: dict[str, Segments] = {}
    for area in answer.records():
        if area.get("AreaID") == "wan":
            servers = cast("list[Record] | None", area.get("Coordinates")) or []
            found |= _by_name(servers, f".{area.get('Datacenter')}")
    return found


def _by_name(records: Iterable[Record], suffix: str) -> dict[str, Segments]:
    """Return coordinates by node name (lower case), then segment."""
    from pyconsul.types.coordinates import Coord, Coordinate

    found: dict[str, Segments] = {}
    for record in records:
        held = cast("Record | None", record.get("Coord"))
        if held is None:
            continue
        coord = Coord(
            vec=cast("list[float]", held["Vec"]),
            adjustment=cast("float", held["Adjustment"]),
            height=cast("float", held["Height"]),
        )
        node, segment = str(record["Node"]), str(record.get("Segment") or "")
        place = Coordinate(node=node, segment=segment, coord=coord)
        found.setdefault((node + suffix).lower(), {})[segment] = place
    return found


RTT = Command(
    "Usage: pyconsul rtt [options] node1 [node2]\n\n"
    "  Estimates the round trip between two nodes from their network coordinates.\n"
    "  Without a second node it is the agent's own.\n\n"
    "      $ pyconsul rtt n1 n2\n"
    "      $ pyconsul rtt -wan s1.dc1 s1.dc2",
    _rtt,
    _declare,
)
