"""JSON of configuration files, with the messages of Go's reader.

Python's reader does the work; when it refuses a text, ``explain`` goes through
it once more to say what Go would have said, and adds the line.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_MAX_DEPTH = 500


class JsonTextError(ValueError):
    """The text is not JSON."""


def loads(text: str) -> Any:
    """Return the value of a JSON text; raises ``JsonTextError``."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise JsonTextError("exceeded max depth") from None
    except ValueError as error:
        raise JsonTextError(explain(text) or str(error)) from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def explain(text: str) -> str:
    """Return what is wrong with a text, empty if nothing is."""
    scan = _Scan(text)
    try:
        scan.value(0)
        scan.space()
        if scan.at < len(text):
            scan.refuse("after top-level value")
    except _FoundError as found:
        if scan.at >= len(text):
            return "unexpected end of JSON input"
        line = text.count("\n", 0, scan.at) + 1
        return f"{found} (line {line})"
    return ""


class _FoundError(Exception):
    pass


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def space(self) -> None:
        match = _SPACE.match(self._text, self.at)
        assert match is not None
        self.at = match.end()

    def refuse(self, where: str) -> NoReturn:
        letter = self._text[self.at : self.at + 1]
        shown = {"'": r"'\''", '"': "'\"'"}.get(letter)
        if shown is None:
            shown = f"'{letter}'" if letter.isprintable() else repr(letter)
        raise _FoundError(f"invalid character {shown} {where}")

    def _next(self) -> str:
        return self._text[self.at : self.at + 1]

    def value(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _FoundError("exceeded max depth")
        self.space()
        letter = self._next()
        if letter == "{":
            self._object(depth)
        elif letter == "[":
            self._array(depth)
        elif letter == '"':
            self._string()
        elif letter in ("t", "f", "n") and letter:
            self._literal({"t": "true", "f": "false", "n": "null"}[letter])
        elif letter == "-" or letter.isdigit():
            self._number()
        else:
            self.refuse("looking for beginning of value")

    def _object(self, depth: int) -> None:
        self.at += 1
        self.space()
        if self._next() == "}":
            self.at += 1
            return
        while True:
            self.space()
            if self._next() != '"':
                self.refuse("looking for beginning of object key string")
            self._string()
            self.space()
            if self._next() != ":":
                self.refuse("after object key")
            self.at += 1
            self.value(depth + 1)
            self.space()
            letter = self._next()
            if letter not in (",", "}"):
                self.refuse("after object key:value pair")
            self.at += 1
            if letter == "}":
                return

    def _array(self, depth: int) -> None:
        self.at += 1
        self.space()
        if self._next() == "]":
            self.at += 1
            return
        while True:
            self.value(depth + 1)
            self.space()
            letter = self._next()
            if letter not in (",", "]"):
                self.refuse("after array element")
            self.at += 1
            if letter == "]":
                return

    def _string(self) -> None:
        self.at += 1
        while True:
            match = _PLAIN.match(self._text, self.at)
            assert match is not None
            self.at = match.end()
            letter = self._next()
            if letter == '"':
                self.at += 1
                return
            if letter != "\\":
                self.refuse("in string literal")
            self.at += 1
            letter = self._next()
            if not letter or letter not in 'bfnrt\\/"u':
                self.refuse("in string escape code")
            self.at += 1
            if letter != "u":
                continue
            for _ in range(4):
                digit = self._next()
                if not digit or digit not in "0123456789abcdefABCDEF":
                    self.refuse("in \\u hexadecimal character escape")
                self.at += 1

    def _literal(self, word: str) -> None:
        for letter in word:
            if self._next() != letter:
                self.refuse(f"in literal {word} (expecting '{letter}')")
            self.at += 1

    def _number(self) -> None:
        if self._next() == "-":
            self.at += 1
        if self._next() == "0":
            self.at += 1
        else:
            self._digits("in numeric literal")
        if self._next() == ".":
            self.at += 1
            self._digits("after decimal point in numeric literal")
        if self._next() in ("e", "E") and self._next():
            self.at += 1
            if self._next() in ("+", "-") and self._next():
                self.at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, where: str) -> None:
        start = self.at
        while self._next() and self._next() in "0123456789":
            self.at += 1
        if self.at == start:
            self.refuse(where)
