"""Numbers in query strings, read and refused as Go's ``strconv`` does."""

from __future__ import annotations

_UINT_MAX = (1 << 64) - 1
_DIGITS = 20
"""Of the largest number; more are not even converted (that takes long)."""


class NumberError(ValueError):
    """A text is no such number; the message is ``strconv``'s."""


def parse_uint(text: str) -> int:
    """Return an unsigned 64-bit number; raises ``NumberError``."""
    if not (text.isascii() and text.isdigit()):
        raise NumberError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    digits = text.lstrip("0") or "0"
    if len(digits) > _DIGITS or int(digits) > _UINT_MAX:
        raise NumberError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(digits)
