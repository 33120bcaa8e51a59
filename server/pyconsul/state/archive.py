"""The snapshot archive: gzip of a tar of three files.

``meta.json``, ``state.bin`` and ``SHA256SUMS`` (``wire-raft.md`` section 3).
Consul refuses anything after the tar's two zero blocks, so nothing is padded
here, and padding is refused. Files are copied in pieces: an archive of any size
needs the same memory. The words of the errors are Consul 1.10's.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zlib
from typing import Any, BinaryIO, NoReturn, cast

import msgspec

from pyconsul.types.errors import BadRequestError

STATE_LIMIT = 64 << 30
"""Bytes of state an archive may unpack to: a bomb must not fill the disk."""

_META, _STATE, _SUMS = "meta.json", "state.bin", "SHA256SUMS"
_META_LIMIT = 1 << 20
_LEVEL = 6
_PIECE = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_GZIP = b"\x1f\x8b\x08"
_GZIP_HEAD = 10
_USTAR_LIMIT = 8 << 30
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_READING = "failed to read snapshot file: "


class ArchiveError(BadRequestError):
    """The archive is damaged or is no snapshot."""


class SnapshotMeta(
    msgspec.Struct, frozen=True, kw_only=True, rename={"id": "ID"}, omit_defaults=False
):
    """``meta.json``; restoring needs ``index``, ``term`` and ``size`` alone."""

    version: int = msgspec.field(name="Version", default=1)
    id: str = ""
    index: int = msgspec.field(name="Index", default=0)
    term: int = msgspec.field(name="Term", default=0)
    peers: str | None = msgspec.field(name="Peers", default=None)
    configuration: dict[str, Any] = msgspec.field(
        name="Configuration", default_factory=lambda: {"Servers": []}
    )
    configuration_index: int = msgspec.field(name="ConfigurationIndex", default=0)
    size: int = msgspec.field(name="Size", default=0)


def encode_peers(peers: bytes) -> str:
    """Return the text of ``SnapshotMeta.peers`` for a msgpack array."""
    return base64.b64encode(peers).decode("ascii")


def write_archive(meta: SnapshotMeta, state: bytes) -> bytes:
    """Return the archive's bytes; ``meta.size`` is set to the state's."""
    out = io.BytesIO()
    write_archive_file(meta, io.BytesIO(state), out)
    return out.getvalue()


def read_archive(data: bytes, limit: int) -> tuple[SnapshotMeta, bytes]:
    """Return an archive's meta and state; ``limit`` bounds the state's size.

    Raises ``ArchiveError`` for damage, a wrong checksum, or a foreign file.
    """
    state = io.BytesIO()
    meta = read_archive_file(io.BytesIO(data), state, limit)
    return meta, state.getvalue()


def write_archive_file(meta: SnapshotMeta, state: BinaryIO, out: BinaryIO) -> None:
    """Write an archive of all of ``state``, a file of ``meta.size`` or any size."""
    size = state.seek(0, io.SEEK_END)
    state.seek(0)
    meta = msgspec.structs.replace(meta, size=size)
    head = msgspec.json.encode(meta) + b"\n"
    digest = hashlib.sha256()
    with gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as packed:
        _add(packed, _META, head)
        packed.write(_member(_STATE, size))
        while piece := state.read(_PIECE):
            digest.update(piece)
            packed.write(piece)
        packed.write(bytes(-size % _BLOCK))
        sums = (
            f"{hashlib.sha256(head).hexdigest()}  {_META}\n"
            f"{digest.hexdigest()}  {_STATE}\n"
        )
        _add(packed, _SUMS, sums.encode())
        packed.write(bytes(2 * _BLOCK))


def _add(packed: gzip.GzipFile, name: str, data: bytes) -> None:
    packed.write(_member(name, len(data)) + data + bytes(-len(data) % _BLOCK))


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    large = size >= _USTAR_LIMIT
    return info.tobuf(tarfile.GNU_FORMAT if large else tarfile.USTAR_FORMAT)


def read_archive_file(
    source: BinaryIO, state: BinaryIO | None, limit: int = STATE_LIMIT
) -> SnapshotMeta:
    """Check an archive, copy its state to ``state`` if given; return its meta.

    ``source`` is read from where it stands to its end. Raises ``ArchiveError``
    for damage, a wrong checksum, or a foreign file; what was written to
    ``state`` is worth nothing then.
    """
    start = source.read(_GZIP_HEAD)
    if len(start) < _GZIP_HEAD:
        reason = "unexpected EOF" if start else "EOF"
        raise ArchiveError(f"failed to decompress snapshot: {reason}")
    if not start.startswith(_GZIP):
        raise ArchiveError("failed to decompress snapshot: gzip: invalid header")
    joined = cast("BinaryIO", _Joined(start, source))
    with gzip.GzipFile(fileobj=joined, mode="rb") as packed:
        return _Reader(packed, state, limit).read()


class _Joined:
    """A file whose first bytes were read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._start:
            return self._rest.read(size)
        start = self._start if size < 0 else self._start[:size]
        self._start = self._start[len(start) :]
        return start


class _Reader:
    """Walks over the tar."""

    def __init__(
        self, packed: gzip.GzipFile, state: BinaryIO | None, limit: int
    ) -> None:
        self._packed = packed
        self._state = state
        self._limit = limit
        self._digests: dict[str, str] = {}
        self._small: dict[str, bytes] = {}
        self._state_size = 0

    def read(self) -> SnapshotMeta:
        while (info := self._next()) is not None:
            if info.type in _EXTENSIONS:
                self._take_small(info)
            elif info.name not in (_META, _STATE, _SUMS) or not info.isreg():
                _fail(f'unexpected file "{info.name}" in snapshot')
            elif info.name == _STATE:
                self._copy_state(info)
            else:
                data = self._take_small(info)
                self._small[info.name] = data
                self._digests[info.name] = hashlib.sha256(data).hexdigest()
        self._verify()
        try:
            meta = msgspec.json.decode(self._small[_META], type=SnapshotMeta)
        except msgspec.DecodeError as error:
            _fail(f"failed to decode snapshot metadata: {error}")
        if meta.size != self._state_size:
            _fail("snapshot metadata gives another size than the state has")
        self._conclude()
        return meta

    def _next(self) -> tarfile.TarInfo | None:
        block = self._exactly(_BLOCK)
        if not any(block):
            if any(self._exactly(_BLOCK)):
                _fail("failed reading snapshot: archive/tar: invalid tar header")
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            _fail("failed reading snapshot: archive/tar: invalid tar header")
        limit = self._limit if info.name == _STATE else _META_LIMIT
        if info.size > limit:
            _fail(f'file "{info.name}" is too large')
        return info

    def _take_small(self, info: tarfile.TarInfo) -> bytes:
        data = self._exactly(info.size)
        self._exactly(-info.size % _BLOCK)
        return data

    def _copy_state(self, info: tarfile.TarInfo) -> None:
        digest = hashlib.sha256()
        left = self._state_size = info.size
        while left:
            piece = self._exactly(min(left, _PIECE))
            left -= len(piece)
            digest.update(piece)
            if self._state is not None:
                self._state.write(piece)
        self._exactly(-info.size % _BLOCK)
        self._digests[_STATE] = digest.hexdigest()

    def _exactly(self, size: int) -> bytes:
        data = self._unpacked(size) if size else b""
        if len(data) < size:
            _fail("failed reading snapshot: unexpected EOF")
        return data

    def _unpacked(self, size: int) -> bytes:
        try:
            return self._packed.read(size)
        except EOFError:
            _fail("failed reading snapshot: unexpected EOF")
        except gzip.BadGzipFile:
            _fail("failed reading snapshot: gzip: invalid checksum")
        except zlib.error:
            _fail("failed reading snapshot: flate: corrupt input")

    def _verify(self) -> None:
        failed = "failed checking integrity of snapshot: "
        for name in (_META, _STATE, _SUMS):
            if name not in self._digests:
                _fail(f'{failed}file "{name}" is missing')
        sums: dict[str, str] = {}
        for line in self._small[_SUMS].decode("ascii", "replace").splitlines():
            digest, _, name = line.partition("  ")
            sums[name] = digest
        for name in (_META, _STATE):
            if sums.get(name) != self._digests[name]:
                _fail(f'{failed}hash check failed for "{name}"')

    def _conclude(self) -> None:
        unread = 0
        while piece := self._unpacked(_PIECE):
            unread += len(piece)
        if unread:
            raise ArchiveError(
                "failed to conclude snapshot: "
                f"{unread} unread uncompressed bytes remain"
            )


def _fail(reason: str) -> NoReturn:
    raise ArchiveError(_READING + reason) from None
