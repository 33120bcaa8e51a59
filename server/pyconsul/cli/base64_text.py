"""Base64 read as strictly as Go's ``base64.StdEncoding``, with its complaint."""

from __future__ import annotations

import binascii

_ALPHABET = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


def decode(data: bytes) -> bytes:
    """Return the bytes meant, or raise ValueError; newlines are passed over."""
    if data.count(b"\n") or data.count(b"\r"):
        data = data.replace(b"\n", b"").replace(b"\r", b"")
    body = data.rstrip(b"=")
    for at, byte in enumerate(body):
        if byte not in _ALPHABET:
            raise ValueError(f"illegal base64 data at input byte {at}")
    if len(data) % 4 or len(data) - len(body) > 2:
        raise ValueError(f"illegal base64 data at input byte {len(body)}")
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        raise ValueError(f"illegal base64 data at input byte {len(body)}") from None
