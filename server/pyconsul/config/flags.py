"""Flags of ``agent`` and ``validate``, read as Go's flag package reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyconsul.types.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Flag:
    """Where a flag's value goes: a dotted configuration key, or a source list."""

    kind: str  # string, bool, int, list, meta
    key: str


def _flag(kind: str, key: str) -> Flag:
    return Flag(kind, key)


AGENT_FLAGS: Mapping[str, Flag] = {
    "advertise": _flag("string", "advertise_addr"),
    "advertise-wan": _flag("string", "advertise_addr_wan"),
    "allow-write-http-from": _flag("list", "http_config.allow_write_http_from"),
    "alt-domain": _flag("string", "alt_domain"),
    "auto-reload-config": _flag("bool", "auto_reload_config"),
    "bind": _flag("string", "bind_addr"),
    "bootstrap": _flag("bool", "bootstrap"),
    "bootstrap-expect": _flag("int", "bootstrap_expect"),
    "check_output_max_size": _flag("int", "check_output_max_size"),
    "client": _flag("string", "client_addr"),
    "config-dir": _flag("source", "config_files"),
    "config-file": _flag("source", "config_files"),
    "config-format": _flag("option", "config_format"),
    "data-dir": _flag("string", "data_dir"),
    "datacenter": _flag("string", "datacenter"),
    "default-query-time": _flag("string", "default_query_time"),
    "dev": _flag("option-bool", "dev"),
    "disable-host-node-id": _flag("bool", "disable_host_node_id"),
    "disable-keyring-file": _flag("bool", "disable_keyring_file"),
    "dns-port": _flag("int", "ports.dns"),
    "domain": _flag("string", "domain"),
    "enable-local-script-checks": _flag("bool", "enable_local_script_checks"),
    "enable-script-checks": _flag("bool", "enable_script_checks"),
    "encrypt": _flag("string", "encrypt"),
    "grpc-port": _flag("int", "ports.grpc"),
    "grpc-tls-port": _flag("int", "ports.grpc_tls"),
    "hcl": _flag("source", "hcl"),
    "http-port": _flag("int", "ports.http"),
    "https-port": _flag("int", "ports.https"),
    "join": _flag("list", "start_join"),
    "join-wan": _flag("list", "start_join_wan"),
    "log-file": _flag("string", "log_file"),
    "log-json": _flag("bool", "log_json"),
    "log-level": _flag("string", "log_level"),
    "log-rotate-bytes": _flag("int", "log_rotate_bytes"),
    "log-rotate-duration": _flag("string", "log_rotate_duration"),
    "log-rotate-max-files": _flag("int", "log_rotate_max_files"),
    "max-query-time": _flag("string", "max_query_time"),
    "node": _flag("string", "node_name"),
    "node-id": _flag("string", "node_id"),
    "node-meta": _flag("meta", "node_meta"),
    "non-voting-server": _flag("bool", "read_replica"),
    "pid-file": _flag("string", "pid_file"),
    "primary-gateway": _flag("list", "primary_gateways"),
    "protocol": _flag("int", "protocol"),
    "raft-protocol": _flag("int", "raft_protocol"),
    "read-replica": _flag("bool", "read_replica"),
    "recursor": _flag("list", "recursors"),
    "rejoin": _flag("bool", "rejoin_after_leave"),
    "retry-interval": _flag("string", "retry_interval"),
    "retry-interval-wan": _flag("string", "retry_interval_wan"),
    "retry-join": _flag("list", "retry_join"),
    "retry-join-wan": _flag("list", "retry_join_wan"),
    "retry-max": _flag("int", "retry_max"),
    "retry-max-wan": _flag("int", "retry_max_wan"),
    "segment": _flag("string", "segment"),
    "serf-lan-allowed-cidrs": _flag("list", "serf_lan_allowed_cidrs"),
    "serf-lan-bind": _flag("string", "serf_lan"),
    "serf-lan-port": _flag("int", "ports.serf_lan"),
    "serf-wan-allowed-cidrs": _flag("list", "serf_wan_allowed_cidrs"),
    "serf-wan-bind": _flag("string", "serf_wan"),
    "serf-wan-port": _flag("int", "ports.serf_wan"),
    "server": _flag("bool", "server"),
    "server-port": _flag("int", "ports.server"),
    "syslog": _flag("bool", "enable_syslog"),
    "ui": _flag("bool", "ui"),
    "ui-content-path": _flag("string", "ui_content_path"),
    "ui-dir": _flag("string", "ui_dir"),
}

VALIDATE_FLAGS: Mapping[str, Flag] = {
    "config-dir": _flag("source", "config_files"),
    "config-file": _flag("source", "config_files"),
    "config-format": _flag("option", "config_format"),
    "quiet": _flag("option-bool", "quiet"),
}


class FlagError(ConfigError):
    """A flag is unknown or its value does not parse; the text is Go's."""


class HelpRequested(Exception):
    """``-h`` or ``-help`` was given."""


@dataclass(slots=True)
class ParsedFlags:
    """What the command line said, by destination."""

    scalars: dict[str, Any] = field(default_factory=dict[str, Any])
    lists: dict[str, Any] = field(default_factory=dict[str, Any])
    sources: list[str] = field(default_factory=list[str])
    hcl: list[str] = field(default_factory=list[str])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    operands: list[str] = field(default_factory=list[str])


_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def parse_flags(argv: Sequence[str], table: Mapping[str, Flag]) -> ParsedFlags:
    """Read ``argv`` (without program and command); raises ``FlagError``.

    Flags stop at the first operand or at ``--``, as in Go.
    """
    result = ParsedFlags()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            rest.insert(0, word)
            break
        body = word[2:] if word.startswith("--") else word[1:]
        name, equals, value = body.partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        flag = table.get(name)
        if flag is None:
            if name in ("h", "help"):
                raise HelpRequested
            raise FlagError(f"flag provided but not defined: -{name}")
        if not equals:
            if flag.kind in ("bool", "option-bool"):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: -{name}")
        _store(result, name, flag, value)
    result.operands = rest
    return result


def _store(result: ParsedFlags, name: str, flag: Flag, value: str) -> None:
    match flag.kind:
        case "source":
            (result.hcl if flag.key == "hcl" else result.sources).append(value)
        case "option":
            result.options[flag.key] = value
        case "option-bool":
            result.options[flag.key] = _bool(name, value)
        case "bool":
            _put(result.scalars, flag.key, _bool(name, value))
        case "int":
            _put(result.scalars, flag.key, _int(name, value))
        case "meta":
            key, _, text = value.partition(":")
            result.scalars.setdefault(flag.key, {})[key] = text
        case "list":
            target, _, leaf = flag.key.rpartition(".")
            place = result.lists.setdefault(target, {}) if target else result.lists
            place.setdefault(leaf, []).append(value)
        case _:
            _put(result.scalars, flag.key, value)


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *path, leaf = dotted.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[leaf] = value


def _bool(name: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise FlagError(f'invalid boolean value "{value}" for -{name}: parse error')


def _int(name: str, value: str) -> int:
    """Read a number as Go does: in tens, or by ``0x``, ``0o``, ``0b`` or ``0``."""
    digits = value.lstrip("+-")
    is_octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
    why = "parse error"
    try:
        number = int(value, 8 if is_octal else 0)
    except ValueError:
        number = None
    if number is not None and value.isascii() and value.strip() == value:
        if -(1 << 63) <= number < 1 << 63:
            return number
        why = "value out of range"
    raise FlagError(f'invalid value "{value}" for flag -{name}: {why}')
