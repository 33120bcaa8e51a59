"""Sessions: ``/v1/session``."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import msgspec

from ..caller import PLAIN, Caller, Found, Read, decode, encode
from ..records import Session


class _Created(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="ID")


_CREATED = msgspec.json.Decoder(_Created)
_SESSIONS = msgspec.json.Decoder(list[Session] | None)
_BOOL = msgspec.json.Decoder(bool)


class SessionApi:
    """Leases that locks hang on."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        name: str = "",
        *,
        ttl: str = "",
        lock_delay: str = "",
        behavior: str = "",
        node: str = "",
        node_checks: Sequence[str] | None = None,
        dc: str = "",
    ) -> str:
        """Return the id of a new session; durations as Go writes them.

        ``behavior`` is ``release`` or ``delete``: what becomes of held keys.
        """
        body = {
            "Name": name or None,
            "TTL": ttl or None,
            "LockDelay": lock_delay or None,
            "Behavior": behavior or None,
            "Node": node or None,
            "NodeChecks": node_checks,
        }
        created = await self._caller.write(
            "PUT", "/v1/session/create", _CREATED, body=encode(body), dc=dc
        )
        return created.id

    async def destroy(self, id: str, dc: str = "") -> None:
        """End a session; its locks are released after the lock delay."""
        await self._caller.write("PUT", f"/v1/session/destroy/{id}", _BOOL, dc=dc)

    async def renew(self, id: str, dc: str = "") -> Session | None:
        """Renew the TTL; ``None`` when the session is gone, and its locks."""
        response = await self._caller.send("PUT", f"/v1/session/renew/{id}", dc=dc)
        if response.status == 404:
            return None
        sessions = decode(_SESSIONS, response)
        return sessions[0] if sessions else None

    async def info(self, id: str, how: Read = PLAIN) -> Found[Session | None]:
        """Return one session, ``None`` when there is none."""
        found = await self._list(f"/v1/session/info/{id}", how)
        return Found(found.value[0] if found.value else None, found.index)

    async def list(self, how: Read = PLAIN) -> Found[builtins.list[Session]]:
        """Return all sessions."""
        return await self._list("/v1/session/list", how)

    async def node(self, name: str, how: Read = PLAIN) -> Found[builtins.list[Session]]:
        """Return the sessions of a node."""
        return await self._list(f"/v1/session/node/{name}", how)

    async def _list(self, path: str, how: Read) -> Found[builtins.list[Session]]:
        found = await self._caller.read(
            path, _SESSIONS, (), how, missing=[], missing_allowed=True
        )
        return Found(found.value or [], found.index)
