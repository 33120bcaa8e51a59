"""The gossip keyring: AES-GCM with ordered keys (``wire-gossip.md`` 6).

Layout: version (1 byte), nonce (12), ciphertext, tag (16). Version 1 has no
padding and is what we send; version 0 pads with PKCS7 to 16 bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pyconsul.gossip.messages import DecodeError, GossipError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZES = (16, 24, 32)
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES
"""What encryption adds to a message (version 1)."""


class KeyringError(GossipError):
    """A key operation is not allowed."""


class Keyring:
    """Keys in order; the first (primary) encrypts, all decrypt.

    An empty keyring means that encryption is off. Nonces come from the
    operating system even in simulations: one used twice would give the key
    away, and their value changes nothing a node does.
    """

    def __init__(
        self,
        keys: Iterable[bytes] = (),
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}  # in order, primary first
        self._random_bytes = random_bytes
        for key in keys:
            self.add(key)

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    @property
    def keys(self) -> list[bytes]:
        """All keys, primary first."""
        return list(self._ciphers)

    @property
    def primary(self) -> bytes | None:
        """The key that encrypts; ``None`` when encryption is off."""
        return next(iter(self._ciphers), None)

    def add(self, key: bytes) -> None:
        """Install a key (the first becomes primary); a known one is a no-op.

        Raises ``KeyringError`` for a wrong size.
        """
        if len(key) not in KEY_SIZES:
            raise KeyringError("key size must be 16, 24 or 32 bytes")
        if key not in self._ciphers:
            # An agent without a key starts sooner for not importing it.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._ciphers[key] = AESGCM(key)

    def use(self, key: bytes) -> None:
        """Make an installed key primary. Raises ``KeyringError``."""
        cipher = self._ciphers.get(key)
        if cipher is None:
            raise KeyringError("Requested key is not in the keyring")
        self._ciphers = {key: cipher} | self._ciphers

    def remove(self, key: bytes) -> None:
        """Remove a key; an unknown one is a no-op. Raises ``KeyringError``."""
        if key == self.primary:
            raise KeyringError("Removing the primary key is not allowed")
        self._ciphers.pop(key, None)

    def encrypt(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Encrypt with the primary key, as version 1."""
        nonce = self._random_bytes(NONCE_BYTES)
        cipher = next(iter(self._ciphers.values()))
        return b"\x01" + nonce + cipher.encrypt(nonce, plain, associated)

    def decrypt(self, data: bytes, associated: bytes = b"") -> bytes:
        """Decrypt with whichever key fits. Raises ``DecodeError``."""
        from cryptography.exceptions import InvalidTag

        if not data:
            raise DecodeError("Cannot decrypt empty payload")
        version = data[0]
        if version > 1:
            raise DecodeError(f"unsupported encryption version {version}")
        if len(data) < OVERHEAD_BYTES:
            raise DecodeError(f"payload is too small to decrypt: {len(data)}")
        nonce = data[1 : 1 + NONCE_BYTES]
        sealed = data[1 + NONCE_BYTES :]
        for cipher in self._ciphers.values():
            try:
                plain = cipher.decrypt(nonce, sealed, associated)
            except InvalidTag:
                continue
            return plain if version else _unpad(plain)
        raise DecodeError("No installed keys could decrypt the message")


def _unpad(plain: bytes) -> bytes:
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= 16 or padding > len(plain):
        raise DecodeError("bad padding in an encrypted message")
    return plain[:-padding]
