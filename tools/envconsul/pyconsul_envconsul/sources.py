"""What variables come from: prefixes, single keys and services.

Each source knows its question to the agent, and turns an answer into pairs of
name and value, in the order in which they count. Sources with equal questions
share one answer.
"""

from __future__ import annotations

import re

from .naming import Format, FormatError, sanitized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Pairs: TypeAlias = list[tuple[str, bytes]]
    """Keys with values, or (services) rows in ``Rows``."""
    Question: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
    """Path, not yet encoded, and parameters."""
    Answer: TypeAlias = Any
    """Of a KV question ``Pairs``, of a service's a list of JSON objects."""

FIELDS = ("id", "name", "address", "tag", "port")
DEFAULT_SERVICE_FORMAT = "{{service}}/{{key}}"
_SERVICE = re.compile(
    r"(?:(?P<tag>[A-Za-z0-9_.:=-]+)\.)?(?P<name>[A-Za-z0-9_-]+)"
    r"(?:@(?P<dc>[A-Za-z0-9._-]+))?(?:~(?P<near>[A-Za-z0-9._-]+))?"
)
_DC = re.compile(r"[A-Za-z0-9._-]+")


class Source:
    """One source of variables."""

    question: Question

    def variables(self, answer: Answer) -> Pairs:
        """Return names (not yet sanitized) and values."""
        raise NotImplementedError


class Prefix(Source):
    """All keys below a path, of whole segments unless ``raw``.

    With ``tree`` a value that is a JSON object or array is as many keys as it has
    leaves.
    """

    def __init__(
        self,
        path: str,
        *,
        format: str = "",
        with_path: bool = False,
        raw: bool = False,
        tree: bool = False,
    ) -> None:
        path, dc = split_datacenter(path)
        self._below = path if raw or not path or path.endswith("/") else path + "/"
        self._front = sanitized(path) + "_" if with_path else ""
        self._format = Format(format) if format else None
        self._tree = tree
        self.question = (f"/v1/kv/{self._below}", (*_dc(dc), ("recurse", "")))

    def variables(self, answer: Answer) -> Pairs:
        """See Source. The key equal to the path itself has no name."""
        found: Pairs = []
        for key, value in answer:
            name = key.removeprefix(self._below).removeprefix("/")
            if not name:
                continue
            for leaf, text in _leaves(self._front + name, value, tree=self._tree):
                shown = self._format({"key": leaf}) if self._format else leaf
                found.append((shown, text))
        return found


class Key(Source):
    """One key under a name of its own; ``tree`` as for a prefix."""

    def __init__(self, name: str, path: str, *, tree: bool = False) -> None:
        path, dc = split_datacenter(path)
        if not name or not path:
            raise FormatError("a key is written NAME=path")
        self._name = name
        self._tree = tree
        self.question = (f"/v1/kv/{path}", _dc(dc))

    def variables(self, answer: Answer) -> Pairs:
        """See Source."""
        found: Pairs = []
        for _, value in answer:
            found += _leaves(self._name, value, tree=self._tree)
        return found


class Service(Source):
    """A service's instances; of several the last one counts."""

    def __init__(self, query: str, formats: dict[str, str] | None = None) -> None:
        match = _SERVICE.fullmatch(query)
        if match is None:
            raise FormatError(f'invalid service "{query}": [tag.]name[@dc][~near]')
        given = formats or {}
        self._formats = {
            field: Format(
                given.get(field) or DEFAULT_SERVICE_FORMAT, ("service", "key")
            )
            for field in FIELDS
        }
        self._name = match["name"]
        extra = [("tag", match["tag"]), ("near", match["near"])]
        params = tuple((name, value) for name, value in extra if value)
        path = f"/v1/catalog/service/{self._name}"
        self.question = (path, (*_dc(match["dc"] or ""), *params))

    def variables(self, answer: Answer) -> Pairs:
        """See Source. Several tags are joined by commas."""
        found: Pairs = []
        for row in answer:
            values = {
                "id": row.get("ServiceID", ""),
                "name": row.get("ServiceName", ""),
                "address": row.get("ServiceAddress") or row.get("Address", ""),
                "tag": ",".join(row.get("ServiceTags") or []),
                "port": str(row.get("ServicePort", 0)),
            }
            for field in FIELDS:
                name = self._formats[field]({"service": self._name, "key": field})
                found.append((name, str(values[field]).encode()))
        return found


def split_datacenter(path: str) -> tuple[str, str]:
    """Return the parts of ``path[@dc]``, one leading slash dropped."""
    path, at, dc = path.removeprefix("/").partition("@")
    if at and not _DC.fullmatch(dc):
        raise FormatError(f'invalid datacenter "{dc}"')
    return path, dc


def _leaves(name: str, value: bytes, *, tree: bool) -> Pairs:
    if not tree:
        return [(name, value)]
    from .tree import flattened

    return flattened(name, value)


def _dc(dc: str) -> tuple[tuple[str, str], ...]:
    return (("dc", dc),) if dc else ()
