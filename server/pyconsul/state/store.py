"""The state store: applies replicated commands and answers reads.

Everything here is a function of the commands applied so far: no clock, no
randomness, no I/O. See ``docs/design.md``, "State".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pyconsul.state import commands, foreign
from pyconsul.state.config_entries import CONFIG_ENTRY, decode_record
from pyconsul.state.snapshot import Snapshot, read_state
from pyconsul.state.tables import Tables
from pyconsul.state.watch import Cell, Read, WatchSet
from pyconsul.types.coordinates import Coordinate
from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import MsgpackError, decode, unpack
from pyconsul.types.messages import (
    DeregisterRequest,
    RegisterRequest,
    Row,
    SessionRequest,
    TombstoneRequest,
    TxnOp,
    TxnRequest,
    TxnResponse,
)
from pyconsul.types.operations import AutopilotConfig, AutopilotSetConfigRequest
from pyconsul.types.queries import PreparedQuery, PreparedQueryRequest
from pyconsul.types.records import HealthCheck, Node, NodeService, Session

Meta = Mapping[str, str] | None
Handler = Callable[[int, memoryview], object]


class StateStore:
    """Catalog, KV and sessions of one datacenter, with their watches."""

    def __init__(self) -> None:
        self.watch = WatchSet()
        self.on_session_invalidated: Callable[[Session, Sequence[str]], None] | None
        self.on_session_invalidated = None
        self._use(Tables(self.watch))
        self._handlers: dict[int, Handler] = {
            commands.REGISTER: self._register,
            commands.DEREGISTER: self._deregister,
            commands.KVS: self._kvs,
            commands.SESSION: self._session,
            commands.TOMBSTONE: self._tombstone,
            commands.COORDINATES: self._coordinates,
            commands.PREPARED_QUERY: self._prepared_query,
            commands.TXN: self._transaction,
            commands.AUTOPILOT: self._autopilot,
            CONFIG_ENTRY: self._config_entry,
        }

    def _use(self, tables: Tables) -> None:
        self._tables = tables
        self._journal = tables.journal
        self._kv = tables.kv
        self._catalog = tables.catalog
        self._reads = tables.reads
        self._config = tables.config
        self._session_table = tables.sessions

    # -- commands --------------------------------------------------------

    def apply(self, index: int, command: bytes) -> object:
        """Apply one command of the log and return its result.

        A refusal is a returned ``CommandError``; the state is then as before.
        """
        number = command[0] if command else -1
        handler = self._handlers.get(number & ~commands.IGNORE_UNKNOWN)
        if handler is None:
            if number >= commands.IGNORE_UNKNOWN:
                return None
            return CommandError(f"Unrecognized msg type {number}")
        journal = self._journal
        try:
            result = handler(index, memoryview(command)[1:])
        except CommandError as error:
            journal.rollback()
            return error
        except MsgpackError as error:
            journal.rollback()
            return CommandError(str(error))
        ended = journal.ended
        if ended:
            journal.ended = []
            if self.on_session_invalidated is not None:
                for session, keys in ended:
                    self.on_session_invalidated(session, keys)
        journal.commit()
        return result

    def apply_chunk(
        self, index: int, term: int, data: bytes, extensions: bytes
    ) -> object:
        """Take a chunk of a command; apply it with the last (``chunks.py``)."""
        try:
            command = self._tables.chunks.add(term, data, extensions)
        except CommandError as error:
            return error
        return None if command is None else self.apply(index, command)

    def _register(self, index: int, body: memoryview) -> object:
        request = decode(body, RegisterRequest)
        self._journal.begin()
        self._catalog.register(index, request)
        return True

    def _deregister(self, index: int, body: memoryview) -> object:
        self._catalog.deregister(index, decode(body, DeregisterRequest))
        return True

    def _kvs(self, index: int, body: memoryview) -> object:
        op, entry = commands.decode_kvs(body)
        kv = self._kv
        match op:
            case "set":
                kv.set(index, entry)
            case "cas":
                return kv.cas(index, entry) is not None
            case "lock":
                return kv.lock(index, entry) is not None
            case "unlock":
                return kv.unlock(index, entry) is not None
            case "delete":
                kv.delete(index, entry.key)
            case "delete-cas":
                return kv.delete_cas(index, entry)
            case "delete-tree":
                kv.delete_tree(index, entry.key)
            case _:
                raise CommandError(f"Invalid KVS operation '{op}'")
        return True

    def _session(self, index: int, body: memoryview) -> object:
        request = decode(body, SessionRequest)
        if request.op == "create":
            return self._session_table.create(index, request.session)
        if request.op == "destroy":
            self._session_table.destroy(index, request.session.id)
            return True
        raise CommandError(f"Invalid Session operation '{request.op}'")

    def _tombstone(self, index: int, body: memoryview) -> object:
        request = decode(body, TombstoneRequest)
        if request.op != "reap":
            raise CommandError(f"Invalid Tombstone operation '{request.op}'")
        self._kv.reap(request.reap_index)
        return True

    def _coordinates(self, index: int, body: memoryview) -> object:
        batch = commands.decode_coordinates(unpack(body))
        self._tables.coordinates.update(index, batch)
        return None

    def _config_entry(self, index: int, body: memoryview) -> object:
        request = decode_record(unpack(body))
        self._journal.begin()
        return self._config.apply(index, request)

    def _prepared_query(self, index: int, body: memoryview) -> object:
        request = decode(body, PreparedQueryRequest)
        self._journal.begin()
        return self._tables.queries.apply(index, request)

    def _autopilot(self, index: int, body: memoryview) -> object:
        request = decode(body, AutopilotSetConfigRequest)
        return self._tables.autopilot.apply(index, request)

    def _transaction(self, index: int, body: memoryview) -> object:
        request = decode(body, TxnRequest)
        self._journal.begin()
        response = self._tables.txn.run(index, request.ops)
        if response.errors:
            self._journal.rollback()
        return response

    # -- snapshots -------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the state of this moment, to be written at leisure."""
        return Snapshot(self._tables)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace everything by a ``state.bin`` and fire every cell.

        Raises ``MsgpackError`` for a damaged input; nothing has changed then.
        """
        self.prepare(chunks)()()

    def prepare(self, chunks: Iterable[bytes]) -> Callable[[], Callable[[], None]]:
        """Read a ``state.bin``, in any thread; return what replaces everything.

        That is to be called where commands are applied: it takes no time, fires
        every cell, and returns what frees the old state, in any thread again.
        Raises ``MsgpackError`` for a damaged input.
        """
        tables = Tables(self.watch)
        try:
            read_state(tables, chunks)
        except BaseException:
            tables.free()
            raise

        def take() -> Callable[[], None]:
            old = self._tables
            self._use(tables)
            self.watch.fire_all()
            return old.free

        return take

    def free(self) -> None:
        """Let go of the state; the store must not be used any more."""
        self._tables.free()
        self._handlers.clear()

    # -- reads -----------------------------------------------------------

    def kv_get(self, key: str) -> Read:
        """``Row`` of ``DirEntry`` or ``None``."""
        return self._kv.get(key)

    def kv_list(self, prefix: str) -> Read:
        """``list[Row]`` of ``DirEntry`` in key order."""
        return self._kv.list(prefix)

    def kv_keys(self, prefix: str, separator: str = "") -> Read:
        """``list[str]``: keys, cut after the first separator past the prefix."""
        return self._kv.list_keys(prefix, separator)

    def usage(self) -> dict[str, int]:
        """Return how much there is of each kind of record."""
        tables = self._tables
        catalog = tables.catalog
        return {
            "nodes": len(catalog.nodes),
            "services": len(catalog.groups),
            "kv_entries": len(tables.kv.rows),
            "sessions": len(tables.sessions.rows),
            "prepared_queries": len(tables.queries.rows),
            "config_entries": len(tables.config.rows),
        }

    def nodes(self, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``Node`` by name."""
        return self._reads.nodes(meta_filters)

    def services(self, meta_filters: Meta = None) -> Read:
        """``dict[str, list[str]]``: service name to its distinct tags."""
        return self._reads.services(meta_filters)

    def service_nodes(
        self,
        name: str,
        tags: Sequence[str] | None = None,
        meta_filters: Meta = None,
        connect: bool = False,
    ) -> Read:
        """``list[Row]`` of ``ServiceInstance`` by node name, then service id."""
        return self._reads.service_nodes(name, tags, meta_filters, connect)

    def node_services(self, node: str) -> Read:
        """``NodeServices`` or ``None``; ``node`` is a name or an ID prefix."""
        return self._reads.node_services(node)

    def node_checks(self, node: str) -> Read:
        """``list[Row]`` of ``HealthCheck``."""
        return self._reads.node_checks(node)

    def service_checks(self, name: str, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``HealthCheck`` of a service's instances."""
        return self._reads.service_checks(name, meta_filters)

    def checks_in_state(self, state: str, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``HealthCheck``; ``any`` is every check."""
        return self._reads.checks_in_state(state, meta_filters)

    def check_service_nodes(
        self,
        name: str,
        tags: Sequence[str] | None = None,
        meta_filters: Meta = None,
        connect: bool = False,
        passing_only: bool = False,
    ) -> Read:
        """``list[Row]`` of ``CheckServiceNode`` by node name, then service id."""
        return self._reads.check_service_nodes(
            name, tags, meta_filters, connect, passing_only
        )

    def ingress_nodes(
        self, service: str, meta_filters: Meta = None, passing_only: bool = False
    ) -> Read:
        """``list[Row]`` of ``CheckServiceNode``: ingress gateways of a service."""
        read = self._config.ingress_gateways(service)
        rows: list[Row] = []
        for name in read.value:
            found = self._reads.check_service_nodes(
                name, None, meta_filters, False, passing_only
            )
            rows += found.value
            read.index = max(read.index, found.index)
            read.cells = (*read.cells, *found.cells)
        read.value = rows
        return read

    def services_at(self, address: str) -> Read:
        """``list[Row]`` of ``ServiceInstance`` with an address of their own."""
        return self._reads.services_at(address)

    def config_entry(self, kind: str, name: str) -> Read:
        """``Row`` of ``ConfigEntry`` or ``None``."""
        return self._config.get(kind, name)

    def config_entries(self, kind: str = "") -> Read:
        """``list[Row]`` of ``ConfigEntry`` by kind and name."""
        return self._config.list(kind)

    def gateway_services(self, gateway: str) -> Read:
        """``list[GatewayService]`` by service name and port."""
        return self._config.gateway_services(gateway)

    def federation_states(self) -> Read:
        """``list[FederationState]`` by datacenter, as an archive brought them."""
        return foreign.federation_states(self._tables)

    def legacy_intentions(self) -> Read:
        """``list[Intention]`` of before 1.9, as an archive brought them."""
        return foreign.legacy_intentions(self._tables)

    def all_gateway_services(self) -> Read:
        """``list[GatewayService]`` of every gateway, by its name."""
        return self._config.all_gateway_services()

    def node_dump(self, node: str | None = None) -> Read:
        """``list[NodeInfo]`` of every node by name, or of the one named."""
        return self._reads.node_dump(node)

    def service_dump(self) -> Read:
        """``list[Row]`` of ``CheckServiceNode`` of every service, by its name."""
        return self._reads.service_dump()

    def coordinates(self, node: str | None = None) -> Read:
        """``list[Coordinate]`` by node and segment, or of the node named."""
        return self._tables.coordinates.list(node)

    def coordinates_of(self, node: str) -> Mapping[str, Coordinate]:
        """Return a node's coordinates by segment, none when it has none."""
        return self._tables.coordinates.of_node(node)

    def coordinate_cells(self) -> tuple[Cell, ...]:
        """Return what fires when any coordinate changes."""
        return self._tables.coordinates.cells()

    def prepared_queries(self) -> Read:
        """``list[PreparedQuery]`` by id."""
        return self._tables.queries.list()

    def prepared_query(self, query_id: str) -> Read:
        """``list[PreparedQuery]`` of none or one; ``ConsulError`` for a bad id."""
        return self._tables.queries.get(query_id)

    def resolve_query(self, wanted: str, segment: str = "") -> PreparedQuery | None:
        """Return the query an id or a name leads to, templates rendered.

        ``segment`` is the asking agent's.
        """
        return self._tables.queries.resolve(wanted, segment)

    def autopilot_config(self) -> Read:
        """``AutopilotConfig``, ``None`` before a leader has written the first."""
        return self._tables.autopilot.read()

    def session_get(self, session_id: str) -> Read:
        """``list[Session]`` of none or one; ``ConsulError`` for a malformed id."""
        return self._session_table.get(session_id)

    def sessions(self) -> Read:
        """``list[Session]`` by id."""
        return self._session_table.list()

    def node_sessions(self, node: str) -> Read:
        """``list[Session]`` of a node, by id."""
        return self._session_table.of_node(node)

    def txn_read(self, ops: Sequence[TxnOp]) -> TxnResponse:
        """Answer reading verbs; errors are in the response."""
        return self._tables.txn.read(ops)

    # -- lookups without an index ----------------------------------------

    def get_node(self, name: str) -> Node | None:
        """Return a node by name, ignoring case."""
        return self._catalog.get_node(name)

    def get_service(self, node: str, service_id: str) -> NodeService | None:
        """Return an instance of a node."""
        return self._catalog.get_service(node, service_id)

    def get_check(self, node: str, check_id: str) -> HealthCheck | None:
        """Return a check of a node."""
        return self._catalog.get_check(node, check_id)

    def get_autopilot_config(self) -> AutopilotConfig | None:
        """Return autopilot's settings."""
        return self._tables.autopilot.config

    def serf_nodes(self) -> list[Node]:
        """Return the nodes that gossip speaks for: those with ``serfHealth``."""
        return self._catalog.serf_nodes()

    def get_session(self, session_id: str) -> Session | None:
        """Return a session."""
        return self._session_table.rows.get(session_id)

    def get_key(self, key: str) -> Row | None:
        """Return a key's row."""
        return self._kv.rows.get(key)

    def all_sessions(self) -> list[Session]:
        """Return every session, in no order."""
        return list(self._session_table.rows.values())

    def tombstone_max(self) -> int:
        """Return the highest tombstone index, 0 when there are none."""
        return max(self._kv.tombstones.values(), default=0)

    def table_index(self, *tables: str) -> int:
        """Return the highest index of these tables, at least 1."""
        return self._journal.index(*tables)
