"""Who saves and restores: one server with its own log and state."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.net.log_store import MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.rpc_errors import RpcConnectionError
from pyconsul.net.snapshot_ports import ServerSnapshots
from pyconsul.net.snapshot_stream import SnapshotClient
from pyconsul.state.archive import SnapshotMeta, read_archive, write_archive
from pyconsul.state.store import StateStore
from pyconsul.types.errors import (
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
    PermissionDeniedError,
)
from pyconsul.types.gomsgpack import pack
from pyconsul.types.messages import KeyRequest, KVSRequest, Reply
from pyconsul.types.records import DirEntry
from pyconsul.types.snapshots import RESTORE, SnapshotRequest

SAVE = SnapshotRequest()
RESTORING = SnapshotRequest(op=RESTORE)


class One:
    """A server that leads alone."""

    def __init__(self, *, bootstrap: bool = True) -> None:
        self.state = StateStore()
        self.driver = RaftDriver(
            MemoryStore(), self.state, "id1", "127.0.0.1:8300", bootstrap=bootstrap
        )
        options = ServerOptions(
            datacenter="dc1", node_name="n1", node_id="id1", address="127.0.0.1"
        )
        self.server = Server(self.driver, self.state, options)
        self.driver.on_restored.append(self.server.on_restored)
        self.ports = ServerSnapshots(
            self.server, self.driver, SnapshotClient(), hold_s=0.0
        )

    async def call(self, method: str, args: Any) -> Any:
        reply = self.server.call(method, args)
        return (reply if isinstance(reply, Reply) else await reply).value

    async def put(self, key: str, value: bytes) -> None:
        entry = DirEntry(key=key, value=value)
        await self.call("KVS.Apply", KVSRequest(op="set", dir_ent=entry))

    async def get(self, key: str) -> bytes | None:
        row = await self.call("KVS.Get", KeyRequest(key=key))
        return None if row is None else row.record.value

    async def save(self, request: SnapshotRequest = SAVE) -> bytes:
        saved = await self.ports.save(request)
        pieces: list[bytes] = []
        while piece := await saved.read():
            pieces.append(piece)
        saved.close()
        return b"".join(pieces)

    async def restore(self, archive: bytes) -> None:
        await self.ports.restore(RESTORING, io.BytesIO(archive))


def go(
    body: Callable[[One], Coroutine[Any, Any, None]], *, bootstrap: bool = True
) -> None:
    """Run a test's body with a server."""

    async def main() -> None:
        one = One(bootstrap=bootstrap)
        await one.driver.start()
        while bootstrap and not one.driver.is_leader:  # noqa: ASYNC110 no event
            await asyncio.sleep(0)
        try:
            await asyncio.wait_for(body(one), 20)
        finally:
            one.server.stop()
            await one.driver.stop()

    asyncio.run(main())


def test_what_was_saved_comes_back() -> None:
    async def body(one: One) -> None:
        await one.put("a", b"before")
        archive = await one.save()
        meta, _ = read_archive(archive, 1 << 20)
        assert meta.id.startswith(f"{meta.term}-{meta.index}-")
        assert meta.configuration == {
            "Servers": [{"Suffrage": 0, "ID": "id1", "Address": "127.0.0.1:8300"}]
        }
        await one.put("a", b"after")
        await one.put("b", b"new")
        await one.restore(archive)
        assert await one.get("a") == b"before"
        assert await one.get("b") is None
        await one.put("c", b"goes on")
        assert await one.get("c") == b"goes on"

    go(body)


def test_a_restore_wakes_who_waits() -> None:
    async def body(one: One) -> None:
        await one.put("a", b"x")
        archive = await one.save()
        waiting = one.server.call(
            "KVS.Get", KeyRequest(key="a", min_query_index=10**9, max_query_time=10**12)
        )
        assert isinstance(waiting, asyncio.Future)
        await asyncio.sleep(0)
        assert not waiting.done()
        await one.restore(archive)
        reply = await waiting
        assert reply.value.record.value == b"x"

    go(body)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (pack({"LastIndex": 1}) + b"\x4d" + pack({}), "Unrecognized msg type 77"),
        (pack({"LastIndex": 1}) + b"\x02" + pack("x"), "failed to restore snapshot"),
        (b"", "snapshot has no header"),
    ],
)
def test_a_state_that_cannot_be_read_changes_nothing(state: bytes, text: str) -> None:
    async def body(one: One) -> None:
        await one.put("a", b"stays")
        index = one.driver.last_log_index
        meta = SnapshotMeta(index=9000, term=9)
        with pytest.raises(ConsulError, match=text):
            await one.restore(write_archive(meta, state))
        with pytest.raises(ConsulError, match="gzip: invalid header"):
            await one.restore(b"this is no archive")
        assert await one.get("a") == b"stays"
        assert one.driver.last_log_index == index

    go(body)


def test_only_management_may() -> None:
    class Nothing:
        allows_all = False

    class Resolver:
        def resolve(self, token: str) -> Authorizer:
            return Nothing()  # type: ignore[return-value]

    async def body(one: One) -> None:
        one.server.resolver = Resolver()
        with pytest.raises(PermissionDeniedError):
            await one.ports.save(SAVE)
        with pytest.raises(PermissionDeniedError):
            await one.restore(b"not even read")

    go(body)


def test_a_restore_is_never_stale() -> None:
    async def body(one: One) -> None:
        request = SnapshotRequest(op=RESTORE, allow_stale=True)
        with pytest.raises(ConsulError, match="stale not allowed for restore"):
            await one.ports.restore(request, io.BytesIO())

    go(body)


def test_other_datacenters_are_asked_where_they_are_known() -> None:
    async def body(one: One) -> None:
        request = SnapshotRequest(datacenter="dc2")
        with pytest.raises(NoPathToDatacenterError):
            await one.ports.save(request)
        assert await one.save(SnapshotRequest(datacenter="dc1"))
        one.ports.elsewhere = {"dc2": "127.0.0.1:1"}.__getitem__
        with pytest.raises(RpcConnectionError):
            await one.ports.save(request)

    go(body)


def test_without_a_leader_nothing_is_saved() -> None:
    async def body(one: One) -> None:
        for request in (SAVE, SnapshotRequest(allow_stale=True)):
            with pytest.raises(NoLeaderError):
                await one.ports.save(request)
        with pytest.raises(NoLeaderError):
            await one.restore(b"x")

    go(body, bootstrap=False)
