"""Reads of the catalog, with the index and the cells of each.

Which index and which cells belong to a read is the index granularity table of
``http-api.md`` 1.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from pyconsul.state.catalog import CONNECT, EXTINCTION, Catalog
from pyconsul.state.catalog_rows import Group, Instance, NodeEntry
from pyconsul.state.watch import Cell, Read
from pyconsul.types.messages import Row
from pyconsul.types.records import Node, NodeService, NodeServices
from pyconsul.types.ui import NodeInfo

Meta = Mapping[str, str] | None
_HEX = frozenset("0123456789abcdefABCDEF")
_PASSING = frozenset({"passing"})


class CatalogReads:
    """The catalog as clients see it."""

    __slots__ = ("_catalog", "_names", "_names_at")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._names: dict[str, list[str]] = {}
        self._names_at = 0

    def forget(self) -> None:
        """Drop what is kept between reads: the state was replaced."""
        self._names_at = 0

    def nodes(self, meta: Meta) -> Read:
        """Return the nodes by name."""
        rows = [e.row for e in self._entries() if _matches(e.node, meta)]
        return self._read(rows, "nodes")

    def services(self, meta: Meta) -> Read:
        """Return service names with their distinct tags."""
        if meta:
            return self._read(self._collect(meta), "nodes", "services")
        index = self._catalog.journal.index("services")
        if self._names_at != index:
            self._names = self._collect(None)
            self._names_at = index
        return self._read(self._names, "services")

    def _collect(self, meta: Meta) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        groups = self._catalog.groups
        for group in sorted(groups.values(), key=_group_name):
            for instance in group.ordered():
                if _matches(instance.home.node, meta):
                    # The spelling of each instance is its own name here.
                    tags = names.setdefault(instance.svc.service, [])
                    for tag in instance.svc.tags or ():
                        if tag not in tags:
                            tags.append(tag)
        return names

    def service_nodes(
        self, name: str, tags: Sequence[str] | None, meta: Meta, connect: bool
    ) -> Read:
        """Return a service's instances with their nodes."""
        chosen = self._choose(name, tags, meta, connect)
        return self._service_read([i.service_row() for i in chosen], name, connect)

    def check_service_nodes(
        self,
        name: str,
        tags: Sequence[str] | None,
        meta: Meta,
        connect: bool,
        passing_only: bool,
    ) -> Read:
        """Return a service's instances with their nodes and checks."""
        chosen = self._choose(name, tags, meta, connect)
        rows = [instance.check_row() for instance in chosen]
        if passing_only:
            rows = [
                row
                for row, instance in zip(rows, chosen, strict=True)
                if instance.statuses <= _PASSING
            ]
        return self._service_read(rows, name, connect)

    def services_at(self, address: str) -> Read:
        """Return the instances whose own address this is, by service name.

        Addresses are equal in whatever way they are written.
        """
        wanted = _address(address)
        groups = sorted(self._catalog.groups.values(), key=_group_name)
        rows = [
            instance.service_row()
            for group in groups
            for instance in group.ordered()
            if any(_address(one) == wanted for one in _addresses(instance.svc))
        ]
        return self._read(rows, "services", "nodes")

    def _choose(
        self, name: str, tags: Sequence[str] | None, meta: Meta, connect: bool
    ) -> list[Instance]:
        groups = self._catalog.connect if connect else self._catalog.groups
        group = groups.get(name.lower())
        if group is None:
            return []
        chosen = group.ordered()
        if meta:
            chosen = [i for i in chosen if _matches(i.home.node, meta)]
        if tags:
            wanted = {tag.lower() for tag in tags}
            chosen = [i for i in chosen if wanted <= _lower_tags(i)]
        return chosen

    def _service_read(self, rows: list[Row], name: str, connect: bool) -> Read:
        name = name.lower()
        journal = self._catalog.journal
        if connect:
            prefix, space = CONNECT, journal.watch.connect
        else:
            prefix, space = "service.", journal.watch.services
        own = journal.indexes.get(prefix + name, 0)
        index = own or journal.index(EXTINCTION)
        return Read(rows, index, (Cell(space, name),), keeps=bool(own))

    def node_services(self, node: str) -> Read:
        """Return a node, by name or unique ID prefix, with its services."""
        entry = self._catalog.nodes.get(node.lower()) or self._by_id_prefix(node)
        cells = self._catalog.journal.table_cells("nodes", "services")
        if entry is None:
            return Read(None, 1, cells)
        services = [instance.svc for instance in entry.sorted_instances()]
        value = NodeServices(node=entry.node, services=services)
        return Read(value, self._catalog.journal.index("nodes", "services"), cells)

    def _by_id_prefix(self, prefix: str) -> NodeEntry | None:
        digits = prefix.replace("-", "")
        if len(digits) < 2 or len(digits) % 2 or not _HEX.issuperset(digits):
            return None
        digits = digits.lower()
        found = [
            entry
            for node_id, entry in self._catalog.by_id.items()
            if node_id.replace("-", "").startswith(digits)
        ]
        return found[0] if len(found) == 1 else None

    def node_checks(self, node: str) -> Read:
        """Return the checks of a node."""
        entry = self._catalog.nodes.get(node.lower())
        return self._read(entry.sorted_checks() if entry else [], "checks")

    def service_checks(self, name: str, meta: Meta) -> Read:
        """Return the checks of a service's instances."""
        lower = name.lower()
        rows: list[Row] = []
        seen: set[int] = set()
        for entry in self._entries_of(lower):
            if id(entry) not in seen and _matches(entry.node, meta):
                seen.add(id(entry))
                checks = entry.sorted_checks()
                rows += [r for r in checks if r.record.service_name.lower() == lower]
        if meta:
            return self._service_read(rows, name, False)
        return self._read(rows, "checks")

    def checks_in_state(self, state: str, meta: Meta) -> Read:
        """Return the checks with a status; ``any`` is all."""
        rows: list[Row] = []
        for entry in self._entries():
            if _matches(entry.node, meta):
                for row in entry.sorted_checks():
                    if state == "any" or row.record.status == state:
                        rows.append(row)  # noqa: PERF401
        return self._read(rows, "checks")

    def node_dump(self, name: str | None) -> Read:
        """Return every node, or the one named, with services and checks."""
        entries = self._entries()
        if name is not None:
            entries = [entry for entry in entries if entry.key == name.lower()]
        value = [
            NodeInfo(
                id=entry.node.id,
                node=entry.node.node,
                address=entry.node.address,
                tagged_addresses=entry.node.tagged_addresses,
                meta=entry.node.meta,
                services=[one.svc for one in entry.sorted_instances()],
                checks=[row.record for row in entry.sorted_checks()],
            )
            for entry in entries
        ]
        return self._read(value, "nodes", "services", "checks")

    def service_dump(self) -> Read:
        """Return the instances of every service with nodes and checks."""
        groups = sorted(self._catalog.groups.values(), key=_group_name)
        rows = [one.check_row() for group in groups for one in group.ordered()]
        return self._read(rows, "nodes", "services", "checks")

    def _entries(self) -> list[NodeEntry]:
        return sorted(self._catalog.nodes.values(), key=_node_name)

    def _entries_of(self, name: str) -> list[NodeEntry]:
        group = self._catalog.groups.get(name)
        return [instance.home for instance in group.ordered()] if group else []

    def _read(self, value: object, *tables: str) -> Read:
        journal = self._catalog.journal
        return Read(value, journal.index(*tables), journal.table_cells(*tables))


def _matches(node: Node, meta: Meta) -> bool:
    if not meta:
        return True
    held = node.meta or {}
    return all(held.get(key) == value for key, value in meta.items())


def _addresses(service: NodeService) -> Iterator[str]:
    if service.address:
        yield service.address
    for tagged in (service.tagged_addresses or {}).values():
        yield tagged.address


def _address(text: str) -> object:
    """Return what to compare: an address, or a host's name as it is."""
    try:
        return ip_address(text)
    except ValueError:
        return text


def _lower_tags(instance: Instance) -> set[str]:
    return {tag.lower() for tag in instance.svc.tags or ()}


def _group_name(group: Group) -> str:
    return group.name


def _node_name(entry: NodeEntry) -> str:
    return entry.node.node
