"""The sender of coordinates, in time that jumps."""

from __future__ import annotations

import asyncio
from asyncio import Future
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pyconsul.agent.coordinates import CoordinateSender
from pyconsul.agent.pools import Pools
from pyconsul.config.model import AgentConfig
from pyconsul.types.coordinates import origin
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply


class Servers:
    """Takes updates, after failing once."""

    def __init__(self) -> None:
        self.updates: list[Any] = []

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        assert method == "Coordinate.Update"
        self.updates.append(args)
        if len(self.updates) == 1:
            raise ConsulError("No cluster leader")
        return Reply(True)


class Enough(Exception):
    """The test has seen what it wanted."""


def waits(monkeypatch: pytest.MonkeyPatch, alive: int, count: int) -> list[float]:
    """Run a sender for some updates; return how long it waited before each."""
    slept: list[float] = []
    servers = Servers()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > count:
            raise Enough

    lan = SimpleNamespace(coordinate=origin)
    pools = cast(Pools, SimpleNamespace(alive=lambda: alive, lan=lan))
    config = cast(
        AgentConfig,
        SimpleNamespace(datacenter="dc1", node_name="n1", segment="alpha"),
    )
    monkeypatch.setattr("pyconsul.agent.coordinates.asyncio.sleep", sleep)
    sender = CoordinateSender(servers, pools, config, Random(1))
    with pytest.raises(Enough):
        asyncio.run(sender.run())
    assert len(servers.updates) == count
    for update in servers.updates:
        assert (update.node, update.segment, update.coord) == (
            "n1",
            "alpha",
            origin(),
        )
    return slept


def test_a_small_cluster_sends_every_15_to_30_seconds_whatever_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = waits(monkeypatch, 10, 50)
    assert all(15 <= seconds < 30 for seconds in slept)
    assert max(slept) - min(slept) > 10


def test_a_large_cluster_sends_64_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = waits(monkeypatch, 6400, 5)
    assert all(100 <= seconds < 200 for seconds in slept)
