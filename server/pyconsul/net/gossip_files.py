"""Files of a gossip pool: its keyring and the snapshot it rejoins from.

``serf/local.keyring`` is a JSON array of base64 keys, two-space indent, mode
0600, primary first. ``serf/local.snapshot`` is text, a record a line
(``wire-gossip.md`` 6 and 8.7). Both are replaced by rename, so that a power
cut leaves the old or the new file. All calls block: run them in a thread.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyconsul.types.errors import StartError, os_reason

_log = logging.getLogger(__name__)
KEY_SIZES = (16, 24, 32)
_MAX_KEYRING = 1 << 20
_MAX_SNAPSHOT = 64 << 20


def decode_key(text: str) -> bytes:
    """Return the bytes of a base64 key; ``StartError`` names what is wrong."""
    failing = "Failed to configure keyring: Invalid key"
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StartError(f"{failing}: illegal base64 data at input byte 0") from None
    if len(key) not in KEY_SIZES:
        raise StartError(f"{failing}: key size must be 16, 24 or 32 bytes")
    return key


def load_keyring(path: Path) -> list[bytes] | None:
    """Return the keys of a keyring file, primary first; None: no file.

    Raises ``StartError``, also for an empty list.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEYRING)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"Failed to configure keyring: {os_reason(error)}") from error
    try:
        texts = msgspec.json.decode(data, type=list[str])
    except msgspec.MsgspecError as error:
        raise StartError(f"Failed to configure keyring: {path}: {error}") from None
    if not texts:
        raise StartError(
            f"Failed to configure keyring: no keys present in keyring: {path}"
        )
    try:
        return [decode_key(text) for text in texts]
    except StartError as error:
        raise StartError(f"{error} (in {path})") from None


def open_keyring(path: Path | None, encrypt: str) -> list[bytes]:
    """Return the keys to start with, none: no encryption; ``StartError``.

    ``encrypt`` is a base64 key or empty; it seeds a missing file, while a file
    that is there wins. Without ``path`` the ring is only in memory.
    """
    wanted = [decode_key(encrypt)] if encrypt else []
    keys = load_keyring(path) if path is not None else None
    if keys is None:
        if wanted and path is not None:
            try:
                save_keyring(path, wanted)
            except OSError as error:
                text = f"Failed to configure keyring: {os_reason(error)}"
                raise StartError(text) from error
        return wanted
    if wanted and wanted[0] not in keys:
        _log.warning(
            "keyring doesn't include key provided with -encrypt, using keyring"
        )
    return keys


def save_keyring(path: Path, keys: Sequence[bytes]) -> None:
    """Replace the keyring file, durably; ``OSError``."""
    texts = [base64.b64encode(key).decode() for key in keys]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, json.dumps(texts, indent=2).encode(), mode=0o600)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write ``path`` so that at any time it is whole; ``OSError``."""
    temporary = path.with_name(path.name + ".compact")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_snapshot(path: Path) -> bytes:
    """Return the content of a snapshot file, empty when absent; ``StartError``."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SNAPSHOT)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StartError(f"Failed to open snapshot: {os_reason(error)}") from error


class SnapshotFile:
    """Appends to a snapshot file, or replaces it."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if absent; ``OSError``."""
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop_torn_line(path)
        self._file: Any = path.open("ab")

    def append(self, data: bytes) -> None:
        """Write whole lines through to the operating system; ``OSError``."""
        self._file.write(data)
        self._file.flush()

    def replace(self, data: bytes) -> None:
        """Make ``data`` the content, durably; ``OSError``."""
        replace_file(self._path, data, mode=0o644)
        self._file.close()
        self._file = self._path.open("ab")

    def close(self) -> None:
        """Close the file; what was appended is written."""
        self._file.close()


def _drop_torn_line(path: Path) -> None:
    """Cut what a power cut left after the last newline: it may read wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
