"""The environment a tool was started with, for its child.

In the C locale the interpreter sets ``LC_CTYPE`` for itself before any of our
code runs (PEP 538); a child should not see what nobody gave.
"""

from __future__ import annotations

import os

_NAME = b"LC_CTYPE"
_COERCED = (b"C.UTF-8", b"C.utf8", b"UTF-8")


def inherited_environment() -> dict[bytes, bytes]:
    """Return our environment, without what the interpreter added to it."""
    found = dict(os.environb)
    if found.get(_NAME) not in _COERCED or found.get(b"LC_ALL"):
        return found
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read()
    except OSError:
        return found  # Not Linux: there is no way to tell.
    if not any(item.startswith(_NAME + b"=") for item in given.split(b"\0")):
        del found[_NAME]
    return found
