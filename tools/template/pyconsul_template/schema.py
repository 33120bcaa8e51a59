"""The keys of the configuration, as blocks that know no others.

Names and defaults are the reference's; what is ours alone says so.
"""

from __future__ import annotations

import signal
from typing import Literal

import msgspec

from pyconsul_client.goflags import parse_duration

Duration = str | int | float
"""Go duration text, or a number of seconds."""


class ConfigError(Exception):
    """The configuration is wrong; the text names the file and the key."""


class Block(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of the blocks: an unknown key is an error."""


class WaitBlock(Block, kw_only=True):
    """``wait { min max enabled }``."""

    min: Duration = 0
    max: Duration = 0
    enabled: bool = True


class Delimiters(Block, kw_only=True):
    """``default_delimiters { left right }``."""

    left: str = "{{"
    right: str = "}}"


class EnvBlock(Block, kw_only=True):
    """``exec { env }``: what of our environment the child gets."""

    pristine: bool = False
    custom: list[str] = []
    allowlist: list[str] = []
    denylist: list[str] = []
    whitelist: list[str] = []
    """Old name of ``allowlist``."""
    blacklist: list[str] = []
    """Old name of ``denylist``."""


class ExecBlock(Block, kw_only=True):
    """``exec``: the supervised child, or in a template its command."""

    command: str | list[str] = ""
    enabled: bool = True
    timeout: Duration | None = None
    kill_signal: str | None = None
    """SIGINT for the child; a template's command gets SIGKILL if not given."""
    kill_timeout: Duration = "30s"
    reload_signal: str = ""
    """Of the child alone."""
    splay: Duration = 0
    env: EnvBlock = msgspec.field(default_factory=EnvBlock)


class HealthyBlock(Block, kw_only=True):
    """``healthy``, ours: what has to pass after a reload, before the next."""

    service: str = ""
    """Name or ID of a service of the local agent."""
    check: str = ""
    """Or the ID of a check there."""
    timeout: Duration = "30s"
    """After this long the next reload is done all the same."""
    stable: Duration = "5s"
    """How long it has to pass without a break."""


class ChildBlock(ExecBlock, kw_only=True):
    """``exec`` of the whole run: a supervised child."""

    restart: Literal["never", "on-failure", "always"] = "never"
    """Ours: what is done when it ends by itself."""
    reload_command: str | list[str] = ""
    """Ours: run at a change, instead of a signal or a restart."""
    healthy: HealthyBlock | None = None


class NotifyBlock(Block, kw_only=True):
    """``notify "name"``, ours: how a group of templates runs its commands."""

    command: str | list[str] = ""
    """Of the members that have none of their own."""
    command_timeout: Duration = "30s"
    window: Duration = "50ms"
    """How long after the last write the commands wait for another."""
    all_rendered_first: bool = True
    """Whether no command runs before each member was rendered once."""
    healthy: HealthyBlock | None = None


CommandError = Literal["log", "exit", "rollback"]


class TemplateBlock(Block, kw_only=True):
    """One ``template``."""

    source: str = ""
    contents: str | None = None
    destination: str = ""
    create_dest_dirs: bool = True
    command: str | list[str] = ""
    command_timeout: Duration = "30s"
    exec: ExecBlock | None = None
    check: str | list[str] = ""
    """Ours: run on the new file before it replaces the old one."""
    perms: str | int | None = None
    user: str | int | None = None
    group: str | int | None = None
    uid: str | int | None = None
    """Old name of ``user``."""
    gid: str | int | None = None
    """Old name of ``group``."""
    backup: bool = False
    error_on_missing_key: bool = False
    error_fatal: bool | None = None
    left_delimiter: str = ""
    right_delimiter: str = ""
    wait: WaitBlock | str | None = None
    function_denylist: list[str] = []
    function_blacklist: list[str] = []
    """Old name of ``function_denylist``."""
    sandbox_path: str = ""
    on_command_error: CommandError | None = None
    on_empty: Literal["render", "keep", "fail"] = "render"
    """Ours: what a text of nothing but white space does."""
    min_ratio: float = 0.0
    """Ours: a text with less than this part of the old lines is not believed."""
    newline: Literal["lf", "crlf"] = "lf"
    encoding: str = "utf-8"
    symlinks: Literal["follow", "replace"] = "follow"
    """Ours: whether a link at the destination stays."""
    syntax: str = ""
    engine: str = ""
    """Another name of ``syntax``."""
    for_each: str = ""
    """Ours: an expression; a file for each of its items."""
    exclude: list[str] = []
    """Ours: patterns of files in a ``source`` folder that are no templates."""
    notify: str = ""
    """Ours: the group that the command is run with, or ``haproxy-socket:ADDRESS``."""
    haproxy_socket: str = ""
    """Ours: the stats socket that servers are set by, where no reload is needed."""
    run_at_start: Literal["changed", "always"] = "changed"
    """Ours: whether the command runs once for a file that was already right."""
    healthy: HealthyBlock | None = None
    on_change: Literal["none", "reload", "restart"] = "reload"
    """Ours: what a change of the file does to the supervised children."""
    atomic: Literal["require", "prefer", "never"] = "prefer"
    """Ours: whether the file has to be replaced in one step."""
    atomic_dir: str = ""
    """Ours: the set of files it is part of; ``destination`` is relative there."""


class EnvTemplateBlock(Block, kw_only=True):
    """``env_template "NAME"``, ours: a variable of the child's environment."""

    source: str = ""
    contents: str | None = None
    children: list[str] = []
    """Names of the ``exec`` blocks that get it, ``""`` the unnamed; all if empty."""
    error_on_missing_key: bool = False
    error_fatal: bool | None = None
    left_delimiter: str = ""
    right_delimiter: str = ""
    wait: WaitBlock | str | None = None
    function_denylist: list[str] = []
    sandbox_path: str = ""
    on_empty: Literal["render", "keep", "fail"] = "render"
    syntax: str = ""


class AtomicDirBlock(Block, kw_only=True):
    """``atomic_dir "name"``, ours: files that change together, behind one link."""

    path: str = ""
    """The link that readers go through."""
    keep: int = 1
    """Folders of earlier sets that stay."""
    perms: str | int = "0755"
    """Of the folders."""
    check: str | list[str] = ""
    """Run on the new folder before the link says it."""
    command: str | list[str] = ""
    command_timeout: Duration = "30s"
    on_command_error: CommandError | None = None
    healthy: HealthyBlock | None = None
    window: Duration = "50ms"
    """How long after the last change the set waits for another."""


class AuthBlock(Block, kw_only=True):
    """``consul { auth }``."""

    enabled: bool = True
    username: str = ""
    password: str = ""


class SslBlock(Block, kw_only=True):
    """``consul { ssl }``; naming it switches TLS on."""

    enabled: bool = True
    verify: bool = True
    ca_cert: str = ""
    ca_cert_bytes: str = ""
    ca_path: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


class RetryBlock(Block, kw_only=True):
    """``consul { retry }``: the pause after an error doubles up to a maximum.

    ``attempts`` failures in a row end the run, 0 tries for ever; not given, it is
    12 with ``once`` as in the reference, else 0.
    """

    enabled: bool = True
    attempts: int | None = None
    backoff: Duration = "250ms"
    max_backoff: Duration = "1m"


class TransportBlock(Block, kw_only=True):
    """``consul { transport }``; only ``max_conns_per_host`` has an effect."""

    dial_keep_alive: Duration = "30s"
    dial_timeout: Duration = "30s"
    disable_keep_alives: bool = False
    idle_conn_timeout: Duration = "5s"
    max_idle_conns: int = 0
    max_idle_conns_per_host: int = 100
    max_conns_per_host: int = 0
    tls_handshake_timeout: Duration = "10s"


class ConsulBlock(Block, kw_only=True):
    """``consul``."""

    address: str = ""
    namespace: str = ""
    token: str = ""
    token_file: str = ""
    auth: AuthBlock | None = None
    ssl: SslBlock | None = None
    retry: RetryBlock = msgspec.field(default_factory=RetryBlock)
    transport: TransportBlock = msgspec.field(default_factory=TransportBlock)


class DedupBlock(Block, kw_only=True):
    """``deduplicate``."""

    enabled: bool = True
    prefix: str = "pyconsul-template/dedup/"
    ttl: Duration = "15s"
    max_stale: Duration = "2s"
    block_query_wait: Duration = "60s"


class SyslogBlock(Block, kw_only=True):
    """``syslog``; naming it switches it on."""

    enabled: bool = True
    facility: str = "LOCAL0"
    name: str = "pyconsul-template"


class LogFileBlock(Block, kw_only=True):
    """``log_file``: put aside when so large (0: any) or so old.

    Of those put aside so many are kept: 0 all, -1 none.
    """

    path: str = ""
    log_rotate_bytes: int = 0
    log_rotate_duration: Duration = "24h"
    log_rotate_max_files: int = 0


class TelemetryBlock(Block, kw_only=True):
    """``telemetry``, ours: metrics sent to a statsd address over UDP."""

    statsd_address: str = ""
    metrics_prefix: str = "pyconsul_template"
    interval: Duration = "10s"


class FileConfig(Block, kw_only=True):
    """A whole configuration file."""

    consul: ConsulBlock = msgspec.field(default_factory=ConsulBlock)
    template: list[TemplateBlock] = []
    exec: ChildBlock | None = None
    execs: dict[str, ChildBlock] = {}
    """Ours: the blocks ``exec "name"``, several children."""
    notify: dict[str, NotifyBlock] = {}
    env_template: dict[str, EnvTemplateBlock] = {}
    atomic_dir: dict[str, AtomicDirBlock] = {}
    template_path: list[str] = []
    """Ours: more folders that Jinja2's ``include`` and ``import`` look in."""
    wait: WaitBlock | str | None = None
    max_stale: Duration = "2s"
    block_query_wait: Duration = "60s"
    once: bool = False
    kill_signal: str | None = None
    exit_code_compat: bool = False
    """Ours: a stop by a signal is 12 as in the reference, instead of 0."""
    reload_signal: str = "SIGHUP"
    log_level: str = "warn"
    log_file: LogFileBlock | None = None
    syslog: SyslogBlock | None = None
    pid_file: str = ""
    deduplicate: DedupBlock | None = None
    template_error_fatal: bool = True
    err_on_failed_lookup: bool = False
    missing_timeout: Duration = 0
    once_timeout: Duration = 0
    on_command_error: CommandError = "log"
    default_delimiters: Delimiters = msgspec.field(default_factory=Delimiters)
    syntax: str = "auto"
    destination_root: str = ""
    """Ours: no file outside this folder is written."""
    status_addr: str = ""
    """Ours: where the status is served, ``host:port`` or ``unix:/path``."""
    status_render: bool | None = None
    """Ours: whether that has ``/render``, the texts, which may hold secrets; not
    given, only at the loopback address or a socket."""
    telemetry: TelemetryBlock | None = None
    watch_config: bool = False
    """Ours: a changed configuration file is read again at once."""
    on_reload_error: Literal["keep", "die"] = "keep"
    """Ours: what a wrong configuration or template does when it is read again."""
    watch_templates: bool = True
    """Ours: a template whose file changes is read again at once."""


def seconds(where: str, value: Duration) -> float:
    """Return a duration in seconds, not negative; raises ``ConfigError``."""
    try:
        result = parse_duration(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not 0 <= result < 1e9:
        raise ConfigError(f"{where}: {value} is out of range")
    return result


def signal_number(where: str, name: str) -> int:
    """Return the number of ``SIGHUP`` or ``HUP``, 0 for an empty name."""
    text = name.upper()
    if text and not text.startswith("SIG"):
        text = f"SIG{text}"
    found = getattr(signal, text, None) if text else None
    if text and (not isinstance(found, signal.Signals) or text.startswith("SIG_")):
        raise ConfigError(f"{where}: {name!r} is no signal")
    if found in (signal.SIGKILL, signal.SIGSTOP) and not where.startswith("exec"):
        raise ConfigError(f"{where}: {name} cannot be caught")
    return int(found or 0)
