"""RE2-style regular expressions: time linear in the text, whatever the pattern.

Patterns come from clients, so Python's backtracking ``re`` is out of the
question. A pattern is parsed (RE2 syntax), becomes a small program of
``_CHAR``/``_SPLIT``/``_ASSERT`` steps (Thompson), and is run by subset
construction: states are made when first met and kept in a bounded table.

``compile_regex(text).search(value)`` says whether the pattern occurs anywhere.
Error texts follow Go: ``error parsing regexp: missing closing ): `(```.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyconsul.filter.regex_classes import (
    ANY,
    NOT_NEWLINE,
    WORD,
    CharSet,
    char_set,
    fold,
    negate,
    perl_class,
    posix_class,
    unicode_class,
)

PATTERN_CHARS_MAX = 4096
"""Longer patterns are refused; nobody filters by a novel."""
PROGRAM_STEPS_MAX = 4000
"""Bounds the work per character; ``x{1000}`` alone takes 1000 steps."""
REPEAT_MAX = 1000  # RE2: larger counts are an "invalid repeat count".
DEPTH_MAX = 100
_TRANSITIONS_MAX = 5000

_CHAR, _SPLIT, _ASSERT, _MATCH = range(4)
_START, _NEWLINE, _WORD, _OTHER, _END = range(5)


class RegexError(ValueError):
    """The pattern is wrong; the text is Go's, without a prefix."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"error parsing regexp: {what}: `{where}`")


@dataclass(slots=True)
class _Step:
    kind: int
    chars: CharSet | None = None
    test: Callable[[int, int], bool] | None = None
    out: list[int] = field(default_factory=list[int])


@dataclass(slots=True, frozen=True)
class _Char:
    chars: CharSet


@dataclass(slots=True, frozen=True)
class _Assert:
    test: Callable[[int, int], bool]


@dataclass(slots=True, frozen=True)
class _Sequence:
    items: list[_Tree]


@dataclass(slots=True, frozen=True)
class _Either:
    items: list[_Tree]


@dataclass(slots=True, frozen=True)
class _Repeat:
    item: _Tree
    low: int
    high: int | None


_Tree = _Char | _Assert | _Sequence | _Either | _Repeat

_TEXT_START = _Assert(lambda before, _: before == _START)
_TEXT_END = _Assert(lambda _, after: after == _END)
_LINE_START = _Assert(lambda before, _: before in (_START, _NEWLINE))
_LINE_END = _Assert(lambda _, after: after in (_END, _NEWLINE))
_BOUNDARY = _Assert(lambda before, after: (before == _WORD) != (after == _WORD))
_NO_BOUNDARY = _Assert(lambda before, after: (before == _WORD) == (after == _WORD))

_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ANCHORS = {"A": _TEXT_START, "z": _TEXT_END, "b": _BOUNDARY, "B": _NO_BOUNDARY}


class _Parser:
    """Recursive descent over RE2 syntax; flags as in ``(?ims-ims)``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.flags: frozenset[str] = frozenset()
        self.depth = 0

    def parse(self) -> _Tree:
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

    def alternatives(self) -> _Tree:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise RegexError("expression nests too deeply", self.text)
        flags = self.flags
        items = [self.sequence()]
        while self.take("|"):
            items.append(self.sequence())
        self.flags = flags
        self.depth -= 1
        return items[0] if len(items) == 1 else _Either(items)

    def sequence(self) -> _Tree:
        items: list[_Tree] = []
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
        return items[0] if len(items) == 1 else _Sequence(items)

    def repeated(self, atom: _Tree) -> _Tree:
        start = self.at
        bounds = self.repetition()
        if bounds is None:
            return atom
        self.take("?")  # Laziness changes what is captured, not whether it matches.
        second = self.at
        if self.repetition() is not None:
            raise RegexError(
                "invalid nested repetition operator", self.text[start : self.at]
            )
        self.at = second
        return _Repeat(atom, *bounds)

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

    def literal(self, char: str) -> _Tree:
        return self.of(char_set((char, char)))

    def of(self, chars: CharSet) -> _Tree:
        return _Char(fold(chars) if "i" in self.flags else chars)

    def atom(self) -> _Tree | None:
        char = self.text[self.at]
        if char in "*+?":
            raise RegexError("missing argument to repetition operator", char)
        if char == "(":
            return self.group()
        if char == "[":
            return self.of(self.bracket())
        self.at += 1
        if char == ".":
            return _Char(ANY if "s" in self.flags else NOT_NEWLINE)
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

    def group(self) -> _Tree | None:
        start = self.at
        flags = self.flags
        self.at += 1
        if self.take("?"):
            if self.take("P<") or (not self.peek("<=") and self.take("<")):
                self.group_name(start)
            elif not self.group_flags(start):
                return None  # ``(?i)``: from here to the end of the group
        tree = self.alternatives()
        if not self.take(")"):
            raise RegexError("missing closing )", self.text)
        self.flags = flags
        return tree

    def group_name(self, start: int) -> None:
        end = self.text.find(">", self.at)
        name = self.text[self.at : end]
        if end < 0 or not name.replace("_", "a").isalnum():
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
        if char == "0":
            digits = char
            while len(digits) < 3 and self.text[self.at : self.at + 1] in tuple(
                "01234567"
            ):
                digits += self.text[self.at]
                self.at += 1
            return char_set((chr(int(digits, 8)), chr(int(digits, 8))))
        if char.isascii() and char.isalnum():
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


class _Assembler:
    """Turns a tree into steps, back to front: each part knows what follows."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.steps = [_Step(_MATCH)]

    def add(self, step: _Step) -> int:
        if len(self.steps) >= PROGRAM_STEPS_MAX:
            raise RegexError("expression too large", self.pattern)
        self.steps.append(step)
        return len(self.steps) - 1

    def emit(self, tree: _Tree, then: int) -> int:
        """Add ``tree`` before step ``then``; returns where it begins."""
        if isinstance(tree, _Char):
            return self.add(_Step(_CHAR, chars=tree.chars, out=[then]))
        if isinstance(tree, _Assert):
            return self.add(_Step(_ASSERT, test=tree.test, out=[then]))
        if isinstance(tree, _Sequence):
            for item in reversed(tree.items):
                then = self.emit(item, then)
            return then
        if isinstance(tree, _Either):
            starts = [self.emit(item, then) for item in tree.items]
            return self.add(_Step(_SPLIT, out=starts))
        if tree.high is None:
            loop = self.add(_Step(_SPLIT, out=[then]))
            self.steps[loop].out.append(self.emit(tree.item, loop))
            then = loop
        else:
            after = then
            for _ in range(tree.high - tree.low):
                then = self.add(_Step(_SPLIT, out=[self.emit(tree.item, then), after]))
        for _ in range(tree.low):
            then = self.emit(tree.item, then)
        return then


class _State:
    """A set of steps, and the kind of the character before it."""

    __slots__ = ("after", "before", "steps")

    def __init__(self, steps: frozenset[int], before: int) -> None:
        self.steps = steps
        self.before = before
        self.after: dict[str, _State | None] = {}


class Regex:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > PATTERN_CHARS_MAX:
            raise RegexError("expression too large", pattern[:40] + "...")
        assembler = _Assembler(pattern)
        self._start = assembler.emit(_Parser(pattern).parse(), 0)
        self._steps = assembler.steps
        self._reset()

    def _reset(self) -> None:
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._transitions = 0
        self._first = self._state(frozenset((self._start,)), _START)

    def search(self, text: str) -> bool:
        """Tell whether the pattern occurs in ``text``."""
        state = self._first
        for char in text:
            try:
                following = state.after[char]
            except KeyError:
                following = self._advance(state, char)
            if following is None:
                return True
            state = following
        return 0 in self._closure(state, _END)

    def _state(self, steps: frozenset[int], before: int) -> _State:
        found = self._states.get((steps, before))
        if found is None:
            found = self._states[steps, before] = _State(steps, before)
        return found

    def _advance(self, state: _State, char: str) -> _State | None:
        """The state after ``char``; ``None`` when already matched."""
        if self._transitions >= _TRANSITIONS_MAX:
            self._reset()
        self._transitions += 1
        kind = _NEWLINE if char == "\n" else _WORD if WORD.has(char) else _OTHER
        reached = self._closure(state, kind)
        following: _State | None = None
        if 0 not in reached:
            steps = {self._start}  # A match may begin anywhere.
            for index in reached:
                step = self._steps[index]
                if step.chars is not None and step.chars.has(char):
                    steps.add(step.out[0])
            following = self._state(frozenset(steps), kind)
        state.after[char] = following
        return following

    def _closure(self, state: _State, after: int) -> set[int]:
        seen: set[int] = set()
        pending = list(state.steps)
        while pending:
            index = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            step = self._steps[index]
            if step.kind == _SPLIT or (
                step.test is not None and step.test(state.before, after)
            ):
                pending += step.out
        return seen


def compile_regex(pattern: str) -> Regex:
    """Compile RE2 syntax; raises ``RegexError``."""
    return Regex(pattern)
