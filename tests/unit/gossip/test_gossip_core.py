"""Conversations of memberlists in virtual time."""

from __future__ import annotations

import random

import pytest
from gossip_fakes import LATENCY_S, PEER, PORT, VSN, Alone, Net

from pyconsul.gossip import codec
from pyconsul.gossip.core import Memberlist
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    LAN,
    LOCAL,
    WAN,
    Ack,
    Address,
    Alive,
    Dead,
    GossipError,
    LeaveSent,
    Nack,
    Node,
    NodeState,
    Ping,
    PushPull,
    RemoteNode,
    SendPacket,
    Settings,
    Suspect,
)
from pyconsul.gossip.packet import open_packet

KEY, OTHER_KEY = b"k" * 16, b"o" * 32


def states(one: Memberlist) -> dict[str, NodeState]:
    return {name: node.state for name, node in one.nodes.items()}


def all_alive(one: Memberlist, count: int) -> bool:
    return list(states(one).values()) == [NodeState.ALIVE] * count


# Join and push/pull.


def test_join_spreads_to_everyone() -> None:
    net = Net()
    lists = net.pool(5)
    assert net.joined == [""] * 4
    for one in lists:
        assert set(one.nodes) == {f"n{i}" for i in range(5)}
        assert all_alive(one, 5)
        assert [node.name for node in one.alive_nodes()] == list(one.nodes)
        events = net.layers[one.local.name].events
        assert sorted(events) == sorted(("join", f"n{i}") for i in range(5))
    assert net.layers["n0"].states[0] == (b"state of n1", True)
    assert net.layers["n1"].states[0] == (b"state of n0", True)
    assert lists[3].nodes["n4"].meta == b"n4"


def test_join_to_nobody_fails() -> None:
    net = Net()
    one = net.add("n0")
    one.join(("10.9.9.9", 1), net.now, node_name="ghost")
    one.join(("fe80::1", 1), net.now)
    net.run(LAN.tcp_timeout + 1)
    assert net.joined == [
        "Failed to join 10.9.9.9:1: no answer (node 'ghost')",
        "Failed to join [fe80::1]:1: no answer",
    ]


def test_refused_join_changes_nothing() -> None:
    net = Net()
    one, two = net.add("n0"), net.add("n1")
    net.layers["n1"].refuse = {"n0"}
    two.join(one.local.address, net.now)
    net.run(1.0)
    wanted = "Failed to join 10.0.0.0:7946: Member 'n0' is refused"
    assert net.joined == [wanted]
    assert "n0" not in two.nodes
    net.layers["n0"].refuse = {"n2"}
    net.add("n2").join(one.local.address, net.now)
    net.run(1.0)
    assert "n2" not in one.nodes
    assert one.merges_refused == 1


def test_push_pull_heals_what_gossip_lost() -> None:
    net = Net()
    lists = net.pool(3)
    net.drops = lambda kind, a, b: kind == "udp"
    net.layers["n1"].meta = b"new"
    lists[1].update_meta(net.now)
    net.run(0.1)
    net.drops = lambda kind, a, b: False
    net.run(2 * LAN.push_pull_interval)
    assert [one.nodes["n1"].meta for one in lists] == [b"new"] * 3
    assert ("update", "n1") in net.layers["n2"].events
    assert {join for _, join in net.layers["n0"].states} == {True, False}


def test_push_pull_of_dead_and_left_nodes() -> None:
    me = Alone()
    for name in ("dead", "left", "suspect"):
        me.peer(name, host=f"10.9.9.{len(name)}")
    remote = [
        RemoteNode("dead", "10.9.9.4", PORT, b"", 1, NodeState.DEAD, VSN),
        RemoteNode("left", "10.9.9.4", PORT, b"", 1, NodeState.LEFT, VSN),
        RemoteNode("suspect", "10.9.9.7", PORT, b"", 1, NodeState.SUSPECT, VSN),
    ]
    message = codec.encode_push_pull(False, remote, b"")
    answer = me.one.receive_stream(message, me.now)
    assert answer is not None
    replied = codec.decode_push_pull(answer[1:])
    assert replied.user_state == b"state of meta"
    # It was written before the merge.
    assert {node.state for node in replied.nodes} == {NodeState.ALIVE}
    known = states(me.one)
    assert known["left"] is NodeState.LEFT
    assert known["dead"] is known["suspect"] is NodeState.SUSPECT
    assert me.layer.states == []


def test_incompatible_versions_are_refused() -> None:
    me = Alone()
    remote = RemoteNode(
        "new", "10.9.9.9", PORT, b"", 1, NodeState.ALIVE, b"\5\6\6\2\5\4"
    )
    me.one.receive_stream(codec.encode_push_pull(True, [remote], b"x"), me.now)
    assert list(me.one.nodes) == ["me"]
    assert me.layer.states == []


def test_user_messages_and_pings_in_streams() -> None:
    me = Alone()
    assert me.one.receive_stream(codec.encode_user_stream(b"hello"), me.now) is None
    assert me.layer.messages == [b"hello"]
    ack = me.one.receive_stream(codec.encode_ping(Ping(7, "me")), me.now)
    assert ack == codec.encode_ack(Ack(7))
    assert me.one.receive_stream(codec.encode_ping(Ping(7, "you")), me.now) is None
    error = me.one.receive_stream(b"\x06\x81", me.now)
    assert error is not None
    assert "header" in codec.decode_error(error[1:])


# Failure detection.


def test_a_crash_is_found_and_told() -> None:
    net = Net()
    lists = net.pool(5)
    net.crash("n4")
    net.run(15.0)
    for one in lists[:4]:
        assert states(one)["n4"] is NodeState.DEAD
        assert net.layers[one.local.name].events[-1] == ("dead", "n4")
        assert one.health_score <= 1
    net.run(120.0)
    assert all("n4" not in one.nodes for one in lists[:4])


def test_healthy_pools_suspect_nobody() -> None:
    net = Net()
    lists = net.pool(6)
    net.packets.clear()
    net.run(120.0)
    messages = [
        m for _, _, data in net.packets for m in open_packet(data, Keyring(), LAN)
    ]
    # Pings and acks only, two a second and node: gossip is silent.
    assert {message[0] for message in messages} == {0, 2}
    assert len(messages) == pytest.approx(2 * 6 * 120, rel=0.05)
    assert all(all_alive(one, 6) and one.health_score == 0 for one in lists)
    name, rtt_s, payload = net.layers["n0"].pings[-1]
    assert name != "n0"
    assert rtt_s == pytest.approx(2 * LATENCY_S)
    assert payload == b"\x01ack"


def test_indirect_pings_and_tcp_save_an_unreachable_node() -> None:
    for helper in ("indirect", "tcp"):
        net = Net()
        lists = net.pool(4)
        pair = {"n0", "n1"}
        if helper == "indirect":
            net.drops = lambda kind, a, b, pair=pair: {a, b} == pair
        else:
            net.drops = lambda kind, a, b: kind == "udp" and b == "n1"
        net.run(30.0)
        for one in lists:
            assert all_alive(one, 4), helper
        assert not any(kind == "dead" for kind, _ in net.layers["n2"].events)


def test_loss_of_packets_kills_nobody() -> None:
    net = Net(seed=5)
    lists = net.pool(8)
    net.drops = lambda kind, a, b: kind == "udp" and net.rng.random() < 0.1
    net.run(120.0)
    assert all(all_alive(one, 8) for one in lists)
    assert not any(
        kind == "dead" for layer in net.layers.values() for kind, _ in layer.events
    )


def test_a_partition_is_refuted_when_it_heals() -> None:
    net = Net()
    lists = net.pool(4)
    net.drops = lambda kind, a, b: (a == "n3") != (b == "n3")
    net.run(20.0)
    assert states(lists[0])["n3"] is NodeState.DEAD
    assert states(lists[3])["n0"] is not NodeState.ALIVE
    assert lists[3].health_score > 0
    net.drops = lambda kind, a, b: False
    lists[3].join(lists[0].local.address, net.now)
    net.run(20.0)
    assert all(all_alive(one, 4) for one in lists)
    assert lists[0].nodes["n3"].incarnation > 1
    assert ("join", "n3") in net.layers["n0"].events[-3:]


def test_a_restarted_node_is_taken_back() -> None:
    net = Net()
    lists = net.pool(3)
    net.crash("n2")
    net.run(20.0)
    again = net.add("n2", host="10.0.0.2", meta=b"again")
    again.join(lists[0].local.address, net.now)
    net.run(5.0)
    assert all(all_alive(one, 3) for one in (*lists[:2], again))
    assert lists[1].nodes["n2"].meta == b"again"


def test_the_course_of_a_probe() -> None:
    me = Alone()
    for name, last in (("target", 1), ("a", 2), ("b", 3), ("c", 4)):
        me.peer(name, host=f"10.9.9.{last}")
    target: Address = ("10.9.9.1", PORT)
    first = me.run(0.0)
    while not any(to == target and message[0] == 0 for to, message in first):
        me.answer(first)  # the others are well
        first = me.run(0.01)
    pings = [message for to, message in first if to == target and message[0] == 0]
    ping = codec.decode_ping(pings[0][1:])
    assert ping.node == "target"
    assert (ping.source_host, ping.source_node) == ("10.0.0.1", "me")

    asked = me.run(LAN.probe_timeout)
    indirect = [(to, codec.decode_indirect_ping(m[1:])) for to, m in asked if m[0] == 1]
    assert {to[0] for to, _ in indirect} == {"10.9.9.2", "10.9.9.3", "10.9.9.4"}
    assert all(m.nack and m.seq == ping.seq for _, m in indirect)
    (tcp,) = [data for to, data in asked if to == target and data.startswith(b"stream")]
    assert codec.decode_ping(tcp[7:]).seq == ping.seq

    me.receive(*[codec.encode_nack(Nack(ping.seq))] * 2)
    me.run(LAN.probe_timeout)
    assert me.one.nodes["target"].state is NodeState.SUSPECT
    assert me.one.health_score == 1  # one of three nacks was missing
    me.receive(codec.encode_ack(Ack(ping.seq)))  # too late
    assert me.one.nodes["target"].state is NodeState.SUSPECT
    assert me.layer.pings[0][2] == b""


def test_suspects_hear_of_it_and_refute() -> None:
    me = Alone()
    me.peer("x")
    me.receive(codec.encode_suspect(Suspect(1, "x", "accuser")))
    assert me.layer.events[-1] == ("join", "x")
    sent = me.run(1.2)
    kinds = [message[0] for to, message in sent if to == PEER]
    assert kinds[kinds.index(0) + 1] == 3  # ping and suspect, one packet
    me.peer("x", inc=2)
    assert me.one.nodes["x"].state is NodeState.ALIVE
    me.receive(codec.encode_dead(Dead(2, "x", "accuser")))
    assert me.layer.events[-1] == ("dead", "x")
    me.run(1.0)
    me.peer("x", inc=3)
    assert me.layer.events[-1] == ("join", "x")


def test_suspicion_ends_in_death_sooner_when_confirmed() -> None:
    ends: list[float] = []
    for accusers in (["a"], ["a", "b"], ["a", "b", "b", "c", "d"]):
        me = Alone(Settings(tcp_pings=False))
        for i in range(5):
            me.peer(f"x{i}", host=f"10.9.9.{i}")
        for accuser in accusers:
            me.receive(codec.encode_suspect(Suspect(1, "x0", accuser)))
        start = me.now
        while me.one.nodes["x0"].state is NodeState.SUSPECT:
            me.answer(me.run(0.05))  # no accusation of our own
        ends.append(me.now - start)
    assert ends == [pytest.approx(s, abs=0.06) for s in (24.0, 11.381, 4.0)]


def test_accusations_of_ourselves_are_refuted() -> None:
    me = Alone()
    me.peer("x")
    me.run(30.0)
    score = me.one.health_score
    me.receive(codec.encode_suspect(Suspect(5, "me", "x")))
    assert (me.one.local.incarnation, me.one.local.state) == (6, NodeState.ALIVE)
    me.receive(codec.encode_dead(Dead(6, "me", "x")))
    me.receive(codec.encode_suspect(Suspect(2, "me", "x")))  # old news
    assert me.one.local.incarnation == 7
    assert me.one.health_score == min(7, score + 2)
    mine = Alive(7, "me", "10.0.0.1", PORT, b"meta", VSN)
    me.receive(codec.encode_alive(mine))  # our own words
    assert me.one.local.incarnation == 7
    other = Alive(7, "me", "10.0.0.1", PORT, b"not mine", VSN)
    me.receive(codec.encode_alive(other))
    assert me.one.local.incarnation == 8
    told = [codec.decode_alive(m[1:]) for _, m in me.run(1.0) if m[0] == 4]
    assert Alive(8, "me", "10.0.0.1", PORT, b"meta", VSN) in told


# Gossip.


def test_user_broadcasts_reach_everyone_and_stop() -> None:
    net = Net()
    net.pool(10)
    net.layers["n0"].outgoing = [b"event"] * 12
    net.run(2.0)
    heard = [layer.messages for layer in net.layers.values()]
    assert sum(map(len, heard)) == 12
    assert all(message == b"event" for messages in heard for message in messages)


def test_memberlist_broadcasts_come_first_and_packets_stay_small() -> None:
    me = Alone()
    me.run(0.0)
    for i in range(40):
        me.peer(f"node{i}", host=f"10.9.9.{i}", meta=bytes(60))
    me.layer.outgoing = [bytes(100)] * 50
    me.receive(codec.encode_ping(Ping(1, "me")))
    outputs = me.one.take_outputs()
    sizes = [len(o.data) for o in outputs if isinstance(o, SendPacket)]
    assert 1250 < sizes[-1] <= 1400
    me.run(5.0)
    me.receive(codec.encode_ping(Ping(2, "me")))
    (packet,) = me.one.take_outputs()
    assert isinstance(packet, SendPacket)
    assert len(packet.data) <= 1400


def test_checksums_go_to_those_who_read_them() -> None:
    for highest, checked in ((5, True), (4, False)):
        me = Alone()
        me.peer("x", versions=bytes((1, highest, 2, 2, 5, 4)))
        me.now += 0.2
        me.one.tick(me.now)
        gossip = [
            output.data[0] == 12
            for output in me.one.take_outputs()
            if isinstance(output, SendPacket) and output.data[0] in (4, 7, 12)
        ]
        assert checked in gossip
        assert not (checked is False and True in gossip)


def test_meta_updates_are_told() -> None:
    net = Net()
    lists = net.pool(3)
    net.layers["n2"].meta = b"changed"
    lists[2].update_meta(net.now)
    net.run(2.0)
    for one in lists:
        assert one.nodes["n2"].meta == b"changed"
        assert net.layers[one.local.name].events[-1] == ("update", "n2")
    net.layers["n2"].meta = bytes(513)
    with pytest.raises(GossipError, match="exceeds limit of 512 bytes"):
        lists[2].update_meta(net.now)


# Leave.


def test_leave_is_told_to_everyone() -> None:
    net = Net()
    lists = net.pool(4)
    lists[3].leave(net.now)
    lists[3].leave(net.now)
    net.run(3.0)
    assert net.leave_sent == ["n3"]
    net.layers["n3"].meta = b"too late"
    lists[3].update_meta(net.now)
    net.run(3.0)
    for one in lists:
        assert states(one)["n3"] is NodeState.LEFT
        assert net.layers[one.local.name].events[-1] == ("left", "n3")


def test_leaving_alone_takes_no_time() -> None:
    me = Alone()
    me.peer("gone")
    me.receive(codec.encode_dead(Dead(1, "gone", "gone")))
    me.one.take_outputs()
    me.one.leave(me.now)
    assert me.one.take_outputs() == [LeaveSent()]
    me.peer("me", inc=9)
    me.receive(codec.encode_suspect(Suspect(9, "me", "gone")))
    assert me.one.local.state is NodeState.LEFT


# Encryption and labels.


@pytest.mark.parametrize("settings", [LAN, Settings(label="east", compression=True)])
def test_encrypted_pools_gossip(settings: Settings) -> None:
    net = Net()
    lists = [net.add(f"n{i}", settings=settings, keys=[KEY]) for i in range(3)]
    for one in lists[1:]:
        one.join(lists[0].local.address, net.now)
    net.run(5.0)
    assert all(all_alive(one, 3) for one in lists)
    assert all(b"Node" not in data for _, _, data in net.packets)
    net.crash("n2")
    net.run(15.0)
    assert states(lists[0])["n2"] is NodeState.DEAD


@pytest.mark.parametrize("keys", [[], [OTHER_KEY]])
def test_other_keys_do_not_join(keys: list[bytes]) -> None:
    net = Net()
    one, two = net.add("n0", keys=[KEY]), net.add("n1", keys=keys)
    two.join(one.local.address, net.now)
    net.run(2.0)
    assert net.joined[0].startswith("Failed to join")
    assert len(one.nodes) == len(two.nodes) == 1
    two.send_user(one.local.address, b"hello")
    net.run(1.0)
    assert net.layers["n0"].messages == []
    assert one.packets_dropped == 1


def test_user_messages_arrive() -> None:
    net = Net()
    one, two = net.pool(2)
    one.send_user(two.local.address, b"hello")
    net.run(0.1)
    assert net.layers["n1"].messages == [b"hello"]


# Untrusted input.


def test_noise_is_dropped() -> None:
    me, rng = Alone(), random.Random(8)
    me.peer("x")
    whole = [
        codec.encode_alive(Alive(2, "x", "10.9.9.9", PORT, b"meta", VSN)),
        codec.encode_ping(Ping(1, "me", "10.1.1.1", 99, "x")),
        codec.encode_suspect(Suspect(2, "x", "a")),
    ]
    for _ in range(3000):
        data = bytearray(rng.choice(whole))
        data[rng.randrange(len(data))] = rng.randrange(256)
        me.receive(bytes(data[: rng.randrange(1, len(data) + 1)]))
        me.one.receive_stream(bytes(data), me.now)
    me.receive(b"", b"\x06\x80", b"\x63")
    me.run(3.0)
    assert me.one.packets_dropped > 1000
    assert me.one.local.state is NodeState.ALIVE


def test_too_long_labels_and_metas_are_refused() -> None:
    with pytest.raises(GossipError, match="255"):
        Alone(Settings(label="x" * 256))


def test_the_same_seed_gives_the_same_packets() -> None:
    def traffic() -> list[tuple[str, str, bytes]]:
        net = Net(seed=9)
        net.pool(5)
        net.crash("n1")
        net.run(30.0)
        return net.packets

    assert traffic() == traffic()


def test_presets() -> None:
    assert (LAN.probe_interval, LAN.gossip_nodes) == (1.0, 3)
    assert (WAN.suspicion_mult, WAN.tcp_timeout) == (6, 30.0)
    assert (LOCAL.retransmit_mult, LOCAL.indirect_checks) == (2, 1)


def test_push_pull_records_survive() -> None:
    node = Node(name="x", host="10.9.9.9", port=1)
    remote = RemoteNode("x", node.host, 1, b"", 0, NodeState.ALIVE, node.versions)
    data = codec.encode_push_pull(True, [remote], b"state")
    assert codec.decode_push_pull(data[1:]) == PushPull(True, [remote], b"state")
