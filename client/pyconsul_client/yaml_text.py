"""YAML text of JSON-like data, in the block style of yaml.v2.

Texts are plain where they can be, in single quotes where a mark would be read
as YAML's, in double quotes where they would be another type or hold characters
that have to be escaped, and literal blocks where they have lines. Lines are
folded at spaces after 80 columns. Sources: YAML 1.1, and yaml.v2's output.
"""

from __future__ import annotations

import base64
import functools
import math
import re
from typing import Any, cast

from msgspec import Struct

DEPTH_MAX = 100
WIDTH = 80
"""Columns after which a text goes on in the next line."""
KEY_MAX = 128
"""Characters of a key that stands before its colon; a longer one has a mark."""

_OTHER_TYPES = re.compile(
    r"|~|null|Null|NULL|true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO"
    r"|on|On|ON|off|Off|OFF|y|Y|n|N|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"([Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})?)?"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
)
_NUMBER = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+"
    r"|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)"
)
_BREAKS = "\n\r\x85\u2028\u2029"
_BLANKS = frozenset((" ", "\t", "", *_BREAKS))
_ESCAPES = {
    **{"\0": "0", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f"},
    **{"\r": "r", "\x1b": "e", '"': '"', "\\": "\\", "\x85": "N", "\xa0": "_"},
    **{"\u2028": "L", "\u2029": "P"},
}


class Ordered(dict[str, Any]):
    """A map whose keys keep their order."""


def to_yaml(value: Any) -> str:
    """Return YAML without a final newline; keys sorted, texts quoted if needed.

    Raises ``ValueError`` for data that is nested too deeply.
    """
    emitter = _Emitter()
    emitter.node(value, -1, 0)
    return "".join(emitter.parts).rstrip("\n")


class _Emitter:
    """A text as it grows, and where its last line is."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._column = 0
        self._is_blank = True
        """Whether white space, or nothing, comes before."""
        self._is_indented = True
        """Whether only indentation and marks come before on this line."""

    # Pieces

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self._column += len(text)

    def _new_line(self, indent: int) -> None:
        indent = max(indent, 0)
        if (
            not self._is_indented
            or self._column > indent
            or (self._column == indent and not self._is_blank)
        ):
            self.parts.append("\n")
            self._column = 0
        self._put(" " * (indent - self._column))
        self._is_blank = self._is_indented = True

    def _mark(self, text: str, *, apart: bool = True, indents: bool = False) -> None:
        if apart and not self._is_blank:
            self._put(" ")
        self._put(text)
        self._is_blank = False
        self._is_indented = self._is_indented and indents

    # Nodes

    def node(
        self, value: Any, indent: int, depth: int, *, of_map: bool = False
    ) -> None:
        """Write a value into the collection that is indented by ``indent``."""
        if depth > DEPTH_MAX:
            raise ValueError(f"to_yaml: nested deeper than {DEPTH_MAX}")
        if isinstance(value, dict):
            self._map(cast("dict[Any, Any]", value), indent, depth)
        elif isinstance(value, list):
            # The dashes of a list below a key are at the key's own column.
            is_level = of_map and not self._is_indented
            own = indent if is_level else _deeper(indent)
            self._list(cast("list[Any]", value), own, depth)
        else:
            self._scalar(value, indent)

    def _map(self, pairs: dict[Any, Any], indent: int, depth: int) -> None:
        if not pairs:
            self._mark("{}")
            return
        own = _deeper(indent)
        keys = [str(key) for key in pairs]
        named = dict(zip(keys, pairs.values(), strict=True))
        if not isinstance(pairs, Ordered):
            keys.sort(key=functools.cmp_to_key(_compared))
        for key in keys:
            self._new_line(own)
            if len(key.encode("utf-8", "replace")) > KEY_MAX or _has_break(key):
                self._mark("?", indents=True)
                self._scalar(key, own)
                self._new_line(own)
                self._mark(":", indents=True)
            else:
                self._scalar(key, own, is_key=True)
                self._mark(":", apart=False)
            self.node(named[key], own, depth + 1, of_map=True)

    def _list(self, items: list[Any], indent: int, depth: int) -> None:
        if not items:
            self._mark("[]")
        for item in items:
            self._new_line(indent)
            self._mark("-", indents=True)
            self.node(item, indent, depth + 1)

    # Scalars

    def _scalar(self, value: Any, indent: int, *, is_key: bool = False) -> None:
        indent = 2 if indent < 0 else indent + 2
        if not isinstance(value, str):
            self._mark(_plain(value))
            return
        if any("\ud800" <= char <= "\udfff" for char in value):
            raw = value.encode("utf-8", "surrogateescape")
            self._mark("!!binary")
            value = base64.b64encode(raw).decode()
        shape = _shape(value)
        is_other = _is_other_type(value)
        if "\n" in value and shape.block and not is_key:
            self._literal(value, indent)
        elif "\n" in value or (is_other and "\n" not in value):
            self._double(value, indent, is_key=is_key)
        elif shape.plain:
            self._folded(value, indent, is_key=is_key)
        elif shape.single:
            self._mark("'")
            self._folded(value.replace("'", "''"), indent, is_key=is_key, quoted=True)
            self._mark("'", apart=False)
        else:
            self._double(value, indent, is_key=is_key)

    def _folded(
        self, text: str, indent: int, *, is_key: bool, quoted: bool = False
    ) -> None:
        if not quoted:
            self._mark("")
        end = len(text) - 1
        for at, char in enumerate(text):
            is_edge = quoted and at in (0, end)
            if (
                char == " "
                and not (is_key or is_edge or self._column <= WIDTH)
                and text[at - 1 : at] != " "
                and text[at + 1 : at + 2] != " "
            ):
                self._new_line(indent)
            else:
                self._put(char)
                self._is_indented = False
        self._is_blank = self._is_indented = False

    def _double(self, text: str, indent: int, *, is_key: bool) -> None:
        self._mark('"')
        end = len(text) - 1
        was_space = False
        for at, char in enumerate(text):
            if char == " ":
                can_fold = not (is_key or was_space or at in (0, end))
                if can_fold and self._column > WIDTH:
                    self._new_line(indent)
                    if text[at + 1] == " ":
                        self._put("\\")
                else:
                    self._put(char)
            else:
                self._put(_escaped(char))
                self._is_indented = False
            was_space = char == " "
        self._is_indented = False
        self._mark('"', apart=False)

    def _literal(self, text: str, indent: int) -> None:
        hint = "2" if text[0] in " " + _BREAKS else ""
        if text[-1] not in _BREAKS:
            chomp = "-"
        else:
            chomp = "+" if len(text) == 1 or text[-2] in _BREAKS else ""
        self._mark(f"|{hint}{chomp}")
        lines = re.split(f"[{_BREAKS}]", text)
        for number, line in enumerate(lines):
            is_last = number == len(lines) - 1
            if line or not is_last:
                self.parts.append("\n" + " " * indent * bool(line) + line)
        if not lines[-1]:
            self.parts.append("\n")
            self._column = 0
            self._is_blank = self._is_indented = True
            return
        self._column = indent + len(lines[-1])
        self._is_blank = self._is_indented = False


def _deeper(indent: int) -> int:
    return 0 if indent < 0 else indent + 2


def _plain(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case _:
            return repr(value)


# Texts


class _Shape(Struct):
    """In which forms a text may be written."""

    plain: bool
    single: bool
    block: bool


def _shape(text: str) -> _Shape:
    if not text:
        return _Shape(plain=True, single=True, block=False)
    is_marked = text.startswith(("---", "..."))
    has_breaks = is_special = break_space = space_break = False
    for at, char in enumerate(text):
        before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
        if at == 0:
            is_marked |= char in "#,[]{}&*!|>'\"%@`"
            is_marked |= char in "?:-" and after in _BLANKS
        else:
            is_marked |= char == ":" and after in _BLANKS
            is_marked |= char == "#" and before in _BLANKS
        is_special |= not _is_printable(char)
        if char == " ":
            break_space |= bool(before) and before in _BREAKS
        elif char in _BREAKS:
            has_breaks = True
            space_break |= before == " "
    edges = text[0] + text[-1]
    is_open = any(char == " " or char in _BREAKS for char in edges)
    is_wild = space_break or is_special
    return _Shape(
        plain=not (is_open or is_marked or has_breaks or break_space or is_wild),
        single=not (break_space or is_wild),
        block=not (text[-1] == " " or is_wild),
    )


def _has_break(text: str) -> bool:
    return any(char in _BREAKS for char in text)


def _is_printable(char: str) -> bool:
    code = ord(char)
    return (
        code == 0x0A
        or 0x20 <= code <= 0x7E
        or (0xA0 <= code < 0xD800)
        or (0xE000 <= code < 0xFFFE and code != 0xFEFF)
    )


def _escaped(char: str) -> str:
    if char not in _ESCAPES and _is_printable(char):
        return char
    if char in _ESCAPES and (char in '"\\' + _BREAKS or not _is_printable(char)):
        return "\\" + _ESCAPES[char]
    code = ord(char)
    if _is_printable(char):
        return char
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _is_other_type(text: str) -> bool:
    """Return whether a text, written plainly, would be no string."""
    if _OTHER_TYPES.fullmatch(text):
        return True
    if text[0] not in "+-.0123456789":
        return False
    return _NUMBER.fullmatch(text.replace("_", "")) is not None


def _compared(a: str, b: str) -> int:
    """Compare keys: letters after all else, numbers by their value."""
    for at, (left, right) in enumerate(zip(a, b, strict=False)):
        if left == right:
            continue
        if left.isalpha() != right.isalpha():
            return -1 if right.isalpha() else 1
        if left.isalpha():
            return -1 if left < right else 1
        first = second = 0
        if "0" in (left, right):
            # Behind a digit that is not 0, zeros count.
            digits = re.search(r"[0-9]*\Z", a[:at])
            if digits is not None and digits[0].strip("0"):
                first = second = 1
        left_number, right_number = _digits(a, at), _digits(b, at)
        first = int(f"{first}{left_number}")
        second = int(f"{second}{right_number}")
        if first != second:
            return -1 if first < second else 1
        if len(left_number) != len(right_number):
            return -1 if len(left_number) < len(right_number) else 1
        return -1 if left < right else 1
    return len(a) - len(b)


def _digits(text: str, at: int) -> str:
    """Return the digits of a text from a place on, few enough to be a number."""
    found = re.compile(r"[0-9]{0,1000}").match(text, at)
    return found[0] if found else ""
