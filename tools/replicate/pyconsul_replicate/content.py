"""What happens to a pair on its way: ``filter`` chooses, ``rewrite`` changes values."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence

import msgspec

from .model import MAX_PATTERN, Entry, Rules
from .select import compile_select


class Content:
    """The rules about content, compiled. ValueError names a bad one."""

    def __init__(self, rules: Rules) -> None:
        self._select = compile_select(rules.select) if rules.select else None
        self._rewrites = compile_rewrites(rules.rewrites)

    @property
    def chooses(self) -> bool:
        """Whether some pairs may be left out for what they hold."""
        return self._select is not None

    def selects(self, entry: Entry) -> bool:
        """Whether a pair takes part."""
        return self._select is None or self._select(entry)

    def rewritten(self, entry: Entry) -> Entry:
        """Return the pair as it is to be at the destination, its key untouched."""
        if not self._rewrites or not entry.value:
            return entry
        before = b64decode(entry.value)
        after = before
        for pattern, replacement in self._rewrites:
            after = pattern.sub(replacement, after)
        if after == before:
            return entry
        return msgspec.structs.replace(entry, value=b64encode(after).decode())


def compile_rewrites(
    rewrites: Sequence[tuple[str, str]],
) -> list[tuple[re.Pattern[bytes], bytes]]:
    r"""Return the pairs as bytes; ``\1`` and ``\g<name>`` name groups.

    Raises ValueError for a bad pattern or replacement.
    """
    found: list[tuple[re.Pattern[bytes], bytes]] = []
    for match, replacement in rewrites:
        if not match or len(match) > MAX_PATTERN:
            raise ValueError(f"a match has 1 to {MAX_PATTERN} characters")
        try:
            pattern = re.compile(match.encode())
            # An optional group makes any pattern match, to try the replacement.
            re.compile(b"(?:" + match.encode() + b")?").sub(replacement.encode(), b"")
        except (re.error, IndexError) as error:
            raise ValueError(f'bad rewrite "{match}": {error}') from error
        found.append((pattern, replacement.encode()))
    return found
