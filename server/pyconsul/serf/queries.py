"""Queries: who shall answer, and what a question of ours is waiting for (8.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from pyconsul.serf import codec
from pyconsul.serf.keys import KeyTally
from pyconsul.serf.member import Member
from pyconsul.serf.messages import Kind, Query, WireMember
from pyconsul.types.errors import BadRequestError, TooLargeError
from pyconsul.types.gomsgpack import MsgpackError

INTERNAL_PREFIX: Final = "_serf_"
PING: Final = "_serf_ping"
CONFLICT: Final = "_serf_conflict"
_PATTERN_CHARS_MAX: Final = 128
_REPEATS_MAX: Final = 2
# What could make Python's backtracking slow: repeats of groups, and back references.
_UNSAFE = re.compile(r"\)[*+?{]|\\[0-9]|\(\?[^:i]")
_REPEAT = re.compile(r"(?<!\\)[*+?{]")

Search = Callable[[str, str], bool]
"""``(pattern, text)``: does it occur? Raises ``ValueError`` for a bad pattern."""


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


@dataclass(slots=True)
class PendingQuery:
    """A question of ours; the tallies are there when Serf itself asked."""

    handle: int
    query_id: int
    acks: set[str] = field(default_factory=set[str])
    responders: set[str] = field(default_factory=set[str])
    keys: KeyTally | None = None
    conflict: ConflictTally | None = None


class ConflictTally:
    """Counts who says that our name is at our address."""

    def __init__(self, address: tuple[str, int]) -> None:
        """``address``: ours."""
        self._address = address
        self._responses = 0
        self._matching = 0

    def add(self, payload: bytes) -> None:
        """Count a node's answer; unreadable ones do not count."""
        try:
            member = codec.decode_typed(payload, Kind.CONFLICT_RESPONSE, WireMember)
            address = codec.unpack_address(member.addr, member.port)
        except MsgpackError:
            return
        self._responses += 1
        self._matching += address == self._address

    @property
    def is_won(self) -> bool:
        """Whether a majority of the answers knows us."""
        return self._matching >= self._responses // 2 + 1


def build_filters(params: QueryParams) -> list[bytes]:
    """Return the wire filters of a query."""
    filters: list[bytes] = []
    if params.filter_nodes:
        filters.append(codec.encode_node_filter(list(params.filter_nodes)))
    for tag, expression in params.filter_tags.items():
        filters.append(codec.encode_tag_filter(tag, expression))
    return filters


def is_for(query: Query, local: Member, search: Search) -> bool:
    """Tell whether all filters match; one that cannot be read does not."""
    try:
        for data in query.filters:
            wanted = codec.decode_filter(data)
            if isinstance(wanted, list):
                if local.name not in wanted:
                    return False
            elif not search(wanted.expr, local.tags.get(wanted.tag, "")):
                return False
    except (MsgpackError, ValueError, BadRequestError, RecursionError):
        return False
    return True


def simple_search(pattern: str, text: str) -> bool:
    """Search with Python's ``re``, patterns of bounded cost only.

    A shell with a linear engine hands its own ``Search`` to ``Serf``: patterns
    come from any member. Raises ``ValueError`` for what is not taken here.
    """
    return _compiled(pattern).search(text) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > _PATTERN_CHARS_MAX or _UNSAFE.search(pattern):
        raise ValueError("pattern not supported")
    if len(_REPEAT.findall(pattern)) > _REPEATS_MAX:
        raise ValueError("pattern not supported")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(str(error)) from error


def conflict_answer(member: Member | None) -> bytes:
    """Return what we know of a member, for ``_serf_conflict``."""
    if member is None:
        return codec.encode_typed(Kind.CONFLICT_RESPONSE, None)
    wire = WireMember(
        name=member.name,
        addr=codec.pack_ip(member.host),
        port=member.port,
        tags=dict(member.tags),
        status=int(member.status),
        protocol_min=member.protocol_min,
        protocol_max=member.protocol_max,
        protocol_cur=member.protocol_cur,
        delegate_min=member.delegate_min,
        delegate_max=member.delegate_max,
        delegate_cur=member.delegate_cur,
    )
    return codec.encode_typed(Kind.CONFLICT_RESPONSE, wire)


def check_size(data: bytes, limit: int, what: str) -> bytes:
    """Return ``data``; raises ``TooLargeError`` above the limit."""
    if len(data) > limit:
        raise TooLargeError(f"{what} exceeds limit of {limit} bytes")
    return data
