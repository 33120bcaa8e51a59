"""Filter expressions: text to tree (reference: HTTP API, section 3).

A hand-written descent over the published PEG grammar. As a PEG does, it takes
the first alternative that fits, and reports the furthest place where nothing
fitted with everything that would have: ``1:2 (1): no match found, expected:
...`` (line, column, offset in bytes).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

DEPTH_MAX = 60
"""Nesting of parentheses and ``not``: the descent takes six frames a level."""

_BLANK = re.compile(r"[ \t\r\n]+")
_IDENT = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_RAW = re.compile(r"`[^`]*`")
_QUOTED = re.compile(r'"[^"]*"')
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))"
)
_SIMPLE_ESCAPES = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34,
}  # fmt: skip

_BLANK_CLASS = "[ \\t\\r\\n]"
_VALUE_STARTS = ('"-"', '"0"', '"\\""', '"`"', "[1-9]", "[a-zA-Z]")


class Operator(StrEnum):
    """Matching operators, under the names that error texts show."""

    EQUAL = "Equal"
    NOT_EQUAL = "Not Equal"
    IN = "In"
    NOT_IN = "Not In"
    IS_EMPTY = "Is Empty"
    IS_NOT_EMPTY = "Is Not Empty"
    MATCHES = "Matches"
    NOT_MATCHES = "Not Matches"


@dataclass(slots=True, frozen=True)
class Match:
    """One comparison; ``value`` is the raw text, "" for emptiness."""

    selector: tuple[str, ...]
    operator: Operator
    value: str


@dataclass(slots=True, frozen=True)
class Not:
    """Negation."""

    inner: Expression


@dataclass(slots=True, frozen=True)
class AllOf:
    """``and`` of two or more."""

    parts: tuple[Expression, ...]


@dataclass(slots=True, frozen=True)
class AnyOf:
    """``or`` of two or more."""

    parts: tuple[Expression, ...]


Expression = Match | Not | AllOf | AnyOf
_Rule = Callable[[], Expression | None]
_Joint = type[AllOf] | type[AnyOf]


class ParseError(ValueError):
    """The text is no expression; the text says where and what was expected."""


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.furthest = 0
        self.expected: set[str] = set()

    def parse(self) -> Expression:
        self.blank(needed=False)
        tree = self.either()
        if tree is None:
            raise self.error()
        self.blank(needed=False)
        if self.at < len(self.text):
            self.miss("EOF")
            raise self.error()
        return tree

    # -- what was expected where -------------------------------------------

    def miss(self, *expected: str) -> None:
        if self.at > self.furthest:
            self.furthest = self.at
            self.expected.clear()
        if self.at == self.furthest:
            self.expected.update(expected)

    def error(self) -> ParseError:
        before = self.text[: self.furthest]
        line = before.count("\n") + 1
        column = self.furthest - (before.rfind("\n") + 1) + 1
        offset = len(before.encode("utf-8", "surrogateescape"))
        names = sorted(self.expected - {"EOF"})
        if "EOF" in self.expected:
            names.append("EOF")
        listed = ", ".join(names[:-1]) + " or " if len(names) > 1 else ""
        place = f"{line}:{column} ({offset})"
        return ParseError(f"{place}: no match found, expected: {listed}{names[-1]}")

    # -- tokens ------------------------------------------------------------

    def blank(self, *, needed: bool) -> bool:
        found = _BLANK.match(self.text, self.at)
        if found:
            self.at = found.end()
        self.miss(_BLANK_CLASS)
        return found is not None or not needed

    def word(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        self.miss(f'"{text}"')
        return False

    def words(self, *texts: str) -> bool:
        """Blank-separated words, with a blank before each; all or nothing."""
        start = self.at
        for text in texts:
            if not (self.blank(needed=True) and self.word(text)):
                self.at = start
                return False
        return True

    # -- rules -------------------------------------------------------------

    def either(self) -> Expression | None:
        return self.joined("or", self.both, AnyOf)

    def both(self) -> Expression | None:
        return self.joined("and", self.negated, AllOf)

    def joined(self, keyword: str, rule: _Rule, kind: _Joint) -> Expression | None:
        first = rule()
        if first is None:
            return None
        parts = [first]
        while True:
            start = self.at
            following = None
            if self.words(keyword) and self.blank(needed=True):
                following = rule()
            if following is None:
                self.at = start
                return first if len(parts) == 1 else kind(tuple(parts))
            parts.append(following)

    def negated(self) -> Expression | None:
        start = self.at
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise ParseError("the expression nests too deeply")
        tree = None
        if self.word("not") and self.blank(needed=True):
            inner = self.negated()
            tree = None if inner is None else Not(inner)
        if tree is None:
            self.at = start
            tree = self.group()
        self.depth -= 1
        return tree

    def group(self) -> Expression | None:
        start = self.at
        if self.word("("):
            self.blank(needed=False)
            tree = self.either()
            if tree is not None:
                self.blank(needed=False)
                if self.word(")"):
                    return tree
            self.at = start
            return None
        return self.selector_first() or self.value_first()

    def selector_first(self) -> Expression | None:
        start = self.at
        selector = self.selector()
        if selector is not None:
            operator = self.comparison()
            if operator is not None:
                value = self.value()
                if value is not None:
                    return Match(selector, operator, value)
            elif self.words("is"):
                if self.words("empty"):
                    return Match(selector, Operator.IS_EMPTY, "")
                if self.words("not", "empty"):
                    return Match(selector, Operator.IS_NOT_EMPTY, "")
        self.at = start
        return None

    def comparison(self) -> Operator | None:
        start = self.at
        self.blank(needed=False)
        for sign, operator in (("==", Operator.EQUAL), ("!=", Operator.NOT_EQUAL)):
            if self.word(sign):
                self.blank(needed=False)
                return operator
        self.at = start
        for words, operator in (
            (("contains",), Operator.IN),
            (("not", "contains"), Operator.NOT_IN),
            (("matches",), Operator.MATCHES),
            (("not", "matches"), Operator.NOT_MATCHES),
        ):
            if self.words(*words) and self.blank(needed=True):
                return operator
            self.at = start
        return None

    def value_first(self) -> Expression | None:
        start = self.at
        value = self.value()
        if value is not None:
            for words, operator in (
                (("in",), Operator.IN),
                (("not", "in"), Operator.NOT_IN),
            ):
                before = self.at
                if self.words(*words) and self.blank(needed=True):
                    selector = self.selector()
                    if selector is not None:
                        return Match(selector, operator, value)
                self.at = before
        self.at = start
        return None

    def selector(self) -> tuple[str, ...] | None:
        found = _IDENT.match(self.text, self.at)
        if not found:
            self.miss("[a-zA-Z]")
            return None
        parts = [found.group()]
        self.at = found.end()
        while True:
            part = self.selector_part()
            if part is None:
                return tuple(parts)
            parts.append(part)

    def selector_part(self) -> str | None:
        start = self.at
        if self.word("."):
            found = _IDENT.match(self.text, self.at)
            if found:
                self.at = found.end()
                return found.group()
            self.miss("[a-zA-Z]")
        elif self.word("["):
            self.blank(needed=False)
            text = self.string()
            if text is not None:
                self.blank(needed=False)
                if self.word("]"):
                    return text
        self.at = start
        return None

    def value(self) -> str | None:
        selector = self.selector()
        if selector is not None:
            return ".".join(selector)
        found = _NUMBER.match(self.text, self.at)
        if found and self.text[found.end() : found.end() + 1] in " \t\r\n)":
            self.at = found.end()
            return found.group()
        text = self.string()
        if text is None:
            self.miss(*_VALUE_STARTS)
        return text

    def string(self) -> str | None:
        found = _RAW.match(self.text, self.at)
        if found:
            self.at = found.end()
            return found.group()[1:-1]
        found = _QUOTED.match(self.text, self.at)
        if found:
            text = _unquote(found.group()[1:-1])
            if text is not None:
                self.at = found.end()
                return text
        self.miss('"\\""', '"`"')
        return None


def _unquote(text: str) -> str | None:
    """Undo Go's escapes; ``None`` when one is invalid, or a line ends.

    The grammar ends a text at the first quote, so that one with a quote in it is
    written between backquotes.
    """
    if "\n" in text:
        return None
    if "\\" not in text:
        return text
    data = bytearray()
    at = 0
    while at < len(text):
        if text[at] != "\\":
            end = text.find("\\", at)
            end = len(text) if end < 0 else end
            data += text[at:end].encode("utf-8", "surrogateescape")
            at = end
            continue
        found = _ESCAPE.match(text, at)
        if not found:
            return None
        byte, short, long, octal, simple = found.groups()
        if byte or octal:
            number = int(byte, 16) if byte else int(octal, 8)
            if number > 255:
                return None
            data.append(number)
        elif short or long:
            number = int(short or long, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                return None
            data += chr(number).encode()
        else:
            if simple not in _SIMPLE_ESCAPES:
                return None
            data.append(_SIMPLE_ESCAPES[simple])
        at = found.end()
    return data.decode("utf-8", "surrogateescape")


def parse(text: str) -> Expression:
    """Parse an expression; raises ``ParseError``."""
    return _Parser(text).parse()
