"""Snapshots at rest: ``TERM-INDEX-MILLIS/{meta.json,state.bin}``, two kept.

A snapshot is written under a temporary name, synced, and renamed: a name
without ``.tmp`` is a whole snapshot. ``meta.json`` has the fields of the
archive's (``wire-raft.md`` section 3) and the SHA-256 of ``state.bin``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from pyconsul.raft.messages import Configuration, Peer, SnapshotMeta

_log = logging.getLogger(__name__)
_KEPT = 2
_PIECE = 1 << 20


class SnapshotWriter(Protocol):
    """Takes a snapshot's bytes; one of ``commit`` or ``abort`` ends it."""

    def write(self, data: bytes) -> None:
        """Add a piece of ``state.bin``."""
        ...

    def commit(self) -> None:
        """Make it durable and the newest."""
        ...

    def abort(self) -> None:
        """Forget it."""
        ...


class Snapshots(Protocol):
    """The kept snapshots. All calls may block but ``newest`` after opening."""

    def newest(self) -> SnapshotMeta | None:
        """Return the newest whole snapshot, checked by its checksum."""
        ...

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin a snapshot."""
        ...

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Yield ``state.bin`` in pieces; ``KeyError`` when it is not kept."""
        ...

    def size(self, meta: SnapshotMeta) -> int:
        """Return the bytes of ``state.bin``; ``KeyError`` when it is not kept."""
        ...


class _Server(msgspec.Struct, rename="pascal"):
    suffrage: int = 0
    id: str = msgspec.field(name="ID", default="")
    address: str = ""


class _Servers(msgspec.Struct, rename="pascal"):
    servers: list[_Server] = msgspec.field(default_factory=list[_Server])


class _Meta(msgspec.Struct, rename="pascal"):
    version: int = 1
    id: str = msgspec.field(name="ID", default="")
    index: int = 0
    term: int = 0
    peers: Any = None
    configuration: _Servers = msgspec.field(default_factory=_Servers)
    configuration_index: int = 0
    size: int = 0
    sha256: str = msgspec.field(name="SHA256", default="")


class SnapshotFiles:
    """Snapshots under one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._paths: dict[tuple[int, int], Path] = {}

    def newest(self) -> SnapshotMeta | None:
        """See ``Snapshots``; a damaged one is skipped with a warning."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self.directory.glob("*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        for path in self._newest_first():
            try:
                meta = _load_meta(path)
                digest, size = _digest(path / "state.bin")
            except (OSError, msgspec.MsgspecError) as error:
                _log.warning("raft: skip snapshot: path=%s error=%s", path, error)
                continue
            if size != meta.size or digest != meta.sha256:
                _log.warning("raft: skip damaged snapshot: path=%s", path)
                continue
            found = _from_file(meta)
            self._paths[found.term, found.index] = path
            return found
        return None

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        """See ``Snapshots``."""
        return _FileWriter(self, meta)

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See ``Snapshots``; raises ``OSError``."""
        # Opened now: it may be deleted while it is being sent.
        return _pieces((self._paths[meta.term, meta.index] / "state.bin").open("rb"))

    def size(self, meta: SnapshotMeta) -> int:
        """See ``Snapshots``; raises ``OSError``."""
        return (self._paths[meta.term, meta.index] / "state.bin").stat().st_size

    def committed(self, meta: SnapshotMeta, path: Path) -> None:
        """Note a new snapshot and delete all but the newest two."""
        self._paths[meta.term, meta.index] = path
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
            for key in [k for k, p in self._paths.items() if p == old]:
                del self._paths[key]

    def _newest_first(self) -> list[Path]:
        def key(path: Path) -> tuple[int, int, int]:
            term, index, millis = path.name.split("-")
            return int(index), int(term), int(millis)

        names = [
            p
            for p in self.directory.iterdir()
            if p.is_dir()
            and len(parts := p.name.split("-")) == 3
            and all(part.isdecimal() for part in parts)
        ]
        return sorted(names, key=key, reverse=True)


class _FileWriter:
    def __init__(self, owner: SnapshotFiles, meta: SnapshotMeta) -> None:
        self._owner = owner
        self._meta = meta
        millis = time.time_ns() // 1_000_000
        self._id = f"{meta.term}-{meta.index}-{millis}"
        self._path = owner.directory / f"{self._id}.tmp"
        self._path.mkdir(parents=True, mode=0o700)
        self._file = (self._path / "state.bin").open("wb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def commit(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        meta = self._meta
        servers = [
            _Server(suffrage=s.suffrage, id=s.id, address=s.address)
            for s in meta.configuration.servers
        ]
        body = msgspec.json.encode(
            _Meta(
                id=self._id,
                index=meta.index,
                term=meta.term,
                configuration=_Servers(servers=servers),
                configuration_index=meta.configuration_index,
                size=self._size,
                sha256=self._hash.hexdigest(),
            )
        )
        with (self._path / "meta.json").open("wb") as file:
            file.write(body + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._path)
        final = self._owner.directory / self._id
        self._path.rename(final)
        sync_directory(self._owner.directory)
        self._owner.committed(meta, final)

    def abort(self) -> None:
        self._file.close()
        shutil.rmtree(self._path, ignore_errors=True)


class MemorySnapshots:
    """The snapshot of ``-dev``: the newest one, in memory."""

    def __init__(self) -> None:
        self._meta: SnapshotMeta | None = None
        self._pieces: list[bytes] = []

    def newest(self) -> SnapshotMeta | None:
        """See ``Snapshots``."""
        return self._meta

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        """See ``Snapshots``."""
        return _MemoryWriter(self, meta)

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See ``Snapshots``."""
        self._check(meta)
        return iter(self._pieces)

    def size(self, meta: SnapshotMeta) -> int:
        """See ``Snapshots``."""
        self._check(meta)
        return sum(map(len, self._pieces))

    def _check(self, meta: SnapshotMeta) -> None:
        held = self._meta
        if held is None or (held.term, held.index) != (meta.term, meta.index):
            raise KeyError(meta.index)

    def committed(self, meta: SnapshotMeta, pieces: list[bytes]) -> None:
        """Keep this snapshot in place of the one before."""
        self._meta, self._pieces = meta, pieces


class _MemoryWriter:
    def __init__(self, owner: MemorySnapshots, meta: SnapshotMeta) -> None:
        self._owner = owner
        self._meta = meta
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    def commit(self) -> None:
        self._owner.committed(self._meta, self._pieces)

    def abort(self) -> None:
        self._pieces = []


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece


def sync_directory(path: Path) -> None:
    """Make the directory's names durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _load_meta(path: Path) -> _Meta:
    return msgspec.json.decode((path / "meta.json").read_bytes(), type=_Meta)


def _digest(path: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def _from_file(meta: _Meta) -> SnapshotMeta:
    return SnapshotMeta(
        index=meta.index,
        term=meta.term,
        configuration=Configuration(
            servers=tuple(
                Peer(id=s.id, address=s.address, suffrage=s.suffrage)
                for s in meta.configuration.servers
            )
        ),
        configuration_index=meta.configuration_index,
    )
