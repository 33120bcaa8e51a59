"""Character sets of RE2: ranges, Perl, POSIX and Unicode classes."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable

_LAST = chr(0x10FFFF)


class CharSet:
    """Characters by range, with tests for what has no ranges (``\\pL``)."""

    __slots__ = ("_highs", "_lows", "_negated", "_tests", "single")

    def __init__(
        self,
        ranges: Iterable[tuple[str, str]],
        tests: tuple[Callable[[str], bool], ...] = (),
        *,
        negated: bool = False,
    ) -> None:
        merged: list[tuple[str, str]] = []
        for low, high in sorted(ranges):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._lows = [low for low, _ in merged]
        self._highs = [high for _, high in merged]
        self._tests = tests
        self._negated = negated
        plain = not negated and not tests and len(merged) == 1
        self.single = (
            self._lows[0] if plain and self._lows[0] == self._highs[0] else None
        )
        """The character, when there is exactly one."""

    def has(self, char: str) -> bool:
        """Tell whether ``char`` is in the set."""
        at = bisect_right(self._lows, char) - 1
        found = (at >= 0 and char <= self._highs[at]) or any(
            test(char) for test in self._tests
        )
        return found != self._negated

    @staticmethod
    def union(parts: Iterable[CharSet]) -> CharSet:
        """Everything that is in any of ``parts``."""
        ranges: list[tuple[str, str]] = []
        tests: list[Callable[[str], bool]] = []
        for part in parts:
            if part._negated:
                tests.append(part.has)
            else:
                ranges += zip(part._lows, part._highs, strict=True)
                tests += part._tests
        return CharSet(ranges, tuple(tests))


def char_set(*ranges: tuple[str, str]) -> CharSet:
    """The set of the inclusive ``ranges``."""
    return CharSet(ranges)


def negate(chars: CharSet) -> CharSet:
    """Everything else."""
    return CharSet((), (chars.has,), negated=True)


def fold(chars: CharSet) -> CharSet:
    """The set without regard to case."""
    if chars.single is not None and not chars.single.isalpha():
        return chars
    has = chars.has

    def either_case(char: str) -> bool:
        return has(char) or has(char.lower()) or has(char.upper())

    return CharSet((), (either_case,))


ANY = char_set(("\0", _LAST))
NOT_NEWLINE = char_set(("\0", "\t"), ("\x0b", _LAST))
_DIGIT = (("0", "9"),)
_LOWER = (("a", "z"),)
_UPPER = (("A", "Z"),)
_ALPHA = _LOWER + _UPPER
_WORD_RANGES = (*_DIGIT, *_ALPHA, ("_", "_"))
_PERL_SPACE = (("\t", "\n"), ("\f", "\r"), (" ", " "))  # RE2: no vertical tab
WORD = CharSet(_WORD_RANGES)

_PERL: dict[str, CharSet] = {}
for _name, _ranges in (("d", _DIGIT), ("w", _WORD_RANGES), ("s", _PERL_SPACE)):
    _PERL[_name] = CharSet(_ranges)
    _PERL[_name.upper()] = negate(_PERL[_name])

_POSIX = {
    "alnum": CharSet(_DIGIT + _ALPHA),
    "alpha": CharSet(_ALPHA),
    "ascii": char_set(("\0", "\x7f")),
    "blank": char_set(("\t", "\t"), (" ", " ")),
    "cntrl": char_set(("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": CharSet(_DIGIT),
    "graph": char_set(("!", "~")),
    "lower": CharSet(_LOWER),
    "print": char_set((" ", "~")),
    "punct": char_set(("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": char_set(("\t", "\r"), (" ", " ")),
    "upper": CharSet(_UPPER),
    "word": WORD,
    "xdigit": CharSet((*_DIGIT, ("A", "F"), ("a", "f"))),
}
_CATEGORY_PARTS = "L:ultmo M:nce N:dlo P:cdseifo S:mcko Z:slp C:cfos"
_CATEGORIES = frozenset(
    major + minor
    for major, _, minors in (part.partition(":") for part in _CATEGORY_PARTS.split())
    for minor in ("", *minors)
)


def perl_class(letter: str) -> CharSet | None:
    r"""``\d``, ``\W`` and so on; ``None`` for other letters."""
    return _PERL.get(letter)


def posix_class(name: str) -> CharSet | None:
    """``alpha``, ``^digit``...; ``None`` when there is no such class."""
    if name.startswith("^"):
        chars = _POSIX.get(name[1:])
        return None if chars is None else negate(chars)
    return _POSIX.get(name)


def unicode_class(name: str) -> CharSet | None:
    """A general category such as ``L`` or ``Nd``; scripts are not known here."""
    if name == "Any":
        return ANY
    if name not in _CATEGORIES:
        return None

    def in_category(char: str) -> bool:
        return unicodedata.category(char).startswith(name)

    return CharSet((), (in_category,))
