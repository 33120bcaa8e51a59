"""Nodes and service instances as the catalog holds them, with kept rows.

The records inside are immutable and replaced as a whole; the composite rows
(``ServiceInstance``, ``CheckServiceNode``) are made at their first read and
dropped when a part changes, so that their JSON is encoded once.
"""

from __future__ import annotations

from pyconsul.types.messages import Row
from pyconsul.types.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    ServiceInstance,
)


class NodeEntry:
    """A node with its instances and checks, each by id."""

    __slots__ = ("checks", "instances", "key", "row")

    def __init__(self, node: Node) -> None:
        self.key = node.node.lower()
        self.row = Row(node)
        self.instances: dict[str, Instance] = {}
        self.checks: dict[str, Row] = {}

    @property
    def node(self) -> Node:
        """The node's record."""
        return self.row.record

    def stale(self, service_id: str = "") -> None:
        """A part changed: of one instance, or of all (no ``service_id``)."""
        if service_id:
            instance = self.instances.get(service_id)
            if instance is not None:
                instance.health_row = None
            return
        for instance in self.instances.values():
            instance.catalog_row = instance.health_row = None

    def sorted_checks(self) -> list[Row]:
        """Return all checks by id."""
        return [self.checks[check_id] for check_id in sorted(self.checks)]

    def sorted_instances(self) -> list[Instance]:
        """Return all instances by id."""
        return [self.instances[service_id] for service_id in sorted(self.instances)]


class Instance:
    """A service instance on its node."""

    __slots__ = ("catalog_row", "health_row", "home", "sort_key", "statuses", "svc")

    def __init__(self, home: NodeEntry, service: NodeService) -> None:
        self.home = home
        self.svc = service
        self.sort_key = (home.node.node, service.id)
        self.catalog_row: Row | None = None
        self.health_row: Row | None = None
        self.statuses: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str]:
        """Where the instance is: node key and service id."""
        return (self.home.key, self.svc.id)

    def checks(self) -> list[HealthCheck]:
        """Return the node's own checks, then the service's, each by id."""
        rows = self.home.sorted_checks()
        checks: list[HealthCheck] = [r.record for r in rows if not r.record.service_id]
        mine = self.svc.id
        return checks + [r.record for r in rows if r.record.service_id == mine]

    def service_row(self) -> Row:
        """Return the kept ``ServiceInstance`` row."""
        row = self.catalog_row
        if row is None:
            record = ServiceInstance(node=self.home.node, service=self.svc)
            row = self.catalog_row = Row(record)
        return row

    def check_row(self) -> Row:
        """Return the kept ``CheckServiceNode`` row; ``statuses`` is then set."""
        row = self.health_row
        if row is None:
            checks = self.checks()
            self.statuses = frozenset([check.status for check in checks])
            row = self.health_row = Row(
                CheckServiceNode(node=self.home.node, service=self.svc, checks=checks)
            )
        return row


class Group:
    """The instances under one name, in the order of answers."""

    __slots__ = ("_ordered", "members", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[tuple[str, str], Instance] = {}
        self._ordered: list[Instance] | None = None

    def add(self, instance: Instance) -> None:
        """Put an instance, replacing the one at the same place."""
        self.members[instance.key] = instance
        self._ordered = None

    def remove(self, instance: Instance) -> None:
        """Take an instance out."""
        self.members.pop(instance.key, None)
        self._ordered = None

    def ordered(self) -> list[Instance]:
        """Return the instances by node name and service id."""
        ordered = self._ordered
        if ordered is None:
            ordered = sorted(self.members.values(), key=_place)
            self._ordered = ordered
        return ordered


def _place(instance: Instance) -> tuple[str, str]:
    return instance.sort_key


def connect_names(service: NodeService) -> list[str]:
    """Return the lower-case names an instance answers for on Connect."""
    names: list[str] = []
    if service.kind == "connect-proxy" and service.proxy:
        destination = service.proxy.get("DestinationServiceName")
        if isinstance(destination, str) and destination:
            names.append(destination.lower())
    if service.connect and service.connect.get("Native"):
        names.append(service.service.lower())
    return names
