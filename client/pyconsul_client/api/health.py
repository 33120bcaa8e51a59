"""Health: ``/v1/health``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..caller import PLAIN, Caller, Found, Read
from ..records import HealthCheck, ServiceEntry

_ENTRIES = msgspec.json.Decoder(list[ServiceEntry])
_CHECKS = msgspec.json.Decoder(list[HealthCheck])


class HealthApi:
    """Checks, and instances with their checks."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def service(
        self,
        name: str,
        tags: Sequence[str] = (),
        *,
        passing: bool = False,
        how: Read = PLAIN,
    ) -> Found[list[ServiceEntry]]:
        """Return the instances that have all ``tags``, only healthy if asked."""
        params = [("tag", tag) for tag in tags]
        if passing:
            params.append(("passing", "1"))
        return await self._caller.read(
            f"/v1/health/service/{name}", _ENTRIES, params, how
        )

    async def node(self, name: str, how: Read = PLAIN) -> Found[list[HealthCheck]]:
        """Return all checks of a node."""
        return await self._caller.read(f"/v1/health/node/{name}", _CHECKS, (), how)

    async def checks(self, service: str, how: Read = PLAIN) -> Found[list[HealthCheck]]:
        """Return the checks of a service's instances."""
        return await self._caller.read(f"/v1/health/checks/{service}", _CHECKS, (), how)

    async def state(
        self, state: str = "any", how: Read = PLAIN
    ) -> Found[list[HealthCheck]]:
        """Return the checks in a state: any, passing, warning or critical."""
        return await self._caller.read(f"/v1/health/state/{state}", _CHECKS, (), how)
