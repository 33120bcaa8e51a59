"""Whether discovery chains still hold together after a config entry's change.

A chain is what a service's router, splitter and resolver lead to. All services
of a chain must speak one protocol, one of HTTP's family where requests are
routed or split, and subsets that are named must exist (``http-api-connect.md``
section 4, validation texts).
"""

from __future__ import annotations

from collections import deque
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
        self._todo: deque[tuple[str, str, bool]] = deque()
        self._done: set[tuple[str, str, bool]] = set()
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
                self._target(target, root)
        self._target({}, root)  # the route that catches the rest
        # A list of work, not recursion: chains may be as long as one likes.
        while self._todo:
            service, subset, splits = self._todo.popleft()
            if splits:
                self._split(service, subset)
            else:
                self._resolve(service, subset)

    def _target(self, target: Plain, service: str, splits: bool = True) -> None:
        """Note where to go on; ``splits`` when that may be a splitter."""
        step = (
            target.get("Service") or service,
            target.get("ServiceSubset") or "",
            splits,
        )
        if step not in self._done:
            self._done.add(step)
            self._todo.append(step)

    def _split(self, service: str, subset: str) -> None:
        # A named subset is meant as it is: the splitter does not apply.
        splits = () if subset else self._fields("service-splitter", service, "Splits")
        self.reaches[service] = None
        for split in splits:
            self._advanced = True
            # A splitter that names its own service means the instances.
            onward = (split.get("Service") or service) != service
            self._target(split, service, onward)
        if not splits:
            self._target({"ServiceSubset": subset}, service, False)

    def _resolve(self, service: str, subset: str) -> None:
        resolver = "service-resolver"
        self.reaches[service] = None
        redirect = self._fields(resolver, service, "Redirect")
        if redirect:
            self._target(redirect, service, False)
            return
        subset = subset or self._fields(resolver, service, "DefaultSubset") or ""
        if subset:
            self._subsets.append((service, subset))
        failover = self._fields(resolver, service, "Failover")
        if failover:
            plan: Plain | None = failover.get(subset) or failover.get("*")
            if plan:
                self._target(plan, service, False)
