"""Records of the replicator: pairs read, pairs held, trees and what to leave out."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Sequence

import msgspec

LOCK_FLAG = 3304740253564472344
SEMAPHORE_FLAG = 16210313421097356768
"""``Flags`` of the keys that the lock and semaphore helpers own."""
MAX_PATTERN = 1024
LOCK_POLICIES = ("skip", "warn", "copy")
LEADER_DIR = "service/consul-replicate/leader"
"""Folder of the keys by which instances choose one that works."""
CONFLICT_DIR = "service/consul-replicate/conflicts"
"""Folder of what lost a conflict, by the names the keys have."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", gc=False):
    """One pair as ``/v1/kv`` gives it; ``value`` stays base64, as it is sent on."""

    key: str
    modify_index: int
    flags: int = 0
    value: str | None = None
    session: str = ""

    @property
    def is_lock(self) -> bool:
        """Whether a lock or semaphore owns the key."""
        return self.flags in (LOCK_FLAG, SEMAPHORE_FLAG)

    def same_content(self, other: Entry) -> bool:
        """Whether value and flags are equal; an empty value may be null."""
        return self.flags == other.flags and (self.value or "") == (other.value or "")


class Held(msgspec.Struct, frozen=True, gc=False):
    """What is known of a destination key: its index, and whether it is locked."""

    index: int
    locked: bool = False
    ours: bool = True
    """Whether it is a copy of the source's, where copies are told apart."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One tree, or one key, and where it goes.

    A text that ends in ``/`` is a folder and all below it. Another is the key
    of that name and the folder of that name, never a neighbour: ``rp`` is not
    ``rp2``. ``""`` is everything.
    """

    source: str
    destination: str
    datacenter: str = ""
    only_key: bool = False
    written: tuple[str, str] = ("", "")
    """Source and destination as the user gave them, for the status key."""

    @property
    def status_name(self) -> str:
        """The name of the status key, the reference tool's."""
        text = "-".join(self.written)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def covers_source(self, key: str) -> bool:
        """Whether a key of the source belongs to the pair."""
        return within(key, self.source, only_key=self.only_key)

    def covers_destination(self, key: str) -> bool:
        """Whether a key of the destination belongs to the pair."""
        return within(key, self.destination, only_key=self.only_key)

    def to_destination(self, key: str) -> str:
        """Return where a source key goes."""
        return self.destination + key[len(self.source) :]

    def to_source(self, key: str) -> str:
        """Return where a destination key comes from."""
        return self.source + key[len(self.destination) :]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out, and how much may be deleted.

    ``max_deletes`` ``None`` is the larger of 100 and a tenth of the keys there.
    """

    excludes: tuple[str, ...] = ()
    """Text prefixes of source keys."""
    patterns: tuple[str, ...] = ()
    """Globs (``*`` matches ``/`` too), or ``re:`` and a regular expression."""
    own: str = ""
    """The folder of status keys, never read or written as data."""
    own_key: str = ""
    """The key that instances compete for, likewise; those of others are, too."""
    locks: str = "skip"
    """Source keys of locks and semaphores: ``skip`` does not copy them and says so,
    ``warn`` copies them and says so, ``copy`` just copies. Sessions stay behind."""
    select: str = ""
    """An expression that pairs must fulfil to be written or deleted."""
    rewrites: tuple[tuple[str, str], ...] = ()
    """Expressions and replacements for values, in this order."""
    origin: bool = False
    """Whether copies carry the mark of the datacenter they come from."""
    delete_after: float = 0.0
    """Seconds a key must be gone before it is deleted."""
    max_deletes: int | None = None
    allow_mass_delete: bool = False
    delete: bool = True

    def matcher(self) -> re.Pattern[str] | None:
        """Return one expression of all patterns; ValueError names a bad one."""
        return compile_patterns(self.patterns)


def compile_patterns(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """Return the expression that matches what any pattern matches, if any."""
    parts: list[str] = []
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern is longer than {MAX_PATTERN} characters")
        if pattern.startswith("re:"):
            text = f"(?:{pattern[3:]})"
        else:
            text = fnmatch.translate(pattern)
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f'bad pattern "{pattern}": {error}') from error
        parts.append(text)
    return re.compile("|".join(parts)) if parts else None


def within(key: str, tree: str, *, only_key: bool = False) -> bool:
    """Whether a key belongs to a tree, by whole segments."""
    if only_key:
        return key == tree
    if not tree or tree.endswith("/"):
        return key.startswith(tree)
    return key == tree or key.startswith(f"{tree}/")


def overlap(left: str, right: str) -> bool:
    """Whether two trees have keys in common."""
    return within(left, right) or within(right, left) or _folder(left) == _folder(right)


def _folder(tree: str) -> str:
    return tree.rstrip("/")


def parse_pair(text: str) -> Pair:
    """Read ``SRC@DC[:DST]`` or ``key:KEY@DC[:DST]``; the datacenter may be missing.

    Raises ValueError.
    """
    rest = text.removeprefix("key:")
    source, at, where = rest.rpartition("@")
    if at:
        datacenter, _, destination = where.partition(":")
    else:
        # Without a datacenter a colon can only begin the destination.
        source, _, destination = rest.partition(":")
        datacenter = ""
    if at and not datacenter:
        raise ValueError(f'missing datacenter in "{text}"')
    return make_pair(source, destination, datacenter, only_key=text.startswith("key:"))


def make_pair(
    source: str, destination: str, datacenter: str, *, only_key: bool = False
) -> Pair:
    """Return the pair of what was given; raises ValueError without a source."""
    if not source:
        raise ValueError("missing source prefix")
    given = (source, destination or source)
    # Consul strips one leading slash of a key in a path.
    left, right = (text.lstrip("/") for text in given)
    if only_key:
        if not left or not right or left.endswith("/") or right.endswith("/"):
            raise ValueError(f'"{source}" is not the name of one key')
    else:
        folder = not left or not right or left.endswith("/") or right.endswith("/")
        if folder:
            left = left if not left or left.endswith("/") else f"{left}/"
            right = right if not right or right.endswith("/") else f"{right}/"
    return Pair(
        source=left,
        destination=right,
        datacenter=datacenter,
        only_key=only_key,
        written=given,
    )
