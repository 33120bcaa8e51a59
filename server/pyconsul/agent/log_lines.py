"""The forms of a log line: text, JSON, and bare for syslog.

``<RFC 3339 UTC, ms> [LEVEL] <name>: <message>: k=v k=v`` (``cli.md`` section 2).
What follows a message are fields when its template says so
(``"Synced service: service=%s"``): in JSON they are keys of their own, in text
those with blanks are quoted. Values come from whoever registers something, so
none of them can begin a line of its own or reach a terminal's control codes.
"""

from __future__ import annotations

import json
import logging
import re
import time
from functools import lru_cache
from typing import Any, NamedTuple, cast

TRACE = 5
_SHOWN = {
    TRACE: "[TRACE]",
    logging.DEBUG: "[DEBUG]",
    logging.INFO: "[INFO] ",
    logging.WARNING: "[WARN] ",
    logging.ERROR: "[ERROR]",
    logging.CRITICAL: "[ERROR]",
}
_NAME = r"[A-Za-z_][\w.-]*"
_TEMPLATE = re.compile(
    rf'(?P<head>.*?):(?P<fields>(?: {_NAME}=(?:"%s"|[^\s"]+))+)', re.DOTALL
)
_FIELD = re.compile(rf'({_NAME})=("?)([^\s"]+)"?')
_PLACE = re.compile("%[^%]")
_BLANK = re.compile(r"[ \t\n\r]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Template(NamedTuple):
    head: str
    fields: tuple[tuple[str, bool, str], ...]
    """Name, whether the template quotes it, and the template of its value."""


@lru_cache(maxsize=1024)
def _template(text: str) -> _Template | None:
    found = _TEMPLATE.fullmatch(text)
    if found is None:
        return None
    fields = tuple(
        (name, bool(quote), value)
        for name, quote, value in _FIELD.findall(found["fields"])
    )
    return _Template(found["head"], fields)


def _parts(record: logging.LogRecord) -> tuple[str, list[tuple[str, bool, Any]]]:
    """Return the message, and of its fields: name, whether quoted, value."""
    args: tuple[Any, ...] = (
        cast("tuple[Any, ...]", record.args) if isinstance(record.args, tuple) else ()
    )
    template = _template(record.msg) if args and isinstance(record.msg, str) else None
    if template is None:
        return record.getMessage(), []
    at = len(_PLACE.findall(template.head))
    head = template.head % args[:at]
    fields: list[tuple[str, bool, Any]] = []
    for name, quoted, value in template.fields:
        end = at + len(_PLACE.findall(value))
        alone = value in ("%s", "%d")
        fields.append((name, quoted, args[at] if alone else value % args[at:end]))
        at = end
    return head, fields


def module_name(logger: str) -> str:
    """Return the name shown: ``pyconsul.http.server`` is ``agent.http``."""
    if not logger.startswith("pyconsul."):
        return logger
    room = logger.split(".")[1]
    return "agent" if room == "agent" else f"agent.{room}"


def _text(record: logging.LogRecord) -> str:
    """Return name, message, fields and traceback, on lines that are one entry."""
    text, fields = _parts(record)
    shown: list[str] = []
    for name, quoted, value in fields:
        one = str(value)
        shown.append(
            f'{name}="{one}"' if quoted or _BLANK.search(one) else f"{name}={one}"
        )
    if shown:
        text = f"{text}: {' '.join(shown)}"
    if not text.isprintable():
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        first, *more = text.split("\n")
        text = "\n".join(
            [first, *(line if line[:1] in " \t" else f"  {line}" for line in more)]
        )
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return f"{module_name(record.name)}: {text}"


class LineFormatter(logging.Formatter):
    """Consul's text lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; what continues it is indented, but for tracebacks."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _SHOWN.get(record.levelno, f"[{record.levelname}]")
        return f"{when}.{int(record.msecs):03d}Z {level} {_text(record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, as ``-log-json`` and ``logjson`` show."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _SHOWN.get(record.levelno, "[INFO] ").strip("[] ").lower()
        text, fields = _parts(record)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        entry: dict[str, Any] = {
            "@level": level,
            "@message": text,
            "@module": module_name(record.name),
            "@timestamp": f"{when}.{int(record.msecs * 1000):06d}Z",
        }
        for name, _, value in fields:
            plain = type(value) in (bool, int, float)
            entry[name] = value if plain else str(value)
        return json.dumps(entry, separators=(",", ":"))


class BareFormatter(logging.Formatter):
    """A line without time and level, which syslog has of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one message."""
        return _text(record)
