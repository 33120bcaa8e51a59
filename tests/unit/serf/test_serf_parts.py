"""Clocks, buffers, queue, intents, coordinates and snapshot lines by themselves."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from pyconsul.gossip.messages import Node
from pyconsul.serf.broadcasts import BroadcastQueue
from pyconsul.serf.clock import LTIME_MAX, LamportClock
from pyconsul.serf.coordinate import CoordinateClient, decode_ack, encode_ack
from pyconsul.serf.events import EventBuffer, QueryBuffer
from pyconsul.serf.member import Member, MemberEvent, Status
from pyconsul.serf.members import MemberTable
from pyconsul.serf.messages import EventMessage, JoinIntent, LeaveIntent
from pyconsul.serf.settings import CONSUL, Settings
from pyconsul.serf.snapshot import COMPACT_BYTES_MIN, SnapshotLog
from pyconsul.types.coordinates import HEIGHT_MIN, Coord, origin, round_trip


def test_clock() -> None:
    clock = LamportClock()
    assert clock.time == 1
    assert clock.increment() == 1
    clock.witness(1)
    assert clock.time == 2
    clock.witness(2)
    assert clock.time == 3
    clock.witness(41)
    assert clock.time == 42
    clock.witness(LTIME_MAX)  # nobody's clock is that far
    assert clock.time == 42


def event(ltime: int, name: str = "deploy", payload: bytes = b"") -> EventMessage:
    return EventMessage(ltime=ltime, name=name, payload=payload)


def test_events_are_told_apart_by_time_name_and_payload() -> None:
    buffer = EventBuffer(512)
    assert buffer.add(event(5), 6)
    assert not buffer.add(event(5), 6)
    assert buffer.add(event(5, payload=b"x"), 6)
    assert buffer.add(event(5, name="other"), 6)
    assert buffer.add(event(6), 7)
    recent = buffer.recent()
    assert [at.ltime for at in recent] == [5, 6]
    assert len(recent[0].events) == 3


def test_old_events_are_refused() -> None:
    buffer = EventBuffer(512)
    assert buffer.add(event(100), 612)
    assert not buffer.add(event(99), 612)
    assert buffer.add(event(612), 613)  # takes the slot of 100
    assert [at.ltime for at in buffer.recent()] == [612]
    buffer.minimum = 700
    assert not buffer.add(event(699), 700)
    assert buffer.add(event(700), 701)


def test_queries_are_told_apart_by_time_and_id() -> None:
    buffer = QueryBuffer(512)
    assert buffer.add(5, 77, 6)
    assert not buffer.add(5, 77, 6)
    assert buffer.add(5, 78, 6)
    assert not buffer.add(5, 79, 518)
    buffer.minimum = 600
    assert not buffer.add(599, 1, 600)


def test_queue_order_and_retransmits() -> None:
    queue = BroadcastQueue()
    done: list[str] = []
    queue.add(b"aa", lambda: done.append("aa"))
    queue.add(b"bbbb")
    queue.add(b"cc")
    assert queue.take(3, 100, 2) == [b"bbbb", b"cc", b"aa"]
    queue.add(b"d")
    assert queue.take(3, 9, 2) == [b"d", b"cc"]  # the fresh one first; bbbb too long
    assert done == []
    assert queue.take(3, 12, 2) == [b"bbbb", b"aa"]
    assert done == ["aa"]
    assert len(queue) == 1
    assert queue.take(3, 3, 2) == []
    assert queue.take(3, 4, 2) == [b"d"]
    assert len(queue) == 0
    assert queue.take(3, 100, 2) == []


def test_queue_prune_drops_the_most_sent() -> None:
    queue = BroadcastQueue()
    dropped: list[str] = []
    queue.add(b"old", lambda: dropped.append("old"))
    queue.take(2, 100, 4)
    queue.add(b"new")
    queue.prune(1)
    assert dropped == ["old"]
    assert queue.take(2, 100, 4) == [b"new"]


class Table:
    """A table and what it told."""

    def __init__(self) -> None:
        self.events: list[MemberEvent] = []
        self.accused = 0
        self.pruned: list[Member] = []
        self.forgotten: list[str] = []
        self.table = MemberTable(
            "me",
            Settings(reconnect_timeout_s=100.0, tombstone_timeout_s=50.0),
            emit=self.events.append,
            on_accused=self._accused,
            on_prune=self.pruned.append,
            on_forgotten=self.forgotten.append,
        )
        self.table.joined(node("me"))

    def _accused(self) -> None:
        self.accused += 1

    def with_status(self, status: Status) -> MemberTable:
        """Bring member ``x`` into a status, with status time 5."""
        self.table.join_intent(JoinIntent(ltime=4, node="x"), 0.0)
        self.table.joined(node("x"))
        if status in (Status.LEAVING, Status.LEFT):
            self.table.leave_intent(LeaveIntent(ltime=5, node="x"), 0.0)
        else:
            self.table.join_intent(JoinIntent(ltime=5, node="x"), 0.0)
        if status in (Status.LEFT, Status.FAILED):
            self.table.gone(node("x"), 10.0)
        assert self.status == status
        self.events.clear()
        return self.table

    @property
    def status(self) -> Status:
        member = self.table.get("x")
        return Status.NONE if member is None else member.status

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def node(name: str, tags: bytes = b"") -> Node:
    return Node(name=name, host="10.0.0.1", port=8301, meta=tags)


INTENTS: list[tuple[Status, Any, bool, Status, list[str]]] = [
    (Status.ALIVE, JoinIntent(ltime=5, node="x"), False, Status.ALIVE, []),
    (Status.ALIVE, JoinIntent(ltime=6, node="x"), True, Status.ALIVE, []),
    (Status.LEAVING, JoinIntent(ltime=5, node="x"), False, Status.LEAVING, []),
    (Status.LEAVING, JoinIntent(ltime=6, node="x"), True, Status.ALIVE, []),
    (Status.LEFT, JoinIntent(ltime=6, node="x"), True, Status.LEFT, []),
    (Status.FAILED, JoinIntent(ltime=6, node="x"), True, Status.FAILED, []),
    (Status.ALIVE, LeaveIntent(ltime=5, node="x"), False, Status.ALIVE, []),
    (Status.ALIVE, LeaveIntent(ltime=6, node="x"), True, Status.LEAVING, []),
    (Status.LEAVING, LeaveIntent(ltime=6, node="x"), False, Status.LEAVING, []),
    (Status.LEFT, LeaveIntent(ltime=6, node="x"), False, Status.LEFT, []),
    (Status.FAILED, LeaveIntent(ltime=5, node="x"), False, Status.FAILED, []),
    (Status.FAILED, LeaveIntent(ltime=6, node="x"), True, Status.LEFT, ["leave"]),
]


@pytest.mark.parametrize(("before", "intent", "passes", "after", "kinds"), INTENTS)
def test_intents(
    before: Status,
    intent: JoinIntent | LeaveIntent,
    passes: bool,
    after: Status,
    kinds: list[str],
) -> None:
    world = Table()
    table = world.with_status(before)
    if isinstance(intent, JoinIntent):
        assert table.join_intent(intent, 20.0) is passes
    else:
        assert table.leave_intent(intent, 20.0) is passes
    assert world.status is after
    assert world.kinds == kinds
    assert table.clock.time == intent.ltime + 1


@pytest.mark.parametrize(
    "before", [Status.ALIVE, Status.LEAVING, Status.LEFT, Status.FAILED]
)
def test_prune_passes_on_and_asks_to_forget(before: Status) -> None:
    world = Table()
    table = world.with_status(before)
    intent = LeaveIntent(ltime=6, node="x", prune=True)
    assert table.leave_intent(intent, 20.0)
    assert [member.name for member in world.pruned] == ["x"]


def test_leave_intent_about_us_is_refuted_while_we_stay() -> None:
    world = Table()
    assert not world.table.leave_intent(LeaveIntent(ltime=9, node="me"), 0.0)
    assert world.accused == 1
    world.table.is_staying = False
    assert world.table.leave_intent(LeaveIntent(ltime=10, node="me"), 0.0)
    assert world.accused == 1


def test_intents_about_unknown_members_wait_for_them() -> None:
    world = Table()
    table = world.table
    assert table.leave_intent(LeaveIntent(ltime=7, node="x"), 0.0)
    assert not table.join_intent(JoinIntent(ltime=7, node="x"), 0.0)
    table.joined(node("x"))
    assert world.status is Status.LEAVING
    table.gone(node("x"), 1.0)
    assert world.status is Status.LEFT
    # One that is five minutes old does not count any more.
    table.leave_intent(LeaveIntent(ltime=8, node="y"), 0.0)
    table.reap(301.0)
    table.joined(node("y"))
    member = table.get("y")
    assert member is not None
    assert member.status is Status.ALIVE


def test_unknown_names_do_not_pile_up() -> None:
    table = Table().table
    for number in range(9000):
        table.join_intent(JoinIntent(ltime=1, node=f"n{number}"), 0.0)
    table.joined(node("n0"))
    table.joined(node("n8999"))
    assert table.states["n0"].status_ltime == 0  # was dropped
    assert table.states["n8999"].status_ltime == 1


def test_random_positions_stay_right_when_members_go() -> None:
    table = Table().table
    for name in "abcd":
        table.joined(node(name))
    table.forget("a")
    table.forget("d")
    assert len(table) == 3
    assert sorted(table.at(at).name for at in range(3)) == ["b", "c", "me"]


def client_pair(seed: int) -> tuple[CoordinateClient, CoordinateClient]:
    return (
        CoordinateClient(random.Random(seed)),
        CoordinateClient(random.Random(seed + 1)),
    )


def test_one_update_by_hand() -> None:
    """The first sample of a node at the origin, computed from 8.8."""
    client, _ = client_pair(1)
    other = Coord(vec=[0.1] + [0.0] * 7, error=0.5, height=HEIGHT_MIN)
    assert client.update("b", other, 0.05)
    dist = 0.1 + 2 * HEIGHT_MIN
    weight = 1.5 / (1.5 + 0.5)
    error = min(1.5, 0.25 * weight * (dist - 0.05) / 0.05 + 1.5 * (1 - 0.25 * weight))
    force = 0.25 * weight * (0.05 - dist)
    place = -force  # away from ``other``, who is on the positive side
    height = max(HEIGHT_MIN, 2 * HEIGHT_MIN * force / 0.1 + HEIGHT_MIN)
    raw = 0.1 - place + height + HEIGHT_MIN
    adjustment = (0.05 - raw) / 40
    far = place + height + HEIGHT_MIN
    far = far + adjustment if far + adjustment > 0 else far
    pull = -((far / 150) ** 2)
    found = client.coordinate
    assert found.error == pytest.approx(error, rel=1e-12)
    assert found.adjustment == pytest.approx(adjustment, rel=1e-12)
    assert found.vec[0] == pytest.approx(place + pull, rel=1e-12)
    assert found.vec[1:] == [0.0] * 7
    assert found.height == HEIGHT_MIN


def test_coordinates_converge() -> None:
    rng = random.Random(7)
    places = [(rng.uniform(0, 0.05), rng.uniform(0, 0.05)) for _ in range(10)]
    clients = [CoordinateClient(random.Random(n)) for n in range(10)]
    for _ in range(3000):
        one, two = rng.sample(range(10), 2)
        rtt = 0.001 + math.dist(places[one], places[two])
        clients[one].update(str(two), clients[two].coordinate, rtt)
    errors = [
        abs(
            round_trip(clients[a].coordinate, clients[b].coordinate)
            - (0.001 + math.dist(places[a], places[b]))
        )
        for a in range(10)
        for b in range(a)
    ]
    assert sum(errors) / len(errors) < 0.002
    assert all(client.resets == 0 for client in clients)


def test_outliers_are_filtered() -> None:
    client, _ = client_pair(3)
    other = Coord(vec=[0.01] + [0.0] * 7, error=0.1, height=HEIGHT_MIN)
    twin, _ = client_pair(3)
    for rtt, median in ((0.01, 0.01), (0.01, 0.01), (9.0, 0.01), (0.01, 0.01)):
        client.update("b", other, rtt)
        twin.update("b", other, median)
    assert client.coordinate == twin.coordinate
    client.forget("b")
    client.update("b", other, 9.0)
    assert client.coordinate != twin.coordinate


@pytest.mark.parametrize("rtt", [-0.1, 10.5, math.nan, math.inf])
def test_impossible_times_are_refused(rtt: float) -> None:
    client, other = client_pair(1)
    assert not client.update("b", other.coordinate, rtt)
    assert client.coordinate == origin()


def test_overflow_resets() -> None:
    client, _ = client_pair(1)
    huge = Coord(vec=[1e308] * 8, error=0.1, height=1e308)
    assert client.update("b", huge, 0.1)
    assert client.resets == 1
    assert client.coordinate == origin()


def test_ack_payload() -> None:
    coordinate = Coord(vec=[0.5] * 8, error=0.25, adjustment=-0.1, height=0.001)
    payload = encode_ack(coordinate)
    assert payload[0] == 1
    assert decode_ack(payload) == coordinate
    assert decode_ack(b"") is None
    assert decode_ack(b"\x02" + payload[1:]) is None
    assert decode_ack(payload[:-1]) is None
    assert decode_ack(encode_ack(Coord(vec=[0.0] * 7))) is None
    assert decode_ack(encode_ack(Coord(vec=[math.nan] * 8))) is None


def test_snapshot_lines() -> None:
    log = SnapshotLog()
    text = (
        "alive: a 10.0.0.1:8301\nalive: b c [fe80::1]:8301\nalive: d 10.0.0.4:8301\n"
        "not-alive: d\nclock: 12\nevent-clock: 3\nquery-clock: 4\n"
        "coordinate: {}\n# note\nalive: broken\nalive: e 1.2.3.4:99999\nclock: -4\n"
        "clock: 99"
    )
    log.load(text.encode())
    state = log.state()
    assert state.alive == {"a": ("10.0.0.1", 8301), "b c": ("fe80::1", 8301)}
    assert (state.clock, state.event_clock, state.query_clock) == (12, 3, 4)
    again = SnapshotLog()
    again.load(log.compacted())
    assert again.state() == state


@pytest.mark.parametrize(("rejoin", "count"), [(False, 0), (True, 1)])
def test_snapshot_leave(rejoin: bool, count: int) -> None:
    log = SnapshotLog(rejoin_after_leave=rejoin)
    log.load(b"alive: a 10.0.0.1:8301\nclock: 9\nleave\n")
    assert len(log.state().alive) == count
    assert log.state().clock == 9 * count


def test_a_left_snapshot_stays_left_when_compacted() -> None:
    log = SnapshotLog()
    log.add("alive: a 10.0.0.1:8301")
    log.add("leave")
    assert log.compacted().endswith(b"leave\n")


def test_snapshot_compaction_rule() -> None:
    log = SnapshotLog()
    line = "alive: a 10.0.0.1:8301"
    for _ in range(COMPACT_BYTES_MIN // (len(line) + 1)):
        log.add(line)
    assert not log.should_compact()
    log.add(line)
    assert log.should_compact()
    data = log.compacted()
    assert log.size_bytes == len(data) < 200
    assert not log.should_compact()


def test_consul_overrides() -> None:
    assert CONSUL.reap_interval_s == 15.0
    assert CONSUL.reconnect_timeout_s == 72 * 3600
    assert CONSUL.leave_propagate_delay_s == 3.0
    assert not CONSUL.resolve_conflicts
