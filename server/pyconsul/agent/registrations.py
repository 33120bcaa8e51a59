"""Services and checks of an agent: local state, runners, persistence, syncing.

``Registrations`` is what the API changes of an agent; ``agent.py`` adds files
and events. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from pyconsul.agent.antientropy import AntiEntropy
from pyconsul.agent.checks.factory import RunnerFactory, check_tls
from pyconsul.agent.checks.runner import Gate, Runner
from pyconsul.agent.checks.ttl import TtlRunner
from pyconsul.agent.local import LocalOptions, LocalState
from pyconsul.agent.persist import Persistence, StoredState
from pyconsul.agent.records import (
    SIDECAR_SUFFIX,
    PlannedCheck,
    check_record,
    service_checks,
    service_record,
    sidecar_definition,
    validate_check,
    validate_completed_sidecar,
    validate_service,
)
from pyconsul.config.definitions import CheckDefinition, ServiceDefinition
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import MINUTE, SECOND
from pyconsul.types.errors import (
    ConsulError,
    NotFoundError,
)
from pyconsul.types.messages import Caller
from pyconsul.types.records import HealthCheck, NodeService

NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
REAP_EVERY_S = 30.0
DEFAULT_REASON = (
    "Maintenance mode is enabled for this {}, but no reason was provided. "
    "This is a default message."
)
SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent from remote calls; to enable, configure "
    "'enable_script_checks' to true"
)
LOCAL_SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent; to enable, configure "
    "'enable_script_checks' or 'enable_local_script_checks' to true"
)

log = logging.getLogger("agent")
T = TypeVar("T")
Done = asyncio.Future[None]


class Registrations:
    """Local state with its runners."""

    def __init__(
        self,
        config: AgentConfig,
        caller: Caller,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.caller = caller
        self._random = random or Random()
        self._clock = clock
        self.local = LocalState(
            LocalOptions(
                node=config.node_name,
                node_id=config.node_id,
                address=config.advertise_addr,
                datacenter=config.datacenter,
                tagged_addresses=config.tagged_addresses,
                meta={**config.node_meta, "consul-network-segment": config.segment},
                check_update_interval=config.check_update_interval,
                discard_check_output=config.discard_check_output,
                default_token=config.acl_tokens.get("default", ""),
                agent_token=config.acl_tokens.get("agent", ""),
            ),
            self._random,
        )
        self.sync = AntiEntropy(self.local, caller, self._random, clock)
        self._store = Persistence(config.data_dir)
        self._runners: dict[str, Runner | TtlRunner] = {}
        self._definitions: dict[str, CheckDefinition] = {}
        self.check_gate = Gate()
        self._factory = RunnerFactory(
            self.local,
            caller,
            self._random,
            self.check_gate,
            config.check_output_max_size,
            check_tls(config),
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life -----------------------------------------------------------

    def stop_checks(self) -> None:
        """Stop every runner."""
        for runner in self._runners.values():
            runner.stop()
        self._runners.clear()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            self.reap(self._clock())

    def reap(self, now: float) -> None:
        """Remove services whose checks were critical for too long."""
        gone: set[str] = set()
        for check, seconds in self.local.critical_for(now):
            definition = self._definitions.get(check.check_id)
            if definition is None or not check.service_id:
                continue
            limit = definition.deregister_critical_service_after
            if limit > 0 and seconds > max(limit, MINUTE) / SECOND:
                gone.add(check.service_id)
        for service_id in gone:
            self._remove_service(service_id)
            log.info(
                "Check for service has been critical for too long; deregistered "
                "service: service=%s",
                service_id,
            )
        if gone:
            self.sync.trigger()

    # -- AgentApi: reading ------------------------------------------------

    @property
    def datacenter(self) -> str:
        """Name of the agent's datacenter."""
        return self.config.datacenter

    @property
    def acl_enabled(self) -> bool:
        """Whether tokens mean anything here."""
        return self.config.acl_enabled

    def services(self) -> dict[str, NodeService]:
        """Return the local services by id."""
        return self.local.services()

    def checks(self) -> dict[str, HealthCheck]:
        """Return the local checks by id."""
        return self.local.checks()

    def on_local_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every change; returns how to end that."""
        return subscribe(self.local.on_change, callback)

    def counts(self) -> dict[str, int]:
        """Return how many services, checks and runners there are."""
        ttls = sum(isinstance(one, TtlRunner) for one in self._runners.values())
        scripts = sum(one.kind == "script" for one in self._definitions.values())
        return {
            "check_monitors": scripts,
            "check_ttls": ttls,
            "checks": len(self.local.checks()),
            "services": len(self.local.services()),
        }

    # -- AgentApi: services ------------------------------------------------

    def register_service(
        self, definition: ServiceDefinition, token: str, *, replace_checks: bool
    ) -> Done:
        """Add or replace a service, its checks and its sidecar."""
        validate_service(definition)
        self._allow_scripts(definition.all_checks)
        self._register(definition, definition.token or token, replace_checks)
        return self._synced()

    def _register(
        self,
        definition: ServiceDefinition,
        token: str,
        replace_checks: bool = False,
        *,
        stored: bool = True,
    ) -> None:
        validate_service(definition)
        service_id = definition.id or definition.name
        kept = self.local.service(service_id + SIDECAR_SUFFIX)
        ports = self.config.ports
        wanted = definition.connect and definition.connect.sidecar_service
        others = self.local.services().values() if wanted else ()
        sidecar = sidecar_definition(
            definition,
            {service.port for service in others},
            range(ports.sidecar_min_port, ports.sidecar_max_port + 1),
            kept.port if kept else 0,
        )
        if sidecar is not None:
            validate_completed_sidecar(sidecar)
        self._add_service(definition, token, replace_checks, stored)
        if sidecar is not None:
            self._add_service(sidecar, sidecar.token or token, replace_checks, stored)

    def _add_service(
        self, definition: ServiceDefinition, token: str, only: bool, stored: bool
    ) -> None:
        service = service_record(definition)
        planned = service_checks(definition, service, self.config.node_name)
        self.local.add_service(service, token)
        if stored:
            self._store.save_service(service, token)
        named = {plan.check.check_id for plan in planned}
        for check in self.local.checks_of(service.id):
            if only and check.check_id not in named and not _maintenance(check):
                self._remove_check(check.check_id)
        for plan in planned:
            self._add_planned(plan, token, stored)

    def _add_planned(self, plan: PlannedCheck, token: str, stored: bool) -> None:
        definition = plan.definition
        self._add_check(plan.check, definition, definition.token or token, stored)

    def deregister_service(self, service_id: str, token: str) -> Done:
        """Remove a service, its checks and its sidecar; unknown ones are fine."""
        self._remove_service(service_id)
        return self._synced()

    def _remove_service(self, service_id: str) -> None:
        for one in (service_id, service_id + SIDECAR_SUFFIX):
            if self.local.service(one) is None:
                continue
            self.local.remove_service(one)
            for check in self.local.checks_of(one):
                self._remove_check(check.check_id)
            self._store.drop_service(one)

    # -- AgentApi: checks --------------------------------------------------

    def register_check(self, definition: CheckDefinition, token: str) -> Done:
        """Add or replace a check."""
        validate_check(definition)
        self._allow_scripts([definition])
        self._register_check(definition, definition.token or token, stored=True)
        return self._synced()

    def _register_check(
        self, definition: CheckDefinition, token: str, *, stored: bool
    ) -> None:
        validate_check(definition)
        owner = definition.service_id
        service = self.local.service(owner) if owner else None
        if owner and service is None:
            raise ConsulError(f'ServiceID "{owner}" does not exist')
        check = check_record(definition, service, self.config.node_name)
        self._add_check(check, definition, token, stored)

    def _add_check(
        self, check: HealthCheck, definition: CheckDefinition, token: str, stored: bool
    ) -> None:
        old = self.local.check(check.check_id)
        if old is not None:
            # What is known of a check outlives its definition.
            check = replace(check, status=old.status, output=old.output)
        self.local.add_check(check, self._clock(), token)
        self._run(check.check_id, definition)
        if stored:
            self._store.save_check(check, definition, token)

    def _run(
        self, check_id: str, definition: CheckDefinition, remaining: float | None = None
    ) -> None:
        """(Re)start what drives a check."""
        old = self._runners.pop(check_id, None)
        if old is not None:
            old.stop()
        self._definitions[check_id] = definition

        def notify(status: str, output: str) -> None:
            if self.local.update_check(check_id, status, output, self._clock()):
                self.sync.trigger()

        runner = self._factory.make(check_id, definition, notify)
        if runner is None:
            return
        self._runners[check_id] = runner
        if isinstance(runner, TtlRunner):
            runner.start(remaining)
        else:
            runner.start()

    def deregister_check(self, check_id: str, token: str) -> Done:
        """Remove a check; an unknown one is fine."""
        self._remove_check(check_id)
        return self._synced()

    def _remove_check(self, check_id: str) -> None:
        runner = self._runners.pop(check_id, None)
        if runner is not None:
            runner.stop()
        self._definitions.pop(check_id, None)
        self.local.remove_check(check_id)
        self._store.drop_check(check_id)

    def update_ttl(
        self, check_id: str, status: str, output: str, token: str
    ) -> Done | None:
        """Take a report to a TTL check; done once a restart would know it."""
        runner = self._runners.get(check_id)
        if not isinstance(runner, TtlRunner):
            raise ConsulError(f'CheckID "{check_id}" does not have associated TTL')
        kept = runner.update(status, output)
        expires = int(time.time() + runner.ttl)
        self._store.save_state(
            StoredState(check_id=check_id, output=kept, status=status, expires=expires)
        )
        return self._store.flush()

    def _allow_scripts(self, checks: Iterable[CheckDefinition]) -> None:
        if self.config.enable_script_checks:
            return
        if any(check.args for check in checks):
            raise ConsulError(SCRIPTS_DISABLED)

    def _allow_local_scripts(self, checks: Iterable[CheckDefinition]) -> None:
        if self.config.enable_local_script_checks or self.config.enable_script_checks:
            return
        if any(check.args for check in checks):
            raise ConsulError(LOCAL_SCRIPTS_DISABLED)

    # -- AgentApi: maintenance ---------------------------------------------

    def service_maintenance(
        self, service_id: str, enable: bool, reason: str, token: str
    ) -> Done:
        """Begin or end a service's maintenance."""
        service = self.local.service(service_id)
        if service is None:
            raise NotFoundError(f'No service registered with ID "{service_id}"')
        check_id = SERVICE_MAINTENANCE + service_id
        if enable:
            self._begin_maintenance(
                check_id, "Service Maintenance Mode", reason, "service", service, token
            )
        else:
            self._remove_check(check_id)
        return self._synced()

    def node_maintenance(self, enable: bool, reason: str, token: str) -> Done:
        """Begin or end the node's maintenance."""
        if enable:
            self._begin_maintenance(
                NODE_MAINTENANCE, "Node Maintenance Mode", reason, "node", None, token
            )
        else:
            self._remove_check(NODE_MAINTENANCE)
        return self._synced()

    def _begin_maintenance(
        self,
        check_id: str,
        name: str,
        reason: str,
        what: str,
        service: NodeService | None,
        token: str,
    ) -> None:
        if self.local.check(check_id) is not None:
            return
        check = HealthCheck(
            node=self.config.node_name,
            check_id=check_id,
            name=name,
            status="critical",
            notes=reason or DEFAULT_REASON.format(what),
            service_id=service.id if service else "",
            service_name=service.service if service else "",
            service_tags=service.tags if service else None,
            type="maintenance",
        )
        self._add_check(check, CheckDefinition(), token, stored=True)

    # -- syncing ---------------------------------------------------------------

    def _synced(self) -> Done:
        """Return a future that is done after one attempt to tell the servers.

        By then the files are written; it fails with ``OSError`` if one is not.
        """
        done: Done = asyncio.get_running_loop().create_future()
        written = self._store.flush()

        async def both() -> None:
            await self.sync.push()
            if written is not None:
                await written

        task = asyncio.get_running_loop().create_task(both())
        self._tasks.add(task)

        def finish(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            error = None if ended.cancelled() else ended.exception()
            if isinstance(error, OSError):
                if not done.done():
                    done.set_exception(error)
                return
            if error is not None:
                log.error("sync failed", exc_info=error)
            if not done.done():
                done.set_result(None)

        task.add_done_callback(finish)
        return done

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` to its end, whether or not somebody listens."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _done_by(self, work: Coroutine[Any, Any, object]) -> Done:
        """Return a future that is done when ``work`` is."""

        async def whole() -> None:
            await work

        return self._task(whole())


def subscribe(
    callbacks: list[Callable[[], None]], callback: Callable[[], None]
) -> Callable[[], None]:
    """Add a callback; return what takes it away again."""
    callbacks.append(callback)

    def end() -> None:
        if callback in callbacks:
            callbacks.remove(callback)

    return end


def _maintenance(check: HealthCheck) -> bool:
    return check.type == "maintenance"
