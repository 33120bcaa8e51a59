"""The finished configuration of an agent: one frozen record.

Durations are integer nanoseconds; ports <= 0 are off (stored as -1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyconsul.config.definitions import CheckDefinition, ServiceDefinition
from pyconsul.types.durations import HOUR, MINUTE, SECOND
from pyconsul.types.operations import DEFAULT_AUTOPILOT, AutopilotConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Listening ports."""

    dns: int = 8600
    http: int = 8500
    https: int = -1
    grpc: int = -1
    grpc_tls: int = -1
    server: int = 8300
    serf_lan: int = 8301
    serf_wan: int = 8302
    sidecar_min_port: int = 21000
    sidecar_max_port: int = 21255
    expose_min_port: int = 21500
    expose_max_port: int = 21755
    proxy_min_port: int = 20000
    proxy_max_port: int = 20255


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Connection, rate and size limits."""

    http_max_conns_per_client: int = 200
    https_handshake_timeout: int = 5 * SECOND
    rpc_handshake_timeout: int = 5 * SECOND
    rpc_client_timeout: int = 60 * SECOND
    rpc_max_conns_per_client: int = 100
    rpc_rate: float = -1.0
    rpc_max_burst: int = 1000
    kv_max_value_size: int = 524288
    txn_max_req_len: int = 524288
    request_limits_mode: str = "disabled"
    request_limits_read_rate: float = -1.0
    request_limits_write_rate: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """``dns_config``; ``service_ttl`` maps names or prefixes to nanoseconds."""

    allow_stale: bool = True
    a_record_limit: int = 0
    cache_max_age: int = 0
    disable_compression: bool = False
    enable_additional_node_meta_txt: bool = True
    enable_truncate: bool = False
    max_stale: int = 315_360_000 * SECOND
    node_ttl: int = 0
    only_passing: bool = False
    recursor_strategy: str = "sequential"
    recursor_timeout: int = 2 * SECOND
    service_ttl: Mapping[str, int] = field(default_factory=dict[str, int])
    soa_refresh: int = 3600
    soa_retry: int = 600
    soa_expire: int = 86400
    soa_min_ttl: int = 0
    udp_answer_limit: int = 3
    use_cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """``cache``: fetches a second of one entry of the agent's cache."""

    entry_fetch_rate: float = math.inf
    entry_fetch_max_burst: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """``http_config``."""

    block_endpoints: tuple[str, ...] = ()
    allow_write_http_from: tuple[str, ...] = ()
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    use_cache: bool = True
    max_header_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """``performance``; the multiplier stretches every Raft timer."""

    raft_multiplier: float = 5
    """Whole numbers from 1 to 10 in files; tests go below."""
    leave_drain_time: int = 5 * SECOND
    rpc_hold_timeout: int = 7 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Gossip:
    """``gossip_lan`` and ``gossip_wan``; 0 is the pool's own default."""

    gossip_nodes: int = 0
    gossip_interval: int = 0
    probe_interval: int = 0
    probe_timeout: int = 0
    suspicion_mult: int = 0
    retransmit_mult: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent needs to start."""

    node_name: str
    datacenter: str = "dc1"
    node_id: str = ""
    data_dir: str = ""
    dev_mode: bool = False
    server: bool = False
    bootstrap: bool = False
    bootstrap_expect: int = 0
    primary_datacenter: str = ""
    domain: str = "consul."
    alt_domain: str = ""
    bind_addr: str = "0.0.0.0"
    advertise_addr: str = "127.0.0.1"
    advertise_addr_wan: str = "127.0.0.1"
    client_addrs: tuple[str, ...] = ("127.0.0.1",)
    http_addrs: tuple[str, ...] = ("127.0.0.1",)
    https_addrs: tuple[str, ...] = ("127.0.0.1",)
    grpc_addrs: tuple[str, ...] = ("127.0.0.1",)
    dns_addrs: tuple[str, ...] = ("127.0.0.1",)
    tagged_addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    node_meta: Mapping[str, str] = field(default_factory=dict[str, str])
    ports: Ports = Ports()
    limits: Limits = Limits()
    dns: DnsConfig = DnsConfig()
    http: HttpConfig = HttpConfig()
    cache: CacheConfig = CacheConfig()
    performance: Performance = Performance()
    autopilot: AutopilotConfig = DEFAULT_AUTOPILOT
    recursors: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_json: bool = False
    log_file: str = ""
    log_rotate_duration: int = 0
    """0: a day, if there is a ``log_file``."""
    log_rotate_bytes: int = 0
    log_rotate_max_files: int = 0
    enable_syslog: bool = False
    syslog_facility: str = "LOCAL0"
    pid_file: str = ""
    enable_script_checks: bool = False
    enable_local_script_checks: bool = False
    check_update_interval: int = 5 * MINUTE
    check_output_max_size: int = 4096
    discard_check_output: bool = False
    disable_coordinates: bool = False
    disable_remote_exec: bool = True
    default_query_time: int = 300 * SECOND
    max_query_time: int = 600 * SECOND
    session_ttl_min: int = 10 * SECOND
    server_rejoin_age_max: int = 168 * HOUR
    """How long a server may have been away; it does not start after that."""
    leave_on_terminate: bool = False
    skip_leave_on_interrupt: bool = False
    rejoin_after_leave: bool = False
    retry_join: tuple[str, ...] = ()
    retry_join_wan: tuple[str, ...] = ()
    retry_interval: int = 30 * SECOND
    retry_max: int = 0
    start_join: tuple[str, ...] = ()
    retry_interval_wan: int = 30 * SECOND
    retry_max_wan: int = 0
    start_join_wan: tuple[str, ...] = ()
    serf_lan: str = ""
    """Where the LAN pool listens; empty: ``bind_addr``."""
    serf_wan: str = ""
    serf_lan_allowed_cidrs: tuple[str, ...] = ()
    """Networks whose packets and streams the pool takes; empty: all."""
    serf_wan_allowed_cidrs: tuple[str, ...] = ()
    gossip_lan: Gossip = Gossip()
    gossip_wan: Gossip = Gossip()
    reconnect_timeout: int = 72 * 60 * MINUTE
    reconnect_timeout_wan: int = 72 * 60 * MINUTE
    advertise_reconnect_timeout: int = 0
    encrypt_verify_incoming: bool = True
    encrypt_verify_outgoing: bool = True
    disable_keyring_file: bool = False
    encrypt: str = ""
    segment: str = ""
    enable_debug: bool = False
    ui: bool = False
    ui_dir: str = ""
    """A folder of files shown in place of the own pages."""
    acl_enabled: bool = False
    prometheus_retention: int = 0
    raft_snapshot_threshold: int = 16384
    raft_snapshot_interval: int = 30 * SECOND
    raft_trailing_logs: int = 10240
    services: tuple[ServiceDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()
    watches: tuple[Mapping[str, Any], ...] = ()
    """As written; ``agent/watch_plans.py`` reads them."""
    auto_reload_config: bool = False
    disable_host_node_id: bool = True
    discovery_max_stale: int = 0
    translate_wan_addrs: bool = False
    acl_tokens: Mapping[str, str] = field(default_factory=dict[str, str])
    """``acl.tokens`` by name: ``default``, ``agent``, ..."""
    config_sources: tuple[str, ...] = ()
    """The files and directories named by flags."""
    warnings: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The merged keys, for settings that other rooms read by name."""
