"""Tokens of a Go template.

Text and actions alternate. Inside an action white space is a token of its own,
for ``.a .b`` and ``.a.b`` differ. Source: the documentation of text/template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from pyconsul_template.ctmpl.errors import GoSyntaxError

TEXT_CHARS_MAX = 16 * 1024 * 1024
"""A longer template is refused."""
_WHITE = " \t\r\n"


class Kind(Enum):
    """What a token is."""

    TEXT = auto()
    LEFT = auto()
    RIGHT = auto()
    SPACE = auto()
    STRING = auto()
    RAW = auto()
    CHAR = auto()
    NUMBER = auto()
    BOOL = auto()
    NIL = auto()
    DOT = auto()
    FIELD = auto()
    VARIABLE = auto()
    WORD = auto()
    KEYWORD = auto()
    DECLARE = auto()
    ASSIGN = auto()
    COMMA = auto()
    PIPE = auto()
    OPEN = auto()
    CLOSE = auto()
    END = auto()


class Token(NamedTuple):
    """A token with the offset at which it begins."""

    kind: Kind
    text: str
    at: int


KEYWORDS = frozenset(
    [
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "template",
        "block",
        "break",
        "continue",
    ]
)
_WORDS = {"true": Kind.BOOL, "false": Kind.BOOL, "nil": Kind.NIL}
_TOKEN = re.compile(
    r"""
    (?P<SPACE>[ \t\r\n]+)
  | (?P<STRING>"(?:[^"\\\n]|\\[^\n])*")
  | (?P<RAW>`[^`]*`)
  | (?P<CHAR>'(?:[^'\\\n]|\\[^\n])*')
  | (?P<NUMBER>[+-]?(?:
        0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]+)?
      | 0[oO][0-7_]+ | 0[bB][01_]+
      | (?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)i?)
  | (?P<FIELD>\.[^\W\d]\w*)
  | (?P<DOT>\.)
  | (?P<VARIABLE>\$\w*)
  | (?P<WORD>[^\W\d]\w*)
  | (?P<DECLARE>:=) | (?P<ASSIGN>=) | (?P<COMMA>,) | (?P<PIPE>\|)
  | (?P<OPEN>\() | (?P<CLOSE>\))
    """,
    re.VERBOSE,
)
_ENDS_AT_TERMINATOR = frozenset(
    (Kind.FIELD, Kind.VARIABLE, Kind.WORD, Kind.BOOL, Kind.KEYWORD, Kind.NIL)
)
_TERMINATORS = frozenset((*" \t\r\n.,|:)(", ""))


def line_of(text: str, at: int) -> int:
    """Return the line, from 1, of an offset."""
    return text.count("\n", 0, at) + 1


def line_starts(text: str) -> list[int]:
    """Return the offset of the beginning of each line."""
    starts = [0]
    while (end := text.find("\n", starts[-1])) >= 0:
        starts.append(end + 1)
    return starts


def tokens(text: str, left: str, right: str) -> tuple[list[Token], GoSyntaxError]:
    """Return the tokens of a template, and what is wrong behind the last of them.

    A parser that comes so far raises the error; a template without errors ends
    with ``Kind.END``. Raises ``GoSyntaxError`` for a text that is too long.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise GoSyntaxError(1, f"template is over {TEXT_CHARS_MAX} characters")
    found: list[Token] = []
    try:
        found.extend(_tokens(text, left, right))
    except GoSyntaxError as error:
        return found, error
    return found, GoSyntaxError(line_of(text, len(text)), "unexpected EOF")


def _tokens(text: str, left: str, right: str) -> Iterator[Token]:
    at, size, is_trimmed = 0, len(text), False
    while at < size:
        start = text.find(left, at)
        piece = text[at : start if start >= 0 else size]
        inside = start + len(left)
        trims_left = (
            start >= 0
            and text.startswith("-", inside)
            and text[inside + 1 : inside + 2] in tuple(_WHITE)
        )
        if is_trimmed:
            trimmed = piece.lstrip(_WHITE)
            at += len(piece) - len(trimmed)
            piece = trimmed
        if trims_left:
            piece = piece.rstrip(_WHITE)
            inside += 2
        if piece:
            yield Token(Kind.TEXT, piece, at)
        if start < 0:
            break
        comment_at = inside
        if text.startswith("/*", comment_at):
            at, is_trimmed = _after_comment(text, comment_at, right)
            continue
        yield Token(Kind.LEFT, left, start)
        for token in _action(text, start, inside, right):
            yield token
            if token.kind is Kind.RIGHT:
                at = token.at + len(token.text)
                is_trimmed = len(token.text) > len(right)
    yield Token(Kind.END, "", size)


def _after_comment(text: str, at: int, right: str) -> tuple[int, bool]:
    end = text.find("*/", at + 2)
    if end < 0:
        raise GoSyntaxError(line_of(text, at), "unclosed comment")
    end += 2
    if text.startswith(right, end):
        return end + len(right), False
    if text[end : end + 1] in tuple(_WHITE) and text.startswith("-" + right, end + 1):
        return end + 2 + len(right), True
    raise GoSyntaxError(line_of(text, at), "comment ends before closing delimiter")


def _action(text: str, start: int, at: int, right: str) -> Iterator[Token]:
    """Yield the tokens of one action up to its right delimiter."""
    depth = 0
    trim_right = "-" + right
    while True:
        length = 0
        if text.startswith(right, at):
            length = len(right)
        elif text[at : at + 1] in tuple(_WHITE) and text.startswith(trim_right, at + 1):
            length = len(trim_right) + 1
        if length:
            if depth:
                raise GoSyntaxError(line_of(text, at), "unclosed left paren")
            yield Token(Kind.RIGHT, text[at : at + length], at)
            return
        match = _TOKEN.match(text, at)
        if match is None:
            raise GoSyntaxError(line_of(text, at), _problem(text, at))
        name = match.lastgroup or ""
        kind, word = Kind[name], match[0]
        if kind is Kind.SPACE:
            # The last white space may belong to the trim marker.
            end = match.end()
            if text.startswith(trim_right, end):
                end -= 1
            if end > at:
                yield Token(kind, text[at:end], at)
            at = end
            continue
        if kind is Kind.WORD:
            kind = Kind.KEYWORD if word in KEYWORDS else _WORDS.get(word, kind)
        after = text[match.end() : match.end() + 1]
        if kind is Kind.NUMBER and (after.isalnum() or after == "_"):
            raise GoSyntaxError(
                line_of(text, at), f"bad number syntax: {(word + after)!r}"
            )
        if (
            kind in _ENDS_AT_TERMINATOR
            and after not in _TERMINATORS
            and not text.startswith(right, match.end())
        ):
            what = f"bad character U+{ord(after):04X} {after!r}"
            raise GoSyntaxError(line_of(text, match.end()), what)
        depth += (kind is Kind.OPEN) - (kind is Kind.CLOSE)
        if depth < 0:
            raise GoSyntaxError(line_of(text, at), "unexpected right paren")
        yield Token(kind, word, at)
        at = match.end()


def _problem(text: str, at: int) -> str:
    char = text[at : at + 1]
    match char:
        case "":
            return "unclosed action"
        case '"':
            return "unterminated quoted string"
        case "`":
            return "unterminated raw quoted string"
        case "'":
            return "unterminated character constant"
        case ":":
            return "expected :="
        case _:
            return f"unexpected {char!r} in action (U+{ord(char):04X})"
