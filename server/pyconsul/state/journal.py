"""What all tables share: table indexes, watch cells and the undo journal.

A command that may be refused after it has begun to write (a registration, a
transaction) runs between ``begin`` and ``commit`` or ``rollback``; each write
of a table then leaves how to undo it. Outside of that the journal is ``None``
and costs one test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyconsul.state.watch import Cell, WatchSet
from pyconsul.types.records import Session

Undo = Callable[[], object]


class Journal:
    """Table indexes with the cells and the undo steps of a command."""

    __slots__ = ("cells", "ended", "indexes", "undo", "watch")

    def __init__(self, watch: WatchSet) -> None:
        self.watch = watch
        self.indexes: dict[str, int] = {}
        self.undo: list[Undo] | None = None
        self.ended: list[tuple[Session, Sequence[str]]] = []
        self.cells: dict[str, Cell] = {}

    def index(self, *tables: str) -> int:
        """Return the highest index of these tables, at least 1."""
        indexes = self.indexes
        return max(1, *[indexes.get(table, 0) for table in tables])

    def table_cells(self, *tables: str) -> tuple[Cell, ...]:
        """Return the cells of these tables."""
        return tuple(self._table_cell(table) for table in tables)

    def _table_cell(self, table: str) -> Cell:
        cell = self.cells.get(table)
        if cell is None:
            cell = self.cells[table] = Cell(self.watch.tables, table)
        return cell

    def bump(self, table: str, index: int) -> None:
        """A table was written at ``index``."""
        self.set_index(table, index)
        self.watch.touch(self.watch.tables, table)

    def set_index(self, name: str, index: int) -> None:
        """Write an entry of the index table."""
        if self.undo is not None:
            self.undo.append(_restore(self.indexes, name))
        self.indexes[name] = index

    def drop_index(self, name: str) -> None:
        """Remove an entry of the index table."""
        if name in self.indexes:
            if self.undo is not None:
                self.undo.append(_restore(self.indexes, name))
            del self.indexes[name]

    def begin(self) -> None:
        """Start to keep undo steps."""
        self.undo = []

    def commit(self) -> None:
        """Keep what was written and fire the touched cells."""
        self.undo = None
        self.watch.commit()

    def rollback(self) -> None:
        """Undo what was written since ``begin``."""
        steps = self.undo or []
        self.undo = None
        for step in reversed(steps):
            step()
        self.ended.clear()
        self.watch.rollback()

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Write an entry of a plain table, undoably."""
        if self.undo is not None:
            self.undo.append(_restore(table, key))
        table[key] = value

    def remove(self, table: dict[Any, Any], key: Any) -> None:
        """Remove an entry of a plain table, undoably; it must be there."""
        if self.undo is not None:
            self.undo.append(_restore(table, key))
        del table[key]


def _restore(table: dict[Any, Any], key: Any) -> Undo:
    if key in table:
        old = table[key]

        def put_back() -> None:
            table[key] = old

        return put_back
    return lambda: table.pop(key, None)
