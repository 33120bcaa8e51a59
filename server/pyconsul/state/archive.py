"""The snapshot archive: gzip of a tar of three files.

``meta.json``, ``state.bin`` and ``SHA256SUMS`` (``wire-raft.md`` section 3).
Consul refuses anything after the tar's two zero blocks, so the padding that
``tarfile`` adds is cut.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zlib
from typing import Any

import msgspec

from pyconsul.types.errors import BadRequestError

_META, _STATE, _SUMS = "meta.json", "state.bin", "SHA256SUMS"
_META_LIMIT = 1 << 20


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
    meta = msgspec.structs.replace(meta, size=len(state))
    head = msgspec.json.encode(meta) + b"\n"
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in ((_META, head), (_STATE, state))
    )
    buffer = io.BytesIO()
    end = 0
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in ((_META, head), (_STATE, state), (_SUMS, sums.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o600
            tar.addfile(info, io.BytesIO(data))
            end = buffer.tell()
    return gzip.compress(buffer.getvalue()[: end + 1024], mtime=0)


def read_archive(data: bytes, limit: int) -> tuple[SnapshotMeta, bytes]:
    """Return an archive's meta and state; ``limit`` bounds the state's size.

    Raises ``ArchiveError`` for damage, a wrong checksum, or a foreign file.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|gz") as tar:
            for member in tar:
                if member.name not in (_META, _STATE, _SUMS) or not member.isfile():
                    raise ArchiveError(f'unexpected file "{member.name}" in snapshot')
                if member.size > (limit if member.name == _STATE else _META_LIMIT):
                    raise ArchiveError(f'file "{member.name}" is too large')
                body = tar.extractfile(member)
                files[member.name] = body.read() if body is not None else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ArchiveError(f"failed to read snapshot file: {error}") from error
    _verify(files)
    try:
        meta = msgspec.json.decode(files[_META], type=SnapshotMeta)
    except msgspec.DecodeError as error:
        raise ArchiveError(f"failed to decode snapshot metadata: {error}") from error
    if meta.size != len(files[_STATE]):
        raise ArchiveError("snapshot metadata gives another size than the state has")
    return meta, files[_STATE]


def _verify(files: dict[str, bytes]) -> None:
    for name in (_META, _STATE, _SUMS):
        if name not in files:
            raise ArchiveError(f'file "{name}" is missing in snapshot')
    sums: dict[str, str] = {}
    for line in files[_SUMS].decode("ascii", "replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    for name in (_META, _STATE):
        digest = hashlib.sha256(files[name]).hexdigest()
        if sums.get(name) != digest:
            raise ArchiveError(f'hash check failed for "{name}"')
