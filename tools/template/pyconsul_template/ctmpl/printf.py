"""``printf`` in Go's words: verbs, flags, width, precision, argument indexes.

Misuse is not an error but part of the text: ``%!d(string=x)``, ``%!d(BADINDEX)``,
``%!s(MISSING)`` and ``%!(EXTRA int=1)``. Source: the documentation of fmt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from pyconsul_template.ctmpl.values import (
    bounded,
    float_text,
    go_bytes,
    keys_sorted,
    printed,
    struct_values,
    type_name,
)

WIDTH_MAX = 1_000_000
_FLAGS = "+-# 0"


class _Spec(Struct):
    flags: set[str]
    width: int | None = None
    precision: int | None = None


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """Return a string as a Go literal in double quotes."""
    inner = (_quoted_char(char, '"', ascii_only=ascii_only) for char in text)
    return f'"{"".join(inner)}"'


_ESCAPES = {
    **{"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"},
    **{"\t": "\\t", "\v": "\\v", "\\": "\\\\"},
}


def _quoted_char(char: str, quote: str, *, ascii_only: bool) -> str:
    code = ord(char)
    if char == quote:
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and (code < 128 or not ascii_only):
        return char
    if code < 128:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printf(layout: str, *args: Any) -> str:
    """Return ``layout`` with its verbs replaced by the arguments."""
    return bounded(_Printf(layout, args).text())


class _Printf:
    def __init__(self, layout: str, args: Sequence[Any]) -> None:
        self._layout = layout
        self._args = args
        self._at = 0
        self._arg = 0
        self._is_reordered = False
        self._is_good_index = True

    def text(self) -> str:
        layout, found = self._layout, list[str]()
        end = len(layout)
        while self._at < end:
            start = layout.find("%", self._at)
            if start < 0:
                found.append(layout[self._at :])
                break
            found.append(layout[self._at : start])
            self._at = start + 1
            found.append(self._directive())
        if not self._is_reordered and self._arg < len(self._args):
            extra = ", ".join(
                "<nil>" if arg is None else f"{type_name(arg)}={printed(arg)}"
                for arg in self._args[self._arg :]
            )
            found.append(f"%!(EXTRA {extra})")
        return "".join(found)

    def _char(self) -> str:
        return self._layout[self._at : self._at + 1]

    def _directive(self) -> str:
        self._is_good_index = True
        spec = _Spec(set())
        notes = ""
        while (char := self._char()) and char in _FLAGS:
            spec.flags.add(char)
            self._at += 1
        had_index = self._index()
        if self._char() == "*":
            self._at += 1
            spec.width = self._star()
            if spec.width is None:
                notes += "%!(BADWIDTH)"
            elif spec.width < 0:
                spec.width = -spec.width
                spec.flags.add("-")
            had_index = False
        else:
            spec.width = self._number()
            if had_index and spec.width is not None:
                self._is_good_index = False
        if self._char() == ".":
            self._at += 1
            if had_index:
                self._is_good_index = False
            had_index = self._index()
            if self._char() == "*":
                self._at += 1
                spec.precision = self._star()
                if spec.precision is None or spec.precision < 0:
                    spec.precision = None
                    notes += "%!(BADPREC)"
                had_index = False
            else:
                spec.precision = self._number() or 0
        if not had_index:
            self._index()
        verb = self._char()
        if not verb:
            return notes + "%!(NOVERB)"
        self._at += 1
        if "-" in spec.flags:
            spec.flags.discard("0")
        return notes + self._verb(verb, spec)

    def _verb(self, verb: str, spec: _Spec) -> str:
        if verb == "%":
            return "%"
        if not self._is_good_index:
            return f"%!{verb}(BADINDEX)"
        if self._arg >= len(self._args):
            return f"%!{verb}(MISSING)"
        arg = self._args[self._arg]
        self._arg += 1
        return formatted(verb, arg, spec)

    def _number(self) -> int | None:
        start = self._at
        while "0" <= self._char() <= "9":
            self._at += 1
        digits = self._layout[start : self._at]
        if not digits:
            return None
        return min(int(digits[:10]), WIDTH_MAX)

    def _index(self) -> bool:
        if self._char() != "[":
            return False
        self._is_reordered = True
        end = self._layout.find("]", self._at)
        if end < 0:
            self._is_good_index = False
            self._at += 1
            return False
        number = self._layout[self._at + 1 : end]
        self._at = end + 1
        if number.isascii() and number.isdigit() and len(number) < 8:
            index = int(number)
            if 1 <= index <= len(self._args):
                self._arg = index - 1
                return True
        self._is_good_index = False
        return True

    def _star(self) -> int | None:
        if self._arg >= len(self._args):
            return None
        value = self._args[self._arg]
        self._arg += 1
        if isinstance(value, int) and not isinstance(value, bool):
            return value if abs(value) <= WIDTH_MAX else None
        return None


def formatted(verb: str, value: Any, spec: _Spec) -> str:
    """Return one value by one verb."""
    if verb == "T":
        return _padded(_cut(type_name(value), spec), spec)
    if value is None:
        return _padded("<nil>", spec) if verb == "v" else f"%!{verb}(<nil>)"
    if verb == "p":
        return _bad(verb, value)
    if verb == "v" and "#" in spec.flags:
        return _padded(go_syntax(value), spec)
    if verb == "v" and "+" in spec.flags and not isinstance(value, msgspec.Struct):
        # Of %+v only structs take notice.
        spec = _Spec(spec.flags - {"+"}, spec.width, spec.precision)
    text = _scalar(verb, value, spec)
    return _bad(verb, value) if text is None else text


def _scalar(verb: str, value: Any, spec: _Spec) -> str | None:
    kind = value.__class__
    if kind is bool:
        return _padded(printed(value), spec) if verb in "tv" else None
    if isinstance(value, int):
        return _int(verb, value, spec)
    if kind is float:
        return _float(verb, value, spec)
    if kind is str:
        return _string(verb, value, spec)
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        inner = " ".join(
            f"{formatted(verb, key, spec)}:{formatted(verb, found[key], spec)}"
            for key in keys_sorted(found)
        )
        return f"map[{inner}]"
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return f"[{' '.join(formatted(verb, item, spec) for item in items)}]"
    if isinstance(value, msgspec.Struct):
        parts = [
            (f"{name}:" if "+" in spec.flags and verb == "v" else "")
            + formatted(verb, item, spec)
            for name, item in struct_values(value)
        ]
        return f"&{{{' '.join(parts)}}}"
    return _padded(str(value), spec)


def _bad(verb: str, value: Any) -> str:
    return f"%!{verb}({type_name(value)}={printed(value)})"


def _padded(text: str, spec: _Spec, *, zeros: bool = False) -> str:
    width = spec.width
    if width is None or len(text) >= width:
        return text
    if "-" in spec.flags:
        return text.ljust(width)
    return text.rjust(width, "0" if zeros and "0" in spec.flags else " ")


def _cut(text: str, spec: _Spec) -> str:
    return text if spec.precision is None else text[: spec.precision]


def _string(verb: str, text: str, spec: _Spec) -> str | None:
    if verb in "vs":
        return _padded(_cut(text, spec), spec, zeros=True)
    if verb == "q":
        text = _cut(text, spec)
        if "#" in spec.flags and "`" not in text and text.isprintable():
            return _padded(f"`{text}`", spec, zeros=True)
        return _padded(quoted(text, ascii_only="+" in spec.flags), spec, zeros=True)
    if verb in "xX":
        raw = go_bytes(text)
        if spec.precision is not None:
            raw = raw[: spec.precision]
        digits = [f"{byte:02x}" for byte in raw]
        prefix = "0x" if "#" in spec.flags and raw else ""
        if " " in spec.flags:
            found = " ".join(prefix + pair for pair in digits)
        else:
            found = prefix + "".join(digits)
        return _padded(found.upper() if verb == "X" else found, spec, zeros=True)
    return None


_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}


def _int(verb: str, value: int, spec: _Spec) -> str | None:
    if verb in "cqU":
        return _rune(verb, value, spec)
    if verb not in _BASES:
        return None
    digits = format(abs(value), _BASES[verb])
    sign = "-" if value < 0 else "+" if "+" in spec.flags else ""
    if not sign and " " in spec.flags:
        sign = " "
    if spec.precision is not None:
        digits = "" if not (spec.precision or value) else digits
        digits = digits.rjust(spec.precision, "0")
    elif "0" in spec.flags and spec.width is not None:
        digits = digits.rjust(spec.width - len(sign), "0")
    prefix = ""
    if verb == "O":
        prefix = "0o"
    elif "#" in spec.flags:
        prefix = {"b": "0b", "x": "0x", "X": "0X"}.get(verb, "")
        if verb == "o" and not digits.startswith("0"):
            prefix = "0"
    return _padded(sign + prefix + digits, spec)


def _rune(verb: str, value: int, spec: _Spec) -> str:
    is_valid = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
    char = chr(value) if is_valid else "\ufffd"
    if verb == "c":
        return _padded(char, spec)
    if verb == "q":
        body = _quoted_char(char, "'", ascii_only="+" in spec.flags)
        return _padded(f"'{body}'", spec)
    text = f"U+{value:0{max(4, spec.precision or 0)}X}"
    if "#" in spec.flags and is_valid and char.isprintable():
        text += f" '{char}'"
    return _padded(text, spec)


def _float(verb: str, value: float, spec: _Spec) -> str | None:
    if verb not in "vgGeEfFxX":
        return None
    if not math.isfinite(value):
        text = float_text(value).lstrip("+")
    elif verb in "xX":
        text = _hexadecimal(value)
    elif verb in "vgG" and spec.precision is None:
        text = float_text(value)
    elif verb in "vgG":
        text = format(value, f".{spec.precision or 1}g")
    else:
        places = 6 if spec.precision is None else spec.precision
        text = format(value, f".{places}{verb.lower()}")
    if verb in "GEX":
        text = text.upper() if math.isfinite(value) else text
    sign = "-" if text.startswith("-") else "+" if "+" in spec.flags else ""
    if not sign and " " in spec.flags:
        sign = " "
    text = text.removeprefix("-")
    if "0" in spec.flags and spec.width is not None and math.isfinite(value):
        text = text.rjust(spec.width - len(sign), "0")
    return _padded(sign + text, spec)


def _hexadecimal(value: float) -> str:
    mantissa, _, power = value.hex().partition("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    exponent = int(power)
    return f"{mantissa}p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def go_syntax(value: Any) -> str:
    """Return a value as ``%#v`` prints it."""
    if value is None:
        return "interface {}(nil)"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        inner = ", ".join(
            f"{go_syntax(key)}:{go_syntax(found[key])}" for key in keys_sorted(found)
        )
        return f"{type_name(found)}{{{inner}}}"
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return f"{type_name(items)}{{{', '.join(map(go_syntax, items))}}}"
    if isinstance(value, msgspec.Struct):
        inner = ", ".join(f"{k}:{go_syntax(v)}" for k, v in struct_values(value))
        return f"&{type_name(value).removeprefix('*')}{{{inner}}}"
    return printed(value)
