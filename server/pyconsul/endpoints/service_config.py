"""What config entries say of a service's proxy (``ConfigEntry.ResolveServiceConfig``).

Agents ask this for every proxy they hold and put the proxy's own registration
over the answer. The nearer a setting is to the service, the more it counts:
``proxy-defaults``, then the service's ``service-defaults``. Of an upstream:
the protocol of ``proxy-defaults``, then that of its own ``service-defaults``,
then what the service's ``service-defaults`` has for all upstreams, the mesh
gateway mode of the proxy, and what there is for that very upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyconsul.acl.authorizer import Authorizer
from pyconsul.state.store import StateStore
from pyconsul.state.watch import Read
from pyconsul.types.errors import PermissionDeniedError
from pyconsul.types.gomsgpack import from_plain, to_plain
from pyconsul.types.mesh import (
    ExposeConfig,
    MeshGatewayConfig,
    OpaqueUpstreamConfig,
    ServiceConfig,
    ServiceConfigRequest,
    ServiceID,
    TransparentProxyConfig,
)

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server

Plain = dict[str, Any]
WILDCARD = "*"
_TRANSPARENT = "transparent"

# A setting of an upstream by its field, and as proxies read it.
_SETTINGS = {
    "EnvoyListenerJSON": "envoy_listener_json",
    "EnvoyClusterJSON": "envoy_cluster_json",
    "Protocol": "protocol",
    "ConnectTimeoutMs": "connect_timeout_ms",
    "Limits": "limits",
    "PassiveHealthCheck": "passive_health_check",
}


def resolve(server: Server, args: ServiceConfigRequest, who: Authorizer) -> Read:
    """``ConfigEntry.ResolveServiceConfig``: a ``ServiceConfig``."""
    if not (who.allows_all or who.service_read(args.name)):
        raise PermissionDeniedError
    read = server.state.config_entry("service-defaults", args.name)
    service = _fields(read)
    proxies = _fields(server.state.config_entry("proxy-defaults", "global"))
    config, service_protocol = _proxy_config(proxies), service.get("Protocol")
    upstreams = _Upstreams(server.state, service, config.get("protocol"), args)
    if service_protocol:
        config["protocol"] = service_protocol
    mode = service.get("Mode") or proxies.get("Mode") or ""
    found = upstreams.resolved(_TRANSPARENT in (args.mode, mode))
    by_name = bool(args.upstreams) and not args.upstream_ids
    read.value = ServiceConfig(
        proxy_config=config or None,
        upstream_configs=dict(found) if by_name and found else None,
        upstream_id_configs=None
        if by_name or not found
        else [
            OpaqueUpstreamConfig(upstream=ServiceID(id=name), config=settings)
            for name, settings in found.items()
        ],
        mesh_gateway=_mesh_gateway(service) or _mesh_gateway(proxies) or _NO_GATEWAY,
        expose=_expose(proxies, service),
        transparent_proxy=_transparent(proxies, service),
        mode=mode,
    )
    return read


def _fields(read: Read) -> Plain:
    return {} if read.value is None else read.value.record.fields


def _proxy_config(proxies: Plain) -> Plain:
    return dict(proxies.get("Config") or {})


_NO_GATEWAY = MeshGatewayConfig()


def _mesh_gateway(fields: Plain) -> MeshGatewayConfig | None:
    block: Plain = fields.get("MeshGateway") or {}
    mode = block.get("Mode")
    return MeshGatewayConfig(mode=mode) if mode else None


def _expose(proxies: Plain, service: Plain) -> ExposeConfig:
    far = from_plain(proxies.get("Expose") or {}, ExposeConfig)
    near = from_plain(service.get("Expose") or {}, ExposeConfig)
    return ExposeConfig(
        checks=near.checks or far.checks, paths=near.paths or far.paths or None
    )


def _transparent(proxies: Plain, service: Plain) -> TransparentProxyConfig:
    far = from_plain(proxies.get("TransparentProxy") or {}, TransparentProxyConfig)
    near = from_plain(service.get("TransparentProxy") or {}, TransparentProxyConfig)
    return TransparentProxyConfig(
        outbound_listener_port=near.outbound_listener_port
        or far.outbound_listener_port,
        dialed_directly=near.dialed_directly or far.dialed_directly,
    )


class _Upstreams:
    """The settings of the upstreams of one service."""

    def __init__(
        self,
        state: StateStore,
        service: Plain,
        protocol: Any,
        args: ServiceConfigRequest,
    ) -> None:
        settings: Plain = service.get("UpstreamConfig") or {}
        self._state = state
        self._protocol = protocol
        self._args = args
        self._defaults: Plain = settings.get("Defaults") or {}
        self._overrides: dict[str, Plain] = {
            override["Name"]: override for override in settings.get("Overrides") or ()
        }

    def resolved(self, transparent: bool) -> dict[str, Plain]:
        """Return settings by name, sorted; upstreams without any are left out.

        A proxy that is not transparent gets those it has asked for, and no
        others: it has no use for them.
        """
        asked = set(self._asked())
        if not asked and not transparent:
            return {}
        names = asked | (set(self._overrides) - {""})
        if transparent and self._defaults:
            names.add(WILDCARD)
        found = {name: dict(self._settings(name)) for name in sorted(names)}
        return {name: settings for name, settings in found.items() if settings}

    def _asked(self) -> Iterator[str]:
        for upstream in self._args.upstream_ids or ():
            yield upstream.id
        yield from self._args.upstreams or ()

    def _settings(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield settings of an upstream; later ones count."""
        own = _fields(self._state.config_entry("service-defaults", name))
        protocol = own.get("Protocol") or self._protocol
        if protocol:
            yield "protocol", protocol
        yield from _told(self._defaults)
        if self._args.mesh_gateway.mode:
            yield "mesh_gateway", to_plain(self._args.mesh_gateway)
        yield from _told(self._overrides.get(name) or {})


def _told(settings: Plain) -> Iterator[tuple[str, Any]]:
    """Yield what an upstream's block sets."""
    for field, name in _SETTINGS.items():
        if settings.get(field):
            yield name, settings[field]
    gateway = _mesh_gateway(settings)
    if gateway is not None:
        yield "mesh_gateway", to_plain(gateway)


READS: dict[str, ReadHandler] = {"ConfigEntry.ResolveServiceConfig": resolve}
