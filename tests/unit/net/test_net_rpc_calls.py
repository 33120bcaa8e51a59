"""Calls over loopback: replies, errors, flow control, cancelling, breaking."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from net_rpc_fakes import METHODS, Loopback, loopback, run, until

from pyconsul.net.rpc_pool import RpcConnectionError, RpcPool, RpcPoolLimits
from pyconsul.net.rpc_server import RpcServerLimits
from pyconsul.net.rpc_stream import encode_pair
from pyconsul.types.errors import ConsulError, NoLeaderError
from pyconsul.types.gomsgpack import raw_bytes, unpack_stream
from pyconsul.types.messages import Reply
from pyconsul.yamux import YamuxSettings


def only_link(rpc: Loopback) -> Any:
    """Return the pool's one connection."""
    (link,) = rpc.pool._links  # pyright: ignore[reportPrivateUsage]
    return link


def conversations(rpc: Loopback) -> dict[int, Any]:
    (link,) = rpc.server._links  # pyright: ignore[reportPrivateUsage]
    return link._conversations  # pyright: ignore[reportPrivateUsage]


def test_replies_and_values() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            value = bytes(range(256))
            reply = await rpc.call("KVS.Get", Value=value)
            assert raw_bytes(reply.value) == value
            values: list[Any] = ["text", 7, True, None, [1, "a"], {"a": {"b": []}}]
            for plain in values:
                assert (await rpc.call("KVS.Get", Value=plain)).value == plain
            # One at a time: one stream is enough.
            assert only_link(rpc).session.stream_count == 1

    run(scenario)


def test_late_answers_come_to_their_callers() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            calls = [rpc.call("Test.Wait", Number=i) for i in range(300)]
            await rpc.caller.wait_for(300)
            arguments = [args["Number"] for _, args in rpc.caller.calls]
            assert sorted(arguments) == list(range(300))
            for future, number in zip(rpc.caller.waiting, arguments, strict=True):
                future.set_result(Reply(number))
            replies = await asyncio.gather(*calls)
            assert [reply.value for reply in replies] == list(range(300))
            assert only_link(rpc).session.stream_count == 300
            # The streams beyond those kept for reuse are closed on both sides,
            # once none of them was used from one tick to the next.
            now = asyncio.get_running_loop().time()
            only_link(rpc).tick(now)
            only_link(rpc).tick(now)
            await until(lambda: only_link(rpc).session.stream_count == 32)
            await until(lambda: len(conversations(rpc)) == 32)
            assert (await rpc.call("KVS.Get", Value=1)).value == 1
            assert only_link(rpc).session.stream_count == 32

    run(scenario)


def test_large_values_cross_both_ways() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            values = [bytes([i]) * (700_000 * (i + 1)) for i in range(4)]
            calls = [rpc.call("KVS.Get", Value=value) for value in values]
            small = rpc.call("KVS.Get", Value="small")
            assert (await small).value == "small"
            for value, call in zip(values, calls, strict=True):
                assert raw_bytes((await call).value) == value
            (link,) = rpc.server._links  # pyright: ignore[reportPrivateUsage]
            assert link.buffered == 0

    run(scenario)


def test_errors_come_back_as_classes() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            with pytest.raises(ConsulError, match=r"^just a text$") as caught:
                await rpc.call("Test.Fail", Text="just a text")
            assert type(caught.value) is ConsulError
            with pytest.raises(NoLeaderError):
                await rpc.call("Test.Fail", Text="No cluster leader")
            # Some methods have an error on the wire for an absent value.
            absent = await rpc.call("Test.Fail", Text="Query not found")
            assert absent.value == "absent"
            with pytest.raises(ConsulError, match="internal error: KeyError"):
                await rpc.call("Test.Break")
            waiting = rpc.call("Test.Wait")
            await rpc.caller.wait_for(1)
            rpc.caller.waiting[0].set_exception(NoLeaderError())
            with pytest.raises(NoLeaderError):
                await waiting
            assert only_link(rpc).session.stream_count == 1
            assert not rpc.server.service.running

    run(scenario)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KVS.Bogus", "rpc: can't find method KVS.Bogus"),
        ("Nope.Bogus", "rpc: can't find service Nope.Bogus"),
        ("Bogus", "rpc: service/method request ill-formed: Bogus"),
    ],
)
def test_unknown_methods_close_their_stream(name: str, text: str) -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            rpc.pool._methods = METHODS | {name: METHODS["KVS.Get"]}  # pyright: ignore[reportPrivateUsage]
            for _ in range(2):
                with pytest.raises(ConsulError) as caught:
                    await rpc.call(name)
                assert str(caught.value) == text
            await until(lambda: not conversations(rpc))
            assert (await rpc.call("KVS.Get", Value=1)).value == 1
            # The bare connection is closed after the same answer.
            header = {"Seq": 9, "ServiceMethod": name}
            reader, writer = await rpc.dial(b"\0" + encode_pair(header, {}))
            answer = list(unpack_stream([await reader.read()], 1 << 20))
            assert answer == [{"Error": text, "Seq": 9, "ServiceMethod": name}, {}]
            writer.close()

    run(scenario)


def test_unreadable_arguments_close_their_stream() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            call = rpc.pool.call(rpc.address, "KVS.Get", "no map", timeout_s=5)
            with pytest.raises(ConsulError, match=r"^codec\.decoder: msgpack decode"):
                await call
            await until(lambda: not conversations(rpc))
            assert rpc.caller.calls == []

    run(scenario)


def test_a_method_the_client_lacks_is_not_sent() -> None:
    async def scenario() -> None:
        pool = RpcPool(methods=METHODS)
        with pytest.raises(ConsulError, match="can't find method Nope"):
            await pool.call("127.0.0.1:1", "Nope.Get", {}, timeout_s=1)
        with pytest.raises(ConsulError, match="msgpack encode error"):
            await pool.call("127.0.0.1:1", "KVS.Get", {"A": object()}, timeout_s=1)
        await pool.close()
        with pytest.raises(RpcConnectionError, match="pool is closed"):
            await pool.call("127.0.0.1:1", "KVS.Get", {}, timeout_s=1)

    run(scenario)


def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            task = asyncio.ensure_future(rpc.call("Test.Wait"))
            other = rpc.call("Test.Wait")
            await rpc.caller.wait_for(2)
            task.cancel()
            await until(lambda: rpc.caller.waiting[0].cancelled())
            await until(lambda: len(conversations(rpc)) == 1)
            assert rpc.server.service.running == 1
            rpc.caller.waiting[1].set_result(Reply("still here"))
            assert (await other).value == "still here"

    run(scenario)


def test_a_call_cancelled_before_the_connection_stands_is_not_sent() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            rpc.call("Test.Wait").cancel()
            assert (await rpc.call("KVS.Get", Value=1)).value == 1
            assert [name for name, _ in rpc.caller.calls] == ["KVS.Get"]

    run(scenario)


def test_a_vanished_client_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            call = rpc.call("Test.Wait")
            await rpc.caller.wait_for(1)
            only_link(rpc).transport.abort()
            with pytest.raises(RpcConnectionError) as caught:
                await call
            assert str(caught.value) == "rpc error making call: EOF"
            assert caught.value.sent
            await until(lambda: rpc.caller.waiting[0].cancelled())
            await until(lambda: not rpc.server._transports)  # pyright: ignore[reportPrivateUsage]
            assert not rpc.server.service.running

    run(scenario)


def test_time_out_of_a_call() -> None:
    async def scenario() -> None:
        limits = RpcPoolLimits(tick_s=0.001)
        async with loopback(pool_limits=limits) as rpc:
            await rpc.call("KVS.Get")
            call = rpc.call("Test.Wait", timeout_s=0.0)
            with pytest.raises(RpcConnectionError, match="i/o deadline") as caught:
                await call
            assert caught.value.sent
            await until(lambda: all(w.cancelled() for w in rpc.caller.waiting))

    run(scenario)


def test_refused_connections_read_like_go() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            await rpc.server.stop()
            with pytest.raises(RpcConnectionError) as caught:
                await rpc.call("KVS.Get")
            assert not caught.value.sent
            assert str(caught.value) == (
                "rpc error getting client: failed to get conn: dial tcp "
                f"{rpc.address}: connect: connection refused"
            )
            for address in ("127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1", ""):
                with pytest.raises(RpcConnectionError, match="dial tcp") as caught:
                    await rpc.pool.call(address, "KVS.Get", {}, timeout_s=1)
                assert not caught.value.sent

    run(scenario)


def test_closing_the_pool_fails_what_is_under_way() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            waiting = rpc.call("Test.Wait")
            await rpc.caller.wait_for(1)
            dialing = rpc.pool.call(f"localhost:{rpc.port}", "KVS.Get", {}, timeout_s=5)
            await asyncio.sleep(0)
            await rpc.pool.close()
            for call, sent in ((waiting, True), (dialing, False)):
                with pytest.raises(RpcConnectionError) as caught:
                    await call
                assert caught.value.sent is sent
            await until(lambda: rpc.caller.waiting[0].cancelled())

    run(scenario)


def test_a_lost_connection_is_dialed_again() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            assert (await rpc.call("KVS.Get", Value=1)).value == 1
            only_link(rpc).transport.abort()
            await until(lambda: not rpc.pool._links)  # pyright: ignore[reportPrivateUsage]
            assert (await rpc.call("KVS.Get", Value=2)).value == 2

    run(scenario)


def test_idle_connections_are_closed() -> None:
    async def scenario() -> None:
        async with loopback(pool_limits=RpcPoolLimits(idle_s=100)) as rpc:
            await rpc.call("KVS.Get")
            link = only_link(rpc)
            waiting = rpc.call("Test.Wait")
            await rpc.caller.wait_for(1)
            now = asyncio.get_running_loop().time()
            waiting.cancel()
            link.tick(now + 99)
            assert not link.gone
            link.tick(now + 101)
            assert link.gone
            await link.lost
            await until(lambda: not rpc.server._transports)  # pyright: ignore[reportPrivateUsage]

    run(scenario)


def test_a_dead_peer_is_noticed_by_keepalive() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            call = rpc.call("Test.Wait", timeout_s=1000.0)
            await rpc.caller.wait_for(1)
            link = only_link(rpc)
            link.transport.pause_reading()
            now = asyncio.get_running_loop().time()
            link.tick(now + 31)
            link.tick(now + 42)
            with pytest.raises(RpcConnectionError, match="keepalive timeout"):
                await call

    run(scenario)


def test_a_stopping_server_finishes_calls_and_takes_no_new_ones() -> None:
    async def scenario() -> None:
        async with loopback(server_limits=RpcServerLimits(stop_grace_s=5.0)) as rpc:
            call = rpc.call("Test.Wait")
            await rpc.caller.wait_for(1)
            link = only_link(rpc)
            stopping = asyncio.ensure_future(rpc.server.stop())
            await until(lambda: link.session.went_away)
            with pytest.raises(RpcConnectionError) as caught:
                await rpc.call("KVS.Get")
            assert not caught.value.sent
            rpc.caller.waiting[0].set_result(Reply("finished"))
            assert (await call).value == "finished"
            await stopping

    run(scenario)


def test_more_calls_than_the_server_takes_streams() -> None:
    async def scenario() -> None:
        yamux = YamuxSettings(max_streams=2)
        limits = RpcServerLimits(yamux=yamux, stop_grace_s=0.0)
        async with loopback(server_limits=limits) as rpc:
            calls = [rpc.call("Test.Wait") for _ in range(3)]
            with pytest.raises(RpcConnectionError) as caught:
                await calls[2]
            assert not caught.value.sent
            for future in rpc.caller.waiting:
                future.set_result(Reply(1))
            await asyncio.gather(*calls[:2])

    run(scenario)
