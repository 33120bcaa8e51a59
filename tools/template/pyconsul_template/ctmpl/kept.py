"""Which loops of a Go template say the same as long as they go through the same list.

The body of such a loop reads its own items alone, so the list a lookup gives is
all its text is made of. A list of records is kept until its data changes, and so
may the text be: after a change of one service among a thousand, one loop runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyconsul_template.ctmpl.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Function,
    Jump,
    Literal,
    Nil,
    Node,
    Pipe,
    Text,
    Variable,
)

LISTS = frozenset(("service", "connect", "services", "nodes", "tree", "safeTree"))
"""Functions that give the same list while their data is the same."""
VALUES = frozenset(
    (
        *("and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index"),
        *("slice", "print", "println", "printf", "html", "js", "urlquery"),
        *("split", "join", "trim", "trimPrefix", "trimSuffix", "trimSpace"),
        *("toLower", "toUpper", "toTitle", "replaceAll", "regexMatch"),
        *("regexReplaceAll", "indent", "base64Encode", "base64Decode"),
        *("contains", "in", "containsAll", "containsAny", "containsNone"),
        *("containsNotAll", "add", "subtract", "multiply", "divide", "modulo"),
        *("parseBool", "parseInt", "parseFloat", "sha256Hex", "md5sum"),
    )
)
"""Functions whose value is made of their arguments alone."""

Kept = dict[Any, tuple[Any, str, int]]
"""A loop's texts by what the lookup was asked, each with its list and the turns of
the loops in it."""
KEPT_MAX = 16_384
"""Lists of one loop; over it, all are forgotten."""


def keep(kept: Kept, key: Any, items: Any, parts: Iterable[str], turns: int) -> str:
    """Return the text of parts, kept as that of a list."""
    text = "".join(parts)
    if items.__class__ is list:
        if len(kept) >= KEPT_MAX:
            kept.clear()
        kept[key] = items, text, turns
    return text


def asked(node: Branch) -> Command | None:
    """Return the lookup that a loop goes through if its text can be kept."""
    if node.kind != "range" or len(node.pipe.commands) != 1:
        return None
    command = node.pipe.commands[0]
    first, *rest = command.args
    is_list = isinstance(first, Function) and first.name in LISTS
    # Two variables: the numbers would have to be counted all the same.
    if not is_list or len(node.pipe.declared) > 1:
        return None
    if any(isinstance(argument, Pipe | Function | Nil) for argument in rest):
        return None
    own = {variable.slot for variable in node.pipe.declared}
    is_own = node.pipe.declares and _nodes(node.body, own)
    return command if is_own else None


def has_loop(nodes: list[Node]) -> bool:
    """Whether there is a loop in a body."""
    return any(
        node.kind == "range" or has_loop([*node.body, *(node.otherwise or ())])
        for node in nodes
        if isinstance(node, Branch)
    )


def _nodes(nodes: list[Node], own: set[int]) -> bool:
    """Whether a body is made of its dot and own variables; finds more of these."""
    return all(_node(node, own) for node in nodes)


def _node(node: Node, own: set[int]) -> bool:
    match node:
        case Text() | Jump():
            return True
        case Action():
            return _pipe(node.pipe, own)
        case Branch():
            return (
                _pipe(node.pipe, own)
                and _nodes(node.body, own)
                and _nodes(node.otherwise or [], own)
            )
        case Call():
            return False
        case _:
            raise AssertionError(type(node))


def _pipe(pipe: Pipe, own: set[int]) -> bool:
    if not all(_command(command, own) for command in pipe.commands):
        return False
    if pipe.declares:
        own.update(variable.slot for variable in pipe.declared)
    return all(variable.slot in own for variable in pipe.declared)


def _command(command: Command, own: set[int]) -> bool:
    first, *rest = command.args
    if isinstance(first, Chain) and rest:
        return False  # A method.
    return all(_value(node, own) for node in command.args)


def _value(node: Node, own: set[int]) -> bool:
    match node:
        case Literal() | Nil() | Dot():
            return True
        case Variable():
            return node.slot in own
        case Function():
            return node.name in VALUES
        case Chain():
            return _value(node.base, own)
        case Pipe():
            return _pipe(node, own)
        case _:
            raise AssertionError(type(node))
