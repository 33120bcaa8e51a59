"""The log file, and how it is rotated: by size, by age, keeping so many.

Given a file, that is the one written, and rotated ones are called
``<name>-<unix nanoseconds>.<ext>``; given a directory, every file is called
``consul-<unix nanoseconds>.log``. What the disk refuses is lost, and counted.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable

DEFAULT_NAME = "consul.log"
DAY_S = 86400.0


class RotatingFile(logging.Handler):
    """Writes lines to a file; raises ``OSError`` when it cannot be opened.

    ``max_bytes`` 0: no limit; ``period_s`` 0: no age. Of old files
    ``max_files`` are kept: 0 all of them, -1 none. ``clock`` gives Unix seconds.
    """

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int = 0,
        period_s: float = 0.0,
        max_files: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._stamped = path.endswith("/") or os.path.isdir(path)
        folder, name = os.path.split(path)
        name = DEFAULT_NAME if self._stamped else name
        self._folder = path if self._stamped else folder
        self._stem, self._ext = os.path.splitext(name)
        self._ext = self._ext or ".log"
        self._path = path
        self._max_bytes = max_bytes
        self._period_s = period_s
        self._max_files = max_files
        self._clock = clock
        self.lost = 0
        """Lines the disk did not take."""
        self._fd = -1
        self._regular = True
        self._size = 0
        self._since = 0.0
        self._open()

    @property
    def path(self) -> str:
        """The file that is being written."""
        return self._path

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, to a new file if it is time for one."""
        data = self.format(record).encode("utf-8", "replace") + b"\n"
        if self._due():
            self._rotate()
        try:
            self._size += os.write(self._fd, data)
        except OSError:
            # A full disk must not stop the agent, nor may this be logged.
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        self.acquire()
        try:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        finally:
            self.release()
        super().close()

    def _due(self) -> bool:
        if not self._regular:
            return False
        if self._max_bytes > 0 and self._size >= self._max_bytes:
            return True
        return 0 < self._period_s <= self._clock() - self._since

    def _stamp(self) -> str:
        number = int(self._clock() * 1e9)
        while True:
            path = os.path.join(self._folder, f"{self._stem}-{number}{self._ext}")
            if not os.path.exists(path):
                return path
            number += 1

    def _open(self) -> None:
        path = self._stamp() if self._stamped else self._path
        if self._folder:
            os.makedirs(self._folder, mode=0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(path, flags, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path = fd, path
        about = os.fstat(fd)
        # A device or a pipe keeps its name.
        self._regular = stat.S_ISREG(about.st_mode)
        self._size = about.st_size
        self._since = self._clock()

    def _rotate(self) -> None:
        """Begin a new file; go on with the old one when that does not work."""
        try:
            if not self._stamped:
                os.rename(self._path, self._stamp())
            self._open()
            self._prune()
        except OSError:
            self._since = self._clock()
            self._size = 0

    def _prune(self) -> None:
        if self._max_files == 0:
            return
        pattern = re.compile(
            re.escape(self._stem) + r"-(\d{1,20})" + re.escape(self._ext)
        )
        old: list[tuple[int, str]] = []
        for name in os.listdir(self._folder or "."):
            found = pattern.fullmatch(name)
            if found is not None:
                path = os.path.join(self._folder, name)
                if path != self._path:
                    old.append((int(found[1]), path))
        old.sort(reverse=True)
        for _, path in old[max(self._max_files, 0) :]:
            os.unlink(path)
