"""Discovery chains as they cross the wire: where requests to a service go.

Wire names and fields are those of ``rpc-schema.json``; durations are
nanoseconds. Nodes name each other and their targets by id.
"""

from __future__ import annotations

import msgspec

from pyconsul.types.mesh import MeshGatewayConfig
from pyconsul.types.messages import QueryOptions
from pyconsul.types.records import Record


class DiscoveryChainRequest(QueryOptions, frozen=True, kw_only=True):
    """``DiscoveryChain.Get``; overrides that are zero override nothing."""

    name: str = ""
    evaluate_in_datacenter: str = ""
    evaluate_in_namespace: str = ""
    override_mesh_gateway: MeshGatewayConfig = MeshGatewayConfig()
    override_protocol: str = ""
    override_connect_timeout: int = 0


# -- routes


class ServiceRouteHTTPMatchHeader(Record, frozen=True, kw_only=True):
    """How a header of a request must be."""

    name: str = ""
    present: bool = False
    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    regex: str = ""
    invert: bool = False


class ServiceRouteHTTPMatchQueryParam(Record, frozen=True, kw_only=True):
    """How a parameter of a request must be."""

    name: str = ""
    present: bool = False
    exact: str = ""
    regex: str = ""


class ServiceRouteHTTPMatch(Record, frozen=True, kw_only=True):
    """Requests, by path, headers, parameters and methods."""

    path_exact: str = ""
    path_prefix: str = ""
    path_regex: str = ""
    header: list[ServiceRouteHTTPMatchHeader] | None = None
    query_param: list[ServiceRouteHTTPMatchQueryParam] | None = None
    methods: list[str] | None = None


class ServiceRouteMatch(Record, frozen=True, kw_only=True):
    """Which requests a route is for."""

    http: ServiceRouteHTTPMatch | None = msgspec.field(name="HTTP", default=None)


class ServiceRouteDestination(Record, frozen=True, kw_only=True):
    """Where a route leads, and how requests are changed and retried."""

    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    prefix_rewrite: str = ""
    request_timeout: int = 0
    num_retries: int = 0
    retry_on_connect_failure: bool = False
    retry_on_status_codes: list[int] | None = None


class ServiceRoute(Record, frozen=True, kw_only=True):
    """A route of a router."""

    match: ServiceRouteMatch | None = None
    destination: ServiceRouteDestination | None = None


class DiscoveryRoute(Record, frozen=True, kw_only=True):
    """A route with the node it leads to."""

    definition: ServiceRoute | None = None
    next_node: str = ""


# -- load balancing


class RingHashConfig(Record, frozen=True, kw_only=True):
    """Sizes of the ring of ``ring_hash``."""

    minimum_ring_size: int = 0
    maximum_ring_size: int = 0


class LeastRequestConfig(Record, frozen=True, kw_only=True):
    """How many instances ``least_request`` chooses from."""

    choice_count: int = 0


class CookieConfig(Record, frozen=True, kw_only=True):
    """The cookie that a hash is made of."""

    session: bool = False
    ttl: int = msgspec.field(name="TTL", default=0)
    path: str = ""


class HashPolicy(Record, frozen=True, kw_only=True):
    """What of a request is hashed."""

    field: str = ""
    field_value: str = ""
    cookie_config: CookieConfig | None = None
    source_ip: bool = msgspec.field(name="SourceIP", default=False)
    terminal: bool = False


class LoadBalancer(Record, frozen=True, kw_only=True):
    """How an instance is chosen."""

    policy: str = ""
    ring_hash_config: RingHashConfig | None = None
    least_request_config: LeastRequestConfig | None = None
    hash_policies: list[HashPolicy] | None = None


# -- the chain


class DiscoverySplit(Record, frozen=True, kw_only=True):
    """A share of the requests, in percent, and the node it goes to."""

    weight: float = 0.0
    next_node: str = ""


class DiscoveryFailover(Record, frozen=True, kw_only=True):
    """Targets to try in turn when the first one has no instance."""

    targets: list[str] | None = None


class DiscoveryResolver(Record, frozen=True, kw_only=True):
    """``default``: no config entry says otherwise."""

    default: bool = False
    connect_timeout: int = 0
    target: str = ""
    failover: DiscoveryFailover | None = None


class DiscoveryGraphNode(Record, frozen=True, kw_only=True):
    """A node of the chain; ``type`` is ``router``, ``splitter`` or ``resolver``."""

    type: str = ""
    name: str = ""
    routes: list[DiscoveryRoute] | None = None
    splits: list[DiscoverySplit] | None = None
    resolver: DiscoveryResolver | None = None
    load_balancer: LoadBalancer | None = None


class ServiceResolverSubset(Record, frozen=True, kw_only=True):
    """Which instances are meant."""

    filter: str = ""
    only_passing: bool = False


class DiscoveryTarget(Record, frozen=True, kw_only=True):
    """Instances at the end of the chain."""

    id: str = msgspec.field(name="ID", default="")
    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    datacenter: str = ""
    mesh_gateway: MeshGatewayConfig = MeshGatewayConfig()
    subset: ServiceResolverSubset = ServiceResolverSubset()
    connect_timeout: int = 0
    external: bool = False
    sni: str = msgspec.field(name="SNI", default="")
    name: str = ""


class CompiledDiscoveryChain(Record, frozen=True, kw_only=True):
    """All that requests to a service may lead to; nodes and targets by id."""

    service_name: str = ""
    namespace: str = ""
    datacenter: str = ""
    customization_hash: str = ""
    protocol: str = ""
    start_node: str = ""
    nodes: dict[str, DiscoveryGraphNode] | None = None
    targets: dict[str, DiscoveryTarget] | None = None


class DiscoveryChain(Record, frozen=True, kw_only=True):
    """``DiscoveryChain.Get``: ``DiscoveryChainResponse``."""

    chain: CompiledDiscoveryChain | None = None
