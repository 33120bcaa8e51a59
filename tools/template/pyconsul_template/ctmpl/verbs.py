"""How one value prints by one verb of ``printf``, with flags, width, precision.

Source: the documentation of fmt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from pyconsul_template.ctmpl.values import (
    Unsigned,
    float_text,
    go_bytes,
    keys_sorted,
    struct_values,
    type_name,
)

_WORD = 1 << 64


class Spec(Struct):
    """Flags, width and precision of one directive, in characters."""

    width: int | None = None
    precision: int | None = None
    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    names: bool = False
    """``%+v``: structs with the names of their fields."""
    syntax: bool = False
    """``%#v``: as the value is written in Go."""

    def set(self, flag: str) -> None:
        """Take a flag; zeros do not go with ``-``."""
        match flag:
            case "-":
                self.minus, self.zero = True, False
            case "+":
                self.plus = True
            case "#":
                self.sharp = True
            case " ":
                self.space = True
            case _:
                self.zero = not self.minus

    def of_values(self) -> None:
        """Read ``+`` and ``#`` as they are meant before ``v``."""
        self.names, self.syntax = self.plus, self.sharp
        self.plus = self.sharp = False


_PLAIN = Spec()
_SYNTAX = Spec(syntax=True)


def go_syntax(value: Any) -> str:
    """Return a value as ``%#v`` prints it, nil with its type."""
    if value is None:
        return "interface {}(nil)"
    return formatted("v", value, _SYNTAX)


def formatted(verb: str, value: Any, spec: Spec) -> str:
    """Return an argument by a verb."""
    if verb == "T":
        name = type_name(value)
        return _padded(_cut(name, spec) if value is not None else name, spec)
    if value is None:
        return _padded("<nil>", spec) if verb == "v" else f"%!{verb}(<nil>)"
    return _value(verb, value, spec)


def _item(verb: str, value: Any, spec: Spec) -> str:
    """Return a value within another one."""
    if value is None:
        return "interface {}(nil)" if spec.syntax else "<nil>"
    return _value(verb, value, spec)


def _value(verb: str, value: Any, spec: Spec) -> str:
    kind = value.__class__
    if kind is str:
        text = _string(verb, value, spec)
    elif kind is bool:
        text = _padded("true" if value else "false", spec) if verb in "tv" else None
    elif isinstance(value, int):
        text = _int(verb, value, spec)
    elif kind is float:
        text = _float(verb, value, spec)
    elif kind is complex:
        text = _complex(verb, value, spec)
    elif verb in "pw":
        text = None
    else:
        return _composite(verb, value, spec)
    if text is not None:
        return text
    # The flags go on to hold for the value that is shown.
    return f"%!{verb}({type_name(value)}={_value('v', value, spec)})"


def _composite(verb: str, value: Any, spec: Spec) -> str:
    separator = ", " if spec.syntax else " "
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        inner = separator.join(
            f"{_item(verb, key, spec)}:{_item(verb, found[key], spec)}"
            for key in keys_sorted(found)
        )
        return f"{type_name(found)}{{{inner}}}" if spec.syntax else f"map[{inner}]"
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        inner = separator.join(_item(verb, item, spec) for item in items)
        return f"{type_name(items)}{{{inner}}}" if spec.syntax else f"[{inner}]"
    if isinstance(value, msgspec.Struct):
        has_names = spec.names or spec.syntax
        inner = separator.join(
            (f"{name}:" if has_names else "") + _item(verb, item, spec)
            for name, item in struct_values(value)
        )
        name = type_name(value).removeprefix("*") if spec.syntax else ""
        return f"&{name}{{{inner}}}"
    return _padded(str(value), spec)


def _padded(text: str, spec: Spec) -> str:
    width = spec.width
    if width is None or len(text) >= width:
        return text
    if spec.minus:
        return text.ljust(width)
    return text.rjust(width, "0" if spec.zero else " ")


def _padded_plain(text: str, spec: Spec) -> str:
    """Return the text padded, but never with zeros."""
    if spec.width is None:
        return text
    return text.ljust(spec.width) if spec.minus else text.rjust(spec.width)


def _cut(text: str, spec: Spec) -> str:
    return text if spec.precision is None else text[: spec.precision]


# Strings

_ESCAPES = {
    **{"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"},
    **{"\t": "\\t", "\v": "\\v", "\\": "\\\\"},
}


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """Return a string as a Go literal in double quotes."""
    inner = (_quoted_char(char, '"', ascii_only=ascii_only) for char in text)
    return f'"{"".join(inner)}"'


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


def _is_backquotable(text: str) -> bool:
    """Return whether the text can stand between backquotes."""
    return not any(
        char in "`\x7f\ufeff"
        or (char < " " and char != "\t")
        or "\ud800" <= char <= "\udfff"
        for char in text
    )


def _string(verb: str, text: str, spec: Spec) -> str | None:
    if verb == "v" and spec.syntax:
        verb = "q"
    if verb in "vs":
        return _padded(_cut(text, spec), spec)
    if verb == "q":
        text = _cut(text, spec)
        if spec.sharp and _is_backquotable(text):
            return _padded(f"`{text}`", spec)
        return _padded(quoted(text, ascii_only=spec.plus), spec)
    if verb in "xX":
        raw = go_bytes(text)
        if spec.precision is not None:
            raw = raw[: spec.precision]
        prefix = f"0{verb}" if spec.sharp and raw else ""
        digits = raw.hex().upper() if verb == "X" else raw.hex()
        if spec.space:
            pairs = (digits[at : at + 2] for at in range(0, len(digits), 2))
            return _padded(" ".join(prefix + pair for pair in pairs), spec)
        return _padded(prefix + digits, spec)
    return None


# Numbers

_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}


def _int(verb: str, value: int, spec: Spec) -> str | None:
    if verb in "cqU":
        return _rune(verb, value, spec)
    base = _BASES.get(verb)
    if base is None:
        return None
    prefix = ""
    if verb == "v" and spec.syntax and isinstance(value, Unsigned):
        base, prefix = "x", "0x"
    digits = format(abs(value), base)
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    if spec.precision is not None:
        if not (spec.precision or value):
            return _padded_plain("", spec)
        digits = digits.rjust(spec.precision, "0")
    elif spec.zero and spec.width is not None:
        digits = digits.rjust(spec.width - len(sign), "0")
    if spec.sharp:
        prefix = _PREFIXES.get(verb, "")
        if base == "o" and not digits.startswith("0"):
            prefix = "0"
    if verb == "O":
        prefix = "0o" + prefix
    return _padded_plain(sign + prefix + digits, spec)


def _rune(verb: str, value: int, spec: Spec) -> str:
    is_valid = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
    char = chr(value) if is_valid else "\ufffd"
    if verb == "c":
        return _padded(char, spec)
    if verb == "q":
        body = _quoted_char(char, "'", ascii_only=spec.plus)
        return _padded(f"'{body}'", spec)
    text = f"U+{value % _WORD:0{max(4, spec.precision or 0)}X}"
    if spec.sharp and is_valid and char.isprintable():
        text += f" '{char}'"
    return _padded_plain(text, spec)


def _float(verb: str, value: float, spec: Spec) -> str | None:
    if verb not in "vgGeEfFxXb":
        return None
    text = _digits_of(verb, value, spec.precision)
    is_negative = text.startswith("-")
    text = text.lstrip("+-")
    sign = "-" if is_negative else "+" if spec.plus else " " if spec.space else ""
    if not math.isfinite(value):
        sign = "+" if value > 0 and not spec.space and not is_negative else sign
        return _padded_plain(sign + text, spec)
    if spec.sharp and verb != "b":
        text = _with_point(verb, text, spec.precision)
    if spec.zero and spec.width is not None:
        return sign + text.rjust(spec.width - len(sign), "0")
    return _padded_plain(sign + text, spec)


def _digits_of(verb: str, value: float, precision: int | None) -> str:
    """Return a float by a verb, without regard to flags and width."""
    if not math.isfinite(value):
        return float_text(value)
    if verb in "xX":
        text = _hexadecimal(value, precision)
    elif verb == "b":
        power = max(math.frexp(value)[1] - 53, -1074)
        text = f"{int(math.ldexp(value, -power))}p{power:+d}" if value else "0p-1074"
        if not value and math.copysign(1, value) < 0:
            text = "-" + text
    elif verb in "vgG":
        if precision is None:
            text = float_text(value)
        else:
            text = format(value, f".{precision or 1}g")
    else:
        places = 6 if precision is None else precision
        text = format(value, f".{places}{verb.lower()}")
    return text.upper() if verb in "GEX" else text


def _with_point(verb: str, text: str, precision: int | None) -> str:
    """Return a number's text with a point, and for ``g`` with trailing zeros."""
    digits = 0
    if verb in "vgGxX":
        digits = 6 if precision is None else precision
        if verb == "X":
            digits = 0
    marks = "pP" if verb in "xX" else "eE"
    body, tail = text, ""
    for at, char in enumerate(text):
        if char in marks:
            body, tail = text[:at], text[at:]
            break
    has_digit = False
    for char in body:
        if char == ".":
            continue
        has_digit = has_digit or char != "0"
        digits -= has_digit
    if "." not in body:
        digits -= body == "0"
        body += "."
    return body + "0" * max(digits, 0) + tail


def _hexadecimal(value: float, precision: int | None) -> str:
    mantissa, _, power = value.hex().partition("p")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.removeprefix("-")[2:].partition(".")
    exponent = int(power)
    part = part.rstrip("0")
    if value and whole == "0":
        # Go shows subnormal numbers with a leading 1, too.
        shift = len(part) * 4 - int(part, 16).bit_length() + 1
        exponent -= shift
        body = (int(part, 16) << shift) & ((1 << (len(part) * 4)) - 1)
        part = f"{body:0{len(part)}x}".rstrip("0")
        whole = "1"
    if precision is not None and precision < len(part):
        size = len(part)
        number = int(whole + part, 16)
        drop = 4 * (size - precision)
        kept, rest = number >> drop, number & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        kept += rest > half or (rest == half and kept & 1)
        if kept >> (4 * precision) > 1:
            kept >>= 1
            exponent += 1
        whole, part = "1", f"{kept & ((1 << 4 * precision) - 1):0{precision}x}"
        part = part if precision else ""
    elif precision is not None:
        part = part.ljust(precision, "0")
    point = f".{part}" if part else ""
    mark = "-" if exponent < 0 else "+"
    return f"{sign}0x{whole}{point}p{mark}{abs(exponent):02d}"


def _complex(verb: str, value: complex, spec: Spec) -> str | None:
    real = _float(verb, value.real, spec)
    if real is None:
        return None
    signed = msgspec.structs.replace(spec, plus=True)
    return f"({real}{_float(verb, value.imag, signed)}i)"
