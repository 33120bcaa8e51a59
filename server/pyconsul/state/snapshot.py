"""``state.bin``: every record of the state as Consul writes it.

A header, then records of a type byte and one msgpack value each, in Consul's
order (``wire-raft.md`` section 3). Record types that are not built here are
kept as they came and written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec

from pyconsul.state.catalog import CONNECT
from pyconsul.state.commands import (
    AUTOPILOT,
    PREPARED_QUERY,
    decode_coordinates,
)
from pyconsul.state.config_entries import (
    CONFIG_ENTRY,
    GATEWAYS,
    decode_record,
    record_body,
)
from pyconsul.state.config_entries import TABLE as CONFIG_ENTRIES
from pyconsul.state.prepared_queries import INDEX as QUERIES
from pyconsul.state.tables import Tables
from pyconsul.types.config_entries import ConfigEntry, ConfigEntryRequest
from pyconsul.types.gomsgpack import (
    MsgpackError,
    Plain,
    from_plain,
    pack,
    to_plain,
    unpack_stream,
)
from pyconsul.types.messages import Row
from pyconsul.types.operations import AutopilotConfig
from pyconsul.types.plain_entries import entry_from_plain, entry_to_plain
from pyconsul.types.queries import PreparedQuery
from pyconsul.types.records import DirEntry, HealthCheck, Node, NodeService, Session

REGISTER, KVS, SESSION, TOMBSTONE = 0, 2, 3, 5
COORDINATES, INDEX, CHUNKING = 6, 16, 29
_FIRST_LATER, _LAST_LATER = 32, 43  # 1.11 and later: skipped at this level
_BEFORE_KV = (17, 19, 23, 25, 27, 4)
_AFTER_AUTOPILOT = (12, 13, 14, 15)
_AFTER_CONFIG = (30, 31, 11)

_SLICE = 1000  # records of a chunk
_RECORD_LIMIT = 64 << 20


class Snapshot:
    """A point-in-time view; making it copies tables, not records."""

    __slots__ = (
        "_autopilot",
        "_chunks",
        "_config",
        "_coordinates",
        "_indexes",
        "_keys",
        "_nodes",
        "_queries",
        "_raw",
        "_rows",
        "_sessions",
        "_spelling",
        "_tombstones",
    )

    def __init__(self, tables: Tables) -> None:
        catalog, kv = tables.catalog, tables.kv
        self._indexes = tables.journal.indexes.copy()
        self._spelling = {key: group.name for key, group in catalog.groups.items()}
        self._nodes: list[tuple[Node, list[NodeService], list[Row]]] = [
            (
                entry.row.record,
                [instance.svc for instance in entry.instances.values()],
                list(entry.checks.values()),
            )
            for entry in catalog.nodes.values()
        ]
        self._autopilot = tables.autopilot.config
        self._coordinates = tables.coordinates.all()
        self._sessions = list(tables.sessions.rows.values())
        config: dict[tuple[str, str], Row] = tables.config.rows
        self._config: list[ConfigEntry] = [config[k].record for k in sorted(config)]
        self._keys = kv.keys.all()
        self._rows = kv.rows.copy()
        self._tombstones = kv.tombstones.copy()
        self._queries = tables.queries.all()
        self._chunks = tables.chunks.to_plain()
        self._raw = {number: list(rows) for number, rows in tables.raw.items()}

    @property
    def last_index(self) -> int:
        """The index of the newest change in the snapshot."""
        return max(self._indexes.values(), default=0)

    def chunks(self) -> Iterator[bytes]:
        """Yield ``state.bin`` in slices of about a thousand records."""
        parts = [pack({"LastIndex": self.last_index})]
        for record in self._records():
            parts.append(record)
            if len(parts) >= _SLICE:
                yield b"".join(parts)
                parts = []
        if parts:
            yield b"".join(parts)

    def _records(self) -> Iterator[bytes]:
        for node, services, checks in sorted(self._nodes, key=_node_name):
            yield from _node_records(node, services, checks)
        for found in self._coordinates:
            yield _record(COORDINATES, [to_plain(found)])
        for session in sorted(self._sessions, key=lambda session: session.id):
            yield _record(SESSION, to_plain(session))
        yield from self._raw_records(*_BEFORE_KV)
        rows = self._rows
        for key in self._keys:
            yield _record(KVS, entry_to_plain(rows[key].record))
        for key in sorted(self._tombstones):
            stone = DirEntry(key=key, modify_index=self._tombstones[key])
            yield _record(TOMBSTONE, entry_to_plain(stone))
        for query in self._queries:
            yield _record(PREPARED_QUERY, to_plain(query))
        if self._autopilot is not None:
            yield _record(AUTOPILOT, to_plain(self._autopilot))
        yield from self._raw_records(*_AFTER_AUTOPILOT)
        for entry in self._config:
            body = record_body(ConfigEntryRequest(op="", entry=entry))
            yield bytes((CONFIG_ENTRY,)) + body
        yield from self._raw_records(*_AFTER_CONFIG)
        for name, value in sorted(self._spelled_indexes()):
            yield _record(INDEX, {"Key": name, "Value": value})
        yield _record(CHUNKING, self._chunks)

    def _raw_records(self, *numbers: int) -> Iterator[bytes]:
        for number in numbers:
            for body in self._raw.get(number, ()):
                yield bytes((number,)) + body

    def _spelled_indexes(self) -> Iterator[tuple[str, int]]:
        for name, value in self._indexes.items():
            if name.startswith("service."):
                service = name.removeprefix("service.")
                yield f"service.{self._spelling.get(service, service)}", value
            elif not name.startswith(CONNECT):
                yield name, value


def _node_name(item: tuple[Node, list[NodeService], list[Row]]) -> str:
    return item[0].node


def _record(number: int, plain: Any) -> bytes:
    return bytes((number,)) + pack(plain)


def _node_records(
    node: Node, services: list[NodeService], checks: list[Row]
) -> Iterator[bytes]:
    plain: Plain = {
        "Address": node.address,
        "Check": None,
        "Checks": None,
        "CreateIndex": node.create_index,
        "Datacenter": node.datacenter,
        "ID": node.id,
        "ModifyIndex": node.modify_index,
        "Node": node.node,
        "NodeMeta": node.meta,
        "Service": None,
        "SkipNodeUpdate": False,
        "TaggedAddresses": node.tagged_addresses,
        "Token": "",
    }
    yield _record(REGISTER, plain)
    for service in sorted(services, key=lambda service: service.id):
        plain["Service"] = to_plain(service)
        yield _record(REGISTER, plain)
    plain["Service"] = None
    for row in sorted(checks, key=lambda row: row.record.check_id):
        plain["Check"] = to_plain(row.record)
        yield _record(REGISTER, plain)


def read_state(tables: Tables, chunks: Iterable[bytes]) -> None:
    """Fill empty tables from ``state.bin``; raises ``MsgpackError``."""
    values = unpack_stream(chunks, _RECORD_LIMIT)
    header = next(values, None)
    if not isinstance(header, dict):
        raise MsgpackError("snapshot has no header")
    last = cast(Plain, header).get("LastIndex")
    loader = _Loader(tables, last if isinstance(last, int) else 0)
    for number in values:
        body = next(values, None)
        if not isinstance(number, int) or body is None:
            raise MsgpackError("snapshot record without a type or a body")
        loader.load(number, body)
    loader.finish()


class _Loader:
    """Puts records into tables and rebuilds the indexes nobody wrote."""

    def __init__(self, tables: Tables, last_index: int) -> None:
        self._tables = tables
        self._last = last_index
        self._found: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def load(self, number: int, body: Any) -> None:
        if number == KVS:
            entry = entry_from_plain(body)
            self._saw("kvs", entry.modify_index)
            self._tables.kv.load(entry)
        elif number == REGISTER:
            self._node(_map(body))
        elif number == SESSION:
            session = from_plain(body, Session)
            self._saw("sessions", session.modify_index)
            self._tables.sessions.load(session)
        elif number == TOMBSTONE:
            stone = entry_from_plain(body)
            self._saw("tombstones", stone.modify_index)
            self._tables.kv.tombstones[stone.key] = stone.modify_index
        elif number == CONFIG_ENTRY:
            self._config_entry(decode_record(body).entry)
        elif number == COORDINATES:
            for found in decode_coordinates(body):
                self._tables.coordinates.load(found)
                self._saw("coordinates", self._last)
        elif number == PREPARED_QUERY:
            query = self._dated(from_plain(body, PreparedQuery))
            self._tables.queries.load(query)
            self._saw(QUERIES, query.modify_index)
        elif number == AUTOPILOT:
            config = self._dated(from_plain(body, AutopilotConfig))
            self._tables.autopilot.config = config
        elif number == INDEX:
            self._index(_map(body))
        elif number == CHUNKING:
            self._tables.chunks.load(body)
        elif number > _LAST_LATER:
            raise MsgpackError(f"Unrecognized msg type {number}")
        elif number < _FIRST_LATER:
            self._tables.raw.setdefault(number, []).append(pack(body))

    def _saw(self, name: str, index: int) -> None:
        if index > self._found.get(name, 0):
            self._found[name] = index

    def _config_entry(self, entry: ConfigEntry) -> None:
        entry = self._dated(entry)
        self._tables.config.load(entry)
        self._saw(CONFIG_ENTRIES, entry.modify_index)
        if entry.kind in ("ingress-gateway", "terminating-gateway"):
            self._saw(GATEWAYS, entry.modify_index)

    def _index(self, plain: Plain) -> None:
        name, value = plain.get("Key"), plain.get("Value")
        if not isinstance(name, str) or not isinstance(value, int):
            raise MsgpackError("snapshot index record is malformed")
        if name.startswith("service."):
            name = name.lower()
        self._written[name] = value

    def _node(self, plain: Plain) -> None:
        catalog = self._tables.catalog
        fields = {**plain, "Meta": plain.get("NodeMeta")}
        node = self._dated(from_plain(fields, Node))
        entry = catalog.load_node(node)
        self._saw("nodes", node.modify_index)
        if plain.get("Service") is not None:
            service = self._dated(from_plain(plain["Service"], NodeService))
            catalog.load_service(entry, service)
            self._saw("services", service.modify_index)
            self._saw(f"service_kind.{service.kind or 'typical'}", service.modify_index)
            # The node's change counts for its services as well.
            index = max(service.modify_index, node.modify_index)
            self._saw(f"service.{service.service.lower()}", index)
        checks = [plain.get("Check"), *(plain.get("Checks") or ())]
        for body in checks:
            if body is not None:
                self._check(from_plain(body, HealthCheck), node)

    def _check(self, check: HealthCheck, node: Node) -> None:
        check = self._dated(check)
        if not check.node:
            check = msgspec.structs.replace(check, node=node.node)
        catalog = self._tables.catalog
        entry = catalog.load_node(node)
        catalog.load_check(entry, check)
        self._saw("checks", check.modify_index)
        for instance in entry.instances.values():
            if check.service_id in ("", instance.svc.id):
                self._saw(f"service.{instance.svc.service.lower()}", check.modify_index)

    def _dated(self, record: Any) -> Any:
        """Give a record without indexes the snapshot's own."""
        if record.modify_index:
            return record
        return msgspec.structs.replace(
            record,
            create_index=record.create_index or self._last,
            modify_index=self._last,
        )

    def finish(self) -> None:
        tables = self._tables
        tables.kv.loaded()
        indexes = tables.journal.indexes
        indexes.update(self._found)
        indexes.update(self._written)
        for dest, group in tables.catalog.connect.items():
            names = {i.svc.service.lower() for i in group.members.values()}
            indexes[CONNECT + dest] = max(indexes[f"service.{n}"] for n in names)


def _map(body: Any) -> Plain:
    if not isinstance(body, dict):
        raise MsgpackError("snapshot record is no map")
    return cast(Plain, body)
