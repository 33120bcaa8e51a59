"""``filter``: Consul's filter language over the pairs of a source.

Selectors are ``Key``, ``Value`` (text; bytes that are not UTF-8 match nothing)
and ``Flags`` (decimal). The operators are those of Consul's ``?filter=``.
Source: the filtering page of Consul's HTTP API.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable

from .model import Entry

MAX_TEXT = 4096
MAX_DEPTH = 50
Select = Callable[[Entry], bool]
"""Tells whether a pair takes part."""
_Read = Callable[[Entry], str]
_TOKEN = re.compile(
    r'\s*(?:(?P<raw>`[^`]*`)|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<mark>==|!=|\(|\))|(?P<word>[^\s()\"`=!]+))"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_SELECTORS: dict[str, _Read] = {
    "Key": lambda entry: entry.key,
    "Value": lambda entry: b64decode(entry.value or "").decode("utf-8", "replace"),
    "Flags": lambda entry: str(entry.flags),
}


def compile_select(text: str) -> Select:
    """Return what decides on a pair; ValueError says what is wrong."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"an expression is longer than {MAX_TEXT} characters")
    parser = _Parser(text)
    found = parser.either(0)
    parser.end()
    return found


class _Parser:
    """Recursive descent over a short list of tokens."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, bool]] = []
        """Texts, and whether they were quoted."""
        self._at = 0
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f'cannot read "{text[at : at + 20]}"')
            at = found.end()
            if found["raw"] is not None:
                self._tokens.append((found["raw"][1:-1], True))
            elif found["text"] is not None:
                self._tokens.append((_unquote(found["text"][1:-1]), True))
            else:
                self._tokens.append((found["mark"] or found["word"], False))

    def either(self, depth: int) -> Select:
        """Read what ``or`` joins."""
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        left = self._both(depth)
        while self._take("or"):
            left = _or(left, self._both(depth))
        return left

    def end(self) -> None:
        """Raise ValueError when something is left."""
        if self._at < len(self._tokens):
            raise ValueError(f'unexpected "{self._tokens[self._at][0]}"')

    def _both(self, depth: int) -> Select:
        left = self._one(depth)
        while self._take("and"):
            left = _and(left, self._one(depth))
        return left

    def _one(self, depth: int) -> Select:
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        if self._take("not"):
            return _not(self._one(depth + 1))
        if self._take("("):
            found = self.either(depth + 1)
            if not self._take(")"):
                raise ValueError('missing ")"')
            return found
        return self._match()

    def _match(self) -> Select:
        first, quoted = self._next()
        read = None if quoted else _SELECTORS.get(first)
        if read is None:
            # VALUE [not] in SELECTOR
            negative = self._take("not")
            if not self._take("in"):
                raise ValueError(f'"{first}" is none of {", ".join(_SELECTORS)}')
            name = self._next()[0]
            read = _SELECTORS.get(name)
            if read is None:
                raise ValueError(f'"{name}" is none of {", ".join(_SELECTORS)}')
            return _turned(_has(read, first), negative)
        if self._take("is"):
            negative = self._take("not")
            if not self._take("empty"):
                raise ValueError('expected "empty"')
            return _turned(_equal(read, ""), negative)
        if self._take("=="):
            return _equal(read, self._next()[0])
        if self._take("!="):
            return _not(_equal(read, self._next()[0]))
        negative = self._take("not")
        if self._take("contains"):
            return _turned(_has(read, self._next()[0]), negative)
        if self._take("matches"):
            pattern = self._next()[0]
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f'bad pattern "{pattern}": {error}') from error
            return _turned(_matches(read, compiled), negative)
        raise ValueError(f'no operator after "{first}"')

    def _next(self) -> tuple[str, bool]:
        if self._at >= len(self._tokens):
            raise ValueError("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == (word, False):
            self._at += 1
            return True
        return False


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text)


def _equal(read: _Read, wanted: str) -> Select:
    return lambda entry: read(entry) == wanted


def _has(read: _Read, part: str) -> Select:
    return lambda entry: part in read(entry)


def _matches(read: _Read, pattern: re.Pattern[str]) -> Select:
    return lambda entry: pattern.search(read(entry)) is not None


def _turned(select: Select, negative: bool) -> Select:
    return _not(select) if negative else select


def _not(select: Select) -> Select:
    return lambda entry: not select(entry)


def _and(left: Select, right: Select) -> Select:
    return lambda entry: left(entry) and right(entry)


def _or(left: Select, right: Select) -> Select:
    return lambda entry: left(entry) or right(entry)
