"""Lookups that only Go templates have, and those that differ there."""

from __future__ import annotations

from typing import Any

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import NodeNotFound, Strings
from pyconsul_template.more_lookups import MoreLookups
from pyconsul_template.pending import PENDING


class GoLookups(MoreLookups):
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


def unsupported(name: str, needs: str) -> Any:
    """Return a function that says why it is not there."""

    def refuse(*_args: Any) -> Any:
        raise GoExecError(f"{name} needs {needs}, which is not supported")

    return refuse
