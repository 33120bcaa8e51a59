"""The ``pyconsul-template`` command.

Exit status: 0 done or stopped by SIGTERM or SIGINT, 13 wrong flags, 14 the run
failed (template, command, missing data), 15 wrong configuration. SIGHUP reads
the configuration and the templates again; when they are wrong the old ones
stay in use.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError, FlagError, HelpRequested
from pyconsul_client.goflags import FlagSet
from pyconsul_client.view import Rules, Views
from pyconsul_template.config import (
    ConfigError,
    Settings,
    load_files,
    merge,
    parse_template_flag,
    settle,
)
from pyconsul_template.patience import PatientTransport
from pyconsul_template.render import TemplateError
from pyconsul_template.runner import RunError, Runner, print_to_stdout
from pyconsul_template.source import NoData, Source
from pyconsul_template.syntax import open_template

log = logging.getLogger("pyconsul_template")

ONCE_POLL_S = 1.0
POLL_S = 10.0
"""Pause of views that cannot block, such as the datacenters'."""

EXIT_OK = 0
EXIT_FLAGS = 13
EXIT_RUN = 14
EXIT_CONFIG = 15

USAGE = """\
Usage: pyconsul-template [options]

  Renders Jinja2 templates from Consul's KV store, catalog and health, keeps the
  files up to date, and runs a command after a file has changed.
"""
_LEVEL_NAMES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERR",
}

# Flag, configuration key (dotted), help.
_TEXT_FLAGS = (
    ("wait", "wait", "Quiescence of every template, MIN or MIN:MAX."),
    ("max-stale", "max_stale", "Oldest answer believed; 0 asks the leader only."),
    ("log-level", "log_level", "One of trace, debug, info, warn, err."),
    ("pid-file", "pid_file", "File to write the process ID to."),
    ("once-timeout", "once_timeout", "With -once, give up after this time."),
    ("missing-timeout", "missing_timeout", "Give up on missing data after this."),
    ("consul-addr", "consul.address", "Address of the agent."),
    ("consul-token", "consul.token", "ACL token."),
    ("consul-token-file", "consul.token_file", "File with the ACL token."),
    ("consul-ssl-ca-cert", "consul.ssl.ca_cert", "CA certificates to trust."),
    ("consul-ssl-ca-path", "consul.ssl.ca_path", "Folder of CA certificates."),
    ("consul-ssl-cert", "consul.ssl.cert", "Client certificate."),
    ("consul-ssl-key", "consul.ssl.key", "Client key."),
    ("consul-ssl-server-name", "consul.ssl.server_name", "Name to verify."),
    ("syntax", "syntax", "Language of templates: auto, jinja2 or gotemplate."),
    ("default-left-delimiter", "default_delimiters.left", "Instead of {{."),
    ("default-right-delimiter", "default_delimiters.right", "Instead of }}."),
)
_SWITCHES = (
    ("once", "once", "Render everything once, waiting for all data, and exit."),
    ("err-on-failed-lookup", "err_on_failed_lookup", "Fail on a missing key."),
    ("consul-ssl", "consul.ssl.enabled", "Use TLS."),
    ("consul-ssl-verify", "consul.ssl.verify", "Verify the server's certificate."),
)


def main() -> None:
    """Run the command with the process's arguments and exit."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    flags = _declare()
    try:
        flags.parse(argv)
        if flags.operands:
            raise FlagError(f"unexpected argument: {flags.operands[0]}")
    except HelpRequested:
        print(flags.help(USAGE), end="")
        return EXIT_OK
    except FlagError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_FLAGS
    if flags.switch("version"):
        from importlib.metadata import version

        print(f"pyconsul-template v{version('pyconsul-suite')}")
        return EXIT_OK

    def load() -> Settings:
        settings = _settings(flags)
        # A wrong template shows before anything is stopped or started.
        for plan in settings.templates:
            open_template(plan.source, Source(NoData()))
        return settings

    try:
        settings = load()
    except ConfigError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except TemplateError as error:
        print(f"pyconsul-template: {error}", file=sys.stderr)
        return EXIT_RUN
    if flags.switch("parse-only"):
        return EXIT_OK
    _set_up_logging(settings.log_level)
    return _with_pid_file(settings, lambda: _run_loop(_serve(settings, load)))


def _declare() -> FlagSet:
    flags = FlagSet()
    flags.strings("config", "Configuration file or folder (JSON); repeats.")
    flags.strings("template", "IN[:OUT[:COMMAND]]; repeats.")
    for name, _, text in _TEXT_FLAGS:
        flags.string(name, text=text)
    for name, _, text in _SWITCHES:
        flags.boolean(name, text=text)
    flags.boolean("template-error-fatal", True, "A wrong template ends the run.")
    flags.boolean("command-error-fatal", text="A failed command ends the run.")
    flags.boolean("dry", text="Print what would be written; write and run nothing.")
    flags.boolean("parse-only", text="Parse configuration and templates, and exit.")
    flags.boolean("version", text="Print the version.")
    return flags


def _settings(flags: FlagSet) -> Settings:
    content = load_files(flags.many("config"))
    for name, key, _ in _TEXT_FLAGS:
        if name in flags.given:
            content = merge(content, _nested(key, flags.text(name)))
    for name, key, _ in _SWITCHES:
        if name in flags.given:
            content = merge(content, _nested(key, flags.switch(name)))
    if flags.switch("command-error-fatal"):
        content = merge(content, {"on_command_error": "exit"})
    given = [parse_template_flag(text) for text in flags.many("template")]
    content = merge({"template": []}, merge(content, {"template": given}))
    fatal = "template-error-fatal" in flags.given
    return settle(
        content,
        dry=flags.switch("dry"),
        error_fatal=flags.switch("template-error-fatal") if fatal else None,
    )


def _nested(key: str, value: object) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _run_loop(work: Coroutine[Any, Any, int]) -> int:
    try:
        from uvloop import new_event_loop
    except ImportError:  # No uvloop on this platform.
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


async def _serve(settings: Settings, load: Callable[[], Settings]) -> int:
    """Run until done or stopped, starting over after each good reload."""
    loop = asyncio.get_running_loop()
    stop, hang_up = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    while True:
        work = asyncio.create_task(_run_once_configured(settings))
        reload = asyncio.create_task(_reloaded(hang_up, load))
        stopping = asyncio.create_task(stop.wait())
        tasks: tuple[asyncio.Task[Any], ...] = (work, reload, stopping)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        status = work.result() if work.done() else None
        if status is None and reload.done():
            settings = reload.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if status is not None:
            return status
        if stop.is_set():
            log.info("stopped")
            return EXIT_OK
        logging.getLogger().setLevel(settings.log_level)
        log.warning("configuration read again")


async def _reloaded(hang_up: asyncio.Event, load: Callable[[], Settings]) -> Settings:
    """Return the settings of the next reload that is right."""
    while True:
        await hang_up.wait()
        hang_up.clear()
        try:
            return load()
        except (ConfigError, TemplateError) as error:
            log.error("%s; the old configuration stays in use", error)


async def _run_once_configured(settings: Settings) -> int:
    # One render needs no long polls: without lanes the views fetch, and poll for
    # what is missing.
    transport = PatientTransport(settings.consul, 0 if settings.once else None)
    rules = Rules(
        poll_interval=ONCE_POLL_S if settings.once else POLL_S,
        wait=settings.query_wait_s,
        stale=settings.max_stale_s > 0,
        max_stale=settings.max_stale_s,
        backoff_base=settings.backoff_s,
        backoff_cap=settings.backoff_max_s,
    )
    runner = Runner(settings, print_to_stdout, transport.begin)
    async with (
        Client(options=settings.consul, transport=transport) as client,
        Views(client, runner.changed, rules=rules) as views,
    ):
        # Caught here: the views' task group would wrap it in a group.
        try:
            runner.prepare(views)
            await runner.run()
        except (RunError, TemplateError, ClientError) as error:
            log.error("%s", error)
            return EXIT_RUN
    return EXIT_OK


class _Formatter(logging.Formatter):
    """The reference's lines: ``2026/11/21 10:18:13.012173 [ERR] text``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone()
        level = _LEVEL_NAMES.get(record.levelno, record.levelname)
        return f"{time:%Y/%m/%d %H:%M:%S.%f} [{level}] {record.getMessage()}"


def _set_up_logging(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


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
