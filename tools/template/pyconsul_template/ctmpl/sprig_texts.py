"""Sprig's less common functions of texts: case, wrapping, codes, paths, URLs.

Imported when a template calls one. Source: sprig's documentation. The value
worked on is the last argument.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
import zlib
from typing import Any, cast
from urllib.parse import urlsplit

from pyconsul_template import helpers as shared
from pyconsul_template.ctmpl import regex
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.sprig import text_of, whole
from pyconsul_template.ctmpl.values import (
    StringMap,
    Strings,
    bounded,
    go_bytes,
    go_text,
    type_name,
)

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\s_.-]+")
_MARK = "..."


def abbrev(width: Any, text: str) -> str:
    """Return a text of at most ``width`` characters, ``...`` for what is cut."""
    size = whole(width)
    return text if size < 4 or len(text) <= size else text[: size - 3] + _MARK


def abbrev_both(left: Any, right: Any, text: str) -> str:
    """Return ``right`` characters from ``left`` on, ``...`` for what is cut."""
    offset, size = whole(left), whole(right)
    if size < 4 or (offset > 0 and size < 7) or len(text) <= size:
        return text
    offset = min(offset, len(text))
    if len(text) - offset <= size - 3:
        offset = len(text) - (size - 3)
    if offset <= 4:
        return text[: size - 3] + _MARK
    if offset + size - 3 < len(text):
        return _MARK + abbrev(size - 3, text[offset:])
    return _MARK + text[len(text) - (size - 3) :]


def substring(start: Any, end: Any, text: str) -> str:
    """Return the characters from ``start`` up to before ``end``."""
    first, last = whole(start), whole(end)
    if first < 0:
        return text[: max(last, 0)]
    if last < 0 or last > len(text):
        return text[first:]
    return text[first:last]


def plural(one: str, many: str, count: Any) -> str:
    """Return the word for one, or that for many."""
    return one if whole(count) == 1 else many


def initials(text: str) -> str:
    """Return the first letter of each word."""
    return "".join(word[0] for word in text.split())


def untitle(text: str) -> str:
    """Return the text with each word's first letter in lower case."""
    return re.sub(r"(?<!\S)\S", lambda found: found[0].lower(), text)


def snake_case(text: str) -> str:
    """Return ``FirstName`` as ``first_name``."""
    return _WORD_ENDS.sub("_", text).lower()


def kebab_case(text: str) -> str:
    """Return ``FirstName`` as ``first-name``."""
    return _WORD_ENDS.sub("-", text).lower()


def camel_case(text: str) -> str:
    """Return ``http_server`` as ``HttpServer``."""
    words = re.split(r"[\s_-]+", text)
    return "".join(word[:1].upper() + word[1:] for word in words)


def wrap(width: Any, text: str) -> str:
    """Return the text in lines of ``width``; a longer word stays whole."""
    return _wrapped(whole(width), "\n", text, cuts_words=False)


def wrap_with(width: Any, line_end: str, text: str) -> str:
    """Return the text in parts of ``width``, longer words cut."""
    return _wrapped(whole(width), line_end, text, cuts_words=True)


def _wrapped(width: int, line_end: str, text: str, *, cuts_words: bool) -> str:
    width = max(width, 1)
    found: list[str] = []
    at = 0
    while len(text) - at > width:
        if text[at] == " ":
            at += 1
            continue
        space = text.rfind(" ", at, at + width + 1)
        if space < 0 and not cuts_words:
            space = text.find(" ", at + width)
            if space < 0:
                break
        if space < 0:
            found += (text[at : at + width], line_end or "\n")
            at += width
        else:
            found += (text[at:space], line_end or "\n")
            at = space + 1
    return bounded("".join(found) + text[at:])


def split_n(separator: str, count: Any, text: str) -> StringMap:
    """Return at most ``count`` parts as ``_0``, ``_1``, ..."""
    most = whole(count)
    if not most:
        return StringMap()
    parts = list(text) if not separator else text.split(separator, most - 1)
    if not separator and 0 < most < len(parts):
        parts[most - 1 :] = ["".join(parts[most - 1 :])]
    return StringMap({f"_{number}": part for number, part in enumerate(parts)})


def sequence(*values: Any) -> str:
    """Return the numbers that ``seq`` prints, in a line: ``[first [step]] last``."""
    numbers = [whole(value) for value in values]
    match numbers:
        case [last]:
            first, step = 1, 1 if last >= 1 else -1
        case [first, last]:
            step = 1 if last >= first else -1
        case [first, step, last]:
            if not step or (step > 0) != (last >= first):
                return ""
        case _:
            return ""
    found = range(first, last + (1 if step > 0 else -1), step)
    if len(found) > shared.REPEAT_MAX:
        raise GoExecError(f"over {shared.REPEAT_MAX} numbers")
    return " ".join(map(str, found))


# Codes


def base32_encode(text: str) -> str:
    """Return base32."""
    return base64.b32encode(go_bytes(text)).decode()


def base32_decode(text: str) -> str:
    """Return the text of base32; of a wrong one, what is wrong, as sprig does."""
    try:
        return go_text(base64.b32decode(go_bytes(text)))
    except (binascii.Error, ValueError) as error:
        return f"illegal base32 data: {error}"


def sha512(text: str) -> str:
    """Return the SHA-512 in hexadecimal."""
    return hashlib.sha512(go_bytes(text)).hexdigest()


def adler32(text: str) -> str:
    """Return the Adler-32 checksum in decimal."""
    return str(zlib.adler32(go_bytes(text)))


# Regular expressions


def regex_literal(pattern: str, text: str, replacement: str) -> str:
    """Return the text with each match replaced; ``$1`` is no group."""
    return regex.replaced(pattern, lambda _: replacement, text)


def regex_split(pattern: str, text: str, count: Any) -> Strings:
    """Return the parts between matches, at most ``count`` unless it is negative."""
    most = whole(count)
    if not most:
        return Strings()
    found, start = Strings(), 0
    if pattern and not text:
        return Strings([""])
    for match in regex.compiled(pattern).finditer(text):
        if 0 < most <= len(found) + 1:
            break
        # As in Go: an empty match at the start or the end parts nothing.
        if match.end() == 0 or (match.start() == match.end() == len(text)):
            continue
        found.append(text[start : match.start()])
        start = match.end()
    found.append(text[start:])
    return found


def regex_quote(text: str) -> str:
    """Return the text as a pattern that matches it."""
    return re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", text)


# Paths


def path_base(text: str) -> str:
    """Return a path's last element."""
    if not text:
        return "."
    return text.rstrip("/").rpartition("/")[2] or "/"


def path_clean(text: str) -> str:
    """Return the shortest name of the same path."""
    found = posixpath.normpath(text) if text else "."
    return "/" + found.lstrip("/") if found.startswith("//") else found


def path_dir(text: str) -> str:
    """Return a path without its last element."""
    head, slash, _ = text.rpartition("/")
    return path_clean(head + slash)


def path_ext(text: str) -> str:
    """Return a path's suffix, with its dot."""
    _, dot, suffix = text.rpartition("/")[2].rpartition(".")
    return dot + suffix


def is_absolute(text: str) -> bool:
    """Return whether a path begins with a slash."""
    return text.startswith("/")


# URLs


def url_parse(text: str) -> dict[str, Any]:
    """Return a URL's parts."""
    try:
        parts = urlsplit(text)
        hostname = parts.hostname or ""
    except ValueError as error:
        raise GoExecError(f"unable to parse url: {error}") from None
    user, at, host = parts.netloc.rpartition("@")
    is_opaque = bool(parts.scheme) and not parts.netloc and parts.path[:1] != "/"
    return {
        "scheme": parts.scheme,
        "host": host,
        "hostname": hostname,
        "path": "" if is_opaque else parts.path,
        "query": parts.query,
        "opaque": parts.path if is_opaque else "",
        "fragment": parts.fragment,
        "userinfo": user if at else "",
    }


def url_join(found: Any) -> str:
    """Return the URL of such parts."""
    if not isinstance(found, dict):
        raise GoExecError(f"a {type_name(found)} is no map")
    parts = cast("dict[str, Any]", found)

    def part(name: str, before: str = "", after: str = "") -> str:
        text = text_of(parts.get(name))
        return before + text + after if text else ""

    host = part("userinfo", after="@") + part("host")
    path = part("opaque") or part("path")
    if host:
        path = "//" + host + ("/" if path and path[0] != "/" else "") + path
    scheme = part("scheme", after=":")
    return scheme + path + part("query", "?") + part("fragment", "#")


def hello() -> str:
    """Return a greeting."""
    return "Hello!"
