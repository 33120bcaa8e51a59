"""What has changed between two answers of a watch. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Event = Literal["added", "changed", "removed"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two shaped answers, and the names of the things in which they differ.

    Names are those of keys, services and nodes; ``node/service id`` of
    instances, ``node/check id`` of checks, the ids of events. All are sorted.
    """

    event: Event
    """``added``: there was nothing before; ``removed``: there is nothing now."""
    old: Any
    new: Any
    added: list[str]
    changed: list[str]
    removed: list[str]


def difference(type: str, old: Any, new: Any) -> Difference | None:
    """Compare shaped answers (``None``: none yet); ``None`` when nothing differs."""
    before, after = _things(type, old), _things(type, new)
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    changed = sorted(
        name for name in before.keys() & after.keys() if before[name] != after[name]
    )
    if not (added or removed or changed):
        return None
    event: Event = "changed" if before and after else "added" if after else "removed"
    return Difference(
        event=event, old=old, new=new, added=added, changed=changed, removed=removed
    )


def _things(type: str, data: Any) -> Mapping[str, Any]:
    if not data:
        return {}
    match type:
        case "services":
            return data
        case "key":
            return {data["Key"]: data}
        case "query":
            return _things("service", data["Nodes"])
        case "service":
            return {_instance(one): one for one in data}
        case "checks":
            return {f"{one['Node']}/{one['CheckID']}": one for one in data}
        case _:
            name = {"keyprefix": "Key", "nodes": "Node"}.get(type, "ID")
            return {one[name]: one for one in data}


def _instance(entry: Any) -> str:
    return f"{entry['Node']['Node']}/{entry['Service']['ID']}"
