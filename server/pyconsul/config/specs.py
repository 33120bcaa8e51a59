"""Types of configuration keys, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf; ``name`` is the Go type shown in errors."""

    name: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; a single value is refused."""

    item: Spec


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with free keys."""

    item: Spec


@dataclass(frozen=True, slots=True)
class Obj:
    """An object with known keys; ``aliases`` maps other spellings."""

    fields: Mapping[str, Spec]
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opaque:
    """Anything; lists of one object, as HCL reads its blocks, become objects."""


Spec = Scalar | ListOf | MapOf | Obj | Opaque

S = Scalar("string")
I = Scalar("int")  # noqa: E741 - one letter a type keeps the tables readable
B = Scalar("bool")
F = Scalar("float64")
ANY = Opaque()
LS = ListOf(S)
MS = MapOf(S)


def obj(aliases: Mapping[str, str] | None = None, **fields: Spec) -> Obj:
    """Return an object of ``fields``."""
    return Obj(fields, aliases or {})
