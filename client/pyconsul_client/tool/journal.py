"""The log of a tool: lines on stderr, and in syslog if wanted.

The form of a line is the reference tools':
``2026/11/21 10:18:13.012173 [ERR] (cli) message``. Neither ``logging`` nor
``datetime`` is imported, for the start-up budget.
"""

from __future__ import annotations

import os
import sys
import time

LEVELS = {"trace": 0, "debug": 1, "info": 2, "warn": 3, "err": 4}
DEFAULT_LEVEL = "warn"
DEFAULT_FACILITY = "LOCAL0"
_TAGS = {0: "TRACE", 1: "DEBUG", 2: "INFO", 3: "WARN", 4: "ERR"}


def level_of(text: str) -> int:
    """Return the number of a level's name; ValueError names the known ones."""
    name = text.lower().replace("warning", "warn").replace("error", "err")
    if name not in LEVELS:
        known = ", ".join(LEVELS)
        raise ValueError(f'invalid log level "{text}" (one of {known})')
    return LEVELS[name]


class Journal:
    """Writes lines at or above a level; may be called from any thread."""

    def __init__(self, level: int = LEVELS[DEFAULT_LEVEL], topic: str = "cli") -> None:
        self.level = level
        self._topic = topic
        self._priorities: dict[int, int] | None = None

    def to_syslog(self, name: str, facility: str = DEFAULT_FACILITY) -> None:
        """Write to syslog as well; ValueError for a facility not known."""
        import syslog

        number = getattr(syslog, f"LOG_{facility.upper()}", None)
        if number is None:
            raise ValueError(f'invalid syslog facility "{facility}"')
        syslog.openlog(name, syslog.LOG_PID, number)
        self._priorities = {
            0: syslog.LOG_DEBUG,
            1: syslog.LOG_DEBUG,
            2: syslog.LOG_INFO,
            3: syslog.LOG_WARNING,
            4: syslog.LOG_ERR,
        }

    def trace(self, text: str) -> None:
        """Log what only the author wants to know."""
        self._write(0, text)

    def debug(self, text: str) -> None:
        """Log a detail."""
        self._write(1, text)

    def info(self, text: str) -> None:
        """Log something normal."""
        self._write(2, text)

    def warn(self, text: str) -> None:
        """Log something to look at."""
        self._write(3, text)

    def error(self, text: str) -> None:
        """Log a failure."""
        self._write(4, text)

    def _write(self, level: int, text: str) -> None:
        if level < self.level:
            return
        # A line break would let data pass for a line of ours.
        text = text.replace("\n", "\\n").replace("\r", "\\r")
        now = time.time()
        stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now))
        micros = int(now % 1 * 1e6)
        line = f"{stamp}.{micros:06d} [{_TAGS[level]}] ({self._topic}) {text}\n"
        try:
            sys.stderr.flush()
            os.write(2, line.encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            pass  # A closed stderr is no reason to end.
        if self._priorities is not None:
            import syslog

            syslog.syslog(self._priorities[level], text.replace("\0", "\\0"))
