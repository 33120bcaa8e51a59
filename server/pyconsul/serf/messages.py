"""Serf's messages (``wire-gossip.md`` 8.1) and what they are called on the wire."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from pyconsul.types.records import Record

FLAG_ACK: Final = 1
"""On a query: an ack is wanted. On a response: this is one."""
FLAG_NO_BROADCAST: Final = 2


class Kind(IntEnum):
    """The first byte of a Serf message."""

    LEAVE = 0
    JOIN = 1
    PUSH_PULL = 2
    USER_EVENT = 3
    QUERY = 4
    QUERY_RESPONSE = 5
    CONFLICT_RESPONSE = 6
    KEY_REQUEST = 7
    KEY_RESPONSE = 8
    RELAY = 9


class LeaveIntent(Record, frozen=True, kw_only=True):
    """A node is about to leave, or was made to."""

    ltime: int = msgspec.field(name="LTime", default=0)
    node: str = ""
    prune: bool = False


class JoinIntent(Record, frozen=True, kw_only=True):
    """A node joined."""

    ltime: int = msgspec.field(name="LTime", default=0)
    node: str = ""


class EventBody(Record, frozen=True, kw_only=True):
    """An event among those of one time."""

    name: str = ""
    payload: bytes = b""


class EventsAt(Record, frozen=True, kw_only=True):
    """The events of one time."""

    ltime: int = msgspec.field(name="LTime", default=0)
    events: list[EventBody] = msgspec.field(default_factory=list[EventBody])


class PushPull(Record, frozen=True, kw_only=True):
    """The user state of a push/pull (8.3)."""

    ltime: int = msgspec.field(name="LTime", default=0)
    status_ltimes: dict[str, int] = msgspec.field(
        name="StatusLTimes", default_factory=dict[str, int]
    )
    left_members: list[str] = msgspec.field(default_factory=list[str])
    event_ltime: int = msgspec.field(name="EventLTime", default=0)
    events: list[EventsAt] = msgspec.field(default_factory=list[EventsAt])
    query_ltime: int = msgspec.field(name="QueryLTime", default=0)


class EventMessage(Record, frozen=True, kw_only=True):
    """A user event; ``coalesce`` is the wire's ``CC``."""

    ltime: int = msgspec.field(name="LTime", default=0)
    name: str = ""
    payload: bytes = b""
    coalesce: bool = msgspec.field(name="CC", default=False)


class Query(Record, frozen=True, kw_only=True):
    """A question to the pool; ``timeout`` in nanoseconds, ``addr`` a raw IP."""

    ltime: int = msgspec.field(name="LTime", default=0)
    id: int = msgspec.field(name="ID", default=0)
    addr: bytes = b""
    port: int = 0
    source_node: str = ""
    filters: list[bytes] = msgspec.field(default_factory=list[bytes])
    flags: int = 0
    relay_factor: int = 0
    timeout: int = 0
    name: str = ""
    payload: bytes = b""


class QueryResponse(Record, frozen=True, kw_only=True):
    """An ack of, or an answer to, a query."""

    ltime: int = msgspec.field(name="LTime", default=0)
    id: int = msgspec.field(name="ID", default=0)
    source: str = msgspec.field(name="From", default="")
    flags: int = 0
    payload: bytes = b""


class TagFilter(Record, frozen=True, kw_only=True):
    """A regular expression on a tag's value."""

    tag: str = ""
    expr: str = ""


class KeyRequest(Record, frozen=True, kw_only=True):
    """The payload of a key query."""

    key: bytes = b""


class KeyAnswer(Record, frozen=True, kw_only=True):
    """The payload of an answer to a key query; keys are base64."""

    result: bool = False
    message: str = ""
    keys: list[str] = msgspec.field(default_factory=list[str])
    primary_key: str = ""


class WireMember(Record, frozen=True, kw_only=True):
    """A member as a conflict response shows it."""

    name: str = ""
    addr: bytes = b""
    port: int = 0
    tags: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    status: int = 0
    protocol_min: int = 0
    protocol_max: int = 0
    protocol_cur: int = 0
    delegate_min: int = 0
    delegate_max: int = 0
    delegate_cur: int = 0


class UdpAddress(Record, frozen=True, kw_only=True):
    """Go's ``net.UDPAddr``."""

    ip: bytes = msgspec.field(name="IP", default=b"")
    port: int = 0
    zone: str = ""


class RelayHeader(Record, frozen=True, kw_only=True):
    """Where a relayed message is to go; the message follows the header."""

    dest_addr: UdpAddress = UdpAddress()
    dest_name: str = ""
