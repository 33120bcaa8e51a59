"""What others see of a pool: members and their status (``wire-gossip.md`` 8.4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import msgspec


class Status(IntEnum):
    """A member's status; the numbers are those of ``/v1/agent/members``."""

    NONE = 0
    ALIVE = 1
    LEAVING = 2
    LEFT = 3
    FAILED = 4


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One member of a pool; ``host`` is an IP address, ``tags`` all text.

    ``left_at`` is when it failed or left, in seconds of the pool's clock.
    """

    name: str
    host: str
    port: int
    tags: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    status: Status = Status.NONE
    protocol_min: int = 1
    protocol_max: int = 5
    protocol_cur: int = 2
    delegate_min: int = 2
    delegate_max: int = 5
    delegate_cur: int = 4
    left_at: float = 0.0


class MemberEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Members changed; ``kind`` is ``join leave failed update`` or ``reap``."""

    kind: str
    members: list[Member]


class UserEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A user event of the pool; ``ltime`` is its Lamport time."""

    ltime: int
    name: str
    payload: bytes = b""
    coalesce: bool = False
