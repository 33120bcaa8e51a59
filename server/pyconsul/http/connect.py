"""``/v1/connect`` and ``/v1/discovery-chain`` (``http-api-connect.md`` 1 to 3).

Intentions can be asked for, not written: they come by archives. What needs the
certificate authority says that Connect is off, with the servers' own words.
"""

from __future__ import annotations

from typing import Any

from pyconsul.http.encoding import sorted_map
from pyconsul.http.operator import time_text
from pyconsul.http.params import read, read_options, value_view
from pyconsul.http.routing import Answer, Request, Response, Routes
from pyconsul.types.errors import (
    BadRequestError,
    ConnectDisabledError,
    ConsulError,
)
from pyconsul.types.intentions import (
    NAMESPACE,
    Intention,
    IntentionHTTPHeaderPermission,
    IntentionListRequest,
    IntentionMatchEntry,
    IntentionPermission,
    IntentionQueryCheck,
    IntentionQueryExact,
    IntentionQueryMatch,
    IntentionQueryRequest,
    Intentions,
)
from pyconsul.types.messages import Reply


def add_routes(routes: Routes) -> None:
    """Add the routes of the mesh."""
    routes.add("connect/intentions", GET=intentions)
    routes.add("connect/intentions/exact", GET=exact)
    routes.add("connect/intentions/match", GET=match)
    routes.add("connect/intentions/check", GET=check)
    routes.add("connect/ca/roots", GET=refuse)
    routes.add("connect/ca/configuration", GET=refuse, PUT=refuse)
    routes.add("agent/connect/ca/roots", GET=refuse)
    routes.add("agent/connect/ca/leaf/", GET=refuse)
    routes.add("discovery-chain/", GET=chain, POST=chain)


def refuse(request: Request) -> Answer:
    """Say that Connect is off."""
    raise ConnectDisabledError


def chain(request: Request) -> Answer:
    """Say that Connect is off, to who names a service."""
    if not request.argument:
        raise BadRequestError("Bad request: Missing chain name")
    raise ConnectDisabledError


# -- intentions


def _header_view(header: IntentionHTTPHeaderPermission) -> dict[str, Any]:
    given: dict[str, Any] = {
        "Present": header.present,
        "Exact": header.exact,
        "Prefix": header.prefix,
        "Suffix": header.suffix,
        "Regex": header.regex,
        "Invert": header.invert,
    }
    return {"Name": header.name, **{k: v for k, v in given.items() if v}}


def _permission_view(permission: IntentionPermission) -> dict[str, Any]:
    view: dict[str, Any] = {"Action": permission.action}
    http = permission.http
    if http is not None:
        given: dict[str, Any] = {
            "PathExact": http.path_exact,
            "PathPrefix": http.path_prefix,
            "PathRegex": http.path_regex,
            "Header": [_header_view(header) for header in http.header or ()],
            "Methods": http.methods,
        }
        view["HTTP"] = {name: value for name, value in given.items() if value}
    return view


def intention_view(one: Intention) -> dict[str, Any]:
    """Return an intention's JSON; ids and times are of those before 1.9."""
    view: dict[str, Any] = {
        "CreatedAt": one.created_at and time_text(one.created_at),
        "UpdatedAt": one.updated_at and time_text(one.updated_at),
        "ID": one.id,
        "Description": one.description,
        "SourceNS": one.source_ns,
        "SourceName": one.source_name,
        "DestinationNS": one.destination_ns,
        "DestinationName": one.destination_name,
        "SourceType": one.source_type,
        "Action": one.action,
        "Permissions": [_permission_view(p) for p in one.permissions or ()],
        "Meta": sorted_map(one.meta),
        "Precedence": one.precedence,
        "CreateIndex": one.create_index,
        "ModifyIndex": one.modify_index,
    }
    return {
        name: value
        for name, value in view.items()
        if value or name not in _LEFT_OUT_WHEN_EMPTY
    }


_LEFT_OUT_WHEN_EMPTY = frozenset(
    ("Action", "CreatedAt", "Description", "ID", "Meta", "Permissions", "UpdatedAt")
)


def intention_list_view(found: Intentions) -> list[dict[str, Any]]:
    """Return the JSON of a list of intentions."""
    return [intention_view(one) for one in found.intentions]


def _one_view(found: Intentions) -> dict[str, Any]:
    return intention_view(found.intentions[0])


_list = value_view(intention_list_view)
_one = value_view(_one_view)
_allowed = value_view(lambda value: {"Allowed": value})


def _split(name: str) -> tuple[str, str]:
    """Return a name's namespace and the rest."""
    namespace, slash, rest = name.partition("/")
    return (namespace, rest) if slash else (NAMESPACE, name)


def _required(request: Request, name: str) -> tuple[str, str]:
    text = request.query.get(name)
    if not text:
        raise ConsulError(f"required query parameter '{name}' not set")
    return _split(text)


def intentions(request: Request) -> Answer:
    """Return all intentions, the most precise first."""
    args = IntentionListRequest(**read_options(request, filtered=True))
    return read(request, "Intention.List", args, _list)


def exact(request: Request) -> Answer:
    """Return the intention between two names; 404 when there is none."""
    options = read_options(request)
    source, destination = (
        _required(request, "source"),
        _required(request, "destination"),
    )
    wanted = IntentionQueryExact(
        source_ns=source[0],
        source_name=source[1],
        destination_ns=destination[0],
        destination_name=destination[1],
    )
    args = IntentionQueryRequest(exact=wanted, **options)
    return read(request, "Intention.Get", args, _one)


def match(request: Request) -> Answer:
    """Return the intentions that may apply to each name, ``null`` for none."""
    options = read_options(request)
    by = request.query.get("by")
    if not by:
        raise ConsulError("required query parameter 'by' not set")
    if by not in ("source", "destination"):
        raise ConsulError("'by' parameter must be one of 'source' or 'destination'")
    names = request.query.all("name")
    if not names:
        raise ConsulError("required query parameter 'name' not set")
    entries = [
        IntentionMatchEntry(namespace=namespace, name=name)
        for namespace, name in map(_split, names)
    ]
    args = IntentionQueryRequest(
        match=IntentionQueryMatch(type=by, entries=entries), **options
    )

    def by_name(found: list[list[Intention]]) -> dict[str, Any]:
        listed = zip(names, found, strict=True)
        return dict(
            sorted(
                (name, [intention_view(one) for one in ones] or None)
                for name, ones in listed
            )
        )

    return read(request, "Intention.Match", args, value_view(by_name))


def check(request: Request) -> Answer:
    """Return whether a source may reach a destination; has no index."""
    options = read_options(request)
    source, destination = (
        _required(request, "source"),
        _required(request, "destination"),
    )
    wanted = IntentionQueryCheck(
        source_ns=source[0],
        source_name=source[1],
        destination_ns=destination[0],
        destination_name=destination[1],
        source_type=request.query.get("source-type") or "consul",
    )
    args = IntentionQueryRequest(check=wanted, **options)

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        return _allowed(request, reply, b"")

    return read(request, "Intention.Check", args, view)
