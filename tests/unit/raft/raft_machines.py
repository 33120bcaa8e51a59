"""Drivers with transports over loopback, for the tests of both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pyconsul.net.disk_store import DiskStore
from pyconsul.net.log_store import LogStore, MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_transport import RaftTransport
from pyconsul.raft.messages import (
    Configuration,
    Message,
    Peer,
    Settings,
)
from pyconsul.types.errors import ConsulError

FAST = Settings(
    election_timeout=0.3, heartbeat_interval=0.03, lease_timeout=0.25, cache_entries=8
)
# Where nobody but the first leader is to lead: all servers share one loop, and a
# busy machine or a large archive keeps it from heartbeats for longer than FAST has.
PATIENT = Settings(
    election_timeout=2.0, heartbeat_interval=0.1, lease_timeout=1.8, cache_entries=8
)


class View:
    def __init__(self, rows: dict[str, int]) -> None:
        self.rows = rows

    def chunks(self) -> Iterator[bytes]:
        data = msgspec.json.encode(self.rows)
        for at in range(0, len(data), 700):
            yield data[at : at + 700]


class Rows:
    """Keeps the index of each command's last application."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.restored = 0

    def apply(self, index: int, data: bytes) -> object:
        self.rows[data.decode()] = index
        return index

    def snapshot(self) -> View:
        return View(dict(self.rows))

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.rows = msgspec.json.decode(b"".join(chunks), type=dict[str, int])
        self.restored += 1


class Machine:
    """A server of the test: its port stays the same over restarts."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self.folder = folder
        self.memory = MemoryStore()
        self.port = 0
        self.fsm = Rows()
        self.known: list[str] = []
        self.open: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def store(self) -> LogStore:
        if self.folder is None:
            return self.memory
        return DiskStore(self.folder / self.name, segment_bytes=1 << 14)

    async def start(self, settings: Settings = FAST, **options: Any) -> RaftDriver:
        self.cut = False
        self.listener = await asyncio.start_server(
            self.serve, "127.0.0.1", self.port or None
        )
        self.port = self.listener.sockets[0].getsockname()[1]
        self.transport = RaftTransport(
            self.name, self.address, timeout_s=settings.election_timeout
        )
        self.fsm = Rows()
        self.driver = RaftDriver(
            self.store(),
            self.fsm,
            self.name,
            self.address,
            **{
                "bootstrap": False,
                "transport": self.transport,
                "settings": settings,
                "trailing_logs": 5,
                "rng": random.Random(ord(self.name)),
                **options,
            },
        )
        self.driver.on_leader_known.append(self.known.append)
        await self.driver.start()
        return self.driver

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.open.add(writer)
        try:
            if not self.cut and await reader.read(1) == b"\x01":
                await self.transport.accept(reader, writer)
        finally:
            self.open.discard(writer)
            writer.transport.abort()

    async def stop(self) -> None:
        await self.driver.stop()
        await self.transport.close()
        self.listener.close()
        for writer in list(self.open):
            writer.transport.abort()
        await until(lambda: not self.open)


def go(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 90))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the code under test has no event)
        await asyncio.sleep(0.001)


def leader(machines: Iterable[Machine]) -> RaftDriver | None:
    return next((m.driver for m in machines if m.driver.is_leader), None)


async def cluster(
    folder: Path | None, names: str = "abc", settings: Settings = FAST
) -> dict[str, Machine]:
    """Start servers and bootstrap all of them with one configuration."""
    machines = {name: Machine(name, folder) for name in names}
    for machine in machines.values():
        await machine.start(settings)
    servers = tuple(Peer(id=m.name, address=m.address) for m in machines.values())
    for machine in machines.values():
        assert not machine.driver.has_state
        machine.driver.bootstrap(Configuration(servers=servers))
        assert machine.driver.has_state
    await until(lambda: leader(machines.values()) is not None)
    return machines


async def stop(machines: dict[str, Machine]) -> None:
    for machine in machines.values():
        await machine.stop()


class Silent:
    """A receiver that answers when told to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.lost: list[tuple[str, bool]] = []

    def receive(self, message: Message, address: str) -> None:
        self.got.append(message)

    async def receive_snapshot(self, *args: Any) -> None:
        raise ConsulError("not now")

    def appends_lost(self, server_id: str, *, retry: bool) -> None:
        self.lost.append((server_id, retry))

    def id_of(self, address: str) -> str:
        return "known" if address == "9.9.9.9:1" else ""
