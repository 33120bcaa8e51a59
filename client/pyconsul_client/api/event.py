"""User events: ``/v1/event``."""

from __future__ import annotations

import builtins

import msgspec

from ..caller import PLAIN, Caller, Found, Read
from ..records import UserEvent

_EVENT = msgspec.json.Decoder(UserEvent)
_EVENTS = msgspec.json.Decoder(list[UserEvent])


class EventApi:
    """Events spread by gossip; delivery is likely, not certain."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def fire(
        self,
        name: str,
        payload: bytes = b"",
        *,
        node: str = "",
        service: str = "",
        tag: str = "",
        dc: str = "",
    ) -> UserEvent:
        """Fire an event at the nodes the regular expressions match."""
        params = [("node", node), ("service", service), ("tag", tag)]
        params = [(name, value) for name, value in params if value]
        return await self._caller.write(
            "PUT", f"/v1/event/fire/{name}", _EVENT, params, body=payload, dc=dc
        )

    async def list(
        self, name: str = "", how: Read = PLAIN
    ) -> Found[builtins.list[UserEvent]]:
        """Return the recent events, oldest first; at most 256."""
        params = [("name", name)] if name else []
        return await self._caller.read("/v1/event/list", _EVENTS, params, how)
