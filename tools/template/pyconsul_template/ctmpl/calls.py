"""How a template calls a function: number and types of arguments, errors.

``Function.kinds`` has one letter a parameter: ``s`` string, ``i`` int, ``b`` bool,
``f`` float, ``S`` []string, ``l`` []interface{}, ``m`` a map, ``p`` KV pairs, ``a``
anything.
``?`` after the last means that it may be left out, ``*`` any number of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import Strings, type_name
from pyconsul_template.pending import PENDING
from pyconsul_template.records import Pair

_CLASSES: dict[str, tuple[type, ...]] = {
    "s": (str,),
    "i": (int,),
    "b": (bool,),
    "f": (float,),
    "S": (Strings, tuple),
    "l": (list,),
    "m": (dict,),
    "p": (list, tuple),
    "a": (object,),
}
_EXPECTED = {
    **{"s": "string", "i": "int", "b": "bool", "f": "float64", "S": "[]string"},
    **{"l": "[]interface {}", "m": "map[string]interface {}"},
    "p": "[]*dependency.KeyPair",
}


_ZEROS: dict[str, Callable[[], Any]] = {"S": Strings, "l": list, "m": dict, "p": list}
"""What nil is as an argument of these kinds."""


def _is_of(kind: str, value: Any) -> bool:
    """Return whether a value of one of the kind's classes is of the kind."""
    match kind:
        case "l":
            return not isinstance(value, Strings)
        case "i":
            return value.__class__ is int
        case "p":
            return all(isinstance(item, Pair) for item in value[:1])
        case _:
            return True


class Function(Struct, frozen=True):
    """A function with what it takes."""

    name: str
    apply: Callable[..., Any]
    kinds: str

    def _plain(self) -> tuple[str, int, int | None]:
        """Return the parameters, and the least and greatest number of arguments."""
        last, kinds = self.kinds[-1:], self.kinds.rstrip("?*")
        if last == "*":
            return kinds, len(kinds) - 1, None
        optional = len(self.kinds) - len(kinds)
        return kinds, len(kinds) - optional, len(kinds)

    def wrong_count(self, name: str, count: int) -> str:
        """Return what is wrong with the number of arguments, if anything."""
        _, least, most = self._plain()
        if count < least or (most is not None and count > most):
            at_least = "" if least == most else "at least "
            wanted = f"{at_least}{least if count < least else most}"
            return f"wrong number of args for {name}: want {wanted} got {count}"
        return ""

    def kind(self, number: int) -> str:
        """Return the kind of a parameter."""
        kinds, _, _ = self._plain()
        return kinds[min(number, len(kinds) - 1)] if kinds else "a"

    def constant(self, number: int, value: Any) -> Any:
        """Return a constant as the parameter has it: ``3.0`` for an int is 3."""
        kind = self.kind(number)
        if kind == "i" and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind == "f" and value.__class__ is int:
            return float(value)
        return value


def bound(function: Function, count: int) -> Callable[..., Any]:
    """Return what to call with ``count`` arguments: checked, pending absorbed."""
    kinds = [function.kind(number) for number in range(count)]
    classes = [_CLASSES[kind] for kind in kinds]
    exact = tuple(found[0] for found in classes)
    name, apply = function.name, function.apply
    is_any = all(kind == "a" for kind in kinds)

    def checked(args: tuple[Any, ...]) -> tuple[Any, ...]:
        found: list[Any] = []
        for value, kind, accepted in zip(args, kinds, classes, strict=True):
            if isinstance(value, accepted) and _is_of(kind, value):
                found.append(value)
            elif value is not None:
                raise GoExecError(
                    f"wrong type for value; expected {_EXPECTED[kind]};"
                    f" got {type_name(value)}"
                )
            elif kind in _ZEROS:
                found.append(_ZEROS[kind]())
            else:
                raise GoExecError(f"invalid value; expected {_EXPECTED[kind]}")
        return tuple(found)

    def call_one(value: Any) -> Any:
        # As below, for the most frequent number of arguments.
        if value.__class__ is not wanted_one:
            if value is PENDING:
                return value
            (value,) = checked((value,))
        try:
            return apply(value)
        except Exception as error:
            raise failure(error) from error

    def failure(error: Exception) -> GoExecError:
        text = str(error) or type(error).__name__
        if isinstance(error, RecursionError):
            text = "nested too deeply"
        return GoExecError(f"error calling {name}: {text}")

    def call(*args: Any) -> Any:
        for value in args:
            if value is PENDING:
                return value
        if not is_any:
            for value, wanted in zip(args, exact, strict=True):
                if value.__class__ is not wanted:
                    args = checked(args)
                    break
        try:
            return apply(*args)
        except Exception as error:
            raise failure(error) from error

    if count == 1 and not is_any:
        wanted_one = exact[0]
        return call_one
    return call
