"""A gossip pool and other servers under the test's control."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from typing import Any

from endpoints_fakes import Cluster

from pyconsul.endpoints.pool import join_address
from pyconsul.raft.messages import NONVOTER, VOTER, Configuration, Peer
from pyconsul.serf.keys import KeyResponse
from pyconsul.serf.member import Member, MemberEvent, Status
from pyconsul.types.coordinates import Coord
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply
from pyconsul.types.operations import RaftStats


def node_id(number: int) -> str:
    return f"aaaaaaaa-0000-0000-0000-{number:012d}"


def server(number: int, status: Status = Status.ALIVE, **tags: str) -> Member:
    """Server ``n1`` .. at 10.0.0.1 ..."""
    return Member(
        name=f"n{number}",
        host=f"10.0.0.{number}",
        port=8301,
        status=status,
        tags={
            "role": "consul",
            "dc": "dc1",
            "id": node_id(number),
            "port": "8300",
            "build": "1.10.11:abc",
            "raft_vsn": "3",
            "vsn": "2",
            **tags,
        },
    )


def client(number: int, status: Status = Status.ALIVE) -> Member:
    """Client ``c1`` .. at 10.0.1.1 ..."""
    return Member(
        name=f"c{number}",
        host=f"10.0.1.{number}",
        port=8301,
        status=status,
        tags={"role": "node", "dc": "dc1", "id": node_id(100 + number)},
    )


def peer(number: int, *, votes: bool = True) -> Peer:
    return Peer(
        id=node_id(number),
        address=join_address(f"10.0.0.{number}", 8300),
        suffrage=VOTER if votes else NONVOTER,
    )


def peers(*numbers: int) -> Configuration:
    return Configuration(servers=tuple(peer(number) for number in numbers))


class FakePool:
    def __init__(self, *members: Member) -> None:
        self.known = {member.name: member for member in members}
        self.events: list[tuple[str, bytes]] = []
        self.gone: list[str] = []
        self.coordinates: dict[str, Coord] = {}

    def members(self) -> Sequence[Member]:
        return list(self.known.values())

    def user_event(self, name: str, payload: bytes) -> None:
        self.events.append((name, payload))

    def coordinate_of(self, name: str) -> Coord | None:
        return self.coordinates.get(name)

    def force_leave(self, name: str, prune: bool = False) -> None:
        self.gone.append(name)

    async def key_operation(
        self, operation: str, key: str, relay_factor: int = 0
    ) -> KeyResponse:
        if key == "!":
            raise ConsulError("illegal base64 data at input byte 0")
        return KeyResponse(num_nodes=1, num_responses=1, keys={"k": 1})


class FakeRemote:
    """Servers by address: their stats, or their peers, or an error."""

    def __init__(self) -> None:
        self.stats: dict[str, RaftStats | ConsulError] = {}
        self.peers: dict[str, list[str] | ConsulError] = {}
        self.leaders: dict[str, str | ConsulError] = {}
        """By whom they are led; by nobody, unless it is said here."""
        self.asked: list[tuple[str, str]] = []

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        self.asked.append((method, address))
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        table: dict[str, Any] = (
            self.stats if method == "Status.RaftStats" else self.peers
        )
        found = table.get(address, ConsulError("nobody there"))
        if method == "Status.Leader":
            found = self.leaders.get(address, "")
        if isinstance(found, ConsulError):
            future.set_exception(found)
        else:
            future.set_result(Reply(found))
        return future


class Fleet(Cluster):
    """The leader ``n1`` with its pool and the other servers."""

    def __init__(self, *members: Member, **options: Any) -> None:
        super().__init__(node_id=node_id(1), address="10.0.0.1", **options)
        self.pool = FakePool(server(1), *members)
        self.remote = FakeRemote()
        self.log.configuration = peers(1)
        self.server.cluster.attach(self.pool, None, self.remote)

    def tell(self, kind: str, *members: Member) -> None:
        """Gossip says that members changed."""
        for member in members:
            if kind == "reap":
                self.pool.known.pop(member.name, None)
            else:
                self.pool.known[member.name] = member
        self.server.cluster.on_members(MemberEvent(kind=kind, members=list(members)))

    def well(self, *numbers: int) -> None:
        """These servers keep up with the leader from now on."""
        for number in numbers:
            self.remote.stats[f"10.0.0.{number}:8300"] = RaftStats(
                last_contact="12ms", last_term=2, last_index=1_000_000
            )

    def voters(self) -> set[str]:
        configuration = self.log.configuration
        return {p.address for p in configuration.servers if p.suffrage == VOTER}

    def all_peers(self) -> set[str]:
        return {p.address for p in self.log.configuration.servers}

    def status(self, node: str) -> str | None:
        check = self.state.get_check(node, "serfHealth")
        return None if check is None else check.status
