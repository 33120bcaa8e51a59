"""Go's regular expressions by Python's: the syntax that both have, translated.

What Go's engine lacks (look-around, back-references) is refused as there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from pyconsul_template.ctmpl.errors import GoExecError

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_PERL = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_CATEGORY = re.compile(r"Any|[CLMNPSZ][a-z]?")
_REPEAT = re.compile(r"\{([0-9]+)(?:,([0-9]*))?\}")
REPEAT_MAX = 1000
"""Times that a repetition may ask for, as in Go."""
_POSIX = re.compile(r"\[:(\^?)(\w+):\]")
_GROUP = re.compile(
    r"\(\?(?:P?<(?P<name>\w+)>|(?P<flags>[imsU]*(?:-[imsU]+)?)(?P<end>[:)]))"
)
_EXPANSION = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)
PATTERN_CHARS_MAX = 4096


def _bad(text: str, what: str) -> GoExecError:
    return GoExecError(f"error parsing regexp: {what}: `{text}`")


def _ranges(is_in: Callable[[int], bool], codes: range) -> str:
    """Return the part of a class that holds those of the codes."""
    found: list[str] = []
    start: int | None = None
    for code in range(codes.start, codes.stop + 1):
        is_here = code < codes.stop and is_in(code)
        if is_here and start is None:
            start = code
        elif not is_here and start is not None:
            found.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(found)


@lru_cache
def _without(inner: str) -> str:
    """Return the part of a class that holds all but some of ASCII."""
    one = re.compile(f"[{inner}]")
    rest = _ranges(lambda code: not one.match(chr(code)), range(128))
    return rest + "\x80-\U0010ffff"


@lru_cache(16)
def _category(name: str, *, is_not: bool) -> str:
    """Return the part of a class that holds a general category of Unicode."""
    wanted = "" if name == "Any" else name
    return _ranges(
        lambda code: unicodedata.category(chr(code)).startswith(wanted) != is_not,
        range(0x110000),
    )


class _Translator:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._out: list[str] = []
        self._groups: list[tuple[int, bool]] = []
        """For each open group, brackets to close with it and the ``m`` outside."""
        self._multiline = False

    def translated(self) -> str:
        text = self._text
        self._groups.append((0, False))
        while self._at < len(text):
            char = text[self._at]
            match char:
                case "\\":
                    self._out.append(self._escape(in_class=False))
                case "[":
                    self._class()
                case "(":
                    self._open()
                case ")":
                    if len(self._groups) == 1:
                        raise _bad(text, "unexpected )")
                    extra, self._multiline = self._groups.pop()
                    self._out.append(")" * (extra + 1))
                    self._at += 1
                case "$":
                    self._out.append(r"(?=\n|\Z)" if self._multiline else r"\Z")
                    self._at += 1
                case "^":
                    self._out.append(r"(?:^|(?<=\n))" if self._multiline else r"\A")
                    self._at += 1
                case "{" if not _REPEAT.match(text, self._at):
                    self._out.append("\\{")
                    self._at += 1
                case "*" | "+" | "?" | "{":
                    self._repeat()
                    if text.startswith("+", self._at):
                        raise _bad(text, "invalid nested repetition operator")
                case _:
                    self._out.append(char)
                    self._at += 1
        extra, _ = self._groups.pop()
        if self._groups:
            raise _bad(text, "missing closing )")
        return "".join(self._out) + ")" * extra

    def _repeat(self) -> None:
        found = _REPEAT.match(self._text, self._at)
        if found is None:
            self._out.append(self._text[self._at])
            self._at += 1
            return
        if any(int(times[:10]) > REPEAT_MAX for times in found.groups() if times):
            raise _bad(found[0], "invalid repeat count")
        self._out.append(found[0])
        self._at = found.end()

    def _open(self) -> None:
        text = self._text
        if not text.startswith("(?", self._at):
            self._out.append("(")
            self._groups.append((0, self._multiline))
            self._at += 1
            return
        match = _GROUP.match(text, self._at)
        if match is None:
            raise _bad(text, "invalid or unsupported Perl syntax")
        self._at = match.end()
        if match["name"]:
            self._out.append(f"(?P<{match['name']}>")
            self._groups.append((0, self._multiline))
            return
        flags = match["flags"]
        if "U" in flags:
            raise _bad(text, "the flag U is not supported")
        on, _, off = flags.partition("-")
        outside = self._multiline
        if "m" in on:
            self._multiline = True
        if "m" in off:
            self._multiline = False
        kept = on.replace("m", "")
        dropped = off.replace("m", "")
        opening = f"(?{kept}{'-' + dropped if dropped else ''}:"
        self._out.append(opening)
        if match["end"] == ":":
            self._groups.append((0, outside))
        else:
            # The flags hold up to the end of the group around.
            extra, before = self._groups.pop()
            self._groups.append((extra + 1, before))

    def _escape(self, *, in_class: bool) -> str:
        text = self._text
        char = text[self._at + 1 : self._at + 2]
        self._at += 2
        if not char:
            raise _bad(text, "trailing backslash at end of expression")
        if char == "z" and not in_class:
            return r"\Z"
        if char == "Q" and not in_class:
            end = text.find("\\E", self._at)
            quoted = text[self._at : end if end >= 0 else len(text)]
            self._at += len(quoted) + (2 if end >= 0 else 0)
            return re.escape(quoted)
        if char in _PERL:
            return _PERL[char] if in_class else f"[{_PERL[char]}]"
        if char.lower() in _PERL:
            if in_class:
                return _without(_PERL[char.lower()])
            return f"[^{_PERL[char.lower()]}]"
        if char in "pP":
            return self._property(is_not=char == "P", in_class=in_class)
        if char == "x" and text.startswith("{", self._at):
            end = text.find("}", self._at)
            try:
                code = int(text[self._at + 1 : end], 16)
                self._at = end + 1
                return re.escape(chr(code))
            except (ValueError, OverflowError):
                raise _bad(text, "invalid escape sequence") from None
        if char in "AbBafnrtvx" or (char == "0" and not in_class):
            if char in "AB" and in_class:
                raise _bad(text, "invalid escape sequence")
            return "\\" + char
        if char.isalnum():
            raise _bad(text, "invalid escape sequence")
        return "\\" + char

    def _property(self, *, is_not: bool, in_class: bool) -> str:
        text = self._text
        if text.startswith("{", self._at):
            end = text.find("}", self._at)
            name = text[self._at + 1 : end]
            self._at = end + 1 if end >= 0 else len(text)
        else:
            name = text[self._at : self._at + 1]
            self._at += 1
        if name.startswith("^"):
            name, is_not = name[1:], not is_not
        if not _CATEGORY.fullmatch(name):
            raise _bad(text, "invalid character class range")
        inner = _category(name, is_not=is_not)
        if not inner:
            raise _bad(text, f"the class {name} is empty")
        return inner if in_class else f"[{inner}]"

    def _class(self) -> None:
        text = self._text
        self._at += 1
        found = ["["]
        if text.startswith("^", self._at):
            found.append("^")
            self._at += 1
        is_first = True
        while True:
            if self._at >= len(text):
                raise _bad(text, "missing closing ]")
            char = text[self._at]
            posix = _POSIX.match(text, self._at)
            if posix is not None:
                inner = _CLASSES.get(posix[2])
                if inner is None:
                    raise _bad(text, "invalid character class range")
                found.append(_without(inner) if posix[1] else inner)
                self._at = posix.end()
            elif char == "\\":
                found.append(self._escape(in_class=True))
            elif char == "]" and not is_first:
                self._at += 1
                break
            else:
                found.append("\\" + char if char in "[]&~|" else char)
                self._at += 1
            is_first = False
        found.append("]")
        self._out.append("".join(found))


@lru_cache(256)
def compiled(text: str) -> re.Pattern[str]:
    """Return the pattern of a Go expression; raises ``GoExecError``."""
    if len(text) > PATTERN_CHARS_MAX:
        raise GoExecError(f"regexp is over {PATTERN_CHARS_MAX} characters")
    try:
        return re.compile(_Translator(text).translated(), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise _bad(text, str(error)) from None


def matches(pattern: str, text: str) -> bool:
    """Return whether the pattern occurs in the text."""
    return compiled(pattern).search(text) is not None


def replace_all(pattern: str, replacement: str, text: str) -> str:
    """Return the text with each match replaced; ``$1`` and ``${1}`` are groups."""
    return replaced(pattern, lambda match: expand(replacement, match), text)


def expand(replacement: str, match: re.Match[str]) -> str:
    """Return a replacement with its groups; an unknown one is empty."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except (IndexError, ValueError):
            return ""

    return _EXPANSION.sub(group, replacement)


def replaced(
    pattern: str, replacement: Callable[[re.Match[str]], str], text: str
) -> str:
    """Return the text with each match replaced, as Go counts empty matches."""
    found: list[str] = []
    end, last = 0, -1
    for match in compiled(pattern).finditer(text):
        # An empty match next to the one before it is none.
        if match.start() == match.end() == last:
            continue
        found.append(text[end : match.start()])
        found.append(replacement(match))
        end = last = match.end()
    found.append(text[end:])
    return "".join(found)
