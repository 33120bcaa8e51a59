"""``dns_config.use_cache`` on a client agent: replies that are followed."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any

import dns.message
import pytest

from pyconsul.dns import followed
from pyconsul.dns.answers import Resolver
from pyconsul.dns.codec import parse_query
from pyconsul.dns.followed import FollowedReads
from pyconsul.dns.options import DnsOptions
from pyconsul.dns.recursor import Recursor
from pyconsul.types.errors import NoLeaderError
from pyconsul.types.messages import Reply, ServiceSpecificRequest

ARGS = ServiceSpecificRequest(service_name="web", allow_stale=True)


class Servers:
    """Answers plain reads at once and blocking ones when there is news."""

    def __init__(self) -> None:
        self.index = 5
        self.plain = 0
        self.failing = False
        self.waiting: list[tuple[Any, Future[Reply]]] = []

    def call(self, method: str, args: Any) -> Future[Reply]:
        found: Future[Reply] = asyncio.get_running_loop().create_future()
        if args.min_query_index:
            if self.failing:
                found.set_exception(NoLeaderError())
            else:
                self.waiting.append((args, found))
        else:
            self.plain += 1
            found.set_result(Reply([], self.index))
        return found

    def news(self) -> None:
        self.index += 1
        waiting, self.waiting = self.waiting, []
        for args, found in waiting:
            assert args.min_query_index == self.index - 1
            found.set_result(Reply([], self.index))


class Waiter:
    fired = 0

    def fire(self) -> None:
        self.fired += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


Test = Callable[[Servers, FollowedReads, list[float]], Awaitable[None]]


def follows(test: Test) -> Callable[[], None]:
    async def run() -> None:
        now = [1000.0]
        servers = Servers()
        reads = FollowedReads(servers, lambda: now[0])
        try:
            await test(servers, reads, now)
        finally:
            reads.close()

    def main() -> None:
        asyncio.run(run())

    main.__name__ = test.__name__  # type: ignore[attr-defined]
    return main


async def ask(reads: FollowedReads, max_age_s: float = 0.0) -> Reply:
    return await reads.get("Health.ServiceNodes", ARGS, max_age_s)


@follows
async def test_servers_are_asked_once_and_tell_of_changes(
    servers: Servers, reads: FollowedReads, now: list[float]
) -> None:
    first = await ask(reads)
    await until(lambda: bool(servers.waiting))
    now[0] += 100
    second = await ask(reads)
    assert (first.index, second.index, servers.plain) == (5, 5, 1)
    waiter = Waiter()
    (cell,) = second.cells
    cell.subscribe(waiter)
    servers.news()
    await until(lambda: bool(servers.waiting))
    assert waiter.fired == 1
    cell.subscribe(waiter)  # too late: said at once
    assert waiter.fired == 2
    assert ((await ask(reads)).index, servers.plain) == (6, 1)


@follows
async def test_without_servers_a_reply_ages(
    servers: Servers, reads: FollowedReads, now: list[float]
) -> None:
    first = await ask(reads)
    await until(lambda: bool(servers.waiting))
    waiter = Waiter()
    first.cells[0].subscribe(waiter)
    servers.failing = True
    servers.waiting[0][1].set_exception(NoLeaderError())
    await until(lambda: waiter.fired == 1)
    now[0] += 10
    known = await ask(reads, max_age_s=10)
    assert (known.cells, servers.plain) == ((), 1)
    now[0] += 1
    await ask(reads, max_age_s=10)
    assert servers.plain == 2
    await ask(reads)
    assert servers.plain == 2


@follows
async def test_what_nobody_asks_for_is_forgotten(
    servers: Servers, reads: FollowedReads, now: list[float]
) -> None:
    await ask(reads)
    await until(lambda: bool(servers.waiting))
    now[0] += followed.IDLE_S + 1
    servers.news()
    await until(lambda: len(reads) == 0)


def test_what_is_followed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "FOLLOWED_MAX", 1)

    async def run() -> None:
        reads = FollowedReads(Servers(), lambda: 0.0)
        await ask(reads)
        other = ServiceSpecificRequest(service_name="db", allow_stale=True)
        reply = await reads.get("Health.ServiceNodes", other, 0.0)
        assert (reply.cells, len(reads)) == ((), 1)
        reads.close()

    asyncio.run(run())


def test_answers_of_a_client_agent_can_be_kept() -> None:
    async def run() -> None:
        servers = Servers()
        reads = FollowedReads(servers, lambda: 0.0)
        options = DnsOptions(datacenter="dc1", node_name="n", use_cache=True)
        resolver = Resolver(
            servers, options, Recursor((), 1.0), lambda: 0.0, followed=reads
        )
        wire = dns.message.make_query("web.service.consul", "A").to_wire()
        resolved = await resolver.resolve(parse_query(wire))
        assert resolved is not None
        assert len(resolved.cells or ()) == 1
        plain = Resolver(servers, options, Recursor((), 1.0), lambda: 0.0)
        resolved = await plain.resolve(parse_query(wire))
        assert resolved is not None
        assert resolved.cells is None
        reads.close()

    asyncio.run(run())
