"""What an agent does not start with, and what it starts with but warns of.

The texts are those of ``config.md`` section 11. ``fields`` are those of the
``AgentConfig`` in the making, ``raw`` the merged keys.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pyconsul.config.definitions import validate_meta
from pyconsul.config.model import Ports
from pyconsul.types.config_entries import READABLE
from pyconsul.types.durations import HOUR, DurationError, parse_duration
from pyconsul.types.errors import BadRequestError, ConfigError

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERR", "ERROR")
CA_PROVIDERS = ("consul", "vault", "aws-pca")
RECONNECT_MIN = 8 * HOUR
REJOIN_AGE_MIN = 6 * HOUR
SPARE_FILES = 20
"""File descriptors the process needs besides those of its connections."""
_DATACENTER = re.compile(r"[a-z0-9_-]+")
_NODE_NAME = re.compile(r"[A-Za-z0-9-]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UI_PATH = re.compile(r"[A-Za-z0-9/_-]+")
_API_PATH = re.compile(r"v\d+")
_BOTH_UIS = (
    "Both the ui_config.enabled and ui_config.dir (or -ui and -ui-dir) were "
    "specified, please provide only one.\n"
    "If trying to use your own web UI resources, use ui_config.dir or the -ui-dir "
    "flag.\nThe web UI is included in the binary so use ui_config.enabled or the "
    "-ui flag to enable it"
)

Fields = Mapping[str, Any]


def refuse(fields: Fields, raw: Fields, expect: int, max_files: int) -> None:
    """Raise ``ConfigError`` for the first thing that is wrong."""
    for text in _problems(fields, raw, expect):
        raise ConfigError(text)
    most: int = fields["limits"].http_max_conns_per_client
    if max_files and most + SPARE_FILES > max_files:
        raise ConfigError(
            f"system allows a max of {max_files} file descriptors, but "
            f"limits.http_max_conns_per_client: {most} needs at least "
            f"{most + SPARE_FILES}"
        )


def _problems(fields: Fields, raw: Fields, expect: int) -> Iterator[str]:
    yield from _identity(fields)
    yield from _cluster(fields, raw, expect)
    yield from _settings(fields, raw)
    yield from _connect(fields, raw)
    yield from _ports(fields)


def _identity(fields: Fields) -> Iterator[str]:
    folder: str = fields.get("data_dir") or ""
    if not folder and not fields["dev_mode"]:
        yield "data_dir cannot be empty"
    datacenter: str = fields["datacenter"]
    yield from _plain_name("datacenter", datacenter)
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        yield f'data_dir "{folder}" is not a directory'
    if not fields["node_name"]:
        yield "node_name cannot be empty"
    node_id: str = fields["node_id"]
    if node_id and _UUID.fullmatch(node_id) is None:
        yield (
            "failed to setup node ID: specified NodeID is invalid: "
            "uuid string is wrong length"
        )
    yield from _plain_name("primary_datacenter", fields["primary_datacenter"])
    try:
        validate_meta(fields.get("node_meta"))
    except BadRequestError as error:
        yield f"node_meta invalid: {error}"


def _plain_name(key: str, name: str) -> Iterator[str]:
    if not name:
        yield f"{key} cannot be empty"
    if _DATACENTER.fullmatch(name) is None:
        yield (
            f"{key} can only contain lowercase alphanumeric, - or _ "
            f'characters. received: "{name}"'
        )


def _cluster(fields: Fields, raw: Fields, expect: int) -> Iterator[str]:
    server: bool = fields["server"]
    if expect < 0:
        yield (
            f"bootstrap_expect cannot be {expect}. "
            "Must be greater than or equal to zero"
        )
    if expect > 0 and fields["dev_mode"]:
        yield "'bootstrap_expect > 0' not allowed in dev mode"
    if expect > 0 and not server:
        yield "'bootstrap_expect > 0' requires 'server = true'"
    if raw.get("bootstrap") and not server:
        yield "'bootstrap = true' requires 'server = true'"
    if expect > 0 and raw.get("bootstrap"):
        yield "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"
    multiplier: float = fields["performance"].raft_multiplier
    if not 1 <= multiplier <= 10:
        yield (
            f"performance.raft_multiplier cannot be {multiplier}. "
            "Must be between 1 and 10"
        )
    if raw.get("raft_protocol", 3) != 3:
        yield (
            f"raft_protocol version {raw['raft_protocol']} is not supported "
            "by this version of Consul"
        )
    if raw.get("segments") or raw.get("segment"):
        yield "Network segments are not supported in this version of Consul"
    yield from _key(str(raw.get("encrypt", "")))
    if server and fields.get("advertise_reconnect_timeout"):
        yield "advertise_reconnect_timeout can only be used on a client"
    for name in ("reconnect_timeout", "reconnect_timeout_wan"):
        if name in fields and fields[name] < RECONNECT_MIN:
            yield f"{name} must be >= 8h0m0s"
    age = raw.get("server_rejoin_age_max")
    if age is not None and _nanoseconds(age) < REJOIN_AGE_MIN:
        yield "server_rejoin_age_max must be >= 6h0m0s"
    for name in ("serf_lan_allowed_cidrs", "serf_wan_allowed_cidrs"):
        bad = [text for text in raw.get(name, ()) if not is_cidr(text)]
        if bad:
            word = "error" if len(bad) == 1 else "errors"
            lines = "".join(f"\n\t* invalid cidr: {text}" for text in bad)
            yield f"{name}: {len(bad)} {word} occurred:{lines}"
    for at, entry in enumerate(raw.get("config_entries", {}).get("bootstrap", ())):
        kind = _member(entry, "kind")
        if kind not in READABLE:
            yield f"config_entries.bootstrap[{at}]: invalid config entry kind: {kind}"


def _settings(fields: Fields, raw: Fields) -> Iterator[str]:
    level: str = fields["log_level"]
    if level not in LOG_LEVELS:
        yield (
            f"Invalid log level: {level}. "
            f"Valid log levels are: [{' '.join(LOG_LEVELS)}]"
        )
    if raw.get("check_output_max_size", 1) < 1:
        yield (
            "check_output_max_size must be positive, to discard check output "
            "use the discard_check_output flag"
        )
    dns: Mapping[str, Any] = raw.get("dns_config", {})
    for name in ("udp_answer_limit", "a_record_limit"):
        if dns.get(name, 0) < 0:
            yield (
                f"dns_config.{name} cannot be {dns[name]}. "
                "Must be greater than or equal to zero"
            )
    words = ("service", "connect", "node", "query", "addr", fields["datacenter"])
    if str(raw.get("alt_domain", "")).strip(".").split(".")[0] in words:
        yield f"alt_domain cannot start with {{{','.join(words)}}}"
    ui: Mapping[str, Any] = raw.get("ui_config", {})
    if (raw.get("ui") or ui.get("enabled")) and (raw.get("ui_dir") or ui.get("dir")):
        yield _BOTH_UIS
    path = str(ui.get("content_path") or raw.get("ui_content_path") or "")
    if path and _UI_PATH.fullmatch(path) is None:
        yield (
            "ui-content-path can only contain alphanumeric, -, _, or /. "
            f'received: "/{path.strip("/")}/"'
        )
    if _API_PATH.fullmatch(path.strip("/")) is not None:
        yield (
            f"ui-content-path cannot have 'v[0-9]'. received: \"/{path.strip('/')}/\""
        )
    trailing = fields["autopilot"].max_trailing_logs
    if trailing < 0:
        yield (
            f"autopilot.max_trailing_logs cannot be {trailing}. "
            "Must be greater than or equal to zero"
        )
    rate = raw.get("cache", {}).get("entry_fetch_rate")
    if rate is not None and rate <= 0:
        yield f"cache.entry_fetch_rate must be strictly positive, was: {rate:g}"
    burst = raw.get("cache", {}).get("entry_fetch_max_burst")
    if burst is not None and burst <= 0:
        yield f"cache.entry_fetch_max_burst must be strictly positive, was: {burst}"
    mode: str = fields["limits"].request_limits_mode
    if mode not in ("disabled", "permissive", "enforcing"):
        yield (
            "limits.request_limits.mode must be one of [disabled, permissive, "
            f'enforcing], got "{mode}"'
        )


def _connect(fields: Fields, raw: Fields) -> Iterator[str]:
    server: bool = fields["server"]
    signing: Mapping[str, Any] = raw.get("auto_encrypt", {})
    if signing.get("tls") and server:
        yield "auto_encrypt.tls can only be used on a client."
    if signing.get("allow_tls") and not server:
        yield "auto_encrypt.allow_tls can only be used on a server."
    connect: Mapping[str, Any] = raw.get("connect", {})
    provider = connect.get("ca_provider", "consul")
    if provider not in CA_PROVIDERS:
        yield f"{provider} is not a valid CA provider"
    if raw.get("primary_gateways"):
        if not server:
            yield "'primary_gateways' requires 'server = true'"
        if fields["primary_datacenter"] == fields["datacenter"]:
            yield (
                "'primary_gateways' should only be configured in a secondary datacenter"
            )
    if not connect.get("enable_mesh_gateway_wan_federation"):
        return
    prefix = "'connect.enable_mesh_gateway_wan_federation = true'"
    if not connect.get("enabled") and not fields["dev_mode"]:
        yield (
            "'connect.enable_mesh_gateway_wan_federation=true' requires "
            "'connect.enabled=true'"
        )
    if not server:
        yield f"{prefix} requires 'server = true'"
    if "/" in fields["node_name"]:
        yield f"{prefix} requires that 'node_name' not contain '/' characters"
    for name in ("start_join_wan", "retry_join_wan"):
        if raw.get(name):
            yield f"'{name}' is incompatible with {prefix}"


def _key(key: str) -> Iterator[str]:
    if not key:
        return
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        yield (
            "encrypt has invalid key: illegal base64 data at input byte "
            f"{_first_bad(key)}"
        )


def _first_bad(key: str) -> int:
    for at, letter in enumerate(key):
        if re.match(r"[A-Za-z0-9+/]", letter) is None:
            return at
    return len(key) - len(key) % 4


def is_cidr(text: str) -> bool:
    """Say whether ``text`` is a network, as ``10.0.0.0/8`` or ``fd00::/8``."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _nanoseconds(text: str) -> int:
    try:
        return parse_duration(text)
    except DurationError as error:
        raise ConfigError(
            "1 error occurred:\n\t* server_rejoin_age_max: invalid duration: "
            f'"{text}": {error}'
        ) from None


def _member(entry: Any, name: str) -> str:
    if isinstance(entry, dict):
        for key, value in entry.items():  # pyright: ignore[reportUnknownVariableType]
            if str(key).lower() == name:  # pyright: ignore[reportUnknownArgumentType]
                return str(value)  # pyright: ignore[reportUnknownArgumentType]
    return ""


def _ports(fields: Fields) -> Iterator[str]:
    ports: Ports = fields["ports"]
    for name in ("proxy", "sidecar", "expose"):
        low = getattr(ports, f"{name}_min_port")
        high = getattr(ports, f"{name}_max_port")
        if (low, high) != (-1, -1) and low >= high:
            yield (
                f"{name}_min_port must be less than {name}_max_port. "
                "To disable, set both to zero."
            )
    server = bool(fields.get("server"))
    bind = (fields["bind_addr"],)
    wanted = [
        ("DNS", fields["dns_addrs"], ports.dns),
        ("HTTP", fields["http_addrs"], ports.http),
        ("HTTPS", fields["https_addrs"], ports.https),
        ("RPC Advertise", bind, ports.server if server else -1),
        ("Serf Advertise LAN", bind, ports.serf_lan),
        ("Serf Advertise WAN", bind, ports.serf_wan if server else -1),
    ]
    seen: dict[tuple[str, int], str] = {}
    for name, addresses, port in wanted:
        for address in addresses:
            if port <= 0 or address.startswith("unix://"):
                continue
            other = seen.setdefault((address, port), name)
            if other != name:
                yield f"{name} address {address}:{port} already configured for {other}"


def warnings(fields: Fields, raw: Fields, expect: int) -> Iterator[str]:
    """Yield what is worth a word though the agent starts."""
    if fields.get("bootstrap") and not fields["dev_mode"]:
        yield "bootstrap = true: do not enable unless necessary"
    if expect > 1:
        yield f"bootstrap_expect > 0: expecting {expect} servers"
    if expect == 2:
        yield (
            "bootstrap_expect = 2: A cluster with 2 servers will provide no "
            "failure tolerance. See https://www.consul.io/docs/internals/"
            "consensus.html#deployment-table"
        )
    elif expect > 2 and expect % 2 == 0:
        yield (
            "bootstrap_expect is even number: A cluster with an even number of "
            "servers does not achieve optimum fault tolerance. See "
            "https://www.consul.io/docs/internals/consensus.html#deployment-table"
        )
    name: str = fields["node_name"]
    if _NODE_NAME.fullmatch(name) is None:
        yield (
            f'Node name "{name}" will not be discoverable via DNS due to invalid '
            "characters. Valid characters include all alpha-numerics and dashes."
        )
    elif len(name) > 63:
        yield (
            f'Node name "{name}" will not be discoverable via DNS due to it being '
            "too long. Valid lengths are between 1 and 63 bytes."
        )
    if "acl_enforce_version_8" in raw:
        yield 'config key "acl_enforce_version_8" is deprecated and should be removed'
    if raw.get("read_replica"):
        yield (
            '"read_replica (or the deprecated non_voting_server)" is a Consul '
            "Enterprise configuration and will have no effect"
        )
    http: Mapping[str, Any] = raw.get("http_config", {})
    if (
        fields.get("enable_script_checks")
        and not fields["acl_enabled"]
        and not http.get("allow_write_http_from")
    ):
        yield (
            "using enable-script-checks without ACLs and without "
            "allow_write_http_from is DANGEROUS, use enable-local-script-checks "
            "instead, see https://www.hashicorp.com/blog/protecting-consul-from-rce-"
            "risk-in-specific-configurations/"
        )
