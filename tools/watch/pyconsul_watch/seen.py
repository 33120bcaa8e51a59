"""The events that handlers have seen, kept in a file over restarts.

The file is JSON: by watch, the ids of its last events. It is replaced as a whole
and locked by the process that uses it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from pyconsul_client.errors import SettingsError

from .news import IDS_MAX

MAX_FILE = 64 * 1024 * 1024
"""Largest file, bytes: that of a thousand watches is 20 MB."""
VERSION = 1


class _Kept(msgspec.Struct, kw_only=True):
    version: int
    events: dict[str, list[str]] = {}


class Slot:
    """What one watch has seen; ``ids`` is ``None`` before its first run."""

    def __init__(self, file: SeenFile, name: str, ids: list[str] | None) -> None:
        self.ids = ids
        self.name = name
        self._file = file

    def add(self, ids: list[str]) -> None:
        """Keep more ids; raises OSError when the file cannot be written."""
        known = dict.fromkeys([*(self.ids or ()), *ids])
        self.ids = list(known)[-IDS_MAX:]
        self._file.keep(self.name, self.ids)

    def release(self) -> None:
        """Let another watch have it."""
        self._file.release(self)


class SeenFile:
    """The file, from its opening to :meth:`close`."""

    def __init__(self, path: str) -> None:
        """Open and lock it, made if missing; raises SettingsError."""
        self._path = path
        self._taken: dict[str, Slot] = {}
        try:
            self._descriptor = _locked(path)
        except OSError as error:
            raise SettingsError(f"{path}: {(error.strerror or '').lower()}") from error
        try:
            self._kept = _read(self._descriptor, path)
        except SettingsError:
            self.close()
            raise

    def slot(self, given: Mapping[str, Any]) -> Slot:
        """Return what the watch with these parameters has seen.

        Of watches that are alike each has its own, in their order.
        """
        start = json.dumps(given, sort_keys=True, separators=(",", ":"))
        name, number = start, 1
        while name in self._taken:
            number += 1
            name = f"{start} #{number}"
        ids = self._kept.events.get(name)
        slot = self._taken[name] = Slot(self, name, ids and [*ids])
        return slot

    def release(self, slot: Slot) -> None:
        """Give back a slot; its ids stay kept."""
        if self._taken.get(slot.name) is slot:
            del self._taken[slot.name]

    def keep(self, name: str, ids: list[str]) -> None:
        """Write the file with the ids of one watch; raises OSError."""
        self._kept.events[name] = ids
        new = f"{self._path}.new"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # Locked before it has the name: nobody gets in between.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(msgspec.json.encode(self._kept))
            os.fsync(descriptor)
            os.replace(new, self._path)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        """Unlock and close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _locked(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise OSError(error.errno, "in use by another process") from error
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        # Replaced while we opened it.
        os.close(descriptor)


def _read(descriptor: int, path: str) -> _Kept:
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(MAX_FILE + 1)
    if not data:
        return _Kept(version=VERSION)
    try:
        if len(data) > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        kept = msgspec.json.decode(data, type=_Kept)
        if kept.version != VERSION:
            raise ValueError(f"version {kept.version}")
    except ValueError as error:
        raise SettingsError(f"{path}: no file of events seen: {error}") from error
    return kept
