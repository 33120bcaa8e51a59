"""Keys and sessions in memory, with the calls of ``client.kv``, ``client.session``."""

from __future__ import annotations

import anyio

from pyconsul_client import ApiError, Found, TransportError
from pyconsul_client.caller import PLAIN
from pyconsul_client.records import KVPair, Session


class Store:
    """What both noun's calls work on; ``index`` grows with every change."""

    def __init__(self):
        self.index = 1
        self.pairs = {}
        self.sessions = {}
        self.refused = set()  # keys in their lock delay
        self.down = False
        self.kv = Keys(self)
        self.session = Sessions(self)
        self._changed = anyio.Event()

    def bump(self):
        self.index += 1
        event, self._changed = self._changed, anyio.Event()
        event.set()
        return self.index

    async def until_after(self, index):
        while index and self.index <= index:
            await self._changed.wait()

    def end(self, session):
        behavior = self.sessions.pop(session)
        for key, pair in list(self.pairs.items()):
            if pair.session != session:
                continue
            if behavior == "delete":
                del self.pairs[key]
            else:
                self.put(key, pair.raw, pair.flags, "")
        self.bump()

    def put(self, key, value, flags=0, session=""):
        self.pairs[key] = KVPair(
            key=key,
            value=value,
            flags=flags,
            session=session,
            modify_index=self.bump(),
        )

    def check(self):
        if self.down:
            raise TransportError("connection refused")


class Sessions:
    def __init__(self, store):
        self._store = store
        self.created = []

    async def create(self, name="", *, ttl="", lock_delay="", behavior=""):
        await anyio.lowlevel.checkpoint()
        self._store.check()
        id = f"session-{len(self.created)}"
        self.created.append((name, ttl, lock_delay, behavior))
        self._store.sessions[id] = behavior
        return id

    async def renew(self, id):
        await anyio.lowlevel.checkpoint()
        self._store.check()
        return Session(id=id) if id in self._store.sessions else None

    async def destroy(self, id):
        await anyio.lowlevel.checkpoint()
        self._store.check()
        if id in self._store.sessions:
            self._store.end(id)


class Keys:
    def __init__(self, store):
        self._store = store
        self.puts = 0

    async def get(self, key, how=PLAIN):
        await self._wait(how)
        return Found(self._store.pairs.get(key), self._store.index)

    async def list(self, prefix="", how=PLAIN):
        await self._wait(how)
        pairs = self._store.pairs
        found = [pairs[key] for key in sorted(pairs) if key.startswith(prefix)]
        return Found(found, self._store.index)

    async def _wait(self, how):
        assert how.consistent
        await anyio.lowlevel.checkpoint()
        self._store.check()
        await self._store.until_after(how.index)
        self._store.check()

    async def put(self, key, value, *, flags=0, cas=None, acquire="", release=""):
        await anyio.lowlevel.checkpoint()
        store = self._store
        store.check()
        self.puts += 1
        old = store.pairs.get(key)
        if acquire and acquire not in store.sessions:
            raise ApiError(500, f'invalid session "{acquire}"')
        if acquire and (key in store.refused or (old and old.session)):
            return bool(old and old.session == acquire)
        if release and (old is None or old.session != release):
            return False
        if cas is not None and cas != (old.modify_index if old else 0):
            return False
        store.put(key, value, flags, acquire)
        return True

    async def delete(self, key, *, cas=None):
        await anyio.lowlevel.checkpoint()
        self._store.check()
        old = self._store.pairs.get(key)
        if cas is not None and old is not None and old.modify_index != cas:
            return False
        self._store.pairs.pop(key, None)
        self._store.bump()
        return True
