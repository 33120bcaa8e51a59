"""A server over a log that applies at once, in time that jumps."""

from __future__ import annotations

import asyncio
import selectors
from asyncio import Future
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.raft.messages import Configuration
from pyconsul.state.store import StateStore
from pyconsul.types.errors import CommandError, NoLeaderError
from pyconsul.types.messages import KeyRequest, KVSRequest, RegisterRequest, Reply
from pyconsul.types.records import DirEntry, HealthCheck

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: a wait moves the clock instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits and no timer is set")
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when all wait."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test's coroutine in jumping time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


class MemoryLog:
    """A log of one server; answers as ``RaftDriver`` does."""

    def __init__(self, state: StateStore) -> None:
        self.state = state
        self.is_leader = True
        self.lease = True
        self.leader_address = "127.0.0.1:8300"
        self.on_leader_change: list[Callable[[bool], None]] = []
        self.commands: list[bytes] = []
        self.failures = 0
        self.verified = 0
        self.index = self.applied_index = 10
        self.configuration = Configuration()
        self.configuration_index = 1
        self.changes = 0
        self.transfers: list[str] = []
        self.on_leader_known: list[Callable[[str], None]] = []
        self.has_leader_contact = True

    def propose(self, command: bytes) -> Future[object]:
        loop = asyncio.get_running_loop()
        future: Future[object] = loop.create_future()
        if not self.is_leader or self.failures:
            self.failures = max(0, self.failures - 1)
            future.set_exception(NoLeaderError())
            return future
        self.commands.append(command)
        loop.call_soon(self._commit, command, future)
        return future

    def _commit(self, command: bytes, future: Future[object]) -> None:
        self.index += 1
        self.applied_index += 1
        result = self.state.apply(self.index, command)
        if future.done():
            return
        if isinstance(result, CommandError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def lead(self, leads: bool) -> None:
        self.is_leader = leads
        for callback in self.on_leader_change:
            callback(leads)

    def has_lease(self) -> bool:
        return self.is_leader and self.lease

    def peers(self) -> list[str]:
        return ["127.0.0.1:8300"]

    def verify_leader(self) -> Future[None]:
        self.verified += 1
        future: Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def transfer_leadership(self, target: str = "", /) -> str:
        self.transfers.append(target)
        return target or "other"

    def change_membership(
        self, change: Callable[[Configuration], Configuration], /
    ) -> Future[object]:
        loop = asyncio.get_running_loop()
        future: Future[object] = loop.create_future()
        self.changes += 1
        if not self.is_leader or self.failures:
            self.failures = max(0, self.failures - 1)
            future.set_exception(NoLeaderError())
            return future
        self.configuration = change(self.configuration)
        self.configuration_index += 1
        loop.call_soon(future.set_result, None)
        return future

    def stats(self) -> dict[str, str]:
        contact = "0" if self.is_leader else "40ms"
        return {
            "last_contact": contact,
            "last_log_term": "2",
            "last_log_index": str(self.index),
        }

    def last_contact_ms(self) -> int:
        return 0 if self.is_leader else 40


class Cluster:
    """A server with its log and state, and short forms of calls."""

    def __init__(self, **options: Any) -> None:
        self.state = StateStore()
        self.log = MemoryLog(self.state)
        self.server = Server(
            self.log,
            self.state,
            ServerOptions(datacenter="dc1", node_name="n1", **options),
            random=Random(1),
        )

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        return self.server.call(method, args)

    async def ask(self, method: str, args: Any) -> Reply:
        reply = self.server.call(method, args)
        return await reply if isinstance(reply, Future) else reply

    async def put(self, key: str, value: bytes = b"v", **more: Any) -> Any:
        op = more.pop("op", "set")
        entry = DirEntry(key=key, value=value, **more)
        return (await self.ask("KVS.Apply", KVSRequest(op=op, dir_ent=entry))).value

    async def node(self, name: str = "n1") -> None:
        request = RegisterRequest(
            node=name,
            address="10.0.0.1",
            check=HealthCheck(check_id="serfHealth", status="passing"),
        )
        assert (await self.ask("Catalog.Register", request)).value is True

    def waiting(self) -> int:
        """Waiters that the state knows of."""
        watch = self.state.watch
        spaces = (watch.keys, watch.prefixes, watch.services, watch.tables)
        return sum(len(names) for space in spaces for names in space.waiting.values())


def blocked(key: str, index: int, wait_s: float = 10, **more: Any) -> KeyRequest:
    """A blocking ``KVS.Get``."""
    return KeyRequest(
        key=key, min_query_index=index, max_query_time=int(wait_s * 1e9), **more
    )


def waits(reply: Reply | Future[Reply]) -> Future[Reply]:
    """The future of a call that must not have been answered yet."""
    assert isinstance(reply, Future)
    assert not reply.done()
    return reply


async def settle() -> None:
    """Let everything that is due run, without moving the clock."""
    for _ in range(6):
        await asyncio.sleep(0)
