from __future__ import annotations

import asyncio
import selectors
from asyncio import Future
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from pyconsul.net.client_caller import ClientCaller
from pyconsul.net.rpc_errors import RpcConnectionError, broken_call
from pyconsul.types.errors import (
    ConsulError,
    NoLeaderError,
    NoServersError,
    TooManyRequestsError,
)
from pyconsul.types.messages import KeyRequest, KVSRequest, Reply

A, B, C = "10.0.0.1:8300", "10.0.0.2:8300", "10.0.0.3:8300"
GET = KeyRequest(key="k")
SET = KVSRequest(op="set")


class _JumpingSelector(selectors.DefaultSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer when all wait."""

    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class Pool:
    """Keeps calls until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any, float]] = []
        self.futures: list[Future[Reply]] = []
        self.down: set[str] = set()

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        self.calls.append((address, method, args, timeout_s))
        self.futures.append(future)
        if address in self.down:
            text = f"rpc error getting client: failed to get conn: dial tcp {address}"
            future.set_exception(RpcConnectionError(text, sent=False))
        elif method == "Status.Ping":
            future.set_result(Reply(True))
        return future

    @property
    def addresses(self) -> list[str]:
        return [call[0] for call in self.calls]


class Agent:
    """A client agent of three servers."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.caller = ClientCaller(self.pool, random=Random(3))
        for name, address in (("a", A), ("b", B), ("c", C)):
            self.caller.add_server(name, address)
        self.order = self.caller.servers.addresses

    def call(self, method: str, args: Any) -> Future[Reply]:
        reply = self.caller.call(method, args)
        assert isinstance(reply, Future)
        return reply


def client(
    test: Callable[[Agent], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def run() -> None:
        agent = Agent()
        await test(agent)
        agent.caller.stop()

    def main() -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(run())

    main.__name__ = test.__name__
    return main


def now() -> float:
    return asyncio.get_running_loop().time()


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


@client
async def test_one_server_is_asked_for_everything(agent: Agent) -> None:
    read, write = agent.call("KVS.Get", GET), agent.call("KVS.Apply", SET)
    stale = agent.call("KVS.Get", KeyRequest(key="k", allow_stale=True))
    assert agent.pool.addresses == [agent.order[0]] * 3
    for future in agent.pool.futures:
        future.set_result(Reply("v"))
    assert [(await one).value for one in (read, write, stale)] == ["v"] * 3


@client
async def test_a_dead_server_is_left_for_the_next_at_once(agent: Agent) -> None:
    began = now()
    agent.pool.down.add(agent.order[0])
    write = agent.call("KVS.Apply", SET)
    await settle()
    assert agent.pool.addresses == list(agent.order[:2])
    agent.pool.futures[1].set_result(Reply(True))
    assert (await write).value is True
    assert now() == began
    assert agent.caller.servers.first == agent.order[1]


@client
async def test_when_all_are_dead_calls_pause_and_then_say_why(agent: Agent) -> None:
    agent.pool.down |= {A, B, C}
    began = now()
    with pytest.raises(ConsulError, match=r"^rpc error getting client: .* dial tcp"):
        await agent.call("KVS.Apply", SET)
    assert 6.9 <= now() - began <= 7.5
    assert 10 < len(agent.pool.calls) < 200
    write = agent.call("KVS.Apply", SET)
    await asyncio.sleep(2)
    agent.pool.down.clear()
    await asyncio.sleep(1)
    agent.pool.futures[-1].set_result(Reply(True))
    assert (await write).value is True


@client
async def test_broken_reads_are_repeated_and_writes_are_not(agent: Agent) -> None:
    read, write = agent.call("KVS.Get", GET), agent.call("KVS.Apply", SET)
    for future in list(agent.pool.futures):
        future.set_exception(broken_call(sent=True))
    with pytest.raises(ConsulError, match=r"^rpc error making call: EOF$"):
        await write
    await settle()
    assert agent.pool.addresses == [agent.order[0]] * 2 + [agent.order[1]]
    agent.pool.futures[2].set_result(Reply("v"))
    assert (await read).value == "v"


@client
async def test_no_leader_is_tried_again_within_the_hold(agent: Agent) -> None:
    began = now()
    write = agent.call("KVS.Apply", SET)
    agent.pool.futures[0].set_exception(NoLeaderError())
    await asyncio.sleep(1)
    assert len(agent.pool.calls) == 2
    await asyncio.sleep(7)
    agent.pool.futures[1].set_exception(NoLeaderError())
    with pytest.raises(NoLeaderError):
        await write
    assert now() - began < 9


@client
async def test_reads_leave_a_server_that_gossip_calls_dead(agent: Agent) -> None:
    read = agent.call("KVS.Get", GET)
    waiting = agent.call("KVS.Get", KeyRequest(key="k", min_query_index=5))
    name = "abc"[(A, B, C).index(agent.order[0])]
    agent.caller.remove_server(name)
    assert all(future.cancelled() for future in agent.pool.futures[:2])
    assert agent.pool.addresses[2:] == [agent.order[1]] * 2
    for future in agent.pool.futures[2:]:
        future.set_result(Reply("v", 6))
    assert (await read).value == "v"
    assert (await waiting).value == "v"


@client
async def test_without_servers_calls_fail_at_once(agent: Agent) -> None:
    write, slow = agent.call("KVS.Apply", SET), agent.call("KVS.Apply", SET)
    for name in "abc":
        agent.caller.remove_server(name)
    with pytest.raises(NoServersError, match=r"^No known Consul servers$"):
        agent.caller.call("KVS.Get", GET)
    # A call that was under way gets the server that comes back.
    agent.pool.futures[0].set_exception(NoLeaderError())
    await settle()
    agent.caller.add_server("a", A)
    agent.pool.futures[2].set_result(Reply(True))
    assert (await write).value is True
    with pytest.raises(ConsulError, match=r"^rpc error making call: EOF$"):
        await slow


@client
async def test_the_rate_is_limited_until_reconfigured(agent: Agent) -> None:
    agent.caller.reconfigure(rate=1, burst=2)
    calls = [agent.call("KVS.Get", GET) for _ in "ab"]
    with pytest.raises(TooManyRequestsError, match=r"^RPC rate limit exceeded$"):
        agent.caller.call("KVS.Get", GET)
    agent.caller.reconfigure(rate=float("inf"), burst=1)
    calls += [agent.call("KVS.Get", GET) for _ in range(10)]
    agent.pool.futures[0].set_result(Reply("v"))
    await settle()
    agent.pool.futures[1].set_result(Reply("v"))
    assert {(await one).value for one in calls} == {"v"}
    assert len(agent.pool.calls) == 2


@client
async def test_blocking_calls_have_time_for_their_wait(agent: Agent) -> None:
    agent.call("KVS.Get", GET)
    for seconds in (0, 32, 10_000):
        agent.call(
            "KVS.Get",
            KeyRequest(
                key="k", min_query_index=seconds + 1, max_query_time=seconds * 10**9
            ),
        )
    timeouts = [call[3] for call in agent.pool.calls]
    assert timeouts == [60.0, 300 * 17 / 16 + 7, 32 + 2 + 7, 600 * 17 / 16 + 7]


@client
async def test_a_thousand_equal_waiters_are_two_calls(agent: Agent) -> None:
    args = KeyRequest(key="k", min_query_index=5)
    waiters = [agent.call("KVS.Get", args) for _ in range(1000)]
    assert len(agent.pool.calls) == 1
    agent.pool.futures[0].set_result(Reply("new", 6))
    assert (await waiters[0]).value == "new"
    await asyncio.sleep(0.001)
    agent.pool.futures[1].set_result(Reply("newer", 7))
    replies = [await one for one in waiters[1:]]
    assert {id(reply) for reply in replies} == {id(replies[0])}
    assert len(agent.pool.calls) == 2


@client
async def test_rebalancing_finds_a_healthy_server(agent: Agent) -> None:
    agent.caller.start()
    agent.pool.down |= {A, B}
    await asyncio.sleep(181)
    assert agent.caller.servers.first == C
    assert agent.pool.calls[-1][1] == "Status.Ping"
    agent.pool.down.add(C)
    await asyncio.sleep(181)
    with pytest.raises(NoServersError):
        agent.caller.call("KVS.Get", GET)
    agent.pool.down.clear()
    await asyncio.sleep(16)
    assert agent.caller.servers.first
    agent.call("KVS.Get", GET)


@client
async def test_waits_are_as_long_as_the_configuration_says(agent: Agent) -> None:
    agent.caller.times.max_wait_s = 1500.0
    agent.caller.times.answer_s = 5.0
    long = KeyRequest(key="k", min_query_index=9, max_query_time=1200 * 10**9)
    waiting = [agent.call("KVS.Get", long), agent.call("KVS.Get", GET)]
    (_, _, _, blocking), (_, _, _, plain) = agent.pool.calls
    assert 1200 * 17 / 16 < blocking < 1300
    assert plain == 5.0
    agent.pool.futures[1].set_result(Reply("v"))
    await asyncio.sleep(700)
    agent.caller.remove_server(
        next(n for n, a in (("a", A), ("b", B), ("c", C)) if a == agent.order[0])
    )
    await settle()
    left = agent.pool.calls[-1][2]
    assert 500 <= left.max_query_time / 10**9 <= 600
    assert left.min_query_index == 9
    waiting[0].cancel()
