"""The keys of service and check definitions (``config.md`` sections 5 and 6)."""

from __future__ import annotations

from pyconsul.config.specs import ANY, LS, MS, B, I, ListOf, MapOf, Obj, S, Spec, obj

CHECK = obj(
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

_MESH_GATEWAY = obj(mode=S)
_UPSTREAM = obj(
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
_PROXY = obj(
    destination_service_name=S,
    destination_service_id=S,
    local_service_address=S,
    local_service_port=I,
    local_service_socket_path=S,
    mode=S,
    transparent_proxy=obj(outbound_listener_port=I, dialed_directly=B),
    config=ANY,
    upstreams=ListOf(_UPSTREAM),
    mesh_gateway=_MESH_GATEWAY,
    expose=obj(
        checks=B,
        paths=ListOf(
            obj(path=S, local_path_port=I, listener_port=I, protocol=S),
        ),
    ),
)
_SERVICE_FIELDS: dict[str, Spec] = {
    "kind": S,
    "id": S,
    "name": S,
    "tags": LS,
    "address": S,
    "tagged_addresses": MapOf(obj(address=S, port=I)),
    "meta": MS,
    "port": I,
    "socket_path": S,
    "check": CHECK,
    "checks": ListOf(CHECK),
    "token": S,
    "weights": obj(passing=I, warning=I),
    "enable_tag_override": B,
    "proxy": _PROXY,
    "locality": obj(region=S, zone=S),
}
_SIDECAR = Obj({**_SERVICE_FIELDS, "connect": obj(native=B)}, {})
SERVICE = Obj(
    {**_SERVICE_FIELDS, "connect": obj(native=B, sidecar_service=_SIDECAR)}, {}
)
