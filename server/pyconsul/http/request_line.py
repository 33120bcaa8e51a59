"""Request lines that are right and yet not read by the parser.

HTTP allows any word as a method, which then is refused with 405, and clients such
as curl send a path as it was typed, with bytes that are no ASCII.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpRequestParser

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([^ \r\n]+) HTTP/1\.[01]\r\n")


def respelled(data: bytes) -> tuple[str, bytes] | None:
    """Return the method to take, ``""`` for the parser's, and data it can read.

    ``None`` when the first line is none that could be spelled in another way.
    """
    match = _LINE.match(data)
    if match is None:
        return None
    word, target = match.groups()
    method = "" if _is_read(word) else word.decode()
    plain = target
    if not target.isascii():
        plain = b"".join(
            b"%%%02X" % byte if byte > 0x7F else bytes((byte,)) for byte in target
        )
    if not method and plain == target:
        return None
    first = b"GET" if method else word
    return method, b"%b %b%b" % (first, plain, data[match.end(2) :])


def _is_read(method: bytes) -> bool:
    try:
        HttpRequestParser(object()).feed_data(method + b" / HTTP/1.1\r\n\r\n")
    except HttpParserError:
        return False
    return True
