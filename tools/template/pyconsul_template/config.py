"""The configuration: files, then the environment, then flags, as one checked value."""

from __future__ import annotations

import atexit
import contextlib
import grp
import logging
import os
import pwd
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pyconsul_client.errors import OptionsError
from pyconsul_client.options import Options, resolve
from pyconsul_template.addresses import shown_to
from pyconsul_template.commands import Command, parse_command
from pyconsul_template.durations import bare_numbers
from pyconsul_template.engine import Wait
from pyconsul_template.files import checked, load_files, merge, parse_text
from pyconsul_template.folders import expand, is_folder
from pyconsul_template.haproxy_socket import PREFIX, check_address
from pyconsul_template.output import Target
from pyconsul_template.placing import (
    children_of,
    placed,
    sets,
    variables,
    with_commands,
)
from pyconsul_template.plans import (
    ChildPlan,
    DedupPlan,
    FolderPlan,
    Settings,
    TemplatePlan,
)
from pyconsul_template.render import TemplateSource, fixed_folder
from pyconsul_template.runs import children, groups, health, template_command
from pyconsul_template.schema import (
    ConfigError,
    ConsulBlock,
    ExecBlock,
    FileConfig,
    RetryBlock,
    SslBlock,
    TemplateBlock,
    WaitBlock,
    seconds,
    signal_number,
)
from pyconsul_template.shape import Shape, check_encoding
from pyconsul_template.syntax import SYNTAXES

__all__ = [
    "ChildPlan",
    "ConfigError",
    "DedupPlan",
    "Settings",
    "TemplatePlan",
    "environment_keys",
    "load_files",
    "merge",
    "parse_template_flag",
    "parse_text",
    "parse_wait",
    "settle",
]

LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
}
MAX_FACTOR = 4
"""A wait of only a minimum has four times that as its maximum."""
COMMAND_TIMEOUT = "30s"
SHORT_QUESTIONS = 8
"""Connections for what is answered at once, at most."""
STOPPED_COMPAT = 12
"""Exit status of the reference when its kill signal stopped it."""
ONCE_ATTEMPTS = 12
"""Failures in a row that end a run with ``once``, as in the reference."""
_ENVIRONMENT = (
    ("consul.address", ("CONSUL_HTTP_ADDR",)),
    ("consul.token", ("CONSUL_TOKEN", "CONSUL_HTTP_TOKEN")),
    ("consul.token_file", ("CONSUL_TOKEN_FILE", "CONSUL_HTTP_TOKEN_FILE")),
    ("consul.auth", ("CONSUL_HTTP_AUTH",)),
    ("consul.ssl.enabled", ("CONSUL_HTTP_SSL",)),
    ("consul.ssl.verify", ("CONSUL_HTTP_SSL_VERIFY",)),
    ("consul.ssl.ca_cert", ("CONSUL_CACERT",)),
    ("consul.ssl.ca_path", ("CONSUL_CAPATH",)),
    ("consul.ssl.cert", ("CONSUL_CLIENT_CERT",)),
    ("consul.ssl.key", ("CONSUL_CLIENT_KEY",)),
    ("consul.ssl.server_name", ("CONSUL_TLS_SERVER_NAME",)),
    ("log_level", ("CT_LOG", "CONSUL_TEMPLATE_LOG", "CONSUL_TEMPLATE_LOG_LEVEL")),
)
_BOOLEANS = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


def environment_keys(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration the environment holds: between files and flags.

    ``CT_LOCAL_CONFIG`` is a whole configuration in HCL. Raises ``ConfigError``.
    """
    content: dict[str, Any] = {}
    if local := environ.get("CT_LOCAL_CONFIG"):
        content = parse_text(local, "CT_LOCAL_CONFIG")
    for path, names in _ENVIRONMENT:
        given = next((environ[name] for name in names if environ.get(name)), "")
        value: Any = given
        if path == "consul.auth":
            user, _, password = given.partition(":")
            value = {"username": user, "password": password}
        elif path in ("consul.ssl.enabled", "consul.ssl.verify"):
            value = _BOOLEANS.get(given.lower())
        if given and value is not None:
            content = merge(content, nested(path, value))
    return content


def nested(key: str, value: object) -> dict[str, Any]:
    """Return a dotted key as blocks within blocks."""
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return layers as one, the last wins; a token drops a lower token file."""
    merged: dict[str, Any] = {}
    for layer in layers:
        consul = layer.get("consul", {})
        if "token" in consul and "token_file" not in consul:
            lower = dict(merged.get("consul", {}))
            lower.pop("token_file", None)
            merged["consul"] = lower
        merged = merge(merged, layer)
    return merged


def settle(
    content: Mapping[str, Any],
    *,
    dry: bool = False,
    explain: bool = False,
    error_fatal: bool | None = None,
    environ: Mapping[str, str] | None = None,
    needs_template: bool = True,
) -> Settings:
    """Return the settings of merged keys; raises ``ConfigError``.

    ``error_fatal`` beats every template's own, as the reference's flag does.
    """
    file = checked(content, "configuration")
    has_work = file.template or file.exec or file.execs or file.env_template
    if needs_template and not has_work:
        raise ConfigError("no template: give -template or a template block")
    level = file.log_level.lower()
    if level not in LOG_LEVELS:
        raise ConfigError(f"log_level: {file.log_level!r} is none of {[*LOG_LEVELS]}")
    retry, dedup = file.consul.retry, file.deduplicate
    blocks, folders = _expanded(file)
    plans = tuple(
        _plan(file, where, block, dry=dry or explain, error_fatal=error_fatal)
        for where, block in blocks
    ) + _variables(file, dry=dry or explain, error_fatal=error_fatal)
    swaps = sets(file, plans, _check)
    plans = with_commands(plans, swaps)
    shares = dedup is not None and dedup.enabled and not (file.once or dry or explain)
    return Settings(
        templates=plans,
        consul=_options(file.consul, environ),
        max_stale_s=seconds("max_stale", file.max_stale),
        query_wait_s=seconds("block_query_wait", file.block_query_wait),
        backoff_s=seconds("consul.retry.backoff", retry.backoff),
        backoff_max_s=seconds("consul.retry.max_backoff", retry.max_backoff),
        attempts=_attempts(retry, file.once),
        connections=_held(file.consul.transport.max_conns_per_host),
        once=file.once,
        dry=dry,
        explain=explain,
        once_timeout_s=seconds("once_timeout", file.once_timeout),
        missing_timeout_s=seconds("missing_timeout", file.missing_timeout),
        fail_on_missing=file.err_on_failed_lookup,
        log_level=LOG_LEVELS[level],
        log_file=file.log_file if file.log_file and file.log_file.path else None,
        syslog=file.syslog if file.syslog and file.syslog.enabled else None,
        pid_file=Path(file.pid_file) if file.pid_file else None,
        children=() if dry or explain else children(file),
        groups=groups(file.notify, plans),
        folders=folders,
        swaps=swaps,
        dedup=DedupPlan(prefix=dedup.prefix, ttl_s=_ttl(dedup.ttl))
        if shares and dedup is not None
        else None,
        stop_signals=_stop_signals(file),
        reload_signal=signal_number("reload_signal", file.reload_signal),
        status_addr=file.status_addr,
        shows_renders=shown_to(file.status_addr, file.status_render),
        telemetry=file.telemetry,
        watch_templates=file.watch_templates,
        watch_config=file.watch_config,
        dies_on_reload_error=file.on_reload_error == "die",
        warnings=tuple(bare_numbers(file)),
    )


def _held(connections: int) -> int:
    """Return how many connections may be held, of so many in all."""
    if connections <= 0:
        return 0
    return max(1, connections - SHORT_QUESTIONS, connections // 2)


def _attempts(retry: RetryBlock, once: bool) -> int:
    if not retry.enabled:
        return 1
    if retry.attempts is None:
        return ONCE_ATTEMPTS if once else 0
    if retry.attempts < 0:
        raise ConfigError("consul.retry.attempts: is negative")
    return retry.attempts


def _ttl(value: str | int | float) -> float:
    ttl_s = seconds("deduplicate.ttl", value)
    if not 10 <= ttl_s <= 86400:
        raise ConfigError(f"deduplicate.ttl: {value} is not from 10s to 24h")
    return ttl_s


def _stop_signals(file: FileConfig) -> dict[int, int]:
    status = STOPPED_COMPAT if file.exit_code_compat else 0
    if file.kill_signal is None:
        return {signal.SIGTERM: status, signal.SIGINT: status}
    number = signal_number("kill_signal", file.kill_signal)
    return {number: status} if number else {}


def _expanded(
    file: FileConfig,
) -> tuple[list[tuple[str, TemplateBlock]], tuple[FolderPlan, ...]]:
    """Return the template blocks with their place, folders as their files."""
    found: list[tuple[str, TemplateBlock]] = []
    folders: list[FolderPlan] = []
    for index, given in enumerate(file.template):
        where = f"template[{index}]"
        block = placed(file, where, given)
        if is_folder(block):
            folder, blocks = expand(where, block)
            folders.append(folder)
            found += [(where, one) for one in blocks]
        else:
            found.append((where, block))
    return found, tuple(folders)


def _variables(
    file: FileConfig, *, dry: bool, error_fatal: bool | None
) -> tuple[TemplatePlan, ...]:
    """Return a template for each variable of the children."""
    found: list[TemplatePlan] = []
    children_by_name = children_of(file)
    for where, name, block in variables(file):
        plan = _plan(
            file, where, block, dry=dry, error_fatal=error_fatal, is_file=False
        )
        children = children_by_name[name]
        found.append(replace(plan, variable=name, children=children))
    return tuple(found)


def _plan(
    file: FileConfig,
    where: str,
    block: TemplateBlock,
    *,
    dry: bool,
    error_fatal: bool | None,
    is_file: bool = True,
) -> TemplatePlan:
    if bool(block.source) == (block.contents is not None):
        raise ConfigError(f"{where}: give either source or contents")
    if not block.destination and not dry and is_file:
        raise ConfigError(f"{where}: destination is missing")
    if error_fatal is None:
        error_fatal = block.error_fatal
    if error_fatal is None:
        error_fatal = file.template_error_fatal
    run = block.exec or ExecBlock(command=block.command, timeout=block.command_timeout)
    notify, haproxy = _notified(where, block)
    group = file.notify.get(notify)
    if group is not None and not run.command:
        run = ExecBlock(command=group.command, timeout=group.command_timeout)
    timeout_s = seconds(f"{where}: command timeout", run.timeout or COMMAND_TIMEOUT)
    syntax = block.syntax or block.engine or file.syntax
    if syntax not in SYNTAXES:
        raise ConfigError(f"{where}: syntax {syntax!r} is not one of {list(SYNTAXES)}")
    root = Path(file.destination_root).absolute() if file.destination_root else None
    source = TemplateSource(
        path=Path(block.source).absolute() if block.source else None,
        contents=block.contents or "",
        name=f"{where}.contents",
        left_delimiter=block.left_delimiter or file.default_delimiters.left,
        right_delimiter=block.right_delimiter or file.default_delimiters.right,
        error_on_missing_key=block.error_on_missing_key,
        denied=(*block.function_denylist, *block.function_blacklist),
        syntax=syntax,
        is_dry=dry,
        file_root=Path(block.sandbox_path) if block.sandbox_path else None,
        include_path=tuple(Path(folder).absolute() for folder in file.template_path),
        for_each=block.for_each,
        pattern=block.destination if block.for_each else "",
    )
    on_error = block.on_command_error or file.on_command_error
    return TemplatePlan(
        source=source,
        target=_target(where, block, root) if block.destination else None,
        wait=None if file.once else parse_wait(block.wait, parse_wait(file.wait)),
        command=template_command(run, timeout_s, once=file.once),
        check=_check(block.check, timeout_s),
        error_fatal=error_fatal,
        command_error_fatal=on_error == "exit",
        rolls_back=on_error == "rollback",
        shape=_shape(where, block),
        group=notify,
        haproxy=haproxy,
        runs_at_start=block.run_at_start == "always",
        health=health(where, block.healthy or (group.healthy if group else None)),
        child_action=block.on_change,
        folder=block.atomic_dir,
    )


def _notified(where: str, block: TemplateBlock) -> tuple[str, str]:
    """Return the group and the address of HAProxy's socket."""
    group, socket = block.notify, block.haproxy_socket
    if group.startswith(PREFIX):
        if socket:
            raise ConfigError(f"{where}: haproxy_socket is given twice")
        group, socket = "", group.removeprefix(PREFIX)
        if not socket:
            raise ConfigError(f"{where}: notify: {PREFIX} needs an address")
    if socket:
        check_address(where, socket)
    return group, socket


def _shape(where: str, block: TemplateBlock) -> Shape:
    if not 0 <= block.min_ratio <= 1:
        raise ConfigError(f"{where}: min_ratio {block.min_ratio:g} is not from 0 to 1")
    if not check_encoding(block.encoding):
        raise ConfigError(f"{where}: encoding {block.encoding!r} is not known")
    return Shape(
        block.encoding, block.newline == "crlf", block.on_empty, block.min_ratio
    )


def _check(value: str | list[str], timeout_s: float) -> Command | None:
    """Return the validation command; the new file's name stands for itself.

    In a shell line it is the variable, quoted: no name can become shell text.
    """
    if not isinstance(value, str) and len(value) > 1:
        return parse_command([_placed(word, CHECK_FILE) for word in value], timeout_s)
    text = value if isinstance(value, str) else "".join(value)
    command = parse_command(_placed(text, _MARK), timeout_s)
    if command is None or command.argv[:2] == ("/bin/sh", "-c"):
        for quote in "'\"":
            for mark in _MARKS:
                text = text.replace(f"{quote}{mark}{quote}", mark)
        return parse_command(_placed(text, '"$CHECK_FILE"'), timeout_s)
    return Command(
        tuple(word.replace(_MARK, CHECK_FILE) for word in command.argv), timeout_s
    )


CHECK_FILE = "{{ path }}"
"""What stands for the new file's name in the words of a check."""
_MARKS = ("{{tmp}}", "{{ tmp }}", "{{path}}", "{{ path }}")
_MARK = "_NEW_FILE_"


def _placed(word: str, name: str) -> str:
    for mark in _MARKS:
        word = word.replace(mark, name)
    return word


def _target(where: str, block: TemplateBlock, root: Path | None) -> Target:
    if block.for_each:
        try:
            fixed_folder(block.destination)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
    try:
        user = block.uid if block.user is None else block.user
        group = block.gid if block.group is None else block.group
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
        replaces_links=block.symlinks == "replace",
        root=root,
        atomic=block.atomic,
    )


def _options(block: ConsulBlock, environ: Mapping[str, str] | None) -> Options:
    ssl = block.ssl
    if block.namespace:
        raise ConfigError("consul.namespace: namespaces are not supported")
    used = ssl if ssl is not None and ssl.enabled else SslBlock()
    try:
        options = resolve(
            environ,
            address=block.address,
            token=block.token,
            token_file=block.token_file,
            ca_file=used.ca_cert or _in_a_file(used.ca_cert_bytes),
            ca_path=used.ca_path,
            client_cert=used.cert,
            client_key=used.key or used.cert,
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


def _in_a_file(certificates: str) -> str:
    """Return the name of a private file with the text, gone when we end."""
    if not certificates:
        return ""
    descriptor, name = tempfile.mkstemp(prefix="pyconsul-template-", suffix=".pem")
    with open(descriptor, "w", encoding="ascii", errors="replace") as file:
        file.write(certificates)

    def remove() -> None:
        with contextlib.suppress(OSError):
            os.unlink(name)

    atexit.register(remove)
    return name


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
