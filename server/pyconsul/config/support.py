"""Which keys have an effect, and what is said of those that have none.

A key is looked up by its dotted path; an entry for ``tls`` is for all below it.
What is in no table works. ``docs/configuration-keys.md`` is made from this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

ACL = "access control"
TLS = "TLS between agents and for the API"
GRPC = "the gRPC port"
MESH = "the service mesh"
UI = "charts in the UI"
FEDERATION = "federation of datacenters"

LATER: Mapping[str, str] = {
    "acl.enabled": ACL,
    "acl.default_policy": ACL,
    "acl.down_policy": ACL,
    "acl.token_ttl": ACL,
    "acl.policy_ttl": ACL,
    "acl.role_ttl": ACL,
    "acl.enable_key_list_policy": ACL,
    "acl.enable_token_replication": ACL,
    "acl.enable_token_persistence": ACL,
    "acl.tokens.agent_master": ACL,
    "acl.tokens.agent_recovery": ACL,
    "acl.tokens.config_file_service_registration": ACL,
    "acl.tokens.dns": ACL,
    "acl.tokens.initial_management": ACL,
    "acl.tokens.master": ACL,
    "acl.tokens.replication": ACL,
    "acl_agent_master_token": ACL,
    "acl_datacenter": ACL,
    "acl_default_policy": ACL,
    "acl_down_policy": ACL,
    "acl_enable_key_list_policy": ACL,
    "acl_master_token": ACL,
    "acl_replication_token": ACL,
    "acl_ttl": ACL,
    "enable_acl_replication": ACL,
    "addresses.https": TLS,
    "auto_config": TLS,
    "auto_encrypt": TLS,
    "limits.https_handshake_timeout": TLS,
    "ports.https": TLS,
    "server_name": TLS,
    "tls.defaults.tls_cipher_suites": TLS,
    "tls.defaults.tls_min_version": TLS,
    "tls.defaults.verify_incoming": TLS,
    "tls.defaults.verify_outgoing": TLS,
    "tls.defaults.verify_server_hostname": TLS,
    "tls.grpc": TLS,
    "tls.https": TLS,
    "tls.internal_rpc": TLS,
    "tls_cipher_suites": TLS,
    "tls_min_version": TLS,
    "verify_incoming": TLS,
    "verify_incoming_https": TLS,
    "verify_incoming_rpc": TLS,
    "verify_outgoing": TLS,
    "verify_server_hostname": TLS,
    "addresses.grpc": GRPC,
    "addresses.grpc_tls": GRPC,
    "performance.grpc_keepalive_interval": GRPC,
    "performance.grpc_keepalive_timeout": GRPC,
    "ports.grpc": GRPC,
    "ports.grpc_tls": GRPC,
    "xds": GRPC,
    "connect": MESH,
    "default_intention_policy": MESH,
    "enable_central_service_config": MESH,
    "ports.expose_max_port": MESH,
    "ports.expose_min_port": MESH,
    "peering": FEDERATION,
    "primary_datacenter": FEDERATION,
    "primary_gateways": FEDERATION,
    "primary_gateways_interval": FEDERATION,
    "ui_config.dashboard_url_templates": UI,
    "ui_config.metrics_provider": UI,
    "ui_config.metrics_provider_files": UI,
    "ui_config.metrics_provider_options_json": UI,
    "ui_config.metrics_proxy": UI,
}
"""Keys of features that are not there yet."""

ENTERPRISE = frozenset(
    {
        "acl.tokens.managed_service_provider",
        "audit",
        "autopilot.disable_upgrade_migration",
        "autopilot.redundancy_zone_tag",
        "autopilot.upgrade_version_tag",
        "dns_config.prefer_namespace",
        "license_path",
        "read_replica",
    }
)
"""Keys that have no effect in Consul's community edition either."""

REFUSED: Mapping[str, str] = {
    "segment": "network segments are not supported, as in the community edition",
    "segments": "network segments are not supported, as in the community edition",
}

IDLE: Mapping[str, str] = {
    "acl_enforce_version_8": "deprecated; says so",
    "cloud": "there is no HCP to link to",
    "disable_anonymous_signature": "nothing is ever sent home",
    "disable_update_check": "no update is ever looked for",
    "experiments": "there are none",
    "locality": "not shown anywhere",
    "ports.proxy_max_port": "unused in Consul, too",
    "ports.proxy_min_port": "unused in Consul, too",
    "protocol": "gossip speaks versions 2 and 3 alike",
    "raft_logstore": "the log has a form of its own",
    "raft_prevote_disabled": "pre-votes are asked of all that know them",
    "rpc": "equal blocking reads share one query to the servers instead",
    "snapshot_agent": "for shared configuration directories",
    "telemetry.circonus_api_app": "not sent there",
    "telemetry.circonus_api_token": "not sent there",
    "telemetry.circonus_api_url": "not sent there",
    "telemetry.circonus_broker_id": "not sent there",
    "telemetry.circonus_broker_select_tag": "not sent there",
    "telemetry.circonus_check_display_name": "not sent there",
    "telemetry.circonus_check_force_metric_activation": "not sent there",
    "telemetry.circonus_check_id": "not sent there",
    "telemetry.circonus_check_instance_id": "not sent there",
    "telemetry.circonus_check_search_tag": "not sent there",
    "telemetry.circonus_check_tags": "not sent there",
    "telemetry.circonus_submission_interval": "not sent there",
    "telemetry.circonus_submission_url": "not sent there",
    "telemetry.disable_compat_1.9": "the names of before 1.9 are never sent",
    "telemetry.retry_failed_connection": "sinks are always tried again",
    "tls_prefer_server_cipher_suites": "deprecated; the library decides",
    "use_streaming_backend": "equal blocking reads share one query instead",
}
"""Keys that are taken and need do nothing, with the reason."""

_OWN_WORDS = frozenset({"read_replica"})


def entry(path: str, table: Mapping[str, str] | frozenset[str]) -> str:
    """Return the entry for a key or what it is part of, empty if there is none."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in table:
            return name
    return ""


def state(path: str) -> str:
    """Return in words what becomes of a key."""
    if name := entry(path, LATER):
        return f"later: {LATER[name]}"
    if entry(path, ENTERPRISE):
        return "Enterprise: no effect, with a warning"
    if name := entry(path, REFUSED):
        return f"refused: {REFUSED[name]}"
    if name := entry(path, IDLE):
        return f"no effect: {IDLE[name]}"
    return "works"


def idle_warnings(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to say of keys that were set and have no effect.

    A key that is switched off (false, empty, no port) or as in ``defaults`` is
    passed over.
    """
    for path, value in sorted(_leaves(raw, "")):
        if not value or (isinstance(value, int | float) and value < 0):
            continue
        if name := entry(path, LATER):
            if defaults.get(path) != value:
                yield (
                    f'config key "{path}" has no effect: '
                    f"{LATER[name]} is not part of this version"
                )
        elif entry(path, ENTERPRISE) and path not in _OWN_WORDS:
            yield (
                f'"{path}" is a Consul Enterprise configuration and will have no effect'
            )


def _leaves(value: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        path = before + key
        if isinstance(inner, dict) and path not in LATER and path not in ENTERPRISE:
            yield from _leaves(cast("dict[str, Any]", inner), path + ".")
        else:
            yield path, inner
