from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from endpoints_fakes import Cluster, blocked, run, settle, waits
from routing_fakes import Broken, FakePool

from pyconsul.types.errors import (
    CommandError,
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
)
from pyconsul.types.messages import (
    EmptyRequest,
    KeyRequest,
    KVSRequest,
    Reply,
    ServiceSpecificRequest,
    SessionSpecificRequest,
)
from pyconsul.types.records import DirEntry

LEADER, OTHER = "10.0.0.1:8300", "10.0.0.2:8300"
GET = KeyRequest(key="k")
SET = KVSRequest(op="set", dir_ent=DirEntry(key="k", value=b"v"))


class Follower(Cluster):
    """A server that follows ``LEADER``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(address="10.0.0.9", **options)
        self.pool = FakePool()
        self.server.forwarder = self.pool
        self.log.lead(False)
        self.log.leader_address = LEADER

    def get(self, **more: Any) -> Future[Reply]:
        """Read what only the leader can answer, unless stale."""
        more.setdefault("require_consistent", "allow_stale" not in more)
        reply = self.call("KVS.Get", KeyRequest(key="k", **more))
        assert isinstance(reply, Future)
        return reply

    def set(self) -> Future[Reply]:
        reply = self.call("KVS.Apply", SET)
        assert isinstance(reply, Future)
        return reply

    def follows(self, address: str) -> None:
        self.log.leader_address = address
        for callback in self.log.on_leader_known:
            callback(address)


def follower(
    test: Callable[[Follower], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    def main() -> None:
        run(lambda: test(Follower()))

    main.__name__ = test.__name__
    return main


def later(reply: Reply | Future[Reply]) -> Future[Reply]:
    assert isinstance(reply, Future)
    return reply


def now() -> float:
    return asyncio.get_running_loop().time()


@follower
async def test_reads_and_writes_go_to_the_leader(cluster: Follower) -> None:
    read, write = cluster.get(), cluster.set()
    assert [one.address for one in cluster.pool.asked] == [LEADER, LEADER]
    first, second = cluster.pool.asked
    assert (first.method, first.args.key) == ("KVS.Get", "k")
    assert (second.method, second.args) == ("KVS.Apply", SET)
    first.answer("value", 7)
    second.answer(True)
    assert (await read).value == "value"
    assert (await write).value is True
    assert not cluster.server.routed.in_flight


@follower
async def test_errors_of_the_leader_are_the_answer(cluster: Follower) -> None:
    write = cluster.set()
    cluster.pool.asked[0].fail(CommandError("raft apply failed: no"))
    with pytest.raises(CommandError, match="raft apply failed: no"):
        await write
    assert len(cluster.pool.asked) == 1


@follower
async def test_stale_reads_and_local_methods_stay_here(cluster: Follower) -> None:
    reply = await cluster.ask("KVS.Get", KeyRequest(key="k", allow_stale=True))
    assert (reply.last_contact_ms, reply.known_leader) == (40, True)
    assert (await cluster.ask("Status.Leader", EmptyRequest())).value == LEADER
    assert cluster.server.stale_contact_ms() == 40
    cluster.log.leader_address = ""
    assert cluster.server.stale_contact_ms() == -1
    assert not cluster.pool.asked


@follower
async def test_a_server_that_never_heard_a_leader_has_no_stale_answer(
    cluster: Follower,
) -> None:
    cluster.log.has_leader_contact = False
    read = cluster.get(allow_stale=True)
    cluster.pool.asked[0].answer("leaders")
    assert (await read).value == "leaders"


@follower
async def test_without_a_leader_calls_are_held_then_fail(cluster: Follower) -> None:
    cluster.follows("")
    began = now()
    read, write = cluster.get(), cluster.set()
    for held in (read, write):
        with pytest.raises(NoLeaderError, match="No cluster leader"):
            await held
    assert 6.9 <= now() - began <= 7.2
    assert not cluster.pool.asked
    assert not cluster.server.routed.parked


@follower
async def test_a_leader_change_is_a_pause(cluster: Follower) -> None:
    cluster.follows("")
    read, write = cluster.get(), cluster.set()
    await asyncio.sleep(3)
    cluster.follows(OTHER)
    assert [one.address for one in cluster.pool.asked] == [OTHER, OTHER]
    for one in cluster.pool.asked:
        one.answer(True)
    assert (await read).value is True
    assert (await write).value is True


@follower
async def test_held_calls_are_answered_here_once_this_server_leads(
    cluster: Follower,
) -> None:
    cluster.follows("")
    read, write = cluster.get(require_consistent=False), cluster.set()
    cluster.log.leader_address = cluster.server.address
    await asyncio.sleep(1)  # elected, but not yet ready: nothing to ask
    assert not read.done()
    cluster.log.lead(True)
    assert (await read).value is None
    assert (await write).value is True
    assert not cluster.pool.asked


@follower
async def test_a_target_that_lost_leadership_is_left_for_the_new(
    cluster: Follower,
) -> None:
    write = cluster.set()
    cluster.pool.asked[0].fail(NoLeaderError())
    await settle()
    cluster.follows(OTHER)
    assert [one.address for one in cluster.pool.asked] == [LEADER, OTHER]
    cluster.pool.asked[1].answer(True)
    assert (await write).value is True


@follower
async def test_refused_connections_are_tried_again_within_the_hold(
    cluster: Follower,
) -> None:
    cluster.pool.refusing.add(LEADER)
    write = cluster.set()
    await asyncio.sleep(2)
    assert len(cluster.pool.asked) > 3
    cluster.pool.refusing.clear()
    await asyncio.sleep(1)  # pauses are shorter
    cluster.pool.pending[0].answer(True)
    assert (await write).value is True
    cluster.pool.refusing.add(LEADER)
    began = now()
    with pytest.raises(ConsulError, match=r"^rpc error getting client: .*refused"):
        await cluster.set()
    assert 6.9 <= now() - began <= 7.5


@follower
async def test_a_write_that_may_have_happened_is_not_repeated(
    cluster: Follower,
) -> None:
    write = cluster.set()
    cluster.pool.asked[0].fail(Broken(sent=True))
    with pytest.raises(ConsulError, match=r"^rpc error making call: EOF$"):
        await write
    cluster.follows(OTHER)
    assert len(cluster.pool.asked) == 1


@follower
async def test_reads_and_renewals_are_repeated(cluster: Follower) -> None:
    read = cluster.get()
    renewed = cluster.call("Session.Renew", SessionSpecificRequest(session_id="s"))
    for one in list(cluster.pool.asked):
        one.fail(Broken(sent=True))
    await settle()
    cluster.follows(OTHER)
    assert [one.address for one in cluster.pool.pending] == [OTHER, OTHER]
    for one in cluster.pool.pending:
        one.answer("found")
    assert (await read).value == "found"
    assert (await later(renewed)).value == "found"


@follower
async def test_a_leader_that_hangs_is_left_for_the_new(cluster: Follower) -> None:
    read, write, slow = cluster.get(), cluster.set(), cluster.set()
    cluster.follows(OTHER)
    asked = cluster.pool.asked
    assert asked[0].future.cancelled()
    assert [one.method for one in asked] == [
        "KVS.Get",
        "KVS.Apply",
        "KVS.Apply",
        "KVS.Get",
    ]
    asked[3].answer("new")
    assert (await read).value == "new"
    # Writes are not repeated; their answers may be on the way, for a moment.
    await asyncio.sleep(0.5)
    asked[1].answer(True)
    assert (await write).value is True
    with pytest.raises(ConsulError, match="leadership lost while committing log"):
        await slow
    await settle()
    assert asked[2].future.cancelled()
    assert not cluster.server.routed.in_flight


@follower
async def test_a_client_that_leaves_takes_its_write_along(cluster: Follower) -> None:
    cluster.set().cancel()
    await settle()
    assert cluster.pool.asked[0].future.cancelled()


@follower
async def test_a_blocking_read_moves_with_the_time_it_has_left(
    cluster: Follower,
) -> None:
    read = cluster.call("KVS.Get", blocked("k", 5, wait_s=100))
    await asyncio.sleep(60)
    cluster.pool.asked[0].fail(Broken(sent=True))
    await settle()
    cluster.follows(OTHER)
    again = cluster.pool.asked[1]
    assert again.args.min_query_index == 5
    assert 40 <= again.args.max_query_time / 1e9 <= 47
    again.answer("later", 6)
    assert (await later(read)).value == "later"


def test_the_leader_itself_waits_out_the_loss_of_its_lease() -> None:
    async def main() -> None:
        cluster = Cluster()
        await cluster.put("k")
        cluster.log.lease = False
        failed: Future[None] = asyncio.get_running_loop().create_future()
        confirm, cluster.log.verify_leader = cluster.log.verify_leader, lambda: failed
        read = waits(cluster.call("KVS.Get", GET))
        consistent = waits(
            cluster.call("KVS.Get", KeyRequest(key="k", require_consistent=True))
        )
        failed.set_exception(ConsulError("leadership lost while committing log"))
        cluster.log.lead(False)
        await settle()
        assert not read.done()
        cluster.log.verify_leader = confirm
        cluster.log.lead(True)
        assert (await read).value.record.value == b"v"
        assert (await consistent).value.record.value == b"v"
        assert await cluster.put("k", b"w") is True  # without a lease as well

    run(main)


@follower
async def test_equal_reads_share_the_next_round_trip(cluster: Follower) -> None:
    first = cluster.get()
    late = [cluster.get() for _ in range(50)]
    asks_other = KeyRequest(key="other", require_consistent=True)
    other = cluster.call("KVS.Get", asks_other)
    assert len(cluster.pool.asked) == 2
    cluster.pool.asked[0].answer("old")
    assert (await first).value == "old"
    assert not any(one.done() for one in late)
    assert len(cluster.pool.asked) == 3
    cluster.pool.asked[2].answer("new")
    replies = [await one for one in late]
    assert {id(reply) for reply in replies} == {id(replies[0])}
    assert replies[0].value == "new"
    cluster.pool.asked[1].answer("o")
    await waits(other)
    await settle()
    assert len(cluster.server.shared) == 0


@follower
async def test_a_read_after_an_acknowledged_write_sees_it(cluster: Follower) -> None:
    """The round trip under way may have been evaluated before the write."""
    early = cluster.get()
    write = cluster.set()
    cluster.pool.asked[1].answer(True)
    await write
    after = cluster.get()
    cluster.pool.asked[0].answer("before the write")
    assert (await early).value == "before the write"
    await settle()
    cluster.pool.asked[2].answer("after the write")
    assert (await after).value == "after the write"


@follower
async def test_reads_with_lists_in_their_arguments_share_too(
    cluster: Follower,
) -> None:
    args = [
        ServiceSpecificRequest(
            service_name="web", service_tags=tags, require_consistent=True
        )
        for tags in (["a"], ["a"], ["a"], ["b"])
    ]
    replies = [waits(cluster.call("Health.ServiceNodes", one)) for one in args]
    assert len(cluster.pool.asked) == 2
    replies[0].cancel()  # the others must not suffer
    await settle()
    assert cluster.pool.asked[0].future.cancelled()
    for one in cluster.pool.pending:
        one.answer(one.args.service_tags)
    assert (await replies[1]).value == ["a"]
    assert (await replies[2]).value == ["a"]
    assert (await replies[3]).value == ["b"]


@follower
async def test_equal_waiters_share_one_stream(cluster: Follower) -> None:
    waiters = [cluster.call("KVS.Get", blocked("k", 5, 60)) for _ in range(1000)]
    other = waits(cluster.call("KVS.Get", blocked("k", 6, 60)))
    assert len(cluster.pool.asked) == 2
    cluster.pool.asked[0].answer("new", 6)
    assert (await later(waiters[0])).value == "new"
    await settle()
    # The answer may be older than those who joined: they ask once, all together.
    again = cluster.pool.asked[2]
    assert (again.args.min_query_index, again.args.max_query_time) == (0, 0)
    again.answer("newer", 7)
    replies = [await later(one) for one in waiters[1:]]
    assert {id(reply) for reply in replies} == {id(replies[0])}
    assert replies[0].value == "newer"
    other.cancel()
    await settle()
    assert cluster.pool.asked[1].future.cancelled()
    assert len(cluster.server.shared) == 0


@follower
async def test_stale_waiters_take_the_shared_answer(cluster: Follower) -> None:
    cluster.log.has_leader_contact = False
    args = blocked("k", 5, 60, allow_stale=True)
    waiters = [cluster.call("KVS.Get", args) for _ in range(10)]
    cluster.pool.asked[0].answer("new", 6)
    assert {(await later(one)).value for one in waiters} == {"new"}
    assert len(cluster.pool.asked) == 1


@follower
async def test_a_shorter_wait_ends_in_time(cluster: Follower) -> None:
    long = waits(cluster.call("KVS.Get", blocked("k", 5, 60)))
    short = [waits(cluster.call("KVS.Get", blocked("k", 5, 10))) for _ in range(3)]
    await asyncio.sleep(9.99)
    assert len(cluster.pool.asked) == 1
    await asyncio.sleep(0.7)  # a sixteenth more
    asked = cluster.pool.asked[1]
    assert (asked.args.min_query_index, asked.args.max_query_time) == (0, 0)
    await asyncio.sleep(1)  # the other two joined the next round trip
    asked.answer("same", 5)
    await settle()
    cluster.pool.asked[2].answer("same", 5)
    assert [(await one).value for one in short] == ["same"] * 3
    assert not long.done()
    assert len(cluster.pool.asked) == 3


@follower
async def test_a_longer_wait_goes_on_when_the_shared_one_ends(
    cluster: Follower,
) -> None:
    short = waits(cluster.call("KVS.Get", blocked("k", 5, 10)))
    long = waits(cluster.call("KVS.Get", blocked("k", 5, 60)))
    await asyncio.sleep(10.3)
    cluster.pool.asked[0].answer("same", 5)
    assert (await short).value == "same"
    await settle()
    again = cluster.pool.asked[1]
    assert again.args.min_query_index == 5
    assert 49 <= again.args.max_query_time / 1e9 <= 54
    again.answer("changed", 6)
    assert (await long).value == "changed"


@follower
async def test_the_first_of_equal_waiters_may_leave(cluster: Follower) -> None:
    first, second = (waits(cluster.call("KVS.Get", blocked("k", 5, 60))) for _ in "ab")
    first.cancel()
    await settle()
    assert cluster.pool.asked[0].future.cancelled()
    assert len(cluster.pool.pending) == 1
    second.cancel()
    await settle()
    assert not cluster.pool.pending
    assert len(cluster.server.shared) == 0


@follower
async def test_consistent_waiters_do_not_share(cluster: Follower) -> None:
    args = blocked("k", 5, 60, require_consistent=True)
    both = [waits(cluster.call("KVS.Get", args)) for _ in "ab"]
    assert len(cluster.pool.asked) == 2
    for one in cluster.pool.asked:
        one.answer("v", 6)
    assert [(await one).value for one in both] == ["v", "v"]


@follower
async def test_other_datacenters_leave_in_one_place(cluster: Follower) -> None:
    elsewhere = KeyRequest(key="k", datacenter="dc2")
    with pytest.raises(NoPathToDatacenterError):
        cluster.call("KVS.Get", elsewhere)
    there = Cluster()
    cluster.server.wan = there
    await there.put("k", b"far")
    here = KeyRequest(key="k", datacenter="")
    there.server.options = there.server.options.__class__(
        datacenter="dc2", node_name="far"
    )
    assert (await cluster.ask("KVS.Get", elsewhere)).value.record.value == b"far"
    assert waits(cluster.call("KVS.Get", here))
    cluster.server.stop()


@follower
async def test_stop_fails_who_waits(cluster: Follower) -> None:
    read = cluster.get()
    cluster.follows("")
    held = cluster.set()
    cluster.server.stop()
    for one in (read, held):
        with pytest.raises(NoLeaderError):
            await one
    await settle()
    assert cluster.pool.asked[0].future.cancelled()


@follower
async def test_stop_does_not_deny_a_write_under_way(cluster: Follower) -> None:
    # "No cluster leader" would make a client agent send it again.
    write = cluster.set()
    cluster.server.stop()
    with pytest.raises(ConsulError, match="EOF") as failure:
        await write
    assert not isinstance(failure.value, NoLeaderError)


@follower
async def test_without_a_leader_no_shared_read_waits_twice(cluster: Follower) -> None:
    cluster.follows("")
    begun = now()
    first = cluster.get()
    await asyncio.sleep(1)
    second = cluster.get()
    with pytest.raises(NoLeaderError):
        await first
    assert now() - begun == pytest.approx(7, abs=0.01)
    with pytest.raises(NoLeaderError):
        await second
    assert now() - begun == pytest.approx(8, abs=0.01)


def leading() -> Follower:
    """The same server, leading at first."""
    cluster = Follower()
    cluster.log.leader_address = cluster.server.address
    cluster.log.lead(True)
    return cluster


def test_who_waits_at_a_leader_moves_on_with_the_leadership() -> None:
    async def main() -> None:
        cluster = leading()
        await cluster.put("k")
        waiters = [
            waits(cluster.call("KVS.Get", blocked("k", 99, 60))) for _ in range(3)
        ]
        stale = waits(cluster.call("KVS.Get", blocked("k", 99, 60, allow_stale=True)))
        await asyncio.sleep(20)
        cluster.log.lead(False)
        cluster.follows(LEADER)
        asked = cluster.pool.asked
        assert len(asked) == 1  # they share one stream
        assert asked[0].args.min_query_index == 99
        assert 39 <= asked[0].args.max_query_time / 1e9 <= 44
        asked[0].answer("of the new leader", 100)
        await settle()
        asked[1].answer("of the new leader", 100)
        assert {(await one).value for one in waiters} == {"of the new leader"}
        assert not stale.done()
        stale.cancel()
        await settle()
        assert cluster.waiting() == 0

    run(main)


@pytest.mark.parametrize("change", [False, True])
def test_without_the_lease_no_waiting_read_is_answered_from_here(change: bool) -> None:
    async def main() -> None:
        cluster = leading()
        await cluster.put("k")
        index = (await cluster.ask("KVS.Get", GET)).index
        read = waits(cluster.call("KVS.Get", blocked("k", index, 10)))
        verified = cluster.log.verified
        cluster.log.lease = False
        if change:
            await cluster.put("k", b"changed")
        else:
            await asyncio.sleep(11)
        assert (await read).value.record.value == (b"changed" if change else b"v")
        # A quorum was asked, by the write too.
        assert cluster.log.verified == verified + 1 + change

    run(main)
