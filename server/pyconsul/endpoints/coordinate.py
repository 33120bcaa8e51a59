"""Coordinate: where nodes are on the network (part 2 of the reference, 5).

Updates are gathered and written in batches, so that a large cluster costs few
log entries: the latest of each node and segment, up to ``_PER_PERIOD`` a period.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Future
from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.serf.member import Status
from pyconsul.state import commands
from pyconsul.state.watch import Read
from pyconsul.types.coordinates import (
    DIMENSIONS,
    Coord,
    Coordinate,
    CoordinateUpdateRequest,
    origin,
)
from pyconsul.types.errors import BadRequestError, ConsulError, PermissionDeniedError
from pyconsul.types.messages import (
    DCSpecificRequest,
    EmptyRequest,
    NodeSpecificRequest,
    Reply,
)

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server, WriteHandler

_log = logging.getLogger("server.coordinate")
BATCH = 128
_PER_PERIOD = 5 * BATCH
_LIMIT = 1 << 16
"""Updates held between two writes; further nodes are dropped until then."""


class CoordinateBatches:
    """Updates waiting for the next write, and its timer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: dict[tuple[str, str], Coordinate] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, update: Coordinate) -> None:
        """Take an update; it replaces an older one of the node and segment."""
        key = (update.node.lower(), update.segment)
        if key in self._waiting or len(self._waiting) < _LIMIT:
            self._waiting[key] = update
        if self._timer is None:
            period = self._server.options.coordinate_period_s
            self._timer = asyncio.get_running_loop().call_later(period, self._flush)

    def _flush(self) -> None:
        self._timer = None
        updates, self._waiting = list(self._waiting.values()), {}
        if len(updates) > _PER_PERIOD:
            dropped = len(updates) - _PER_PERIOD
            _log.warning("Discarded coordinate updates: number_discarded=%d", dropped)
        for at in range(0, min(len(updates), _PER_PERIOD), BATCH):
            batch = updates[at : min(at + BATCH, _PER_PERIOD)]
            command = commands.encode_coordinates(batch)
            self._server.log.propose(command).add_done_callback(_written)

    def stop(self) -> None:
        """Forget what waits: this server no longer leads."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _written(done: Future[object]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is not None:
        _log.warning('Batch update failed: error="%s"', error)


def update(server: Server, args: CoordinateUpdateRequest, who: Authorizer) -> Reply:
    """``Coordinate.Update``: ``True`` at once, written with the next batch."""
    coord = args.coord
    if coord is None:
        raise BadRequestError("Must provide Coord")
    if len(coord.vec) != DIMENSIONS:
        raise ConsulError("incompatible coordinate")
    if not all(map(math.isfinite, _numbers(coord))):
        raise ConsulError("invalid coordinate")
    if not who.node_write(args.node):
        raise PermissionDeniedError
    server.coordinates.add(
        Coordinate(node=args.node, segment=args.segment, coord=coord)
    )
    return Reply(True)


def _numbers(coord: Coord) -> list[float]:
    return [*coord.vec, coord.error, coord.adjustment, coord.height]


def _visible(read: Read, who: Authorizer) -> Read:
    if not who.allows_all:
        read.value = [found for found in read.value if who.node_read(found.node)]
    return read


def list_nodes(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``Coordinate.ListNodes``: ``list[Coordinate]`` by node, then segment."""
    return _visible(server.state.coordinates(), who)


def node(server: Server, args: NodeSpecificRequest, who: Authorizer) -> Read:
    """``Coordinate.Node``: ``list[Coordinate]``, one a segment."""
    return _visible(server.state.coordinates(args.node), who)


def list_datacenters(server: Server, args: EmptyRequest, who: Authorizer) -> Reply:
    """``Coordinate.ListDatacenters``: ``list[(datacenter, list[Coordinate])]``.

    The servers on the WAN that were measured, by name; a server without that pool
    is alone, at the origin.
    """
    options, wan = server.options, server.cluster.wan
    if wan is None:
        alone = Coordinate(node=options.node_name, coord=origin())
        return Reply([(options.datacenter, [alone])])
    found: dict[str, list[Coordinate]] = {}
    for member in sorted(wan.members(), key=lambda member: member.name):
        coord = wan.coordinate_of(member.name)
        if coord is None or member.status is not Status.ALIVE:
            continue
        datacenter = member.tags.get("dc", "")
        short = member.name.removesuffix(f".{datacenter}")
        servers = found.setdefault(datacenter, [])
        servers.append(Coordinate(node=short, coord=coord))
    return Reply(sorted(found.items()))


READS: dict[str, ReadHandler] = {
    "Coordinate.ListNodes": list_nodes,
    "Coordinate.Node": node,
}
WRITES: dict[str, WriteHandler] = {"Coordinate.Update": update}
LOCAL: dict[str, WriteHandler] = {"Coordinate.ListDatacenters": list_datacenters}
