"""What a watch asks for: its type, its parameters, their rules.

Observed: Consul 1.10.11 ``consul watch``, types and error texts. Imports only
what is light; the command runs without a handler in a few milliseconds.
"""

from __future__ import annotations

from pyconsul_client.errors import OptionsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AGENT_ONLY = frozenset(("connect_roots", "connect_leaf", "agent_service"))
"""Types that only an agent's configuration may use."""

_ALLOWED = {
    "key": frozenset(("key", "stale")),
    "keyprefix": frozenset(("prefix", "stale")),
    "services": frozenset(("stale", "filter")),
    "nodes": frozenset(("stale", "filter")),
    "service": frozenset(("service", "tag", "passingonly", "stale", "filter")),
    "checks": frozenset(("service", "state", "stale", "filter")),
    "event": frozenset(("name",)),
    "query": frozenset(("query", "stale")),
}


class Spec:
    """A checked watch: its type, and the path and parameters of its request.

    Neither path nor parameters are percent-encoded yet.
    """

    __slots__ = ("params", "path", "type")

    def __init__(
        self, type: str, path: str, params: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.type = type
        self.path = path
        self.params = tuple(params)


def make_spec(
    type: str,
    params: Mapping[str, str | Sequence[str]],
    dc: str = "",
    *,
    queries: bool = False,
) -> Spec:
    """Return the watch of ``type`` with the parameters that were given.

    ``queries`` allows the type ``query``, which Consul does not have. Raises
    OptionsError with Consul's texts.
    """
    if type in AGENT_ONLY:
        raise OptionsError(f"Type {type} is not supported in the CLI tool")
    allowed = _ALLOWED.get(type)
    if allowed is None or (type == "query" and not queries):
        raise OptionsError(f"Unsupported watch type: {type}")
    path, query = _request(type, params)
    foreign = sorted(name for name in params if name not in allowed)
    if foreign:
        raise OptionsError(f"Invalid parameters: [{' '.join(foreign)}]")
    if "filter" in params:
        query.append(("filter", _one(params, "filter")))
    if dc:
        query.append(("dc", dc))
    return Spec(type, path, query)


def _request(
    type: str, params: Mapping[str, str | Sequence[str]]
) -> tuple[str, list[tuple[str, str]]]:
    service = _one(params, "service")
    match type:
        case "key":
            key = _one(params, "key")
            if not key:
                raise OptionsError("Must specify a single key to watch")
            return f"/v1/kv/{key}", []
        case "keyprefix":
            prefix = _one(params, "prefix")
            if not prefix:
                raise OptionsError("Must specify a single prefix to watch")
            return f"/v1/kv/{prefix}", [("recurse", "")]
        case "service":
            if not service:
                raise OptionsError("Must specify a single service to watch")
            tags = params.get("tag", ())
            query = [("tag", tag) for tag in tags]
            if _one(params, "passingonly") == "true":
                query.append(("passing", "1"))
            return f"/v1/health/service/{service}", query
        case "checks":
            state = _one(params, "state")
            if service and state:
                raise OptionsError("Cannot specify service and state")
            if service:
                return f"/v1/health/checks/{service}", []
            return f"/v1/health/state/{state or 'any'}", []
        case "event":
            name = _one(params, "name")
            return "/v1/event/list", [("name", name)] if name else []
        case "query":
            name = _one(params, "query")
            if not name:
                raise OptionsError("Must specify a single query to watch")
            return f"/v1/query/{name}/execute", []
        case _:
            return f"/v1/catalog/{type}", []


def _one(params: Mapping[str, str | Sequence[str]], name: str) -> str:
    value = params.get(name, "")
    return value if isinstance(value, str) else ""
