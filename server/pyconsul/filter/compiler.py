"""Expressions to predicates: per-type rules, and all error texts.

Everything is decided when compiling (selectors, operators, coerced values),
so that a predicate only reads and compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyconsul.filter.parser import (
    AllOf,
    AnyOf,
    Expression,
    Match,
    Not,
    Operator,
    ParseError,
    parse,
)
from pyconsul.filter.regex import RegexError, compile_regex
from pyconsul.filter.schema import Field, Kind, Schema
from pyconsul.types.errors import ConsulError

Predicate = Callable[[Any], bool]

EXPRESSION_CHARS_MAX = 64 * 1024
"""Longer expressions are refused before they are parsed."""

_PREFIX = "Failed to create boolean expression evaluator: "
_MISSING_KEY_IS_FALSE = (Operator.EQUAL, Operator.IN, Operator.IS_NOT_EMPTY)
_SCALAR = (Operator.EQUAL, Operator.NOT_EQUAL)
_MEMBERS = (Operator.IN, Operator.NOT_IN)
_EMPTINESS = (Operator.IS_EMPTY, Operator.IS_NOT_EMPTY)
_REGEXES = (Operator.MATCHES, Operator.NOT_MATCHES)
_ALLOWED: dict[Kind, tuple[Operator, ...]] = {
    Kind.STRING: _SCALAR + _MEMBERS + _REGEXES,
    Kind.INT: _SCALAR,
    Kind.BOOL: _SCALAR,
    Kind.STRINGS: _MEMBERS + _EMPTINESS,
    Kind.OBJECT: (),
    Kind.OBJECTS: _EMPTINESS,
    Kind.MAP: _MEMBERS + _EMPTINESS,
}
_INTEGER = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+"
    r"|0|[1-9](?:_?[0-9])*)"
)
_INT_MAX = (1 << 63) - 1
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class FilterError(ConsulError):
    """The expression is wrong; ``detail`` is the text without its prefix."""

    def __init__(self, detail: str) -> None:
        super().__init__(_PREFIX + detail)
        self.detail = detail


def compile_expression(text: str, schema: Schema) -> Predicate:
    """Compile ``text`` for records of ``schema``; raises ``FilterError``."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise FilterError("the expression is too long")
    try:
        return _compile(parse(text), schema)
    except ParseError as error:
        raise FilterError(str(error)) from None


def _compile(tree: Expression, schema: Schema) -> Predicate:
    if isinstance(tree, Match):
        return _match(tree, schema)
    if isinstance(tree, Not):
        inner = _compile(tree.inner, schema)
        return lambda record: not inner(record)
    parts = [_compile(part, schema) for part in tree.parts]
    if isinstance(tree, AllOf):
        return lambda record: all(part(record) for part in parts)
    assert isinstance(tree, AnyOf)
    return lambda record: any(part(record) for part in parts)


def _match(match: Match, schema: Schema) -> Predicate:
    selected = schema.get(match.selector[0])
    if selected is None:
        raise _invalid_selector(match, 1)
    return _select(match, selected, 1)


def _select(match: Match, chosen: Field, depth: int) -> Predicate:
    """Predicate on what holds ``chosen``, the selector's part ``depth - 1``."""
    get = chosen.get
    if depth == len(match.selector):
        test = _test(match, chosen.kind)
        return lambda holder: test(get(holder))
    name = match.selector[depth]
    if chosen.kind is Kind.MAP:
        assert chosen.inner is not None
        missing = match.operator not in _MISSING_KEY_IS_FALSE
        inner = _select(match, chosen.inner, depth + 1)

        def in_map(holder: Any) -> bool:
            values = get(holder)
            return inner(values[name]) if values and name in values else missing

        return in_map
    member = chosen.fields.get(name)
    if member is None:
        raise _invalid_selector(match, depth + 1)
    inner = _select(match, member, depth + 1)
    if chosen.kind is Kind.OBJECTS:
        return lambda holder: any(inner(element) for element in get(holder) or ())
    return lambda holder: inner(get(holder))


def _invalid_selector(match: Match, parts: int) -> FilterError:
    return FilterError(f'Selector "{".".join(match.selector[:parts])}" is not valid')


def _test(match: Match, kind: Kind) -> Predicate:
    operator, value = match.operator, match.value
    selector = ".".join(match.selector)
    if operator not in _ALLOWED[kind]:
        raise FilterError(
            f'Invalid match operator "{operator}" for selector "{selector}"'
        )
    if operator is Operator.IS_EMPTY:
        return lambda found: not found
    if operator is Operator.IS_NOT_EMPTY:
        return bool
    if operator in _REGEXES:
        try:
            search = compile_regex(value).search
        except RegexError as error:
            text = f'Failed to compile regular expression "{value}": {error}'
            raise FilterError(text) from None
        if operator is Operator.MATCHES:
            return lambda found: search(found or "")
        return lambda found: not search(found or "")
    if operator in _MEMBERS:
        none: Any = "" if kind is Kind.STRING else ()
        if operator is Operator.IN:
            return lambda found: value in (found or none)
        return lambda found: value not in (found or none)
    zero, wanted = _coerce(kind, value, selector)
    if operator is Operator.EQUAL:
        return lambda found: (found or zero) == wanted
    return lambda found: (found or zero) != wanted


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _coerce(kind: Kind, value: str, selector: str) -> tuple[Any, Any]:
    """The zero value of ``kind``, and ``value`` as that kind."""
    if kind is Kind.STRING:
        return "", value
    try:
        return (0, _integer(value)) if kind is Kind.INT else (False, _boolean(value))
    except ValueError as error:
        raise FilterError(
            f"Failed to coerce value {_quoted(value)} for selector"
            f' "{selector}": {error}'
        ) from None


def _integer(value: str) -> int:
    """Go's ``ParseInt`` with base 0."""
    if not _INTEGER.fullmatch(value):
        raise ValueError(f"strconv.ParseInt: parsing {_quoted(value)}: invalid syntax")
    digits = value.replace("_", "")
    sign, digits = (digits[:1], digits[1:]) if digits[0] in "+-" else ("", digits)
    if len(digits) > 80:
        number = _INT_MAX + 1
    elif len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        number = int(digits, 8)
    else:
        number = int(digits, 0)
    if number > _INT_MAX + (sign == "-"):
        raise ValueError(f'strconv.ParseInt: parsing "{value}": value out of range')
    return -number if sign == "-" else number


def _boolean(value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {_quoted(value)}: invalid syntax")
