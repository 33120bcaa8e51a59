"""What to write and what to delete: pure functions of two states.

The source is compared with the destination by content, so a pass after a
crash, a hand's change, or a restored cluster does what is missing and nothing
else. Deletes are the dangerous half: see :func:`refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from .content import Content
from .model import CONFLICT_DIR, LEADER_DIR, Entry, Held, Pair, Rules, overlap
from .origin import Origin

FREE_DELETES = 100
FREE_SHARE = 0.1


class Write(msgspec.Struct, frozen=True, gc=False):
    """One key to write at the destination if it is still at ``index`` (0: absent)."""

    key: str
    value: str
    """Base64."""
    flags: int
    index: int
    source_index: int


class Delete(msgspec.Struct, frozen=True, gc=False):
    """One key to delete at the destination if it is still at ``index``."""

    key: str
    index: int


class Plan(msgspec.Struct, kw_only=True):
    """The outcome of planning one pass."""

    writes: list[Write] = []
    deletes: list[Delete] = []
    locked: list[str] = []
    """Destination keys a session holds: left alone."""
    locks: list[str] = []
    """Source keys that belong to locks or semaphores."""
    left: list[str] = []
    """Source keys whose content ``filter`` leaves out."""
    foreign: list[str] = []
    """Destination keys that differ and are no copies: left alone."""
    copies: list[str] = []
    """Source keys that are copies themselves: not copied on."""
    unchanged: int = 0


class Filter:
    """Which keys a pair takes part with; made once, asked for every key.

    ``content`` decides on the rest of an entry.
    """

    def __init__(self, pair: Pair, rules: Rules) -> None:
        self._pair = pair
        self._excludes = rules.excludes
        self._pattern: re.Pattern[str] | None = rules.matcher()
        self.content = Content(rules)
        self.origin: Origin | None = None
        """How copies are told from the destination's own keys, if they are."""
        own = (LEADER_DIR, CONFLICT_DIR, rules.own)
        self._folders = tuple(name.strip("/") + "/" for name in own if name)
        self._own_key = rules.own_key
        own = (*self._folders, *([rules.own_key] if rules.own_key else []))
        trees = (pair.source, pair.destination)
        self._has_own = any(overlap(tree, name) for tree in trees for name in own)
        self._plain = not self._excludes and self._pattern is None

    def takes(self, key: str) -> bool:
        """Whether a source key is copied."""
        pair = self._pair
        if not pair.covers_source(key):
            return False
        if self._has_own and (
            self._is_own(key) or self._is_own(pair.to_destination(key))
        ):
            return False
        if self._plain:
            return True
        if self._excludes and key.startswith(self._excludes):
            return False
        return self._pattern is None or self._pattern.match(key) is None

    def governs(self, key: str) -> bool:
        """Whether a destination key may be written or deleted, for its name."""
        pair = self._pair
        return pair.covers_destination(key) and self.takes(pair.to_source(key))

    def selects_there(self, there: Entry) -> bool:
        """Whether a destination entry without a source is one that is copied."""
        content = self.content
        if not content.chooses:
            return True
        key = self._pair.to_source(there.key)
        flags = self.origin.plain(there.flags) if self.origin else there.flags
        return content.selects(msgspec.structs.replace(there, key=key, flags=flags))

    def ours(self, there: Entry) -> bool:
        """Whether a destination entry is a copy, as far as copies are told apart."""
        return self.origin is None or self.origin.ours(there.flags)

    def _is_own(self, key: str) -> bool:
        return key.startswith(self._folders) or key == self._own_key


def plan(
    pair: Pair,
    rules: Rules,
    source: Iterable[Entry],
    destination: Mapping[str, Entry],
    accept: Filter | None = None,
) -> Plan:
    """Return what makes ``destination`` (all keys of the tree) equal the source."""
    accept = accept or Filter(pair, rules)
    found = Plan()
    wanted: set[str] = set()
    for given in source:
        if not accept.takes(given.key):
            continue
        target = pair.to_destination(given.key)
        wanted.add(target)
        entry = _admitted(given, rules, accept, found)
        if entry is None:
            continue
        there = destination.get(target)
        if there is None:
            found.writes.append(_write(entry, target, 0))
        elif there.same_content(entry):
            found.unchanged += 1
        elif not accept.ours(there):
            found.foreign.append(target)
        elif there.session:
            found.locked.append(target)
        else:
            found.writes.append(_write(entry, target, there.modify_index))
    for key, there in destination.items():
        if key in wanted or not accept.governs(key):
            continue
        if not accept.ours(there) or not accept.selects_there(there):
            continue
        if there.session or (there.is_lock and rules.locks == "skip"):
            found.locked.append(key)
        elif rules.delete:
            found.deletes.append(Delete(key, there.modify_index))
    return found


def plan_changes(
    pair: Pair,
    rules: Rules,
    changed: Iterable[Entry],
    removed: Iterable[str],
    destination: Mapping[str, Held],
    accept: Filter,
) -> Plan:
    """Return what follows from a few changes; ``removed`` are source keys."""
    found = Plan()
    for given in changed:
        if not accept.takes(given.key):
            continue
        entry = _admitted(given, rules, accept, found)
        if entry is None:
            continue
        target = pair.to_destination(entry.key)
        there = destination.get(target)
        if there is not None and not there.ours:
            found.foreign.append(target)
        elif there is not None and there.locked:
            found.locked.append(target)
        else:
            found.writes.append(_write(entry, target, there.index if there else 0))
    for key in removed:
        target = pair.to_destination(key)
        there = destination.get(target)
        if there is None or not there.ours or not accept.takes(key):
            continue
        if there.locked:
            found.locked.append(target)
        elif rules.delete:
            found.deletes.append(Delete(target, there.index))
    return found


def delete_limit(rules: Rules, there: int) -> int:
    """Return how many deletes one pass may have with so many keys there."""
    if rules.max_deletes is not None:
        return rules.max_deletes
    return max(FREE_DELETES, int(there * FREE_SHARE))


def refusal(
    pair: Pair,
    rules: Rules,
    *,
    deletes: int,
    source_keys: int,
    destination_keys: int,
    source_index: int,
    last_index: int,
    recent: int = 0,
    clusters: tuple[str, str] = ("", ""),
) -> str:
    """Return why the deletes of a pass may not happen, ``""`` when they may.

    ``recent`` is how many there were just before, ``clusters`` the identity of
    the source now and before, ``""`` where unknown.

    ``source_index`` is the index of the source's whole KV store now,
    ``last_index`` the highest one seen before: a lower one is another, older or
    restored state, and what it lacks says nothing.
    """
    if not deletes or rules.allow_mass_delete:
        return ""
    name = pair.source or "/"
    if not source_keys:
        reason = f'the source "{name}" is empty (no keys)'
    elif source_index < last_index:
        reason = (
            f'the source "{name}" is at index {source_index}, '
            f"and was at {last_index}: stale, restored, or another cluster"
        )
    elif all(clusters) and clusters[0] != clusters[1]:
        reason = f'the source "{name}" is another cluster than before'
    elif deletes + recent > (limit := delete_limit(rules, destination_keys + recent)):
        reason = f"the limit is {limit} in one pass"
        reason += f", and there were {recent} just before" if recent else ""
    else:
        return ""
    return f"refusing {deletes} deletes: {reason}; -allow-mass-delete permits them"


def _admitted(entry: Entry, rules: Rules, accept: Filter, found: Plan) -> Entry | None:
    """Return the entry as it is to be written, ``None`` if it is not."""
    if not accept.content.selects(entry):
        found.left.append(entry.key)
        return None
    if entry.session or entry.is_lock:
        if rules.locks != "copy":
            found.locks.append(entry.key)
        if rules.locks == "skip":
            return None
    if accept.origin is not None:
        marked = accept.origin.marked(entry.flags)
        if marked is None:
            found.copies.append(entry.key)
            return None
        entry = msgspec.structs.replace(entry, flags=marked)
    return accept.content.rewritten(entry)


def _write(entry: Entry, target: str, index: int) -> Write:
    return Write(target, entry.value or "", entry.flags, index, entry.modify_index)
