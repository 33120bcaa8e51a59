"""Archives over RPC: both sides, against each other and the recorded bytes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from functools import partial
from typing import BinaryIO

import pytest

from pyconsul.net.rpc_errors import RpcConnectionError
from pyconsul.net.rpc_server import RpcServer
from pyconsul.net.server_list import ServerList
from pyconsul.net.snapshot_ports import ClientSnapshots
from pyconsul.net.snapshot_stream import (
    FileSnapshot,
    SnapshotClient,
    serve_snapshots,
    temporary,
)
from pyconsul.types.errors import ConsulError, NoServersError, PermissionDeniedError
from pyconsul.types.gomsgpack import from_plain, pack, to_plain, unpack
from pyconsul.types.messages import Reply
from pyconsul.types.snapshots import (
    RESTORE,
    SavedSnapshot,
    SnapshotReply,
    SnapshotRequest,
)

ARCHIVE = bytes(range(256)) * 9000  # 2.3 MB
REPLY = SnapshotReply(index=75, known_leader=True, last_contact=3)


class Port:
    """Saves one archive, keeps what is restored."""

    def __init__(self) -> None:
        self.requests: list[SnapshotRequest] = []
        self.restored = b""
        self.error: ConsulError | None = None

    async def save(self, request: SnapshotRequest) -> SavedSnapshot:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        file = temporary(None)
        file.write(ARCHIVE)
        return FileSnapshot(REPLY, file)

    async def restore(
        self, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        self.requests.append(request)
        self.restored = archive.read()
        if self.error is not None:
            raise self.error
        return REPLY


class Nobody:
    """A ``Caller`` that is not called."""

    def call(self, method: str, args: object) -> Reply:
        raise AssertionError(method)


def serving(port: Port, body: Callable[[str], Awaitable[None]]) -> None:
    """Run ``body`` with the address of a server of ``port``."""

    async def main() -> None:
        server = RpcServer(Nobody(), snapshot=partial(serve_snapshots, port, None))
        await server.start("127.0.0.1", 0)
        host, number = server.address
        try:
            await asyncio.wait_for(body(f"{host}:{number}"), 20)
        finally:
            await server.stop()

    asyncio.run(main())


async def whole(saved: SavedSnapshot) -> bytes:
    pieces: list[bytes] = []
    try:
        while piece := await saved.read():
            pieces.append(piece)
    finally:
        saved.close()
    return b"".join(pieces)


def test_an_archive_is_saved() -> None:
    port = Port()
    request = SnapshotRequest(datacenter="dc1", token="t", allow_stale=True)

    async def body(address: str) -> None:
        saved = await SnapshotClient().save(address, request)
        assert saved.reply == REPLY
        assert await whole(saved) == ARCHIVE

    serving(port, body)
    assert port.requests == [request]


def test_an_archive_is_restored_from_where_it_stands() -> None:
    port = Port()
    request = SnapshotRequest(op=RESTORE)

    async def body(address: str) -> None:
        archive = io.BytesIO(b"skipped" + ARCHIVE)
        archive.seek(7)
        assert await SnapshotClient().restore(address, request, archive) == REPLY

    serving(port, body)
    assert port.restored == ARCHIVE
    assert port.requests == [request]


@pytest.mark.parametrize("op", [0, 1])
def test_errors_keep_their_class(op: int) -> None:
    port = Port()
    port.error = PermissionDeniedError()

    async def body(address: str) -> None:
        client, request = SnapshotClient(), SnapshotRequest(op=op)
        asked: Awaitable[object] = (
            client.restore(address, request, io.BytesIO(ARCHIVE))
            if op
            else client.save(address, request)
        )
        with pytest.raises(PermissionDeniedError, match="Permission denied"):
            await asked
        port.error = ConsulError("failed to read snapshot file: x")
        with pytest.raises(ConsulError, match="failed to read") as caught:
            await client.restore(address, SnapshotRequest(op=1), io.BytesIO(ARCHIVE))
        assert type(caught.value) is ConsulError

    serving(port, body)


def test_an_operation_that_is_none_is_refused() -> None:
    async def body(address: str) -> None:
        with pytest.raises(ConsulError, match="unrecognized snapshot op 9"):
            await SnapshotClient().save(address, SnapshotRequest(op=9))

    serving(Port(), body)


def test_consuls_own_bytes_are_understood_and_written() -> None:
    """Recorded: ``vectors/rpc.json``, ``snapshot_stream``."""
    asked = bytes.fromhex(
        "84aa4461746163656e746572a3646331a5546f6b656ea0aa416c6c6f775374616c65c2a24f7000"
    )
    assert from_plain(unpack(asked), SnapshotRequest) == SnapshotRequest(
        datacenter="dc1"
    )
    answered = bytes.fromhex(
        "87a74261636b656e6400b0436f6e73697374656e63794c6576656ca0a54572726f72a0"
        "a5496e64657834ab4b6e6f776e4c6561646572c3ab4c617374436f6e7461637400"
        "ab4e6f744d6f646966696564c2"
    )
    reply = SnapshotReply(index=52, known_leader=True)
    assert from_plain(unpack(answered), SnapshotReply) == reply
    assert pack(to_plain(reply)) == answered


def answering(data: bytes, body: Callable[[str], Awaitable[None]]) -> None:
    """Run ``body`` with the address of a server that says ``data`` and ends."""

    async def main() -> None:
        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await reader.read()
            writer.write(data)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        name = server.sockets[0].getsockname()
        async with server:
            await asyncio.wait_for(body(f"127.0.0.1:{name[1]}"), 20)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "EOF"),
        (b"\x87\xa7Back", "EOF"),
        (b"\xc1", "failed to decode response"),
        (pack([1, 2]), "failed to decode response"),
        (pack({"Index": "text"}), "failed to decode response"),
        (b"\x81\xdb\x7f\xff\xff\xff" + bytes(600_000), "failed to decode response"),
    ],
)
def test_a_strange_answer_is_an_error(data: bytes, text: str) -> None:
    async def body(address: str) -> None:
        with pytest.raises(ConsulError, match=text):
            await SnapshotClient().save(address, SnapshotRequest())

    answering(data, body)


def listed(*addresses: str) -> ServerList:
    class First:
        """Puts newcomers last, so that the order is known."""

        def randint(self, low: int, high: int) -> int:
            return high

    servers = ServerList(First())  # type: ignore[arg-type]
    for address in addresses:
        servers.add(address, address)
    return servers


def test_a_client_asks_the_next_server_when_one_is_gone() -> None:
    port = Port()

    async def body(address: str) -> None:
        # Nobody listens on port 1.
        port_of = ClientSnapshots(listed("127.0.0.1:1", address), SnapshotClient())
        assert await whole(await port_of.save(SnapshotRequest())) == ARCHIVE
        request = SnapshotRequest(op=RESTORE)
        assert await port_of.restore(request, io.BytesIO(b"x")) == REPLY
        alone = ClientSnapshots(listed("127.0.0.1:1"), SnapshotClient())
        with pytest.raises(RpcConnectionError, match="failed to get conn"):
            await alone.save(SnapshotRequest())
        with pytest.raises(RpcConnectionError) as caught:
            await alone.restore(request, io.BytesIO(b"x"))
        assert not caught.value.sent

    serving(port, body)
    assert len(port.requests) == 2


def test_a_restore_that_was_sent_is_not_sent_again() -> None:
    async def body(address: str) -> None:
        ports = ClientSnapshots(listed(address, "127.0.0.1:1"), SnapshotClient())
        with pytest.raises(RpcConnectionError) as caught:
            await ports.restore(SnapshotRequest(op=RESTORE), io.BytesIO(b"x"))
        assert caught.value.sent

    answering(b"", body)


def test_a_client_without_servers_says_so() -> None:
    async def main() -> None:
        ports = ClientSnapshots(listed(), SnapshotClient())
        with pytest.raises(NoServersError):
            await ports.save(SnapshotRequest())
        stale = SnapshotRequest(op=RESTORE, allow_stale=True)
        with pytest.raises(ConsulError, match="stale not allowed for restore"):
            await ports.restore(stale, io.BytesIO())

    asyncio.run(main())
