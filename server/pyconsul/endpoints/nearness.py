"""Sorting by the round trip from a node (``agent-behaviour.md`` 7).

The order is stable: what is equally far, or has no coordinate, keeps its place
among its like. The sources are ``Source`` of the requests (``wire-rpc.md`` 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyconsul.state.watch import Read
from pyconsul.types.coordinates import distance
from pyconsul.types.messages import QuerySource

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server


def sort_items(
    server: Server, source: QuerySource, items: list[Any], node: Callable[[Any], str]
) -> list[Any]:
    """Return ``items`` by the distance of ``node(item)`` from the source's node.

    As they were if the source names no node, one without a coordinate, or is in
    another datacenter: coordinates of two datacenters cannot be compared.
    """
    if not source.node or not _is_here(server, source):
        return items
    start = server.state.coordinates_of(source.node)
    if not start:
        return items
    known: dict[str, float] = {}

    def far(item: Any) -> float:
        name = node(item)
        found = known.get(name)
        if found is None:
            there = server.state.coordinates_of(name)
            found = known[name] = distance(start, there, source.segment)
        return found

    return sorted(items, key=far)


def _is_here(server: Server, source: QuerySource) -> bool:
    return source.datacenter in ("", server.options.datacenter)


def _name_of_record(row: Any) -> str:
    return row.record.node


def _name_of_instance(row: Any) -> str:
    return row.record.node.node


def sort_records(server: Server, source: QuerySource, read: Read) -> Read:
    """Sort rows of nodes or checks; the answer then depends on coordinates."""
    return _sorted(server, source, read, _name_of_record)


def sort_instances(server: Server, source: QuerySource, read: Read) -> Read:
    """Sort rows of service instances; the answer then depends on coordinates."""
    return _sorted(server, source, read, _name_of_instance)


def _sorted(
    server: Server, source: QuerySource, read: Read, node: Callable[[Any], str]
) -> Read:
    if source.node:
        read.value = sort_items(server, source, read.value, node)
        # A kept answer goes when the order may change; the index stays.
        read.cells = (*read.cells, *server.state.coordinate_cells())
    return read
