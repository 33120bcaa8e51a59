"""Records of the mesh's calls: certificates, federation, central settings.

Wire names and fields are those of ``rpc-schema.json``; what a reply's
``QueryMeta`` says is in the ``Reply``. Times are nanoseconds (``gotime.py``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyconsul.types.config_entries import GatewayService
from pyconsul.types.gotime import Time
from pyconsul.types.messages import QueryOptions
from pyconsul.types.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    Record,
)

# -- the certificate authority


class CARoot(Record, frozen=True, kw_only=True):
    """A root certificate; keys and certificates are PEM."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    serial_number: int = 0
    signing_key_id: str = msgspec.field(name="SigningKeyID", default="")
    external_trust_domain: str = ""
    not_before: Time = Time(0)
    not_after: Time = Time(0)
    root_cert: str = ""
    intermediate_certs: list[str] | None = None
    signing_cert: str = ""
    signing_key: str = ""
    active: bool = False
    rotated_out_at: Time = Time(0)
    private_key_type: str = ""
    private_key_bits: int = 0
    create_index: int = 0
    modify_index: int = 0


class CARoots(Record, frozen=True, kw_only=True):
    """``ConnectCA.Roots``: ``IndexedCARoots``."""

    active_root_id: str = msgspec.field(name="ActiveRootID", default="")
    trust_domain: str = ""
    roots: list[CARoot] | None = None


class CAConfiguration(Record, frozen=True, kw_only=True):
    """``ConnectCA.ConfigurationGet``; ``config`` is the provider's own."""

    cluster_id: str = msgspec.field(name="ClusterID", default="")
    provider: str = ""
    config: dict[str, Any] | None = None
    state: dict[str, str] | None = None
    force_without_cross_signing: bool = False
    create_index: int = 0
    modify_index: int = 0


# -- federation


class FederationState(Record, frozen=True, kw_only=True):
    """What a datacenter tells the others: its mesh gateways."""

    datacenter: str = ""
    mesh_gateways: list[CheckServiceNode] = msgspec.field(
        default_factory=list[CheckServiceNode]
    )
    updated_at: Time = Time(0)
    primary_modify_index: int = 0
    create_index: int = 0
    modify_index: int = 0


class FederationStateQuery(QueryOptions, frozen=True, kw_only=True):
    """``FederationState.Get``."""

    target_datacenter: str = ""


# -- gateways


class ServiceInfo(Record, frozen=True, kw_only=True):
    """An instance behind a gateway; without one, only what links it is set."""

    node: Node | None = None
    service: NodeService | None = None
    checks: list[HealthCheck] = msgspec.field(default_factory=list[HealthCheck])
    gateway_service: GatewayService | None = None


# -- settings of proxies, from config entries


class ConfigEntryListAllRequest(QueryOptions, frozen=True, kw_only=True):
    """``ConfigEntry.ListAll``; no kinds mean every kind."""

    kinds: list[str] | None = None


class MeshGatewayConfig(Record, frozen=True, kw_only=True):
    """``mode`` is ``none``, ``local``, ``remote`` or empty."""

    mode: str = ""


class ServiceID(Record, frozen=True, kw_only=True):
    """A service by its id, which for upstreams is the name."""

    id: str = msgspec.field(name="ID", default="")


class ServiceConfigRequest(QueryOptions, frozen=True, kw_only=True):
    """``ConfigEntry.ResolveServiceConfig``.

    ``mesh_gateway`` and ``mode`` are the proxy's own; upstreams are named in
    ``upstream_ids``, or by agents from before 1.9 in ``upstreams``.
    """

    name: str = ""
    mesh_gateway: MeshGatewayConfig = MeshGatewayConfig()
    mode: str = ""
    upstream_ids: list[ServiceID] | None = msgspec.field(
        name="UpstreamIDs", default=None
    )
    upstreams: list[str] | None = None


class ExposePath(Record, frozen=True, kw_only=True):
    """A path that the proxy lets through without a certificate."""

    listener_port: int = 0
    path: str = ""
    local_path_port: int = 0
    protocol: str = ""
    parsed_from_check: bool = False


class ExposeConfig(Record, frozen=True, kw_only=True):
    """What the proxy lets through without a certificate."""

    checks: bool = False
    paths: list[ExposePath] | None = None


class TransparentProxyConfig(Record, frozen=True, kw_only=True):
    """Settings of the transparent mode."""

    outbound_listener_port: int = 0
    dialed_directly: bool = False


class OpaqueUpstreamConfig(Record, frozen=True, kw_only=True):
    """An upstream with its settings, as proxies read them (``snake_case``)."""

    upstream: ServiceID = ServiceID()
    config: dict[str, Any] | None = None


class ServiceConfig(Record, frozen=True, kw_only=True):
    """``ConfigEntry.ResolveServiceConfig``: ``ServiceConfigResponse``.

    Upstreams are in the form they were asked for in.
    """

    proxy_config: dict[str, Any] | None = None
    upstream_configs: dict[str, dict[str, Any]] | None = None
    upstream_id_configs: list[OpaqueUpstreamConfig] | None = msgspec.field(
        name="UpstreamIDConfigs", default=None
    )
    mesh_gateway: MeshGatewayConfig = MeshGatewayConfig()
    expose: ExposeConfig = ExposeConfig()
    transparent_proxy: TransparentProxyConfig = TransparentProxyConfig()
    mode: str = ""
