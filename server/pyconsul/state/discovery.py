"""Whether discovery chains still hold together after a config entry's change.

A chain is what a service's router, splitter and resolver lead to. All services
of a chain must speak one protocol, one of HTTP's family where requests are
routed or split, and subsets that are named must exist (``http-api-connect.md``
section 4, validation texts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyconsul.types.errors import CommandError
from pyconsul.types.messages import Row

Rows = Mapping[tuple[str, str], Row]
Plain = dict[str, Any]
_HTTP_FAMILY = frozenset(("http", "http2", "grpc"))
_ROOTS = frozenset(("service-resolver", "service-router", "service-splitter"))


def check_chains(rows: Rows, kind: str, name: str) -> None:
    """Raise ``CommandError`` for the first chain that does not hold together.

    A service's entries matter to its own chain and to those that lead to it;
    the proxy defaults matter to all.
    """
    roots = sorted({root for found, root in rows if found in _ROOTS})
    for root in roots:
        chain = _Chain(rows, root)
        if kind == "proxy-defaults" or root == name or name in chain.reaches:
            chain.check()


class _Chain:
    """Everything one service's entries lead to, each service once."""

    def __init__(self, rows: Rows, root: str) -> None:
        self._rows = rows
        self._root = root
        self._advanced = False
        self._subsets: list[tuple[str, str]] = []
        self._done: set[tuple[str, str]] = set()
        self.reaches: dict[str, None] = {}
        self._route()

    def check(self) -> None:
        """Raise ``CommandError`` when the chain does not hold together."""
        for service, subset in self._subsets:
            if subset not in (self._fields("service-resolver", service, "Subsets")):
                raise CommandError(
                    f'service "{service}" does not have a subset named "{subset}"'
                )
        wanted = self._protocol(self._root)
        for service in self.reaches:
            found = self._protocol(service)
            if found != wanted:
                raise CommandError(
                    f'discovery chain "{self._root}" uses inconsistent protocols;'
                    f' service "{service}" has "{found}" which is not "{wanted}"'
                )
        if self._advanced and wanted not in _HTTP_FAMILY:
            raise CommandError(
                f'discovery chain "{self._root}" uses a protocol "{wanted}" that'
                " does not permit advanced routing or splitting behavior"
            )

    def _fields(self, kind: str, name: str, field: str) -> Any:
        row = self._rows.get((kind, name))
        return (row.record.fields.get(field) if row is not None else None) or ()

    def _protocol(self, service: str) -> str:
        own = self._fields("service-defaults", service, "Protocol")
        if own:
            return own
        shared = self._fields("proxy-defaults", "global", "Config")
        protocol = shared.get("protocol") if shared else None
        return protocol if isinstance(protocol, str) and protocol else "tcp"

    def _route(self) -> None:
        root = self._root
        if ("service-router", root) in self._rows:
            self._advanced = True
            for route in self._fields("service-router", root, "Routes"):
                target: Plain = route.get("Destination") or {}
                self._split(target.get("Service") or root, target.get("ServiceSubset"))
        self._split(root, "")  # the route that catches the rest

    def _split(self, service: str, subset: str | None) -> None:
        # A named subset is meant as it is: the splitter does not apply.
        splits = () if subset else self._fields("service-splitter", service, "Splits")
        if not splits:
            self._resolve(service, subset or "")
            return
        self._advanced = True
        self.reaches[service] = None
        if (service, "splits") in self._done:
            return
        self._done.add((service, "splits"))
        for split in splits:
            target = split.get("Service") or service
            if target == service:
                self._resolve(service, split.get("ServiceSubset") or "")
            else:
                self._split(target, split.get("ServiceSubset"))

    def _resolve(self, service: str, subset: str) -> None:
        self.reaches[service] = None
        resolver = "service-resolver"
        subset = subset or self._fields(resolver, service, "DefaultSubset") or ""
        step = (service, f"subset {subset}")
        if step in self._done:
            return
        self._done.add(step)
        redirect = self._fields(resolver, service, "Redirect")
        if redirect:
            target = redirect.get("Service") or service
            self._resolve(target, redirect.get("ServiceSubset") or "")
            return
        if subset:
            self._subsets.append((service, subset))
        failover = self._fields(resolver, service, "Failover")
        if failover:
            plan: Plain | None = failover.get(subset) or failover.get("*")
            if plan:
                target = plan.get("Service") or service
                self._resolve(target, plan.get("ServiceSubset") or "")
