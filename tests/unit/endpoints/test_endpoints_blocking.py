"""The blocking loop: who is woken, by what, once, and what stays behind."""

from __future__ import annotations

import asyncio
import tracemalloc
from asyncio import Future
from collections.abc import Callable

import pytest
from endpoints_fakes import Cluster, blocked, run, settle, waits

from pyconsul.acl import authorizer
from pyconsul.types.errors import PermissionDeniedError
from pyconsul.types.messages import DCSpecificRequest, KeyRequest, Reply


def now() -> float:
    return asyncio.get_running_loop().time()


def test_older_index_answers_at_once_and_zero_is_reported_as_one() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        assert isinstance(cluster.call("KVS.Get", blocked("a", 1)), Reply)
        empty = Cluster().call("KVS.Get", KeyRequest(key="none"))
        assert isinstance(empty, Reply)
        assert (empty.value, empty.index) == (None, 1)

    run(main)


def test_only_its_own_key_wakes_a_reader() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        future = waits(cluster.call("KVS.Get", blocked("a", cluster.log.index)))
        await cluster.put("b")
        await settle()
        assert not future.done()
        await cluster.put("a", b"new")
        reply = await future
        assert reply.value.record.value == b"new"
        assert reply.index == cluster.log.index
        assert cluster.waiting() == 0
        assert len(cluster.server.blocking) == 0

    run(main)


def test_timeout_gives_the_last_evaluation_within_the_jitter() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        for asked, low in ((16.0, 16.0), (0.0, 300.0), (5000.0, 600.0)):
            start = now()
            reply = await waits(
                cluster.call("KVS.Get", blocked("a", 99_999, wait_s=asked))
            )
            assert low <= now() - start < low * 17 / 16
            assert reply.index == cluster.log.index
        assert cluster.waiting() == 0

    run(main)


def test_timeout_never_answers_an_older_index_than_was_known() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("other")
        first = waits(cluster.call("KVS.Get", blocked("none", cluster.log.index)))
        await cluster.put("other", b"2")
        seen = await cluster.ask("KVS.Get", KeyRequest(key="none"))
        second = waits(cluster.call("KVS.Get", blocked("none", seen.index)))
        assert (await second).index >= seen.index
        await first

    run(main)


def test_equal_waiters_share_one_evaluation_and_one_reply() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        index = cluster.log.index
        futures = [
            waits(cluster.call("KVS.Get", blocked("a", index, wait_s=60 + at)))
            for at in range(1000)
        ]
        other = waits(cluster.call("KVS.Get", blocked("a", index, token="t")))
        assert len(cluster.server.blocking) == 2
        assert cluster.waiting() == 2
        before = cluster.state.kv_get
        calls = 0

        def counted(key: str) -> object:
            nonlocal calls
            calls += 1
            return before(key)

        cluster.state.kv_get = counted  # type: ignore[method-assign, assignment]
        await cluster.put("a", b"new")
        replies = {id(reply) for reply in await asyncio.gather(*futures)}
        assert len(replies) == 1
        assert id(await other) not in replies
        assert calls == 2

    run(main)


def test_cancelling_leaves_no_waiter_and_no_subscription() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        futures = [
            waits(cluster.call("KVS.Get", blocked("a", cluster.log.index)))
            for _ in range(3)
        ]
        futures[0].cancel()
        await settle()
        assert cluster.waiting() == 1
        for future in futures[1:]:
            future.cancel()
        await settle()
        assert cluster.waiting() == 0
        assert len(cluster.server.blocking) == 0

    run(main)


def test_a_waiter_costs_less_than_a_kilobyte() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        args = blocked("a", cluster.log.index, wait_s=300)
        futures: list[Future[Reply]] = [waits(cluster.call("KVS.Get", args))]
        tracemalloc.start()
        futures += [waits(cluster.call("KVS.Get", args)) for _ in range(2000)]
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used / 2000 < 1024
        cluster.server.stop()
        await asyncio.gather(*futures)
        assert cluster.waiting() == 0

    run(main)


def test_a_restore_wakes_everybody() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("a")
        chunks = list(cluster.state.snapshot().chunks())
        await cluster.put("b")
        futures = [
            waits(cluster.call("KVS.Get", blocked("a", 99_999))),
            waits(
                cluster.call("Session.List", DCSpecificRequest(min_query_index=99_999))
            ),
        ]
        cluster.state.restore(chunks)
        cluster.server.on_restored()
        await settle()
        assert all(future.done() for future in futures)
        assert cluster.waiting() == 0

    run(main)


def test_a_failing_evaluation_fails_its_waiters_and_not_later_ones() -> None:
    class Revocable(authorizer.AllowAll):
        allows_all = False
        allowed = True
        on_refusal: Callable[[], object] | None = None

        def key_read(self, key: str) -> bool:
            if not self.allowed and self.on_refusal is not None:
                # Joins after the failure, before the failed waiters have left.
                asyncio.get_running_loop().call_soon(self.on_refusal)
            return self.allowed

    class Resolver:
        rights = Revocable()

        def resolve(self, token: str) -> authorizer.Authorizer:
            return self.rights

    async def main() -> None:
        cluster = Cluster()
        resolver = cluster.server.resolver = Resolver()
        await cluster.put("a")
        later: list[Future[Reply]] = []

        def join() -> None:
            resolver.rights.allowed = True
            asked = blocked("a", cluster.log.index)
            later.append(waits(cluster.call("KVS.Get", asked)))

        first = waits(cluster.call("KVS.Get", blocked("a", cluster.log.index)))
        resolver.rights.allowed = False
        resolver.rights.on_refusal = join
        await cluster.put("a", b"2")
        with pytest.raises(PermissionDeniedError):
            await first
        await settle()
        assert cluster.waiting() == 1
        await cluster.put("a", b"3")
        start = now()
        assert (await later[0]).value.record.value == b"3"
        assert now() == start
        assert cluster.waiting() == 0

    run(main)
