"""``-tree json``: the leaves of a JSON value as keys below its own. Pure."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .sources import Pairs


def flattened(name: str, value: bytes) -> Pairs:
    """Return one pair a leaf of an object or array, in the document's order.

    ``db`` with ``{"hosts": ["a"]}`` gives ``db/hosts/0``. Numbers are as written,
    booleans ``true`` and ``false``; ``null``, empty objects and empty arrays give
    nothing. A value that is neither object nor array, or no JSON, is kept whole.
    """
    if value.lstrip()[:1] not in (b"{", b"["):
        return [(name, value)]
    try:
        root = json.loads(
            value, parse_int=str, parse_float=str, parse_constant=_no_json
        )
    except (ValueError, RecursionError):
        return [(name, value)]
    found: Pairs = []
    # Not by recursion: how deep it goes is the writer's choice.
    waiting: list[tuple[str, Any]] = [(name, root)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict | list):
            waiting += reversed([(f"{path}/{key}", item) for key, item in _items(node)])
        elif isinstance(node, bool):
            found.append((path, b"true" if node else b"false"))
        elif node is not None:
            found.append((path, _clean(node).encode()))
    return found


def _items(node: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(node, list):
        return enumerate(node)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return [(_clean(key), item) for key, item in node.items()]


def _clean(text: str) -> str:
    """Replace halves of surrogate pairs, which no encoding can carry."""
    return text.encode("utf-8", "replace").decode()


def _no_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
