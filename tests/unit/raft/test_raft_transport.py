"""Drivers and transports over loopback: elect, replicate, hand over, catch up."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from raft_machines import (
    FAST,
    PATIENT,
    Machine,
    Rows,
    Silent,
    cluster,
    go,
    leader,
    stop,
    until,
)

from pyconsul.net import raft_transport
from pyconsul.net.log_store import MemoryStore
from pyconsul.net.raft_driver import RaftDriver
from pyconsul.net.raft_transport import RaftTransport, split_address
from pyconsul.raft import wire, wire_readers
from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    Configuration,
    HardState,
    HeartbeatRequest,
    Peer,
    SnapshotMeta,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from pyconsul.types.errors import ConsulError, NoLeaderError, StartError


@pytest.mark.parametrize("durable", [False, True])
def test_elect_replicate_fail_over_catch_up(tmp_path: Path, durable: bool) -> None:
    async def main() -> None:
        machines = await cluster(tmp_path if durable else None)
        first = leader(machines.values())
        assert first is not None
        with pytest.raises(ConsulError, match="only works on new clusters"):
            first.bootstrap(Configuration(servers=(Peer(id="x", address="x"),)))
        await asyncio.gather(*(first.propose(b"one%d" % i) for i in range(300)))
        await first.verify_leader()
        assert first.has_lease()
        others = [m for m in machines.values() if m.driver is not first]
        for machine in others:
            await until(lambda m=machine: len(m.fsm.rows) == 300)
            assert machine.known[-1] == first.address
            assert machine.driver.leader_address == first.address
            assert machine.driver.has_leader_contact
            stats = machine.driver.raft_stats()
            assert stats.last_contact.endswith("ms")
            assert stats.last_index == first.last_log_index
            assert stats.last_term == first.term == first.last_log_term
            with pytest.raises(NoLeaderError):
                await machine.driver.propose(b"not here")
        assert first.raft_stats().last_contact == "0"

        gone = machines[first.node_id]
        await gone.stop()
        await until(lambda: leader(others) is not None)
        second = leader(others)
        assert second is not None
        await asyncio.gather(*(second.propose(b"two%d" % i) for i in range(300)))
        await second.snapshot()
        await gone.start()
        await until(lambda: len(gone.fsm.rows) == 600)
        assert gone.fsm.restored, "it came by snapshot"
        await second.propose(b"three")
        await until(lambda: all("three" in m.fsm.rows for m in machines.values()))
        rows = [m.fsm.rows for m in machines.values()]
        assert rows[0] == rows[1] == rows[2]
        await stop(machines)

    go(main())


def test_leadership_is_handed_over_by_timeout_now() -> None:
    async def main() -> None:
        machines = await cluster(None)
        for target in "abca":
            now = leader(machines.values())
            assert now is not None
            if now.node_id == target:
                continue
            now.transfer_leadership(target)
            await until(lambda t=target: machines[t].driver.is_leader)
            await machines[target].driver.propose(target.encode())
        await stop(machines)

    go(main())


def test_a_leader_alone_steps_down_and_what_waited_fails() -> None:
    async def main() -> None:
        machines = await cluster(None)
        first = leader(machines.values())
        assert first is not None
        for machine in machines.values():
            if machine.driver is not first:
                await machine.stop()
        doomed = first.propose(b"doomed")
        with pytest.raises(ConsulError, match="leadership lost"):
            await doomed
        with pytest.raises(NoLeaderError):
            await first.propose(b"late")
        assert not first.has_lease()
        assert first.leader_address == ""
        assert first.has_leader_contact, "it led until just now"
        await until(lambda: first.last_contact_ms() > 0)
        await machines[first.node_id].stop()

    go(main())


def test_membership_changes_one_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        first = Machine("a", tmp_path)
        driver = await first.start(bootstrap=True)
        await until(lambda: driver.is_leader)
        await asyncio.gather(*(driver.propose(b"k%d" % i) for i in range(50)))
        await driver.snapshot()
        machines = {"a": first, "b": Machine("b", tmp_path), "c": Machine("c", None)}
        for name in "bc":
            other = machines[name]
            await other.start()
            assert not other.driver.has_leader_contact
            await driver.add_nonvoter(name, other.address)
            await until(lambda m=other: len(m.fsm.rows) == 50)
        assert driver.configuration.voters() == {"a"}
        await driver.promote("b")
        await driver.promote("c")
        assert driver.configuration.voters() == {"a", "b", "c"}
        await driver.add_nonvoter("c", machines["c"].address)
        assert driver.configuration.voters() == {"a", "b", "c"}
        await driver.demote("c")
        assert driver.configuration.voters() == {"a", "b"}
        with pytest.raises(ConsulError, match="x is not a member"):
            await driver.remove_server("x")
        await driver.remove_server("c")
        assert driver.peers() == [first.address, machines["b"].address]
        await driver.remove_server("a")
        await until(lambda: machines["b"].driver.is_leader)
        assert await machines["b"].driver.propose(b"on") is not None
        await stop(machines)

    go(main())


def test_restart_of_all(tmp_path: Path) -> None:
    async def main() -> None:
        machines = await cluster(tmp_path, settings=PATIENT)
        first = leader(machines.values())
        assert first is not None
        await asyncio.gather(*(first.propose(b"k%d" % i) for i in range(100)))
        await stop(machines)
        for machine in machines.values():
            await machine.start()
        await until(lambda: all(len(m.fsm.rows) == 100 for m in machines.values()))
        await stop(machines)

    go(main())


def test_servers_that_all_have_moved_find_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        machines = await cluster(tmp_path)
        first = leader(machines.values())
        assert first is not None
        await first.propose(b"kept")
        await stop(machines)
        old = {machine.address for machine in machines.values()}
        for machine in machines.values():
            machine.port = 0
            await machine.start()
        now = {machine.name: machine.address for machine in machines.values()}
        assert not old & set(now.values())
        for machine in machines.values():
            machine.driver.addresses.update(now)  # as gossip tells
        await until(lambda: leader(machines.values()) is not None)
        new = leader(machines.values())
        assert new is not None
        assert new.leader_address == now[new.node_id]
        # The configuration follows: that is the leader's to change.
        await new.add_nonvoter("b", now["b"])
        await new.propose(b"again")
        assert now["b"] in new.peers()
        await until(lambda: all("again" in m.fsm.rows for m in machines.values()))
        assert all("kept" in m.fsm.rows for m in machines.values())
        await stop(machines)

    go(main())


def test_a_server_that_lost_its_disk_is_filled_again(tmp_path: Path) -> None:
    async def main() -> None:
        machines = await cluster(None, settings=PATIENT)
        first = leader(machines.values())
        assert first is not None
        await asyncio.gather(*(first.propose(b"k%d" % i) for i in range(20)))
        victim = next(m for m in machines.values() if m.driver is not first)
        await until(lambda: len(victim.fsm.rows) == 20)
        await victim.stop()
        victim.memory = MemoryStore()
        await victim.start()
        await until(lambda: len(victim.fsm.rows) == 20)
        await stop(machines)

    go(main())


def test_an_archive_restored_on_the_leader_reaches_all(tmp_path: Path) -> None:
    async def main() -> None:
        machines = await cluster(tmp_path, settings=PATIENT)
        first = leader(machines.values())
        assert first is not None
        await asyncio.gather(*(first.propose(b"k%d" % i) for i in range(50)))
        new = {f"{i:05d}" + "x" * 400: i for i in range(8000)}
        data = msgspec.json.encode(new)
        assert len(data) > 3 << 20, "several pieces"
        told: list[str] = []
        for name, machine in machines.items():
            machine.driver.on_restored.append(lambda n=name: told.append(n))
        await first.user_restore([data], 5000)
        assert await first.propose(b"after") is not None
        for machine in machines.values():
            await until(lambda m=machine: len(m.fsm.rows) == 8001)
            assert machine.driver.last_log_index > 5000
        assert sorted(told) == sorted(machines)
        await stop(machines)
        again = machines["b"]
        await again.start()
        assert len(again.fsm.rows) == 8000, "it was installed durably"
        await again.stop()

    go(main())


def test_a_restarted_voter_keeps_its_leaders_lease() -> None:
    def core_at(term: int) -> Raft:
        return Raft(
            "b",
            RaftLog(MemoryStore()),
            hard_state=HardState(term=term),
            settings=FAST,
            rng=random.Random(1),
            now=0.0,
        )

    def granted(core: Raft, now: float) -> bool:
        vote = VoteRequest(
            sender="a", target="b", term=9, last_index=99, last_term=8, pre=True
        )
        core.step(vote, now)
        ready = core.ready()
        assert ready is not None
        (answer,) = ready.after_persist
        assert isinstance(answer, VoteResponse)
        return answer.granted

    core = core_at(term=8)
    assert not granted(core, 0.1), "it may have confirmed a lease before it stopped"
    assert granted(core, FAST.lease_timeout + 0.01)
    assert granted(core_at(term=0), 0.1), "an empty server has promised nothing"


@pytest.mark.parametrize(
    "entry", ['{{"id": "{0.name}", "address": "{0.address}"}}', '"{0.address}"']
)
def test_peers_json_recovers_a_lost_quorum(tmp_path: Path, entry: str) -> None:
    async def main() -> None:
        machines = await cluster(tmp_path)
        first = leader(machines.values())
        assert first is not None
        await first.propose(b"kept")
        await stop(machines)
        alone = machines[first.node_id]
        folder = tmp_path / alone.name
        path = folder / "peers.json"
        path.write_text(f"[{entry.format(alone)}]")
        driver = await alone.start(peers_file=path)
        await until(lambda: driver.is_leader)
        assert "kept" in alone.fsm.rows
        assert driver.peers() == [alone.address]
        assert not path.exists()
        assert "peers.json" in (folder / "peers.info").read_text()
        await alone.stop()

    go(main())


BAD_PEERS = [
    ("[", "failed to parse"),
    ("[]", "at least one voter"),
    ('[{"id": "a", "address": "x:1", "non_voter": true}]', "at least one voter"),
    ('["x:1", "x:1"]', "repeated id"),
    ('[{"id": "a", "address": ""}]', "empty or repeated address"),
    ('["x:1"]', "no initial state"),
    ('["x:1", "x:2"]', "no server was known at 'x:2': give its id"),
]


@pytest.mark.parametrize(("text", "why"), BAD_PEERS)
def test_peers_json_that_cannot_be_meant(tmp_path: Path, text: str, why: str) -> None:
    async def main() -> None:
        path = tmp_path / "peers.json"
        path.write_text(text)
        driver = RaftDriver(MemoryStore(), Rows(), "a", "x:1", peers_file=path)
        with pytest.raises(StartError, match=why):
            await driver.start()
        assert path.exists()

    go(main())


class Client:
    """A bare connection to one transport."""

    def __init__(self) -> None:
        self.receiver = Silent()
        self.transport = RaftTransport("me", "127.0.0.1:1")
        self.transport.attach(self.receiver)
        self.answers = wire_readers.ResponseReader()

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", None)
        port = self.server.sockets[0].getsockname()[1]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(b"\x01")

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert await reader.readexactly(1) == b"\x01"
        await self.transport.accept(reader, writer)

    async def answer(self) -> tuple[str, object]:
        while (found := self.answers.next()) is None:
            data = await self.reader.read(65536)
            assert data, "closed"
            self.answers.feed(data)
        return found

    async def close(self) -> None:
        self.writer.transport.abort()
        self.server.close()
        await self.transport.close()


def test_answers_keep_the_order_of_requests() -> None:
    async def main() -> None:
        client = Client()
        await client.open()
        encoder = wire.Encoder("", "9.9.9.9:1", identify=False)
        got = client.receiver.got
        for term in (1, 2, 3):
            beat = HeartbeatRequest(sender="", target="me", term=term)
            client.writer.write(encoder.request(beat))
        await until(lambda: len(got) == 3)
        assert {m.sender for m in got} == {"known"}
        for request in (got[2], got[0], got[1]):
            client.transport.send(
                "",
                raft_transport.HeartbeatResponse(
                    sender="me",
                    target="known",
                    term=request.term * 10,
                    tag=request.tag,
                ),
            )
        terms: list[object] = []
        for _ in range(3):
            error, plain = await client.answer()
            assert error == ""
            assert isinstance(plain, dict)
            terms.append(plain[b"Term"])
        assert terms == [10, 20, 30]
        await client.close()

    go(main())


def test_refusals_and_bad_requests_are_answered() -> None:
    async def main() -> None:
        client = Client()
        await client.open()
        encoder = wire.Encoder("x", "9.9.9.9:1")
        vote = VoteRequest(sender="x", target="me", term=1, last_index=0, last_term=0)
        client.writer.write(encoder.request(vote))
        await until(lambda: len(client.receiver.got) == 1)
        client.transport.refuse_waiting("the disk is full")
        assert (await client.answer())[0] == "the disk is full"
        client.writer.write(b"\x03\x81\xafProtocolVersion\x09")
        assert "protocol version 9" in (await client.answer())[0]
        client.writer.write(
            encoder.request(TimeoutNow(sender="x", target="me", term=0))
        )
        await until(lambda: len(client.receiver.got) == 2)
        client.writer.write(b"\x09")
        assert await client.reader.read() == b"", "not a Raft connection"
        await client.close()

    go(main())


def test_a_refused_snapshot_is_read_and_answered() -> None:
    async def main() -> None:
        client = Client()
        await client.open()
        meta = raft_transport.SnapshotRequest(
            sender="x", target="me", term=1, meta=SnapshotMeta(index=5, term=1)
        )
        sender = RaftTransport("x", "127.0.0.1:2")
        port = client.server.sockets[0].getsockname()[1]
        data = wire.Encoder("x", "127.0.0.1:2").request(meta, size=3 << 20)
        client.writer.write(data + bytes(3 << 20))
        assert (await client.answer())[0] == "not now"
        assert await client.reader.read() == b"", "the connection ends"
        # The sender's own half, against the same refusal; the tag byte is 1.
        with pytest.raises(ConsulError):
            await sender.send_snapshot(f"127.0.0.1:{port}", meta, 4, iter([b"abcd"]))
        await sender.close()
        await client.close()

    go(main())


def test_a_dead_server_is_told_to_the_core() -> None:
    async def main() -> None:
        receiver = Silent()
        transport = RaftTransport("me", "127.0.0.1:1")
        transport.attach(receiver)
        append = raft_transport.AppendRequest(
            sender="me", target="you", term=1, prev_index=1, prev_term=1
        )
        transport.send("127.0.0.1:1", append)
        await until(lambda: len(receiver.lost) == 1)
        transport.send("127.0.0.1:1", append)
        await until(lambda: len(receiver.lost) == 2)
        assert receiver.lost == [("you", False)] * 2
        await transport.close()

    go(main())


def test_addresses() -> None:
    assert split_address("10.0.0.1:8300") == ("10.0.0.1", 8300)
    assert split_address("[::1]:8300") == ("::1", 8300)
    for bad in ("", "x", ":1", "x:y"):
        with pytest.raises(ValueError, match="no host:port"):
            split_address(bad)
