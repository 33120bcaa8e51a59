"""Queries a view can watch: what is asked, and how its answer is decoded.

A :class:`Query` is hashable: equal ones share one view. ``Queries`` makes them
by noun; ``dc`` and ``near`` are left out of the request when empty.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import force_setattr

from .errors import ProtocolError
from .records import (
    CatalogNode,
    HealthCheck,
    KVPair,
    NodeServices,
    ServiceEntry,
    UserEvent,
)


class Kind(enum.Enum):
    """What a query answers; names the decoder."""

    KV_PAIR = enum.auto()
    """``KVPair``."""
    KV_PAIRS = enum.auto()
    """``list[KVPair]``."""
    KV_KEYS = enum.auto()
    """``list[str]``."""
    SERVICES = enum.auto()
    """``dict[str, list[str]]``: tags by service name."""
    SERVICE = enum.auto()
    """``list[ServiceEntry]``."""
    NODES = enum.auto()
    """``list[CatalogNode]``."""
    NODE = enum.auto()
    """``NodeServices``."""
    DATACENTERS = enum.auto()
    """``list[str]``; the agent does not block on it, so it is polled."""
    CHECKS = enum.auto()
    """``list[HealthCheck]``."""
    EVENTS = enum.auto()
    """``list[UserEvent]``; its index is a digest and not monotonic."""
    JSON = enum.auto()
    """Any JSON, as plain Python values."""


class Query(msgspec.Struct, frozen=True, cache_hash=True):
    """One distinct question to the agent.

    ``path`` begins with ``/v1/`` and is not yet percent-encoded; ``params``
    have no ``index``, ``wait`` or consistency mode, which the view adds.
    """

    path: str
    params: tuple[tuple[str, str], ...] = ()
    kind: Kind = Kind.JSON
    blocking: bool = True
    """Whether the agent's answer carries an index to block on."""
    monotonic: bool = True
    """Whether a lower index means the agent's state went back."""

    @property
    def missing_is_data(self) -> bool:
        """Whether 404 says that the thing asked for does not exist."""
        return self.path.startswith("/v1/kv/")

    def target(self, extra: Iterable[tuple[str, str]] = ()) -> str:
        """Return the request target, percent-encoded, with ``extra`` parameters."""
        params = [*self.params, *extra]
        path = self.path
        if _PLAIN(path) is None:
            path = quote(path, safe="/-._~!$&'()*+,=:@")
        if not params:
            return path
        words = [f"{_quoted(name)}={_quoted(value)}" for name, value in params]
        return f"{path}?{'&'.join(words)}"


# Most names need no quoting, and quoting takes longer than looking.
_PLAIN = re.compile(r"[\w/.~-]*", re.ASCII).fullmatch
_PLAIN_WORD = re.compile(r"[\w.~-]*", re.ASCII).fullmatch


def _quoted(text: str) -> str:
    return text if _PLAIN_WORD(text) is not None else quote(text, safe="")


def decode(query: Query, status: int, body: bytes) -> Any:
    """Return the data of an answer (see ``Kind``), ``None`` when it is missing.

    Raises ProtocolError when the body is not what the kind promises.
    """
    if status == 404:
        return None
    try:
        return _DECODERS[query.kind](body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"{query.path}: {error}") from error


def _decode_pair(body: bytes) -> Any:
    pairs: list[KVPair] | None = _PAIRS.decode(body)
    return pairs[0] if pairs else None


def _decode_entries(body: bytes) -> list[ServiceEntry] | None:
    """Decode instances; nodes that are known already are not kept twice.

    Of a thousand services on a hundred nodes, the nodes were a fifth of the data.
    """
    entries = _ENTRIES.decode(body)
    for entry in entries or ():
        node = entry.node
        known = _nodes.get(node.id or node.node)
        if known == node:
            force_setattr(entry, "node", known)
            continue
        if len(_nodes) >= NODES_KEPT:
            _nodes.clear()
        _nodes[node.id or node.node] = node
    return entries


NODES_KEPT = 10_000
_nodes: dict[str, CatalogNode] = {}
_ENTRIES = msgspec.json.Decoder(list[ServiceEntry] | None)
_PAIRS = msgspec.json.Decoder(list[KVPair] | None)
_NAMES = msgspec.json.Decoder(list[str] | None)
_SERVICES = msgspec.json.Decoder(dict[str, list[str]] | None)
_DECODERS: dict[Kind, Callable[[bytes], Any]] = {
    Kind.KV_PAIR: _decode_pair,
    Kind.KV_PAIRS: _PAIRS.decode,
    Kind.KV_KEYS: _NAMES.decode,
    Kind.SERVICES: _SERVICES.decode,
    Kind.SERVICE: _decode_entries,
    Kind.NODES: msgspec.json.Decoder(list[CatalogNode] | None).decode,
    Kind.NODE: msgspec.json.Decoder(NodeServices | None).decode,
    Kind.DATACENTERS: _NAMES.decode,
    Kind.CHECKS: msgspec.json.Decoder(list[HealthCheck] | None).decode,
    Kind.EVENTS: msgspec.json.Decoder(list[UserEvent] | None).decode,
    Kind.JSON: msgspec.json.Decoder().decode,
}


class Queries:
    """Makes queries; ``datacenter`` stands in where a call names none."""

    def __init__(self, datacenter: str = "") -> None:
        self._datacenter = datacenter

    def kv_key(self, key: str, dc: str = "") -> Query:
        """One key: ``KVPair``, or ``None`` while it does not exist."""
        return Query(f"/v1/kv/{key}", self._params(dc), Kind.KV_PAIR)

    def kv_prefix(self, prefix: str, dc: str = "") -> Query:
        """All pairs below a prefix: ``list[KVPair]``, or ``None`` when none."""
        params = self._params(dc, ("recurse", ""))
        return Query(f"/v1/kv/{prefix}", params, Kind.KV_PAIRS)

    def kv_keys(self, prefix: str, dc: str = "", separator: str = "") -> Query:
        """The key names below a prefix: ``list[str]``, or ``None`` when none."""
        params = self._params(dc, ("keys", ""), ("separator", separator))
        return Query(f"/v1/kv/{prefix}", params, Kind.KV_KEYS)

    def services(self, dc: str = "") -> Query:
        """All service names with their tags."""
        return Query("/v1/catalog/services", self._params(dc), Kind.SERVICES)

    def service(
        self,
        name: str,
        tags: Iterable[str] = (),
        dc: str = "",
        near: str = "",
        passing: bool = False,
        filter: str = "",
    ) -> Query:
        """The instances of a service that have all ``tags``."""
        extra = [("tag", tag) for tag in tags]
        extra += [("near", near), ("filter", filter)]
        if passing:
            extra.append(("passing", "1"))
        params = self._params(dc, *extra)
        return Query(f"/v1/health/service/{name}", params, Kind.SERVICE)

    def nodes(self, dc: str = "", near: str = "") -> Query:
        """All nodes."""
        params = self._params(dc, ("near", near))
        return Query("/v1/catalog/nodes", params, Kind.NODES)

    def node(self, name: str, dc: str = "") -> Query:
        """One node with its services: ``NodeServices``, or ``None``."""
        return Query(f"/v1/catalog/node/{name}", self._params(dc), Kind.NODE)

    def datacenters(self) -> Query:
        """The known datacenters, nearest first; polled."""
        return Query("/v1/catalog/datacenters", (), Kind.DATACENTERS, blocking=False)

    def checks(self, state: str = "any", service: str = "", dc: str = "") -> Query:
        """The checks of a service, or when none is named those in a state."""
        path = f"checks/{service}" if service else f"state/{state}"
        return Query(f"/v1/health/{path}", self._params(dc), Kind.CHECKS)

    def events(self, name: str = "") -> Query:
        """The recent user events, oldest first; at most 256."""
        params = (("name", name),) if name else ()
        return Query("/v1/event/list", params, Kind.EVENTS, monotonic=False)

    def _params(self, dc: str, *extra: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        dc = dc or self._datacenter
        params = [("dc", dc)] if dc else []
        flags = ("recurse", "keys")
        params += [(name, value) for name, value in extra if value or name in flags]
        return tuple(params)
