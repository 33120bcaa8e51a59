"""Go's constants: quoted strings, characters and numbers."""

from __future__ import annotations

import re

_SIMPLE = {
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
    **{"\\": "\\", "'": "'", '"': '"'},
}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))",
    re.DOTALL,
)
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


class _BadEscapeError(Exception):
    pass


def unquoted(text: str) -> str | None:
    """Return what a quoted or raw string means; ``None`` when it is malformed."""
    if text.startswith("`"):
        return text[1:-1].replace("\r", "")
    return _unescaped(text[1:-1], other="'")


def _unescaped(body: str, other: str) -> str | None:
    if "\\" not in body:
        return body
    raw = bytearray()
    end = 0
    try:
        for match in _ESCAPE.finditer(body):
            raw += body[end : match.start()].encode("utf-8", "surrogateescape")
            raw += _escaped(match, other)
            end = match.end()
    except _BadEscapeError:
        return None
    rest = body[end:]
    if "\\" in rest:
        return None
    raw += rest.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def _escaped(match: re.Match[str], other: str) -> bytes:
    byte, short, long, octal, simple = match.groups()
    if byte:
        return bytes((int(byte, 16),))
    if octal:
        if int(octal, 8) > 255:
            raise _BadEscapeError
        return bytes((int(octal, 8),))
    if simple:
        if simple not in _SIMPLE or simple == other:
            raise _BadEscapeError
        return _SIMPLE[simple].encode()
    code = int(short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise _BadEscapeError
    return chr(code).encode()


def char_value(text: str) -> int | str:
    """Return a character constant's code point, or what is wrong with it."""
    value = _unescaped(text[1:-1], other='"')
    if value is None or len(value) != 1:
        return f"malformed character constant: {text}"
    code = ord(value)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


_UNDERSCORES = re.compile(r"(?:[^_]|(?<=[0-9a-zA-Z])_(?=[0-9a-fA-F]))*")


def number_value(text: str) -> float | complex | str:
    """Return a number, or what is wrong with it."""
    bad = f"bad number syntax: {text!r}"
    if not _UNDERSCORES.fullmatch(text):
        return bad
    plain = text.replace("_", "")
    digits = plain.lstrip("+-").lower()
    sign = -1 if plain.startswith("-") else 1
    if digits.endswith("i"):
        return _imaginary(digits[:-1], sign, bad)
    try:
        if digits.startswith(("0x", "0o", "0b")):
            if "p" in digits:
                return sign * float.fromhex(digits)
            value: int | float = int(digits, 0)
        elif any(mark in digits for mark in ".e"):
            number = float(digits)
            return bad if number == float("inf") else sign * number
        elif len(digits) > 1 and digits.startswith("0"):
            value = int(digits, 8)
        elif len(digits) > 40:
            return f"integer overflow: {text!r}"
        else:
            value = int(digits)
    except (ValueError, OverflowError):
        return bad
    value *= sign
    if not INT_MIN <= value <= INT_MAX:
        return f"integer overflow: {text!r}"
    return value


def _imaginary(digits: str, sign: int, bad: str) -> complex | str:
    # For the sake of old code, leading zeros do not make it octal.
    value = number_value(digits.lstrip("0") or "0" if digits.isdigit() else digits)
    return bad if isinstance(value, str) else complex(0, sign * value)
