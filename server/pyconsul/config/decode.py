"""A parsed file against the schema: canonical keys, or what is wrong with it.

Keys are matched without regard to case; unknown ones and wrong types are
refused with the path of the field, in Consul's words.
"""

from __future__ import annotations

from typing import Any, cast

from pyconsul.config.schema import SCHEMA
from pyconsul.config.specs import ListOf, MapOf, Obj, Opaque, Scalar, Spec
from pyconsul.types.errors import ConfigError


def decode(raw: Any, source: str, kind: str = "json") -> dict[str, Any]:
    """Return ``raw`` with canonical keys; raises ``ConfigError`` naming ``source``.

    ``source`` is the file's name as the user gave it, ``kind`` the form it was
    in (``json`` or ``hcl``), which decides how its types are called.
    """
    if raw is None:
        return {}
    walk = _Walk(hcl=kind == "hcl")
    value = walk.value(raw, SCHEMA, "")
    if walk.problems:
        count = len(walk.problems)
        lines = "\n".join("* " + text for text in walk.problems)
        raise ConfigError(
            f"failed to parse {source}: {count} error(s) decoding:\n\n{lines}"
        )
    if walk.unknown:
        count = len(walk.unknown)
        word = "error" if count == 1 else "errors"
        lines = "\n".join(f"\t* invalid config key {key}" for key in walk.unknown)
        raise ConfigError(
            f"failed to parse {source}: {count} {word} occurred:\n{lines}"
        )
    return cast("dict[str, Any]", value)


class _Walk:
    def __init__(self, hcl: bool) -> None:
        self._hcl = hcl
        self.problems: list[str] = []
        self.unknown: list[str] = []

    def value(self, raw: Any, spec: Spec, path: str) -> Any:
        match spec:
            case Opaque():
                return _plain(raw) if self._hcl else raw
            case Scalar(name):
                return self._scalar(raw, name, path)
            case ListOf(item):
                return [
                    self.value(one, item, f"{path}[{at}]")
                    for at, one in enumerate(self._list(raw, path))
                    if one is not None
                ]
            case MapOf(item):
                return {
                    key: self.value(one, item, f"{path}[{key}]")
                    for key, one in self._mapping(raw, path).items()
                    if one is not None
                }
            case Obj():
                return self._object(raw, spec, path)

    def _object(self, raw: Any, spec: Obj, path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, one in self._mapping(raw, path).items():
            lower = key.lower()
            name = spec.aliases.get(lower, lower)
            inner = spec.fields.get(name)
            if inner is None:
                self.unknown.append(f"{path}.{key}" if path else key)
            elif one is not None:
                here = f"{path}.{name}" if path else name
                result[name] = self.value(one, inner, here)
        return result

    def _list(self, raw: Any, path: str) -> list[Any]:
        if isinstance(raw, list):
            return cast("list[Any]", raw)
        got = "map" if isinstance(raw, dict) else self._type(raw)
        self.problems.append(
            f"'{path}': source data must be an array or slice, got {got}"
        )
        return []

    def _mapping(self, raw: Any, path: str) -> dict[str, Any]:
        if isinstance(raw, list) and len(cast("list[Any]", raw)) == 1:
            raw = cast("list[Any]", raw)[0]  # an HCL block reads as a list of one
        if isinstance(raw, dict):
            return cast("dict[str, Any]", raw)
        got = "slice" if isinstance(raw, list) else self._type(raw)
        self.problems.append(f"'{path}' expected a map, got '{got}'")
        return {}

    def _scalar(self, raw: Any, name: str, path: str) -> Any:
        whole = isinstance(raw, int) and not isinstance(raw, bool)
        real = isinstance(raw, float)
        if name == "string" and isinstance(raw, str):
            return raw
        if name == "bool" and isinstance(raw, bool):
            return raw
        if name == "int" and (whole or (real and float(raw).is_integer())):
            return int(raw)
        if name == "float64" and (whole or real):
            return float(raw)
        self.problems.append(
            f"'{path}' expected type '{name}', got unconvertible type "
            f"'{self._type(raw)}', value: '{_shown(raw)}'"
        )
        return None

    def _type(self, raw: object) -> str:
        """Return what Go calls the type of a value its reader made."""
        if isinstance(raw, bool):
            return "bool"
        if isinstance(raw, str):
            return "string"
        if isinstance(raw, int):
            return "int" if self._hcl else "float64"
        if isinstance(raw, float):
            return "float64"
        if isinstance(raw, dict):
            return "map[string]interface {}"
        if self._hcl and isinstance(raw, list):
            found = cast("list[Any]", raw)
            if found and all(isinstance(one, dict) for one in found):
                return "[]map[string]interface {}"
        return "[]interface {}"


def _shown(raw: Any) -> str:
    """Return a value as Go prints it."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float):
        return f"{raw:g}"
    if isinstance(raw, list):
        return "[" + " ".join(_shown(one) for one in cast("list[Any]", raw)) + "]"
    if isinstance(raw, dict):
        given = cast("dict[str, Any]", raw)
        pairs = (f"{key}:{_shown(given[key])}" for key in sorted(given))
        return "map[" + " ".join(pairs) + "]"
    return "<nil>" if raw is None else str(raw)


def _plain(raw: Any) -> Any:
    if isinstance(raw, list):
        found = cast("list[Any]", raw)
        if len(found) == 1 and isinstance(found[0], dict):
            return _plain(found[0])
        return [_plain(one) for one in found]
    if isinstance(raw, dict):
        return {key: _plain(one) for key, one in cast("dict[str, Any]", raw).items()}
    return raw
