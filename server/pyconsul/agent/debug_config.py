"""``DebugConfig`` of ``/v1/agent/self``: the settings in force, secrets hidden.

Names and forms are those of Consul's runtime configuration: durations as text,
listeners as ``tcp://host:port``, secrets as ``hidden``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from pyconsul import CONSUL_VERSION
from pyconsul.config.model import AgentConfig, Gossip
from pyconsul.types.durations import format_duration

HIDDEN = "hidden"
_SETTING = re.compile(r'([^\s=]+)\s*=\s*("(?:\\.|[^"\\])*"?|(?:\\.|[^\s\\])*)')
_SECRET_WORDS = ("token", "secret", "password", "passwd", "key_file", "encrypt", "auth")
_LAN_GOSSIP = Gossip(
    gossip_nodes=3,
    gossip_interval=200_000_000,
    probe_interval=1_000_000_000,
    probe_timeout=500_000_000,
    suspicion_mult=4,
    retransmit_mult=4,
)
_WAN_GOSSIP = Gossip(
    gossip_nodes=3,
    gossip_interval=500_000_000,
    probe_interval=5_000_000_000,
    probe_timeout=3_000_000_000,
    suspicion_mult=6,
    retransmit_mult=4,
)


def debug_config(config: AgentConfig) -> dict[str, Any]:
    """Return all settings, sorted by name."""
    view = {
        **_node(config),
        **_network(config),
        **_cluster(config),
        **_dns(config),
        **_http(config),
        **_limits(config),
        **_security(config),
        **_agent(config),
        **_gossip("GossipLAN", config.gossip_lan, _LAN_GOSSIP),
        **_gossip("GossipWAN", config.gossip_wan, _WAN_GOSSIP),
    }
    return dict(sorted(view.items()))


def _node(config: AgentConfig) -> dict[str, Any]:
    return {
        "DataDir": config.data_dir,
        "Datacenter": config.datacenter,
        "DevMode": config.dev_mode,
        "DisableHostNodeID": config.disable_host_node_id,
        "NodeID": config.node_id,
        "NodeMeta": dict(config.node_meta),
        "NodeName": config.node_name,
        "PidFile": config.pid_file,
        "PrimaryDatacenter": config.primary_datacenter,
        "Revision": "",
        "SegmentName": config.segment,
        "Segments": [],
        "ServerMode": config.server,
        "TaggedAddresses": dict(config.tagged_addresses),
        "TranslateWANAddrs": config.translate_wan_addrs,
        "Version": CONSUL_VERSION,
        "VersionPrerelease": "",
    }


def _network(config: AgentConfig) -> dict[str, Any]:
    ports, bind = config.ports, config.bind_addr
    sockets: Mapping[str, Any] = config.raw.get("unix_sockets") or {}
    lan, wan = config.serf_lan or bind, config.serf_wan or bind
    advertise, away = config.advertise_addr, config.advertise_addr_wan
    return {
        "AdvertiseAddrLAN": advertise,
        "AdvertiseAddrWAN": away,
        "BindAddr": bind,
        "ClientAddrs": list(config.client_addrs),
        "ExposeMaxPort": ports.expose_max_port,
        "ExposeMinPort": ports.expose_min_port,
        "GRPCAddrs": _listeners(config.grpc_addrs, ports.grpc),
        "GRPCPort": ports.grpc,
        "GRPCTLSPort": ports.grpc_tls,
        "HTTPAddrs": _listeners(config.http_addrs, ports.http),
        "HTTPPort": ports.http,
        "HTTPSAddrs": _listeners(config.https_addrs, ports.https),
        "HTTPSPort": ports.https,
        "RPCAdvertiseAddr": _tcp(advertise, ports.server),
        "RPCBindAddr": _tcp(bind, ports.server),
        "SerfAdvertiseAddrLAN": _tcp(advertise, ports.serf_lan),
        "SerfAdvertiseAddrWAN": _tcp(away, ports.serf_wan),
        "SerfAllowedCIDRsLAN": list(config.serf_lan_allowed_cidrs),
        "SerfAllowedCIDRsWAN": list(config.serf_wan_allowed_cidrs),
        "SerfBindAddrLAN": _tcp(lan, ports.serf_lan),
        "SerfBindAddrWAN": _tcp(wan, ports.serf_wan),
        "SerfPortLAN": ports.serf_lan,
        "SerfPortWAN": ports.serf_wan,
        "ServerPort": ports.server,
        "SidecarMaxPort": ports.sidecar_max_port,
        "SidecarMinPort": ports.sidecar_min_port,
        "UnixSocketGroup": sockets.get("group", ""),
        "UnixSocketMode": sockets.get("mode", ""),
        "UnixSocketUser": sockets.get("user", ""),
    }


def _cluster(config: AgentConfig) -> dict[str, Any]:
    autopilot, raw = config.autopilot, config.raw
    return {
        "AdvertiseReconnectTimeout": _time(config.advertise_reconnect_timeout),
        "AutopilotCleanupDeadServers": autopilot.cleanup_dead_servers,
        "AutopilotLastContactThreshold": _time(autopilot.last_contact_threshold),
        "AutopilotMaxTrailingLogs": autopilot.max_trailing_logs,
        "AutopilotMinQuorum": autopilot.min_quorum,
        "AutopilotServerStabilizationTime": _time(autopilot.server_stabilization_time),
        "Bootstrap": config.bootstrap or config.dev_mode,
        "BootstrapExpect": config.bootstrap_expect,
        "LeaveDrainTime": _time(config.performance.leave_drain_time),
        "LeaveOnTerm": config.leave_on_terminate,
        "RPCHoldTimeout": _time(config.performance.rpc_hold_timeout),
        "RPCProtocol": raw.get("protocol", 2),
        "RaftMultiplier": config.performance.raft_multiplier,
        "RaftProtocol": 3,
        "RaftSnapshotInterval": _time(config.raft_snapshot_interval),
        "RaftSnapshotThreshold": config.raft_snapshot_threshold,
        "RaftTrailingLogs": config.raft_trailing_logs,
        "ReadReplica": bool(raw.get("read_replica")),
        "ReconnectTimeoutLAN": _time(config.reconnect_timeout),
        "ReconnectTimeoutWAN": _time(config.reconnect_timeout_wan),
        "RejoinAfterLeave": config.rejoin_after_leave,
        "RetryJoinIntervalLAN": _time(config.retry_interval),
        "RetryJoinIntervalWAN": _time(config.retry_interval_wan),
        "RetryJoinLAN": [hide_words(text) for text in config.retry_join],
        "RetryJoinMaxAttemptsLAN": config.retry_max,
        "RetryJoinMaxAttemptsWAN": config.retry_max_wan,
        "RetryJoinWAN": [hide_words(text) for text in config.retry_join_wan],
        "SessionTTLMin": _time(config.session_ttl_min),
        "SkipLeaveOnInt": config.skip_leave_on_interrupt,
        "StartJoinAddrsLAN": list(config.start_join),
        "StartJoinAddrsWAN": list(config.start_join_wan),
    }


def _dns(config: AgentConfig) -> dict[str, Any]:
    dns, port = config.dns, config.ports.dns
    addresses: list[str] = []
    for host in config.dns_addrs if port > 0 else ():
        at = _tcp(host, port).removeprefix("tcp://")
        addresses += [f"tcp://{at}", f"udp://{at}"]
    return {
        "DNSARecordLimit": dns.a_record_limit,
        "DNSAddrs": addresses,
        "DNSAllowStale": dns.allow_stale,
        "DNSAltDomain": config.alt_domain,
        "DNSCacheMaxAge": _time(dns.cache_max_age),
        "DNSDisableCompression": dns.disable_compression,
        "DNSDomain": config.domain,
        "DNSEnableTruncate": dns.enable_truncate,
        "DNSMaxStale": _time(dns.max_stale),
        "DNSNodeMetaTXT": dns.enable_additional_node_meta_txt,
        "DNSNodeTTL": _time(dns.node_ttl),
        "DNSOnlyPassing": dns.only_passing,
        "DNSPort": port,
        "DNSRecursorStrategy": dns.recursor_strategy,
        "DNSRecursorTimeout": _time(dns.recursor_timeout),
        "DNSRecursors": list(config.recursors),
        "DNSSOA": {
            "Expire": dns.soa_expire,
            "Minttl": dns.soa_min_ttl,
            "Refresh": dns.soa_refresh,
            "Retry": dns.soa_retry,
        },
        "DNSServiceTTL": {name: _time(ttl) for name, ttl in dns.service_ttl.items()},
        "DNSUDPAnswerLimit": dns.udp_answer_limit,
        "DNSUseCache": dns.use_cache,
    }


def _http(config: AgentConfig) -> dict[str, Any]:
    http, raw = config.http, config.raw
    given: Mapping[str, Any] = raw.get("ui_config") or {}
    ui = {
        "ContentPath": given.get("content_path") or raw.get("ui_content_path", "/ui/"),
        "DashboardURLTemplates": dict(given.get("dashboard_url_templates") or {}),
        "Dir": given.get("dir") or raw.get("ui_dir", ""),
        "Enabled": config.ui,
        "MetricsProvider": given.get("metrics_provider", ""),
        "MetricsProviderFiles": list(given.get("metrics_provider_files") or ()),
    }
    return {
        "AllowWriteHTTPFrom": list(http.allow_write_http_from),
        "DisableHTTPUnprintableCharFilter": bool(
            raw.get("disable_http_unprintable_char_filter")
        ),
        "DiscoveryMaxStale": _time(config.discovery_max_stale),
        "EnableDebug": config.enable_debug,
        "HTTPBlockEndpoints": list(http.block_endpoints),
        "HTTPMaxHeaderBytes": http.max_header_bytes,
        "HTTPResponseHeaders": dict(http.response_headers),
        "HTTPUseCache": http.use_cache,
        "UIConfig": ui,
    }


def _limits(config: AgentConfig) -> dict[str, Any]:
    limits = config.limits
    return {
        "DefaultQueryTime": _time(config.default_query_time),
        "HTTPMaxConnsPerClient": limits.http_max_conns_per_client,
        "HTTPSHandshakeTimeout": _time(limits.https_handshake_timeout),
        "KVMaxValueSize": limits.kv_max_value_size,
        "MaxQueryTime": _time(config.max_query_time),
        "RPCClientTimeout": _time(limits.rpc_client_timeout),
        "RPCHandshakeTimeout": _time(limits.rpc_handshake_timeout),
        "RPCMaxBurst": limits.rpc_max_burst,
        "RPCMaxConnsPerClient": limits.rpc_max_conns_per_client,
        "RPCRateLimit": limits.rpc_rate,
        "RequestLimitsMode": limits.request_limits_mode,
        "RequestLimitsReadRate": limits.request_limits_read_rate,
        "RequestLimitsWriteRate": limits.request_limits_write_rate,
        "TxnMaxReqLen": limits.txn_max_req_len,
    }


def _security(config: AgentConfig) -> dict[str, Any]:
    raw = config.raw
    acl: Mapping[str, Any] = raw.get("acl") or {}
    tokens = dict.fromkeys(
        (
            "ACLAgentMasterToken",
            "ACLAgentToken",
            "ACLDefaultToken",
            "ACLReplicationToken",
        ),
        HIDDEN,
    )
    return {
        "ACLDefaultPolicy": acl.get("default_policy", "allow"),
        "ACLDownPolicy": acl.get("down_policy", "extend-cache"),
        "ACLInitialManagementToken": HIDDEN,
        "ACLTokens": {**tokens, "EnablePersistence": _on(acl, "token_persistence")},
        "ACLsEnabled": config.acl_enabled,
        "CAFile": raw.get("ca_file", ""),
        "CAPath": raw.get("ca_path", ""),
        "CertFile": raw.get("cert_file", ""),
        "DisableKeyringFile": config.disable_keyring_file,
        "DisableRemoteExec": config.disable_remote_exec,
        "EncryptKey": HIDDEN,
        "EncryptVerifyIncoming": config.encrypt_verify_incoming,
        "EncryptVerifyOutgoing": config.encrypt_verify_outgoing,
        "KeyFile": HIDDEN,
        "TLSCipherSuites": raw.get("tls_cipher_suites", ""),
        "TLSMinVersion": raw.get("tls_min_version", ""),
        "VerifyIncoming": bool(raw.get("verify_incoming")),
        "VerifyIncomingHTTPS": bool(raw.get("verify_incoming_https")),
        "VerifyIncomingRPC": bool(raw.get("verify_incoming_rpc")),
        "VerifyOutgoing": bool(raw.get("verify_outgoing")),
        "VerifyServerHostname": bool(raw.get("verify_server_hostname")),
    }


def _on(settings: Mapping[str, Any], name: str) -> bool:
    return bool(settings.get(f"enable_{name}"))


def _agent(config: AgentConfig) -> dict[str, Any]:
    raw = config.raw
    return {
        "AutoReloadConfig": config.auto_reload_config,
        "CheckOutputMaxSize": config.check_output_max_size,
        "CheckUpdateInterval": _time(config.check_update_interval),
        "Checks": [_definition(one) for one in config.checks],
        "DisableAnonymousSignature": bool(raw.get("disable_anonymous_signature")),
        "DisableCoordinates": config.disable_coordinates,
        "DisableUpdateCheck": bool(raw.get("disable_update_check")),
        "DiscardCheckOutput": config.discard_check_output,
        "EnableAgentTLSForChecks": bool(raw.get("enable_agent_tls_for_checks")),
        "EnableCentralServiceConfig": raw.get("enable_central_service_config", True),
        "EnableLocalScriptChecks": (
            config.enable_local_script_checks or config.enable_script_checks
        ),
        "EnableRemoteScriptChecks": config.enable_script_checks,
        "Logging": {
            "EnableSyslog": config.enable_syslog,
            "LogFilePath": config.log_file,
            "LogJSON": config.log_json,
            "LogLevel": config.log_level,
            "LogRotateBytes": config.log_rotate_bytes,
            "LogRotateDuration": _time(config.log_rotate_duration),
            "LogRotateMaxFiles": config.log_rotate_max_files,
            "Name": "",
            "SyslogFacility": config.syslog_facility,
        },
        "Services": [_definition(one) for one in config.services],
        "Telemetry": _pascal(raw.get("telemetry") or {}),
        "Watches": [hidden(one) for one in config.watches],
    }


def _gossip(prefix: str, given: Gossip, default: Gossip) -> dict[str, Any]:
    def one(name: str) -> int:
        return getattr(given, name) or getattr(default, name)

    return {
        f"{prefix}GossipInterval": _time(one("gossip_interval")),
        f"{prefix}GossipNodes": one("gossip_nodes"),
        f"{prefix}ProbeInterval": _time(one("probe_interval")),
        f"{prefix}ProbeTimeout": _time(one("probe_timeout")),
        f"{prefix}RetransmitMult": one("retransmit_mult"),
        f"{prefix}SuspicionMult": one("suspicion_mult"),
    }


# -- forms -----------------------------------------------------------------------------


def _time(nanoseconds: int) -> str:
    return format_duration(nanoseconds)


def _tcp(host: str, port: int) -> str:
    if host.startswith("unix://"):
        return host
    host = host.strip("[]")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _listeners(hosts: Sequence[str], port: int) -> list[str]:
    return [_tcp(host, port) for host in hosts] if port > 0 else []


def _definition(record: msgspec.Struct) -> dict[str, Any]:
    return hidden(msgspec.to_builtins(record))


def hidden(value: Any, name: str = "") -> Any:
    """Return a value with what its keys call secret hidden."""
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        return {key: hidden(inner, key.lower()) for key, inner in given.items()}
    if isinstance(value, list | tuple):
        return [hidden(one, name) for one in cast("Sequence[Any]", value)]
    if value and any(word in name for word in _SECRET_WORDS):
        return HIDDEN
    return value


def hide_words(text: str) -> str:
    """Return a join entry with the values of its secret settings hidden."""
    if "provider=" not in text:
        return text

    def shown(setting: re.Match[str]) -> str:
        name = setting[1].lower()
        secret = any(one in name for one in (*_SECRET_WORDS, "key"))
        hide = secret and name != "tag_key"
        return f"{setting[1]}=hidden" if hide else setting[0]

    return _SETTING.sub(shown, text)


def _pascal(settings: Mapping[str, Any]) -> dict[str, Any]:
    shown = cast("dict[str, Any]", hidden(settings))
    return {
        "".join(part.capitalize() for part in name.split("_")): value
        for name, value in shown.items()
    }
