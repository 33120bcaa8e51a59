"""What one memberlist answers, and how it judges what it hears."""

from __future__ import annotations

import pytest
from gossip_fakes import PEER, PORT, VSN, Alone

from pyconsul.gossip import codec
from pyconsul.gossip.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    NodeState,
    Ping,
    Settings,
    Suspect,
)
from pyconsul.gossip.packet import make_compound

# Serving others' probes.


def test_pings_are_answered_to_the_source_they_name() -> None:
    me = Alone()
    me.receive(codec.encode_ping(Ping(1, "me", "10.1.1.1", 99, "x")))
    me.receive(codec.encode_ping(Ping(2, "me")))
    me.receive(codec.encode_ping(Ping(3, "somebody else")))
    me.receive(codec.encode_ping(Ping(4)))
    acks = [(to, codec.decode_ack(m[1:])) for to, m in me.sent() if m[0] == 2]
    assert acks == [
        (("10.1.1.1", 99), Ack(1, b"\x01ack")),
        (PEER, Ack(2, b"\x01ack")),
        (PEER, Ack(4, b"\x01ack")),
    ]


@pytest.mark.parametrize("answered", [True, False])
def test_indirect_pings_are_relayed(answered: bool) -> None:
    me = Alone()
    me.run(0.0)
    request = IndirectPing(500, "10.9.9.1", 0, "t", True, "10.9.9.2", 9, "x")
    me.receive(codec.encode_indirect_ping(request))
    ((to, message),) = [(to, m) for to, m in me.sent() if m[0] == 0]
    assert to == ("10.9.9.1", PORT)
    ping = codec.decode_ping(message[1:])
    assert ping.node == "t"
    if answered:
        ack = codec.encode_ack(Ack(ping.seq, b"coordinate"))
        me.receive(ack, ack)  # once is enough
    replies = [m for to, m in me.run(1.0) if to == ("10.9.9.2", 9) and m[0] != 4]
    wanted = codec.encode_ack(Ack(500)) if answered else codec.encode_nack(Nack(500))
    assert replies == [wanted]


def test_relays_are_limited_and_end() -> None:
    me = Alone()
    request = codec.encode_indirect_ping(IndirectPing(1, "10.9.9.1", 1, "t"))
    for _ in range(5000):
        me.receive(request)
    assert len([m for _, m in me.sent() if m[0] == 0]) == 4096
    me.run(1.0)
    me.receive(request)
    assert len([m for _, m in me.sent() if m[0] == 0]) == 1


# State rules.


def test_old_news_change_nothing() -> None:
    me = Alone()
    me.peer("x", inc=5, meta=b"new")
    me.peer("x", inc=5, meta=b"other")
    me.peer("x", inc=4, meta=b"old")
    me.receive(codec.encode_suspect(Suspect(4, "x", "a")))
    me.receive(codec.encode_dead(Dead(4, "x", "a")))
    me.receive(codec.encode_suspect(Suspect(1, "unknown", "a")))
    me.receive(codec.encode_dead(Dead(1, "unknown", "a")))
    x = me.one.nodes["x"]
    assert (x.meta, x.state, x.incarnation) == (b"new", NodeState.ALIVE, 5)
    assert list(me.one.nodes) == ["me", "x"]
    me.peer("x", inc=6, meta=b"newer")
    assert me.layer.events[-2:] == [("join", "x"), ("update", "x")]
    assert x.meta == b"newer"


def test_impossible_nodes_are_ignored() -> None:
    me = Alone()
    me.layer.refuse = {"refused"}
    me.peer("refused")
    me.peer("zero", versions=bytes(6))
    me.peer("upside down", versions=b"\5\1\2\2\5\4")
    me.peer("nowhere", host="")
    assert list(me.one.nodes) == ["me"]


@pytest.mark.parametrize("reclaim_s", [0.0, 30.0])
def test_names_are_kept_by_their_address(reclaim_s: float) -> None:
    me = Alone(Settings(dead_node_reclaim_time=reclaim_s, gossip_to_the_dead_time=1e6))
    me.peer("x", inc=9)
    me.peer("x", inc=10, host="10.9.9.8")
    assert me.layer.events[-1] == ("conflict", "10.9.9.9 10.9.9.8")
    me.peer("me", inc=1, host="10.9.9.8")
    assert me.layer.events[-1] == ("conflict", "10.0.0.1 10.9.9.8")
    me.receive(codec.encode_dead(Dead(9, "x", "a")))
    me.peer("x", inc=1, host="10.9.9.8")
    assert me.one.nodes["x"].host == "10.9.9.9"
    me.run(31.0)
    me.peer("x", inc=1, host="10.9.9.8")
    assert me.one.nodes["x"].host == ("10.9.9.8" if reclaim_s else "10.9.9.9")


def test_the_name_of_one_that_left_is_free() -> None:
    me = Alone()
    me.peer("x", inc=9)
    me.receive(codec.encode_dead(Dead(9, "x", "x")))
    assert me.layer.events[-1] == ("left", "x")
    me.peer("x", inc=1, host="10.9.9.8")
    assert me.layer.events[-1] == ("join", "x")
    assert me.one.nodes["x"].address == ("10.9.9.8", PORT)


def test_the_dead_get_gossip_for_a_while_and_the_left_none() -> None:
    me = Alone(Settings(gossip_to_the_dead_time=5.0, probe_interval=1000.0))
    me.run(0.0)
    me.peer("dead")
    me.receive(codec.encode_dead(Dead(1, "dead", "a")))
    assert me.kinds(1.0) == {4, 5}
    me.run(4.5)
    me.layer.outgoing = [b"late"]
    assert me.kinds(1.0) == set()
    me.peer("left", host="10.9.9.1")
    me.receive(codec.encode_dead(Dead(1, "left", "left")))
    assert me.kinds(1.0) == set()


def test_one_bad_part_does_not_spoil_the_others() -> None:
    me = Alone()
    good = codec.encode_alive(Alive(1, "x", PEER[0], PORT, b"", VSN))
    me.receive(make_compound([b"\x04\xc1", b"\x63", good]))
    assert "x" in me.one.nodes
    assert me.one.packets_dropped == 2
