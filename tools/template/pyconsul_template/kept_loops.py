"""Which loops of a Jinja2 template say the same while they go through the same list.

The body of such a loop reads its own items alone. A list of records is the same
object until its data changes, and so long is the text; after a change of one
service among a thousand, one loop runs. ``ctmpl/kept.py`` has it for Go's language.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2 import nodes

LISTS = frozenset(
    ("service", "connect", "services", "nodes", "tree", "safe_tree", "safeTree")
)
"""Functions that give the same list while their data is the same."""
FILTERS = frozenset(
    (
        *("upper", "lower", "title", "trim", "replace", "join", "length", "sort"),
        *("default", "first", "last", "int", "float", "string", "list", "unique"),
        *("indent", "abs", "round", "capitalize", "tojson", "dictsort"),
    )
)
"""Filters of Jinja2 itself whose value is made of their arguments alone."""
PURE: tuple[type[nodes.Node], ...] = (
    *(nodes.Output, nodes.If, nodes.TemplateData, nodes.Const, nodes.Getattr),
    *(nodes.Getitem, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Concat, nodes.CondExpr, nodes.Add, nodes.Sub, nodes.Mul),
)
KEPT_MAX = 16_384
"""Lists of one template; over it, all are forgotten."""


class KeptTexts(dict[Any, tuple[Any, str]]):
    """The texts of a template's loops, each with the list it was made of."""

    def keep(self, key: Any, items: Any, parts: Iterable[str]) -> str:
        """Return the text of parts, kept as that of a list."""
        text = "".join(parts)
        if items.__class__ is list:
            if len(self) >= KEPT_MAX:
                self.clear()
            self[key] = items, text
        return text


def lookup(node: nodes.For) -> nodes.Call | None:
    """Return the lookup that a loop goes through if its text can be kept."""
    called, target = node.iter, node.target
    if node.recursive or node.test is not None or node.else_:
        return None
    if not (isinstance(called, nodes.Call) and isinstance(called.node, nodes.Name)):
        return None
    if called.node.name not in LISTS or not isinstance(target, nodes.Name):
        return None
    if called.kwargs or called.dyn_args is not None or called.dyn_kwargs is not None:
        return None
    if any(
        isinstance(argument, nodes.Call) or argument.find(nodes.Call) is not None
        for argument in called.args
    ):
        return None
    return called if all(_is_pure(part, target.name) for part in node.body) else None


def _is_pure(node: nodes.Node, item: str) -> bool:
    if isinstance(node, nodes.Name):
        return node.name == item and node.ctx == "load"
    is_known = isinstance(node, PURE)
    if isinstance(node, nodes.Filter):
        is_known = node.name in FILTERS
    return is_known and all(_is_pure(part, item) for part in node.iter_child_nodes())
