"""A follower and a client agent before real RPC connections on loopback."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from pyconsul.endpoints.server import Server, ServerOptions
from pyconsul.net.client_caller import ClientCaller
from pyconsul.net.forwarder import LeaderForwarder
from pyconsul.net.rpc_pool import RpcPool
from pyconsul.net.rpc_server import RpcServer
from pyconsul.raft.messages import Configuration
from pyconsul.state.store import StateStore
from pyconsul.types.errors import (
    BadRequestError,
    ConsulError,
    NoPathToDatacenterError,
)
from pyconsul.types.messages import (
    EmptyRequest,
    KeyRequest,
    KVSRequest,
    RegisterRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.records import DirEntry, NodeService


class SharedLog:
    """A log that all servers of a test share and one of them leads."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.is_leader = False
        self.leader_address = ""
        self.has_leader_contact = True
        self.on_leader_change: list[Callable[[bool], None]] = []
        self.on_leader_known: list[Callable[[str], None]] = []
        self.configuration = Configuration()
        self.configuration_index = 1

    def propose(self, command: bytes) -> Future[object]:
        future: Future[object] = asyncio.get_running_loop().create_future()
        future.set_result(self.cluster.commit(command))
        return future

    def has_lease(self) -> bool:
        return self.is_leader

    def peers(self) -> list[str]:
        return [self.leader_address]

    def verify_leader(self) -> Future[None]:
        future: Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def last_contact_ms(self) -> int:
        return 0 if self.is_leader else 25

    def transfer_leadership(self, target: str = "", /) -> str:
        raise AssertionError("no test transfers the leadership")

    def change_membership(
        self, change: Callable[[Configuration], Configuration], /
    ) -> Future[object]:
        raise AssertionError("no test changes the membership")

    def stats(self) -> dict[str, str]:
        return {}


class Member:
    """A server of the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.state = StateStore()
        self.log = SharedLog(cluster)
        self.pool = RpcPool()
        self.address = ""
        self.rpc: RpcServer | None = None
        self.server: Server | None = None
        self.cluster = cluster

    async def start(self) -> None:
        holder: list[Server] = []

        class Late:
            def call(self, method: str, args: Any) -> Reply | Future[Reply]:
                return holder[0].call(method, args)

        self.rpc = RpcServer(Late())
        await self.rpc.start("127.0.0.1", 0)
        port = self.rpc.address[1]
        self.address = f"127.0.0.1:{port}"
        options = ServerOptions(
            datacenter="dc1",
            node_name="n",
            address="127.0.0.1",
            server_port=port,
        )
        self.server = Server(
            self.log,
            self.state,
            options,
            random=Random(1),
            forwarder=LeaderForwarder(self.pool),
        )
        holder.append(self.server)

    async def stop(self) -> None:
        if self.rpc is not None:
            rpc, self.rpc = self.rpc, None
            await rpc.stop()
        if self.server is not None:
            self.server.stop()
        await self.pool.close()


class Cluster:
    """Three servers and a client agent."""

    def __init__(self) -> None:
        self.index = 10
        self.members = [Member(self) for _ in range(3)]
        self.pool = RpcPool()
        self.client = ClientCaller(self.pool, random=Random(1))

    def commit(self, command: bytes) -> object:
        self.index += 1
        results = [m.state.apply(self.index, command) for m in self.members]
        return results[0]

    def elect(self, leader: Member | None) -> None:
        for member in self.members:
            if member.log.is_leader:
                member.log.is_leader = False
                for callback in member.log.on_leader_change:
                    callback(False)
            address = leader.address if leader else ""
            member.log.leader_address = address
            for known in member.log.on_leader_known:
                known(address)
        if leader is not None:
            leader.log.is_leader = True
            for callback in leader.log.on_leader_change:
                callback(True)

    async def start(self) -> None:
        for at, member in enumerate(self.members):
            await member.start()
            self.client.add_server(f"s{at}", member.address)

    async def stop(self) -> None:
        self.client.stop()
        await self.pool.close()
        for member in self.members:
            await member.stop()

    async def ask(self, method: str, args: Any, at: int | None = None) -> Reply:
        caller = self.client if at is None else self.members[at].server
        assert caller is not None
        reply = caller.call(method, args)
        return await reply if isinstance(reply, Future) else reply


def on_cluster(
    test: Callable[[Cluster], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def work() -> None:
        cluster = Cluster()
        await cluster.start()
        try:
            cluster.elect(cluster.members[0])
            await asyncio.wait_for(test(cluster), 20)
        finally:
            await cluster.stop()

    def main() -> None:
        asyncio.run(work())

    main.__name__ = test.__name__
    return main


def put(key: str, value: bytes = b"v") -> KVSRequest:
    return KVSRequest(op="set", dir_ent=DirEntry(key=key, value=value))


EVERYWHERE = (0, 1, 2, None)


@on_cluster
async def test_every_agent_gives_the_same_answers(cluster: Cluster) -> None:
    for at in EVERYWHERE:
        assert (await cluster.ask("KVS.Apply", put(f"k{at}"), at)).value is True
    for at in EVERYWHERE:
        for key in EVERYWHERE:
            got = await cluster.ask("KVS.Get", KeyRequest(key=f"k{key}"), at)
            assert got.value.record.value == b"v"
            assert (got.known_leader, got.last_contact_ms) == (True, 0)
        gone = await cluster.ask("KVS.Get", KeyRequest(key="none"), at)
        assert gone.value is None
        with pytest.raises(NoPathToDatacenterError):
            await cluster.ask("KVS.Get", KeyRequest(key="k", datacenter="dc9"), at)
    leaders = {
        (await cluster.ask("Status.Leader", EmptyRequest(), at)).value
        for at in EVERYWHERE
    }
    assert leaders == {cluster.members[0].address}


@on_cluster
async def test_errors_keep_their_class_and_text(cluster: Cluster) -> None:
    texts: set[tuple[type[ConsulError], str]] = set()
    for at in EVERYWHERE:
        with pytest.raises(ConsulError) as refused:
            await cluster.ask("KVS.Apply", KVSRequest(op="nonsense"), at)
        texts.add((refused.type, str(refused.value)))
    assert len(texts) == 1
    assert not issubclass(texts.pop()[0], BadRequestError)


@on_cluster
async def test_stale_reads_of_a_client_come_from_its_server(cluster: Cluster) -> None:
    follower = cluster.members[1]
    while cluster.client.servers.first != follower.address:
        cluster.client.servers.fail(cluster.client.servers.first)
    await cluster.ask("KVS.Apply", put("k"))
    got = await cluster.ask("KVS.Get", KeyRequest(key="k", allow_stale=True))
    assert got.last_contact_ms == 25
    assert got.value.record.value == b"v"


@on_cluster
async def test_a_thousand_waiters_of_a_client_and_one_change(cluster: Cluster) -> None:
    await cluster.ask("KVS.Apply", put("k"))
    index = (await cluster.ask("KVS.Get", KeyRequest(key="k"))).index
    args = KeyRequest(key="k", min_query_index=index, max_query_time=60 * 10**9)
    waiting = [cluster.client.call("KVS.Get", args) for _ in range(1000)]
    leader = cluster.members[0].server
    assert leader is not None
    while not len(leader.blocking):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await cluster.ask("KVS.Apply", put("k", b"new"), 1)
    for one in waiting:
        assert isinstance(one, Future)
        assert (await one).value.record.value == b"new"


@on_cluster
async def test_a_leader_that_dies_is_a_pause(cluster: Cluster) -> None:
    await cluster.ask("KVS.Apply", put("k"))
    index = (await cluster.ask("KVS.Get", KeyRequest(key="k"))).index
    for member in cluster.members[1:]:  # warm the connections to the leader
        assert member.server is not None
    args = KeyRequest(key="k", min_query_index=index, max_query_time=60 * 10**9)
    loop = asyncio.get_running_loop()
    blocked = [loop.create_task(cluster.ask("KVS.Get", args, at)) for at in (1, None)]
    await asyncio.sleep(0.05)
    dead, heir = cluster.members[0], cluster.members[2]
    await dead.stop()
    writes = [
        loop.create_task(cluster.ask("KVS.Apply", put(f"w{at}"), at))
        for at in (1, 2, None)
    ]
    reads = [
        loop.create_task(cluster.ask("KVS.Get", KeyRequest(key="k"), at))
        for at in (1, 2, None)
    ]
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in writes + reads)
    cluster.client.remove_server("s0")
    cluster.elect(heir)
    for one in writes:
        assert (await one).value is True
    for one in reads:
        assert (await one).value.record.value == b"v"
    await cluster.ask("KVS.Apply", put("k", b"moved"), 1)
    for one in blocked:
        assert (await one).value.record.value == b"moved"


@on_cluster
async def test_cancelled_waiters_leave_nothing_at_the_leader(cluster: Cluster) -> None:
    request = RegisterRequest(
        node="a", address="10.0.0.1", service=NodeService(service="web")
    )
    await cluster.ask("Catalog.Register", request)
    args = ServiceSpecificRequest(
        service_name="web", service_tags=[], min_query_index=10**6
    )
    leader = cluster.members[0].server
    assert leader is not None
    waiting = cluster.client.call("Health.ServiceNodes", args)
    assert isinstance(waiting, Future)
    while not len(leader.blocking):  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiting.cancel()
    while len(leader.blocking):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(cluster.client.shared) == 0
