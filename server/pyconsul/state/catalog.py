"""Writes of the catalog: nodes, services and checks.

Indexes: ``nodes``, ``services``, ``checks``, ``service_kind.KIND``, a
``service.NAME`` for each service that has instances, and the index at which a
service last lost its final instance (``service_last_extinction``). Lookups of
nodes and services ignore case; the spelling written is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from pyconsul.state.catalog_rows import Group, Instance, NodeEntry, connect_names
from pyconsul.state.coordinates import CoordinateTable
from pyconsul.state.journal import Journal
from pyconsul.types.errors import CommandError
from pyconsul.types.messages import DeregisterRequest, RegisterRequest, Row
from pyconsul.types.records import HealthCheck, Node, NodeService, Weights

EXTINCTION = "service_last_extinction"
SERF_CHECK = "serfHealth"
CONNECT = "\0connect."
"""Prefix of index names that live in memory only (not part of snapshots)."""

_META_KEY = re.compile(r"[a-zA-Z0-9_-]+")
_META_PAIRS = 64
_META_KEY_SIZE = 128
_META_VALUE_SIZE = 512


class SessionEnder(Protocol):
    """What the catalog tells the sessions."""

    def node_gone(self, index: int, node: str) -> None:
        """A node was deregistered."""
        ...

    def check_failed(self, index: int, node: str, check_id: str) -> None:
        """A check became critical or was deregistered."""
        ...


class Catalog:
    """Nodes, services and checks."""

    __slots__ = (
        "by_id",
        "connect",
        "coordinates",
        "groups",
        "journal",
        "nodes",
        "sessions",
    )

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.sessions: SessionEnder | None = None
        self.coordinates: CoordinateTable | None = None
        self.nodes: dict[str, NodeEntry] = {}
        self.by_id: dict[str, NodeEntry] = {}
        self.groups: dict[str, Group] = {}
        self.connect: dict[str, Group] = {}

    # -- lookups ---------------------------------------------------------

    def has_node(self, name: str) -> bool:
        """Tell whether the node is registered."""
        return name.lower() in self.nodes

    def get_node(self, name: str) -> Node | None:
        """Return a node."""
        entry = self.nodes.get(name.lower())
        return entry.node if entry is not None else None

    def get_service(self, node: str, service_id: str) -> NodeService | None:
        """Return an instance of a node."""
        entry = self.nodes.get(node.lower())
        instance = entry.instances.get(service_id) if entry is not None else None
        return instance.svc if instance is not None else None

    def get_check(self, node: str, check_id: str) -> HealthCheck | None:
        """Return a check of a node."""
        entry = self.nodes.get(node.lower())
        row = entry.checks.get(check_id) if entry is not None else None
        return row.record if row is not None else None

    def serf_nodes(self) -> list[Node]:
        """Return the nodes that have a ``serfHealth``."""
        return [e.node for e in self.nodes.values() if SERF_CHECK in e.checks]

    # -- commands --------------------------------------------------------

    def register(self, index: int, request: RegisterRequest) -> None:
        """Apply a registration; raises ``CommandError`` half way."""
        if not request.skip_node_update or not self.has_node(request.node):
            node = Node(
                id=request.id,
                node=request.node,
                address=request.address,
                datacenter=request.datacenter,
                tagged_addresses=request.tagged_addresses,
                meta=request.node_meta,
            )
            try:
                self.set_node(index, node)
            except CommandError as error:
                raise CommandError(f"failed inserting node: {error}") from error
        if request.service is not None:
            try:
                self.set_service(index, request.node, request.service)
            except CommandError as error:
                raise CommandError(f"failed inserting service: {error}") from error
        checks = [request.check] if request.check is not None else []
        for check in checks + list(request.checks or ()):
            self._register_check(index, request.node, check)

    def _register_check(self, index: int, node: str, check: HealthCheck) -> None:
        if not check.node or not check.check_id:
            check = msgspec.structs.replace(
                check, node=check.node or node, check_id=check.check_id or check.name
            )
        if check.node.lower() != node.lower():
            raise CommandError(
                f'check node "{check.node}" does not match node "{node}"'
            )
        try:
            self.set_check(index, check)
        except CommandError as error:
            raise CommandError(f"failed inserting check: {error}") from error

    def deregister(self, index: int, request: DeregisterRequest) -> None:
        """Apply a deregistration; unknown things are no error."""
        if request.service_id:
            self.delete_service(index, request.node, request.service_id)
        elif request.check_id:
            self.delete_check(index, request.node, request.check_id)
        else:
            self.delete_node(index, request.node)

    # -- nodes -----------------------------------------------------------

    def set_node(self, index: int, node: Node) -> Node:
        """Create, update or (same id, new name) rename a node."""
        key = node.node.lower()
        known = self.by_id.get(node.id.lower()) if node.id else None
        created = index
        if known is not None and known.key != key:
            # Renamed: what was registered under the old name goes with it.
            self._check_name(node, known)
            created = known.node.create_index
            self.delete_node(index, known.node.node)
            known = None
        elif known is None and node.id:
            self._check_name(node, None)
        entry = self.nodes.get(key)
        if entry is not None:
            old = entry.node
            if _same(old, node):
                return old
            created = old.create_index
        stored = msgspec.structs.replace(node, create_index=created, modify_index=index)
        journal = self.journal
        if entry is None:
            entry = NodeEntry(stored)
            journal.put(self.nodes, key, entry)
        else:
            self._set_node_row(entry, Row(stored))
        if entry.node.id:
            journal.put(self.by_id, stored.id.lower(), entry)
        journal.bump("nodes", index)
        self._bump_instances(index, entry.instances.values())
        return stored

    def _set_node_row(self, entry: NodeEntry, row: Row) -> None:
        old = entry.row
        journal = self.journal
        old_id = old.record.id.lower()
        if old_id and old_id != row.record.id.lower() and old_id in self.by_id:
            journal.remove(self.by_id, old_id)
        if journal.undo is not None:
            journal.undo.append(lambda: self._show_node_row(entry, old))
        self._show_node_row(entry, row)

    def _show_node_row(self, entry: NodeEntry, row: Row) -> None:
        renamed = entry.row.record.node != row.record.node
        entry.row = row
        entry.stale()
        if renamed:
            for instance in entry.instances.values():
                instance.sort_key = (row.record.node, instance.svc.id)
                for group in self._groups_of(instance.svc):
                    group.add(instance)

    def _check_name(self, node: Node, known: NodeEntry | None) -> None:
        """Refuse a name that a live node with another id holds."""
        holder = self.nodes.get(node.node.lower())
        if holder is None or not holder.node.id or holder is known:
            return
        other = holder.node
        if other.id.lower() == node.id.lower():
            return
        if known is None:
            check = holder.checks.get(SERF_CHECK)
            if check is None or check.record.status == "critical":
                return
        who = f'"{node.id}"'
        if known is not None:
            who += f" ({known.node.address})"
        raise CommandError(
            f"Error while renaming Node ID: {who}: Node name {node.node} is reserved "
            f"by node {other.id} with name {other.node} ({other.address})"
        )

    def delete_node(self, index: int, name: str) -> None:
        """Remove a node with everything on it, and end its sessions."""
        entry = self.nodes.get(name.lower())
        if entry is None:
            return
        for service_id in sorted(entry.instances):
            self.delete_service(index, name, service_id)
        for check_id in sorted(entry.checks):
            self.delete_check(index, name, check_id)
        journal = self.journal
        journal.remove(self.nodes, entry.key)
        node_id = entry.node.id.lower()
        if node_id and self.by_id.get(node_id) is entry:
            journal.remove(self.by_id, node_id)
        journal.bump("nodes", index)
        if self.sessions is not None:
            self.sessions.node_gone(index, name)
        if self.coordinates is not None:
            self.coordinates.node_gone(index, name)

    # -- services --------------------------------------------------------

    def set_service(self, index: int, node: str, service: NodeService) -> NodeService:
        """Create or replace an instance; raises ``CommandError``."""
        entry = self.nodes.get(node.lower())
        if entry is None:
            raise CommandError("Missing node registration")
        if not service.id or service.weights is None:
            service = msgspec.structs.replace(
                service,
                id=service.id or service.service,
                weights=service.weights or Weights(),
            )
        problem = metadata_problem(service.meta or {})
        if problem:
            raise CommandError(
                f"Invalid Service Meta for node {node} and serviceID {service.id}: "
                f"{problem}"
            )
        old = entry.instances.get(service.id)
        created = index
        if old is not None:
            if _same(old.svc, service):
                return old.svc
            created = old.svc.create_index
        stored = msgspec.structs.replace(
            service, create_index=created, modify_index=index
        )
        instance = Instance(entry, stored)
        journal = self.journal
        journal.put(entry.instances, stored.id, instance)
        if old is not None:
            self._leave(index, old, stored)
        self._undoably(self._join, self._part, instance)
        self._bump_kind(index, stored)
        self._bump_instances(index, (instance,))
        return stored

    def delete_service(self, index: int, node: str, service_id: str) -> None:
        """Remove an instance with its checks."""
        entry = self.nodes.get(node.lower())
        instance = entry.instances.get(service_id) if entry is not None else None
        if entry is None or instance is None:
            return
        for check_id, row in sorted(entry.checks.items()):
            if row.record.service_id == service_id:
                self.delete_check(index, node, check_id)
        self.journal.remove(entry.instances, service_id)
        self._leave(index, instance, None)
        self._bump_kind(index, instance.svc)

    def _leave(self, index: int, old: Instance, new: NodeService | None) -> None:
        """Take an instance out of its groups; ``new`` takes its place."""
        self._undoably(self._part, self._join, old)
        name = old.svc.service.lower()
        if new is None or new.service.lower() != name:
            self._lost(index, name)
        staying = connect_names(new) if new is not None else []
        watch = self.journal.watch
        for dest in connect_names(old.svc):
            if dest not in staying:
                self._bump_connect(index, dest)
                watch.touch(watch.connect, dest)

    def _lost(self, index: int, name: str) -> None:
        """A service lost an instance, perhaps its last."""
        journal = self.journal
        if name in self.groups:
            journal.set_index(f"service.{name}", index)
        else:
            journal.drop_index(f"service.{name}")
            journal.set_index(EXTINCTION, index)
        journal.watch.touch(journal.watch.services, name)

    def _undoably(
        self,
        do: Callable[[Instance], None],
        undo: Callable[[Instance], None],
        instance: Instance,
    ) -> None:
        if self.journal.undo is not None:
            self.journal.undo.append(lambda: undo(instance))
        do(instance)

    def _join(self, instance: Instance) -> None:
        service = instance.svc
        name = service.service.lower()
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(service.service)
        group.add(instance)
        for dest in connect_names(service):
            group = self.connect.get(dest)
            if group is None:
                group = self.connect[dest] = Group(dest)
            group.add(instance)

    def _part(self, instance: Instance) -> None:
        service = instance.svc
        name = service.service.lower()
        self._part_from(self.groups, name, instance)
        for dest in connect_names(service):
            self._part_from(self.connect, dest, instance)

    def _part_from(
        self, groups: dict[str, Group], name: str, instance: Instance
    ) -> None:
        group = groups[name]
        group.remove(instance)
        if not group.members:
            del groups[name]

    def _groups_of(self, service: NodeService) -> Iterable[Group]:
        yield self.groups[service.service.lower()]
        for dest in connect_names(service):
            yield self.connect[dest]

    # -- checks ----------------------------------------------------------

    def set_check(self, index: int, check: HealthCheck) -> HealthCheck:
        """Create or replace a check; raises ``CommandError``."""
        entry = self.nodes.get(check.node.lower())
        if entry is None:
            raise CommandError("Missing node registration")
        check = self._completed(entry, check)
        row = entry.checks.get(check.check_id)
        created = index
        if row is not None:
            old: HealthCheck = row.record
            if _same(old, check):
                return old
            created = old.create_index
            if old.service_id != check.service_id:
                self._check_changed(index, entry, old)
        stored = msgspec.structs.replace(
            check, create_index=created, modify_index=index
        )
        self.journal.put(entry.checks, stored.check_id, Row(stored))
        self.journal.bump("checks", index)
        self._check_changed(index, entry, stored)
        if stored.status == "critical" and self.sessions is not None:
            self.sessions.check_failed(index, stored.node, stored.check_id)
        return stored

    def _completed(self, entry: NodeEntry, check: HealthCheck) -> HealthCheck:
        name, tags = check.service_name, check.service_tags
        if check.service_id:
            instance = entry.instances.get(check.service_id)
            if instance is None:
                raise CommandError(
                    f'Missing service registration on node "{check.node}"'
                )
            name, tags = instance.svc.service, instance.svc.tags
        return msgspec.structs.replace(
            check,
            status=check.status or "critical",
            service_name=name,
            service_tags=tags,
        )

    def delete_check(self, index: int, node: str, check_id: str) -> None:
        """Remove a check and end the sessions that depend on it."""
        entry = self.nodes.get(node.lower())
        row = entry.checks.get(check_id) if entry is not None else None
        if entry is None or row is None:
            return
        self.journal.remove(entry.checks, check_id)
        self.journal.bump("checks", index)
        self._check_changed(index, entry, row.record)
        if self.sessions is not None:
            self.sessions.check_failed(index, node, check_id)

    def _check_changed(self, index: int, entry: NodeEntry, check: HealthCheck) -> None:
        if not check.service_id:
            for instance in entry.instances.values():
                instance.health_row = None
            self._bump_instances(index, entry.instances.values())
            return
        instance = entry.instances.get(check.service_id)
        if instance is not None:
            instance.health_row = None
            self._bump_instances(index, (instance,))

    # -- indexes ---------------------------------------------------------

    def _bump_instances(self, index: int, instances: Iterable[Instance]) -> None:
        journal = self.journal
        watch = journal.watch
        for instance in instances:
            name = instance.svc.service.lower()
            journal.set_index(f"service.{name}", index)
            watch.touch(watch.services, name)
            for dest in connect_names(instance.svc):
                self._bump_connect(index, dest)
                watch.touch(watch.connect, dest)

    def _bump_connect(self, index: int, dest: str) -> None:
        if dest in self.connect:
            self.journal.set_index(f"{CONNECT}{dest}", index)
        else:
            self.journal.drop_index(f"{CONNECT}{dest}")
            self.journal.set_index(EXTINCTION, index)

    def _bump_kind(self, index: int, service: NodeService) -> None:
        self.journal.bump("services", index)
        self.journal.set_index(f"service_kind.{service.kind or 'typical'}", index)

    # -- restore ---------------------------------------------------------

    def load_node(self, node: Node) -> NodeEntry:
        """Put a restored node, or return it when it is there."""
        entry = self.nodes.get(node.node.lower())
        if entry is None:
            entry = NodeEntry(node)
            self.nodes[entry.key] = entry
            if node.id:
                self.by_id[node.id.lower()] = entry
        return entry

    def load_service(self, entry: NodeEntry, service: NodeService) -> None:
        """Put a restored instance of a node."""
        instance = Instance(entry, service)
        entry.instances[service.id] = instance
        self._join(instance)

    def load_check(self, entry: NodeEntry, check: HealthCheck) -> None:
        """Put a restored check of a node."""
        entry.checks[check.check_id] = Row(check)


def _same(old: msgspec.Struct, new: msgspec.Struct) -> bool:
    """Compare all but the indexes; an absent map or list equals an empty one."""
    for name in old.__struct_fields__:
        if name in ("create_index", "modify_index"):
            continue
        before, after = getattr(old, name), getattr(new, name)
        if before != after and (before or after):
            return False
    return True


def metadata_problem(meta: Mapping[str, str]) -> str:
    """Return what is wrong with service or node metadata, or ``""``."""
    if len(meta) > _META_PAIRS:
        return f"Node metadata cannot contain more than {_META_PAIRS} key/value pairs"
    for key, value in meta.items():
        problem = _pair_problem(key, value)
        if problem:
            return f"Couldn't load metadata pair ('{key}', '{value}'): {problem}"
    return ""


def _pair_problem(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > _META_KEY_SIZE:
        return f"Key is too long (limit: {_META_KEY_SIZE} characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    if len(value) > _META_VALUE_SIZE:
        return f"Value is too long (limit: {_META_VALUE_SIZE} characters)"
    return ""
