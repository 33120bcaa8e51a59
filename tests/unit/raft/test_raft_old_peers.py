"""Peers of older Raft versions: what they do not know is not waited for."""

from __future__ import annotations

import asyncio

import pytest
from raft_machines import (
    Machine,
    Silent,
    go,
    until,
)

from pyconsul.net.raft_transport import RaftTransport
from pyconsul.raft import wire, wire_readers
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Peer,
    VoteRequest,
    VoteResponse,
)


class OldPeer:
    """A voter of Raft before 1.7, which knows no pre-vote.

    It hangs up on one, or says that the request is unknown.
    """

    def __init__(self, *, says_so: bool) -> None:
        self.says_so = says_so
        self.asked: list[int] = []
        self.open: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", None)
        port = self.server.sockets[0].getsockname()[1]
        self.encoder = wire.Encoder("old", f"127.0.0.1:{port}", identify=False)
        return f"127.0.0.1:{port}"

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.open.add(writer)
        requests = wire_readers.RequestReader()
        assert await reader.readexactly(1) == b"\x01"
        while data := await reader.read(65536):
            requests.feed(data)
            while (found := requests.next()) is not None:
                answer = self.answer(*found)
                if answer is None:
                    break
                writer.write(answer)
            else:
                continue
            break
        self.open.discard(writer)
        writer.close()

    def answer(self, kind: int, plain: object) -> bytes | None:
        self.asked.append(kind)
        message = wire.decode_request(kind, plain, "old").message
        if kind == wire.PRE_VOTE:
            return self.encoder.error("unexpected command") if self.says_so else None
        if isinstance(message, VoteRequest):
            vote = VoteResponse(
                sender="old", target="a", term=message.term, granted=True
            )
            return self.encoder.response(kind, vote)
        prev = message.prev_index if isinstance(message, AppendRequest) else 0
        count = len(message.entries) if isinstance(message, AppendRequest) else 0
        done = AppendResponse(
            sender="old",
            target="a",
            term=message.term,
            success=True,
            index=prev + count,
            hint_index=prev + count,
        )
        return self.encoder.response(kind, done)

    async def stop(self) -> None:
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()
        await until(lambda: not self.open)


@pytest.mark.parametrize("says_so", [False, True])
def test_a_peer_without_pre_votes_is_only_asked_for_votes(says_so: bool) -> None:
    async def main() -> None:
        peer = OldPeer(says_so=says_so)
        address = await peer.start()
        machine = Machine("a", None)
        driver = await machine.start()
        driver.bootstrap(
            Configuration(
                servers=(
                    Peer(id="a", address=machine.address),
                    Peer(id="old", address=address),
                )
            )
        )
        await until(lambda: driver.is_leader)
        assert wire.PRE_VOTE in peer.asked
        assert wire.VOTE in peer.asked
        assert not machine.transport.pre_voters
        await driver.propose(b"agreed")
        await machine.stop()
        await peer.stop()

    go(main())


def test_a_server_that_hangs_up_after_pre_votes_gave_no_consent() -> None:
    async def main() -> None:
        peer = OldPeer(says_so=False)
        address = await peer.start()
        receiver = Silent()
        transport = RaftTransport("me", "127.0.0.1:1")
        transport.attach(receiver)
        transport.pre_voters.add(address)  # it has answered one before
        for asked in range(1, 5):
            vote = VoteRequest(
                sender="me", target="you", term=9, last_index=0, last_term=0, pre=True
            )
            transport.send(address, vote)
            await until(lambda n=asked: len(peer.asked) == n and not peer.open)
        assert receiver.got == []
        await transport.close()
        await peer.stop()

    go(main())
