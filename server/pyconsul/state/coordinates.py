"""The table of network coordinates; index ``coordinates``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pyconsul.state.journal import Journal
from pyconsul.state.watch import Cell, Read
from pyconsul.types.coordinates import Coordinate

_INDEX = "coordinates"
_NONE: Mapping[str, Coordinate] = {}


class CoordinateTable:
    """Coordinates by node (lower case), then segment."""

    __slots__ = ("_has_node", "_journal", "rows")

    def __init__(self, journal: Journal, has_node: Callable[[str], bool]) -> None:
        self._journal = journal
        self._has_node = has_node
        self.rows: dict[str, dict[str, Coordinate]] = {}

    def update(self, index: int, batch: Iterable[Coordinate]) -> None:
        """Write a batch; coordinates of unknown nodes are dropped."""
        for found in batch:
            if self._has_node(found.node) and found.coord is not None:
                key = found.node.lower()
                held = {**self.rows.get(key, {}), found.segment: found}
                self._journal.put(self.rows, key, held)
        self._journal.bump(_INDEX, index)

    def node_gone(self, index: int, node: str) -> None:
        """Drop what belongs to a deregistered node."""
        key = node.lower()
        if key in self.rows:
            self._journal.remove(self.rows, key)
            self._journal.bump(_INDEX, index)

    def load(self, found: Coordinate) -> None:
        """Put a restored coordinate."""
        self.rows.setdefault(found.node.lower(), {})[found.segment] = found

    def all(self) -> list[Coordinate]:
        """Return every coordinate by node, then segment."""
        return [
            segments[segment]
            for _, segments in sorted(self.rows.items())
            for segment in sorted(segments)
        ]

    def of_node(self, node: str) -> Mapping[str, Coordinate]:
        """Return a node's coordinates by segment."""
        return self.rows.get(node.lower(), _NONE)

    def cells(self) -> tuple[Cell, ...]:
        """Return what fires when any coordinate changes."""
        return self._journal.table_cells(_INDEX)

    def list(self, node: str | None) -> Read:
        """Return all coordinates, or a node's."""
        if node is None:
            value = self.all()
        else:
            segments = self.rows.get(node.lower(), {})
            value = [segments[segment] for segment in sorted(segments)]
        journal = self._journal
        return Read(value, journal.index(_INDEX), journal.table_cells(_INDEX))
