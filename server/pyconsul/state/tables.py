"""All tables of a store, wired together; a restore builds a fresh set."""

from __future__ import annotations

from typing import Any

from pyconsul.state.autopilot import AutopilotTable
from pyconsul.state.catalog import Catalog
from pyconsul.state.catalog_reads import CatalogReads
from pyconsul.state.chunks import Chunks
from pyconsul.state.config_entries import ConfigEntryTable
from pyconsul.state.coordinates import CoordinateTable
from pyconsul.state.journal import Journal
from pyconsul.state.kv import KVTable
from pyconsul.state.prepared_queries import PreparedQueryTable
from pyconsul.state.sessions import SessionTable
from pyconsul.state.txn import Transactions
from pyconsul.state.watch import WatchSet
from pyconsul.types.records import Session


class Tables:
    """The tables, and ``raw``: records of types not built yet, by number.

    Raw records are kept as they were restored and written again by the next
    snapshot, so that nothing of a foreign archive is lost.
    """

    __slots__ = (
        "autopilot",
        "catalog",
        "chunks",
        "config",
        "coordinates",
        "journal",
        "kv",
        "queries",
        "raw",
        "reads",
        "sessions",
        "txn",
    )

    def __init__(self, watch: WatchSet) -> None:
        self.journal = Journal(watch)
        self.catalog = Catalog(self.journal)
        self.reads = CatalogReads(self.catalog)
        self.config = ConfigEntryTable(self.journal, self.catalog)
        self.kv = KVTable(self.journal, self._find_session)
        self.sessions = SessionTable(self.journal, self.catalog, self._end_session)
        self.queries = PreparedQueryTable(self.journal, self._has_session)
        self.catalog.sessions = self.sessions
        self.coordinates = CoordinateTable(self.journal, self.catalog.has_node)
        self.catalog.coordinates = self.coordinates
        self.autopilot = AutopilotTable(self.journal)
        self.txn = Transactions(self.kv, self.catalog, self.sessions)
        self.chunks = Chunks()
        self.raw: dict[int, list[bytes]] = {}

    def free(self) -> None:
        """Let go of every record; nobody may use these tables any more.

        Records and tables know each other in circles, which the collector would
        find late, and never once they were frozen. It takes as long as there are
        records, in any thread: no single step holds others up.
        """
        catalog, kv = self.catalog, self.kv
        for entry in catalog.nodes.values():
            entry.instances.clear()
            entry.checks.clear()
        catalog.sessions = catalog.coordinates = None
        tables: tuple[dict[Any, Any], ...] = (
            catalog.nodes,
            catalog.by_id,
            catalog.groups,
            catalog.connect,
            self.config.rows,
            self.sessions.rows,
            self.sessions.by_node,
            kv.rows,
            kv.tombstones,
            self.raw,
        )
        for rows in tables:
            while rows:
                rows.popitem()
        for name in self.__slots__:
            delattr(self, name)

    def _has_session(self, session_id: str) -> bool:
        return session_id in self.sessions.rows

    def _end_session(self, index: int, session: Session) -> list[str]:
        self.queries.session_gone(index, session.id)
        return self.kv.end_session(index, session)

    def _find_session(self, session_id: str) -> Session | None:
        return self.sessions.find(session_id)
