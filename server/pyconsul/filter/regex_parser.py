"""The syntax of RE2: a pattern's text in, its tree out.

Flags are resolved here: case folding is in the sets of characters, and laziness
in the repetitions. Error texts follow Go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyconsul.filter.regex_classes import (
    ANY,
    NOT_NEWLINE,
    CharSet,
    char_set,
    fold,
    negate,
    perl_class,
    posix_class,
    unicode_class,
)

REPEAT_MAX = 1000  # RE2: larger counts are an "invalid repeat count".
DEPTH_MAX = 100

START, NEWLINE, WORD_CHAR, OTHER, END = range(5)
"""What is beside a position: an edge of the text, or a kind of character."""


class RegexError(ValueError):
    """The pattern is wrong; the text is Go's, without a prefix."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"error parsing regexp: {what}: `{where}`")


@dataclass(slots=True, frozen=True)
class Char:
    """One character of a set."""

    chars: CharSet


@dataclass(slots=True, frozen=True)
class Assert:
    """An empty match where what is before and after passes the test."""

    test: Callable[[int, int], bool]


@dataclass(slots=True, frozen=True)
class Sequence:
    """One after the other."""

    items: list[Tree]


@dataclass(slots=True, frozen=True)
class Either:
    """One of them, the first that leads to a match."""

    items: list[Tree]


@dataclass(slots=True, frozen=True)
class Repeat:
    """``low`` to ``high`` times (``None``: no end); as often as can be, or ``lazy``."""

    item: Tree
    low: int
    high: int | None
    lazy: bool = False


@dataclass(slots=True, frozen=True)
class Group:
    """What ``item`` matches is the group ``number``, from 1."""

    item: Tree
    number: int


Tree = Char | Assert | Sequence | Either | Repeat | Group

_TEXT_START = Assert(lambda before, _: before == START)
_TEXT_END = Assert(lambda _, after: after == END)
_LINE_START = Assert(lambda before, _: before in (START, NEWLINE))
_LINE_END = Assert(lambda _, after: after in (END, NEWLINE))
_BOUNDARY = Assert(lambda before, after: (before == WORD_CHAR) != (after == WORD_CHAR))
_NO_BOUNDARY = Assert(
    lambda before, after: (before == WORD_CHAR) == (after == WORD_CHAR)
)

_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_OCTAL = frozenset("01234567")
_ANCHORS = {"A": _TEXT_START, "z": _TEXT_END, "b": _BOUNDARY, "B": _NO_BOUNDARY}


class _Parser:
    """Recursive descent over RE2 syntax; flags as in ``(?ims-ims)``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.flags: frozenset[str] = frozenset()
        self.depth = 0
        self.groups = 0
        """How many groups were opened so far."""

    def parse(self) -> Tree:
        tree = self.alternatives()
        if self.at < len(self.text):
            raise RegexError("unexpected )", self.text)
        return tree

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def alternatives(self) -> Tree:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise RegexError("expression nests too deeply", self.text)
        flags = self.flags
        items = [self.sequence()]
        while self.take("|"):
            items.append(self.sequence())
        self.flags = flags
        self.depth -= 1
        return items[0] if len(items) == 1 else Either(items)

    def sequence(self) -> Tree:
        items: list[Tree] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self.take("\\Q"):
                end = self.text.find("\\E", self.at)
                quoted = self.text[self.at : end if end >= 0 else None]
                self.at += len(quoted) + (2 if end >= 0 else 0)
                items += [self.literal(char) for char in quoted]
                if quoted:
                    items[-1] = self.repeated(items[-1])
                continue
            atom = self.atom()
            if atom is not None:
                items.append(self.repeated(atom))
        return items[0] if len(items) == 1 else Sequence(items)

    def repeated(self, atom: Tree) -> Tree:
        start = self.at
        bounds = self.repetition()
        if bounds is None:
            return atom
        # What is as short as can be otherwise is as long as can be under (?U).
        lazy = self.take("?") != ("U" in self.flags)
        second = self.at
        if self.repetition() is not None:
            raise RegexError(
                "invalid nested repetition operator", self.text[start : self.at]
            )
        self.at = second
        return Repeat(atom, *bounds, lazy)

    def repetition(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        if not self.peek("{"):
            return None
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        if end < 0 or not _is_count(low) or (high and not _is_count(high)):
            return None  # RE2: a brace that is no count is itself.
        where = self.text[self.at : end + 1]
        self.at = end + 1
        if len(low) > 4 or len(high) > 4:
            raise RegexError("invalid repeat count", where)
        most = int(high) if high else (None if comma else int(low))
        if int(low) > REPEAT_MAX or (most is not None and most > REPEAT_MAX):
            raise RegexError("invalid repeat count", where)
        if most is not None and most < int(low):
            raise RegexError("invalid repeat count", where)
        return int(low), most

    def literal(self, char: str) -> Tree:
        return self.of(char_set((char, char)))

    def of(self, chars: CharSet) -> Tree:
        return Char(fold(chars) if "i" in self.flags else chars)

    def atom(self) -> Tree | None:
        char = self.text[self.at]
        if char in "*+?":
            raise RegexError("missing argument to repetition operator", char)
        start = self.at
        if char == "{" and self.repetition() is not None:
            where = self.text[start : self.at]
            raise RegexError("missing argument to repetition operator", where)
        if char == "(":
            return self.group()
        if char == "[":
            return self.of(self.bracket())
        self.at += 1
        if char == ".":
            return Char(ANY if "s" in self.flags else NOT_NEWLINE)
        if char == "^":
            return _LINE_START if "m" in self.flags else _TEXT_START
        if char == "$":
            return _LINE_END if "m" in self.flags else _TEXT_END
        if char == "\\":
            if self.at < len(self.text) and self.text[self.at] in _ANCHORS:
                self.at += 1
                return _ANCHORS[self.text[self.at - 1]]
            return self.of(self.escape())
        return self.literal(char)

    def group(self) -> Tree | None:
        start = self.at
        flags = self.flags
        self.at += 1
        number = 0
        if not self.take("?"):
            number = self.next_group()
        elif self.take("P<") or (not self.peek("<=") and self.take("<")):
            self.group_name(start)
            number = self.next_group()
        elif not self.group_flags(start):
            return None  # ``(?i)``: from here to the end of the group
        tree = self.alternatives()
        if not self.take(")"):
            raise RegexError("missing closing )", self.text)
        self.flags = flags
        return Group(tree, number) if number else tree

    def next_group(self) -> int:
        self.groups += 1
        return self.groups

    def group_name(self, start: int) -> None:
        end = self.text.find(">", self.at)
        name = self.text[self.at : end]
        if end < 0:
            raise RegexError("invalid named capture", self.text[start:])
        if not (name.isascii() and name.replace("_", "a").isalnum()):
            raise RegexError("invalid named capture", self.text[start : end + 1])
        self.at = end + 1

    def group_flags(self, start: int) -> bool:
        """Set flags; true when ``:`` says that a group follows."""
        on = True
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == "-" and on:
                on = False
            elif char in "imsU":
                self.flags = self.flags | {char} if on else self.flags - {char}
            elif char in ":)":
                return char == ":"
            else:
                break
        where = self.text[start : self.at]
        raise RegexError("invalid or unsupported Perl syntax", where)

    def escape(self) -> CharSet:
        if self.at >= len(self.text):
            raise RegexError("trailing backslash at end of expression", "")
        char = self.text[self.at]
        self.at += 1
        chars = perl_class(char)
        if chars is not None:
            return chars
        if char in "pP":
            return self.unicode(char == "P")
        if char in _ESCAPES:
            return char_set((_ESCAPES[char], _ESCAPES[char]))
        if char == "x":
            return self.hexadecimal()
        if char == "0" or (
            char in _OCTAL and self.text[self.at : self.at + 1] in _OCTAL
        ):
            digits = char
            while len(digits) < 3 and self.text[self.at : self.at + 1] in _OCTAL:
                digits += self.text[self.at]
                self.at += 1
            return char_set((chr(int(digits, 8)), chr(int(digits, 8))))
        if not char.isascii() or char.isalnum():
            raise RegexError("invalid escape sequence", "\\" + char)
        return char_set((char, char))

    def hexadecimal(self) -> CharSet:
        start = self.at
        if self.take("{"):
            end = self.text.find("}", self.at)
            digits = self.text[self.at : end] if end >= 0 else ""
            self.at = end + 1
        else:
            digits = self.text[self.at : self.at + 2]
            self.at += 2
            digits = digits if len(digits) == 2 else ""
        hexadecimal = bool(digits) and set(digits) <= set("0123456789abcdefABCDEF")
        if not hexadecimal or len(digits) > 8 or int(digits, 16) > 0x10FFFF:
            raise RegexError(
                "invalid escape sequence", "\\" + self.text[start - 1 :][:4]
            )
        char = chr(int(digits, 16))
        return char_set((char, char))

    def unicode(self, negated: bool) -> CharSet:
        start = self.at - 2
        if self.take("{"):
            end = self.text.find("}", self.at)
            name = self.text[self.at : end] if end >= 0 else ""
            self.at = end + 1 if end >= 0 else len(self.text)
        else:
            name = self.text[self.at : self.at + 1]
            self.at += 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        chars = unicode_class(name)
        if chars is None:
            raise RegexError(
                "invalid character class range", self.text[start : self.at]
            )
        return negate(chars) if negated else chars

    def bracket(self) -> CharSet:
        start = self.at
        self.at += 1
        negated = self.take("^")
        parts: list[CharSet] = []
        first = True
        while first or not self.peek("]"):
            if self.at >= len(self.text):
                raise RegexError("missing closing ]", self.text[start:])
            first = False
            parts.append(self.bracket_part())
        self.at += 1
        chars = CharSet.union(parts)
        if "i" in self.flags:
            chars = fold(chars)
        return negate(chars) if negated else chars

    def bracket_part(self) -> CharSet:
        start = self.at
        if self.peek("[:"):
            end = self.text.find(":]", self.at)
            if end >= 0:
                name = self.text[self.at + 2 : end]
                self.at = end + 2
                chars = posix_class(name)
                if chars is None:
                    where = self.text[start : self.at]
                    raise RegexError("invalid character class range", where)
                return chars
        low = self.bracket_char()
        if low.single is None or not self.peek("-") or self.peek("-]"):
            return low
        self.at += 1
        if self.at >= len(self.text):
            raise RegexError("missing closing ]", self.text[start:])
        high = self.bracket_char()
        if high.single is None or high.single < low.single:
            where = self.text[start : self.at]
            raise RegexError("invalid character class range", where)
        return char_set((low.single, high.single))

    def bracket_char(self) -> CharSet:
        char = self.text[self.at]
        self.at += 1
        return self.escape() if char == "\\" else char_set((char, char))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def parse(pattern: str) -> tuple[Tree, int]:
    """Return a pattern's tree and its number of groups; raises ``RegexError``."""
    parser = _Parser(pattern)
    return parser.parse(), parser.groups
