from __future__ import annotations

from random import Random

from pyconsul.net.server_list import ServerList, TokenBucket


def three(seed: int = 1) -> ServerList:
    servers = ServerList(Random(seed))
    for name in "abc":
        servers.add(name, f"{name}:8300")
    return servers


def test_the_first_is_asked_until_it_fails() -> None:
    servers = three()
    first, second, third = servers.addresses
    assert servers.first == first
    servers.fail(third)  # not the first: the order stays
    assert servers.addresses == (first, second, third)
    servers.fail(first)
    assert servers.addresses == (second, third, first)


def test_agents_spread_over_the_servers() -> None:
    assert {three(seed).first for seed in range(30)} == {"a:8300", "b:8300", "c:8300"}


def test_servers_come_move_and_go() -> None:
    servers = ServerList(Random(1))
    assert servers.first == ""
    assert servers.add("a", "a:1") == ""
    assert servers.add("a", "a:1") == ""
    assert servers.add("a", "a:2") == "a:1"
    assert servers.addresses == ("a:2",)
    servers.fail("a:2")
    assert servers.first == "a:2"
    assert servers.remove("a") == "a:2"
    assert servers.remove("a") == ""
    assert len(servers) == 0


def test_a_rebalance_puts_a_healthy_server_first() -> None:
    servers = three()
    order = servers.shuffle()
    assert sorted(order) == ["a:8300", "b:8300", "c:8300"]
    servers.remove("a")
    servers.add("d", "d:8300")
    servers.settle(order, "c:8300")
    assert servers.first == "c:8300"
    assert set(servers.addresses) == {"b:8300", "c:8300", "d:8300"}
    servers.settle(servers.shuffle(), "a:8300")  # it left in the meantime
    assert "a:8300" not in servers.addresses


def test_offline_until_a_server_comes_or_answers() -> None:
    servers = three()
    servers.settle(servers.shuffle(), "")
    assert (servers.first, servers.offline) == ("", True)
    assert servers.rebalance_after_s(10) <= 15
    servers.add("a", "a:8300")
    assert servers.first
    servers.settle(servers.shuffle(), "")
    servers.settle(servers.shuffle(), "b:8300")
    assert servers.first == "b:8300"
    empty = ServerList(Random(1))
    empty.settle([], "")
    assert not empty.offline


def test_the_pace_follows_the_size_of_the_cluster() -> None:
    servers = three()
    assert all(120 <= servers.rebalance_after_s(100) <= 180 for _ in range(50))
    assert servers.rebalance_after_s(96_000) == 0.015625 * 96_000 / 3


def test_the_bucket_fills_at_its_rate() -> None:
    now = [50.0]
    bucket = TokenBucket(10, 3, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] += 0.1
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] += 100
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
