"""``/v1/coordinate/`` (part 2 of the reference, section 5)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import STRING, Kind, Shape, build, decode, list_of
from pyconsul.http.decoding import DecodeError as _DecodeError
from pyconsul.http.encoding import json_response
from pyconsul.http.params import read, read_options, token_of, value_view
from pyconsul.http.routing import (
    Answer,
    Handler,
    Request,
    Response,
    Routes,
    text_response,
    then,
)
from pyconsul.types.coordinates import Coord, Coordinate, CoordinateUpdateRequest
from pyconsul.types.messages import (
    DCSpecificRequest,
    EmptyRequest,
    NodeSpecificRequest,
    Reply,
)


def _float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _DecodeError(
            f"json: cannot unmarshal value into Go struct field {where} of type float64"
        )
    try:
        return float(value)
    except OverflowError:
        raise _DecodeError(f"json: number too large in field {where}") from None


_FLOAT: Kind = _float
_UPDATE = Shape(
    {
        "Datacenter": STRING,
        "Node": STRING,
        "Segment": STRING,
        "Coord": Shape(
            {
                "Vec": list_of(_FLOAT),
                "Error": _FLOAT,
                "Adjustment": _FLOAT,
                "Height": _FLOAT,
            }
        ),
    }
)


def add_routes(routes: Routes, *, disabled: bool = False) -> None:
    """Add the coordinate routes; ``disabled`` ones answer 401."""

    def gate(handler: Handler) -> Handler:
        return _refuse if disabled else handler

    routes.add("coordinate/datacenters", GET=gate(datacenters))
    routes.add("coordinate/nodes", GET=gate(nodes))
    routes.add("coordinate/node/", GET=gate(node))
    routes.add("coordinate/update", PUT=gate(update))


def _refuse(request: Request) -> Answer:
    return text_response(401, "Coordinate support disabled")


def _coord(coord: Coord | None) -> dict[str, Any] | None:
    if coord is None:
        return None
    return {
        "Vec": coord.vec,
        "Error": coord.error,
        "Adjustment": coord.adjustment,
        "Height": coord.height,
    }


def _view(found: Coordinate) -> dict[str, Any]:
    return {
        "Node": found.node,
        "Segment": found.segment,
        "Coord": _coord(found.coord),
    }


def _of_segment(request: Request, found: list[Coordinate]) -> list[dict[str, Any]]:
    if "segment" in request.query:
        segment = request.query.get("segment")
        found = [one for one in found if one.segment == segment]
    return [_view(one) for one in found]


def datacenters(request: Request) -> Answer:
    """Return the servers of each datacenter on the WAN; never blocks."""

    def view(reply: Reply) -> Response:
        found: list[tuple[str, list[Coordinate]]] = reply.value
        return json_response(
            request,
            [
                {
                    "Datacenter": name,
                    "AreaID": "wan",
                    "Coordinates": [_view(one) for one in servers],
                }
                for name, servers in found
            ],
        )

    args = EmptyRequest(token=token_of(request))
    return then(request.face.caller.call("Coordinate.ListDatacenters", args), view)


def nodes(request: Request) -> Answer:
    """Return the coordinates of all nodes, or of a segment's."""

    def convert(found: list[Coordinate]) -> list[dict[str, Any]]:
        return _of_segment(request, found)

    args = DCSpecificRequest(**read_options(request))
    return read(request, "Coordinate.ListNodes", args, value_view(convert))


def node(request: Request) -> Answer:
    """Return a node's coordinates; 404 when it has none."""

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        found = _of_segment(request, reply.value)
        if not found:
            return Response(404, headers=headers)
        return json_response(request, found, headers)

    args = NodeSpecificRequest(node=request.argument, **read_options(request))
    return read(request, "Coordinate.Node", args, view)


def update(request: Request) -> Answer:
    """Take a node's coordinate; an empty answer."""
    fields = decode(request.body, _UPDATE)
    fields["Datacenter"] = fields.get("Datacenter") or request.query.get("dc")
    fields["Token"] = token_of(request)
    args = build(fields, CoordinateUpdateRequest)
    return then(
        request.face.caller.call("Coordinate.Update", args), lambda _: Response(200)
    )
