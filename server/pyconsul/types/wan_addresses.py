"""WAN addresses in place of the LAN's, for what lives in another datacenter.

``translate_wan_addrs`` (``config.md`` section 2): nodes and services that have
a ``wan`` tagged address are shown with it.
"""

from __future__ import annotations

from msgspec.structs import replace

from pyconsul.types.records import (
    CheckServiceNode,
    Node,
    NodeService,
    NodeServices,
    ServiceInstance,
)

_TAG = "wan"


def wan_node(node: Node) -> Node:
    """Return the node with its WAN address, if it has one."""
    address = (node.tagged_addresses or {}).get(_TAG)
    return replace(node, address=address) if address else node


def wan_service(service: NodeService) -> NodeService:
    """Return the service with its WAN address and port, as far as they are set."""
    tagged = (service.tagged_addresses or {}).get(_TAG)
    if tagged is None:
        return service
    return replace(
        service,
        address=tagged.address or service.address,
        port=tagged.port or service.port,
    )


def wan_instance(found: ServiceInstance) -> ServiceInstance:
    """Return an instance as the WAN sees it."""
    return replace(found, node=wan_node(found.node), service=wan_service(found.service))


def wan_checked(found: CheckServiceNode) -> CheckServiceNode:
    """Return an instance with checks as the WAN sees it."""
    return replace(found, node=wan_node(found.node), service=wan_service(found.service))


def wan_node_services(found: NodeServices) -> NodeServices:
    """Return a node with its services as the WAN sees them."""
    services = [wan_service(service) for service in found.services]
    return replace(found, node=wan_node(found.node), services=services)
