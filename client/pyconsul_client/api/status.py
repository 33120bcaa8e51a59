"""Raft status: ``/v1/status``."""

from __future__ import annotations

import msgspec

from ..caller import Caller

_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[str])


class StatusApi:
    """Who leads, and who votes."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def leader(self) -> str:
        """Return the leader's ``address:port``, empty while there is none."""
        return (await self._caller.read("/v1/status/leader", _TEXT)).value

    async def peers(self) -> list[str]:
        """Return the servers' addresses."""
        return (await self._caller.read("/v1/status/peers", _LIST)).value
