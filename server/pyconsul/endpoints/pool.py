"""The gossip pool and the other servers, as the leader's duties see them.

The shells that implement these protocols are ``net/gossip_pool.py`` and
``net/rpc_pool.py``; a server without gossip has the ``LonePool`` of itself.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from pyconsul.serf.consul import server_info
from pyconsul.serf.keys import KeyResponse
from pyconsul.serf.member import Member, Status
from pyconsul.types.coordinates import Coord, origin
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply

SERVER_ROLE = "consul"
CLIENT_ROLE = "node"


class Pool(Protocol):
    """A pool of members, this server among them."""

    def members(self) -> Sequence[Member]:
        """Return every member known, also those that failed or left."""
        ...

    def coordinate_of(self, name: str) -> Coord | None:
        """Return where a member is on the network, as far as it was measured."""
        ...

    def user_event(self, name: str, payload: bytes) -> None:
        """Tell every member; raises ``ConsulError`` when it is too large."""
        ...

    def force_leave(self, name: str, prune: bool = False) -> None:
        """Declare a failed member gone; it then shows as left."""
        ...

    async def key_operation(
        self, operation: str, key: str, relay_factor: int = 0
    ) -> KeyResponse:
        """``list``, ``install``, ``use`` or ``remove`` a key on all members."""
        ...


class Remote(Protocol):
    """Calls of other servers by address (``ip:port`` of their RPC)."""

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        """Ask one server; errors are ``ConsulError``s on the future."""
        ...


class ServerMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member that is a server, its tags read (``wire-gossip.md`` 9.2).

    ``address`` is ``ip:port`` of its RPC; ``expect`` is 0 when absent.
    """

    id: str
    name: str
    address: str
    port: int
    status: Status
    version: str = ""
    bootstrap: bool = False
    expect: int = 0
    read_replica: bool = False


def server_of(member: Member, datacenter: str) -> ServerMember | None:
    """Read a member's tags; ``None`` if it is no server of the datacenter.

    A server whose numbers do not parse is ignored, as Consul does.
    """
    info = server_info(member)
    if info is None or info.datacenter != datacenter:
        return None
    return ServerMember(
        id=info.id,
        name=info.name,
        address=join_address(info.host, info.port),
        port=info.port,
        status=info.status,
        version=member.tags.get("build", "").partition(":")[0],
        bootstrap=info.bootstrap,
        expect=info.expect,
        read_replica=info.non_voter,
    )


def join_address(host: str, port: int) -> str:
    """Return ``ip:port``; an IPv6 address gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LonePool:
    """The pool of a server that gossips with nobody."""

    def __init__(self, name: str, host: str, tags: Mapping[str, str]) -> None:
        self._name = name
        self._members = (
            Member(name=name, host=host, port=0, tags=tags, status=Status.ALIVE),
        )

    def members(self) -> Sequence[Member]:
        """Return the server itself."""
        return self._members

    def coordinate_of(self, name: str) -> Coord | None:
        """Return the origin, where this server stays."""
        return origin() if name == self._name else None

    def user_event(self, name: str, payload: bytes) -> None:
        """Nobody is there to be told."""

    def force_leave(self, name: str, prune: bool = False) -> None:
        """Nobody is there to leave."""

    async def key_operation(
        self, operation: str, key: str, relay_factor: int = 0
    ) -> KeyResponse:
        """Say that there is no keyring."""
        texts = {"list": "Keyring is empty", "remove": "No keyring to modify"}
        texts |= dict.fromkeys(("install", "use"), texts["remove"])
        text = texts.get(operation)
        if text is None:
            raise ConsulError(f"unknown keyring operation {operation}")
        return KeyResponse(
            num_nodes=1,
            num_responses=1,
            num_errors=1,
            messages={self._name: f"{text} (encryption not enabled)"},
            error="1/1 nodes reported failure",
        )
