"""The local agent: ``/v1/agent``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..caller import Caller, encode
from ..records import AgentService, HealthCheck

_ANY = msgspec.json.Decoder(dict[str, Any])
_LIST = msgspec.json.Decoder(list[dict[str, Any]])
_SERVICES = msgspec.json.Decoder(dict[str, AgentService])
_CHECKS = msgspec.json.Decoder(dict[str, HealthCheck])


class AgentApi:
    """What this agent itself runs; registrations last across its restarts."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def self(self) -> dict[str, Any]:
        """Return the agent's configuration and member data, wire names."""
        return (await self._caller.read("/v1/agent/self", _ANY)).value

    async def members(self, *, wan: bool = False) -> list[dict[str, Any]]:
        """Return the gossip members, wire names."""
        params = [("wan", "1")] if wan else []
        return (await self._caller.read("/v1/agent/members", _LIST, params)).value

    async def services(self, filter: str = "") -> dict[str, AgentService]:
        """Return the agent's services by id."""
        params = [("filter", filter)] if filter else []
        return (await self._caller.read("/v1/agent/services", _SERVICES, params)).value

    async def checks(self, filter: str = "") -> dict[str, HealthCheck]:
        """Return the agent's checks by id."""
        params = [("filter", filter)] if filter else []
        return (await self._caller.read("/v1/agent/checks", _CHECKS, params)).value

    async def register_service(self, definition: Mapping[str, Any]) -> None:
        """Register a service, with ``Check`` or ``Checks``; wire names."""
        await self._caller.done("/v1/agent/service/register", body=encode(definition))

    async def deregister_service(self, id: str) -> None:
        """Remove a service and its checks."""
        await self._caller.done(f"/v1/agent/service/deregister/{id}")

    async def register_check(self, definition: Mapping[str, Any]) -> None:
        """Register a check; wire names."""
        await self._caller.done("/v1/agent/check/register", body=encode(definition))

    async def deregister_check(self, id: str) -> None:
        """Remove a check."""
        await self._caller.done(f"/v1/agent/check/deregister/{id}")

    async def update_check(self, id: str, status: str, output: str = "") -> None:
        """Report a TTL check's status: passing, warning or critical."""
        body = encode({"Status": status, "Output": output})
        await self._caller.done(f"/v1/agent/check/update/{id}", body=body)

    async def maintenance(
        self, enable: bool, reason: str = "", service_id: str = ""
    ) -> None:
        """Take the node, or one service, out of use, or put it back."""
        path = f"service/maintenance/{service_id}" if service_id else "maintenance"
        params = [("enable", "true" if enable else "false"), ("reason", reason)]
        await self._caller.done(f"/v1/agent/{path}", params)
