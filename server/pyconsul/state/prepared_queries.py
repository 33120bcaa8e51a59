"""The table of prepared queries; index ``prepared-queries``."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from pyconsul.state import query_templates
from pyconsul.state.journal import Journal
from pyconsul.state.watch import Read
from pyconsul.types.errors import CommandError, ConsulError
from pyconsul.types.queries import PreparedQuery, PreparedQueryRequest

INDEX = "prepared-queries"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _why(malformed: str) -> str:
    if len(malformed) != 36:
        return "UUID must be 36 characters"
    return f'invalid UUID "{malformed}"'


class PreparedQueryTable:
    """Queries by id, by name (templates too) and templates by prefix (lower case)."""

    __slots__ = ("_has_session", "_journal", "names", "rows", "templates")

    def __init__(self, journal: Journal, has_session: Callable[[str], bool]) -> None:
        self._journal = journal
        self._has_session = has_session
        self.rows: dict[str, PreparedQuery] = {}
        self.names: dict[str, str] = {}
        self.templates: dict[str, str] = {}

    def apply(self, index: int, request: PreparedQueryRequest) -> object:
        """Apply a command and return the query's id; raises ``CommandError``."""
        query = request.query
        if request.op in ("create", "update"):
            self._set(index, query)
        elif request.op == "delete":
            if query.id in self.rows:
                self._remove(query.id)
                self._journal.bump(INDEX, index)
        else:
            raise CommandError(f"Invalid PreparedQuery operation '{request.op}'")
        return query.id

    def _set(self, index: int, query: PreparedQuery) -> None:
        if not query.id:
            raise CommandError("missing query ID")
        old = self.rows.get(query.id)
        template = bool(query.template.type)
        self._check_name(query)
        if query.session and not self._has_session(query.session):
            if not _UUID.fullmatch(query.session):
                why = _why(query.session)
                raise CommandError(f"failed session lookup: index error: {why}")
            raise CommandError(f'invalid session "{query.session}"')
        if template:
            query_templates.check(query)
        created = old.create_index if old is not None else index
        if old is not None:
            self._remove(query.id)
        query = replace(query, create_index=created, modify_index=index)
        self._journal.put(self.rows, query.id, query)
        for names in self._indexes(query):
            self._journal.put(names, query.name.lower(), query.id)
        self._journal.bump(INDEX, index)

    def _check_name(self, query: PreparedQuery) -> None:
        name = query.name.lower()
        if not name:
            holder = self.templates.get("") if query.template.type else None
            if holder not in (None, query.id):
                raise CommandError("a query template with an empty name already exists")
            return
        if self.names.get(name, query.id) != query.id:
            raise CommandError(f"name '{query.name}' aliases an existing query name")
        # Queries are looked up by id or name: a name must not hide another's id.
        if name in self.rows and name != query.id:
            raise CommandError(f"name '{query.name}' aliases an existing query ID")

    def _indexes(self, query: PreparedQuery) -> list[dict[str, str]]:
        """Return the maps that know a query by its name."""
        found = [self.names] if query.name else []
        if query.template.type:
            found.append(self.templates)
        return found

    def _remove(self, query_id: str) -> None:
        query = self.rows[query_id]
        for names in self._indexes(query):
            if names.get(query.name.lower()) == query_id:
                self._journal.remove(names, query.name.lower())
        self._journal.remove(self.rows, query_id)

    def session_gone(self, index: int, session_id: str) -> None:
        """Remove the queries that are bound to an ended session."""
        bound = [q.id for q in self.rows.values() if q.session == session_id]
        for query_id in bound:
            self._remove(query_id)
        if bound:
            self._journal.bump(INDEX, index)

    def load(self, query: PreparedQuery) -> None:
        """Put a restored query."""
        self.rows[query.id] = query
        for names in self._indexes(query):
            names[query.name.lower()] = query.id

    def all(self) -> list[PreparedQuery]:
        """Return every query by id."""
        return [self.rows[query_id] for query_id in sorted(self.rows)]

    def list(self) -> Read:
        """Return every query by id."""
        return self._read(self.all())

    def get(self, query_id: str) -> Read:
        """Return a list of none or one; raises ``ConsulError`` for a bad id."""
        if not _UUID.fullmatch(query_id):
            why = _why(query_id)
            raise ConsulError(f"failed prepared query lookup: index error: {why}")
        found = self.rows.get(query_id)
        return self._read([found] if found is not None else [])

    def resolve(self, wanted: str, segment: str = "") -> PreparedQuery | None:
        """Return the query of an id or a name, rendered; raises ``ConsulError``."""
        found = self.rows.get(wanted) if _UUID.fullmatch(wanted) else None
        if found is not None:
            if found.template.type:
                raise ConsulError(
                    "prepared query templates can only be resolved up by name, "
                    "not by ID"
                )
            return found
        name = wanted.lower()
        named = self.names.get(name)
        if named is not None and not self.rows[named].template.type:
            return self.rows[named]
        for size in range(len(name), -1, -1):
            query_id = self.templates.get(name[:size])
            if query_id is not None:
                return query_templates.render(self.rows[query_id], wanted, segment)
        return None

    def _read(self, value: object) -> Read:
        journal = self._journal
        return Read(value, journal.index(INDEX), journal.table_cells(INDEX))
