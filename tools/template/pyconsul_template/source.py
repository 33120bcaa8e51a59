"""From the client's views to the records templates see.

Each converter turns the data of one kind of query into template values; the
result is kept until the view has other data, however many templates ask.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from pyconsul_client.queries import Kind, Query
from pyconsul_client.records import (
    CatalogNode,
    HealthCheck,
    KVPair,
    NodeServices,
    ServiceEntry,
)
from pyconsul_template.records import (
    Instance,
    NodeDetail,
    NodeRecord,
    NodeService,
    Pair,
    ServiceName,
)

T = TypeVar("T")
_EMPTY: Mapping[str, Any] = {}


class Answer(Protocol):
    """What a view shows."""

    @property
    def ready(self) -> bool:
        """Whether an answer has come."""
        ...

    @property
    def data(self) -> Any:
        """The decoded answer."""
        ...

    @property
    def error(self) -> Exception | None:
        """Why the last question failed."""
        ...

    @property
    def index(self) -> int:
        """The index of the data, 0 when it has none."""
        ...


class Reader(Protocol):
    """Gives the view of a query, started when it is new; never waits."""

    def get(self, query: Query) -> Answer:
        """Return the view."""
        ...


class NoData:
    """A reader whose every answer is still to come; for parsing alone."""

    ready = False
    data: Any = None
    error: Exception | None = None
    index = 0

    def get(self, query: Query) -> Answer:
        """Return the view that never has an answer."""
        del query
        return self


class Entry:
    """One query with its view; compared by identity, so sets of it are cheap."""

    __slots__ = ("_kept", "changed_at", "is_live", "query", "view")

    def __init__(self, query: Query, view: Answer) -> None:
        self.query = query
        self.view = view
        self.is_live = True
        """Whether the view is still kept up to date."""
        self.changed_at = time.monotonic() if view.ready else None
        """When the data last changed, or we found it there, in monotonic time."""
        self._kept: dict[Callable[[Any], Any], tuple[Any, Any]] = {}

    def __repr__(self) -> str:
        return f"<Entry {describe(self.query)}>"

    def converted(self, convert: Callable[[Any], T]) -> T:
        """Return the converted data, computed once for the same data."""
        data = self.view.data
        kept = self._kept.get(convert)
        if kept is not None and kept[0] is data:
            return kept[1]
        value = convert(data)
        self._kept[convert] = data, value
        return value


class Source:
    """The data of all templates: one entry a distinct query."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._entries: dict[Query, Entry] = {}

    def entry(self, query: Query) -> Entry:
        """Return the query's entry, its view started when it is new."""
        entry = self._entries.get(query)
        if entry is None:
            entry = self._entries[query] = Entry(query, self._reader.get(query))
        return entry

    def find(self, query: Query) -> Entry | None:
        """Return the query's entry, ``None`` when nobody asked for it."""
        return self._entries.get(query)

    def keep(self, wanted: set[Entry]) -> set[Query]:
        """Forget all other entries; return the queries that are left."""
        for query, entry in list(self._entries.items()):
            if entry not in wanted:
                entry.is_live = False
                del self._entries[query]
        return set(self._entries)


def text_of(pair: KVPair) -> str:
    """Return a value as text that encodes back to the same bytes."""
    return pair.raw.decode("utf-8", "surrogateescape")


def pair_of(pair: KVPair, key: str) -> Pair:
    """Return a pair whose key is ``key`` relative to what was asked for."""
    return Pair(
        path=pair.key,
        key=key,
        value=text_of(pair),
        flags=pair.flags,
        session=pair.session,
        create_index=pair.create_index,
        modify_index=pair.modify_index,
        lock_index=pair.lock_index,
    )


def whole_pair(pair: KVPair) -> Pair:
    """Return the pair of a ``kv`` lookup."""
    return pair_of(pair, pair.key)


@lru_cache(256)
def relative_to(length: int) -> Callable[[list[KVPair] | None], list[Pair]]:
    """Return the converter of pairs below a prefix of ``length``; no folders."""

    def convert(found: list[KVPair] | None) -> list[Pair]:
        pairs = ((pair, pair.key[length:].lstrip("/")) for pair in found or ())
        return [pair_of(p, key) for p, key in pairs if key and not key.endswith("/")]

    return convert


def sorted_tags(tags: Iterable[str] | None) -> tuple[str, ...]:
    """Return tags in order."""
    return tuple(sorted(tags)) if tags else ()


def instances(entries: list[ServiceEntry] | None) -> list[Instance]:
    """Return the instances in the agent's order."""
    return [_instance(entry) for entry in entries or ()]


def sorted_instances(entries: list[ServiceEntry] | None) -> list[Instance]:
    """Return the instances by node, then ID."""
    found = instances(entries)
    found.sort(key=lambda instance: (instance.node, instance.id))
    return found


def _instance(entry: ServiceEntry) -> Instance:
    node, service = entry.node, entry.service
    weights = service.weights
    return Instance(
        node=node.node,
        node_id=node.id,
        node_address=node.address,
        node_tagged_addresses=node.tagged_addresses or _EMPTY,
        node_meta=node.meta or _EMPTY,
        node_datacenter=node.datacenter,
        id=service.id,
        name=service.service,
        address=service.address or node.address,
        tagged_addresses=service.tagged_addresses or _EMPTY,
        port=service.port,
        tags=sorted_tags(service.tags),
        meta=service.meta or _EMPTY,
        weights={
            "Passing": weights.passing if weights else 1,
            "Warning": weights.warning if weights else 1,
        },
        checks=tuple(entry.checks or ()),
        status=entry.status,
    )


def service_names(services: dict[str, list[str]] | None) -> list[ServiceName]:
    """Return the catalog's services by name."""
    return [
        ServiceName(name=name, tags=sorted_tags(tags))
        for name, tags in sorted((services or {}).items())
    ]


def node_record(node: CatalogNode) -> NodeRecord:
    """Return one node."""
    return NodeRecord(
        id=node.id,
        node=node.node,
        address=node.address,
        datacenter=node.datacenter,
        tagged_addresses=node.tagged_addresses or _EMPTY,
        meta=node.meta or _EMPTY,
    )


def nodes_as_given(found: list[CatalogNode] | None) -> list[NodeRecord]:
    """Return the nodes in the agent's order."""
    return [node_record(node) for node in found or ()]


def nodes_sorted(found: list[CatalogNode] | None) -> list[NodeRecord]:
    """Return the nodes by name."""
    return sorted(nodes_as_given(found), key=lambda node: node.node)


def node_detail(found: NodeServices | None) -> NodeDetail | None:
    """Return a node with its services; ``None`` when there is no such node."""
    if found is None:
        return None
    services = [
        NodeService(
            id=service.id,
            service=service.service,
            tags=sorted_tags(service.tags),
            meta=service.meta or _EMPTY,
            port=service.port,
            address=service.address,
            enable_tag_override=service.enable_tag_override,
        )
        for service in (found.services or {}).values()
    ]
    services.sort(key=lambda service: (service.service, service.id))
    return NodeDetail(node=node_record(found.node), services=tuple(services))


def check_list(found: list[HealthCheck] | None) -> list[HealthCheck]:
    """Return checks by node, then ID."""
    return sorted(found or (), key=lambda check: (check.node, check.check_id))


def names(found: list[str] | None) -> list[str]:
    """Return the names; none for nothing."""
    return found or []


_LABELS = {
    Kind.KV_PAIR: "key",
    Kind.KV_PAIRS: "keys below",
    Kind.SERVICE: "service",
    Kind.SERVICES: "services",
    Kind.NODES: "nodes",
    Kind.NODE: "node",
    Kind.DATACENTERS: "datacenters",
    Kind.CHECKS: "checks",
}
_PATH = re.compile(
    r"/v1/(?:kv/|health/(?:service|checks|state)/|catalog/node/|catalog/\w+)"
)


SCHEMES = ("http://", "https://")
"""How the path of a query begins that is not Consul's."""


def shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def describe(query: Query) -> str:
    """Return a query as the user knows it: ``service web (passing)``."""
    label = _LABELS.get(query.kind)
    if label is None:
        return shown(query.path) if query.path.startswith(SCHEMES) else query.path
    detail = [value or name for name, value in query.params if name != "recurse"]
    detail = ["passing" if value == "1" else value for value in detail]
    name = _PATH.sub("", query.path, count=1)
    text = f"{label} {name}" if name else label
    return f"{text} ({', '.join(detail)})" if detail else text
