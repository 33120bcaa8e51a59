"""What a ``Serf`` hands out besides the memberlist's own outputs.

Member and user events are in ``member.py``. The order of outputs is the order
in which they must take effect: a ``KeyringChanged`` is to be stored before the
answer that follows it is sent.
"""

from __future__ import annotations

import msgspec

from pyconsul.serf.keys import KeyResponse


class QueryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A query for this node; answer with ``Serf.respond`` until ``deadline``."""

    ltime: int
    id: int
    name: str
    payload: bytes
    source_node: str
    source: tuple[str, int]
    deadline: float
    relay_factor: int = 0


class QueryAck(msgspec.Struct, frozen=True, kw_only=True):
    """Our query ``id`` reached a node."""

    id: int
    node: str


class QueryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The first (only counted) answer of a node to our query ``id``."""

    id: int
    node: str
    payload: bytes


class QueryDone(msgspec.Struct, frozen=True, kw_only=True):
    """The time of our query ``id`` is over; nothing more comes."""

    id: int


class KeysDone(msgspec.Struct, frozen=True, kw_only=True):
    """The key operation ``id`` is over."""

    id: int
    response: KeyResponse


class KeyringChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A key query changed the ring: to be written to its file, primary first."""

    keys: list[bytes]


class SnapshotLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the snapshot file, without its newline."""

    text: str


class LeaveDone(msgspec.Struct, frozen=True, kw_only=True):
    """The graceful leave is over; the process may stop."""


class NameConflict(msgspec.Struct, frozen=True, kw_only=True):
    """Another node uses the name of a live member."""

    name: str
    known: tuple[str, int]
    other: tuple[str, int]


class ConflictLost(msgspec.Struct, frozen=True, kw_only=True):
    """The pool did not confirm that our name is ours: this node must stop."""


OwnOutput = (
    QueryEvent
    | QueryAck
    | QueryAnswer
    | QueryDone
    | KeysDone
    | KeyringChanged
    | SnapshotLine
    | LeaveDone
    | NameConflict
    | ConflictLost
)
"""Outputs of this module."""
