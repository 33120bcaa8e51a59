"""From flags and merged files to a checked ``AgentConfig``.

Refusals carry Consul's texts (``refusals.py``). Nothing here opens a socket;
host facts (name, addresses) come in as ``HostFacts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from msgspec.structs import replace

from pyconsul.config.addresses import Addresses, HostFacts
from pyconsul.config.definitions import (
    check_from_config,
    refuse_problems,
    service_from_config,
)
from pyconsul.config.flags import ParsedFlags
from pyconsul.config.model import (
    AgentConfig,
    CacheConfig,
    DnsConfig,
    Gossip,
    HttpConfig,
    Limits,
    Performance,
    Ports,
)
from pyconsul.config.refusals import LOG_LEVELS, is_cidr, refuse, warnings
from pyconsul.config.sources import merge, parse_text, read_sources
from pyconsul.config.support import idle_warnings
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.errors import ConfigError
from pyconsul.types.operations import DEFAULT_AUTOPILOT, AutopilotConfig

__all__ = ["LOG_LEVELS", "HostFacts", "build"]

_DEV_GOSSIP = {
    "gossip_interval": "100ms",
    "probe_interval": "100ms",
    "probe_timeout": "100ms",
    "suspicion_mult": 3,
}
_DEV: Mapping[str, Any] = {
    "bind_addr": "127.0.0.1",
    "server": True,
    "ui": True,
    "log_level": "DEBUG",
    "disable_keyring_file": True,
    "ports": {"grpc": 8502},
    "performance": {"raft_multiplier": 1},
    "gossip_lan": dict(_DEV_GOSSIP),
    "gossip_wan": dict(_DEV_GOSSIP),
}
_ACL_TOKENS = {
    "acl_token": "default",
    "acl_agent_token": "agent",
    "acl_agent_master_token": "agent_recovery",
    "acl_master_token": "initial_management",
    "acl_replication_token": "replication",
}
_RENAMED_TOKENS = {"master": "initial_management", "agent_master": "agent_recovery"}


def build(flags: ParsedFlags, host: HostFacts) -> AgentConfig:
    """Return the configuration; raises ``ConfigError`` with one clear text."""
    said: list[str] = []
    dev = bool(flags.options.get("dev"))
    merged: dict[str, Any] = {}
    if dev:
        merge(merged, dict(_DEV))
    merge(merged, flags.lists)
    kind = str(flags.options.get("config_format", ""))
    if kind not in ("", "hcl", "json"):
        raise ConfigError("-config-format must be either 'hcl' or 'json'")
    for one in read_sources(flags.sources, kind, said.append):
        merge(merged, one)
    merge(merged, flags.scalars)
    for text in flags.hcl:
        form = "json" if text.lstrip().startswith("{") else "hcl"
        merge(merged, parse_text(text, form, "flag.hcl"))
    made = _Builder(merged, dev, host, said).finish()
    made["config_sources"] = tuple(flags.sources)
    return AgentConfig(**made)


class _Builder:
    def __init__(
        self, raw: dict[str, Any], dev: bool, host: HostFacts, said: list[str]
    ) -> None:
        self._raw = raw
        self._dev = dev
        self._host = host
        self._warnings = said
        self._problems: list[str] = []

    def finish(self) -> dict[str, Any]:
        raw = self._raw
        made = self._section(AgentConfig, "")
        made |= self._sections()
        made["services"] = tuple(
            service_from_config(one, self._problems) for one in raw.get("services", [])
        )
        made["checks"] = tuple(
            check_from_config(one, self._problems) for one in raw.get("checks", [])
        )
        telemetry = raw.get("telemetry", {})
        made["prometheus_retention"] = self._duration(
            "telemetry.prometheus_retention_time",
            telemetry.get("prometheus_retention_time", "0s"),
        )
        self._problems += [
            f"allow_write_http_from: invalid cidr: {text}"
            for text in raw.get("http_config", {}).get("allow_write_http_from", ())
            if not is_cidr(text)
        ]
        refuse_problems(self._problems)
        self._zeroes(made)
        addresses = Addresses(raw, self._host)
        made |= addresses.fields()
        self._warnings += addresses.warnings
        made |= self._derived()
        if self._dev:
            made["data_dir"] = ""
        expect = int(raw.get("bootstrap_expect", 0))
        if expect == 1:
            self._warnings.append(
                "BootstrapExpect is set to 1; this is the same as Bootstrap mode."
            )
            made |= {"bootstrap": True, "bootstrap_expect": 0}
        refuse(made, raw, expect, self._host.max_files)
        self._warnings += warnings(made, raw, expect)
        self._warnings += idle_warnings(raw, self._untold(made))
        made["warnings"] = tuple(self._warnings)
        return made

    def _derived(self) -> dict[str, Any]:
        """Return the fields that are not one key of the same name."""
        raw = self._raw
        server = bool(raw.get("server", False))
        datacenter = str(raw.get("datacenter", "dc1")).lower()
        acl: Mapping[str, Any] = raw.get("acl", {})
        primary = raw.get("primary_datacenter") or raw.get("acl_datacenter")
        tokens = {
            name: str(raw[key]) for key, name in _ACL_TOKENS.items() if raw.get(key)
        }
        given = cast("dict[str, Any]", acl.get("tokens", {}))
        ui: Mapping[str, Any] = raw.get("ui_config", {})
        tokens |= {
            _RENAMED_TOKENS.get(name, name): value
            for name, value in given.items()
            if isinstance(value, str) and value
        }
        return {
            "node_name": str(raw.get("node_name") or self._host.hostname).strip(),
            "datacenter": datacenter,
            "primary_datacenter": str(primary or datacenter).lower(),
            "node_id": str(raw.get("node_id", "")).lower(),
            "dev_mode": self._dev,
            "server": server,
            "domain": str(raw.get("domain", "consul")).rstrip(".") + ".",
            "log_level": str(raw.get("log_level", "INFO")).upper(),
            "leave_on_terminate": raw.get("leave_on_terminate", not server),
            "skip_leave_on_interrupt": raw.get("skip_leave_on_interrupt", server),
            "ui": bool(raw.get("ui") or ui.get("enabled")),
            "ui_dir": str(raw.get("ui_dir") or ui.get("dir") or ""),
            "acl_enabled": bool(acl.get("enabled") or raw.get("acl_datacenter")),
            "acl_tokens": tokens,
            "raw": raw,
        }

    def _untold(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of keys without effect that ask for nothing."""
        untold: dict[str, Any] = {
            "acl.default_policy": "allow",
            "default_intention_policy": "allow",
            "enable_central_service_config": True,
            "peering": {"enabled": True},
            "primary_datacenter": made["datacenter"],
        }
        if self._dev:
            untold["ports.grpc"] = _DEV["ports"]["grpc"]
        return untold

    def _sections(self) -> dict[str, Any]:
        limits = self._section(Limits, "limits")
        requests = self._raw.get("limits", {}).get("request_limits", {})
        limits |= {f"request_limits_{key}": value for key, value in requests.items()}
        return {
            "ports": Ports(**self._ports()),
            "limits": Limits(**limits),
            "dns": DnsConfig(**self._dns()),
            "http": HttpConfig(**self._section(HttpConfig, "http_config")),
            "cache": CacheConfig(**self._section(CacheConfig, "cache")),
            "performance": Performance(**self._section(Performance, "performance")),
            "autopilot": self._autopilot(),
            "gossip_lan": Gossip(**self._section(Gossip, "gossip_lan")),
            "gossip_wan": Gossip(**self._section(Gossip, "gossip_wan")),
        }

    def _section(self, record: type[Any], name: str) -> dict[str, Any]:
        """Return the keys of a section that are fields of ``record``."""
        given: Mapping[str, Any] = self._raw.get(name, {}) if name else self._raw
        result: dict[str, Any] = {}
        for one in fields(record):
            if one.name not in given:
                continue
            value = given[one.name]
            path = f"{name}.{one.name}" if name else one.name
            if one.type == "int" and isinstance(value, str):
                value = self._duration(path, value)
            elif isinstance(value, list):
                value = tuple(cast("list[Any]", value))
            result[one.name] = value
        return result

    def _autopilot(self) -> AutopilotConfig:
        given = dict(self._raw.get("autopilot", {}))
        for name in ("last_contact_threshold", "server_stabilization_time"):
            if isinstance(given.get(name), str):
                given[name] = self._duration(f"autopilot.{name}", given[name])
        return replace(DEFAULT_AUTOPILOT, **given)

    def _duration(self, path: str, text: str) -> int:
        try:
            return parse_duration(text)
        except DurationError as error:
            self._problems.append(f'{path}: invalid duration: "{text}": {error}')
            return 0

    def _zeroes(self, made: dict[str, Any]) -> None:
        """Let a zero stand for the default where it does in Consul."""
        for name in ("reconnect_timeout", "reconnect_timeout_wan", "session_ttl_min"):
            if made.get(name) == 0:
                del made[name]

    def _ports(self) -> dict[str, Any]:
        ports = self._section(Ports, "ports")
        for name, port in ports.items():
            if port > 65535:
                self._problems.append(f"ports.{name}: invalid port: {port}")
            ports[name] = port if port > 0 else -1
        return ports

    def _dns(self) -> dict[str, Any]:
        given = self._raw.get("dns_config", {})
        dns = self._section(DnsConfig, "dns_config")
        dns["service_ttl"] = {
            name: self._duration(f'dns_config.service_ttl["{name}"]', text)
            for name, text in given.get("service_ttl", {}).items()
        }
        return dns | {
            f"soa_{key}": value for key, value in given.get("soa", {}).items()
        }
