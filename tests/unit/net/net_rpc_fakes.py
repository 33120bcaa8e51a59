"""A tiny method table, a caller that records, and a server with a pool to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from pyconsul.net.rpc_pool import RpcPool, RpcPoolLimits
from pyconsul.net.rpc_server import RpcServer, RpcServerLimits
from pyconsul.types.errors import ConsulError
from pyconsul.types.gomsgpack import MsgpackError
from pyconsul.types.messages import Reply


class PlainMethod:
    """Passes plain values through; arguments must be maps."""

    def args_to_plain(self, args: Any) -> Any:
        return args

    def args_from_plain(self, plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise MsgpackError("msgpack decode error: Args is no map")
        return plain  # pyright: ignore[reportUnknownVariableType]

    def reply_to_plain(self, reply: Reply, args: Any) -> Any:
        return reply.value

    def reply_from_plain(self, plain: Any, args: Any) -> Reply:
        return Reply(plain)

    def absent_reply(self, error: str) -> Reply | None:
        return Reply("absent") if error == "Query not found" else None


METHODS = {
    name: PlainMethod()
    for name in ("KVS.Get", "KVS.Apply", "Test.Wait", "Test.Fail", "Test.Break")
}


class FakeCaller:
    """Echoes; ``Test.Wait`` waits until the test settles its future."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.waiting: list[asyncio.Future[Reply]] = []
        self.arrived = asyncio.Event()

    def call(self, method: str, args: Any) -> Reply | asyncio.Future[Reply]:
        self.calls.append((method, args))
        if method == "Test.Fail":
            raise ConsulError(args["Text"])
        if method == "Test.Break":
            raise KeyError("a bug")
        if method == "Test.Wait":
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            self.arrived.set()
            return future
        return Reply(args.get("Value"))

    async def wait_for(self, count: int) -> None:
        """Wait until ``count`` calls wait."""
        while len(self.waiting) < count:
            self.arrived.clear()
            await self.arrived.wait()


class Loopback:
    """A server, a pool, and the address between them."""

    def __init__(self, server: RpcServer, pool: RpcPool, caller: FakeCaller) -> None:
        self.server = server
        self.pool = pool
        self.caller = caller
        self.host, self.port = server.address
        self.address = f"{self.host}:{self.port}"

    def call(
        self, method: str, timeout_s: float = 30.0, **args: Any
    ) -> asyncio.Future[Reply]:
        return self.pool.call(self.address, method, args, timeout_s=timeout_s)

    async def dial(self, data: bytes) -> tuple[asyncio.StreamReader, Any]:
        """Open a bare connection and send ``data``."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        return reader, writer


@asynccontextmanager
async def loopback(
    *,
    server_limits: RpcServerLimits | None = None,
    pool_limits: RpcPoolLimits | None = None,
    **hooks: Any,
) -> AsyncGenerator[Loopback]:
    """Run a server and a pool; both are closed in the end."""
    caller = FakeCaller()
    limits = server_limits or RpcServerLimits(stop_grace_s=0.0)
    server = RpcServer(caller, methods=METHODS, limits=limits, **hooks)
    await server.start("127.0.0.1", 0)
    pool = RpcPool(pool_limits, methods=METHODS)
    try:
        yield Loopback(server, pool, caller)
    finally:
        await pool.close()
        await server.stop()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on either event loop, within a limit."""

    async def whole() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(whole())
    uvloop.run(whole())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something has happened."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")
