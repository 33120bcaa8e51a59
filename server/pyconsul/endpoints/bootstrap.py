"""``bootstrap_expect``: the first servers found a cluster together.

Each with an empty log counts the servers that expect the same number, asks
them for Raft peers, and if nobody has any starts with all of them
(``agent-behaviour.md`` section 4). All do it with the same configuration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from pyconsul.endpoints.pool import Pool, Remote, ServerMember, server_of
from pyconsul.raft.messages import NONVOTER, VOTER, Configuration, Peer
from pyconsul.serf.member import Member, Status
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import EmptyRequest

_log = logging.getLogger("server")
ATTEMPTS = 6
RETRY_S = 1.0
"""Doubles with each failed attempt."""
ANEW_S = 60.0
"""After the last attempt, when no member changes meanwhile."""
PEERS_TIMEOUT_S = 10.0


class Verdict(Enum):
    """What a server may do that waits for others."""

    WAIT = "wait"
    ASK = "ask"
    REFUSED = "refused"
    """The members contradict each other: wait until they change."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict, why (for the log), and the servers to ask and start with."""

    verdict: Verdict
    text: str = ""
    member: str = ""
    servers: tuple[ServerMember, ...] = ()


def decide(members: Sequence[Member], datacenter: str, expect: int) -> Decision:
    """Say whether enough servers are there; ``expect`` is our own number."""
    servers: list[ServerMember] = []
    voters = 0
    for member in members:
        server = server_of(member, datacenter)
        if server is None or server.status != Status.ALIVE:
            continue
        if server.expect and server.expect != expect:
            return Decision(
                verdict=Verdict.REFUSED,
                text="Member has a conflicting expect value. All nodes should expect "
                "the same number",
                member=server.name,
            )
        if server.bootstrap:
            return Decision(
                verdict=Verdict.REFUSED,
                text="Member has bootstrap mode. Expect disabled",
                member=server.name,
            )
        servers.append(server)
        voters += not server.read_replica
    if voters < expect:
        return Decision(verdict=Verdict.WAIT)
    return Decision(verdict=Verdict.ASK, servers=tuple(servers))


def first_configuration(servers: Sequence[ServerMember]) -> Configuration:
    """Return what the cluster starts with; the same on every server."""
    return Configuration(
        servers=tuple(
            Peer(
                id=server.id,
                address=server.address,
                suffrage=NONVOTER if server.read_replica else VOTER,
            )
            for server in sorted(servers, key=lambda server: server.id)
        )
    )


class Bootable(Protocol):
    """A Raft log that may still be empty (``net/raft_driver.py``)."""

    @property
    def has_state(self) -> bool:
        """The log has entries, or a snapshot: it belongs to a cluster."""
        ...

    def bootstrap(self, configuration: Configuration) -> object:
        """Start with these servers."""
        ...


class Bootstrap:
    """Runs until the server belongs to a cluster; one task at most.

    ``start`` once the log can be written to, ``on_members`` whenever members
    change, earlier too. ``expect`` is 0 once there is nothing more to do.
    """

    def __init__(
        self,
        log: Bootable,
        pool: Pool,
        remote: Remote,
        *,
        datacenter: str,
        node_id: str,
        expect: int,
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._pool = pool
        self._remote = remote
        self._datacenter = datacenter
        self._node_id = node_id
        self.expect = expect
        self._on_done = on_done
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._started = False

    def start(self) -> None:
        """The log is open now: look whether enough members are there."""
        self._started = True
        self.on_members()

    def on_members(self) -> None:
        """Members may have become enough."""
        if not self._started or not self.expect:
            return
        if self._task is not None and not self._task.done():
            return
        if self._log.has_state:
            self._disable("Raft data found, disabling bootstrap mode")
            return
        decision = decide(self._pool.members(), self._datacenter, self.expect)
        if decision.verdict is Verdict.REFUSED:
            _log.error("%s: member=%s", decision.text, decision.member)
        elif decision.verdict is Verdict.ASK:
            self._task = asyncio.get_running_loop().create_task(
                self._found(decision.servers)
            )

    def stop(self) -> None:
        """The server stops."""
        self.expect = 0
        if self._task is not None:
            self._task.cancel()
        if self._later is not None:
            self._later.cancel()

    def _disable(self, text: str) -> None:
        _log.info(text)
        self.expect = 0
        self._on_done()

    async def _found(self, servers: Sequence[ServerMember]) -> None:
        for server in servers:
            if server.id == self._node_id:
                continue
            peers = await self._peers_of(server)
            if peers is None:
                # The next change of members begins anew; or this, without one.
                loop = asyncio.get_running_loop()
                self._later = loop.call_later(ANEW_S, self.on_members)
                return
            if peers:
                self._disable(
                    "Existing Raft peers reported by server, disabling bootstrap mode: "
                    f"server={server.name}"
                )
                return
        if not self.expect or self._log.has_state:
            return  # a leader has taken us in meanwhile
        configuration = first_configuration(servers)
        addresses = ",".join(peer.address for peer in configuration.servers)
        _log.info(
            "Found expected number of peers, attempting bootstrap: peers=%s", addresses
        )
        try:
            started = self._log.bootstrap(configuration)
            if isinstance(started, asyncio.Future):
                await started
        except ConsulError as error:
            _log.error('Failed to bootstrap cluster: error="%s"', error)
            return
        self.expect = 0
        self._on_done()

    async def _peers_of(self, server: ServerMember) -> list[str] | None:
        """Ask a server for its peers; ``None`` when it does not answer."""
        for attempt in range(ATTEMPTS):
            try:
                reply = await self._remote.call(
                    server.address,
                    "Status.Peers",
                    EmptyRequest(),
                    timeout_s=PEERS_TIMEOUT_S,
                )
            except ConsulError as error:
                delay_s = RETRY_S * 2**attempt
                _log.error(
                    "Failed to confirm peer status for server (will retry).: "
                    'server=%s retry_interval=%gs error="%s"',
                    server.name,
                    delay_s,
                    error,
                )
                await asyncio.sleep(delay_s)
            else:
                return list(reply.value)
        return None
