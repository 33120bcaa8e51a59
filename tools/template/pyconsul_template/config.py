"""The configuration: JSON files, then flags over them, as one checked value.

Keys and defaults are the reference's; a key this tool does not know is an
error that names it. A folder is read in lexical order, its ``*.json`` files
only; later files win, ``template`` blocks add up.
"""

from __future__ import annotations

import grp
import json
import logging
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from pyconsul_client.errors import OptionsError
from pyconsul_client.goflags import parse_duration
from pyconsul_client.options import Options, resolve
from pyconsul_template.commands import Command, parse_command
from pyconsul_template.engine import Wait
from pyconsul_template.output import Target
from pyconsul_template.render import TemplateSource
from pyconsul_template.syntax import SYNTAXES

LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "err": logging.ERROR,
}
CONFIG_BYTES_MAX = 4 * 1024 * 1024
DEPTH_MAX = 32
MAX_FACTOR = 4
"""A wait of only a minimum has four times that as its maximum."""

Duration = str | int | float
"""Go duration text, or a number of seconds."""


class ConfigError(Exception):
    """The configuration is wrong; the text names the file and the key."""


class _Block(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class WaitBlock(_Block, kw_only=True):
    """``wait { min max enabled }``."""

    min: Duration = 0
    max: Duration = 0
    enabled: bool = True


class Delimiters(_Block, kw_only=True):
    """``default_delimiters { left right }``."""

    left: str = "{{"
    right: str = "}}"


class ExecBlock(_Block, kw_only=True):
    """A template's ``exec { command timeout }``."""

    command: str | list[str] = ""
    timeout: Duration = "30s"


class TemplateBlock(_Block, kw_only=True):
    """One ``template``."""

    source: str = ""
    contents: str | None = None
    destination: str = ""
    create_dest_dirs: bool = True
    command: str | list[str] = ""
    command_timeout: Duration = "30s"
    exec: ExecBlock | None = None
    check: str | list[str] = ""
    perms: str | int | None = None
    user: str | int | None = None
    group: str | int | None = None
    backup: bool = False
    error_on_missing_key: bool = False
    error_fatal: bool | None = None
    left_delimiter: str = ""
    right_delimiter: str = ""
    wait: WaitBlock | str | None = None
    function_denylist: list[str] = []
    sandbox_path: str = ""
    on_command_error: Literal["log", "exit"] | None = None
    syntax: str = ""
    engine: str = ""
    """Another name of ``syntax``."""


class AuthBlock(_Block, kw_only=True):
    """``consul { auth }``."""

    enabled: bool = True
    username: str = ""
    password: str = ""


class SslBlock(_Block, kw_only=True):
    """``consul { ssl }``; naming it switches TLS on."""

    enabled: bool = True
    verify: bool = True
    ca_cert: str = ""
    ca_path: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


class RetryBlock(_Block, kw_only=True):
    """``consul { retry }``: the pause after an error doubles up to a maximum."""

    backoff: Duration = "250ms"
    max_backoff: Duration = "1m"


class ConsulBlock(_Block, kw_only=True):
    """``consul``."""

    address: str = ""
    token: str = ""
    token_file: str = ""
    auth: AuthBlock | None = None
    ssl: SslBlock | None = None
    retry: RetryBlock = msgspec.field(default_factory=RetryBlock)


class FileConfig(_Block, kw_only=True):
    """A whole configuration file."""

    consul: ConsulBlock = msgspec.field(default_factory=ConsulBlock)
    template: list[TemplateBlock] = []
    wait: WaitBlock | str | None = None
    max_stale: Duration = "2s"
    block_query_wait: Duration = "60s"
    once: bool = False
    log_level: str = "warn"
    pid_file: str = ""
    template_error_fatal: bool = True
    err_on_failed_lookup: bool = False
    missing_timeout: Duration = 0
    once_timeout: Duration = 0
    on_command_error: Literal["log", "exit"] = "log"
    default_delimiters: Delimiters = msgspec.field(default_factory=Delimiters)
    syntax: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplatePlan:
    """One template, resolved."""

    source: TemplateSource
    target: Target | None
    """Where the text goes; ``None`` only in a dry run."""
    wait: Wait | None
    command: Command | None
    check: Command | None
    """Run on the new file before it replaces the old; ``{{ path }}`` names it."""
    error_fatal: bool
    command_error_fatal: bool

    @property
    def name(self) -> str:
        """The template's file, or the name of its ``contents``."""
        return str(self.source.path) if self.source.path else self.source.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs."""

    templates: tuple[TemplatePlan, ...]
    consul: Options
    max_stale_s: float
    query_wait_s: float
    backoff_s: float
    backoff_max_s: float
    once: bool = False
    dry: bool = False
    once_timeout_s: float = 0.0
    """After this long ``once`` gives up; 0 waits for ever."""
    missing_timeout_s: float = 0.0
    """A template held this long by missing data ends the run; 0 for never."""
    fail_on_missing: bool = False
    """A key that does not exist ends the run instead of being waited for."""
    log_level: int = logging.WARNING
    pid_file: Path | None = None


def load_files(paths: Sequence[str]) -> dict[str, Any]:
    """Return the files' merged keys; each file is checked. Raises ``ConfigError``."""
    merged: dict[str, Any] = {}
    for path in paths:
        for file in _files(Path(path)):
            content = _load(file)
            _checked(content, str(file))
            merged = merge(merged, content)
    return merged


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (
            Path(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if name.endswith(".json")
        )
        return sorted(found)
    return [path]


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: over {CONFIG_BYTES_MAX} bytes")
        content: Any = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a JSON object")
    result = cast("dict[str, Any]", content)
    # One block and a list of blocks mean the same in the reference's language.
    if isinstance(result.get("template"), dict):
        result["template"] = [result["template"]]
    return result


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return two configurations as one: ``high`` wins, templates append."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if key == "template" and old is not None:
            merged[key] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(
                cast("dict[str, Any]", old), cast("dict[str, Any]", value)
            )
        else:
            merged[key] = value
    return merged


def _checked(content: Mapping[str, Any], where: str) -> FileConfig:
    try:
        return msgspec.convert(content, FileConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error


def settle(
    content: Mapping[str, Any],
    *,
    dry: bool = False,
    error_fatal: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of merged keys; raises ``ConfigError``.

    ``error_fatal`` beats every template's own, as the reference's flag does.
    """
    file = _checked(content, "configuration")
    if not file.template:
        raise ConfigError("no template: give -template or a template block")
    if file.log_level.lower() not in LOG_LEVELS:
        raise ConfigError(f"log_level: {file.log_level!r} is none of {[*LOG_LEVELS]}")
    retry = file.consul.retry
    plans = tuple(
        _plan(file, index, block, dry=dry, error_fatal=error_fatal)
        for index, block in enumerate(file.template)
    )
    return Settings(
        templates=plans,
        consul=_options(file.consul, environ),
        max_stale_s=seconds("max_stale", file.max_stale),
        query_wait_s=seconds("block_query_wait", file.block_query_wait),
        backoff_s=seconds("consul.retry.backoff", retry.backoff),
        backoff_max_s=seconds("consul.retry.max_backoff", retry.max_backoff),
        once=file.once,
        dry=dry,
        once_timeout_s=seconds("once_timeout", file.once_timeout),
        missing_timeout_s=seconds("missing_timeout", file.missing_timeout),
        fail_on_missing=file.err_on_failed_lookup,
        log_level=LOG_LEVELS[file.log_level.lower()],
        pid_file=Path(file.pid_file) if file.pid_file else None,
    )


def _plan(
    file: FileConfig,
    index: int,
    block: TemplateBlock,
    *,
    dry: bool,
    error_fatal: bool | None,
) -> TemplatePlan:
    where = f"template[{index}]"
    if bool(block.source) == (block.contents is not None):
        raise ConfigError(f"{where}: give either source or contents")
    if not block.destination and not dry:
        raise ConfigError(f"{where}: destination is missing")
    if error_fatal is None:
        error_fatal = block.error_fatal
    if error_fatal is None:
        error_fatal = file.template_error_fatal
    run = block.exec or ExecBlock(command=block.command, timeout=block.command_timeout)
    timeout_s = seconds(f"{where}: command timeout", run.timeout)
    syntax = block.syntax or block.engine or file.syntax
    if syntax not in SYNTAXES:
        raise ConfigError(f"{where}: syntax {syntax!r} is not one of {list(SYNTAXES)}")
    source = TemplateSource(
        path=Path(block.source).absolute() if block.source else None,
        contents=block.contents or "",
        name=f"{where}.contents",
        left_delimiter=block.left_delimiter or file.default_delimiters.left,
        right_delimiter=block.right_delimiter or file.default_delimiters.right,
        error_on_missing_key=block.error_on_missing_key,
        denied=tuple(block.function_denylist),
        syntax=syntax,
        file_root=Path(block.sandbox_path) if block.sandbox_path else None,
    )
    return TemplatePlan(
        source=source,
        target=_target(where, block) if block.destination else None,
        wait=None if file.once else parse_wait(block.wait, parse_wait(file.wait)),
        command=parse_command(run.command, timeout_s),
        check=parse_command(block.check, timeout_s),
        error_fatal=error_fatal,
        command_error_fatal=(block.on_command_error or file.on_command_error) == "exit",
    )


def _target(where: str, block: TemplateBlock) -> Target:
    try:
        user, group = block.user, block.group
        if isinstance(user, str):
            user = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        if isinstance(group, str):
            group = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        mode = block.perms
        # JSON has no octal numbers: 644 and "0644" both mean rw-r--r--.
        mode = None if mode is None else int(str(mode), 8)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{where}: perms, user or group: {error}") from error
    if mode is not None and not 0 <= mode <= 0o7777:
        raise ConfigError(f"{where}: perms {block.perms} are out of range")
    return Target(
        path=Path(block.destination).absolute(),
        mode=mode,
        user_id=user,
        group_id=group,
        keep_backup=block.backup,
        create_directories=block.create_dest_dirs,
    )


def _options(block: ConsulBlock, environ: Mapping[str, str] | None) -> Options:
    ssl = block.ssl
    used = ssl if ssl is not None and ssl.enabled else SslBlock()
    try:
        options = resolve(
            environ,
            address=block.address,
            token=block.token,
            token_file=block.token_file,
            ca_file=used.ca_cert,
            ca_path=used.ca_path,
            client_cert=used.cert,
            client_key=used.key,
            server_name=used.server_name,
        )
    except OptionsError as error:
        raise ConfigError(f"consul: {error}") from error
    if ssl is not None:
        options.tls = ssl.enabled
        options.verify = ssl.verify
    if block.auth is not None and block.auth.enabled:
        options.auth = f"{block.auth.username}:{block.auth.password}"
    return options


def seconds(where: str, value: Duration) -> float:
    """Return a duration in seconds, not negative; raises ``ConfigError``."""
    try:
        result = parse_duration(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not 0 <= result < 1e9:
        raise ConfigError(f"{where}: {value} is out of range")
    return result


def parse_wait(
    value: WaitBlock | str | None, default: Wait | None = None
) -> Wait | None:
    """Return ``"5s"``, ``"5s:10s"`` or a block as a ``Wait``; 0 means none."""
    if value is None:
        return default
    if isinstance(value, str):
        low, colon, high = value.partition(":")
        block = WaitBlock(min=low, max=high if colon else 0)
    else:
        block = value
    low_s, high_s = seconds("wait", block.min), seconds("wait", block.max)
    if not block.enabled or not low_s:
        return None
    high_s = high_s or low_s * MAX_FACTOR
    if high_s < low_s:
        raise ConfigError(f"wait: the maximum {high_s:g}s is below {low_s:g}s")
    return Wait(low_s, high_s)


def parse_template_flag(text: str) -> dict[str, Any]:
    """Return the block of ``in[:out[:command]]``; the command may have colons."""
    source, _, rest = text.partition(":")
    destination, _, command = rest.partition(":")
    if not source:
        raise ConfigError(f"-template {text!r}: the source is missing")
    return {"source": source, "destination": destination, "command": command}
