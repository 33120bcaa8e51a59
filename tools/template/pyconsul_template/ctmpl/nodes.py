"""The tree of a Go template. ``at`` is an offset into its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Node:
    """Anything in the tree."""

    at: int


@dataclass(slots=True)
class Literal(Node):
    """A constant; ``text`` is how it is written, ``value`` what it is."""

    text: str
    value: Any


@dataclass(slots=True)
class Nil(Node):
    """``nil``."""


@dataclass(slots=True)
class Dot(Node):
    """``.``."""


@dataclass(slots=True)
class Variable(Node):
    """``$x``; ``slot`` is its number among all of the template, 0 for ``$``."""

    name: str
    slot: int


@dataclass(slots=True)
class Function(Node):
    """A function's name."""

    name: str


@dataclass(slots=True)
class Chain(Node):
    """Fields of a value: ``.a.b``, ``$x.a``, ``(pipe).a``."""

    base: Node
    fields: list[str]


@dataclass(slots=True)
class Command(Node):
    """An operand, or something to call with its arguments."""

    args: list[Node]
    text: str = ""


@dataclass(slots=True)
class Pipe(Node):
    """Commands, each fed with the result of the one before; may set variables."""

    commands: list[Command]
    declared: list[Variable] = field(default_factory=list[Variable])


@dataclass(slots=True)
class Text(Node):
    """Literal output."""

    text: str


@dataclass(slots=True)
class Action(Node):
    """A pipeline whose value is printed, unless it sets variables."""

    pipe: Pipe


@dataclass(slots=True)
class Branch(Node):
    """``if``, ``with`` or ``range``."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node] | None
    chained: bool = False
    """Whether it is an ``else if``."""


@dataclass(slots=True)
class Jump(Node):
    """``break`` or ``continue``."""

    kind: str


@dataclass(slots=True)
class Call(Node):
    """``{{template "name" pipe}}``."""

    name: str
    pipe: Pipe | None


@dataclass(slots=True)
class Tree:
    """A template file: its own body and those of its definitions."""

    text: str
    body: list[Node]
    definitions: dict[str, list[Node]]
