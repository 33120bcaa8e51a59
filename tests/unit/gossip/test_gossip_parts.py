"""Keyring, streams, queue, suspicion, awareness, timers, random picks."""

from __future__ import annotations

import math
import random

import pytest

from pyconsul.gossip.awareness import Awareness
from pyconsul.gossip.codec import decode_error, encode_ack, encode_user_stream
from pyconsul.gossip.keyring import Keyring, KeyringError
from pyconsul.gossip.merge import check_versions, push_pull_interval_s
from pyconsul.gossip.messages import (
    LAN,
    WAN,
    Ack,
    DecodeError,
    MergeRefusedError,
    Node,
    NodeState,
    RemoteNode,
    Settings,
)
from pyconsul.gossip.packet import open_packet, seal_packet
from pyconsul.gossip.queue import BroadcastQueue, retransmit_limit, sure_limit
from pyconsul.gossip.stream import StreamError, StreamReader, seal_stream
from pyconsul.gossip.suspicion import Suspicion, shortest_timeout_s
from pyconsul.gossip.table import NodeTable, RandomSet
from pyconsul.gossip.timers import Timers

A, B, C = bytes(16), b"b" * 24, b"c" * 32


# Keyring.


def test_keyring_order_and_errors() -> None:
    ring = Keyring([A, B])
    ring.add(C)
    ring.add(A)  # known: nothing changes
    assert ring.keys == [A, B, C]
    ring.use(C)
    assert ring.keys == [C, A, B]
    assert ring.primary == C
    with pytest.raises(KeyringError, match="Removing the primary key is not allowed"):
        ring.remove(C)
    ring.remove(A)
    ring.remove(A)
    assert ring.keys == [C, B]
    with pytest.raises(KeyringError, match="Requested key is not in the keyring"):
        ring.use(A)
    with pytest.raises(KeyringError, match="16, 24 or 32"):
        ring.add(b"short")
    assert not Keyring()
    assert Keyring().primary is None


def test_any_installed_key_decrypts() -> None:
    old, new = Keyring([A]), Keyring([B, A])
    assert new.decrypt(old.encrypt(b"hello", b"label"), b"label") == b"hello"
    with pytest.raises(DecodeError, match="No installed keys"):
        old.decrypt(new.encrypt(b"hello"))
    with pytest.raises(DecodeError, match="No installed keys"):
        new.decrypt(old.encrypt(b"hello", b"label"))  # the label is authenticated


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "empty"), (b"\x02" + bytes(40), "version 2"), (b"\x01" * 20, "too small")],
)
def test_what_is_not_encrypted_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        Keyring([A]).decrypt(data)


def test_verify_settings() -> None:
    ring = Keyring([A])
    lax = Settings(verify_incoming=False, verify_outgoing=False)
    assert seal_packet(b"\x08hi", ring, lax) == b"\x08hi"
    assert open_packet(b"\x08hi", ring, lax) == [b"\x08hi"]
    assert open_packet(seal_packet(b"\x08hi", ring, LAN), ring, lax) == [b"\x08hi"]
    with pytest.raises(DecodeError):
        open_packet(b"\x08hi", ring, LAN)


# Streams.

ACK = encode_ack(Ack(77))


def error_of(reader: StreamReader, data: bytes) -> StreamError:
    with pytest.raises(StreamError) as caught:
        reader.feed(data)
    return caught.value


@pytest.mark.parametrize("label", ["", "lab1"])
@pytest.mark.parametrize("keys", [[], [A]])
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("dialing", [False, True])
def test_stream_round_trip(
    label: str, keys: list[bytes], compression: bool, dialing: bool
) -> None:
    ring, settings = Keyring(keys), Settings(label=label, compression=compression)
    message = encode_user_stream(b"user message " * 50)
    wire = seal_stream(message, ring, settings, dialing=dialing)
    reader = StreamReader(ring, label, reply=not dialing)
    for at in range(len(wire) - 1):
        assert reader.feed(wire[at : at + 1]) is None
    assert reader.feed(wire[-1:] + b"what follows is ignored") == message


def test_refusals_are_answered() -> None:
    sealed = seal_stream(ACK, Keyring([A]), LAN, dialing=True)
    error = error_of(StreamReader(Keyring()), sealed)
    text = "Remote state is encrypted and encryption is not configured"
    assert str(error) == text
    assert decode_error(error.answer[1:]) == text

    error = error_of(StreamReader(Keyring([A])), ACK)
    assert str(error) == "Encryption is configured but remote state is not encrypted"
    answer = StreamReader(Keyring([A]), reply=True).feed(error.answer)
    assert answer is not None
    assert decode_error(answer[1:]) == str(error)
    assert not error_of(StreamReader(Keyring([A]), reply=True), ACK).answer

    lax = StreamReader(Keyring([A]), verify_incoming=False)
    assert lax.feed(ACK) == ACK


@pytest.mark.parametrize(
    ("label", "data"),
    [("", b"\xf4\x01a" + ACK), ("a", ACK), ("a", b"\xf4\x01b" + ACK)],
)
def test_streams_of_other_labels_are_refused(label: str, data: bytes) -> None:
    assert "label" in str(error_of(StreamReader(Keyring(), label), data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x80",  # no alive messages here
        b"\x02\xc1",
        b"\x06\x81\xa5Nodes\xcf" + b"\x7f" * 8,
        b"\x08\x81\xaaUserMsgLen\xce\x7f\xff\xff\xff",
        b"\x09\x82\xa4Algo\0\xa3Buf\xa0",
    ],
)
def test_malformed_streams_are_refused(data: bytes) -> None:
    assert error_of(StreamReader(Keyring()), data).answer[0] == 13


def test_long_streams_are_refused() -> None:
    announced = b"\x0a" + (0x02000000).to_bytes(4, "big")
    assert "larger" in str(error_of(StreamReader(Keyring([A])), announced))
    reader = StreamReader(Keyring())
    header = b"\x02\x82\xa5SeqNo\x01\xa7Payload\xdb\x7f\xff\xff\xff"
    assert reader.feed(header) is None
    for _ in range(20):
        assert reader.feed(bytes(1 << 20)) is None
    assert "larger" in str(error_of(reader, bytes(1 << 20)))


# Queue.


@pytest.mark.parametrize(
    ("nodes", "limit"),
    [(0, 0), (1, 4), (9, 4), (10, 8), (99, 8), (1000, 16)],
)
def test_retransmit_limit(nodes: int, limit: int) -> None:
    assert retransmit_limit(4, nodes) == limit


@pytest.mark.parametrize(
    ("nodes", "limit"),
    [(0, 0), (1, 4), (3, 4), (6, 10), (9, 12), (10, 12), (99, 14), (1000, 16)],
)
def test_sure_limit(nodes: int, limit: int) -> None:
    assert sure_limit(4, nodes) == limit
    assert sure_limit(8, nodes) in (2 * limit, 2 * limit - 1)


def test_queue_order_is_least_sent_then_longest_then_newest() -> None:
    queue = BroadcastQueue(4)
    queue.add(b"sent before")
    assert queue.take(2, 100, 5) == [b"sent before"]
    for data in (b"short", b"the longest", b"older", b"newer"):
        queue.add(data)
    order = [b"the longest", b"newer", b"older", b"short", b"sent before"]
    assert queue.take(2, 100, 5) == order
    # Now that one has been sent twice, the others once.
    assert queue.take(2, 100, 5) == order


def test_queue_fills_greedily() -> None:
    queue = BroadcastQueue(4)
    for size in (50, 40, 30, 10):
        queue.add(bytes(size))
    assert [len(data) for data in queue.take(2, 64, 5)] == [50, 10]
    assert [len(data) for data in queue.take(2, 64, 5)] == [40, 10]
    assert queue.take(2, 5, 5) == []


def test_queue_forgets_what_was_sent_often_enough() -> None:
    queue, done = BroadcastQueue(1), list[str]()
    queue.add(b"x", "x", lambda: done.append("x"))
    for left in (1, 0):  # 1 * ceil(log10(11)) = 2 times
        assert queue.take(2, 100, 10) == [b"x"]
        assert len(queue) == left
    assert done == ["x"]
    assert queue.take(2, 100, 10) == []


def test_queue_replaces_by_name() -> None:
    queue, done = BroadcastQueue(4), list[str]()
    queue.add(b"old", "node", lambda: done.append("old"))
    queue.add(b"other", "other")
    queue.add(b"unique")
    queue.add(b"unique")
    queue.take(2, 7, 5)  # "other" and nothing else
    queue.add(b"new", "node")
    assert done == ["old"]
    assert len(queue) == 4
    assert queue.take(2, 100, 5) == [b"unique", b"unique", b"new", b"other"]


def test_queue_prunes_what_was_sent_most() -> None:
    queue = BroadcastQueue(4)
    queue.add(b"sent", "a")
    queue.take(2, 100, 5)
    queue.add(b"fresh", "b")
    queue.prune(1)
    assert queue.take(2, 100, 5) == [b"fresh"]
    queue.prune(0)
    assert len(queue) == 0


# Suspicion, awareness.


@pytest.mark.parametrize(
    ("settings", "nodes", "seconds"),
    [(LAN, 1, 4.0), (LAN, 10, 4.0), (LAN, 1000, 12.0), (WAN, 100, 60.0)],
)
def test_shortest_suspicion(settings: Settings, nodes: int, seconds: float) -> None:
    assert shortest_timeout_s(settings, nodes) == pytest.approx(seconds)


def test_confirmations_shorten_suspicion() -> None:
    suspicion = Suspicion("first", settings=LAN, node_count=1000, now=100.0)
    assert (suspicion.min_s, suspicion.max_s, suspicion.wanted) == (12.0, 72.0, 2)
    assert suspicion.deadline == 172.0
    assert not suspicion.confirm("first")
    assert suspicion.confirm("second")
    expected = math.floor(1000 * (72 - math.log(2) / math.log(3) * 60)) / 1000
    assert suspicion.deadline == pytest.approx(100 + expected)
    assert not suspicion.confirm("second")
    assert suspicion.confirm("third")
    assert suspicion.deadline == 112.0
    assert not suspicion.confirm("fourth")


def test_small_pools_wait_for_no_confirmation() -> None:
    suspicion = Suspicion("first", settings=LAN, node_count=3, now=0.0)
    assert suspicion.deadline == 4.0
    assert not suspicion.confirm("second")


def test_awareness_stays_within_its_bounds() -> None:
    awareness = Awareness(8)
    awareness.apply(-1)
    assert awareness.scaled(1.0) == 1.0
    awareness.apply(3)
    assert awareness.scaled(0.5) == 2.0
    awareness.apply(100)
    assert awareness.score == 7


@pytest.mark.parametrize(
    ("nodes", "interval"), [(1, 30), (32, 30), (33, 60), (64, 60), (1000, 180)]
)
def test_push_pull_interval(nodes: int, interval: float) -> None:
    assert push_pull_interval_s(30, nodes) == interval


# Timers, random picks.


def test_timers_run_in_order_and_once() -> None:
    timers, ran = Timers(), list[str]()
    timers.at(3.0, lambda now: ran.append("late"))
    cancelled = timers.at(0.5, lambda now: ran.append("cancelled"))
    timers.at(1.0, lambda now: ran.append("first"))
    # What a timer adds waits for the next run, even if it is due at once.
    timers.at(1.0, lambda now: timers.at(now, lambda now: ran.append("added")) and None)
    cancelled.cancel()
    assert timers.next_deadline() == 1.0
    timers.run(2.0)
    assert ran == ["first"]
    assert timers.next_deadline() == 2.0
    timers.run(2.0)
    timers.run(3.0)
    assert ran == ["first", "added", "late"]
    assert timers.next_deadline() == math.inf


def node(name: str, state: NodeState = NodeState.ALIVE) -> Node:
    return Node(name=name, host="10.0.0.1", port=1, state=state)


def test_random_set_picks_all_alike() -> None:
    rng, chosen = random.Random(3), RandomSet()
    nodes = [node(str(i)) for i in range(6)]
    for one in nodes:
        chosen.add(one)
        chosen.add(one)
    chosen.discard(nodes[0])
    chosen.discard(nodes[0])
    counts = dict.fromkeys("12345", 0)
    for _ in range(2000):
        picks = chosen.pick(rng, 2, skip=nodes[1])
        assert len({one.name for one in picks}) == 2
        for one in picks:
            counts[one.name] += 1
    assert counts["1"] == 0
    assert all(900 < counts[name] < 1100 for name in "2345")
    assert len(chosen.pick(rng, 9)) == 5
    assert RandomSet().pick(rng, 3) == []


def test_probe_ring_visits_everyone_each_round_and_forgets_the_dead() -> None:
    table = NodeTable(random.Random(1))
    table.add_local(node("me"))
    for i in range(5):
        other = node(str(i))
        table.add(other)
        table.set_state(other, NodeState.ALIVE, 0.0)
    table.set_state(table.nodes["4"], NodeState.DEAD, 10.0)
    rounds = [[table.next_target(20.0, 30.0) for _ in range(4)] for _ in range(2)]
    for visited in rounds:
        assert {one.name for one in visited if one} == {"0", "1", "2", "3"}
    assert "4" in table.nodes
    for _ in range(5):
        table.next_target(50.0, 30.0)
    assert "4" not in table.nodes
    assert len(table.gossip) == 4


# Versions.


def remote(name: str, versions: bytes, state: NodeState) -> RemoteNode:
    return RemoteNode(name, "10.0.0.1", 1, b"", 1, state, versions)


def test_versions_must_overlap() -> None:
    mine = [node("me")]
    alive, dead = NodeState.ALIVE, NodeState.DEAD
    new = bytes((3, 6, 4, 2, 5, 4))
    check_versions(mine, [remote("old", bytes(6), alive), remote("x", new, dead)])
    with pytest.raises(MergeRefusedError, match="'me' protocol version"):
        check_versions(mine, [remote("x", new, alive)])
    with pytest.raises(MergeRefusedError, match="'x' delegate protocol version"):
        check_versions(mine, [remote("x", bytes((1, 5, 2, 2, 5, 6)), alive)])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 30])
def test_everybody_has_a_turn_before_anybody_has_two(size: int) -> None:
    rng = random.Random(size)
    nodes = RandomSet()
    members = [node(f"n{number}") for number in range(size)]
    for member in members:
        nodes.add(member)
    dealt = [one.name for _ in range(40) for one in nodes.turns(rng, 3)]
    assert all(len(nodes.turns(rng, 3)) == min(3, size) for _ in range(10))
    for start in range(0, len(dealt) - size, size):
        assert len(set(dealt[start : start + size])) == size
    gone = members.pop()
    nodes.discard(gone)
    later = [one.name for _ in range(40) for one in nodes.turns(rng, 3)]
    assert set(later) == {member.name for member in members}
