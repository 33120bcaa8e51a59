"""Help of ``agent`` and ``validate``, laid out as Consul lays out its own.

Texts are given here, defaults are taken from the model, so that help and
behaviour cannot differ.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import fields

from pyconsul.config.flags import Flag
from pyconsul.config.model import AgentConfig, Ports
from pyconsul.types.durations import format_duration

INTRO = {
    "agent": (
        "Usage: pyconsul agent [options]\n\n"
        "  Starts an agent and runs until an interrupt is received. The\n"
        "  agent represents a single node in a cluster."
    ),
    "validate": (
        "Usage: pyconsul validate [options] FILE_OR_DIRECTORY...\n\n"
        "  Performs a thorough sanity test on Consul configuration files. For each "
        "file\n  or directory given, the validate command will attempt to parse the "
        'contents\n  just as the "pyconsul agent" command would, and catch any errors.'
        "\n\n  Returns 0 if the configuration is valid, or 1 if there are problems."
    ),
}

TEXTS: Mapping[str, str] = {
    "advertise": "Sets the advertise address to use.",
    "advertise-wan": (
        "Sets address to advertise on WAN instead of -advertise address."
    ),
    "allow-write-http-from": (
        "Only allow write endpoint calls from given network. CIDR format, can be "
        "specified multiple times."
    ),
    "alt-domain": "Alternate domain to use for DNS interface.",
    "auto-reload-config": (
        "Watches config files for changes and automatically reloads them."
    ),
    "bind": "Sets the bind address for cluster communication.",
    "bootstrap": "Sets server to bootstrap mode.",
    "bootstrap-expect": "Sets server to expect bootstrap mode.",
    "check_output_max_size": "Sets the maximum output size for checks on this agent.",
    "client": (
        "Sets the address to bind for client access. This includes RPC, DNS, HTTP, "
        "HTTPS and gRPC (if configured)."
    ),
    "config-dir": (
        "Path to a directory to read configuration files from. This will read every "
        "file ending in '.json' or '.hcl' as configuration in this directory in "
        "alphabetical order. Can be specified multiple times."
    ),
    "config-file": (
        "Path to a file in JSON or HCL format with a matching file extension. Can be "
        "specified multiple times."
    ),
    "config-format": (
        "Config files are in this format irrespective of their extension. Must be "
        "'hcl' or 'json'."
    ),
    "data-dir": "Path to a data directory to store agent state.",
    "datacenter": "Datacenter of the agent.",
    "default-query-time": (
        "the amount of time a blocking query will wait before Consul will force a "
        "response. This value can be overridden by the 'wait' query parameter."
    ),
    "dev": "Starts the agent in development mode.",
    "disable-host-node-id": (
        "Setting this to true will prevent Consul from using information from the "
        "host to generate a node ID, and will cause Consul to generate a random node "
        "ID instead."
    ),
    "disable-keyring-file": "Disables the backing up of the keyring to a file.",
    "dns-port": "DNS port to use.",
    "domain": "Domain to use for DNS interface.",
    "enable-local-script-checks": (
        "Enables health check scripts from configuration file."
    ),
    "enable-script-checks": "Enables health check scripts.",
    "encrypt": "Provides the gossip encryption key.",
    "grpc-port": "Sets the gRPC API port to listen on.",
    "grpc-tls-port": "Sets the gRPC-TLS API port to listen on.",
    "hcl": "hcl config fragment. Can be specified multiple times.",
    "http-port": "Sets the HTTP API port to listen on.",
    "https-port": "Sets the HTTPS API port to listen on.",
    "join": (
        "Address of an agent to join at start time. Can be specified multiple times."
    ),
    "join-wan": (
        "Address of an agent to join -wan at start time. Can be specified multiple "
        "times."
    ),
    "log-file": "Path to the file the logs get written to",
    "log-json": "Output logs in JSON format.",
    "log-level": "Log level of the agent.",
    "log-rotate-bytes": (
        "Maximum number of bytes that should be written to a log file"
    ),
    "log-rotate-duration": "Time after which log rotation needs to be performed",
    "log-rotate-max-files": "Maximum number of log file archives to keep",
    "max-query-time": (
        "the maximum amount of time a blocking query can wait before Consul will "
        "force a response. Consul applies jitter to the wait time. The jittered time "
        "will be capped to MaxQueryTime."
    ),
    "node": "Name of this node. Must be unique in the cluster.",
    "node-id": (
        "A unique ID for this node across space and time. Defaults to a randomly-"
        "generated ID that persists in the data-dir."
    ),
    "node-meta": (
        "An arbitrary metadata key/value pair for this node, of the format "
        "'key:value'. Can be specified multiple times."
    ),
    "non-voting-server": (
        "(Enterprise-only) DEPRECATED: -read-replica should be used instead"
    ),
    "pid-file": "Path to file to store agent PID.",
    "primary-gateway": (
        "Address of a mesh gateway in the primary datacenter to use to bootstrap WAN "
        "federation at start time with retries enabled. Can be specified multiple "
        "times."
    ),
    "protocol": "Sets the protocol version. Defaults to latest.",
    "raft-protocol": "Sets the Raft protocol version. Defaults to latest.",
    "read-replica": (
        "(Enterprise-only) This flag is used to make the server not participate in "
        "the Raft quorum, and have it only receive the data replication stream."
    ),
    "recursor": ("Address of an upstream DNS server. Can be specified multiple times."),
    "rejoin": ("Ignores a previous leave and attempts to rejoin the cluster."),
    "retry-interval": "Time to wait between join attempts.",
    "retry-interval-wan": "Time to wait between join -wan attempts.",
    "retry-join": (
        "Address of an agent to join at start time with retries enabled. Can be "
        "specified multiple times. An address such as 'provider=aws tag_key=... "
        "tag_value=...' asks a provider for the addresses: aws, srv, file or exec."
    ),
    "retry-join-wan": (
        "Address of an agent to join -wan at start time with retries enabled. Can be "
        "specified multiple times."
    ),
    "retry-max": (
        "Maximum number of join attempts. Defaults to 0, which will retry indefinitely."
    ),
    "retry-max-wan": (
        "Maximum number of join -wan attempts. Defaults to 0, which will retry "
        "indefinitely."
    ),
    "segment": "(Enterprise-only) Sets the network segment to join.",
    "serf-lan-allowed-cidrs": (
        "Networks (eg: 192.168.1.0/24) allowed for Serf LAN. Can be specified "
        "multiple times."
    ),
    "serf-lan-bind": "Address to bind Serf LAN listeners to.",
    "serf-lan-port": "Sets the Serf LAN port to listen on.",
    "serf-wan-allowed-cidrs": (
        "Networks (eg: 192.168.1.0/24) allowed for Serf WAN (other datacenters). Can "
        "be specified multiple times."
    ),
    "serf-wan-bind": "Address to bind Serf WAN listeners to.",
    "serf-wan-port": "Sets the Serf WAN port to listen on.",
    "server": "Switches agent to server mode.",
    "server-port": "Sets the server port to listen on.",
    "syslog": "Enables logging to syslog.",
    "ui": "Enables the built-in static web UI server.",
    "ui-content-path": ("Sets the external UI path to a string. Defaults to: /ui/ "),
    "ui-dir": "Path to directory containing the web UI resources.",
    "quiet": "When given, a successful run will produce no output.",
}
_SAID = {"client": "127.0.0.1", "domain": "consul", "protocol": "2"}
_UNSAID = frozenset(
    # Defaults that depend on other settings or on the host.
    ("advertise", "advertise-wan", "node", "retry-max", "retry-max-wan")
)


def help_text(command: str, table: Mapping[str, Flag]) -> str:
    """Return the help of a command; flags are sorted by name."""
    parts = [INTRO[command], "", "Command Options", ""]
    for name, flag in sorted(table.items()):
        value = "" if flag.kind in ("bool", "option-bool") else "=<value>"
        text = TEXTS[name]
        default = _default(name, flag)
        if default:
            text = f"{text.rstrip()} The default is {default}."
        parts.append(f"  -{name}{value}")
        parts += textwrap.wrap(
            text,
            width=72,
            initial_indent="     ",
            subsequent_indent="     ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _default(name: str, flag: Flag) -> str:
    """Return the default of a flag as text, empty where there is none to name."""
    if name in _SAID:
        return _SAID[name]
    if name in _UNSAID or flag.kind in ("source", "option", "option-bool", "list"):
        return ""
    section, _, leaf = flag.key.rpartition(".")
    if section == "ports":
        value: object = getattr(Ports(), leaf)
        return str(value) if value != -1 else ""
    if section:
        return ""
    for one in fields(AgentConfig):
        if one.name != flag.key or one.default in ("", False, 0, None):
            continue
        default: object = one.default
        if not isinstance(default, str | bool | int):
            return ""
        if isinstance(default, bool):
            return "true"
        if isinstance(default, int) and default >= 1_000_000:  # nanoseconds
            return format_duration(default)
        return str(default)
    return ""
