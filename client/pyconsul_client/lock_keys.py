"""What locks and semaphores are in the KV store: the layout of ``consul lock``.

A lock is a key with ``LOCK_FLAGS`` that one session holds. A semaphore is a
prefix: each contender holds ``<prefix>/<session>``, and ``<prefix>/.lock`` says,
as JSON, how many may hold it and who does; it is changed by compare-and-set.
Observed: Consul 1.10.11 ``consul lock``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from .caller import PLAIN, Read
from .errors import LockConflictError

if TYPE_CHECKING:
    from .api.kv import KVApi
    from .records import KVPair

LOCK_FLAGS = 0x2DDCCBC058A50C18
SEMAPHORE_FLAGS = 0xE0F69A2BAA414DE0
LOCK_KEY = ".lock"
CONSISTENT = Read(consistent=True)


class Attempt(msgspec.Struct, frozen=True):
    """How an attempt ended.

    Held: ``index`` is the fencing number. Else it is the index to ask from
    again, or 0: nobody holds it and yet it was refused, so that it takes a pause.
    """

    held: bool
    index: int = 0


class Claim(Protocol):
    """One kind of lock, for any session; every call may raise ClientError."""

    behavior: str
    """What the session's end does to its keys: ``release`` or ``delete``."""

    async def enter(self, session: str) -> None:
        """Prepare a new session's attempts."""
        ...

    async def attempt(self, session: str, index: int, wait: float) -> Attempt:
        """Try to get it; with ``index``, wait first for the keys to change."""
        ...

    async def check(self, session: str, index: int, wait: float) -> tuple[bool, int]:
        """Return whether it is held, and the index to ask from again."""
        ...

    async def release(self, session: str) -> None:
        """Give it back; nothing when it is not held."""
        ...

    async def remove(self) -> bool:
        """Remove the key unless it is in use; whether it is gone."""
        ...


def _reading(index: int, wait: float) -> Read:
    return Read(consistent=True, index=index, wait=wait) if index else CONSISTENT


class Mutex:
    """A key that one session holds."""

    behavior = "release"

    def __init__(self, kv: KVApi, key: str, value: bytes = b"") -> None:
        self._kv = kv
        self._key = key
        self._value = value

    async def enter(self, session: str) -> None:
        """Nothing to prepare."""

    async def attempt(self, session: str, index: int, wait: float) -> Attempt:
        """Acquire the key when it is free."""
        pair, seen = await self._read(index, wait)
        if pair is None or not pair.session:
            await self._kv.put(
                self._key, self._value, flags=LOCK_FLAGS, acquire=session
            )
            # Read whatever the answer was: it tells who has it, and since when.
            pair, seen = await self._read(0, wait)
        if pair is None or not pair.session:
            return Attempt(False)
        if pair.session == session:
            return Attempt(True, pair.modify_index)
        return Attempt(False, seen)

    async def check(self, session: str, index: int, wait: float) -> tuple[bool, int]:
        """Say whether the key is the session's."""
        found = await self._kv.get(self._key, _reading(index, wait))
        pair = found.value
        return pair is not None and pair.session == session, found.index

    async def release(self, session: str) -> None:
        """Give the key back."""
        await self._kv.put(self._key, self._value, flags=LOCK_FLAGS, release=session)

    async def remove(self) -> bool:
        """Delete the key unless somebody holds it."""
        pair, _ = await self._read(0, 0.0)
        if pair is None:
            return True
        if pair.session:
            return False
        return await self._kv.delete(self._key, cas=pair.modify_index)

    async def _read(self, index: int, wait: float) -> tuple[KVPair | None, int]:
        found = await self._kv.get(self._key, _reading(index, wait))
        if found.value is not None and found.value.flags != LOCK_FLAGS:
            raise LockConflictError("Existing key does not match lock use")
        return found.value, found.index


class Holders(msgspec.Struct, frozen=True, rename="pascal"):
    """The value of a semaphore's key: its places, and the sessions that have one."""

    limit: int
    holders: dict[str, bool] = {}


class Contest(msgspec.Struct, frozen=True):
    """A semaphore's keys at one index."""

    holders: dict[str, bool]
    """Those whose contender key lives."""
    version: int
    """``ModifyIndex`` of the lock key, 0: there is none."""
    index: int


class Semaphore:
    """A prefix of which ``limit`` sessions hold a place."""

    behavior = "delete"

    def __init__(self, kv: KVApi, prefix: str, limit: int, value: bytes = b"") -> None:
        if limit < 1:
            raise ValueError("a semaphore has one place or more")
        self._kv = kv
        self._prefix = prefix.rstrip("/") + "/"
        self._key = self._prefix + LOCK_KEY
        self._limit = limit
        self._value = value

    async def enter(self, session: str) -> None:
        """Hold the contender key."""
        made = await self._kv.put(
            self._prefix + session, self._value, flags=SEMAPHORE_FLAGS, acquire=session
        )
        if not made:
            raise LockConflictError("failed to make contender entry")

    async def attempt(self, session: str, index: int, wait: float) -> Attempt:
        """Take a place when one is free; again at once when others were quicker."""
        while True:
            contest = await self._read(index, wait)
            if session in contest.holders:
                return Attempt(True, contest.version)
            if len(contest.holders) >= self._limit:
                return Attempt(False, contest.index)
            await self._write(contest.holders | {session: True}, contest.version)
            index = 0

    async def check(self, session: str, index: int, wait: float) -> tuple[bool, int]:
        """Say whether the session has a place."""
        contest = await self._read(index, wait)
        return session in contest.holders, contest.index

    async def release(self, session: str) -> None:
        """Give the place back and withdraw."""
        while True:
            contest = await self._read(0, 0.0)
            if session not in contest.holders:
                break
            left = {one: True for one in contest.holders if one != session}
            if await self._write(left, contest.version):
                break
        await self._kv.delete(self._prefix + session)

    async def remove(self) -> bool:
        """Delete the lock key unless somebody has a place."""
        contest = await self._read(0, 0.0)
        if contest.holders:
            return False
        if not contest.version:
            return True
        return await self._kv.delete(self._key, cas=contest.version)

    async def _write(self, holders: dict[str, bool], version: int) -> bool:
        value = msgspec.json.encode(Holders(self._limit, holders))
        return await self._kv.put(self._key, value, flags=SEMAPHORE_FLAGS, cas=version)

    async def _read(self, index: int, wait: float) -> Contest:
        found = await self._kv.list(self._prefix, _reading(index, wait))
        live = {pair.session for pair in found.value if pair.session}
        for pair in found.value:
            if pair.key != self._key:
                continue
            if pair.flags != SEMAPHORE_FLAGS:
                raise LockConflictError("Existing key does not match semaphore use")
            try:
                told = msgspec.json.decode(pair.raw, type=Holders)
            except msgspec.MsgspecError as error:
                raise LockConflictError(f"failed to decode {self._key}") from error
            if told.limit != self._limit:
                raise LockConflictError(
                    f"semaphore limit conflict (lock: {told.limit}, "
                    f"local: {self._limit})"
                )
            holders = {one: True for one in told.holders if one in live}
            return Contest(holders, pair.modify_index, found.index)
        return Contest({}, 0, found.index)


async def holder(kv: KVApi, key: str, how: Read = PLAIN) -> KVPair | None:
    """Return the key of a lock while somebody holds it: its value tells who."""
    found = await kv.get(key, how)
    return found.value if found.value is not None and found.value.session else None
