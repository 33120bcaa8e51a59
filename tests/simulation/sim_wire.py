"""What servers say to each other in a simulation, as bytes over `sim_network`.

Raft messages pass through ``raft/wire.py``, one datagram each: lost, doubled,
late and out of order, which is worse than the connections of
``net/raft_transport.py``. Snapshots stream in pieces. Forwarded requests pass
through ``net/rpc_codec.py``; a call whose connection breaks fails late and, as
on TCP, without telling whether it was served.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyconsul.net.raft_connections import Receiver
from pyconsul.net.rpc_codec import METHODS
from pyconsul.net.rpc_errors import broken_call, error_from_text
from pyconsul.raft import wire, wire_readers
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatResponse,
    Message,
    SnapshotRequest,
    TimeoutNowResponse,
    VoteResponse,
)
from pyconsul.types.errors import ConsulError
from pyconsul.types.gomsgpack import pack, unpack
from pyconsul.types.messages import Reply

if TYPE_CHECKING:
    from cluster_sim import SimCluster, SimServer

ANSWERS = (AppendResponse, HeartbeatResponse, TimeoutNowResponse, VoteResponse)
PIECE = 700
SNAPSHOT_TIMEOUT_S = 3.0
BREAK_S = 0.8
"""How long it takes to notice that a connection is dead."""


@dataclass
class Waiting:
    """A request that was delivered and not answered yet."""

    since: float
    asked: wire.Asked
    asker: SimServer
    boot: int


class SimTransport:
    """A ``Transport`` for one boot of one server."""

    def __init__(self, server: SimServer) -> None:
        self.server = server
        self.cluster: SimCluster = server.cluster
        self.encoder = wire.Encoder(server.id, server.address)
        self.waiting: dict[int, Waiting] = {}
        self._answers: dict[int, Future[Message]] = {}
        self._receiver: Receiver | None = None

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @property
    def receiver(self) -> Receiver:
        assert self._receiver is not None
        return self._receiver

    def refuse_waiting(self, reason: str) -> None:
        self.waiting.clear()

    def send(self, address: str, message: Message) -> None:
        if isinstance(message, ANSWERS):
            self._answer(message)
            return
        target = self.cluster.by_address(address)
        if target is None:
            return
        data = self.encoder.request(message)
        asked = wire.ask(message)
        boot = self.server.machine.boots
        if isinstance(message, AppendRequest) and not self._open(target):
            self._tell_lost(message.target)
        self.cluster.network.deliver(
            self.server.place,
            target.place,
            lambda: target.machine.run(
                lambda: target.take_raft(data, asked, self.server, boot)
            ),
        )

    def _open(self, target: SimServer) -> bool:
        network = self.cluster.network
        here, there = self.server.place, target.place
        return (
            target.machine.up
            and network.open(here, there)
            and network.open(there, here)
        )

    def _tell_lost(self, peer: str) -> None:
        """The connection is found broken, sometimes; else the core finds out."""
        rng = self.cluster.rng
        if rng.random() < 0.5:
            loop = asyncio.get_running_loop()
            retry = rng.random() < 0.3
            loop.call_later(
                rng.uniform(0.0, 0.1),
                lambda: self.receiver.appends_lost(peer, retry=retry),
            )

    def take(self, data: bytes, asked: wire.Asked, asker: SimServer, boot: int) -> None:
        """A request has arrived."""
        tag, message, address = self._decode(data)
        self.waiting[tag] = Waiting(self.cluster.clock.now, asked, asker, boot)
        assert message.sender == asked.me
        try:
            self.receiver.receive(message, address)
        except ConsulError:
            self.waiting.pop(tag, None)

    def _decode(self, data: bytes) -> tuple[int, Message, str]:
        requests = wire_readers.RequestReader()
        requests.feed(data)
        found = requests.next()
        assert found is not None
        tag = self.cluster.next_serial()
        incoming = wire.decode_request(*found, self.server.id, tag)
        return tag, incoming.message, incoming.address

    def _answer(self, message: Message) -> None:
        waiting = self.waiting.pop(message.tag, None)
        if waiting is None:
            self.cluster.checks.fail(f"answered twice, or nobody asked: {message}")
            return
        if (streamed := self._answers.pop(message.tag, None)) is not None:
            if not streamed.done():
                streamed.set_result(message)
            return
        asker, asked = waiting.asker, waiting.asked
        data = self.encoder.response(asked.kind, message)

        def arrive() -> None:
            if asker.machine.boots == waiting.boot:
                asker.take_raft_answer(data, asked, self.server.address)

        self.cluster.network.deliver(
            self.server.place, asker.place, lambda: asker.machine.run(arrive)
        )

    def take_answer(self, data: bytes, asked: wire.Asked, address: str) -> None:
        answers = wire_readers.ResponseReader()
        answers.feed(data)
        found = answers.next()
        assert found is not None
        try:
            self.receiver.receive(wire.decode_response(asked, found[1]), address)
        except ConsulError:
            pass
        except wire.StrangerError:
            if asked.kind == wire.APPEND:
                self.receiver.appends_lost(asked.peer, retry=False)

    # --- snapshots ---

    async def send_snapshot(
        self,
        address: str,
        message: SnapshotRequest,
        size: int,
        chunks: Iterator[bytes],
    ) -> Message:
        target = self.cluster.by_address(address)
        if target is None or not self._open(target):
            raise ConnectionRefusedError(address)
        state = b"".join(chunks)
        assert len(state) == size
        data = self.encoder.request(message, size=size)
        asked = wire.ask(message)
        loop = asyncio.get_running_loop()
        future: Future[bytes | None] = loop.create_future()
        machine, boot = self.server.machine, self.server.machine.boots

        def answer(result: bytes | None) -> None:
            def arrive() -> None:
                if machine.boots == boot and not future.done():
                    future.set_result(result)

            self.cluster.network.deliver(
                target.place, self.server.place, lambda: machine.run(arrive)
            )

        self.cluster.network.deliver(
            self.server.place,
            target.place,
            lambda: target.machine.run(
                lambda: target.take_snapshot(data, state, asked, self.server, answer)
            ),
        )
        async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
            result = await future
        if result is None:
            raise ConsulError("the snapshot was refused")
        answers = wire_readers.ResponseReader()
        answers.feed(result)
        found = answers.next()
        assert found is not None
        try:
            return wire.decode_response(asked, found[1])
        except wire.StrangerError as error:
            raise ConsulError(str(error)) from None

    async def take_snapshot(
        self, data: bytes, state: bytes, asked: wire.Asked, asker: SimServer
    ) -> bytes | None:
        """Receive a stream; return the bytes of the answer, ``None``: refused."""
        tag, message, address = self._decode(data)
        assert isinstance(message, SnapshotRequest)
        pieces = iter([state[at : at + PIECE] for at in range(0, len(state), PIECE)])
        cluster = self.cluster

        async def read() -> bytes:
            await asyncio.sleep(cluster.rng.expovariate(1 / 0.002))
            if not self._open(asker):
                raise ConnectionResetError("the stream was cut off")
            return next(pieces)

        answered: Future[Message] = asyncio.get_running_loop().create_future()
        self.waiting[tag] = Waiting(cluster.clock.now, asked, asker, 0)
        self._answers[tag] = answered
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await self.receiver.receive_snapshot(message, address, len(state), read)
        except (ConsulError, OSError):
            self.waiting.pop(tag, None)
            self._answers.pop(tag, None)
            return None
        return self.encoder.response(asked.kind, await answered)


class SimRpc:
    """The pool of RPC connections of one server (``CallPool``, ``Remote``)."""

    def __init__(self, server: SimServer) -> None:
        self.server = server
        self.cluster: SimCluster = server.cluster

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        _Call(self, future, address, method, args, timeout_s).begin()
        return future


class _Call:
    """One request to another server, and its answer."""

    def __init__(
        self,
        rpc: SimRpc,
        future: Future[Reply],
        address: str,
        method: str,
        args: Any,
        timeout_s: float,
    ) -> None:
        self.cluster = rpc.cluster
        self.server = rpc.server
        self.future = future
        self.target = rpc.cluster.by_address(address)
        self.method = METHODS[method]
        self.args = args
        self.loop = future.get_loop()
        self.deadline = self.loop.time() + timeout_s
        self.delivered = False
        self.boots = (self.server.machine.boots, 0)

    def begin(self) -> None:
        target, rng = self.target, self.cluster.rng
        if target is None or (not target.machine.up and self._passes(back=False)):
            delay = rng.uniform(0.0, 0.01)
            self.loop.call_later(delay, self._fail, "connection refused", False)
            return
        self.boots = (self.server.machine.boots, target.machine.boots)
        data = pack(self.method.args_to_plain(self.args))
        self.loop.call_later(BREAK_S, self._watch)
        if self.cluster.network.weather.loss and rng.random() < 0.01:
            # The connection breaks: before it was served, or after.
            served = rng.random() < 0.5
            self.loop.call_later(rng.uniform(0.0, 0.2), self._fail, "EOF", True)
            if not served:
                return
        self._carry(
            self.server, target, lambda: target.machine.run(lambda: self._serve(data))
        )

    def _carry(self, source: SimServer, target: SimServer, call: Any) -> None:
        """Streams lose nothing and double nothing, but they may be late."""
        network, rng = self.cluster.network, self.cluster.rng
        if network.open(source.place, target.place):
            delay = network.delay()
            if rng.random() < network.weather.late:
                delay += rng.random() * network.weather.late_by
            self.cluster.clock.at(self.cluster.clock.now + delay, call)

    def _passes(self, *, back: bool) -> bool:
        assert self.target is not None
        network = self.cluster.network
        here, there = self.server.place, self.target.place
        return network.open(there, here) if back else network.open(here, there)

    def _watch(self) -> None:
        """Keepalive: notice a peer that is gone, or a dead line."""
        if self.future.done():
            return
        target = self.target
        assert target is not None
        gone = target.machine.boots != self.boots[1] or not target.machine.up
        dead = gone or not self._passes(back=True) or not self._passes(back=False)
        if dead or self.loop.time() >= self.deadline:
            reason = "EOF" if dead else "i/o deadline reached"
            self._fail(reason, self.delivered or self.cluster.rng.random() < 0.5)
        else:
            self.loop.call_later(BREAK_S, self._watch)

    def _fail(self, reason: str, sent: bool) -> None:
        if not self.future.done():
            sent = sent or self.delivered
            self.future.set_exception(broken_call(reason, sent=sent))

    # --- over there ---

    def _serve(self, data: bytes) -> None:
        target = self.target
        assert target is not None
        if target.machine.boots != self.boots[1]:
            return
        self.delivered = True
        try:
            args = self.method.args_from_plain(unpack(data))
            answer = target.serve(self.method.name, args)
        except ConsulError as error:
            self._reply(None, str(error), args=None)
            return
        if isinstance(answer, Reply):
            self._reply(answer, "", args=args)
        else:
            answer.add_done_callback(lambda done: self._settled(done, args))

    def _settled(self, done: Future[Reply], args: Any) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._reply(done.result(), "", args=args)
        else:
            if not isinstance(error, ConsulError):
                self.cluster.checks.fail(f"{self.method.name} failed: {error!r}")
            self._reply(None, str(error), args=args)

    def _reply(self, reply: Reply | None, error: str, *, args: Any) -> None:
        target = self.target
        assert target is not None
        data = b""
        if reply is not None:
            data = pack(self.method.reply_to_plain(reply, args))
        self._carry(
            target,
            self.server,
            lambda: self.server.machine.run(lambda: self._arrive(data, error)),
        )

    def _arrive(self, data: bytes, error: str) -> None:
        if self.future.done() or self.server.machine.boots != self.boots[0]:
            return
        if error:
            self.future.set_exception(error_from_text(error))
        else:
            reply = self.method.reply_from_plain(unpack(data), self.args)
            self.future.set_result(reply)
