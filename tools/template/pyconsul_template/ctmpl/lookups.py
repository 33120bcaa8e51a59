"""Lookups that only Go templates have, and those that differ there."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from pyconsul_client.queries import Query
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import NodeNotFound, Strings
from pyconsul_template.lookups import Lookups
from pyconsul_template.pending import PENDING

_CA_ROOTS = Query("/v1/agent/connect/ca/roots")
_PEERINGS = Query("/v1/peerings", blocking=False)


def _roots(found: Any) -> list[Any]:
    """Return the roots with the field names of Go's record."""
    roots = cast("list[dict[str, Any]]", found["Roots"] or [] if found else [])
    return [root | {"RootCertPEM": root.get("RootCert", "")} for root in roots]


def _as_is(found: Any) -> Any:
    return found or []


class GoLookups(Lookups):
    """The lookup functions of a Go template."""

    def go_tree(self, prefix: str) -> Any:
        """Return all pairs whose key begins so, as the reference does."""
        return self.tree(prefix, raw=True)

    def go_safe_tree(self, prefix: str) -> Any:
        """Return ``tree``, waiting until there is a pair."""
        return self.tree(prefix, raw=True, safe=True)

    def go_node(self, name: str = "", dc: str = "") -> Any:
        """Return a node with its services; an unknown one is true but empty."""
        found = self.node(name, dc=dc.removeprefix("@"))
        return NodeNotFound() if found is None else found

    def go_datacenters(self, *_ignore: bool) -> Any:
        """Return the datacenters' names."""
        found = self.datacenters()
        return found if found is PENDING else Strings(found)

    def go_services(self, where: str = "") -> Any:
        """Return the catalog's services by name."""
        return self.services(where)

    def connect(self, name: str, *filters: str) -> Any:
        """Return the instances of a service that can be reached by the mesh."""
        status = ",".join(filters)
        use = self._service_use(name, None, "", "", status, "")
        query = use.entry.query
        path = query.path.replace("/health/service/", "/health/connect/", 1)
        entry = self._source.entry(msgspec.structs.replace(query, path=path))
        found = self._read(entry, use.convert)
        if found is PENDING:
            return found
        return [instance for instance in found if instance.status in use.statuses]

    def ca_roots(self) -> Any:
        """Return the mesh's root certificates."""
        return self._read(self._source.entry(_CA_ROOTS), _roots)

    def ca_leaf(self, service: str) -> Any:
        """Return a service's certificate: ``CertPEM``, ``PrivateKeyPEM``, ..."""
        query = Query(f"/v1/agent/connect/ca/leaf/{service}")
        return self._read(self._source.entry(query), _as_is)

    def peerings(self, *_where: str) -> Any:
        """Return the peerings."""
        return self._read(self._source.entry(_PEERINGS), _as_is)


def unsupported(name: str, needs: str) -> Any:
    """Return a function that says why it is not there."""

    def refuse(*_args: Any) -> Any:
        raise GoExecError(f"{name} needs {needs}, which is not supported")

    return refuse
