"""A log file that is put aside when it is large or old.

The file in use keeps its name; one put aside has the time in it
(``app-20261121-101813.012173.log``). Source: the reference's ``log_file`` keys.
"""

from __future__ import annotations

import logging
import os
import re
import time
from datetime import datetime
from pathlib import Path

_STAMP = "%Y%m%d-%H%M%S.%f"


class RotatingFile(logging.Handler):
    """Writes records to a file; raises OSError when it cannot be opened.

    ``max_bytes`` 0 is no limit, ``max_age_s`` counts from the opening. Of the
    files put aside ``keep`` stay: 0 is all of them, -1 none.
    """

    def __init__(self, path: str, max_bytes: int, max_age_s: float, keep: int) -> None:
        super().__init__()
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._keep = keep
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._file).st_size
        self._opened_at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, to a new file when the old one is full."""
        try:
            data = f"{self.format(record)}\n".encode("utf-8", "surrogateescape")
            if self._is_full(len(data)):
                self._put_aside()
            self._size += os.write(self._file, data)
        except (OSError, ValueError):
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        super().close()

    def _is_full(self, more: int) -> bool:
        if self._max_bytes > 0 and 0 < self._size > self._max_bytes - more:
            return True
        age = time.monotonic() - self._opened_at
        return bool(self._size) and 0 < self._max_age_s <= age

    def _put_aside(self) -> None:
        path = self._path
        stamp = datetime.now().astimezone().strftime(_STAMP)
        if self._keep < 0:
            path.unlink(missing_ok=True)
        else:
            path.rename(path.with_name(f"{path.stem}-{stamp}{path.suffix}"))
        old = self._file
        self._open()
        os.close(old)
        if self._keep > 0:
            for spare in self._aside()[: -self._keep]:
                spare.unlink(missing_ok=True)

    def _aside(self) -> list[Path]:
        """Return the files put aside, oldest first."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        name = re.compile(rf"{stem}-\d{{8}}-\d{{6}}\.\d{{6}}{suffix}")
        folder = self._path.parent
        return sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
