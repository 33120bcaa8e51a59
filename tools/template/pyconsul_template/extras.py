"""Functions that Jinja2 templates share with Go templates, imported when called.

A template that uses none of them does not pay for the modules they are in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyconsul_template.ctmpl.writes import Write


def to_toml(value: Any) -> str:
    """Return a value as TOML, keys sorted, without the last line break."""
    from pyconsul_template.ctmpl.encode import toml_of

    return toml_of(value)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, an empty map for an empty one."""
    from pyconsul_template.ctmpl.yaml_parse import parse_yaml

    return parse_yaml(text)


def sockaddr(*texts: str) -> str:
    """Return the addresses a go-sockaddr expression asks for."""
    from pyconsul_template.ctmpl.sockaddr import evaluate

    return evaluate(*texts)


def plugin(name: str, *args: Any) -> Any:
    """Return what a Python plugin gives, or what a program prints.

    A program runs without a shell, for 30 s at most; white space around what it
    prints is cut.
    """
    from pyconsul_template.ctmpl.functions import plugin

    return plugin(name, *args)


def dump(value: Any) -> str:
    """Return a value in Go's syntax, to look at."""
    from pyconsul_template.ctmpl.printf import go_syntax

    return go_syntax(value)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "to_toml": to_toml,
    "parse_yaml": parse_yaml,
    "dump": dump,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **FILTERS,
    "sockaddr": sockaddr,
    "plugin": plugin,
}
SPELLINGS = {"toTOML": "to_toml"}
"""The reference's names that the rule for all others does not give."""


class Scratch:
    """Values a template keeps while it renders; setters print nothing."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._values: dict[str, Any] = {}

    def forget(self) -> None:
        """Start a render."""
        self._values.clear()

    def Key(self, key: str) -> bool:
        """Return whether a key was set."""
        return key in self._values

    def Get(self, key: str) -> Any:
        """Return a value, ``None`` when there is none."""
        return self._values.get(key)

    def Set(self, key: str, value: Any) -> str:
        """Set a value."""
        self._values[key] = value
        return ""

    def SetX(self, key: str, value: Any) -> str:
        """Set a value unless there is one."""
        self._values.setdefault(key, value)
        return ""

    def MapSet(self, key: str, name: str, value: Any) -> str:
        """Set a value in a map."""
        self._values.setdefault(key, {})[name] = value
        return ""

    def MapSetX(self, key: str, name: str, value: Any) -> str:
        """Set a value in a map unless there is one."""
        self._values.setdefault(key, {}).setdefault(name, value)
        return ""

    def MapValues(self, key: str) -> list[Any]:
        """Return a map's values by their sorted names."""
        found = self._values.get(key, {})
        return [found[name] for name in sorted(found)]


class Writes:
    """``writeToFile``: files written once a render is complete."""

    def __init__(self, root: Path | None) -> None:
        """No file outside ``root`` is written; without one, none at all."""
        self._root = root
        self._writes: list[Write] = []

    def forget(self) -> None:
        """Start a render."""
        self._writes.clear()

    def write_to_file(self, *args: Any) -> str:
        """Note ``path user group perms [flags] content``; prints nothing."""
        from pyconsul_template.ctmpl.writes import parse_write

        if len(args) < 5:
            raise TypeError("writeToFile: want path, user, group, perms and content")
        self._writes.append(parse_write([str(arg) for arg in args], self._root))
        return ""

    def commit(self) -> None:
        """Write the files; raises ``OSError``."""
        if self._writes:
            from pyconsul_template.ctmpl.writes import apply_write

            for write in self._writes:
                apply_write(write)
