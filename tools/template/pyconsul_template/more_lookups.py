"""Lookups beyond the catalog and KV: the mesh, queries, events, sessions.

What has no record of its own comes as the agent's JSON: maps with its names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from pyconsul_client.goflags import parse_duration
from pyconsul_client.queries import Query
from pyconsul_client.records import ServiceEntry
from pyconsul_template.lookups import BadLookupError, Lookups
from pyconsul_template.pending import PENDING
from pyconsul_template.records import Instance
from pyconsul_template.source import instances

_CA_ROOTS = Query("/v1/agent/connect/ca/roots")
_PEERINGS = Query("/v1/peerings", blocking=False)
_INTENTIONS = Query("/v1/connect/intentions")
_AGENT = Query("/v1/agent/self", blocking=False)


def _roots(found: Any) -> list[Any]:
    """Return the roots with the field names of Go's record."""
    roots = cast("list[dict[str, Any]]", found["Roots"] or [] if found else [])
    return [root | {"RootCertPEM": root.get("RootCert", "")} for root in roots]


def as_is(found: Any) -> Any:
    """Return the answer, no list for none."""
    return found or []


def _whole(found: Any) -> Any:
    """Return the answer."""
    return found


def _first(found: Any) -> Any:
    """Return the one element of a list, ``None`` when it is empty."""
    return found[0] if found else None


def _executed(found: Any) -> list[Instance]:
    """Return the instances a prepared query found, in its order."""
    nodes: Any = found["Nodes"] if found else None
    return instances(msgspec.convert(nodes or [], list[ServiceEntry]))


class MoreLookups(Lookups):
    """All lookup functions of a template."""

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the functions by the name templates call them."""
        return {
            **super().table(),
            "connect": self.connect,
            "ca_roots": self.ca_roots,
            "ca_leaf": self.ca_leaf,
            "peerings": self.peerings,
            "query": self.query,
            "intentions": self.intentions,
            "intention": self.intention,
            "health_state": self.health_state,
            "event": self.event,
            "session": self.session,
            "coordinate": self.coordinate,
            "agent_self": self.agent_self,
            "config_entry": self.config_entry,
            "config_entries": self.config_entries,
            "http_json": self.http_json,
        }

    def connect(
        self,
        name: str,
        *filters: str,
        tag: str | None = None,
        dc: str = "",
        near: str = "",
        status: str = "",
        filter: str = "",
        peer: str = "",
    ) -> Any:
        """Return the instances of a service that can be reached by the mesh."""
        status = status or ",".join(filters)
        if peer:
            name = f"{name}?peer={peer}"
        use = self._service_use(name, tag, dc, near, status, filter, by_mesh=True)
        found = self._read(use.entry, use.convert)
        if found is PENDING:
            return found
        return [instance for instance in found if instance.status in use.statuses]

    def ca_roots(self) -> Any:
        """Return the mesh's root certificates."""
        return self._read(self._source.entry(_CA_ROOTS), _roots)

    def ca_leaf(self, service: str) -> Any:
        """Return a service's certificate: ``CertPEM``, ``PrivateKeyPEM``, ..."""
        query = Query(f"/v1/agent/connect/ca/leaf/{service}")
        return self._read(self._source.entry(query), as_is)

    def peerings(self, *_where: str) -> Any:
        """Return the peerings."""
        return self._read(self._source.entry(_PEERINGS), as_is)

    def query(self, name: str, *, dc: str = "", near: str = "", limit: int = 0) -> Any:
        """Return the instances a prepared query finds, in its order; polled."""
        given = (("near", near), ("limit", str(limit or "")))
        return self._asked(f"/v1/query/{name}/execute", _executed, dc, given, True)

    def intentions(self) -> Any:
        """Return the intentions."""
        return self._read(self._source.entry(_INTENTIONS), as_is)

    def intention(self, source: str, destination: str) -> Any:
        """Return the intention from one service to another, or ``None``."""
        found = self.intentions()
        if found is PENDING:
            return found
        names = source, destination
        same = (i for i in found if (i["SourceName"], i["DestinationName"]) == names)
        return next(same, None)

    def health_state(self, state: str, *, dc: str = "") -> Any:
        """Return the checks in a state: ``critical``, ``any``, ..."""
        return self.checks(state=state, dc=dc)

    def event(self, name: str = "") -> Any:
        """Return the recent user events of a name, the oldest first."""
        return self._read(self._source.entry(self._queries.events(name)), as_is)

    def session(self, session_id: str, *, dc: str = "") -> Any:
        """Return a session, or ``None`` when it has ended."""
        return self._asked(f"/v1/session/info/{session_id}", _first, dc)

    def coordinate(self, node: str = "", *, dc: str = "") -> Any:
        """Return the network coordinates of a node's segments, or of all nodes."""
        path = f"/v1/coordinate/node/{node}" if node else "/v1/coordinate/nodes"
        return self._asked(path, as_is, dc)

    def agent_self(self) -> Any:
        """Return what the agent says of itself; polled."""
        return self._read(self._source.entry(_AGENT), as_is)

    def config_entry(self, kind: str, name: str, *, dc: str = "") -> Any:
        """Return a config entry, or ``None``."""
        found = self.config_entries(kind, dc=dc)
        if found is PENDING:
            return found
        return next((entry for entry in found if entry.get("Name") == name), None)

    def config_entries(self, kind: str, *, dc: str = "") -> Any:
        """Return the config entries of a kind."""
        return self._asked(f"/v1/config/{kind}", as_is, dc)

    def http_json(self, url: str, interval: str | float = "30s") -> Any:
        """Return the JSON of a web server, asked again every ``interval``.

        ``interval`` is Go's duration or seconds, 1 s at least.
        """
        from pyconsul_template.fetches import INTERVAL, check_url

        if reason := check_url(url):
            raise BadLookupError(f"http_json: {url!r} {reason}")
        seconds = interval
        if isinstance(seconds, str):
            seconds = parse_duration(seconds)
        given = ((INTERVAL, str(max(float(seconds), 1.0))),)
        query = Query(url, given, blocking=False)
        return self._read(self._source.entry(query), _whole)

    def _asked(
        self,
        path: str,
        convert: Callable[[Any], Any],
        dc: str,
        given: tuple[tuple[str, str], ...] = (),
        is_polled: bool = False,
    ) -> Any:
        params = tuple((k, v) for k, v in (("dc", dc), *given) if v)
        query = Query(path, params, blocking=not is_polled)
        return self._read(self._source.entry(query), convert)
