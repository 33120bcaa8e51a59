"""Durations that were given as bare numbers: seconds, but not in consul-template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

import msgspec


def bare_numbers(block: object, before: str = "") -> Iterator[str]:
    """Yield a sentence on each duration of a block that is a number."""
    if isinstance(block, msgspec.Struct):
        for field in msgspec.structs.fields(block):
            value: Any = getattr(block, field.name)
            where = before + field.name
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and value and {float, str} <= set(get_args(field.type)):
                yield f'{where}: {value:g} is taken as seconds; write "{value:g}s"'
            else:
                yield from bare_numbers(value, f"{where}.")
    elif isinstance(block, list):
        for index, value in enumerate(cast("list[object]", block)):
            yield from bare_numbers(value, f"{before[:-1]}[{index}].")
    elif isinstance(block, Mapping):
        for key, value in cast("Mapping[str, object]", block).items():
            yield from bare_numbers(value, f"{before}{key}.")
