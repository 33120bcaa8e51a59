"""From flags and merged files to a checked ``AgentConfig``.

Refusals carry Consul's texts (``config.md`` section 11). Nothing here opens a
socket; host facts (name, addresses) come in as ``HostFacts``.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from msgspec.structs import replace

from pyconsul.config.definitions import (
    check_from_config,
    service_from_config,
    validate_meta,
)
from pyconsul.config.flags import ParsedFlags
from pyconsul.config.model import (
    AgentConfig,
    DnsConfig,
    Gossip,
    HttpConfig,
    Limits,
    Performance,
    Ports,
)
from pyconsul.config.sources import merge, parse_text, read_sources
from pyconsul.types.durations import DurationError, parse_duration
from pyconsul.types.errors import BadRequestError, ConfigError
from pyconsul.types.operations import DEFAULT_AUTOPILOT, AutopilotConfig

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERR", "ERROR")
_DATACENTER = re.compile(r"[a-z0-9_-]+")
_NODE_NAME = re.compile(r"[A-Za-z0-9-]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

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


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What only the host knows; ``private_ipv4`` as addresses."""

    hostname: str
    private_ipv4: Callable[[], Sequence[str]]


def build(flags: ParsedFlags, host: HostFacts) -> AgentConfig:
    """Return the configuration; raises ``ConfigError`` with one clear text."""
    warnings: list[str] = []
    dev = bool(flags.options.get("dev"))
    merged: dict[str, Any] = {}
    if dev:
        merge(merged, dict(_DEV))
    merge(merged, flags.lists)
    kind = str(flags.options.get("config_format", ""))
    if kind not in ("", "hcl", "json"):
        raise ConfigError("-config-format must be either 'hcl' or 'json'")
    for one in read_sources(flags.sources, kind, warnings.append):
        merge(merged, one)
    merge(merged, flags.scalars)
    for text in flags.hcl:
        form = "json" if text.lstrip().startswith("{") else "hcl"
        merge(merged, parse_text(text, form, "flag.hcl"))
    return _Builder(merged, dev, host, warnings).finish()


class _Builder:
    def __init__(
        self, raw: dict[str, Any], dev: bool, host: HostFacts, warnings: list[str]
    ) -> None:
        self._raw = raw
        self._dev = dev
        self._host = host
        self._warnings = warnings
        self._problems: list[str] = []

    def finish(self) -> AgentConfig:
        raw = self._raw
        datacenter = str(raw.get("datacenter", "dc1")).lower()
        ports = self._ports()
        limits = self._section(Limits, "limits")
        requests = raw.get("limits", {}).get("request_limits", {})
        limits |= {f"request_limits_{key}": value for key, value in requests.items()}
        dns = self._dns()
        performance = self._section(Performance, "performance")
        autopilot = self._autopilot()
        lan = self._section(Gossip, "gossip_lan")
        wan = self._section(Gossip, "gossip_wan")
        http = self._section(HttpConfig, "http_config")
        plain = self._section(AgentConfig, "")
        server = bool(raw.get("server", False))
        services = tuple(
            self._caught(service_from_config, one, f"services[{at}]")
            for at, one in enumerate(raw.get("services", []))
        )
        checks = tuple(
            self._caught(check_from_config, one, f"checks[{at}]")
            for at, one in enumerate(raw.get("checks", []))
        )
        retention = raw.get("telemetry", {}).get("prometheus_retention_time", "0s")
        plain["prometheus_retention"] = self._duration(
            "telemetry.prometheus_retention_time", retention
        )
        if self._problems:
            count = len(self._problems)
            word = "error" if count == 1 else "errors"
            lines = "\n".join("\t* " + text for text in self._problems)
            raise ConfigError(f"{count} {word} occurred:\n{lines}")
        plain |= self._addresses()
        plain |= {
            "node_name": str(raw.get("node_name") or self._host.hostname).strip(),
            "datacenter": datacenter,
            "primary_datacenter": raw.get("primary_datacenter") or datacenter,
            "node_id": str(raw.get("node_id", "")).lower(),
            "dev_mode": self._dev,
            "domain": str(raw.get("domain", "consul")).rstrip(".") + ".",
            "ports": Ports(**ports),
            "limits": Limits(**limits),
            "dns": DnsConfig(**dns),
            "http": HttpConfig(**http),
            "performance": Performance(**performance),
            "autopilot": autopilot,
            "gossip_lan": Gossip(**lan),
            "gossip_wan": Gossip(**wan),
            "log_level": str(raw.get("log_level", "INFO")).upper(),
            "leave_on_terminate": raw.get("leave_on_terminate", not server),
            "skip_leave_on_interrupt": raw.get("skip_leave_on_interrupt", server),
            "ui": bool(raw.get("ui") or raw.get("ui_config", {}).get("enabled")),
            "acl_enabled": bool(raw.get("acl", {}).get("enabled")),
            "services": services,
            "checks": checks,
            "raw": raw,
        }
        if self._dev:
            plain["data_dir"] = ""
        expect = int(raw.get("bootstrap_expect", 0))
        if expect == 1:
            self._warnings.append(
                "BootstrapExpect is set to 1; this is the same as Bootstrap mode."
            )
            plain |= {"bootstrap": True, "bootstrap_expect": 0}
        self._refuse(plain, expect)
        self._warn(plain, expect)
        plain["warnings"] = tuple(self._warnings)
        return AgentConfig(**plain)

    def _caught(
        self, make: Callable[[Mapping[str, Any], str], Any], raw: Any, path: str
    ) -> Any:
        try:
            return make(raw, path)
        except ConfigError as error:
            self._problems.append(str(error))
            return None

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
                value = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
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
        dns |= {f"soa_{key}": value for key, value in given.get("soa", {}).items()}
        for name in ("udp_answer_limit", "a_record_limit"):
            if dns.get(name, 0) < 0:
                raise ConfigError(
                    f"dns_config.{name} cannot be {dns[name]}. "
                    "Must be greater than or equal to zero"
                )
        return dns

    def _addresses(self) -> dict[str, Any]:
        raw = self._raw
        bind = _one_ip(raw.get("bind_addr", "0.0.0.0"), "bind_addr")
        advertise = raw.get("advertise_addr", "")
        if advertise:
            advertise = _one_ip(advertise, "advertise_addr")
        elif bind in ("0.0.0.0", "::"):
            advertise = self._detect()
        else:
            advertise = bind
        wan = raw.get("advertise_addr_wan") or advertise
        serf = {
            name: _one_ip(str(raw[name]), name)
            for name in ("serf_lan", "serf_wan")
            if raw.get(name)
        }
        for name, value in (("", advertise), ("WAN ", wan)):
            if value in ("0.0.0.0", "::", "[::]"):
                raise ConfigError(
                    f"Advertise {name}address cannot be 0.0.0.0, :: or [::]"
                )
        client = tuple(str(raw.get("client_addr", "127.0.0.1")).split())
        for one in client:
            _check_ip(one, "client_addr")
        extra = raw.get("addresses", {})
        family = "ipv6" if ":" in advertise else "ipv4"
        wan_family = "ipv6" if ":" in wan else "ipv4"
        tagged = {
            **raw.get("tagged_addresses", {}),
            "lan": advertise,
            f"lan_{family}": advertise,
            "wan": wan,
            f"wan_{wan_family}": wan,
        }
        return serf | {
            "bind_addr": bind,
            "advertise_addr": advertise,
            "advertise_addr_wan": wan,
            "client_addrs": client,
            "http_addrs": tuple(str(extra.get("http", "")).split()) or client,
            "dns_addrs": tuple(str(extra.get("dns", "")).split()) or client,
            "tagged_addresses": tagged,
        }

    def _detect(self) -> str:
        found = self._host.private_ipv4()
        if not found:
            raise ConfigError("No private IPv4 address found")
        if len(found) > 1:
            raise ConfigError(
                "Multiple private IPv4 addresses found. "
                "Please configure one with 'bind' and/or 'advertise'."
            )
        return found[0]

    def _refuse(self, plain: dict[str, Any], expect: int) -> None:
        raw = self._raw
        server = bool(plain.get("server"))
        datacenter = plain["datacenter"]
        if not plain.get("data_dir") and not self._dev:
            raise ConfigError("data_dir cannot be empty")
        if _DATACENTER.fullmatch(datacenter) is None:
            raise ConfigError(
                "datacenter can only contain lowercase alphanumeric, - or _ "
                f'characters. received: "{datacenter}"'
            )
        if not plain["node_name"]:
            raise ConfigError("node_name cannot be empty")
        node_id = plain["node_id"]
        if node_id and _UUID.fullmatch(node_id) is None:
            raise ConfigError(
                "failed to setup node ID: specified NodeID is invalid: "
                "uuid string is wrong length"
            )
        if expect < 0:
            raise ConfigError(
                f"bootstrap_expect cannot be {expect}. "
                "Must be greater than or equal to zero"
            )
        if expect > 0 and self._dev:
            raise ConfigError("'bootstrap_expect > 0' not allowed in dev mode")
        if expect > 0 and not server:
            raise ConfigError("'bootstrap_expect > 0' requires 'server = true'")
        if raw.get("bootstrap") and not server:
            raise ConfigError("'bootstrap = true' requires 'server = true'")
        if expect > 0 and raw.get("bootstrap"):
            raise ConfigError(
                "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"
            )
        multiplier = plain["performance"].raft_multiplier
        if not 1 <= multiplier <= 10:
            raise ConfigError(
                f"performance.raft_multiplier cannot be {multiplier}. "
                "Must be between 1 and 10"
            )
        if raw.get("raft_protocol", 3) != 3:
            raise ConfigError(
                f"raft_protocol version {raw['raft_protocol']} is not supported "
                "by this version of Consul"
            )
        level = plain["log_level"]
        if level not in LOG_LEVELS:
            raise ConfigError(
                f"Invalid log level: {level}. "
                f"Valid log levels are: [{' '.join(LOG_LEVELS)}]"
            )
        if raw.get("check_output_max_size", 1) < 1:
            raise ConfigError(
                "check_output_max_size must be positive, to discard check output "
                "use the discard_check_output flag"
            )
        if raw.get("segments") or raw.get("segment"):
            raise ConfigError(
                "Network segments are not supported in this version of Consul"
            )
        _check_key(str(raw.get("encrypt", "")))
        try:
            validate_meta(raw.get("node_meta"))
        except BadRequestError as error:
            raise ConfigError(f"node_meta invalid: {error}") from None
        _check_ports(plain)

    def _warn(self, plain: dict[str, Any], expect: int) -> None:
        say = self._warnings.append
        if plain.get("bootstrap") and not self._dev:
            say("bootstrap = true: do not enable unless necessary")
        if expect > 1:
            say(f"bootstrap_expect > 0: expecting {expect} servers")
        if expect == 2:
            say(
                "bootstrap_expect = 2: A cluster with 2 servers will provide no "
                "failure tolerance. See https://www.consul.io/docs/internals/"
                "consensus.html#deployment-table"
            )
        elif expect > 2 and expect % 2 == 0:
            say("bootstrap_expect is even number: an odd number is recommended")
        name = plain["node_name"]
        if _NODE_NAME.fullmatch(name) is None:
            say(
                f"Node name {name!r} will not be discoverable via DNS due to "
                "invalid characters. Valid characters include all alpha-numerics "
                "and dashes."
            )
        elif len(name) > 63:
            say(f"Node name {name!r} will not be discoverable via DNS: too long.")
        if "acl_enforce_version_8" in self._raw:
            say(
                'config key "acl_enforce_version_8" is deprecated and should be removed'
            )
        if self._raw.get("read_replica"):
            say(
                '"read_replica (or the deprecated non_voting_server)" is a Consul '
                "Enterprise configuration and will have no effect"
            )


def _one_ip(text: str, name: str) -> str:
    words = text.split()
    if len(words) > 1:
        raise ConfigError(
            f"{name} cannot contain multiple addresses. "
            "Use 'addresses.{dns,http,https}' instead."
        )
    word = words[0].strip("[]") if words else ""
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise ConfigError(f"{name} cannot be empty") from None


def _check_ip(text: str, name: str) -> None:
    if text.startswith("unix://"):
        return
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise ConfigError(f"{name}: invalid ip address: {text}") from None


def _check_key(key: str) -> None:
    if not key:
        return
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(
            "encrypt has invalid key: illegal base64 data at input byte "
            f"{_first_bad(key)}"
        ) from None


def _first_bad(key: str) -> int:
    for at, letter in enumerate(key):
        if re.match(r"[A-Za-z0-9+/]", letter) is None:
            return at
    return len(key) - len(key) % 4


def _check_ports(plain: dict[str, Any]) -> None:
    ports: Ports = plain["ports"]
    client: tuple[str, ...] = plain["client_addrs"]
    bind: str = plain["bind_addr"]
    wanted = [
        ("DNS", plain["dns_addrs"], ports.dns),
        ("HTTP", plain["http_addrs"], ports.http),
        ("HTTPS", client, ports.https),
        ("RPC Advertise", (bind,), ports.server if plain.get("server") else -1),
        ("Serf Advertise LAN", (bind,), ports.serf_lan),
        ("Serf Advertise WAN", (bind,), ports.serf_wan if plain.get("server") else -1),
    ]
    seen: dict[tuple[str, int], str] = {}
    for name, addresses, port in wanted:
        for address in addresses:
            if port <= 0 or address.startswith("unix://"):
                continue
            other = seen.setdefault((address, port), name)
            if other != name:
                raise ConfigError(
                    f"{name} address {address}:{port} already configured for {other}"
                )
