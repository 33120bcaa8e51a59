"""Logging: the reference's lines on stderr, in a file, in syslog."""

from __future__ import annotations

import logging
import syslog
from datetime import datetime

from pyconsul_template.config import Settings
from pyconsul_template.rotating import RotatingFile
from pyconsul_template.schema import ConfigError, seconds

_LEVEL_NAMES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERR",
}
_PRIORITIES = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}


class Formatter(logging.Formatter):
    """The reference's lines: ``2026/11/21 10:18:13.012173 [ERR] text``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a break in data cannot begin another."""
        time = datetime.fromtimestamp(record.created).astimezone()
        level = _LEVEL_NAMES.get(record.levelno, record.levelname)
        text = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        return f"{time:%Y/%m/%d %H:%M:%S.%f} [{level}] {text}"


class _Syslog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        priority = _PRIORITIES.get(record.levelno, syslog.LOG_INFO)
        syslog.syslog(priority, record.getMessage().replace("\0", "\\0"))


def set_up(settings: Settings) -> None:
    """Send the log where the settings say; raises ``ConfigError``."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if (file := settings.log_file) is not None:
        try:
            handlers.append(
                RotatingFile(
                    file.path,
                    file.log_rotate_bytes,
                    seconds("log_file.log_rotate_duration", file.log_rotate_duration),
                    file.log_rotate_max_files,
                )
            )
        except OSError as error:
            raise ConfigError(f"log_file: {file.path}: {error.strerror}") from error
    for handler in handlers:
        handler.setFormatter(Formatter())
    if settings.syslog is not None:
        facility = getattr(syslog, f"LOG_{settings.syslog.facility.upper()}", None)
        if facility is None:
            raise ConfigError(f"syslog.facility: {settings.syslog.facility!r}")
        syslog.openlog(settings.syslog.name, syslog.LOG_PID, facility)
        handlers.append(_Syslog())
    logging.basicConfig(level=settings.log_level, handlers=handlers, force=True)
    # It logs every request, with the query in it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
