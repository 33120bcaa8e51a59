"""The RPC port seen by bare connections: tags, limits, malformed input."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_rpc_fakes import METHODS, FakeCaller, loopback, run, until

from pyconsul.net.rpc_conversation import Conversation, Service
from pyconsul.net.rpc_errors import ENDING, RpcConnectionError
from pyconsul.net.rpc_server import RpcServer, RpcServerLimits
from pyconsul.net.rpc_stream import FramingError, PairReader, encode_pair
from pyconsul.types.errors import StartError
from pyconsul.types.gomsgpack import pack, unpack_stream
from pyconsul.types.messages import Reply
from pyconsul.yamux.frames import ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE, frame

RECORDED = json.loads(
    (Path(__file__).parents[2] / "data" / "rpc" / "rpc.json").read_text()
)["rpc"]


def request(seq: int, method: str, **args: Any) -> bytes:
    return encode_pair({"Seq": seq, "ServiceMethod": method}, args)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the end, be it a close or a reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["id"])
def test_recorded_pairs_are_cut_as_they_were_sent(entry: dict[str, Any]) -> None:
    reader = PairReader(1 << 20)
    for key in ("request_hex", "response_hex"):
        data = bytes.fromhex(entry[key])
        half = len(data) // 2
        assert reader.feed(data[:half]) is None
        pair = reader.feed(data[half:])
        assert pair is not None
        assert pair[0]["ServiceMethod"] == entry["method"]
        assert encode_pair(*pair) == data
        assert reader.buffered == 0
        assert reader.next() is None
    assert pair[0] == entry["response_header"]


def test_pairs_byte_by_byte_and_all_at_once() -> None:
    pairs = [({"Seq": i}, {"Value": "x" * i}) for i in range(20)]
    data = b"".join(encode_pair(*pair) for pair in pairs)
    slow = PairReader(100)
    single = [slow.feed(data[i : i + 1]) for i in range(len(data))]
    assert [pair for pair in single if pair] == pairs
    fast = PairReader(10_000)
    found = [fast.feed(data)]
    found += [fast.next() for _ in range(19)]
    assert found == pairs
    assert fast.next() is None


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        pack(7),
        pack([1]),
        b"\x81\xa3Seq\x01" + b"\xdd\xff\xff\xff\xff",
        b"\x81\x91\x01\x01",
        b"\x91" * 5000,
    ],
    ids=["byte", "number", "list", "length", "key", "depth"],
)
def test_malformed_pairs_are_refused(data: bytes) -> None:
    with pytest.raises(FramingError):
        PairReader(1 << 20).feed(data)


def test_messages_have_a_limit() -> None:
    reader = PairReader(1000)
    data = encode_pair({"Seq": 1}, {"Value": "x" * 5000})
    assert reader.feed(data[:500]) is None
    assert reader.feed(data[500:1000]) is None
    with pytest.raises(FramingError, match="exceeds 1000 bytes"):
        reader.feed(data[1000:1001])


def test_bare_connection_serves_calls_in_order() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            data = request(1, "KVS.Get", Value="a") + request(2, "Test.Wait")
            data += request(3, "KVS.Get", Value="c")
            reader, writer = await rpc.dial(b"\0" + data)
            await rpc.caller.wait_for(1)
            assert len(rpc.caller.calls) == 2  # the third waits for the second
            rpc.caller.waiting[0].set_result(Reply("b"))
            got: list[Any] = []
            seen = b""
            while len(got) < 6:
                seen += await reader.read(1 << 16)
                got = list(unpack_stream([seen], 1 << 20))
            assert [header["Seq"] for header in got[::2]] == [1, 2, 3]
            assert got[1::2] == ["a", "b", "c"]
            writer.close()

    run(scenario)


def test_a_bare_connection_that_vanishes_cancels_its_call() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            _, writer = await rpc.dial(b"\0" + request(1, "Test.Wait"))
            await rpc.caller.wait_for(1)
            writer.close()
            await until(lambda: rpc.caller.waiting[0].cancelled())

    run(scenario)


def test_reading_ahead_on_a_bare_connection_is_bounded() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            first = request(1, "Test.Wait")
            rest = b"".join(
                request(i, "KVS.Get", Value="x" * 100_000) for i in range(2, 102)
            )
            reader, writer = await rpc.dial(b"\0" + first + rest)
            await rpc.caller.wait_for(1)
            for _ in range(200):
                await asyncio.sleep(0)
            rpc.caller.waiting[0].set_result(Reply("go"))
            seen = 0
            while len(rpc.caller.calls) < 101 or seen < 100 * 100_000:
                seen += len(await reader.read(1 << 20))
            assert [n for n, _ in rpc.caller.calls[1:]] == ["KVS.Get"] * 100
            writer.close()

    run(scenario)


@pytest.mark.parametrize("tag", [2, 3, 6, 7, 8, 9, 0x16])
def test_other_tags_are_closed(tag: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            reader, writer = await rpc.dial(bytes([tag]))
            assert await reader.read() == b""
            writer.close()

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert f"byte={tag} " in caplog.text


def test_raft_and_snapshot_tags_are_handed_over() -> None:
    class Raft:
        async def accept(
            self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"raft:" + await reader.readexactly(5))

    async def snapshot(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Any
    ) -> None:
        archive = await reader.read()
        writer.write(pack({"Error": "", "Got": request}) + archive)

    async def scenario() -> None:
        async with loopback(raft=Raft(), snapshot=snapshot) as rpc:
            reader, writer = await rpc.dial(b"\x01hello")
            assert await reader.read() == b"raft:hello"
            writer.close()
            ask = pack({"Datacenter": "dc1", "Op": 1})
            reader, writer = await rpc.dial(b"\x05" + ask[:4])
            await asyncio.sleep(0)
            writer.write(ask[4:] + b"archive")
            writer.write_eof()
            answer = await reader.read()
            assert answer.endswith(b"archive")
            (header,) = unpack_stream([answer[: -len(b"archive")]], 1 << 20)
            assert header["Got"] == {"Datacenter": "dc1", "Op": 1}
            writer.close()

    run(scenario)


def test_connections_of_one_source_are_limited() -> None:
    async def scenario() -> None:
        limits = RpcServerLimits(max_conns_per_client=2, stop_grace_s=0.0)
        async with loopback(server_limits=limits) as rpc:
            kept = [await rpc.dial(b"\0") for _ in range(2)]
            reader, writer = await rpc.dial(b"")
            assert await read_all(reader) == b""
            writer.close()
            kept[0][1].close()
            await until(lambda: len(rpc.server._transports) == 1)  # pyright: ignore[reportPrivateUsage]
            reader, writer = await rpc.dial(b"\0" + request(1, "KVS.Get", Value=5))
            answer = await reader.read(1000)
            assert list(unpack_stream([answer], 1000))[1] == 5
            writer.close()
            kept[1][1].close()

    run(scenario)


def test_a_silent_connection_is_closed() -> None:
    async def scenario() -> None:
        limits = RpcServerLimits(handshake_timeout_s=0.001, stop_grace_s=0.0)
        async with loopback(server_limits=limits) as rpc:
            for sent in (b"", b"\x05"):
                reader, writer = await rpc.dial(sent)
                assert await read_all(reader) == b""
                writer.close()

    run(scenario)


def test_malformed_calls_lose_their_stream_only() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            good = request(1, "KVS.Get", Value="fine")
            data = b"\x04" + frame(WINDOW_UPDATE, SYN, 1, 0)
            data += frame(DATA, 0, 1, 1) + b"\xc1"
            data += frame(WINDOW_UPDATE, SYN, 3, 0) + frame(DATA, 0, 3, len(good))
            reader, writer = await rpc.dial(data + good)
            expected = frame(WINDOW_UPDATE, RST, 1, 0)
            answer = await reader.readuntil(b"fine")
            assert expected in answer
            writer.write(frame(WINDOW_UPDATE, FIN, 3, 0))
            assert await reader.readexactly(12) == frame(WINDOW_UPDATE, FIN, 3, 0)
            writer.write(b"\xff" * 12)
            await reader.read()  # the session ends with a go away
            assert reader.at_eof()
            writer.close()

    run(scenario)


def test_incomplete_requests_of_a_connection_are_bounded() -> None:
    async def scenario() -> None:
        limits = RpcServerLimits(max_buffered=50_000, stop_grace_s=0.0)
        async with loopback(server_limits=limits) as rpc:
            part = request(1, "KVS.Get", Value="x" * 20_000)[:-1]
            data = b"\x04"
            for stream in (1, 3, 5):
                data += frame(WINDOW_UPDATE, SYN, stream, 0)
                data += frame(DATA, 0, stream, len(part)) + part
            reader, writer = await rpc.dial(data)
            await reader.read()
            assert reader.at_eof()
            assert rpc.caller.calls == []
            writer.close()

    run(scenario)


def test_a_taken_port_is_a_start_error() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            other = RpcServer(FakeCaller(), methods={})
            with pytest.raises(StartError) as caught:
                await other.start(rpc.host, rpc.port)
            assert str(caught.value) == (
                f"Failed to start RPC layer: listen tcp {rpc.address}: "
                "bind: address already in use"
            )
            await other.stop()

    run(scenario)


class SilentChannel:
    """Takes what a conversation writes."""

    def __init__(self) -> None:
        self.buffered = 0
        self.credit = 0
        self.written = b""
        self.finished = False

    def write(self, stream: int, data: bytes) -> bool:
        self.written += data
        return True

    def consumed(self, stream: int, size: int) -> None:
        self.credit += size

    def finish(self, stream: int) -> None:
        self.finished = True


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {"Seq": st.integers(0, 9) | PLAIN},
    optional={
        "ServiceMethod": st.sampled_from(["KVS.Get", "KVS.No", "Test.Break"]) | PLAIN
    },
)


@given(
    st.lists(st.builds(encode_pair, HEADERS, PLAIN) | st.binary(max_size=20)),
    st.integers(1, 40),
)
def test_any_bytes_are_answered_or_refused(parts: list[bytes], step: int) -> None:
    channel = SilentChannel()
    conversation = Conversation(Service(FakeCaller(), METHODS, 1000), channel)
    data = b"".join(parts)
    fed = 0
    try:
        for start in range(0, len(data), step):
            fed = min(len(data), start + step)
            conversation.receive(data[start : start + step])
    except FramingError:
        pass
    assert channel.credit == fed  # nothing waits, so all of it is granted again
    answers = list(unpack_stream([channel.written], 1 << 20))
    assert len(answers) % 2 == 0
    refused = [a["Error"] for a in answers[::2] if a["Error"].startswith(ENDING)]
    assert channel.finished == bool(refused)
    assert len(refused) <= 1
    conversation.cancel()
    assert channel.buffered == 0


def test_malformed_replies_fail_the_call() -> None:
    async def scenario() -> None:
        async with loopback() as rpc:
            server = asyncio.get_running_loop().create_future()

            async def answer(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter
            ) -> None:
                assert await reader.readexactly(1) == b"\x04"
                stream = 1
                for reply in (
                    encode_pair({"Error": 7, "Seq": 1}, {}),
                    b"\xc1",
                    encode_pair({"Error": "", "Seq": 1}, {"fine": 1}),
                ):
                    syn = await reader.readuntil(frame(WINDOW_UPDATE, SYN, stream, 0))
                    assert syn.endswith(frame(WINDOW_UPDATE, SYN, stream, 0))
                    writer.write(frame(WINDOW_UPDATE, ACK, stream, 0))
                    writer.write(frame(DATA, 0, stream, len(reply)) + reply)
                    stream += 2
                await reader.read()
                writer.close()
                server.set_result(None)

            fake = await asyncio.start_server(answer, "127.0.0.1", 0)
            host, port = fake.sockets[0].getsockname()
            for _ in range(2):
                with pytest.raises(RpcConnectionError, match="malformed"):
                    await rpc.pool.call(f"{host}:{port}", "KVS.Get", {}, timeout_s=5)
            call = rpc.pool.call(f"{host}:{port}", "KVS.Get", {}, timeout_s=5)
            assert (await call).value == {"fine": 1}
            await rpc.pool.close()
            await server
            fake.close()

    run(scenario)
