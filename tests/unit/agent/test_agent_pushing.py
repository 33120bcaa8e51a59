"""Pushes side by side, and files written off the loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pyconsul.agent import persist
from pyconsul.agent.antientropy import Pusher
from pyconsul.agent.local import LocalOptions, LocalState
from pyconsul.agent.persist import Persistence
from pyconsul.types.errors import BadRequestError, ConsulError, NoLeaderError
from pyconsul.types.messages import DeregisterRequest, Reply
from pyconsul.types.records import HealthCheck, NodeService


class Servers:
    """Takes calls and answers when told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, asyncio.Future[Reply]]] = []

    def call(self, method: str, args: Any) -> asyncio.Future[Reply]:
        """Note the call."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.calls.append((method, args, future))
        return future

    async def answer(self, error: ConsulError | None = None) -> str:
        """Answer the oldest; say what it was about."""
        method, args, future = self.calls.pop(0)
        if error is None:
            future.set_result(Reply(True))
        else:
            future.set_exception(error)
        await turns()
        if isinstance(args, DeregisterRequest):
            return f"{method} {args.service_id}{args.check_id}"
        about = args.service.id if args.service else "node"
        return f"{method} {about}{' ' + args.check.check_id if args.check else ''}"


async def turns() -> None:
    """Let the loop turn a few times."""
    for _ in range(5):
        await asyncio.sleep(0)


def state_of(*services: str) -> LocalState:
    """Return a state with services that nobody was told of."""
    options = LocalOptions(
        node="n1",
        node_id="id1",
        address="a",
        datacenter="dc1",
        tagged_addresses={},
        meta={},
    )
    state = LocalState(options, Random(1))
    for name in services:
        state.add_service(NodeService(id=name, service=name))
    return state


def test_services_go_side_by_side_after_the_node() -> None:
    async def run() -> None:
        servers = Servers()
        push = asyncio.ensure_future(Pusher(state_of("a", "b"), servers).push())
        await turns()
        assert len(servers.calls) == 1
        assert await servers.answer() == "Catalog.Register node"
        assert [args.service.id for _, args, _ in servers.calls] == ["a", "b"]
        assert all(args.skip_node_update for _, args, _ in servers.calls)
        await servers.answer()
        assert not push.done()
        await servers.answer()
        assert await push

    asyncio.run(run())


def test_one_who_waits_is_not_held_up_by_later_changes() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of("a")
        state.node_in_sync = True
        pusher = Pusher(state, servers)
        first = asyncio.ensure_future(pusher.push())
        await turns()
        state.add_service(NodeService(id="b", service="b"))
        second = asyncio.ensure_future(pusher.push())
        await turns()
        await servers.answer()
        assert first.done()
        assert not second.done()
        await servers.answer()
        assert await second

    asyncio.run(run())


def test_calls_about_the_same_go_one_after_the_other() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of("a")
        state.node_in_sync = True
        pusher = Pusher(state, servers)
        first = asyncio.ensure_future(pusher.push())
        await turns()
        state.add_check(HealthCheck(check_id="c", service_id="a"), 0.0)
        state.remove_service("a")
        second = asyncio.ensure_future(pusher.push())
        await turns()
        assert len(servers.calls) == 1
        assert await servers.answer() == "Catalog.Register a"
        assert await first
        assert len(servers.calls) == 1
        assert await servers.answer() == "Catalog.Deregister a"
        assert await servers.answer() == "Catalog.Register node c"
        assert await second

    asyncio.run(run())


def test_a_change_under_way_is_pushed_again() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of()
        state.node_in_sync = True
        state.options.check_update_interval = 0
        state.add_check(HealthCheck(check_id="c", status="passing"), 0.0)
        push = asyncio.ensure_future(Pusher(state, servers).push())
        await turns()
        state.update_check("c", "critical", "", 1.0)
        await servers.answer()
        assert not push.done()
        assert servers.calls[0][1].check.status == "critical"
        await servers.answer()
        assert await push
        assert state.next_step() is None

    asyncio.run(run())


def test_a_refused_service_does_not_hold_up_others() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of("a", "b")
        state.node_in_sync = True
        push = asyncio.ensure_future(Pusher(state, servers).push())
        await turns()
        await servers.answer(BadRequestError("no"))
        await servers.answer()
        assert not await push
        left = [step.service.service.id for step in state.steps() if step.service]
        assert left == ["a"]
        again = asyncio.ensure_future(Pusher(state, servers).push())
        await turns()
        assert await servers.answer() == "Catalog.Register a"
        assert await again

    asyncio.run(run())


def test_without_a_leader_nothing_more_is_tried() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of(*map(str, range(200)))
        state.node_in_sync = True
        push = asyncio.ensure_future(Pusher(state, servers).push())
        await turns()
        assert len(servers.calls) == 64
        while servers.calls:
            await servers.answer(NoLeaderError())
        assert not await push
        assert state.next_step() is not None

    asyncio.run(run())


def test_a_comparison_is_made_while_no_call_is_under_way() -> None:
    async def run() -> None:
        servers = Servers()
        state = state_of("a", "b")
        state.node_in_sync = True
        pusher = Pusher(state, servers)
        push = asyncio.ensure_future(pusher.push())
        await turns()
        compared = asyncio.ensure_future(
            pusher.alone(lambda: state.compare(None, [], []))
        )
        await turns()
        await servers.answer()
        assert not compared.done()
        await servers.answer()
        await compared
        assert await servers.answer() == "Catalog.Register node"
        assert await push
        pusher.stop()

    asyncio.run(run())


def test_stopping_ends_calls_and_waits() -> None:
    async def run() -> None:
        servers = Servers()
        pusher = Pusher(state_of("a"), servers)
        push = asyncio.ensure_future(pusher.push())
        await turns()
        pusher.stop()
        assert not await push
        assert servers.calls[0][2].cancelled()

    asyncio.run(run())


def test_files_are_written_in_order_and_the_last_one_stays(tmp_path: Path) -> None:
    async def run() -> None:
        store = Persistence(str(tmp_path))
        for port in range(1, 50):
            store.save_service(NodeService(id="web", service="web", port=port), "")
        store.save_service(NodeService(id="gone", service="gone"), "")
        store.drop_service("gone")
        written = store.flush()
        assert written is not None
        await written
        assert store.flush() is None

    asyncio.run(run())
    found = list(Persistence(str(tmp_path)).services())
    assert [(one.service.id, one.service.port) for one in found] == [("web", 49)]


def test_a_report_is_read_back_before_it_is_on_disk(tmp_path: Path) -> None:
    async def run() -> None:
        store = Persistence(str(tmp_path))
        state = persist.StoredState(check_id="c", output="o", expires=100)
        store.save_state(state)
        assert store.state("c", 1.0) == state
        written = store.flush()
        assert written is not None
        await written
        assert store.state("c", 1.0) == state

    asyncio.run(run())


def test_who_waits_for_a_file_hears_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(persist, "write_atomic", full)

    async def run() -> None:
        store = Persistence(str(tmp_path))
        store.save_service(NodeService(id="web", service="web"), "")
        written = store.flush()
        assert written is not None
        with pytest.raises(OSError, match="No space left"):
            await written

    asyncio.run(run())
