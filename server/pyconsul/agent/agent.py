"""The agent: its services and checks, their runners, their persistence.

``Agent`` implements the changing half of ``http.agent_api.AgentApi``;
``info.py`` the telling half. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from pyconsul.agent.antientropy import AntiEntropy, answer
from pyconsul.agent.checks.factory import RunnerFactory, check_tls
from pyconsul.agent.checks.runner import Gate, Runner
from pyconsul.agent.checks.ttl import TtlRunner
from pyconsul.agent.events import EventLog, is_for, validate_event
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
    validate_service,
)
from pyconsul.agent.remote_exec import EVENT as REMOTE_EXEC
from pyconsul.agent.remote_exec import RemoteExec
from pyconsul.config.definitions import CheckDefinition, ServiceDefinition
from pyconsul.config.model import AgentConfig
from pyconsul.serf.consul import encode_user_event
from pyconsul.types.durations import MINUTE, SECOND
from pyconsul.types.errors import (
    ConsulError,
    NotFoundError,
    StartError,
)
from pyconsul.types.messages import Caller
from pyconsul.types.operations import EventFireRequest
from pyconsul.types.records import HealthCheck, NodeService, UserEvent

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


class Agent:
    """Local state with its runners; ``start`` needs a running loop."""

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
        self.event_log = EventLog()
        self.remote_exec = RemoteExec(
            config.node_name, caller, lambda: self.local.options.default_token
        )
        self._store = Persistence(config.data_dir)
        self._runners: dict[str, Runner | TtlRunner] = {}
        self._definitions: dict[str, CheckDefinition] = {}
        self._file_services: dict[str, ServiceDefinition] = {}
        self._file_checks: dict[str, CheckDefinition] = {}
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

    def load(self, config: AgentConfig) -> None:
        """Add what the files define, then what was registered before.

        Raises ``StartError`` with the step and the reason.
        """
        self._load_services(config)
        self._restore_services(set(self._file_services))
        self._load_checks(config)
        self._restore_checks(set(self._file_checks))

    def _load_services(self, config: AgentConfig) -> None:
        """Take the services of files; those that are the same stay as they are."""
        fresh = {one.id or one.name: one for one in config.services}
        for service_id in self._file_services.keys() - fresh.keys():
            self._remove_service(service_id)
            del self._file_services[service_id]
        for service_id, service in fresh.items():
            known = self.local.service(service_id) is not None
            if known and self._file_services.get(service_id) == service:
                continue
            try:
                self._allow_local_scripts(service.all_checks)
                self._register(service, service.token, known, stored=False)
            except ConsulError as error:
                raise StartError(_service_problem(service, error)) from None
            self._file_services[service_id] = service
            self._store.drop_service(service_id)

    def _load_checks(self, config: AgentConfig) -> None:
        """Take the checks of files, likewise; what a changed one found is kept."""
        fresh = {one.key or one.name: one for one in config.checks}
        for check_id in self._file_checks.keys() - fresh.keys():
            self._remove_check(check_id)
            del self._file_checks[check_id]
        for check_id, check in fresh.items():
            old = self.local.check(check_id)
            if old is not None and self._file_checks.get(check_id) == check:
                continue
            try:
                self._allow_local_scripts([check])
                self._register_check(check, check.token, stored=False)
            except ConsulError as error:
                text = f"Failed to register check '{check.name}': {error}"
                raise StartError(text) from None
            self._file_checks[check_id] = check
            new = self.local.check(check_id)
            if old is not None and new is not None:
                kept = replace(new, status=old.status, output=old.output)
                self.local.add_check(kept, self._clock(), check.token)

    def _restore_services(self, from_files: set[str]) -> None:
        for stored in list(self._store.services()):
            if stored.service.id in from_files:
                self._store.drop_service(stored.service.id)
                continue
            self.local.add_service(stored.service, stored.token)

    def _restore_checks(self, from_files: set[str]) -> None:
        now = self._clock()
        for stored in list(self._store.checks()):
            check = stored.check
            owner = check.service_id
            if check.check_id in from_files or (
                owner and self.local.service(owner) is None
            ):
                self._store.drop_check(check.check_id)
                continue
            if check.type != "maintenance":
                check = replace(check, status="critical", output="")
            check = replace(check, node=self.config.node_name)
            definition = stored.chk_type
            remaining: float | None = None
            state = self._store.state(check.check_id, time.time())
            if state is not None and definition.kind == "ttl":
                check = replace(check, status=state.status, output=state.output)
                remaining = state.expires - time.time()
            self.local.add_check(check, now, stored.token)
            self._run(check.check_id, definition, remaining)

    async def run(self) -> None:
        """Synchronise and reap until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.sync.run(), name="anti-entropy")
                group.create_task(self._reap(), name="reaper")
        finally:
            self.remote_exec.stop()
            self.stop_checks()

    def stop_checks(self) -> None:
        """Stop every runner."""
        for runner in self._runners.values():
            runner.stop()
        self._runners.clear()

    def reconfigure(self, config: AgentConfig) -> None:
        """Take services, checks and metadata of new files; states are kept.

        What was registered by the API is left alone. Raises ``StartError``
        with everything as it was.
        """
        before = self.config
        for service in config.services:
            try:
                validate_service(service)
            except ConsulError as error:
                raise StartError(_service_problem(service, error)) from None
        self.sync.pause()
        try:
            self.config = config
            try:
                self._load_services(config)
                self._load_checks(config)
            except ConsulError:
                self.config = before
                self._load_services(before)
                self._load_checks(before)
                raise
            self.local.set_meta(
                {**config.node_meta, "consul-network-segment": config.segment}
            )
            self.local.options.discard_check_output = config.discard_check_output
            self.take_tokens(before.acl_tokens, config.acl_tokens)
        finally:
            self.sync.resume()

    def take_tokens(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Use the tokens of files where they changed (others may be set by API)."""
        options = self.local.options
        if before.get("default", "") != now.get("default", ""):
            options.default_token = now.get("default", "")
        if before.get("agent", "") != now.get("agent", ""):
            options.agent_token = now.get("agent", "")

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
        return _subscribe(self.local.on_change, callback)

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
            validate_service(sidecar)
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
        check = plan.check
        old = self.local.check(check.check_id)
        if old is not None:
            check = replace(check, status=old.status, output=old.output)
        self._add_check(check, plan.definition, plan.definition.token or token, stored)

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

    # -- AgentApi: events ----------------------------------------------------

    def fire_event(
        self, event: UserEvent, datacenter: str, token: str
    ) -> asyncio.Future[UserEvent]:
        """Have a server send a user event to the pool; it comes back by gossip."""
        validate_event(event)
        fired = replace(event, id=str(uuid.uuid4()))
        args = EventFireRequest(
            datacenter=datacenter or self.config.datacenter,
            token=token or self.local.options.default_token,
            name=fired.name,
            payload=encode_user_event(fired)[1],
        )

        async def fire() -> UserEvent:
            await answer(self.caller, "Internal.EventFire", args)
            return fired

        return self._task(fire())

    def receive_event(self, event: UserEvent) -> None:
        """Take an event of the pool, if it is meant for this agent."""
        services = self.local.services().values()
        if is_for(event, self.config.node_name, services):
            if event.name == REMOTE_EXEC:
                if not self.config.disable_remote_exec:
                    self.remote_exec.receive(event)
                    return
                log.info(
                    "ignoring remote exec event, disabled.: event_name=%s event_id=%s",
                    event.name,
                    event.id,
                )
            log.debug("new event: event_name=%s event_id=%s", event.name, event.id)
            self.event_log.add(event)

    def events(self, name: str) -> list[UserEvent]:
        """Return the events received, oldest first."""
        return self.event_log.listed(name)

    def on_event(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every event; returns how to end that."""
        return _subscribe(self.event_log.on_change, callback)

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


def _subscribe(
    callbacks: list[Callable[[], None]], callback: Callable[[], None]
) -> Callable[[], None]:
    callbacks.append(callback)

    def end() -> None:
        if callback in callbacks:
            callbacks.remove(callback)

    return end


def _service_problem(service: ServiceDefinition, error: ConsulError) -> str:
    """Return what a start or reload says of a service it cannot take."""
    text = str(error)
    if text == "Missing service name":
        text = "Service name missing"
    if text.startswith("Invalid check: "):
        reason = text.removeprefix("Invalid check: ")
        return f'Failed to validate checks for service "{service.name}": {reason}'
    return f'Failed to register service "{service.name}": {text}'


def _maintenance(check: HealthCheck) -> bool:
    return check.type == "maintenance"
