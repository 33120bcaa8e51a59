"""The tree of a Go template. ``at`` is an offset into its text."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Node(Struct):
    """Anything in the tree."""

    at: int


class Literal(Node):
    """A constant; ``text`` is how it is written, ``value`` what it is."""

    text: str
    value: Any


class Nil(Node):
    """``nil``."""


class Dot(Node):
    """``.``."""


class Variable(Node):
    """``$x``; ``slot`` is its number among all of the template, 0 for ``$``."""

    name: str
    slot: int


class Function(Node):
    """A function's name."""

    name: str


class Chain(Node):
    """Fields of a value: ``.a.b``, ``$x.a``, ``(pipe).a``."""

    base: Node
    fields: list[str]


class Command(Node):
    """An operand, or something to call with its arguments."""

    args: list[Node]
    text: str = ""


class Pipe(Node):
    """Commands, each fed with the result of the one before; may set variables."""

    commands: list[Command]
    declared: list[Variable] = field(default_factory=list[Variable])
    declares: bool = True
    """Whether the variables are new here, not set again."""


class Text(Node):
    """Literal output."""

    text: str


class Action(Node):
    """A pipeline whose value is printed, unless it sets variables."""

    pipe: Pipe


class Branch(Node):
    """``if``, ``with`` or ``range``."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node] | None
    chained: bool = False
    """Whether it is an ``else if``."""


class Jump(Node):
    """``break`` or ``continue``."""

    kind: str


class Call(Node):
    """``{{template "name" pipe}}``."""

    name: str
    pipe: Pipe | None


class Tree(Struct):
    """A template file: its own body and those of its definitions."""

    text: str
    body: list[Node]
    definitions: dict[str, list[Node]]
