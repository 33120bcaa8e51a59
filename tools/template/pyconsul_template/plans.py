"""The checked configuration as the other modules read it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct, field

from pyconsul_client.options import Options
from pyconsul_template.commands import Command
from pyconsul_template.engine import Wait
from pyconsul_template.output import Target
from pyconsul_template.render import TemplateSource
from pyconsul_template.schema import LogFileBlock, SyslogBlock, TelemetryBlock
from pyconsul_template.shape import Shape

NONE, RELOAD, RESTART = "none", "reload", "restart"
"""What a change of a file does to the supervised children."""


def strongest(actions: Collection[str]) -> str:
    """Return what several changes together do to the children."""
    return RESTART if RESTART in actions else RELOAD if RELOAD in actions else NONE


class HealthPlan(Struct, frozen=True, kw_only=True):
    """What has to pass before the next reload; times in seconds."""

    service: str
    """A service of the local agent, by name or ID."""
    check: str
    """Or the ID of a check there."""
    timeout_s: float
    """After this long reloads go on."""
    stable_s: float
    """How long it has to pass without a break."""

    @property
    def name(self) -> str:
        """It for people."""
        return f"check {self.check}" if self.check else f"service {self.service}"


class TemplatePlan(Struct, frozen=True, kw_only=True):
    """One template, resolved."""

    source: TemplateSource
    target: Target | None
    """Where the text goes; ``None`` only in a dry run."""
    wait: Wait | None
    command: Command | None
    check: Command | None
    """Run on the new file before it replaces the old; ``{{tmp}}`` names it."""
    error_fatal: bool
    command_error_fatal: bool
    rolls_back: bool = False
    """Whether a failed command puts the old file back."""
    shape: Shape = Shape()
    group: str = ""
    """The notify group, empty for none."""
    runs_at_start: bool = False
    """Whether the command runs once though the file was right already."""
    haproxy: str = ""
    """The stats socket to set servers by instead of running the command."""
    health: HealthPlan | None = None
    """What has to pass after the command, before another one runs."""
    child_action: str = RELOAD
    """What a change does to the children: ``none``, ``reload`` or ``restart``."""
    variable: str = ""
    """The variable of the children's environment that it makes, no file."""
    children: tuple[str, ...] = ()
    """Names of the children that get the variable; all when empty."""
    folder: str = ""
    """The set of files it is part of."""

    @property
    def name(self) -> str:
        """The template's file, or the name of its ``contents``."""
        return str(self.source.path) if self.source.path else self.source.name

    @property
    def destination(self) -> str:
        """Where the text goes: a file, or ``$NAME`` of a variable."""
        if self.variable:
            return f"${self.variable}"
        return "" if self.target is None else str(self.target.path)


class GroupPlan(Struct, frozen=True, kw_only=True):
    """Templates whose commands run together, once all are written."""

    name: str
    members: tuple[int, ...]
    window_s: float
    """From the last write to the commands."""
    limit_s: float
    """From the first write to the commands, at most."""
    all_first: bool
    """Whether each member has to be rendered once before."""


class SwapPlan(Struct, frozen=True, kw_only=True):
    """A set of files behind one link."""

    name: str
    path: Path
    """The link."""
    keep: int
    """Folders of earlier sets that stay."""
    mode: int
    """Of the folders."""
    window_s: float
    """From the last change to the switch."""
    command: Command | None
    check: Command | None
    command_error_fatal: bool
    rolls_back: bool
    health: HealthPlan | None
    root: Path | None
    """The folder that it has to be in; ``None`` for no limit."""


class FolderPlan(Struct, frozen=True, kw_only=True):
    """A folder whose files are templates."""

    path: Path
    exclude: tuple[str, ...]
    found: frozenset[str]
    """The files there were, relative."""


class ChildPlan(Struct, frozen=True, kw_only=True):
    """The supervised child of exec mode; times in seconds."""

    command: Command
    kill_signal: int
    kill_timeout_s: float
    reload_signal: int
    """0: the child is restarted instead."""
    splay_s: float
    timeout_s: float
    """After this long the child is stopped; 0 for never."""
    pristine: bool = False
    custom: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    name: str = ""
    restart: str = "never"
    """Or ``on-failure``, ``always``."""
    reload_command: Command | None = None
    health: HealthPlan | None = None
    """What has to pass after a start or reload, before another reload."""


class DedupPlan(Struct, frozen=True, kw_only=True):
    """De-duplication among instances with the same templates."""

    prefix: str
    ttl_s: float


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a run needs."""

    templates: tuple[TemplatePlan, ...]
    consul: Options
    max_stale_s: float
    query_wait_s: float
    backoff_s: float
    backoff_max_s: float
    attempts: int = 0
    """Failures in a row of one query that end the run; 0 for no limit."""
    connections: int = 0
    """Questions held by the agent at most; 0 for what the agent allows."""
    once: bool = False
    dry: bool = False
    explain: bool = False
    once_timeout_s: float = 0.0
    """After this long ``once`` gives up; 0 waits for ever."""
    missing_timeout_s: float = 0.0
    """A template held this long by missing data ends the run; 0 for never."""
    fail_on_missing: bool = False
    """A key that does not exist ends the run instead of being waited for."""
    log_level: int = logging.WARNING
    log_file: LogFileBlock | None = None
    syslog: SyslogBlock | None = None
    pid_file: Path | None = None
    children: tuple[ChildPlan, ...] = ()
    groups: tuple[GroupPlan, ...] = ()
    folders: tuple[FolderPlan, ...] = ()
    swaps: tuple[SwapPlan, ...] = ()
    dedup: DedupPlan | None = None
    stop_signals: Mapping[int, int] = field(
        default_factory=lambda: {signal.SIGTERM: 0, signal.SIGINT: 0}
    )
    """Signals that stop us, with the exit status."""
    reload_signal: int = signal.SIGHUP
    status_addr: str = ""
    shows_renders: str = "no"
    """Whom ``/render`` of the status shows the texts: ``no``, ``local``, ``all``."""
    telemetry: TelemetryBlock | None = None
    watch_config: bool = False
    config_paths: tuple[str, ...] = ()
    """What ``-config`` named."""
    dies_on_reload_error: bool = False
    warnings: tuple[str, ...] = ()
    """What to tell once the log is set up."""
    watch_templates: bool = True
