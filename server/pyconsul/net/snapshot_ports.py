"""Who saves and restores: this server, its leader, or any server for a client.

``ServerSnapshots`` and ``ClientSnapshots`` implement ``SnapshotPort``. A restore
is checked whole, record by record, before anything changes
(``wire-raft.md`` section 3: a server stops on a record that it does not know).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pyconsul.endpoints.server import Server
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_snapshots import write_slices
from pyconsul.net.rpc_errors import RpcConnectionError
from pyconsul.net.server_list import ServerList
from pyconsul.net.snapshot_stream import (
    PIECE,
    FileSnapshot,
    SnapshotClient,
    temporary,
)
from pyconsul.raft.messages import Configuration
from pyconsul.state.archive import (
    ArchiveError,
    SnapshotMeta,
    encode_peers,
    read_archive_file,
    write_archive_file,
)
from pyconsul.state.records_walk import check_state
from pyconsul.types.errors import (
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
    NoServersError,
    PermissionDeniedError,
)
from pyconsul.types.gomsgpack import MsgpackError, pack
from pyconsul.types.snapshots import SavedSnapshot, SnapshotReply, SnapshotRequest

_log = logging.getLogger("server.snapshot")
STALE_RESTORE = "stale not allowed for restore"
_LEADER_POLL_S = 0.05
_MS = 1_000_000


class ServerSnapshots:
    """A server's own state, or its leader's.

    ``folder`` holds the temporary files. ``hold_s`` is how long a request waits
    for a leader. ``elsewhere`` gives the RPC address of a server of another
    datacenter, or ``""``; it may be set at any time.
    """

    def __init__(
        self,
        server: Server,
        driver: RaftDriver,
        client: SnapshotClient,
        *,
        folder: Path | None = None,
        hold_s: float = 7.0,
    ) -> None:
        self.elsewhere: Callable[[str], str] = lambda _: ""
        self._server = server
        self._driver = driver
        self._client = client
        self._folder = folder
        self._hold_s = hold_s
        self._restoring = asyncio.Lock()

    async def save(self, request: SnapshotRequest) -> SavedSnapshot:
        """See ``SnapshotPort``."""
        stale = request.allow_stale and self._driver.has_leader_contact
        address = self._datacenter(request)
        if not address and not stale:
            address = await self._leader()
        if address:
            return await self._client.save(address, request)
        self._check(request)
        if not stale:
            await self._driver.verify_leader()
        meta, view = self._driver.view()
        archive = temporary(self._folder)
        try:
            with temporary(self._folder) as state:
                await write_slices(state.write, view)
                head = _archive_meta(
                    meta.index, meta.term, meta.configuration, meta.configuration_index
                )
                await asyncio.to_thread(write_archive_file, head, state, archive)
            return FileSnapshot(self._reply(meta.index), archive)
        except OSError as error:
            archive.close()
            raise ConsulError(f"failed to create snapshot file: {error}") from error
        except BaseException:
            archive.close()
            raise

    async def restore(
        self, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        """See ``SnapshotPort``."""
        if request.allow_stale:
            raise ConsulError(STALE_RESTORE)
        address = self._datacenter(request) or await self._leader()
        if address:
            return await self._client.restore(address, request, archive)
        self._check(request)
        async with self._restoring:
            return await self._restore(archive)

    async def _restore(self, archive: BinaryIO) -> SnapshotReply:
        with temporary(self._folder) as state:
            try:
                meta = await asyncio.to_thread(read_archive_file, archive, state)
                await asyncio.to_thread(check_state, _pieces(state))
            except ArchiveError as error:
                raise ConsulError(str(error)) from None
            except MsgpackError as error:
                raise ConsulError(f"failed to restore snapshot: {error}") from None
            except OSError as error:
                raise ConsulError(f"failed to read snapshot file: {error}") from error
            _log.info("restoring a snapshot: index=%d size=%d", meta.index, meta.size)
            await self._driver.user_restore(_pieces(state), meta.index)
            _log.info("restored a snapshot: index=%d", meta.index)
        return self._reply(self._driver.last_log_index)

    def _check(self, request: SnapshotRequest) -> None:
        if not self._server.resolver.resolve(request.token).allows_all:
            raise PermissionDeniedError

    def _datacenter(self, request: SnapshotRequest) -> str:
        """Return whom to ask for another datacenter, ``""`` for this one."""
        wanted = request.datacenter
        if not wanted or wanted == self._server.options.datacenter:
            return ""
        address = self.elsewhere(wanted)
        if not address:
            raise NoPathToDatacenterError
        return address

    async def _leader(self) -> str:
        """Return the leader's address, ``""`` if it is this server."""
        deadline = time.monotonic() + self._hold_s
        while True:
            if self._driver.is_leader:
                return ""
            address = self._driver.leader_address
            if address and address != self._server.address:
                return address
            if time.monotonic() >= deadline:
                raise NoLeaderError
            await asyncio.sleep(_LEADER_POLL_S)

    def _reply(self, index: int) -> SnapshotReply:
        return SnapshotReply(
            index=index,
            known_leader=bool(self._driver.leader_address),
            last_contact=self._driver.last_contact_ms() * _MS,
        )


class ClientSnapshots:
    """Asks the servers a client agent knows, the next when one is gone."""

    def __init__(self, servers: ServerList, client: SnapshotClient) -> None:
        self._servers = servers
        self._client = client

    async def save(self, request: SnapshotRequest) -> SavedSnapshot:
        """See ``SnapshotPort``."""
        last: ConsulError = NoServersError()
        for address in self._servers.addresses:
            try:
                return await self._client.save(address, request)
            except RpcConnectionError as error:
                last = error
        raise last

    async def restore(
        self, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        """See ``SnapshotPort``; once it was sent nobody else is asked."""
        if request.allow_stale:
            raise ConsulError(STALE_RESTORE)
        last: ConsulError = NoServersError()
        for address in self._servers.addresses:
            try:
                return await self._client.restore(address, request, archive)
            except RpcConnectionError as error:
                if error.sent:
                    raise
                last = error
        raise last


def _archive_meta(
    index: int, term: int, configuration: Configuration, configuration_index: int
) -> SnapshotMeta:
    servers = [
        {"Suffrage": int(one.suffrage), "ID": one.id, "Address": one.address}
        for one in configuration.servers
    ]
    peers = pack([one.address for one in configuration.servers])
    return SnapshotMeta(
        id=f"{term}-{index}-{time.time_ns() // _MS}",
        index=index,
        term=term,
        peers=encode_peers(peers),
        configuration={"Servers": servers},
        configuration_index=configuration_index,
    )


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file from its beginning."""
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece
