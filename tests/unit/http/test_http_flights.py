"""Equal reads that wait share one answer, and none misses what came before it."""

from __future__ import annotations

import asyncio
from typing import Any

from test_http_server import Client, Room, run, until

from pyconsul.types.errors import NoLeaderError
from pyconsul.types.messages import Reply

KEY = b"GET /v1/kv/a?raw HTTP/1.1\r\nHost: h\r\n\r\n"


class Slow:
    """Answers each read when told."""

    def __init__(self, room: Room) -> None:
        self.asked: list[asyncio.Future[Reply]] = []
        room.caller.KVS_Get = self.get  # type: ignore[method-assign]

    def get(self, args: Any) -> asyncio.Future[Reply]:
        """Hold a read."""
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


async def turns(room: Room) -> None:
    """Let what was sent arrive: an answer to a later request proves it."""
    probe = await room.connect()
    for _ in range(3):
        await probe.ask("GET /v1/nothing")


async def several(room: Room, count: int) -> list[Client]:
    """Return connections that have sent the same request."""
    clients = [await room.connect() for _ in range(count)]
    for client in clients:
        client.send(KEY)
    await turns(room)
    return clients


def test_those_who_come_later_share_the_next_round() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        first = (await several(room, 1))[0]
        later = await several(room, 3)
        assert len(slow.asked) == 1
        slow.asked[0].set_result(Reply(None, 7))
        status, headers, _ = await first.answer()
        assert (status, headers["X-Consul-Index"]) == (404, "7")
        await until(lambda: len(slow.asked) == 2)
        last = (await several(room, 1))[0]
        slow.asked[1].set_result(Reply(None, 8))
        for client in later:
            status, headers, _ = await client.answer()
            assert (status, headers["X-Consul-Index"]) == (404, "8")
        await until(lambda: len(slow.asked) == 3)
        slow.asked[2].set_result(Reply(None, 9))
        assert (await last.answer())[1]["X-Consul-Index"] == "9"
        assert not room.server.flights

    run(work)


def test_blocking_reads_share_nothing() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        for _ in range(2):
            client = await room.connect()
            client.send(b"GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: len(slow.asked) == 2)
        assert not room.server.flights

    run(work)


def test_when_the_asker_leaves_another_asks() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        first = (await several(room, 1))[0]
        other = (await several(room, 1))[0]
        first.writer.close()
        await until(lambda: len(slow.asked) == 2)
        await until(slow.asked[0].cancelled)
        slow.asked[1].set_result(Reply(None, 8))
        assert (await other.answer())[0] == 404

    run(work)


def test_who_leaves_gets_nothing_and_holds_up_nobody() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        first, gone, other = await several(room, 3)
        gone.writer.close()
        await turns(room)
        slow.asked[0].set_result(Reply(None, 7))
        await first.answer()
        await until(lambda: len(slow.asked) == 2)
        slow.asked[1].set_result(Reply(None, 8))
        assert (await other.answer())[0] == 404

    run(work)


def test_a_slow_round_holds_nobody_up() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        await several(room, 3)
        assert len(slow.asked) == 1
        await until(lambda: len(slow.asked) == 3)

    run(work)


def test_pipelined_requests_keep_their_order() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        await several(room, 1)
        other = (await several(room, 1))[0]
        other.send(b"GET /v1/nothing HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: len(slow.asked) == 2)
        slow.asked[1].set_result(Reply(None, 8))
        assert (await other.answer())[1]["X-Consul-Index"] == "8"
        assert "X-Consul-Index" not in (await other.answer())[1]

    run(work)


def test_an_error_is_shared_too() -> None:
    async def work(room: Room) -> None:
        slow = Slow(room)
        first, *others = await several(room, 3)
        slow.asked[0].set_exception(NoLeaderError())
        assert (await first.answer())[0] == 500
        await until(lambda: len(slow.asked) == 2)
        slow.asked[1].set_exception(NoLeaderError())
        for client in others:
            assert (await client.answer())[0] == 500

    run(work)
