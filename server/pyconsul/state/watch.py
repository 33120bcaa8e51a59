"""Watch cells: who waits for what, and how a write finds them.

A read returns the cells it touched. Nothing is kept for a cell until somebody
subscribes to it, so a read costs two small objects and a write costs one dict
probe for each cell it touches. Touches made while a command is applied are
collected and fire together at ``commit``, when the state is whole again; a
rolled-back command fires nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Waiter(Protocol):
    """Who waits: ``fire`` is called once per commit that touched its cells."""

    def fire(self) -> None:
        """Something you read has changed."""
        ...


class Read:
    """A read's value, the index to block on (at least 1) and the cells touched.

    ``keeps`` is whether no other index is due before a cell fires: of what does
    not exist, the index is often that of a table, which moves unheard.
    """

    __slots__ = ("cells", "index", "keeps", "value")

    def __init__(
        self, value: Any, index: int, cells: tuple[Cell, ...], *, keeps: bool = True
    ) -> None:
        self.value = value
        self.index = index
        self.cells = cells
        self.keeps = keeps

    def __repr__(self) -> str:
        return f"Read({self.value!r}, index={self.index})"


class Space:
    """Cells of one kind (keys, services, tables ...) by name."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[str, dict[Waiter, None]] = {}

    def add(self, name: str, waiter: Waiter) -> None:
        """Let ``waiter`` wait on cell ``name``; twice is the same as once."""
        self.waiting.setdefault(name, {})[waiter] = None

    def remove(self, name: str, waiter: Waiter) -> None:
        """Forget ``waiter``; unknown waiters are ignored."""
        waiters = self.waiting.get(name)
        if waiters is not None:
            waiters.pop(waiter, None)
            if not waiters:
                self.take(name)

    def take(self, name: str) -> Iterable[Waiter]:
        """Drop the cell and return who waited on it."""
        return self.waiting.pop(name, ())


class PrefixSpace(Space):
    """Cells by key prefix; a key probes each distinct length in use once."""

    __slots__ = ("lengths",)

    def __init__(self) -> None:
        super().__init__()
        self.lengths: dict[int, int] = {}

    def add(self, name: str, waiter: Waiter) -> None:
        """Let ``waiter`` wait on every key that starts with ``name``."""
        if name not in self.waiting:
            size = len(name)
            self.lengths[size] = self.lengths.get(size, 0) + 1
        super().add(name, waiter)

    def take(self, name: str) -> Iterable[Waiter]:
        """Drop the cell and return who waited on it."""
        if name in self.waiting:
            size = len(name)
            left = self.lengths[size] - 1
            if left:
                self.lengths[size] = left
            else:
                del self.lengths[size]
        return super().take(name)


class Cell:
    """A handle on one name of a space; equal handles are interchangeable."""

    __slots__ = ("name", "space")

    def __init__(self, space: Space, name: str) -> None:
        self.space = space
        self.name = name

    def subscribe(self, waiter: Waiter) -> None:
        """Call ``waiter.fire()`` once at the next change, then forget it."""
        self.space.add(self.name, waiter)

    def unsubscribe(self, waiter: Waiter) -> None:
        """Forget ``waiter``; the cell vanishes with its last waiter."""
        self.space.remove(self.name, waiter)

    def __repr__(self) -> str:
        return f"Cell({self.name!r})"


class WatchSet:
    """All cells of a state store."""

    __slots__ = ("connect", "keys", "prefixes", "services", "tables", "touched")

    def __init__(self) -> None:
        self.keys = Space()
        self.prefixes = PrefixSpace()
        self.services = Space()
        self.connect = Space()
        self.tables = Space()
        self.touched: list[tuple[Space, str]] = []

    def touch_key(self, key: str) -> None:
        """A KV entry was written or deleted."""
        if key in self.keys.waiting:
            self.touched.append((self.keys, key))
        prefixes = self.prefixes
        if prefixes.waiting:
            for size in prefixes.lengths:
                prefix = key[:size]
                if len(prefix) == size and prefix in prefixes.waiting:
                    self.touched.append((prefixes, prefix))

    def touch(self, space: Space, name: str) -> None:
        """The thing behind a cell has changed."""
        if name in space.waiting:
            self.touched.append((space, name))

    def commit(self) -> None:
        """Fire everybody whose cells were touched, each once."""
        touched = self.touched
        if not touched:
            return
        self.touched = []
        waiters: dict[Waiter, None] = {}
        for space, name in touched:
            waiters.update(dict.fromkeys(space.take(name)))
        for waiter in waiters:
            waiter.fire()

    def rollback(self) -> None:
        """Forget what was touched: nothing has changed after all."""
        self.touched.clear()

    def fire_all(self) -> None:
        """Fire every waiter of every cell: the whole state was replaced."""
        spaces = (self.keys, self.prefixes, self.services, self.connect, self.tables)
        self.touched = [(space, name) for space in spaces for name in space.waiting]
        self.commit()
