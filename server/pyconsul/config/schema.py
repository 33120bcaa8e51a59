"""The keys a configuration file may have, and their types, as data.

``SCHEMA`` is the tree of ``config.md`` sections 2-9; ``decode.py`` walks a file
along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf; ``name`` is the Go type shown in errors."""

    name: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; a single value is refused."""

    item: Spec


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with free keys."""

    item: Spec


@dataclass(frozen=True, slots=True)
class Obj:
    """An object with known keys; ``aliases`` maps other spellings."""

    fields: Mapping[str, Spec]
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opaque:
    """Anything; lists of one object, as HCL reads its blocks, become objects."""


Spec = Scalar | ListOf | MapOf | Obj | Opaque

S = Scalar("string")
I = Scalar("int")  # noqa: E741 - one letter a type keeps the tables readable
B = Scalar("bool")
F = Scalar("float64")
ANY = Opaque()
LS = ListOf(S)
MS = MapOf(S)


def _obj(aliases: Mapping[str, str] | None = None, **fields: Spec) -> Obj:
    return Obj(fields, aliases or {})


CHECK = _obj(
    {
        "serviceid": "service_id",
        "scriptargs": "args",
        "script_args": "args",
        "dockercontainerid": "docker_container_id",
        "tlsskipverify": "tls_skip_verify",
        "deregistercriticalserviceafter": "deregister_critical_service_after",
        "check_id": "id",
    },
    id=S,
    name=S,
    notes=S,
    service_id=S,
    token=S,
    status=S,
    args=LS,
    http=S,
    header=MapOf(LS),
    method=S,
    body=S,
    disable_redirects=B,
    output_max_size=I,
    tcp=S,
    tcp_use_tls=B,
    udp=S,
    interval=S,
    docker_container_id=S,
    shell=S,
    grpc=S,
    grpc_use_tls=B,
    tls_server_name=S,
    tls_skip_verify=B,
    alias_node=S,
    alias_service=S,
    timeout=S,
    ttl=S,
    h2ping=S,
    h2ping_use_tls=B,
    os_service=S,
    success_before_passing=I,
    failures_before_warning=I,
    failures_before_critical=I,
    deregister_critical_service_after=S,
)

_MESH_GATEWAY = _obj(mode=S)
_UPSTREAM = _obj(
    destination_type=S,
    destination_name=S,
    destination_namespace=S,
    destination_partition=S,
    destination_peer=S,
    datacenter=S,
    local_bind_address=S,
    local_bind_port=I,
    local_bind_socket_path=S,
    local_bind_socket_mode=S,
    config=ANY,
    mesh_gateway=_MESH_GATEWAY,
)
_PROXY = _obj(
    destination_service_name=S,
    destination_service_id=S,
    local_service_address=S,
    local_service_port=I,
    local_service_socket_path=S,
    mode=S,
    transparent_proxy=_obj(outbound_listener_port=I, dialed_directly=B),
    config=ANY,
    upstreams=ListOf(_UPSTREAM),
    mesh_gateway=_MESH_GATEWAY,
    expose=_obj(
        checks=B,
        paths=ListOf(
            _obj(path=S, local_path_port=I, listener_port=I, protocol=S),
        ),
    ),
)
_SERVICE_FIELDS: dict[str, Spec] = {
    "kind": S,
    "id": S,
    "name": S,
    "tags": LS,
    "address": S,
    "tagged_addresses": MapOf(_obj(address=S, port=I)),
    "meta": MS,
    "port": I,
    "socket_path": S,
    "check": CHECK,
    "checks": ListOf(CHECK),
    "token": S,
    "weights": _obj(passing=I, warning=I),
    "enable_tag_override": B,
    "proxy": _PROXY,
    "locality": _obj(region=S, zone=S),
}
_SIDECAR = Obj({**_SERVICE_FIELDS, "connect": _obj(native=B)}, {})
SERVICE = Obj(
    {**_SERVICE_FIELDS, "connect": _obj(native=B, sidecar_service=_SIDECAR)}, {}
)

_TELEMETRY = Obj(
    {
        **dict.fromkeys(
            (
                "circonus_api_app",
                "circonus_api_token",
                "circonus_api_url",
                "circonus_broker_id",
                "circonus_broker_select_tag",
                "circonus_check_display_name",
                "circonus_check_force_metric_activation",
                "circonus_check_id",
                "circonus_check_instance_id",
                "circonus_check_search_tag",
                "circonus_check_tags",
                "circonus_submission_interval",
                "circonus_submission_url",
                "dogstatsd_addr",
                "metrics_prefix",
                "prometheus_retention_time",
                "statsd_address",
                "statsite_address",
            ),
            S,
        ),
        "disable_compat_1.9": B,
        "disable_hostname": B,
        "dogstatsd_tags": LS,
        "enable_host_metrics": B,
        "filter_default": B,
        "prefix_filter": LS,
        "retry_failed_connection": B,
    },
    {},
)
_TLS_FIELDS: dict[str, Spec] = {
    "ca_file": S,
    "ca_path": S,
    "cert_file": S,
    "key_file": S,
    "tls_min_version": S,
    "tls_cipher_suites": S,
    "verify_incoming": B,
    "verify_outgoing": B,
    "verify_server_hostname": B,
}
_TLS_PART = Obj(_TLS_FIELDS, {})
_TLS = _obj(
    defaults=_TLS_PART,
    internal_rpc=_TLS_PART,
    https=_TLS_PART,
    grpc=Obj({**_TLS_FIELDS, "use_auto_cert": B}, {}),
)
_UI = _obj(
    enabled=B,
    dir=S,
    content_path=S,
    metrics_provider=S,
    metrics_provider_files=LS,
    metrics_provider_options_json=S,
    metrics_proxy=_obj(
        base_url=S, add_headers=ListOf(_obj(name=S, value=S)), path_allowlist=LS
    ),
    dashboard_url_templates=MS,
)
_AUTO_CONFIG = _obj(
    enabled=B,
    intro_token=S,
    intro_token_file=S,
    server_addresses=LS,
    dns_sans=LS,
    ip_sans=LS,
    authorization=_obj(
        enabled=B,
        static=_obj(
            allow_reuse=B,
            claim_mappings=MS,
            list_claim_mappings=MS,
            claim_assertions=LS,
            jwt_supported_algs=LS,
            bound_audiences=LS,
            bound_issuer=S,
            jwks_url=S,
            jwks_ca_cert=S,
            jwt_validation_pub_keys=LS,
            oidc_discovery_url=S,
            oidc_discovery_ca_cert=S,
            expiration_leeway=S,
            not_before_leeway=S,
            clock_skew_leeway=S,
        ),
    ),
)
_LOG_STORE = _obj(
    backend=S,
    disable_log_cache=B,
    boltdb=_obj(no_freelist_sync=B),
    wal=_obj(segment_size_mb=I),
    verification=_obj(enabled=B, interval=S),
)

_GOSSIP = _obj(
    gossip_nodes=I,
    gossip_interval=S,
    probe_interval=S,
    probe_timeout=S,
    suspicion_mult=I,
    retransmit_mult=I,
)

SCHEMA = _obj(
    {"non_voting_server": "read_replica"},
    acl=_obj(
        enabled=B,
        default_policy=S,
        down_policy=S,
        token_ttl=S,
        policy_ttl=S,
        role_ttl=S,
        enable_key_list_policy=B,
        enable_token_replication=B,
        enable_token_persistence=B,
        tokens=_obj(
            master=S,
            initial_management=S,
            replication=S,
            agent_master=S,
            agent_recovery=S,
            default=S,
            agent=S,
            config_file_service_registration=S,
            dns=S,
            managed_service_provider=ListOf(_obj(accessor_id=S, secret_id=S)),
        ),
    ),
    acl_datacenter=S,
    acl_default_policy=S,
    acl_down_policy=S,
    acl_ttl=S,
    acl_token=S,
    acl_agent_token=S,
    acl_agent_master_token=S,
    acl_master_token=S,
    acl_replication_token=S,
    acl_enable_key_list_policy=B,
    acl_enforce_version_8=B,
    enable_acl_replication=B,
    addresses=_obj(dns=S, http=S, https=S, grpc=S, grpc_tls=S),
    advertise_addr=S,
    advertise_addr_wan=S,
    advertise_addr_ipv4=S,
    advertise_addr_ipv6=S,
    advertise_addr_wan_ipv4=S,
    advertise_addr_wan_ipv6=S,
    advertise_reconnect_timeout=S,
    alt_domain=S,
    audit=ANY,
    auto_config=_AUTO_CONFIG,
    auto_encrypt=_obj(allow_tls=B, tls=B, dns_san=LS, ip_san=LS),
    auto_reload_config=B,
    autopilot=_obj(
        cleanup_dead_servers=B,
        disable_upgrade_migration=B,
        last_contact_threshold=S,
        max_trailing_logs=I,
        min_quorum=I,
        redundancy_zone_tag=S,
        server_stabilization_time=S,
        upgrade_version_tag=S,
    ),
    bind_addr=S,
    bootstrap=B,
    bootstrap_expect=I,
    ca_file=S,
    ca_path=S,
    cache=_obj(entry_fetch_rate=F, entry_fetch_max_burst=I),
    cert_file=S,
    check=CHECK,
    checks=ListOf(CHECK),
    check_output_max_size=I,
    check_update_interval=S,
    client_addr=S,
    cloud=ANY,
    config_entries=_obj(bootstrap=ListOf(ANY)),
    connect=_obj(
        enabled=B,
        ca_provider=S,
        ca_config=ANY,
        enable_mesh_gateway_wan_federation=B,
        test_ca_leaf_root_change_spread=S,
    ),
    data_dir=S,
    datacenter=S,
    default_intention_policy=S,
    default_query_time=S,
    disable_anonymous_signature=B,
    disable_coordinates=B,
    disable_host_node_id=B,
    disable_http_unprintable_char_filter=B,
    disable_keyring_file=B,
    disable_remote_exec=B,
    disable_update_check=B,
    discard_check_output=B,
    discovery_max_stale=S,
    dns_config=_obj(
        allow_stale=B,
        a_record_limit=I,
        cache_max_age=S,
        disable_compression=B,
        enable_additional_node_meta_txt=B,
        enable_truncate=B,
        max_stale=S,
        node_ttl=S,
        only_passing=B,
        prefer_namespace=B,
        recursor_strategy=S,
        recursor_timeout=S,
        service_ttl=MS,
        soa=_obj(refresh=I, retry=I, expire=I, min_ttl=I),
        udp_answer_limit=I,
        use_cache=B,
    ),
    domain=S,
    enable_agent_tls_for_checks=B,
    enable_central_service_config=B,
    enable_debug=B,
    enable_local_script_checks=B,
    enable_script_checks=B,
    enable_syslog=B,
    encrypt=S,
    encrypt_verify_incoming=B,
    encrypt_verify_outgoing=B,
    experiments=LS,
    gossip_lan=_GOSSIP,
    gossip_wan=_GOSSIP,
    http_config=_obj(
        block_endpoints=LS,
        allow_write_http_from=LS,
        response_headers=MS,
        use_cache=B,
        max_header_bytes=I,
    ),
    key_file=S,
    leave_on_terminate=B,
    license_path=S,
    limits=_obj(
        http_max_conns_per_client=I,
        https_handshake_timeout=S,
        rpc_handshake_timeout=S,
        rpc_client_timeout=S,
        rpc_max_burst=I,
        rpc_max_conns_per_client=I,
        rpc_rate=F,
        kv_max_value_size=I,
        txn_max_req_len=I,
        request_limits=_obj(mode=S, read_rate=F, write_rate=F),
    ),
    locality=_obj(region=S, zone=S),
    log_file=S,
    log_json=B,
    log_level=S,
    log_rotate_bytes=I,
    log_rotate_duration=S,
    log_rotate_max_files=I,
    max_query_time=S,
    node_id=S,
    node_meta=MS,
    node_name=S,
    peering=_obj(enabled=B),
    performance=_obj(
        leave_drain_time=S,
        raft_multiplier=I,
        rpc_hold_timeout=S,
        grpc_keepalive_interval=S,
        grpc_keepalive_timeout=S,
    ),
    pid_file=S,
    ports=_obj(
        dns=I,
        expose_max_port=I,
        expose_min_port=I,
        grpc=I,
        grpc_tls=I,
        http=I,
        https=I,
        proxy_max_port=I,
        proxy_min_port=I,
        serf_lan=I,
        serf_wan=I,
        server=I,
        sidecar_max_port=I,
        sidecar_min_port=I,
    ),
    primary_datacenter=S,
    primary_gateways=LS,
    primary_gateways_interval=S,
    protocol=I,
    raft_logstore=_LOG_STORE,
    raft_prevote_disabled=B,
    raft_protocol=I,
    raft_snapshot_interval=S,
    raft_snapshot_threshold=I,
    raft_trailing_logs=I,
    read_replica=B,
    reconnect_timeout=S,
    reconnect_timeout_wan=S,
    recursors=LS,
    rejoin_after_leave=B,
    retry_interval=S,
    retry_interval_wan=S,
    retry_join=LS,
    retry_join_wan=LS,
    retry_max=I,
    retry_max_wan=I,
    rpc=_obj(enable_streaming=B),
    segment=S,
    segments=ListOf(_obj(advertise=S, bind=S, name=S, port=I, rpc_listener=B)),
    serf_lan=S,
    serf_lan_allowed_cidrs=LS,
    serf_wan=S,
    serf_wan_allowed_cidrs=LS,
    server=B,
    server_name=S,
    server_rejoin_age_max=S,
    service=SERVICE,
    services=ListOf(SERVICE),
    session_ttl_min=S,
    skip_leave_on_interrupt=B,
    snapshot_agent=ANY,
    start_join=LS,
    start_join_wan=LS,
    syslog_facility=S,
    tagged_addresses=MS,
    telemetry=_TELEMETRY,
    tls=_TLS,
    tls_cipher_suites=S,
    tls_min_version=S,
    tls_prefer_server_cipher_suites=B,
    translate_wan_addrs=B,
    ui=B,
    ui_config=_UI,
    ui_content_path=S,
    ui_dir=S,
    unix_sockets=_obj(group=S, mode=S, user=S),
    use_streaming_backend=B,
    verify_incoming=B,
    verify_incoming_https=B,
    verify_incoming_rpc=B,
    verify_outgoing=B,
    verify_server_hostname=B,
    watches=ListOf(ANY),
    xds=_obj(update_max_per_second=F),
)
