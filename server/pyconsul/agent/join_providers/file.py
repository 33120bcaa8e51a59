"""``provider=file path=F``: addresses from a file, read at every attempt.

One or more on a line; ``#`` begins a comment.
"""

from __future__ import annotations

import asyncio

from pyconsul.agent.join_providers import DiscoverError, Settings, only

MAX_BYTES = 1 << 20


async def find(settings: Settings) -> list[str]:
    """Return the addresses in the file; raises ``DiscoverError``."""
    only("file", settings, "path")
    path = settings.get("path", "")
    if not path:
        raise DiscoverError("discover-file: path is missing")
    try:
        return addresses(await asyncio.to_thread(_read, path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DiscoverError(f"discover-file: open {path}: {reason}") from None


def addresses(text: str) -> list[str]:
    """Return the words of a text without its comments."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [word for line in lines for word in line.split()]


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES).decode(errors="replace")
