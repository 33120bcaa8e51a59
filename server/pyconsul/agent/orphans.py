"""Ends of processes that nobody else waits for.

In a container the agent is often process 1: whatever a check or a handler
started and left behind becomes its child, and stays a zombie until the limit of
processes is reached, unless somebody asks how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger("agent")
PERIOD_S = 5.0


class Orphans:
    """Waits for ended children that were there at the last look already.

    Those the agent itself started are waited for at once by who started them.
    """

    def __init__(self, parent: int, folder: Path = Path("/proc")) -> None:
        self._parent = parent
        self._folder = folder
        self._seen: set[int] = set()

    def look(self) -> list[int]:
        """Let go of what has ended before the last look; return their ids."""
        ended = self._ended()
        gone = sorted(ended & self._seen)
        self._seen = ended
        for one in gone:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one, os.WNOHANG)
        return gone

    def _ended(self) -> set[int]:
        found: set[int] = set()
        for path in self._folder.glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name, in parentheses, may have blanks and parentheses.
                state, parent = path.read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) == self._parent:
                    found.add(int(path.parent.name))
        return found


async def let_go_of_orphans() -> None:
    """Look for orphans again and again; does not end."""
    orphans = Orphans(os.getpid())
    while True:
        await asyncio.sleep(PERIOD_S)
        gone = await asyncio.to_thread(orphans.look)
        if gone:
            log.debug("orphans: ended: count=%d", len(gone))
