"""Lists as maps of lists: by tag, by port, by key, by metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace


class HelperError(Exception):
    """A helper was given a value it cannot take."""


def parse_int(text: str) -> int:
    """Return a whole number, 0 for an empty text."""
    is_right = re.fullmatch(r"[+-]?[0-9]{1,19}|", text)
    if not is_right or not -(1 << 63) <= int(text or "0") < 1 << 63:
        raise HelperError(f"parse_int: {text!r} is no whole number")
    return int(text or "0")


def by_tag(instances: Iterable[Any]) -> dict[str, list[Any]]:
    """Return services or instances by tag, tags sorted."""
    groups: dict[str, list[Any]] = {}
    for instance in instances:
        for tag in instance.tags:
            groups.setdefault(tag, []).append(instance)
    return dict(sorted(groups.items()))


def by_port(instances: Iterable[Any]) -> dict[int, list[Any]]:
    """Return instances by port, ports sorted."""
    groups: dict[int, list[Any]] = {}
    for instance in instances:
        groups.setdefault(instance.port, []).append(instance)
    return dict(sorted(groups.items()))


def by_key(pairs: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return pairs by top folder, then by the rest of the key, which is theirs."""
    groups: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        top, slash, rest = pair.key.partition("/")
        if slash:
            groups.setdefault(top, {})[rest] = replace(pair, key=rest)
    return groups


def by_meta(
    names: str, instances: Iterable[Any], *, raw: bool = False
) -> dict[str, list[Any]]:
    """Return instances by service metadata ``"zone,weight|int"``, joined with ``_``.

    What is no letter or digit becomes ``_``; not with ``raw``, or for one name
    ``"zone|raw"``, where a missing value is empty.
    """
    groups: dict[str, list[Any]] = {}
    for instance in instances:
        parts: list[str] = []
        for name in names.split(","):
            field, _, kind = name.partition("|")
            value = instance.meta.get(field)
            if kind == "int":
                parts.append(f"{parse_int(value or ''):05d}")
            elif raw or kind == "raw":
                parts.append(value or "")
            elif kind:
                raise HelperError(f"by_meta: {name!r}: {kind} is neither int nor raw")
            else:
                normal = re.sub(r"\W", "_", value) if value else f"_no_{field}_"
                parts.append(normal)
        groups.setdefault("_".join(parts), []).append(instance)
    return dict(sorted(groups.items()))
