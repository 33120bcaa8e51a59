"""Conversations of whole nodes: Serf on the real memberlist, virtual time."""

from __future__ import annotations

import pytest
from serf_pool import VirtualPool

from pyconsul.gossip.messages import Joined
from pyconsul.serf.member import MemberEvent, Status, UserEvent
from pyconsul.serf.outputs import LeaveDone, SnapshotLine
from pyconsul.serf.settings import CONSUL, Settings
from pyconsul.serf.snapshot import SnapshotLog, SnapshotState


def pool_of(*names: str) -> VirtualPool:
    pool = VirtualPool()
    for name in names:
        pool.add(name, tags={"role": "node", "id": name})
    for name in names[1:]:
        pool.join(name, names[0])
    pool.run(2.0)
    return pool


def kinds(pool: VirtualPool, name: str, of: str) -> list[str]:
    return [
        event.kind
        for event in pool.of(name, MemberEvent)
        if any(member.name == of for member in event.members)
    ]


def test_join_shows_everybody_with_tags() -> None:
    pool = pool_of("a", "b", "c")
    for name in "abc":
        members = {member.name: member for member in pool.nodes[name].members()}
        assert sorted(members) == ["a", "b", "c"]
        assert all(member.status is Status.ALIVE for member in members.values())
        assert members["b"].tags == {"role": "node", "id": "b"}
        assert kinds(pool, name, "b") == ["join"]
    (joined,) = pool.of("b", Joined)
    assert joined.error == ""


def test_graceful_leave_is_left_not_failed() -> None:
    pool = pool_of("a", "b", "c")
    begun = pool.now
    pool.do("c", lambda serf: serf.leave(pool.now))
    assert pool.run(20.0, until=lambda: bool(pool.of("c", LeaveDone)))
    assert pool.now - begun >= CONSUL.leave_propagate_delay_s
    for name in "ab":
        assert pool.status(name, "c") is Status.LEFT
        assert kinds(pool, name, "c") == ["join", "leave"]


def test_a_lone_node_leaves_at_once() -> None:
    pool = VirtualPool()
    pool.add("a")
    pool.do("a", lambda serf: serf.leave(pool.now))
    assert pool.run(0.0, until=lambda: bool(pool.of("a", LeaveDone)))


def test_one_whose_peers_have_all_failed_leaves_at_once_and_notes_it() -> None:
    pool = pool_of("a")
    log = SnapshotLog()
    pool.add("b", snapshot=log.state())
    pool.join("b", "a")
    pool.cut.add("a")
    assert pool.run(60.0, until=lambda: pool.status("b", "a") is Status.FAILED)
    pool.do("b", lambda serf: serf.leave(pool.now))
    assert pool.run(0.0, until=lambda: bool(pool.of("b", LeaveDone)))
    assert pool.of("b", SnapshotLine)[-1].text == "leave"


def test_crash_is_failed_and_comes_back_by_reconnect() -> None:
    pool = pool_of("a", "b", "c")
    pool.cut.add("c")
    assert pool.run(60.0, until=lambda: pool.status("a", "c") is Status.FAILED)
    assert pool.run(5.0, until=lambda: pool.status("b", "c") is Status.FAILED)
    assert kinds(pool, "a", "c") == ["join", "failed"]
    assert pool.nodes["a"].stats()["failed"] == "1"
    pool.add("c", tags={"role": "node", "id": "c"})  # knows nobody
    assert pool.run(900.0, until=lambda: pool.status("a", "c") is Status.ALIVE)
    assert len(pool.nodes["c"].members()) == 3


def test_rejoin_from_the_snapshot() -> None:
    pool = pool_of("a", "b")
    log = SnapshotLog()
    pool.add("c", snapshot=log.state())
    pool.join("c", "a")
    pool.do("a", lambda serf: serf.user_event("deploy", b"1", False, pool.now))
    pool.run(3.0)
    for line in pool.of("c", SnapshotLine):
        log.add(line.text)
    again = SnapshotLog()
    again.load(log.compacted())
    state = again.state()
    assert set(state.alive) == {"a", "b", "c"}
    assert state.event_clock == 1
    assert state.clock > 0
    pool.cut.add("c")
    pool.run(30.0)
    pool.add("c", snapshot=state)
    assert pool.run(5.0, until=lambda: len(pool.nodes["c"].members()) == 3)
    # What was delivered before the restart is not delivered again.
    pool.run(5.0)
    assert pool.of("c", UserEvent) == []


def test_rejoin_tries_one_member_after_the_other() -> None:
    pool = pool_of("a", "b", "c", "d")
    pool.cut |= {"b", "c"}
    gone = {f"z{number}": ("10.9.9.9", number + 1) for number in range(3)}
    alive = {name: pool.nodes[name].address for name in "abcd"}
    pool.cut.add("d")
    pool.run(1.0)
    pool.add("d", snapshot=SnapshotState(alive=alive | gone))
    assert pool.run(
        70.0, until=lambda: pool.nodes["d"].member("a") is not None
    )  # five dead ends of ten seconds at most
    assert pool.run(5.0, until=lambda: pool.status("a", "d") is Status.ALIVE)


def test_queues_are_kept_short() -> None:
    pool = VirtualPool()
    pool.add("a", settings=Settings(queue_depth_max=8))
    for number in range(50):
        pool.do(
            "a", lambda serf, n=number: serf.user_event(f"e{n}", b"", False, pool.now)
        )
    assert pool.nodes["a"].stats()["event_queue"] == "50"
    pool.run(31.0)
    assert pool.nodes["a"].stats()["event_queue"] == "8"


def test_leave_is_the_last_line() -> None:
    pool = pool_of("a")
    pool.add("b", snapshot=SnapshotState())
    pool.join("b", "a")
    pool.do("b", lambda serf: serf.leave(pool.now))
    pool.run(10.0)
    assert pool.of("b", SnapshotLine)[-1].text == "leave"


def test_event_reaches_all_once() -> None:
    names = [f"n{number}" for number in range(12)]
    pool = pool_of(*names)
    pool.do("n3", lambda serf: serf.user_event("deploy", b"x", False, pool.now))
    assert pool.run(3.0, until=lambda: all(pool.of(name, UserEvent) for name in names))
    pool.run(60.0)  # past several push/pulls
    for name in names:
        (event,) = pool.of(name, UserEvent)
        assert (event.name, event.payload, event.ltime) == ("deploy", b"x", 1)


@pytest.mark.parametrize(("ignore_old", "count"), [(False, 1), (True, 0)])
def test_a_newcomer_replays_events_unless_told_not_to(
    ignore_old: bool, count: int
) -> None:
    pool = pool_of("a", "b")
    pool.do("a", lambda serf: serf.user_event("old", b"", False, pool.now))
    pool.run(30.0)
    pool.add("c")
    pool.join("c", "a", ignore_old=ignore_old)
    pool.run(1.0)
    assert len(pool.of("c", UserEvent)) == count
    pool.do("a", lambda serf: serf.user_event("new", b"", False, pool.now))
    pool.run(5.0)
    assert [event.name for event in pool.of("c", UserEvent)][count:] == ["new"]


def test_force_leave_and_prune() -> None:
    pool = pool_of("a", "b", "c", "d")
    pool.cut |= {"c", "d"}
    pool.run(60.0)
    assert pool.status("a", "c") is Status.FAILED
    pool.do("a", lambda serf: serf.force_leave("c", False, pool.now))
    pool.do("a", lambda serf: serf.force_leave("d", True, pool.now))
    pool.run(5.0)
    for name in "ab":
        assert kinds(pool, name, "c") == ["join", "failed", "leave"]
        assert kinds(pool, name, "d") == ["join", "failed", "leave", "reap"]
        assert pool.status(name, "d") is Status.NONE


def test_force_leave_of_a_live_node_is_refuted() -> None:
    pool = pool_of("a", "b", "c")
    pool.do("a", lambda serf: serf.force_leave("c", False, pool.now))
    assert pool.status("a", "c") is Status.LEAVING
    pool.run(10.0)
    assert [pool.status(name, "c") for name in "abc"] == [Status.ALIVE] * 3


def test_failed_and_left_members_are_reaped() -> None:
    settings = Settings(reconnect_timeout_s=100.0, tombstone_timeout_s=200.0)
    pool = VirtualPool()
    pool.add("a", settings=settings)
    pool.add("b", settings=settings)
    pool.add("c", settings=settings, tags={"rc_tm": "1h"})
    pool.add("d", settings=settings)
    for name in "bcd":
        pool.join(name, "a")
    pool.do("d", lambda serf: serf.leave(pool.now))
    pool.run(12.0)
    pool.cut |= {"b", "c", "d"}
    assert pool.run(60.0, until=lambda: pool.nodes["a"].stats()["failed"] == "2")
    pool.run(116.0)
    assert pool.status("a", "b") is Status.NONE
    assert kinds(pool, "a", "b") == ["join", "failed", "reap"]
    assert pool.status("a", "d") is Status.LEFT
    pool.run(100.0)
    assert pool.status("a", "d") is Status.NONE
    assert pool.status("a", "c") is Status.FAILED  # its own tag says an hour


def test_tags_change_everywhere() -> None:
    pool = pool_of("a", "b")
    pool.do("b", lambda serf: serf.set_tags({"acls": "1"}, pool.now))
    assert pool.nodes["b"].local_member().tags == {"acls": "1"}
    pool.run(3.0)
    member = pool.nodes["a"].member("b")
    assert member is not None
    assert member.tags == {"acls": "1"}
    assert kinds(pool, "a", "b") == ["join", "update"]
    assert kinds(pool, "b", "b") == ["join", "update"]


def test_a_member_that_left_may_come_back() -> None:
    pool = pool_of("a", "b", "c")
    pool.do("c", lambda serf: serf.leave(pool.now))
    pool.run(10.0)
    pool.cut.add("c")
    pool.run(5.0)
    pool.add("c")
    pool.join("c", "b")
    pool.run(120.0)  # tombstones in push/pulls must not make it leave again
    assert [pool.status(name, "c") for name in "abc"] == [Status.ALIVE] * 3


def test_stats_have_the_keys_of_info() -> None:
    pool = pool_of("a", "b")
    stats = pool.nodes["a"].stats()
    assert " ".join(stats) == (
        "coordinate_resets encrypted event_queue event_time failed health_score"
        " intent_queue left member_time members query_queue query_time"
    )
    assert (stats["members"], stats["encrypted"]) == ("2", "false")


def test_coordinates_come_with_pings() -> None:
    pool = pool_of("a", "b", "c")
    pool.run(60.0)
    there = pool.nodes["a"].coordinate_of("b")
    assert there is not None
    assert there.error < 1.5
    assert pool.nodes["a"].coordinate_of("nobody") is None
