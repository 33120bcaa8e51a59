"""What a service may say of proxies, gateways, upstreams and weights.

Both the agent's registration and the catalog's refuse what breaks these rules,
with the same texts (reference, part 2, 4.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from pyconsul.types.records import Weights

GATEWAY_KINDS = frozenset(("mesh-gateway", "terminating-gateway", "ingress-gateway"))
_UPSTREAM_TYPES = ("", "service", "prepared_query")
_EXPOSED_PROTOCOLS = ("", "http", "http2")
_NOT_FOR_GATEWAYS = (
    "DestinationServiceName",
    "DestinationServiceID",
    "LocalServiceAddress",
    "LocalServicePort",
    "LocalServiceSocketPath",
    "Upstreams",
)
_MAX_PORT = 65535
"""Of ports, and of weights, which SRV records carry in as many bits."""


def proxy_problems(
    kind: str,
    proxy: Mapping[str, Any] | None,
    *,
    port: int = 0,
    socket_path: str = "",
    native: bool = False,
    has_sidecar: bool = False,
) -> list[str]:
    """Return what is wrong with a service of ``kind``, in Consul's words.

    ``proxy`` is the block in wire spelling; ``native`` and ``has_sidecar`` tell
    what the service's connect block says.
    """
    given = proxy or {}
    if kind == "connect-proxy":
        return _connect_proxy(given, bool(port or socket_path), native)
    if kind in GATEWAY_KINDS:
        return _gateway(kind, given, port, has_sidecar)
    return []


def _connect_proxy(proxy: Mapping[str, Any], listens: bool, native: bool) -> list[str]:
    problems: list[str] = []
    target = str(proxy.get("DestinationServiceName") or "").strip()
    if not target:
        problems.append(
            "Proxy.DestinationServiceName must be non-empty for Connect proxy services"
        )
    elif target == "*":
        problems.append(
            "Proxy.DestinationServiceName must not be a wildcard for Connect proxy"
            " services"
        )
    if not listens:
        problems.append("Port or SocketPath must be set for a Connect proxy")
    if native:
        problems.append("A Proxy cannot also be Connect Native, only typical services")
    problems += _upstreams(_maps(proxy.get("Upstreams")))
    exposed = cast("Mapping[str, Any]", proxy.get("Expose") or {})
    return problems + _exposed(_maps(exposed.get("Paths")))


def _maps(given: Any) -> list[Mapping[str, Any]]:
    return [one for one in cast("list[Any]", given or []) if one is not None]


def _upstreams(upstreams: Iterable[Mapping[str, Any]]) -> list[str]:
    problems: list[str] = []
    named: set[str] = set()
    bound: set[str] = set()
    for upstream in upstreams:
        central = bool(upstream.get("CentrallyConfigured"))
        problem = _upstream(upstream, central)
        if not problem:
            key = _key(upstream)
            address = _bound(upstream)
            if key in named:
                problem = f"upstreams cannot contain duplicates of {key}"
            elif address in bound and not central:
                problem = (
                    "upstreams cannot contain duplicates by local bind address and "
                    f'port or unix path; "{address}" is specified twice'
                )
            named.add(key)
            bound.add(address)
        if problem:
            problems.append(problem)
    return problems


def _upstream(upstream: Mapping[str, Any], central: bool) -> str:
    """Return what is wrong with one upstream, or ``""``; the first thing only."""
    kind = upstream.get("DestinationType") or ""
    if kind not in _UPSTREAM_TYPES:
        return f'unknown upstream destination type: "{kind}"'
    name = upstream.get("DestinationName")
    if not name:
        return "upstream destination name cannot be empty"
    if central:
        return ""
    if name == "*":
        return "upstream destination name cannot be a wildcard"
    port, path = upstream.get("LocalBindPort"), upstream.get("LocalBindSocketPath")
    if not port and not path:
        return (
            "upstream local bind port or local socket path must be defined and nonzero"
        )
    if port and path:
        return (
            "only one of upstream local bind port or local socket path can be defined"
            " and nonzero"
        )
    return ""


def _key(upstream: Mapping[str, Any]) -> str:
    kind = upstream.get("DestinationType") or "service"
    return (
        f'[type="{kind}", name="{upstream.get("DestinationName") or ""}", '
        f'namespace="{upstream.get("DestinationNamespace") or ""}", '
        f'datacenter="{upstream.get("Datacenter") or ""}"]'
    )


def _bound(upstream: Mapping[str, Any]) -> str:
    port = upstream.get("LocalBindPort")
    if not port:
        return str(upstream.get("LocalBindSocketPath") or "")
    host = str(upstream.get("LocalBindAddress") or "127.0.0.1")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _exposed(paths: Iterable[Mapping[str, Any]]) -> list[str]:
    problems: list[str] = []
    known: set[str] = set()
    listeners: set[int] = set()
    for one in paths:
        path, port = str(one.get("Path") or ""), int(one.get("ListenerPort") or 0)
        if not path:
            problems.append("expose.paths: empty path exposed")
        if path in known:
            problems.append("expose.paths: duplicate paths exposed")
        known.add(path)
        if port in listeners:
            problems.append("expose.paths: duplicate listener ports exposed")
        listeners.add(port)
        if not 0 < port <= _MAX_PORT:
            problems.append(f"expose.paths: invalid listener port: {port}")
        protocol = str(one.get("Protocol") or "").lower()
        if protocol not in _EXPOSED_PROTOCOLS:
            names = " ".join(_EXPOSED_PROTOCOLS[1:])
            problems.append(
                f"protocol '{protocol}' not supported for path: {path}, "
                f"must be in: [{names}]"
            )
    return problems


def _gateway(
    kind: str, proxy: Mapping[str, Any], port: int, has_sidecar: bool
) -> list[str]:
    problems: list[str] = []
    # An ingress gateway listens where its config entry says.
    if not port and kind != "ingress-gateway":
        problems.append(f"Port must be non-zero for a {kind}")
    if has_sidecar:
        problems.append(f"A {kind} cannot have a sidecar service defined")
    problems += [
        f"The Proxy.{name} configuration is invalid for a {kind}"
        for name in _NOT_FOR_GATEWAYS
        if proxy.get(name)
    ]
    return problems


def weights_problem(weights: Weights) -> str:
    """Return why weights cannot be used, or ``""``."""
    if weights.passing < 1:
        return "Passing must be greater than 0"
    if weights.warning < 0:
        return "Warning must be greater or equal than 0"
    if max(weights.passing, weights.warning) > _MAX_PORT:
        return "DNS Weight must be between 0 and 65535"
    return ""


def multi_error(problems: list[str]) -> str:
    """Return several errors in one text, as Consul prints them."""
    noun = "error" if len(problems) == 1 else "errors"
    lines = "".join(f"\t* {problem}\n" for problem in problems)
    return f"{len(problems)} {noun} occurred:\n{lines}\n"
