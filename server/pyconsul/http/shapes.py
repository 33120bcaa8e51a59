"""Shapes of the bodies that describe nodes, services and checks.

The catalog's; the agent's, which take more spellings, build on the same parts.
"""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import (
    ANY,
    BOOL,
    BYTES,
    DURATION,
    INT,
    STRING,
    UINT,
    Shape,
    list_of,
    map_of,
)

STRINGS = map_of(STRING)
STRING_LISTS = map_of(list_of(STRING), [])

ADDRESS = Shape({"Address": STRING, "Port": INT})
_WEIGHTS = Shape({"Passing": INT, "Warning": INT})


def WEIGHTS(value: Any, where: str) -> dict[str, Any]:
    """Accept weights: the defaults are those of none, not of a missing one."""
    return {"Passing": 0, "Warning": 0, **_WEIGHTS(value, where)}


MESH_GATEWAY = Shape({"Mode": STRING})
UPSTREAM = Shape(
    {
        "DestinationType": STRING,
        "DestinationNamespace": STRING,
        "DestinationPartition": STRING,
        "DestinationPeer": STRING,
        "DestinationName": STRING,
        "Datacenter": STRING,
        "LocalBindAddress": STRING,
        "LocalBindPort": INT,
        "LocalBindSocketPath": STRING,
        "LocalBindSocketMode": STRING,
        "Config": map_of(ANY, None),
        "MeshGateway": MESH_GATEWAY,
        "CentrallyConfigured": BOOL,
    },
    aliases={
        "destination_type": "DestinationType",
        "destination_namespace": "DestinationNamespace",
        "destination_partition": "DestinationPartition",
        "destination_peer": "DestinationPeer",
        "destination_name": "DestinationName",
        "local_bind_address": "LocalBindAddress",
        "local_bind_port": "LocalBindPort",
        "local_bind_socket_path": "LocalBindSocketPath",
        "local_bind_socket_mode": "LocalBindSocketMode",
        "mesh_gateway": "MeshGateway",
    },
)
EXPOSE_PATH = Shape(
    {
        "ListenerPort": INT,
        "Path": STRING,
        "LocalPathPort": INT,
        "Protocol": STRING,
        "ParsedFromCheck": BOOL,
    },
    aliases={"listener_port": "ListenerPort", "local_path_port": "LocalPathPort"},
)
PROXY = Shape(
    {
        "DestinationServiceName": STRING,
        "DestinationServiceID": STRING,
        "LocalServiceAddress": STRING,
        "LocalServicePort": INT,
        "LocalServiceSocketPath": STRING,
        "Mode": STRING,
        "Config": map_of(ANY, None),
        "Upstreams": list_of(UPSTREAM),
        "MeshGateway": MESH_GATEWAY,
        "Expose": Shape({"Checks": BOOL, "Paths": list_of(EXPOSE_PATH)}),
        "TransparentProxy": Shape(
            {"OutboundListenerPort": INT, "DialedDirectly": BOOL},
            aliases={
                "outbound_listener_port": "OutboundListenerPort",
                "dialed_directly": "DialedDirectly",
            },
        ),
    },
    aliases={
        "destination_service_name": "DestinationServiceName",
        "destination_service_id": "DestinationServiceID",
        "local_service_address": "LocalServiceAddress",
        "local_service_port": "LocalServicePort",
        "local_service_socket_path": "LocalServiceSocketPath",
        "mesh_gateway": "MeshGateway",
        "transparent_proxy": "TransparentProxy",
    },
)

NODE_SERVICE = Shape(
    {
        "Kind": STRING,
        "ID": STRING,
        "Service": STRING,
        "Tags": list_of(STRING),
        "Address": STRING,
        "TaggedAddresses": map_of(ADDRESS, {}),
        "Meta": STRINGS,
        "Port": INT,
        "SocketPath": STRING,
        "Weights": WEIGHTS,
        "EnableTagOverride": BOOL,
        "Proxy": PROXY,
        "Connect": Shape({"Native": BOOL, "SidecarService": ANY}),
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    }
)

DEFINITION = Shape(
    {
        "HTTP": STRING,
        "TLSServerName": STRING,
        "TLSSkipVerify": BOOL,
        "Header": STRING_LISTS,
        "Method": STRING,
        "Body": STRING,
        "DisableRedirects": BOOL,
        "TCP": STRING,
        "H2PING": STRING,
        "Interval": DURATION,
        "OutputMaxSize": UINT,
        "Timeout": DURATION,
        "DeregisterCriticalServiceAfter": DURATION,
        "ScriptArgs": list_of(STRING),
        "DockerContainerID": STRING,
        "Shell": STRING,
        "GRPC": STRING,
        "GRPCUseTLS": BOOL,
        "AliasNode": STRING,
        "AliasService": STRING,
        "TTL": DURATION,
    },
    aliases={
        "IntervalDuration": "Interval",
        "TimeoutDuration": "Timeout",
        "DeregisterCriticalServiceAfterDuration": "DeregisterCriticalServiceAfter",
    },
    ignore_unknown=True,
)

HEALTH_CHECK = Shape(
    {
        "Node": STRING,
        "CheckID": STRING,
        "Name": STRING,
        "Status": STRING,
        "Notes": STRING,
        "Output": STRING,
        "ServiceID": STRING,
        "ServiceName": STRING,
        "ServiceTags": list_of(STRING),
        "Type": STRING,
        "Interval": STRING,
        "Timeout": STRING,
        "ExposedPort": INT,
        "Definition": DEFINITION,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    }
)

NODE = Shape(
    {
        "ID": STRING,
        "Node": STRING,
        "Address": STRING,
        "Datacenter": STRING,
        "TaggedAddresses": STRINGS,
        "Meta": STRINGS,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    }
)

REGISTER = Shape(
    {
        "Datacenter": STRING,
        "ID": STRING,
        "Node": STRING,
        "Address": STRING,
        "TaggedAddresses": STRINGS,
        "NodeMeta": STRINGS,
        "Service": NODE_SERVICE,
        "Check": HEALTH_CHECK,
        "Checks": list_of(HEALTH_CHECK),
        "SkipNodeUpdate": BOOL,
    }
)

DEREGISTER = Shape(
    {
        "Datacenter": STRING,
        "Node": STRING,
        "Address": STRING,
        "ServiceID": STRING,
        "CheckID": STRING,
    }
)

TXN_OP = Shape(
    {
        "KV": Shape(
            {
                "Verb": STRING,
                "Key": STRING,
                "Value": BYTES,
                "Flags": UINT,
                "Index": UINT,
                "Session": STRING,
            }
        ),
        "Node": Shape({"Verb": STRING, "Node": NODE}),
        "Service": Shape({"Verb": STRING, "Node": STRING, "Service": NODE_SERVICE}),
        "Check": Shape({"Verb": STRING, "Check": HEALTH_CHECK}),
    }
)
