"""Shapes of the agent's bodies: definitions of services and of checks (1.6)."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import (
    BOOL,
    DURATION,
    INT,
    STRING,
    Kind,
    Shape,
    list_of,
    map_of,
)
from pyconsul.http.shapes import ADDRESS, PROXY, STRING_LISTS, STRINGS, WEIGHTS

_CHECK_FIELDS: dict[str, Kind] = {
    "Name": STRING,
    "Notes": STRING,
    "ServiceID": STRING,
    "Token": STRING,
    "Status": STRING,
    "ScriptArgs": list_of(STRING),
    "HTTP": STRING,
    "Header": STRING_LISTS,
    "Method": STRING,
    "Body": STRING,
    "DisableRedirects": BOOL,
    "TCP": STRING,
    "TCPUseTLS": BOOL,
    "UDP": STRING,
    "Interval": DURATION,
    "DockerContainerID": STRING,
    "Shell": STRING,
    "GRPC": STRING,
    "GRPCUseTLS": BOOL,
    "TLSServerName": STRING,
    "TLSSkipVerify": BOOL,
    "AliasNode": STRING,
    "AliasService": STRING,
    "Timeout": DURATION,
    "TTL": DURATION,
    "H2PING": STRING,
    "H2PingUseTLS": BOOL,
    "OSService": STRING,
    "SuccessBeforePassing": INT,
    "FailuresBeforeWarning": INT,
    "FailuresBeforeCritical": INT,
    "DeregisterCriticalServiceAfter": DURATION,
    "OutputMaxSize": INT,
}
_CHECK_ALIASES = {
    "Args": "ScriptArgs",
    "script_args": "ScriptArgs",
    "deregister_critical_service_after": "DeregisterCriticalServiceAfter",
    "docker_container_id": "DockerContainerID",
    "tls_server_name": "TLSServerName",
    "tls_skip_verify": "TLSSkipVerify",
    "grpc_use_tls": "GRPCUseTLS",
    "service_id": "ServiceID",
    "disable_redirects": "DisableRedirects",
    "tcp_use_tls": "TCPUseTLS",
    "h2ping_use_tls": "H2PingUseTLS",
}

CHECK = Shape({"ID": STRING, **_CHECK_FIELDS}, aliases=_CHECK_ALIASES)
"""A check registered by itself; ``CheckID`` is unknown here."""
SERVICE_CHECK = Shape({"CheckID": STRING, **_CHECK_FIELDS}, aliases=_CHECK_ALIASES)
"""A check within a service."""


def _checks(value: Any, where: str) -> list[Any]:
    """Accept checks; a null element is an empty check, which is refused later."""
    items = list_of(lambda item, _: item)(value, where)
    return [SERVICE_CHECK(item, where) for item in items]


_SERVICE_FIELDS: dict[str, Kind] = {
    "Kind": STRING,
    "ID": STRING,
    "Name": STRING,
    "Tags": list_of(STRING),
    "Address": STRING,
    "TaggedAddresses": map_of(ADDRESS, {}),
    "Meta": STRINGS,
    "Port": INT,
    "SocketPath": STRING,
    "Check": SERVICE_CHECK,
    "Checks": _checks,
    "Weights": WEIGHTS,
    "Token": STRING,
    "EnableTagOverride": BOOL,
    "Proxy": PROXY,
    "Locality": STRINGS,
}
_SERVICE_ALIASES = {
    "enable_tag_override": "EnableTagOverride",
    "tagged_addresses": "TaggedAddresses",
}
_INNERMOST = Shape({**_SERVICE_FIELDS}, aliases=_SERVICE_ALIASES)
_SIDECAR_ALIASES = {"sidecar_service": "SidecarService"}
# A nested sidecar is read in order to be refused by name.
_NESTED = Shape(
    {"Native": BOOL, "SidecarService": _INNERMOST}, aliases=_SIDECAR_ALIASES
)
_SIDECAR = Shape({**_SERVICE_FIELDS, "Connect": _NESTED}, aliases=_SERVICE_ALIASES)
_CONNECT = Shape(
    {"Native": BOOL, "SidecarService": _SIDECAR},
    aliases=_SIDECAR_ALIASES,
)
SERVICE = Shape({**_SERVICE_FIELDS, "Connect": _CONNECT}, aliases=_SERVICE_ALIASES)

CHECK_UPDATE = Shape({"Status": STRING, "Output": STRING})
TOKEN = Shape({"Token": STRING})
