"""What nodes answered to a job, and what that sums up to. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ORDER = {"ack": 0, "exit": 2}


class Answer:
    """One key a node wrote; ``kind`` is ``ack``, ``out`` or ``exit``."""

    __slots__ = ("code", "data", "kind", "node")

    def __init__(self, node: str, kind: str, data: bytes = b"", code: int = 0) -> None:
        self.node = node
        self.kind = kind
        self.data = data
        """Output; an empty chunk is a sign of life."""
        self.code = code

    @classmethod
    def parse(cls, node: str, name: str, data: bytes) -> Answer | None:
        """Return the answer in key ``<node>/<name>``, ``None`` for a foreign key."""
        if not node:
            return None
        if name == "ack":
            return cls(node, "ack")
        if name == "exit":
            try:
                return cls(node, "exit", code=int(data[:16]))
            except ValueError:
                # Somebody else's idea of a status: not a success.
                return cls(node, "exit", code=1)
        if name.startswith("out/"):
            return cls(node, "out", data)
        return None


def by_node(keys: Iterable[str]) -> list[str]:
    """Return the keys so that every node's ack comes first and its exit last."""

    def place(key: str) -> tuple[str, int, str]:
        parts = key.split("/")
        below, last = key.rpartition("/")[0], parts[-1]
        if last in _ORDER:
            return below + "/", _ORDER[last], key
        return below.removesuffix("out"), 1, key

    return sorted(keys, key=place)


class Results:
    """Who acknowledged, who finished, and whether all went well."""

    def __init__(self) -> None:
        self.acked: set[str] = set()
        self.exited: set[str] = set()
        self._bad = False

    def note(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.kind == "ack":
            self.acked.add(answer.node)
        elif answer.kind == "exit":
            self.exited.add(answer.node)
            self._bad = self._bad or answer.code != 0

    @property
    def unfinished(self) -> set[str]:
        """Nodes that run the command still, as far as is known."""
        return self.acked - self.exited

    def complete(self, expected: frozenset[str]) -> bool:
        """Say whether all that is to come has: ``expected`` nodes, none if unknown."""
        return bool(expected) and self.exited >= expected and not self.unfinished

    @property
    def failed(self) -> bool:
        """Whether a command failed, or did not end."""
        return self._bad or bool(self.unfinished)
