"""``auto_reload_config``: notices when configuration files change.

Files are looked at once a second. A change is told once nothing has changed
for one more look, so that several writes make one reload.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

LOOK_S = 1.0
Fingerprint = tuple[tuple[str, int, int, int], ...]


class ConfigChanges:
    """Watches the files and directories a command line names."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self._known = fingerprint(self._sources)
        self._last = self._known

    def look(self) -> bool:
        """Look once; say whether there is a change, and it has settled."""
        now = fingerprint(self._sources)
        settled = now == self._last
        self._last = now
        if not settled or now == self._known:
            return False
        self._known = now
        return True

    async def run(self, changed: Callable[[], None]) -> None:
        """Call back after every change, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.look():
                changed()


def fingerprint(sources: Sequence[str]) -> Fingerprint:
    """Return what tells one state of the files from another."""
    found: list[tuple[str, int, int, int]] = []
    for source in sources:
        paths = [source]
        if os.path.isdir(source):
            try:
                names = sorted(os.listdir(source))
            except OSError:
                names = []
            paths = [os.path.join(source, name) for name in names]
        for path in paths:
            try:
                about = os.stat(path)
            except OSError:
                continue
            found.append((path, about.st_mtime_ns, about.st_size, about.st_ino))
    return tuple(found)
