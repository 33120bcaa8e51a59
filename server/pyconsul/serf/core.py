"""Serf, pure: membership with intents, user events and queries (section 8).

A ``Serf`` owns a memberlist and is its delegate. Bytes, ends of streams and
``now`` go in; outputs (``take_outputs``) come out in the order they must take
effect. Nothing here does I/O; randomness comes from the ``rng`` given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pyconsul.serf.member import Member
from pyconsul.serf.outputs import QueryEvent
from pyconsul.serf.settings import Settings
from pyconsul.serf.snapshot import SnapshotState
from pyconsul.types.coordinates import Coord

if TYPE_CHECKING:
    from pyconsul.gossip.keyring import Keyring

MergeCheck = Callable[[Sequence[Member]], None]
"""Raises ``MergeRefusedError`` when one of the members must stay outside."""


class QueryParams(msgspec.Struct, frozen=True, kw_only=True):
    """A query to ask; ``filter_tags`` are regular expressions by tag name."""

    name: str
    payload: bytes = b""
    filter_nodes: Sequence[str] = ()
    filter_tags: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    request_ack: bool = False
    relay_factor: int = 0
    timeout_s: float = 0.0
    """0: the default for the size of the pool."""


class Serf:
    """One node of a pool."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        settings: Settings,
        memberlist_settings: Any,
        keyring: Keyring | None,
        tags: Mapping[str, str],
        rng: random.Random,
        now: float,
        snapshot: SnapshotState | None = None,
        merge: MergeCheck | None = None,
        versions: bytes = b"\1\5\2\2\5\4",
    ) -> None:
        """Start alone; with a ``snapshot`` (even an empty one), write its lines
        and try to rejoin its members. Raises ``TooLargeError`` for the tags."""
        raise NotImplementedError

    # Inputs: those of the memberlist.

    def tick(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def receive_packet(self, data: bytes, source: tuple[str, int], now: float) -> None:
        """Take a UDP packet."""
        raise NotImplementedError

    def receive_stream(self, data: bytes, now: float) -> bytes | None:
        """Take a complete incoming exchange; return the reply, if any."""
        raise NotImplementedError

    def stream_done(self, stream_id: int, reply: bytes | None, now: float) -> None:
        """Take the reply to an ``OpenStream``; ``None``: it failed."""
        raise NotImplementedError

    def next_deadline(self) -> float:
        """Return when ``tick`` has something to do."""
        raise NotImplementedError

    def take_outputs(self) -> list[Any]:
        """Return and forget the outputs so far, in order."""
        raise NotImplementedError

    # Calls.

    def join(
        self,
        address: tuple[str, int],
        now: float,
        *,
        node_name: str = "",
        ignore_old: bool = False,
    ) -> int:
        """Push/pull with a node; ``Joined`` with the returned id tells the end."""
        raise NotImplementedError

    def leave(self, now: float) -> None:
        """Leave gracefully; ``LeaveDone`` tells the end. Again: no effect."""
        raise NotImplementedError

    def force_leave(self, name: str, prune: bool, now: float) -> None:
        """Make a failed member a left one; with ``prune``, forget it."""
        raise NotImplementedError

    def set_tags(self, tags: Mapping[str, str], now: float) -> None:
        """Replace the tags and tell the pool; raises ``TooLargeError``."""
        raise NotImplementedError

    def user_event(self, name: str, payload: bytes, coalesce: bool, now: float) -> None:
        """Send an event to all, ourselves too; raises ``TooLargeError``."""
        raise NotImplementedError

    def query(self, params: QueryParams, now: float) -> int:
        """Ask all; ``QueryAck``, ``QueryAnswer`` and ``QueryDone`` carry the id.

        Raises ``TooLargeError`` and, for the relay factor, ``BadRequestError``.
        """
        raise NotImplementedError

    def respond(self, query: QueryEvent, payload: bytes, now: float) -> None:
        """Answer a query, once; raises ``TooLargeError`` and ``ConsulError``."""
        raise NotImplementedError

    def key_operation(
        self, operation: str, key: str, now: float, *, relay_factor: int = 0
    ) -> int:
        """Ask all to ``list``, ``install``, ``use`` or ``remove`` a base64 key.

        ``KeysDone`` carries the id. Raises ``BadRequestError``.
        """
        raise NotImplementedError

    # Views.

    def members(self) -> list[Member]:
        """Return all members, also failed and left ones."""
        raise NotImplementedError

    def member(self, name: str) -> Member | None:
        """Return one member."""
        raise NotImplementedError

    def local_member(self) -> Member:
        """Return this node."""
        raise NotImplementedError

    @property
    def coordinate(self) -> Coord:
        """This node's network coordinate."""
        raise NotImplementedError

    def coordinate_of(self, name: str) -> Coord | None:
        """Return a member's coordinate as last seen in a ping's ack."""
        raise NotImplementedError

    @property
    def encrypted(self) -> bool:
        """Whether gossip is encrypted."""
        raise NotImplementedError

    def stats(self) -> dict[str, str]:
        """Return what ``consul info`` shows of a pool."""
        raise NotImplementedError
