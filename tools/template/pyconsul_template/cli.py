"""The ``pyconsul-template`` command.

Exit status: 0 done or stopped by a signal (12 with ``-exit-code-compat``), 13
wrong flags, 14 the run failed (template, command, missing data), 15 wrong
configuration; with ``-exec`` otherwise the child's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pyconsul_client.errors import FlagError, HelpRequested
from pyconsul_client.goflags import FlagSet
from pyconsul_template import logs
from pyconsul_template.config import ConfigError, Settings
from pyconsul_template.flags import declare, refuse_unsupported, settings_of
from pyconsul_template.render import TemplateError
from pyconsul_template.source import NoData, Source
from pyconsul_template.syntax import open_template

log = logging.getLogger("pyconsul_template")

EXIT_OK = 0
EXIT_FLAGS = 13
EXIT_RUN = 14
EXIT_CONFIG = 15
GC_OBJECTS = 20_000
"""New objects after which Python looks for unreachable cycles."""

USAGE = """\
Usage: pyconsul-template [check|status] [options]

  Renders templates (Jinja2, or Go's as consul-template has them) from Consul's
  KV store, catalog and health, keeps the files up to date, and runs a command
  after a file has changed.

  check    Parse configuration and templates without a server; name what is wrong.
  status   Print the state of the instance that serves -status-addr.
"""


def main() -> None:
    """Run the command with the process's arguments and exit."""
    # What is made at the start stays: looking through it for cycles takes a tenth
    # of the start.
    gc.set_threshold(GC_OBJECTS, 10, 10)
    if reaps(sys.argv[1:], is_first=os.getpid() == 1):
        from pyconsul_template.first import give_way

        give_way()
    sys.exit(run(sys.argv[1:]))


def reaps(argv: Sequence[str], *, is_first: bool) -> bool:
    """Whether ``-reap`` says to be above the tool, or process 1 is by itself.

    Looked for before the flags are parsed: the tool itself runs below.
    """
    for word in argv:
        name, _, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "reap":
            is_first = value.lower() not in ("0", "f", "false")
    return is_first


def run(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    words = list(argv)
    verb = words.pop(0) if words[:1] in (["check"], ["status"]) else ""
    flags = declare()
    try:
        refuse_unsupported(words)
        flags.parse(words)
        if flags.operands:
            raise FlagError(f"unexpected argument: {flags.operands[0]}")
    except HelpRequested:
        print(flags.help(USAGE), end="")
        return EXIT_OK
    except FlagError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_FLAGS
    if flags.switch("version") or flags.switch("v"):
        from importlib.metadata import version

        print(f"pyconsul-template v{version('pyconsul-suite')}")
        return EXIT_OK
    if verb == "status":
        return _status(flags)
    if verb == "check":
        from pyconsul_template.checking import check

        return check(flags)
    return _render(flags)


def _render(flags: FlagSet) -> int:
    def load() -> Settings:
        settings = settings_of(flags)
        # A wrong template shows before anything is stopped or started.
        for plan in settings.templates:
            open_template(plan.source, Source(NoData()))
        return settings

    try:
        settings = load()
        if flags.switch("parse-only"):
            return EXIT_OK
        logs.set_up(settings)
        for text in settings.warnings:
            log.warning("%s", text)
    except ConfigError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except TemplateError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_RUN
    from pyconsul_template.serve import Service

    def work() -> int:
        return _run_loop(Service(settings, load).run())

    return _with_pid_file(settings, work)


def _status(flags: FlagSet) -> int:
    from pyconsul_template.asking import fetch_status
    from pyconsul_template.status import overview

    address = ""
    try:
        address = settings_of(flags, needs_template=False).status_addr
        if not address:
            raise ConfigError("no -status-addr or status_addr is given")
        print(overview(fetch_status(address)), end="")
    except ConfigError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"pyconsul-template: {address}: {reason}", file=sys.stderr)
        return EXIT_RUN
    return EXIT_OK


def _run_loop(work: Coroutine[Any, Any, int]) -> int:
    try:
        from uvloop import new_event_loop
    except ImportError:  # No uvloop on this platform.
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def _with_pid_file(settings: Settings, work: Callable[[], int]) -> int:
    path = settings.pid_file
    if path is None:
        return work()
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        log.error("%s: %s", path, error.strerror)
        return EXIT_RUN
    try:
        return work()
    finally:
        path.unlink(missing_ok=True)
