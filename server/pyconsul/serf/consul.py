"""Consul's use of Serf: tags, merge rules, user events (``wire-gossip.md`` 9)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

import msgspec

from pyconsul.gossip.messages import MergeRefusedError
from pyconsul.serf.member import Member, Status
from pyconsul.serf.member import UserEvent as SerfEvent
from pyconsul.types import gomsgpack
from pyconsul.types.records import UserEvent

EVENT_PREFIX: Final = "consul:event:"
NEW_LEADER_EVENT: Final = "consul:new-leader"
ROLE_SERVER: Final = "consul"
ROLE_CLIENT: Final = "node"
PROTOCOL_VERSION: Final = 2
PROTOCOL_MIN: Final = 2
PROTOCOL_MAX: Final = 3
RAFT_VERSION: Final = 3
ACLS_DISABLED: Final = "0"
ACLS_ENABLED: Final = "1"
ACLS_LEGACY: Final = "2"
ACLS_UNKNOWN: Final = "3"
"""Not on the wire: what an absent or odd ``acls`` tag counts as."""
_UNIQUE_IDS_SINCE: Final = (0, 8, 5)
"""Older builds did not make unique node ids."""
_HOLDERS_MAX: Final = 1 << 16
"""Ids come from the network: of more, who had them is forgotten."""
_BUILD = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class AgentTags(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says about itself in its tags."""

    datacenter: str
    node_id: str
    version: str
    """As ``1.10.11``; the ``build`` tag adds the revision."""
    revision: str = ""
    segment: str = ""
    acls: str = ACLS_DISABLED
    reconnect_timeout: str = ""
    """A Go duration: how long others keep us when we fail; clients only."""


class ServerTags(AgentTags, frozen=True, kw_only=True):
    """What a server adds."""

    port: int
    """Of RPC."""
    wan_join_port: int = 0
    bootstrap: bool = False
    expect: int = 0
    use_tls: bool = False
    read_replica: bool = False


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A server as its tags describe it."""

    name: str
    """As in the pool: ``NODE.DATACENTER`` on the WAN."""
    short_name: str
    id: str
    datacenter: str
    segment: str
    host: str
    port: int
    """Of RPC."""
    wan_join_port: int
    lan_join_port: int
    bootstrap: bool
    expect: int
    build: tuple[int, int, int]
    version: int
    """Consul's protocol version."""
    raft_version: int
    acls: str
    non_voter: bool
    use_tls: bool
    feature_flags: Mapping[str, int]
    status: Status

    @property
    def address(self) -> tuple[str, int]:
        """Where it serves RPC."""
        return (self.host, self.port)


def client_tags(agent: AgentTags) -> dict[str, str]:
    """Return the tags of a client agent."""
    tags = _common(agent, ROLE_CLIENT)
    if agent.reconnect_timeout:
        tags["rc_tm"] = agent.reconnect_timeout
    return tags


def lan_tags(server: ServerTags) -> dict[str, str]:
    """Return a server's tags in its LAN pool."""
    tags = wan_tags(server)
    tags["segment"] = server.segment
    if server.wan_join_port > 0:
        tags["wan_join_port"] = str(server.wan_join_port)
    return tags


def wan_tags(server: ServerTags) -> dict[str, str]:
    """Return a server's tags in the WAN pool."""
    tags = _common(server, ROLE_SERVER)
    tags["segment"] = ""
    tags["port"] = str(server.port)
    tags["raft_vsn"] = str(RAFT_VERSION)
    tags["ft_fs"] = "1"
    tags["ft_si"] = "1"
    if server.bootstrap or server.expect == 1:
        tags["bootstrap"] = "1"
    elif server.expect > 1:
        tags["expect"] = str(server.expect)
    if server.read_replica:
        tags["nonvoter"] = "1"
        tags["read_replica"] = "1"
    if server.use_tls:
        tags["use_tls"] = "1"
    return tags


def wan_name(node_name: str, datacenter: str) -> str:
    """Return a server's name in the WAN pool."""
    return f"{node_name}.{datacenter}"


def server_info(member: Member) -> ServerInfo | None:
    """Read a server's tags; ``None`` for a client, or when one does not parse."""
    tags = member.tags
    if tags.get("role") != ROLE_SERVER:
        return None
    port = _integer(tags.get("port"))
    version = _integer(tags.get("vsn"))
    raft_version = _integer(tags.get("raft_vsn"))
    expect = _integer(tags.get("expect"), absent=0)
    wan_join_port = _integer(tags.get("wan_join_port"), absent=0)
    build = build_version(tags.get("build", ""))
    flags = {
        name[len("ft_") :]: _integer(value)
        for name, value in tags.items()
        if name.startswith("ft_")
    }
    if (
        port is None
        or not 0 < port < 1 << 16
        or version is None
        or raft_version is None
        or expect is None
        or wan_join_port is None
        or build is None
        or None in flags.values()
    ):
        return None
    datacenter = tags.get("dc", "")
    return ServerInfo(
        name=member.name,
        short_name=member.name.removesuffix(f".{datacenter}"),
        id=tags.get("id", ""),
        datacenter=datacenter,
        segment=tags.get("segment", ""),
        host=member.host,
        port=port,
        wan_join_port=wan_join_port,
        lan_join_port=member.port,
        bootstrap="bootstrap" in tags,
        expect=expect,
        build=build,
        version=version,
        raft_version=raft_version,
        acls=acl_mode(member),
        non_voter="nonvoter" in tags or "read_replica" in tags,
        use_tls="use_tls" in tags,
        feature_flags=cast(dict[str, int], flags),
        status=member.status,
    )


def build_version(text: str) -> tuple[int, int, int] | None:
    """Return the first ``digits.digits.digits`` in a ``build`` tag."""
    found = _BUILD.search(text)
    if found is None:
        return None
    major, minor, patch = map(int, found.group().split("."))
    return major, minor, patch


def acl_mode(member: Member) -> str:
    """Return the ``acls`` tag, or ``ACLS_UNKNOWN``."""
    mode = member.tags.get("acls", "")
    known = (ACLS_DISABLED, ACLS_ENABLED, ACLS_LEGACY)
    return mode if mode in known else ACLS_UNKNOWN


def lan_merge_check(
    *,
    datacenter: str,
    segment: str,
    node_id: str,
    node_name: str,
    known: Callable[[str], Member | None] = lambda _: None,
) -> Callable[[Sequence[Member]], None]:
    """Return the LAN pool's rule; it raises ``MergeRefusedError``.

    ``known`` gives a member of the pool by name. An id belongs to one live
    member: who comes with the id of another is refused by those who know it,
    too, or the pool would have both, and nobody new could join it.
    """
    holders: dict[str, str] = {}

    def check(members: Sequence[Member]) -> None:
        names: dict[str, str] = {}
        for member in members:
            if member.status not in (Status.FAILED, Status.LEFT):
                _check_id(member, node_id, node_name, names)
            role = member.tags.get("role")
            theirs = member.tags.get("dc", "")
            if role in (ROLE_SERVER, ROLE_CLIENT) and theirs != datacenter:
                raise MergeRefusedError(
                    f"Member '{member.name}' part of wrong datacenter '{theirs}'"
                )
            other = member.tags.get("segment", "")
            if other != segment:
                raise MergeRefusedError(
                    f"Member '{member.name}' part of wrong segment '{other}'"
                    f" (expected '{segment}')"
                )
        for theirs, name in names.items():
            holder = known(holders.get(theirs, ""))
            if holder is not None and _holds(holder, theirs, but=name):
                _refuse_id(name, theirs, holder.name)
        if len(holders) > _HOLDERS_MAX:
            holders.clear()
        holders.update(names)

    return check


def wan_merge_check(members: Sequence[Member]) -> None:
    """Refuse what is not a server; raises ``MergeRefusedError``."""
    for member in members:
        if server_info(member) is None:
            raise MergeRefusedError(f"Member '{member.name}' is not a server")


def encode_user_event(event: UserEvent) -> tuple[str, bytes]:
    """Return Serf name and payload of a user event.

    The payload is in msgpack's new dialect, unlike all else in gossip; empty
    filters and payloads are left out, and the time is Serf's.
    """
    fields: dict[str, Any] = {
        "ID": event.id,
        "n": event.name,
        "nf": event.node_filter,
        "p": event.payload,
        "sf": event.service_filter,
        "tf": event.tag_filter,
        "v": event.version,
    }
    kept = {
        key: value for key, value in fields.items() if value or key in ("ID", "n", "v")
    }
    return EVENT_PREFIX + event.name, msgspec.msgpack.encode(kept)


def decode_user_event(event: SerfEvent) -> UserEvent | None:
    """Read a user event; ``None`` for other Serf events and unreadable ones."""
    if not event.name.startswith(EVENT_PREFIX):
        return None
    try:
        # Reads both dialects.
        plain = gomsgpack.decode(event.payload, _EventPayload)
    except (gomsgpack.MsgpackError, RecursionError):
        return None
    return UserEvent(
        id=plain.id,
        name=plain.name,
        payload=plain.payload,
        node_filter=plain.node_filter,
        service_filter=plain.service_filter,
        tag_filter=plain.tag_filter,
        version=plain.version,
        l_time=event.ltime,
    )


class _EventPayload(msgspec.Struct, frozen=True, kw_only=True):
    id: str = msgspec.field(name="ID", default="")
    name: str = msgspec.field(name="n", default="")
    payload: bytes = msgspec.field(name="p", default=b"")
    node_filter: str = msgspec.field(name="nf", default="")
    service_filter: str = msgspec.field(name="sf", default="")
    tag_filter: str = msgspec.field(name="tf", default="")
    version: int = msgspec.field(name="v", default=0)


def _common(agent: AgentTags, role: str) -> dict[str, str]:
    return {
        "role": role,
        "dc": agent.datacenter,
        "segment": agent.segment,
        "id": agent.node_id,
        "vsn": str(PROTOCOL_VERSION),
        "vsn_min": str(PROTOCOL_MIN),
        "vsn_max": str(PROTOCOL_MAX),
        "build": f"{agent.version}:{agent.revision}",
        "acls": agent.acls,
    }


def _check_id(
    member: Member, node_id: str, node_name: str, names: dict[str, str]
) -> None:
    """Refuse an id that two names use; ``names`` are those seen, by id."""
    theirs = member.tags.get("id", "")
    build = build_version(member.tags.get("build", ""))
    if not theirs or build is None or build < _UNIQUE_IDS_SINCE:
        return
    if theirs == node_id and member.name != node_name:
        raise MergeRefusedError(
            f"Member '{member.name}' has conflicting node ID '{theirs}'"
            " with this agent's ID"
        )
    other = names.setdefault(theirs, member.name)
    if other != member.name:
        _refuse_id(member.name, theirs, other)


def _holds(member: Member, node_id: str, *, but: str) -> bool:
    """Say whether a live member other than ``but`` has the id."""
    return (
        member.name != but
        and member.status is Status.ALIVE
        and member.tags.get("id") == node_id
    )


def _refuse_id(name: str, node_id: str, other: str) -> NoReturn:
    raise MergeRefusedError(
        f"Member '{name}' has conflicting node ID '{node_id}' with member '{other}'"
    )


def _integer(text: str | None, *, absent: int | None = None) -> int | None:
    if text is None:
        return absent
    return int(text) if _INTEGER.fullmatch(text) else None
