"""The agent's own services and checks, and what the servers must be told.

The agent owns these records; the catalog holds a copy. Each entry knows
whether the copy is the same (``in_sync``) or has to go (``deleted``). Three
verbs drive the synchronisation: ``compare`` marks the drift found in the
catalog's copy, ``next_step`` gives the call that repairs the next thing, and
``done`` or ``blocked`` says how it went. No I/O and no clock: ``now`` (seconds,
monotonic) and a ``Random`` come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from pyconsul.agent.entries import CheckEntry, ServiceEntry, Step
from pyconsul.types.messages import DeregisterRequest, RegisterRequest
from pyconsul.types.proxies import CONNECT, PROXY, same_block
from pyconsul.types.records import HealthCheck, Node, NodeService

CONSUL_SERVICE_ID = "consul"
SERF_HEALTH = "serfHealth"
NANOSECONDS = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class LocalOptions:
    """What describes the node; ``check_update_interval`` in nanoseconds."""

    node: str
    node_id: str
    address: str
    datacenter: str
    tagged_addresses: Mapping[str, str]
    meta: Mapping[str, str]
    check_update_interval: int = 300 * NANOSECONDS
    discard_check_output: bool = False
    agent_token: str = ""
    default_token: str = ""


@dataclass(slots=True)
class LocalState:
    """Services and checks by id; ``version`` grows with every change."""

    options: LocalOptions
    random: Random
    version: int = 1
    node_in_sync: bool = False
    on_change: list[Callable[[], None]] = field(
        default_factory=list[Callable[[], None]]
    )
    _services: dict[str, ServiceEntry] = field(default_factory=dict[str, ServiceEntry])
    _checks: dict[str, CheckEntry] = field(default_factory=dict[str, CheckEntry])
    # All keys of entries that may be out of sync, and perhaps some more.
    _marked_services: dict[str, None] = field(default_factory=dict[str, None])
    _marked_checks: dict[str, None] = field(default_factory=dict[str, None])

    # -- what is here ---------------------------------------------------

    def services(self) -> dict[str, NodeService]:
        """Return the live services by id."""
        return {
            key: entry.service
            for key, entry in self._services.items()
            if not entry.deleted
        }

    def checks(self) -> dict[str, HealthCheck]:
        """Return the live checks by id."""
        return {
            key: entry.check for key, entry in self._checks.items() if not entry.deleted
        }

    def service(self, service_id: str) -> NodeService | None:
        """Return a live service."""
        entry = self._services.get(service_id)
        return None if entry is None or entry.deleted else entry.service

    def check(self, check_id: str) -> HealthCheck | None:
        """Return a live check."""
        entry = self._checks.get(check_id)
        return None if entry is None or entry.deleted else entry.check

    def service_token(self, service_id: str) -> str:
        """Return the token a service was registered with."""
        entry = self._services.get(service_id)
        return entry.token if entry else ""

    def checks_of(self, service_id: str) -> list[HealthCheck]:
        """Return the live checks of a service ("" for the node's own)."""
        return [
            entry.check
            for entry in self._checks.values()
            if not entry.deleted and entry.check.service_id == service_id
        ]

    # -- changes --------------------------------------------------------

    def add_service(self, service: NodeService, token: str = "") -> None:
        """Add or replace a service; an equal one stays in sync."""
        old = self._services.get(service.id)
        same = old is not None and not old.deleted and _same_service(old, service)
        if old is not None and same and old.token == token:
            return
        self._services[service.id] = ServiceEntry(service, token)
        self._marked_services[service.id] = None
        self._changed()

    def remove_service(self, service_id: str) -> bool:
        """Mark a service for removal; its checks are the caller's."""
        entry = self._services.get(service_id)
        if entry is None or entry.deleted:
            return False
        self._services[service_id] = replace_entry(entry)
        self._marked_services[service_id] = None
        self._changed()
        return True

    def add_check(self, check: HealthCheck, now: float, token: str = "") -> None:
        """Add or replace a check, as it stands."""
        if self.options.discard_check_output:
            check = replace(check, output="")
        old = self._checks.get(check.check_id)
        if old is not None and not old.deleted and old.check == check:
            return
        entry = CheckEntry(check, token)
        if check.status == "critical":
            entry.critical_since = now
            if old is not None and not old.deleted and old.critical_since is not None:
                entry.critical_since = old.critical_since
        self._checks[check.check_id] = entry
        self._marked_checks[check.check_id] = None
        self._changed()

    def remove_check(self, check_id: str) -> bool:
        """Mark a check for removal."""
        entry = self._checks.get(check_id)
        if entry is None or entry.deleted:
            return False
        self._checks[check_id] = CheckEntry(entry.check, entry.token, deleted=True)
        self._marked_checks[check_id] = None
        self._changed()
        return True

    def update_check(self, check_id: str, status: str, output: str, now: float) -> bool:
        """Take a result; say whether there is something new to sync, or to time.

        With an unchanged status, a change of the output is kept back for half
        to one and a half update intervals, so that chatty checks do not write.
        """
        entry = self._checks.get(check_id)
        if entry is None or entry.deleted:
            return False
        if self.options.discard_check_output:
            output = ""
        old = entry.check
        if old.status == status and old.output == output:
            return False
        if status != "critical":
            entry.critical_since = None
        elif entry.critical_since is None:
            entry.critical_since = now
        entry.check = replace(old, status=status, output=output)
        interval = self.options.check_update_interval / NANOSECONDS
        if old.status == status and interval > 0:
            started = entry.defer_until is None and entry.in_sync
            if started:
                entry.defer_until = now + interval / 2 + self.random.random() * interval
            self._tell()
            return started
        entry.defer_until = None
        entry.in_sync = False
        self._marked_checks[check_id] = None
        self._changed()
        return True

    def set_meta(self, meta: Mapping[str, str]) -> None:
        """Replace the node's own metadata (reload)."""
        if dict(self.options.meta) != dict(meta):
            self.options.meta = meta
            self.node_in_sync = False

    def next_deferred(self) -> float | None:
        """Return when the next damped output is due."""
        return min(
            (e.defer_until for e in self._checks.values() if e.defer_until is not None),
            default=None,
        )

    def release_deferred(self, now: float) -> bool:
        """Mark damped outputs that are due; say whether there were any."""
        found = False
        for key, entry in self._checks.items():
            if entry.defer_until is not None and entry.defer_until <= now:
                entry.defer_until = None
                entry.in_sync = False
                self._marked_checks[key] = None
                found = True
        return found

    def critical_for(self, now: float) -> Iterator[tuple[HealthCheck, float]]:
        """Yield live critical checks with the seconds they have been so."""
        for entry in list(self._checks.values()):
            if not entry.deleted and entry.critical_since is not None:
                yield entry.check, now - entry.critical_since

    def _changed(self) -> None:
        self.version += 1
        self._tell()

    def _tell(self) -> None:
        for callback in list(self.on_change):
            callback()

    # -- the catalog's copy ----------------------------------------------

    def compare(
        self,
        node: Node | None,
        services: Iterable[NodeService],
        checks: Iterable[HealthCheck],
    ) -> None:
        """Mark what differs from the catalog's copy of this node."""
        own = self.options
        self.node_in_sync = (
            node is not None
            and node.id == own.node_id
            and node.address == own.address
            and (node.tagged_addresses or {}) == dict(own.tagged_addresses)
            and (node.meta or {}) == dict(own.meta)
        )
        remote_services = {service.id: service for service in services}
        remote_checks = {check.check_id: check for check in checks}
        for key, entry in list(self._services.items()):
            remote = remote_services.pop(key, None)
            if remote is None:
                if entry.deleted:
                    del self._services[key]
                entry.in_sync = False
            elif entry.deleted:
                entry.in_sync = False
            else:
                if entry.service.enable_tag_override and remote.tags is not None:
                    entry.service = replace(entry.service, tags=remote.tags)
                entry.in_sync = _same_service(entry, remote)
        for key, remote in remote_services.items():
            if key != CONSUL_SERVICE_ID:
                self._services[key] = ServiceEntry(remote, deleted=True)
        for key, entry in list(self._checks.items()):
            remote_check = remote_checks.pop(key, None)
            if remote_check is None:
                if entry.deleted:
                    del self._checks[key]
                entry.in_sync = False
            else:
                entry.in_sync = not entry.deleted and _same_check(entry, remote_check)
        for key, remote_check in remote_checks.items():
            if key != SERF_HEALTH:
                self._checks[key] = CheckEntry(remote_check, deleted=True)
        self._marked_services = dict.fromkeys(self._services)
        self._marked_checks = dict.fromkeys(self._checks)

    def next_step(self) -> Step | None:
        """Return the next call: node information, services, then checks."""
        return next(self.steps(), None)

    def steps(self) -> Iterator[Step]:
        """Yield each call there is to make once, in order, as of when it is asked.

        What registers services or checks needs the node's step done first.
        """
        services, checks = self._stale()
        for key, service in services:
            if service.deleted and not service.in_sync:
                yield self._drop_service(key, service)
        for key, check in checks:
            if check.deleted and not check.in_sync:
                yield self._drop_check(key, check)
        if not self.node_in_sync:
            yield Step(
                "Catalog.Register",
                self._registration(self.options.agent_token),
                "node info",
                node=True,
            )
        for key, service in services:
            if not service.in_sync and self._services.get(key) is service:
                yield self._push_service(key, service)
        for key, check in checks:
            if not check.in_sync and self._checks.get(key) is check:
                yield self._push_check(key, check)

    def waits(self, entry: ServiceEntry | CheckEntry | None) -> bool:
        """Tell whether an entry (``None``: the node's) still has to be synced."""
        if entry is None:
            return not self.node_in_sync
        if entry.in_sync:
            return False
        if isinstance(entry, ServiceEntry):
            return self._services.get(entry.service.id) is entry
        return self._checks.get(entry.check.check_id) is entry

    def unsynced(self) -> Iterator[ServiceEntry | CheckEntry | None]:
        """Yield the entries the servers have to be told of; ``None``: the node."""
        if not self.node_in_sync:
            yield None
        services, checks = self._stale()
        for _, service in services:
            yield service
        for _, check in checks:
            yield check

    def _stale(
        self,
    ) -> tuple[list[tuple[str, ServiceEntry]], list[tuple[str, CheckEntry]]]:
        """Return the entries out of sync; no matter how many are in sync."""
        services = [
            (key, service)
            for key in self._marked_services
            if (service := self._services.get(key)) and not service.in_sync
        ]
        self._marked_services = dict.fromkeys(key for key, _ in services)
        checks = [
            (key, check)
            for key in self._marked_checks
            if (check := self._checks.get(key)) and not check.in_sync
        ]
        self._marked_checks = dict.fromkeys(key for key, _ in checks)
        return services, checks

    def done(self, step: Step) -> None:
        """The servers took the step; changes made meanwhile stay unsynced."""
        if step.node:
            self.node_in_sync = True
        if isinstance(step.args, DeregisterRequest):
            self._forget(step)
            return
        entry = step.service
        if entry is not None and entry.service is step.service_seen:
            entry.in_sync = True
        for check, seen in step.checks:
            if check.check is seen:
                check.in_sync = True
                check.defer_until = None

    def blocked(self, step: Step) -> None:
        """The servers refused for lack of rights: no retry before a full sync."""
        if isinstance(step.args, DeregisterRequest):
            if step.service is not None:
                step.service.in_sync = True
            for check, _ in step.checks:
                check.in_sync = True
            return
        self.done(step)

    def _forget(self, step: Step) -> None:
        args = step.args
        assert isinstance(args, DeregisterRequest)
        if args.service_id and self._services.get(args.service_id) is step.service:
            del self._services[args.service_id]
            for key, entry in list(self._checks.items()):
                # The servers removed the service's checks along with it.
                if entry.deleted and entry.check.service_id == args.service_id:
                    del self._checks[key]
        for check, _ in step.checks:
            key = check.check.check_id
            if self._checks.get(key) is check:
                del self._checks[key]

    def _registration(self, token: str) -> RegisterRequest:
        own = self.options
        return RegisterRequest(
            id=own.node_id,
            node=own.node,
            address=own.address,
            datacenter=own.datacenter,
            tagged_addresses=dict(own.tagged_addresses),
            node_meta=dict(own.meta),
            skip_node_update=self.node_in_sync,
            token=token,
        )

    def _push_service(self, key: str, entry: ServiceEntry) -> Step:
        checks = tuple(
            (check, check.check)
            for check_id in self._marked_checks
            if (check := self._checks.get(check_id)) is not None
            and not check.in_sync
            and not check.deleted
            and check.check.service_id == key
            and check.token == entry.token
        )
        args = replace(
            self._registration(entry.token or self.options.default_token),
            service=entry.service,
            check=checks[0][1] if len(checks) == 1 else None,
            checks=[seen for _, seen in checks] if len(checks) > 1 else None,
        )
        return Step(
            "Catalog.Register",
            args,
            f"service: service={key}",
            service=entry,
            service_seen=entry.service,
            checks=checks,
        )

    def _push_check(self, key: str, entry: CheckEntry) -> Step:
        owner = self._services.get(entry.check.service_id)
        args = replace(
            self._registration(entry.token or self.options.default_token),
            service=owner.service if owner and not owner.deleted else None,
            check=entry.check,
        )
        return Step(
            "Catalog.Register",
            args,
            f"check: check={key}",
            checks=((entry, entry.check),),
        )

    def _drop_service(self, key: str, entry: ServiceEntry) -> Step:
        args = DeregisterRequest(
            node=self.options.node,
            datacenter=self.options.datacenter,
            service_id=key,
            token=entry.token or self.options.agent_token,
        )
        return Step("Catalog.Deregister", args, f"service: service={key}", entry)

    def _drop_check(self, key: str, entry: CheckEntry) -> Step:
        args = DeregisterRequest(
            node=self.options.node,
            datacenter=self.options.datacenter,
            check_id=key,
            token=entry.token or self.options.agent_token,
        )
        return Step(
            "Catalog.Deregister",
            args,
            f"check: check={key}",
            checks=((entry, entry.check),),
        )


def replace_entry(entry: ServiceEntry) -> ServiceEntry:
    """Return the entry of the same service, marked for removal."""
    return ServiceEntry(entry.service, entry.token, deleted=True)


def _same_service(entry: ServiceEntry, other: NodeService) -> bool:
    ours = entry.service
    return (
        _bare_service(ours) == _bare_service(other)
        and same_block(PROXY, ours.proxy, other.proxy)
        and same_block(CONNECT, ours.connect, other.connect)
    )


def _bare_service(service: NodeService) -> NodeService:
    """Drop what does not count, and the several spellings of empty."""
    return replace(
        service,
        create_index=0,
        modify_index=0,
        tags=service.tags or None,
        meta=service.meta or None,
        tagged_addresses=service.tagged_addresses or None,
        proxy=None,
        connect=None,
    )


def _same_check(entry: CheckEntry, other: HealthCheck) -> bool:
    def bare(check: HealthCheck) -> HealthCheck:
        return replace(
            check,
            create_index=0,
            modify_index=0,
            service_tags=None,
            output="" if entry.defer_until is not None else check.output,
        )

    return bare(entry.check) == bare(other)
