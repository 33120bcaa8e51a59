"""The key-value table, its locks and its tombstones."""

from __future__ import annotations

from typing import Protocol

from pyconsul.state.journal import Journal
from pyconsul.state.sorted_keys import SortedKeys
from pyconsul.state.watch import Cell, Read
from pyconsul.types.errors import CommandError
from pyconsul.types.messages import Row
from pyconsul.types.records import DirEntry, Session


class FindSession(Protocol):
    """Look a session up; raises ``CommandError`` for a malformed id."""

    def __call__(self, session_id: str) -> Session | None:
        """Return the session, or ``None``."""
        ...


class KVTable:
    """Keys and tombstones; indexes ``kvs`` and ``tombstones``."""

    __slots__ = ("_journal", "_session", "held", "keys", "rows", "stones", "tombstones")

    def __init__(self, journal: Journal, session: FindSession) -> None:
        self._journal = journal
        self._session = session
        self.rows: dict[str, Row] = {}
        self.keys = SortedKeys()
        self.tombstones: dict[str, int] = {}
        self.stones = SortedKeys()
        self.held: dict[str, dict[str, None]] = {}
        """Session id to the keys it locks."""

    # -- reads -----------------------------------------------------------

    def get(self, key: str) -> Read:
        """Return one key's row, or ``None`` with the tables' index."""
        row = self.rows.get(key)
        cells = (Cell(self._journal.watch.keys, key),)
        if row is None:
            return Read(None, self._table_index(), cells, keeps=False)
        return Read(row, row.record.modify_index, cells)

    def list(self, prefix: str) -> Read:
        """Return the rows below a prefix, in key order."""
        rows = self.rows
        below = [rows[key] for key in self.keys.below(prefix)]
        return self._below(below, prefix, below)

    def list_keys(self, prefix: str, separator: str) -> Read:
        """Return the keys below a prefix, rolled up at ``separator``."""
        rows = self.rows
        keys = self.keys.below(prefix)
        below = [rows[key] for key in keys]
        if separator:
            start = len(prefix)
            rolled: dict[str, None] = {}
            for key in keys:
                at = key.find(separator, start)
                rolled[key if at < 0 else key[: at + len(separator)]] = None
            keys = list(rolled)
        return self._below(keys, prefix, below)

    def _table_index(self) -> int:
        return self._journal.index("kvs", "tombstones")

    def _below(self, value: object, prefix: str, below: list[Row]) -> Read:
        """Return a read of a prefix; ``below`` has all rows that count."""
        cells = (Cell(self._journal.watch.prefixes, prefix),)
        if not prefix:
            return Read(value, self._table_index(), cells)
        index = max([row.record.modify_index for row in below], default=0)
        buried = 0
        if self.tombstones:
            stones = self.tombstones
            buried = max([stones[key] for key in self.stones.below(prefix)], default=0)
        # Tombstones are reaped unheard, and the index of a table moves so.
        keeps = index > buried
        index = max(index, buried) or self._table_index()
        return Read(value, index, cells, keeps=keeps)

    # -- writes ----------------------------------------------------------

    def set(self, index: int, entry: DirEntry) -> DirEntry:
        """Write a key; its holder stays. Returns what is stored."""
        row = self.rows.get(entry.key)
        return self._write(index, entry, row.record.session if row else "")

    def cas(self, index: int, entry: DirEntry) -> DirEntry | None:
        """Write if the key is as old as said (0: absent); ``None``: it is not."""
        row = self.rows.get(entry.key)
        if (row.record.modify_index if row is not None else 0) != entry.modify_index:
            return None
        return self.set(index, entry)

    def lock(self, index: int, entry: DirEntry) -> DirEntry | None:
        """Write and lock; ``None``: held by another. Raises ``CommandError``."""
        if not entry.session:
            raise CommandError("missing session")
        if self._session(entry.session) is None:
            raise CommandError(f'invalid session "{entry.session}"')
        row = self.rows.get(entry.key)
        count = 1
        if row is not None:
            holder = row.record.session
            if holder and holder != entry.session:
                return None
            count = row.record.lock_index + (0 if holder else 1)
        return self._write(index, entry, entry.session, count)

    def unlock(self, index: int, entry: DirEntry) -> DirEntry | None:
        """Write and release; ``None``: not held by that session."""
        if not entry.session:
            raise CommandError("missing session")
        row = self.rows.get(entry.key)
        if row is None or row.record.session != entry.session:
            return None
        return self._write(index, entry, "", row.record.lock_index)

    def delete(self, index: int, key: str) -> None:
        """Delete a key, leaving a tombstone; a missing key changes nothing."""
        if key in self.rows:
            self._remove(index, key)
            self._bury(index, key)
            self._moved(index)

    def delete_cas(self, index: int, entry: DirEntry) -> bool:
        """Delete if the key is as old as said; a missing key is success."""
        row = self.rows.get(entry.key)
        if row is None:
            return True
        if row.record.modify_index != entry.modify_index:
            return False
        self.delete(index, entry.key)
        return True

    def delete_tree(self, index: int, prefix: str) -> None:
        """Delete all below a prefix, leaving one tombstone for the prefix."""
        keys = self.keys.below(prefix)
        if not keys:
            return
        for key in keys:
            self._remove(index, key)
        if prefix:
            self._bury(index, prefix)
        self._moved(index)

    def reap(self, up_to: int) -> None:
        """Forget tombstones with an index of at most ``up_to``."""
        stones = self.tombstones
        gone = [key for key, index in stones.items() if index <= up_to]
        if len(gone) > len(stones) // 2:
            # Mostly all of them, and there may be very many: order what is left.
            kept = {key: index for key, index in stones.items() if index > up_to}
            self.tombstones, self.stones = kept, SortedKeys(kept)
            return
        for key in gone:
            del stones[key]
            self.stones.discard(key)

    def end_session(self, index: int, session: Session) -> list[str]:
        """Release or delete the keys of an ended session; return them."""
        keys = list(self.held.get(session.id, ()))
        for key in keys:
            if session.behavior == "delete":
                self.delete(index, key)
            else:
                held: DirEntry = self.rows[key].record
                self._write(index, held, "", held.lock_index)
        return keys

    def load(self, entry: DirEntry) -> None:
        """Put a restored entry; ``loaded`` must follow the last one."""
        self.rows[entry.key] = Row(entry)
        if entry.session:
            self.held.setdefault(entry.session, {})[entry.key] = None

    def loaded(self) -> None:
        """Order the keys that were loaded."""
        self.keys = SortedKeys(self.rows)
        self.stones = SortedKeys(self.tombstones)

    # -- primitives ------------------------------------------------------

    def _write(
        self, index: int, entry: DirEntry, session: str, lock_index: int | None = None
    ) -> DirEntry:
        """Store an entry unless nothing differs, and tell its watchers."""
        key = entry.key
        if lock_index is None:
            lock_index = entry.lock_index
        row = self.rows.get(key)
        created = index
        if row is not None:
            old: DirEntry = row.record
            if (
                old.value == entry.value
                and old.flags == entry.flags
                and old.lock_index == lock_index
                and old.session == session
            ):
                return old
            created = old.create_index
            if old.session != session:
                self._hold(old.session, key, False)
        if session and (row is None or row.record.session != session):
            self._hold(session, key, True)
        stored = DirEntry(
            lock_index=lock_index,
            key=key,
            flags=entry.flags,
            value=entry.value,
            session=session,
            create_index=created,
            modify_index=index,
        )
        journal = self._journal
        if journal.undo is not None:
            journal.undo.append(lambda: self._put_back(key, row))
            journal.set_index("kvs", index)
        else:
            journal.indexes["kvs"] = index
        if row is None:
            self.keys.add(key)
        self.rows[key] = Row(stored)
        journal.watch.touch_key(key)
        return stored

    def _remove(self, index: int, key: str) -> None:
        row = self.rows.pop(key)
        self.keys.discard(key)
        if row.record.session:
            self._hold(row.record.session, key, False)
        if self._journal.undo is not None:
            self._journal.undo.append(lambda: self._put_back(key, row))
        self._journal.watch.touch_key(key)

    def _put_back(self, key: str, row: Row | None) -> None:
        if row is None:
            del self.rows[key]
            self.keys.discard(key)
            return
        if key not in self.rows:
            self.keys.add(key)
        self.rows[key] = row

    def _hold(self, session: str, key: str, held: bool) -> None:
        if not session:
            return
        if self._journal.undo is not None:
            self._journal.undo.append(lambda: self._set_held(session, key, not held))
        self._set_held(session, key, held)

    def _set_held(self, session: str, key: str, held: bool) -> None:
        if held:
            self.held.setdefault(session, {})[key] = None
            return
        keys = self.held[session]
        del keys[key]
        if not keys:
            del self.held[session]

    def _bury(self, index: int, key: str) -> None:
        old = self.tombstones.get(key)
        if self._journal.undo is not None:
            self._journal.undo.append(lambda: self._dig_up(key, old))
        if old is None:
            self.stones.add(key)
        self.tombstones[key] = index
        self._journal.set_index("tombstones", index)

    def _dig_up(self, key: str, old: int | None) -> None:
        if old is None:
            del self.tombstones[key]
            self.stones.discard(key)
        else:
            self.tombstones[key] = old

    def _moved(self, index: int) -> None:
        self._journal.set_index("kvs", index)
