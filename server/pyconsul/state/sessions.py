"""The session table; what ends a session and what its end does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from pyconsul.state.journal import Journal
from pyconsul.state.watch import Read
from pyconsul.types.errors import CommandError
from pyconsul.types.records import HealthCheck, Session

_HEX = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMPTY: dict[str, Session] = {}


class CatalogLookup(Protocol):
    """What sessions ask of the catalog."""

    def has_node(self, name: str) -> bool:
        """Tell whether the node is registered."""
        ...

    def get_check(self, node: str, check_id: str) -> HealthCheck | None:
        """Return a check of a node."""
        ...


class SessionTable:
    """Sessions by id and by node; index ``sessions``."""

    __slots__ = ("_catalog", "_journal", "_release", "by_node", "rows")

    def __init__(
        self,
        journal: Journal,
        catalog: CatalogLookup,
        release: Callable[[int, Session], list[str]],
    ) -> None:
        self._journal = journal
        self._catalog = catalog
        self._release = release
        self.rows: dict[str, Session] = {}
        self.by_node: dict[str, dict[str, Session]] = {}

    def find(self, session_id: str) -> Session | None:
        """Return a session; raises ``CommandError`` for a malformed id."""
        session = self.rows.get(session_id)
        if session is None and not _HEX.fullmatch(session_id):
            raise CommandError(
                f"failed session lookup: index error: {_why(session_id)}"
            )
        return session

    def get(self, session_id: str) -> Read:
        """Return a list of none or one."""
        found = self.find(session_id)
        return self._read([found] if found is not None else [])

    def list(self) -> Read:
        """Return every session, by id."""
        return self._read(sorted(self.rows.values(), key=_by_id))

    def of_node(self, node: str) -> Read:
        """Return a node's sessions, by id."""
        sessions = self.by_node.get(node.lower(), _EMPTY)
        return self._read(sorted(sessions.values(), key=_by_id))

    def _read(self, sessions: list[Session]) -> Read:
        journal = self._journal
        return Read(
            sessions, journal.index("sessions"), journal.table_cells("sessions")
        )

    def create(self, index: int, session: Session) -> str:
        """Store a session and return its id; raises ``CommandError``."""
        if not session.id:
            raise CommandError("Missing session ID")
        behavior = session.behavior or "release"
        if behavior not in ("release", "delete"):
            raise CommandError(f"Invalid session behavior: {behavior}")
        if not self._catalog.has_node(session.node):
            raise CommandError("Missing node registration")
        for check_id in check_ids(session):
            check = self._catalog.get_check(session.node, check_id)
            if check is None:
                raise CommandError(f"Missing check '{check_id}' registration")
            if check.status == "critical":
                raise CommandError(f"Check '{check_id}' is in critical state")
        self._put(
            msgspec.structs.replace(
                session, behavior=behavior, create_index=index, modify_index=index
            )
        )
        self._journal.bump("sessions", index)
        return session.id

    def destroy(self, index: int, session_id: str) -> None:
        """End a session; an unknown one is no error."""
        session = self.find(session_id)
        if session is not None:
            self._end(index, session)

    def node_gone(self, index: int, node: str) -> None:
        """End every session of a node."""
        for session in self._of(node):
            self._end(index, session)

    def check_failed(self, index: int, node: str, check_id: str) -> None:
        """A check is critical or gone: end the sessions that depend on it."""
        for session in self._of(node):
            if check_id in check_ids(session):
                self._end(index, session)

    def load(self, session: Session) -> None:
        """Put a restored session."""
        self.rows[session.id] = session
        self.by_node.setdefault(session.node.lower(), {})[session.id] = session

    def _of(self, node: str) -> list[Session]:
        sessions = self.by_node.get(node.lower())
        return sorted(sessions.values(), key=_by_id) if sessions else []

    def _put(self, session: Session) -> None:
        node = session.node.lower()
        if node not in self.by_node:
            self._journal.put(self.by_node, node, {})
        self._journal.put(self.rows, session.id, session)
        self._journal.put(self.by_node[node], session.id, session)

    def _end(self, index: int, session: Session) -> None:
        node = session.node.lower()
        self._journal.remove(self.rows, session.id)
        self._journal.remove(self.by_node[node], session.id)
        if not self.by_node[node]:
            self._journal.remove(self.by_node, node)
        keys = self._release(index, session)
        self._journal.bump("sessions", index)
        self._journal.ended.append((session, keys))


def check_ids(session: Session) -> list[str]:
    """Return the ids of all checks a session depends on."""
    ids = list(session.node_checks or ())
    ids += [check.id for check in session.service_checks or ()]
    return ids


def _by_id(session: Session) -> str:
    return session.id


def _why(session_id: str) -> str:
    if len(session_id) != 36:
        return "UUID must be 36 characters"
    return f'invalid UUID "{session_id}"'
