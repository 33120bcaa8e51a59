"""Where log lines go: stdout, a file, syslog, and live streams.

Streams (``/v1/agent/monitor``) may ask for a lower level
than the process writes; slow readers lose lines.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from pyconsul.agent.log_files import DAY_S, RotatingFile
from pyconsul.agent.log_lines import (
    TRACE,
    BareFormatter,
    JsonFormatter,
    LineFormatter,
)
from pyconsul.agent.syslog import SyslogHandler
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import SECOND

LEVELS = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERR": logging.ERROR,
    "ERROR": logging.ERROR,
}
FOREIGN = frozenset(
    {"asyncio", "boto3", "botocore", "hpack", "httpcore", "httpx", "urllib3"}
)
"""Libraries that speak of every step they take; their warnings are shown."""


class Sink(Protocol):
    """Where a stream of log lines goes."""

    def write(self, data: bytes) -> None:
        """Send a piece."""
        ...

    def close(self) -> None:
        """End the stream."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the reader has gone."""
        ...


class _StreamHandler(logging.Handler):
    def __init__(self, sink: Sink, level: int, as_json: bool) -> None:
        super().__init__(level)
        self._sink = sink
        self.setFormatter(JsonFormatter() if as_json else LineFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.write(self.format(record).encode("utf-8", "replace") + b"\n")


class LogOutput:
    """The process's log: stdout, perhaps a file and syslog, and the streams.

    ``handlers`` without a formatter get one of text or JSON lines. ``accept``
    chooses the records, where several agents share a process.
    """

    def __init__(
        self,
        level: str,
        as_json: bool,
        stream: TextIO | None = None,
        handlers: Sequence[logging.Handler] = (),
        accept: Callable[[logging.LogRecord], bool] | None = None,
    ) -> None:
        self._root = logging.getLogger()
        self._accept = accept
        self._main: list[logging.Handler] = [logging.StreamHandler(stream), *handlers]
        for handler in self._main:
            if handler.formatter is None:
                handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
            self._add(handler)
        self._streams: list[logging.Handler] = []
        self.set_level(level)

    def _add(self, handler: logging.Handler) -> None:
        handler.addFilter(_worth_it)
        if self._accept is not None:
            handler.addFilter(self._accept)
        self._root.addHandler(handler)

    def set_level(self, level: str) -> None:
        """Change what the process writes."""
        for handler in self._main:
            handler.setLevel(LEVELS[level])
        self._settle()

    def _settle(self) -> None:
        handlers = [*self._main, *self._streams]
        self._root.setLevel(min(handler.level for handler in handlers))

    def monitor(self, level: str, as_json: bool) -> Callable[[Sink], None]:
        """Return what sends every line from ``level`` on to a sink."""

        def attach(sink: Sink) -> None:
            handler = _StreamHandler(sink, LEVELS[level], as_json)
            self._streams.append(handler)
            self._add(handler)
            self._settle()

            def detach() -> None:
                self._streams.remove(handler)
                self._root.removeHandler(handler)
                self._settle()

            sink.on_close(detach)

        return attach

    def close(self) -> None:
        """End all output."""
        for handler in [*self._main, *self._streams]:
            self._root.removeHandler(handler)
            handler.close()
        self._streams.clear()


def _worth_it(record: logging.LogRecord) -> bool:
    return (
        record.levelno >= logging.WARNING
        or record.name.partition(".")[0] not in FOREIGN
    )


def open_logs(config: AgentConfig, stream: TextIO = sys.stdout) -> LogOutput:
    """Begin logging as configured.

    Raises ``OSError`` for a file that cannot be opened, ``ValueError`` for an
    unknown syslog facility.
    """
    handlers: list[logging.Handler] = []
    if config.enable_syslog:
        syslog = SyslogHandler(config.syslog_facility)
        syslog.setFormatter(JsonFormatter() if config.log_json else BareFormatter())
        handlers.append(syslog)
    if config.log_file:
        handlers.append(
            RotatingFile(
                config.log_file,
                max_bytes=config.log_rotate_bytes,
                period_s=config.log_rotate_duration / SECOND or DAY_S,
                max_files=config.log_rotate_max_files,
            )
        )
    return LogOutput(config.log_level, config.log_json, stream, handlers)
