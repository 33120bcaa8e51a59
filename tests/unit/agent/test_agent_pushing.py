"""Pushes side by side, and files written off the loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from local_fakes import local_state

from pyconsul.agent import persist
from pyconsul.agent.antientropy import Pusher
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


class Pushing:
    """A state whose changes are pushed to servers that answer when told."""

    def __init__(self, *services: str, node_in_sync: bool = True) -> None:
        self.servers = Servers()
        self.state = local_state()
        self.state.node_in_sync = node_in_sync
        for name in services:
            self.state.add_service(NodeService(id=name, service=name))
        self.pusher = Pusher(self.state, self.servers)

    async def begin(self) -> asyncio.Future[bool]:
        """Begin a push, as far as it comes without an answer."""
        push = asyncio.ensure_future(self.pusher.push())
        await turns()
        return push


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_services_go_side_by_side_after_the_node() -> None:
    it = Pushing("a", "b", node_in_sync=False)
    push = await it.begin()
    assert len(it.servers.calls) == 1
    assert await it.servers.answer() == "Catalog.Register node"
    assert [args.service.id for _, args, _ in it.servers.calls] == ["a", "b"]
    assert all(args.skip_node_update for _, args, _ in it.servers.calls)
    await it.servers.answer()
    assert not push.done()
    await it.servers.answer()
    assert await push


@pytest.mark.anyio
async def test_one_who_waits_is_not_held_up_by_later_changes() -> None:
    it = Pushing("a")
    first = await it.begin()
    it.state.add_service(NodeService(id="b", service="b"))
    second = await it.begin()
    await it.servers.answer()
    assert first.done()
    assert not second.done()
    await it.servers.answer()
    assert await second


@pytest.mark.anyio
async def test_calls_about_the_same_go_one_after_the_other() -> None:
    it = Pushing("a")
    first = await it.begin()
    it.state.add_check(HealthCheck(check_id="c", service_id="a"), 0.0)
    it.state.remove_service("a")
    second = await it.begin()
    assert len(it.servers.calls) == 1
    assert await it.servers.answer() == "Catalog.Register a"
    assert await first
    assert len(it.servers.calls) == 1
    assert await it.servers.answer() == "Catalog.Deregister a"
    assert await it.servers.answer() == "Catalog.Register node c"
    assert await second


@pytest.mark.anyio
async def test_a_change_under_way_is_pushed_again() -> None:
    it = Pushing()
    it.state.options.check_update_interval = 0
    it.state.add_check(HealthCheck(check_id="c", status="passing"), 0.0)
    push = await it.begin()
    it.state.update_check("c", "critical", "", 1.0)
    await it.servers.answer()
    assert not push.done()
    assert it.servers.calls[0][1].check.status == "critical"
    await it.servers.answer()
    assert await push
    assert it.state.next_step() is None


@pytest.mark.anyio
async def test_a_refused_service_does_not_hold_up_others() -> None:
    it = Pushing("a", "b")
    push = await it.begin()
    await it.servers.answer(BadRequestError("no"))
    await it.servers.answer()
    assert not await push
    left = [step.service.service.id for step in it.state.steps() if step.service]
    assert left == ["a"]
    it.pusher = Pusher(it.state, it.servers)
    again = await it.begin()
    assert await it.servers.answer() == "Catalog.Register a"
    assert await again


@pytest.mark.anyio
async def test_without_a_leader_nothing_more_is_tried() -> None:
    it = Pushing(*map(str, range(200)))
    push = await it.begin()
    assert len(it.servers.calls) == 64
    while it.servers.calls:
        await it.servers.answer(NoLeaderError())
    assert not await push
    assert it.state.next_step() is not None


@pytest.mark.anyio
async def test_a_comparison_is_made_while_no_call_is_under_way() -> None:
    it = Pushing("a", "b")
    push = await it.begin()
    compared = asyncio.ensure_future(
        it.pusher.alone(lambda: it.state.compare(None, [], []))
    )
    await turns()
    await it.servers.answer()
    assert not compared.done()
    await it.servers.answer()
    await compared
    assert await it.servers.answer() == "Catalog.Register node"
    assert await push
    it.pusher.stop()


@pytest.mark.anyio
async def test_stopping_ends_calls_and_waits() -> None:
    it = Pushing("a", node_in_sync=False)
    push = await it.begin()
    it.pusher.stop()
    assert not await push
    assert it.servers.calls[0][2].cancelled()


@pytest.mark.anyio
async def test_files_are_written_in_order_and_the_last_one_stays(
    tmp_path: Path,
) -> None:
    store = Persistence(str(tmp_path))
    for port in range(1, 50):
        store.save_service(NodeService(id="web", service="web", port=port), "")
    store.save_service(NodeService(id="gone", service="gone"), "")
    store.drop_service("gone")
    await flushed(store)
    assert store.flush() is None
    found = list(Persistence(str(tmp_path)).services())
    assert [(one.service.id, one.service.port) for one in found] == [("web", 49)]


@pytest.mark.anyio
async def test_a_report_is_read_back_before_it_is_on_disk(tmp_path: Path) -> None:
    store = Persistence(str(tmp_path))
    state = persist.StoredState(check_id="c", output="o", expires=100)
    store.save_state(state)
    assert store.state("c", 1.0) == state
    await flushed(store)
    assert store.state("c", 1.0) == state


@pytest.mark.anyio
async def test_who_waits_for_a_file_hears_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(persist, "write_atomic", full)
    store = Persistence(str(tmp_path))
    store.save_service(NodeService(id="web", service="web"), "")
    with pytest.raises(OSError, match="No space left"):
        await flushed(store)


async def flushed(store: Persistence) -> None:
    """Wait until what was saved is on disk."""
    written = store.flush()
    assert written is not None
    await written
