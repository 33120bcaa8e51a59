"""Default reads of a follower: fresh as the leader's, answered from here."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from endpoints_fakes import Cluster, run, settle
from routing_fakes import Asked, Broken, FakePool

from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import (
    EmptyRequest,
    KeyRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.operations import RaftStats

LEADER, OTHER = "10.0.0.1:8300", "10.0.0.2:8300"
STATS = "Status.RaftStats"


class Follower(Cluster):
    """A server that follows ``LEADER`` and has ``k`` at index 11."""

    def __init__(self) -> None:
        super().__init__(address="10.0.0.9")
        self.pool = FakePool()
        self.server.forwarder = self.pool

    async def begin(self) -> None:
        await self.put("k", b"here")
        self.log.lead(False)
        self.follows(LEADER)

    def follows(self, address: str) -> None:
        self.log.leader_address = address
        for callback in self.log.on_leader_known:
            callback(address)

    def get(self, key: str = "k", **more: Any) -> Future[Reply]:
        reply = self.call("KVS.Get", KeyRequest(key=key, **more))
        assert isinstance(reply, Future)
        return reply


def leads(asked: Asked, index: int, contact: str = "0") -> None:
    assert asked.method == STATS
    asked.answer(RaftStats(last_contact=contact, last_term=2, last_index=index))


def follower(
    test: Callable[[Follower], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    def main() -> None:
        async def body() -> None:
            cluster = Follower()
            await cluster.begin()
            await test(cluster)

        run(body)

    main.__name__ = test.__name__
    return main


def value(reply: Reply) -> bytes:
    return reply.value.record.value


@follower
async def test_one_question_serves_all_reads_that_came_before(
    cluster: Follower,
) -> None:
    first = cluster.get()
    second, third = cluster.get(), cluster.get("none")
    (asked,) = cluster.pool.asked
    assert (asked.address, asked.method, asked.args) == (LEADER, STATS, EmptyRequest())
    leads(asked, cluster.log.index)
    reply = await first
    assert (value(reply), reply.last_contact_ms, reply.known_leader) == (
        b"here",
        0,
        True,
    )
    # Those that came while the question was under way have one of their own.
    assert not second.done()
    assert not third.done()
    leads(cluster.pool.asked[1], cluster.log.index)
    assert value(await second) == b"here"
    assert (await third).value is None
    assert len(cluster.pool.asked) == 2


@pytest.mark.parametrize("ahead", [1, -1])
def test_who_stands_elsewhere_asks_the_leader_for_the_value(ahead: int) -> None:
    @follower
    async def test(cluster: Follower) -> None:
        read = cluster.get()
        leads(cluster.pool.asked[0], cluster.log.index + ahead)
        await settle()
        one = cluster.pool.asked[1]
        assert (one.address, one.method, one.args.key) == (LEADER, "KVS.Get", "k")
        one.answer("the leader's", 12)
        assert (await read).value == "the leader's"

    test()


@pytest.mark.parametrize("contact", ["never", "12ms", ""])
def test_who_does_not_lead_is_not_believed(contact: str) -> None:
    @follower
    async def test(cluster: Follower) -> None:
        read = cluster.get()
        leads(cluster.pool.asked[0], 1, contact)
        await settle()
        cluster.pool.asked[1].answer("asked")
        assert (await read).value == "asked"

    test()


@pytest.mark.parametrize(
    "error", [Broken(sent=True), Broken(sent=False), ConsulError("no such method")]
)
def test_a_question_that_fails_is_no_answer(error: ConsulError) -> None:
    @follower
    async def test(cluster: Follower) -> None:
        read = cluster.get()
        cluster.pool.asked[0].fail(error)
        await settle()
        asked = cluster.pool.asked[1]
        assert asked.method == "KVS.Get"
        asked.answer("asked")
        assert (await read).value == "asked"

    test()


@follower
async def test_a_question_that_gets_lost_holds_up_nobody_for_long(
    cluster: Follower,
) -> None:
    read, later = cluster.get(), cluster.get()
    await asyncio.sleep(1.1)
    assert cluster.pool.asked[0].future.cancelled()
    asked, again = cluster.pool.asked[2], cluster.pool.asked[1]
    assert (again.method, asked.method) == (STATS, "KVS.Get")
    asked.answer("asked")
    assert (await read).value == "asked"
    leads(again, cluster.log.index)
    assert value(await later) == b"here"


@follower
async def test_a_new_leader_makes_the_question_void(cluster: Follower) -> None:
    read, later = cluster.get(), cluster.get("other")
    cluster.follows(OTHER)
    await settle()
    assert cluster.pool.asked[0].future.cancelled()
    methods = {(one.address, one.method) for one in cluster.pool.pending}
    assert methods == {(OTHER, STATS), (OTHER, "KVS.Get")}
    for asked in cluster.pool.pending:
        if asked.method == STATS:
            leads(asked, cluster.log.index)
        else:
            asked.answer("new")
    assert (await read).value == "new"
    assert (await later).value is None


@follower
async def test_without_a_leader_reads_are_held(cluster: Follower) -> None:
    cluster.follows("")
    read = cluster.get()
    await settle()
    assert not read.done()
    cluster.follows(OTHER)
    await settle()
    cluster.pool.asked[0].answer("found")
    assert (await read).value == "found"


@follower
async def test_who_leads_by_now_answers_itself(cluster: Follower) -> None:
    read = cluster.get()
    cluster.log.leader_address = cluster.server.address
    cluster.log.lead(True)
    assert value(await read) == b"here"


@follower
async def test_a_client_that_left_disturbs_nobody(cluster: Follower) -> None:
    gone, read = cluster.get(), cluster.get()
    gone.cancel()
    leads(cluster.pool.asked[0], cluster.log.index)
    await settle()
    leads(cluster.pool.asked[1], cluster.log.index)
    assert value(await read) == b"here"


@follower
async def test_what_is_wrong_with_a_read_is_told_to_it_alone(
    cluster: Follower,
) -> None:
    await settle()
    first = cluster.get("first")
    bad = cluster.call(
        "Health.ServiceNodes", ServiceSpecificRequest(service_name="w", filter="(")
    )
    good = cluster.get()
    assert isinstance(bad, Future)
    leads(cluster.pool.asked[0], cluster.log.index)
    await first
    leads(cluster.pool.asked[1], cluster.log.index)
    with pytest.raises(ConsulError, match="evaluator"):
        await bad
    assert value(await good) == b"here"


@follower
async def test_blocking_and_raft_reads_go_to_the_leader(cluster: Follower) -> None:
    cluster.get(min_query_index=5)
    cluster.call("Operator.ServerHealth", EmptyRequest())
    asked = [one.method for one in cluster.pool.asked]
    assert asked == ["KVS.Get", "Operator.ServerHealth"]


def test_a_leader_without_lease_does_not_say_that_it_leads() -> None:
    async def main() -> None:
        cluster = Cluster()
        said = (await cluster.ask(STATS, EmptyRequest())).value
        assert (said.last_contact, said.last_index) == ("0", cluster.log.index)
        cluster.log.applied_index -= 1  # something is written, but not yet applied
        assert (await cluster.ask(STATS, EmptyRequest())).value.last_contact == "never"
        cluster.log.applied_index += 1
        cluster.log.lease = False
        assert (await cluster.ask(STATS, EmptyRequest())).value.last_contact == "never"

    run(main)
