"""Filter expressions (``?filter=``): text and schema in, predicate out.

``compile_filter(text, schema)`` keeps the latest compiled expressions, as the
same few are sent over and over by watches.
"""

from __future__ import annotations

from collections import OrderedDict

from pyconsul.filter.compiler import FilterError, Predicate, compile_expression
from pyconsul.filter.regex import Regex, RegexError, compile_regex
from pyconsul.filter.schema import (
    CHECK_SERVICE_NODE,
    HEALTH_CHECK,
    INTENTION,
    MEMBER,
    NODE,
    NODE_INFO,
    NODE_SERVICE,
    SERVICE_NODE,
    Schema,
)

__all__ = [
    "CHECK_SERVICE_NODE",
    "HEALTH_CHECK",
    "INTENTION",
    "MEMBER",
    "NODE",
    "NODE_INFO",
    "NODE_SERVICE",
    "SERVICE_NODE",
    "FilterCache",
    "FilterError",
    "Predicate",
    "Regex",
    "RegexError",
    "Schema",
    "compile_filter",
    "compile_regex",
]

_CACHED_MAX = 256
_CACHED_CHARS_MAX = 2048
"""Longer expressions are compiled each time rather than kept."""


class FilterCache:
    """The ``size`` expressions used last, by text and schema."""

    def __init__(self, size: int = _CACHED_MAX) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[str, int], Predicate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def compile(self, text: str, schema: Schema) -> Predicate:
        """Compile, or return what was compiled before; see ``compile_filter``."""
        key = (text, id(schema))
        predicate = self._kept.get(key)
        if predicate is not None:
            self._kept.move_to_end(key)
            return predicate
        predicate = compile_expression(text, schema)
        if len(text) <= _CACHED_CHARS_MAX:
            self._kept[key] = predicate
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return predicate


_CACHE = FilterCache()


def compile_filter(text: str, schema: Schema) -> Predicate:
    """Return a predicate over records of ``schema`` (a module constant).

    Raises ``FilterError``; ``detail`` is its text without the usual prefix.
    An empty ``text`` means no filter and is the caller's to test.
    """
    return _CACHE.compile(text, schema)
