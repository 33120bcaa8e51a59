"""The words of a handler: for the shell, or as they are. No I/O.

Consul joins them with blanks for the shell, so that what was quoted falls apart
(observed: Consul 1.10.11 ``consul watch``). Here that happens only where it
changes nothing about where a word begins and ends.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def falls_apart(words: Sequence[str]) -> bool:
    """Tell whether a shell would see other words than these once they are joined.

    A word with quotes that only another one closes belongs to a line that was
    written for being joined; if nothing closes them it cannot be.
    """
    if len(words) < 2:
        return False
    if _split(" ".join(words)) is None:
        return True
    return any(len(found) != 1 for word in words if (found := _split(word)) is not None)


def _split(text: str) -> list[str] | None:
    try:
        return shlex.split(text)
    except ValueError:
        return None
