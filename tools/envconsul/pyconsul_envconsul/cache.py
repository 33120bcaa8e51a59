"""The last variables on disk, for a start while Consul does not answer.

The file is JSON, mode 0600. With a key (AES-256-GCM) its content is sealed, so
that a copied disk or backup shows nothing. Imported only when there is a cache.
"""

from __future__ import annotations

import json
import os
import stat
from binascii import Error as CodingError
from binascii import a2b_base64, b2a_base64

from .output import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .sources import Source

    Variables = dict[bytes, bytes]

MAX_CACHE = 64 * 1024 * 1024
MAX_KEY_FILE = 4096
KEY_SIZE = 32
NONCE_SIZE = 12
_PURPOSE = b"pyconsul envconsul cache 1"


class Cache:
    """The file of a run; ``key_file`` holds 32 bytes in base64, or is ``""``.

    Raises ValueError for a key file that cannot be used.
    """

    def __init__(self, path: str, key_file: str = "") -> None:
        self.path = path
        self._key = _read_key(key_file) if key_file else b""

    def keep(self, variables: Mapping[bytes, bytes]) -> None:
        """Replace the file; raises OSError."""
        pairs = {
            os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()
        }
        content: dict[str, object] = {"version": 1, "variables": pairs}
        if self._key:
            sealed = _seal(self._key, json.dumps(pairs).encode())
            content = {"version": 1, "sealed": sealed}
        folder = os.path.dirname(self.path)
        if folder and not os.path.isdir(folder):
            os.makedirs(folder, 0o700, exist_ok=True)
        write_private(self.path, json.dumps(content).encode())

    def read(self) -> Variables | None:
        """Return what is kept, ``None`` when there is no file.

        Raises ValueError when the file cannot be used, for one that others may
        write, too: they would choose our child's environment.
        """
        try:
            with open(self.path, "rb") as file:
                _check_owner(os.fstat(file.fileno()))
                data = file.read(MAX_CACHE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError((error.strerror or str(error)).lower()) from error
        try:
            found = json.loads(data)
            if found["version"] != 1:
                raise ValueError("of another version")
            if bool(self._key) != ("sealed" in found):
                raise ValueError("sealed" if "sealed" in found else "not sealed")
            pairs: dict[str, str] = found.get("variables", {})
            if self._key:
                pairs = json.loads(_open(self._key, found["sealed"]))
            return {
                os.fsencode(name): os.fsencode(value) for name, value in pairs.items()
            }
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("not a cache of variables") from error


def default_path(
    environ: Mapping[str, str], url: str, sources: Sequence[Source]
) -> str:
    """Return a place of the agent and the sources in the user's state folder.

    Source: systemd.exec (``STATE_DIRECTORY``), XDG base directories. Raises
    ValueError when the environment names no folder.
    """
    from hashlib import sha256

    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not folder:
        folder = environ.get("XDG_STATE_HOME", "")
        if not folder and environ.get("HOME"):
            folder = os.path.join(environ["HOME"], ".local", "state")
        if not folder:
            raise ValueError("no folder for the cache: give -cache FILE")
        folder = os.path.join(folder, "envconsul")
    what = json.dumps([url, [source.question for source in sources]])
    return os.path.join(folder, sha256(what.encode()).hexdigest()[:32] + ".json")


def _check_owner(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a regular file")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise ValueError("others may write it")


def _read_key(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_KEY_FILE)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{path}: {reason}") from error
    try:
        key = a2b_base64(text.strip(), strict_mode=True)
    except CodingError:
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError(f"{path}: expected {KEY_SIZE} bytes in base64")
    return key


def _seal(key: bytes, data: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_SIZE)
    sealed = nonce + AESGCM(key).encrypt(nonce, data, _PURPOSE)
    return b2a_base64(sealed, newline=False).decode()


def _open(key: bytes, sealed: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = a2b_base64(sealed, strict_mode=True)
    try:
        return AESGCM(key).decrypt(data[:NONCE_SIZE], data[NONCE_SIZE:], _PURPOSE)
    except (InvalidTag, ValueError) as error:
        raise ValueError("sealed with another key, or changed") from error
