"""What config entries may say: the checks of a write, and what they normalise.

Texts and order are Consul's (``http-api-connect.md`` section 4). ``check`` gets
all fields of an entry with their zero values, and raises ``ConsulError``.
Whether entries fit each other is the state's business, not this module's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pyconsul.state.config_entries import WILDCARD
from pyconsul.types.durations import format_duration
from pyconsul.types.errors import ConsulError
from pyconsul.types.proxy_rules import multi_error

Fields = dict[str, Any]

_META_PAIRS = 64
_META_KEY_LENGTH = 128
_META_VALUE_LENGTH = 512
_PROTOCOLS = ("tcp", "http", "http2", "grpc")
_METHODS = frozenset(
    (
        *("GET", "HEAD", "POST", "PUT", "PATCH"),
        *("DELETE", "CONNECT", "OPTIONS", "TRACE"),
    )
)
_SUBSET = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_SUBSET_LENGTH = 63
"""Of a label of DNS, which subsets and hosts are made of."""
_HOST_LENGTH = 255
_HASHED = ("ring_hash", "maglev")
_POLICIES = ("", "random", "round_robin", "least_request", *_HASHED)
_HASH_FIELDS = ("header", "cookie", "query_parameter")


def check(kind: str, name: str, fields: Fields) -> None:
    """Check an entry and normalise its fields; raises ``ConsulError``."""
    if kind == "service-splitter" and not fields["Splits"]:
        raise ConsulError("no splits configured")
    problems = _meta_problems(fields["Meta"] or {})
    if kind == "service-defaults":
        problems += _service_defaults(fields)
    if problems:
        raise ConsulError(multi_error(problems))
    if kind in _CHECKS:
        _CHECKS[kind](name, fields)


def _meta_problems(meta: Mapping[str, str]) -> list[str]:
    problems: list[str] = []
    if len(meta) > _META_PAIRS:
        problems.append(f"Meta exceeds maximum element count {_META_PAIRS}")
    for key, value in meta.items():
        if len(key.encode()) > _META_KEY_LENGTH:
            problems.append(
                f'Meta key "{key}" exceeds maximum length {_META_KEY_LENGTH}'
            )
        if len(value.encode()) > _META_VALUE_LENGTH:
            problems.append(
                f'Meta value for key "{key}" exceeds maximum length'
                f" {_META_VALUE_LENGTH}"
            )
    return problems


def _service_defaults(fields: Fields) -> list[str]:
    fields["Protocol"] = fields["Protocol"].lower()
    upstreams = fields["UpstreamConfig"]
    problems: list[str] = []
    if upstreams is None:
        return problems
    problems += [
        f"error in upstream override for {one['Name']}: Name is required"
        for one in upstreams["Overrides"] or ()
        if not one["Name"]
    ]
    if upstreams["Defaults"] is not None and upstreams["Defaults"]["Name"]:
        problems.append("error in upstream defaults: Name must be empty")
    return problems


# -- routers


def _router(name: str, fields: Fields) -> None:
    for at, route in enumerate(fields["Routes"] or ()):
        match = route["Match"] and route["Match"]["HTTP"]
        if match is not None:
            _route_match(f"Route[{at}]", match)
        rewrite = route["Destination"] and route["Destination"]["PrefixRewrite"]
        if rewrite and not (match and (match["PathExact"] or match["PathPrefix"])):
            raise ConsulError(
                f"Route[{at}] cannot make use of PrefixRewrite without configuring"
                " either PathExact or PathPrefix"
            )


def _route_match(route: str, match: Fields) -> None:
    for key in ("PathExact", "PathPrefix"):
        if match[key] and not match[key].startswith("/"):
            raise ConsulError(f"{route} {key} doesn't start with '/': \"{match[key]}\"")
    if _given(match, "PathExact", "PathPrefix", "PathRegex") > 1:
        raise ConsulError(
            f"{route} should only contain at most one of PathExact, PathPrefix, or"
            " PathRegex"
        )
    for at, header in enumerate(match["Header"] or ()):
        where = f"{route} Header[{at}]"
        if not header["Name"]:
            raise ConsulError(f"{where} missing required Name field")
        if _given(header, "Present", "Exact", "Prefix", "Suffix", "Regex") != 1:
            raise ConsulError(
                f"{where} should only contain one of Present, Exact, Prefix, Suffix,"
                " or Regex"
            )
    for at, parameter in enumerate(match["QueryParam"] or ()):
        where = f"{route} QueryParam[{at}]"
        if not parameter["Name"]:
            raise ConsulError(f"{where} missing required Name field")
        if _given(parameter, "Present", "Exact", "Regex") != 1:
            raise ConsulError(
                f"{where} should only contain one of Present, Exact, or Regex"
            )
    if match["Methods"]:
        match["Methods"] = [method.upper() for method in match["Methods"]]
        _methods(route, match["Methods"])


def _methods(route: str, methods: list[str]) -> None:
    found: set[str] = set()
    for method in methods:
        if method not in _METHODS:
            raise ConsulError(f'{route} Methods contains an invalid method "{method}"')
        if method in found:
            raise ConsulError(f'{route} Methods contains "{method}" more than once')
        found.add(method)


def _given(fields: Fields, *names: str) -> int:
    return sum(bool(fields[name]) for name in names)


# -- splitters


def _splitter(name: str, fields: Fields) -> None:
    found: set[tuple[str, str, str]] = set()
    total = 0
    for split in fields["Splits"]:
        service = split["Service"] or name
        key = (service, split["ServiceSubset"], split["Namespace"])
        if key in found:
            raise ConsulError(
                f'split destination occurs more than once: service="{service}", '
                f'subset="{key[1]}", namespace="{key[2]}"'
            )
        found.add(key)
        # Hundredths, so that weights such as 33.33 add up.
        hundredths = round(float(split["Weight"]) * 100)
        split["Weight"] = hundredths / 100
        total += hundredths
    if total != 10000:
        raise ConsulError(
            f"the sum of all split weights must be 100, not {total / 100:f}"
        )


# -- resolvers


def _resolver(name: str, fields: Fields) -> None:
    subsets: Fields = fields["Subsets"] or {}
    for subset in subsets:
        if not subset:
            raise ConsulError("Subset defined with empty name")
        problem = _subset_problem(subset)
        if problem:
            raise ConsulError(f'Subset "{subset}" is invalid: {problem}')
    default = fields["DefaultSubset"]
    if default and default not in subsets:
        raise ConsulError(f'DefaultSubset "{default}" is not a valid subset')
    if fields["Redirect"] is not None:
        if fields["Failover"]:
            raise ConsulError("Redirect and Failover cannot both be set")
        _redirect(name, fields["Redirect"], subsets)
    failovers: Fields = fields["Failover"] or {}
    for subset, failover in failovers.items():
        _failover(name, subset, failover, subsets)
    timeout = fields["ConnectTimeout"]
    if timeout < 0:
        raise ConsulError(
            f"Bad ConnectTimeout '{format_duration(timeout)}', must be >= 0"
        )
    if fields["LoadBalancer"] is not None:
        _load_balancer(fields["LoadBalancer"])


def _subset_problem(subset: str) -> str:
    if len(subset) > _SUBSET_LENGTH:
        return "must be non-empty and 63 characters or fewer"
    if _SUBSET.fullmatch(subset) is None:
        return (
            "must be 63 characters or fewer, begin or end with lower case alphanumeric"
            " characters, and contain lower case alphanumeric characters or '-' in"
            " between"
        )
    return ""


def _redirect(name: str, redirect: Fields, subsets: Mapping[str, Any]) -> None:
    if not any(redirect.values()):
        raise ConsulError("Redirect is empty")
    service, subset = redirect["Service"], redirect["ServiceSubset"]
    if not service:
        for key in ("ServiceSubset", "Namespace"):
            if redirect[key]:
                raise ConsulError(f"Redirect.{key} defined without Redirect.Service")
    elif service == name and subset and subset not in subsets:
        raise ConsulError(
            f'Redirect.ServiceSubset "{subset}" is not a valid subset of "{service}"'
        )


def _failover(
    name: str, subset: str, failover: Fields, subsets: Mapping[str, Any]
) -> None:
    where = f'Bad Failover["{subset}"]'
    if subset != WILDCARD and subset not in subsets:
        raise ConsulError(f"{where}: not a valid subset")
    if not any(failover.values()):
        raise ConsulError(
            f"{where} one of Service, ServiceSubset, Namespace, or Datacenters is"
            " required"
        )
    service, wanted = failover["Service"], failover["ServiceSubset"]
    if wanted and service in ("", name) and wanted not in subsets:
        raise ConsulError(
            f'{where}.ServiceSubset "{wanted}" is not a valid subset of "{service}"'
        )
    if "" in (failover["Datacenters"] or ()):
        raise ConsulError(f"{where}.Datacenters: found empty datacenter")


def _load_balancer(balancer: Fields) -> None:
    policy = balancer["Policy"]
    if policy not in _POLICIES:
        raise ConsulError(f'Bad LoadBalancer policy: "{policy}" is not supported')
    for key, wanted in (
        ("RingHashConfig", "ring_hash"),
        ("LeastRequestConfig", "least_request"),
    ):
        if balancer[key] is not None and policy != wanted:
            raise ConsulError(
                f"Bad LoadBalancer configuration. {key} specified for incompatible"
                f' load balancing policy "{policy}"'
            )
    if balancer["HashPolicies"] and policy not in _HASHED:
        raise ConsulError(
            "Bad LoadBalancer configuration: HashPolicies specified for"
            f' non-hash-based Policy: "{policy}"'
        )
    for at, one in enumerate(balancer["HashPolicies"] or ()):
        problem = _hash_problem(one)
        if problem:
            raise ConsulError(f"Bad LoadBalancer HashPolicy[{at}]: {problem}")


def _hash_problem(policy: Fields) -> str:
    field, value, cookie = policy["Field"], policy["FieldValue"], policy["CookieConfig"]
    if field and field not in _HASH_FIELDS:
        return f'"{field}" is not a supported field'
    if policy["SourceIP"] and field:
        return f'A single hash policy cannot hash both a source address and a "{field}"'
    if policy["SourceIP"] and value:
        return "A FieldValue cannot be specified when hashing SourceIP"
    if field and not value:
        return f'Field "{field}" was specified without a FieldValue'
    if value and not field:
        return "FieldValue requires a Field to apply to"
    if cookie is None:
        return ""
    if field != "cookie":
        return f'cookie_config provided for "{field}"'
    if cookie["Session"] and cookie["TTL"]:
        return "a session cookie cannot have an associated TTL"
    return ""


# -- gateways


def _ingress(name: str, fields: Fields) -> None:
    ports: set[int] = set()
    for listener in fields["Listeners"] or ():
        protocol = listener["Protocol"] = listener["Protocol"].lower() or "tcp"
        port, services = listener["Port"], listener["Services"]
        if port in ports:
            raise ConsulError(f"port {port} declared on two listeners")
        ports.add(port)
        if protocol not in _PROTOCOLS:
            raise ConsulError(
                "protocol must be 'tcp', 'http', 'http2', or 'grpc'."
                f" '{protocol}' is an unsupported protocol"
            )
        if not services:
            raise ConsulError(f"No service declared for listener with port {port}")
        if protocol == "tcp" and len(services) > 1:
            raise ConsulError(
                "Multiple services per listener are only supported for protocol ="
                f" 'http' (listener on port {port})"
            )
        problem = _listener_problem(protocol, services, bool(fields["TLS"]["Enabled"]))
        if problem:
            if problem.startswith("Host "):
                raise ConsulError(problem)
            raise ConsulError(f"{problem} (listener on port {port})")


def _listener_problem(protocol: str, services: list[Fields], tls: bool) -> str:
    """Return what is wrong with a listener's services and hosts, or ``""``."""
    names: set[str] = set()
    declared: set[str] = set()
    for service in services:
        name, hosts = service["Name"], service["Hosts"] or ()
        if protocol == "tcp" and name == WILDCARD:
            return "Wildcard service name is only valid for protocol = 'http'"
        if protocol == "tcp" and hosts:
            return (
                "Associating hosts to a service is not supported for the tcp protocol"
            )
        if not name:
            return "Service name cannot be blank"
        if name == WILDCARD and hosts:
            return "Associating hosts to a wildcard service is not supported"
        if name in names:
            return f"Service {name} cannot be added multiple times"
        names.add(name)
        for host in hosts:
            if host in declared:
                return "Hosts must be unique within a specific listener"
            declared.add(host)
            problem = _host_problem(host, tls)
            if problem:
                return problem
    return ""


def _host_problem(host: str, tls: bool) -> str:
    if host == WILDCARD:
        if not tls:
            return ""
        return (
            "Host '*' is not allowed when TLS is enabled, all hosts must be valid DNS"
            " records to add as a DNSSAN"
        )
    labels = host.removesuffix(".").split(".")
    if len(host) > _HOST_LENGTH or not all(
        0 < len(label) <= _SUBSET_LENGTH for label in labels
    ):
        return f'Host "{host}" must be a valid DNS hostname'
    if WILDCARD in host.removeprefix("*."):
        return (
            f'Host "{host}" is not valid, a wildcard specifier is only allowed as the'
            " leftmost label"
        )
    return ""


def _terminating(name: str, fields: Fields) -> None:
    seen: set[str] = set()
    for service in fields["Services"] or ():
        target = service["Name"]
        if not target:
            raise ConsulError("Service name cannot be blank.")
        if target in seen:
            raise ConsulError(
                f'service "{target}" was specified more than once within a namespace'
            )
        seen.add(target)
        # A client certificate needs its key and the other way round.
        if (service["CertFile"] or service["KeyFile"]) and not (
            service["CAFile"] and service["CertFile"] and service["KeyFile"]
        ):
            raise ConsulError(
                f'service "{target}" must have a CertFile, CAFile, and KeyFile'
                " specified for TLS origination"
            )


_CHECKS: dict[str, Callable[[str, Fields], None]] = {
    "service-router": _router,
    "service-splitter": _splitter,
    "service-resolver": _resolver,
    "ingress-gateway": _ingress,
    "terminating-gateway": _terminating,
}
