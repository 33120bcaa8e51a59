"""KV: ``/v1/kv``."""

from __future__ import annotations

import builtins

import msgspec

from ..caller import PLAIN, Caller, Found, Read
from ..records import KVPair

_PAIRS = msgspec.json.Decoder(list[KVPair])
_KEYS = msgspec.json.Decoder(list[str])
_BOOL = msgspec.json.Decoder(bool)


class KVApi:
    """Keys and values; values are bytes, at most 512 KiB by default."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, key: str, how: Read = PLAIN) -> Found[KVPair | None]:
        """Return the pair, ``None`` when the key does not exist."""
        found = await self._read(key, (), how)
        return Found(found.value[0] if found.value else None, found.index)

    async def list(
        self, prefix: str = "", how: Read = PLAIN
    ) -> Found[builtins.list[KVPair]]:
        """Return the pairs whose keys begin with ``prefix``, sorted by key."""
        return await self._read(prefix, (("recurse", ""),), how)

    async def keys(
        self, prefix: str = "", separator: str = "", how: Read = PLAIN
    ) -> Found[builtins.list[str]]:
        """Return the key names, cut after the first ``separator`` if given."""
        params = [("keys", "")]
        if separator:
            params.append(("separator", separator))
        return await self._caller.read(
            f"/v1/kv/{prefix}", _KEYS, params, how, missing=[], missing_allowed=True
        )

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        flags: int = 0,
        cas: int | None = None,
        acquire: str = "",
        release: str = "",
        dc: str = "",
    ) -> bool:
        """Write a key; false when ``cas`` or the lock did not allow it.

        ``cas`` is the ModifyIndex the key must have, 0: it must not exist;
        ``acquire`` and ``release`` are session ids.
        """
        params: builtins.list[tuple[str, str]] = []
        if flags:
            params.append(("flags", str(flags)))
        if cas is not None:
            params.append(("cas", str(cas)))
        if acquire:
            params.append(("acquire", acquire))
        if release:
            params.append(("release", release))
        return await self._caller.write(
            "PUT", f"/v1/kv/{key}", _BOOL, params, body=value, dc=dc
        )

    async def delete(
        self, key: str, *, recurse: bool = False, cas: int | None = None, dc: str = ""
    ) -> bool:
        """Delete a key, or all that begin with it; false when ``cas`` forbids it."""
        params: builtins.list[tuple[str, str]] = []
        if recurse:
            params.append(("recurse", ""))
        if cas is not None:
            params.append(("cas", str(cas)))
        return await self._caller.write("DELETE", f"/v1/kv/{key}", _BOOL, params, dc=dc)

    async def _read(
        self, key: str, params: tuple[tuple[str, str], ...], how: Read
    ) -> Found[builtins.list[KVPair]]:
        return await self._caller.read(
            f"/v1/kv/{key}", _PAIRS, params, how, missing=[], missing_allowed=True
        )
