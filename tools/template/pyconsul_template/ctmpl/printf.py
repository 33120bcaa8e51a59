"""``printf`` in Go's words: verbs, flags, width, precision, argument indexes.

Misuse is not an error but part of the text: ``%!d(string=x)``, ``%!d(BADINDEX)``,
``%!s(MISSING)`` and ``%!(EXTRA int=1)``. How one value prints by one verb is in
``verbs.py``. Source: the documentation of fmt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyconsul_template.ctmpl.values import bounded, printed, type_name
from pyconsul_template.ctmpl.verbs import Spec, formatted, go_syntax, quoted

__all__ = ["go_syntax", "printf", "quoted"]

NUMBER_MAX = 1_000_000
"""A greater width or precision is none."""
_DIGITS = frozenset("0123456789")


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
        spec = Spec()
        notes = ""
        while (char := self._char()) and char in "+-# 0":
            spec.set(char)
            self._at += 1
        had_index = self._index()
        if self._char() == "*":
            self._at += 1
            width = self._star()
            if width is None:
                notes += "%!(BADWIDTH)"
            elif width < 0:
                spec.set("-")
                width = -width
            spec.width = width
            had_index = False
        else:
            spec.width = self._number()
            if had_index and spec.width is not None:
                self._is_good_index = False
        if self._char() == "." and self._at + 1 < len(self._layout):
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
        return notes + self._verb(verb, spec)

    def _verb(self, verb: str, spec: Spec) -> str:
        if verb == "%":
            return "%"
        if not self._is_good_index:
            return f"%!{verb}(BADINDEX)"
        if self._arg >= len(self._args):
            return f"%!{verb}(MISSING)"
        arg = self._args[self._arg]
        self._arg += 1
        if verb == "v":
            spec.of_values()
        return formatted(verb, arg, spec)

    def _number(self) -> int | None:
        start, layout = self._at, self._layout
        at, end = start, len(layout)
        while at < end and layout[at] in _DIGITS:
            at += 1
        self._at = at
        if at == start:
            return None
        digits = layout[start:at].lstrip("0")
        if len(digits) > 8 or int(digits[:-1] or 0) > NUMBER_MAX:
            # So long a number takes the rest of the layout with it.
            self._at = end
            return None
        return int(digits or 0)

    def _index(self) -> bool:
        """Take ``[3]``; return whether there was one."""
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
        is_number = number.isascii() and number.isdigit() and len(number) < 8
        index = int(number) if is_number else 0
        if 1 <= index <= len(self._args):
            self._arg = index - 1
        else:
            self._is_good_index = False
        return is_number

    def _star(self) -> int | None:
        if self._arg >= len(self._args):
            return None
        value = self._args[self._arg]
        self._arg += 1
        if isinstance(value, int) and not isinstance(value, bool):
            return value if abs(value) <= NUMBER_MAX else None
        return None
