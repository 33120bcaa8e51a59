"""Methods that templates may call: those of ``scratch`` and of tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import keys_sorted, printed, type_name
from pyconsul_template.pending import PENDING


class Scratch:
    """Values a template keeps while it runs; setters print nothing."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"&{{{{{{0 0}} 0 0 0 0}} {printed(self.values)}}}"

    def has(self, key: str) -> bool:
        """Return whether ``key`` was set: ``scratch.Key``."""
        return key in self.values

    def get(self, key: str) -> Any:
        """Return a value, nil when there is none: ``scratch.Get``."""
        return self.values.get(key)

    def set(self, key: str, value: Any) -> str:
        """Set a value: ``scratch.Set``."""
        self.values[key] = value
        return ""

    def set_new(self, key: str, value: Any) -> str:
        """Set a value unless there is one: ``scratch.SetX``."""
        self.values.setdefault(key, value)
        return ""

    def map_set(self, key: str, name: str, value: Any) -> str:
        """Set a value in a map: ``scratch.MapSet``."""
        self._map(key)[name] = value
        return ""

    def map_set_new(self, key: str, name: str, value: Any) -> str:
        """Set a value in a map unless there is one: ``scratch.MapSetX``."""
        self._map(key).setdefault(name, value)
        return ""

    def map_values(self, key: str) -> list[Any]:
        """Return a map's values by their sorted names: ``scratch.MapValues``."""
        found = self._map(key)
        return [found[name] for name in keys_sorted(found)]

    def _map(self, key: str) -> dict[str, Any]:
        found = self.values.setdefault(key, {})
        if not isinstance(found, dict):
            raise GoExecError(f'scratch: "{key}" is not a map')
        return cast("dict[str, Any]", found)


_SCRATCH: dict[str, tuple[Callable[..., Any], int]] = {
    "Key": (Scratch.has, 1),
    "Get": (Scratch.get, 1),
    "Set": (Scratch.set, 2),
    "SetX": (Scratch.set_new, 2),
    "MapSet": (Scratch.map_set, 3),
    "MapSetX": (Scratch.map_set_new, 3),
    "MapValues": (Scratch.map_values, 1),
}


def call_method(target: Any, name: str, *args: Any) -> Any:
    """Call a method with arguments; raises ``GoExecError`` when there is none."""
    if target is PENDING:
        return target
    if isinstance(target, Scratch) and name in _SCRATCH:
        method, count = _SCRATCH[name]
        if len(args) != count:
            raise GoExecError(
                f"wrong number of args for {name}: want {count} got {len(args)}"
            )
        for key in args[: 2 if count == 3 else 1]:
            if key is PENDING:
                return ""
            if not isinstance(key, str):
                raise GoExecError(
                    f"wrong type for value; expected string; got {type_name(key)}"
                )
        return method(target, *args)
    kind = type_name(target)
    if isinstance(target, tuple) and name == "Contains" and len(args) == 1:
        return args[0] in cast("tuple[Any, ...]", target)
    if isinstance(target, dict):
        raise GoExecError(f"{name} is not a method but has arguments")
    if isinstance(target, msgspec.Struct):
        raise GoExecError(f"{name} has arguments but cannot be invoked as function")
    if target is None:
        raise GoExecError(f"nil pointer evaluating interface {{}}.{name}")
    raise GoExecError(f"can't evaluate field {name} in type {kind}")
