"""Federation states: what datacenters tell each other of their mesh gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.state.watch import Read
from pyconsul.types.errors import PermissionDeniedError
from pyconsul.types.mesh import FederationState, FederationStateQuery
from pyconsul.types.messages import DCSpecificRequest

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server


def list_states(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``FederationState.List``: ``list[FederationState]`` by datacenter."""
    if not who.allows_all:
        raise PermissionDeniedError
    return server.state.federation_states()


def get(server: Server, args: FederationStateQuery, who: Authorizer) -> Read:
    """``FederationState.Get``: a ``FederationState``, or ``None``."""
    read = list_states(server, DCSpecificRequest(), who)
    states: list[FederationState] = read.value
    wanted = args.target_datacenter
    read.value = next((state for state in states if state.datacenter == wanted), None)
    return read


def mesh_gateways(server: Server, args: DCSpecificRequest, who: Authorizer) -> Read:
    """``FederationState.ListMeshGateways``: lists of ``CheckServiceNode``.

    By datacenter, and only of nodes and services that may be seen.
    """
    read = server.state.federation_states()
    states: list[FederationState] = read.value
    read.value = {
        state.datacenter: [
            found
            for found in state.mesh_gateways
            if who.allows_all
            or (
                who.node_read(found.node.node)
                and who.service_read(found.service.service)
            )
        ]
        for state in states
    }
    return read


READS: dict[str, ReadHandler] = {
    "FederationState.Get": get,
    "FederationState.List": list_states,
    "FederationState.ListMeshGateways": mesh_gateways,
}
