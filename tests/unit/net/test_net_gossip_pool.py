"""Two and three pools on loopback: join, events, keys, files, leave, stop."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyconsul.gossip.messages import LOCAL
from pyconsul.net.gossip_pool import (
    GossipPool,
    PoolEvent,
    PoolOptions,
    QueryParams,
)
from pyconsul.serf.member import MemberEvent, Status, UserEvent
from pyconsul.serf.outputs import QueryEvent
from pyconsul.serf.settings import CONSUL
from pyconsul.types.errors import ConsulError, StartError

QUICK = msgspec.structs.replace(
    LOCAL, probe_interval=0.1, probe_timeout=0.05, gossip_interval=0.02
)
SERF = msgspec.structs.replace(
    CONSUL, leave_propagate_delay_s=0.05, broadcast_timeout_s=1.0
)
KEY, OTHER = (base64.b64encode(bytes([i]) * 32).decode() for i in (1, 2))


class Box:
    """A pool and the events it gave."""

    def __init__(self, name: str, **options: Any) -> None:
        self.events: list[PoolEvent] = []
        defaults: dict[str, Any] = {
            "bind_host": "127.0.0.1",
            "port": 0,
            "memberlist": QUICK,
            "serf": SERF,
        }
        self.pool = GossipPool(
            PoolOptions(name=name, **(defaults | options)), self.events.append
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.pool.local_member().port}"

    def status(self, name: str) -> Status | None:
        member = self.pool.member(name)
        return None if member is None else member.status

    def user_events(self) -> list[tuple[str, bytes]]:
        return [(e.name, e.payload) for e in self.events if isinstance(e, UserEvent)]

    def changes(self) -> list[tuple[str, str]]:
        return [
            (event.kind, member.name)
            for event in self.events
            if isinstance(event, MemberEvent)
            for member in event.members
        ]


@asynccontextmanager
async def running(*boxes: Box) -> AsyncIterator[None]:
    try:
        for box in boxes:
            await box.pool.start()
        yield
    finally:
        for box in boxes:
            await box.pool.stop()
    # What is left of them would be a leak.
    await asyncio.sleep(0)
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in rest if "gossip" in repr(task)]


async def until(true: Callable[[], Any], limit: float = 10.0) -> None:
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110 - many small conditions
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_joins_sees_and_leaves() -> None:
    async def scenario() -> None:
        a = Box("a", tags={"role": "node"})
        b = Box("b")
        async with running(a, b):
            assert await b.pool.join([a.address]) == 1
            assert b.status("a") is a.status("b") is Status.ALIVE
            seen = b.pool.member("a")
            assert seen is not None
            assert seen.tags == {"role": "node"}
            assert seen.port == a.pool.local_member().port
            a.pool.set_tags({"role": "node", "x": "1"})
            await until(lambda: ("update", "a") in b.changes())
            a.pool.user_event("deploy", b"\x00v2")
            await until(lambda: b.user_events() == [("deploy", b"\x00v2")])
            assert a.user_events() == [("deploy", b"\x00v2")]
            await asyncio.gather(b.pool.leave(), b.pool.leave())
            await until(lambda: a.status("b") is Status.LEFT)
            assert ("failed", "b") not in a.changes()

    run(scenario)


def test_a_stopped_pool_is_seen_failed_and_can_be_forced_out() -> None:
    async def scenario() -> None:
        a, b, c = Box("a"), Box("b"), Box("c")
        async with running(a, b, c):
            assert await a.pool.join([b.address, c.address]) == 2
            await c.pool.stop()
            await until(lambda: a.status("c") is b.status("c") is Status.FAILED)
            a.pool.force_leave("c")
            await until(lambda: b.status("c") is Status.LEFT)

    run(scenario)


def test_failed_joins_say_why() -> None:
    async def scenario() -> None:
        a = Box("a")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            async with running(a):
                with pytest.raises(ConsulError) as failure:
                    await a.pool.join([f"127.0.0.1:{port}", "/x"])
                assert str(failure.value) == (
                    "2 errors occurred:\n"
                    f"\t* Failed to join 127.0.0.1:{port}: dial tcp 127.0.0.1:{port}: "
                    "connect: connection refused\n"
                    "\t* Failed to resolve /x: empty node name provided\n\n"
                )
                # One that works is enough.
                assert await a.pool.join([f"127.0.0.1:{port}", a.address]) == 1
                assert await a.pool.join([]) == 0

    run(scenario)


def test_a_silent_peer_ends_at_the_deadline() -> None:
    async def scenario() -> None:
        hasty = msgspec.structs.replace(QUICK, tcp_timeout=0.2)
        a = Box("a", memberlist=hasty)
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            async with running(a):
                with pytest.raises(ConsulError, match="i/o timeout"):
                    await a.pool.join([f"127.0.0.1:{port}"])

    run(scenario)


def test_queries_gather_answers_and_acks() -> None:
    async def scenario() -> None:
        a, b, c = Box("a", tags={"role": "web"}), Box("b"), Box("c")
        async with running(a, b, c):
            await a.pool.join([b.address, c.address])
            await until(lambda: len(b.pool.members()) == len(c.pool.members()) == 3)

            async def answer() -> None:
                await until(lambda: any(isinstance(e, QueryEvent) for e in a.events))
                query = next(e for e in a.events if isinstance(e, QueryEvent))
                a.pool.respond(query, query.payload + b"!")

            params = QueryParams(
                name="up",
                payload=b"hi",
                filter_tags={"role": "^w.b$"},
                request_ack=True,
                timeout_s=1.0,
            )
            result, _ = await asyncio.gather(c.pool.query(params), answer())
            assert result.answers == {"a": b"hi!"}
            assert result.acks == ["a"]

    run(scenario)


def test_keys_are_rolled_and_stored(tmp_path: Path) -> None:
    async def scenario() -> None:
        rings = [tmp_path / n / "serf" / "local.keyring" for n in "ab"]
        a, b = (
            Box(name, encrypt=KEY, keyring_file=ring)
            for name, ring in zip("ab", rings, strict=True)
        )
        async with running(a, b):
            assert a.pool.encrypted
            await a.pool.join([b.address])
            for operation in ("install", "use"):
                response = await a.pool.key_operation(operation, OTHER)
                assert (response.num_nodes, response.num_responses) == (2, 2)
                assert not response.error
            response = await b.pool.key_operation("list")
            assert response.keys == {KEY: 2, OTHER: 2}
            assert response.primary_keys == {OTHER: 2}
            response = await b.pool.key_operation("remove", OTHER)
            assert response.num_errors == 2
            assert set(response.messages.values()) == {
                "Removing the primary key is not allowed"
            }
            for ring in rings:
                assert json.loads(ring.read_text()) == [OTHER, KEY]
        # The file wins over a key given at the start.
        c = Box("a", encrypt=KEY, keyring_file=rings[0])
        async with running(c):
            response = await c.pool.key_operation("list")
            assert response.primary_keys == {OTHER: 1}

    run(scenario)


@pytest.mark.parametrize(("ours", "theirs"), [(KEY, OTHER), (KEY, ""), ("", KEY)])
def test_a_wrong_key_keeps_out(ours: str, theirs: str) -> None:
    async def scenario() -> None:
        a, b = Box("a", encrypt=ours), Box("b", encrypt=theirs)
        async with running(a, b):
            with pytest.raises(ConsulError, match="1 error occurred:"):
                await a.pool.join([b.address])
            assert len(a.pool.members()) == len(b.pool.members()) == 1

    run(scenario)


def test_rejoins_from_its_snapshot_unless_it_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "serf" / "local.snapshot"
        a = Box("a")
        async with running(a):
            b = Box("b", snapshot_file=path)
            async with running(b):
                await b.pool.join([a.address])
                b.pool.user_event("old", b"")
                await until(lambda: "alive: a" in path.read_text())
            again = Box("b", snapshot_file=path)
            async with running(again):
                await until(lambda: again.status("a") is Status.ALIVE)
                await asyncio.sleep(0.1)
                assert again.user_events() == [], "events of before came again"
                await again.pool.leave()
            assert path.read_text().splitlines()[-1] == "leave"
            stays_out = Box("b", snapshot_file=path)
            async with running(stays_out):
                await asyncio.sleep(0.2)
                assert stays_out.status("a") is None
            back = Box("b", snapshot_file=path, rejoin_after_leave=True)
            async with running(back):
                pass

    run(scenario)


def test_taken_ports_and_bad_files_stop_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        a = Box("a")
        async with running(a):
            port = a.pool.local_member().port
            b = Box("b", port=port)
            with pytest.raises(StartError) as failure:
                await b.pool.start()
            assert str(failure.value) == (
                "Failed to start LAN Serf: Failed to create memberlist: Could not "
                "set up network transport: failed to obtain an address: Failed to "
                f'start TCP listener on "127.0.0.1" port {port}: listen tcp '
                f"127.0.0.1:{port}: bind: address already in use"
            )
        blocker = tmp_path / "file"
        blocker.touch()
        c = Box("c", snapshot_file=blocker / "serf" / "s")
        with pytest.raises(StartError, match="Failed to open snapshot"):
            await c.pool.start()
        d = Box("d", encrypt="nope!")
        with pytest.raises(StartError, match="Invalid key"):
            await d.pool.start()

    run(scenario)


def test_garbage_and_floods_do_not_disturb() -> None:
    async def scenario() -> None:
        patient = msgspec.structs.replace(QUICK, tcp_timeout=20.0)
        a, b = Box("a", memberlist=patient), Box("b")
        async with running(a, b):
            host, port = "127.0.0.1", a.pool.local_member().port
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for size in (0, 1, 2, 100, 1400, 9000):
                    for first in (0, 4, 7, 9, 12, 255):
                        sock.sendto(bytes([first] * size), (host, port))
            streams = [await asyncio.open_connection(host, port) for _ in range(140)]
            for _, writer in streams:
                writer.write(b"\6")  # a push/pull that goes no further
            await until(lambda: a.pool.incoming_streams == 128)

            def refused() -> int:
                return sum(r.at_eof() or bool(r.exception()) for r, _ in streams)

            await until(lambda: refused() >= 12)
            assert refused() == 12
            assert a.pool.incoming_streams == 128
            for _, writer in streams:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            await until(lambda: not a.pool.incoming_streams)
            assert await b.pool.join([a.address]) == 1

    run(scenario)


def test_stopping_fails_what_waits() -> None:
    async def scenario() -> None:
        a = Box("a")
        async with running(a):
            with socket.create_server(("127.0.0.1", 0)) as mute:
                port = mute.getsockname()[1]
                joining = asyncio.create_task(a.pool.join([f"127.0.0.1:{port}"]))
                asking = asyncio.create_task(
                    a.pool.query(QueryParams(name="q", timeout_s=60))
                )
                await asyncio.sleep(0.05)
                await a.pool.stop()
                await a.pool.stop()
                for task in (joining, asking):
                    with pytest.raises(ConsulError, match="shut down"):
                        await task

    run(scenario)
