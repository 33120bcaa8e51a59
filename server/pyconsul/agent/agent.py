"""The agent: what its files and events do to its services and checks.

``Agent`` with ``registrations.py`` is the changing half of
``http.agent_api.AgentApi``; ``info.py`` the telling half.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from random import Random

from msgspec.structs import replace

from pyconsul.agent.antientropy import answer
from pyconsul.agent.events import EventLog, is_for, validate_event
from pyconsul.agent.records import (
    validate_file_check,
    validate_service,
)
from pyconsul.agent.registrations import Registrations, subscribe
from pyconsul.agent.remote_exec import EVENT as REMOTE_EXEC
from pyconsul.agent.remote_exec import RemoteExec
from pyconsul.config.definitions import CheckDefinition, ServiceDefinition
from pyconsul.config.model import AgentConfig
from pyconsul.serf.consul import encode_user_event
from pyconsul.types.errors import (
    ConsulError,
    StartError,
)
from pyconsul.types.messages import Caller
from pyconsul.types.operations import EventFireRequest
from pyconsul.types.records import UserEvent

log = logging.getLogger("agent")


class Agent(Registrations):
    """Local state with its runners; ``run`` needs a running loop."""

    def __init__(
        self,
        config: AgentConfig,
        caller: Caller,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, caller, random=random, clock=clock)
        self.event_log = EventLog()
        self.remote_exec = RemoteExec(
            config.node_name, caller, lambda: self.local.options.default_token
        )
        self._file_services: dict[str, ServiceDefinition] = {}
        self._file_checks: dict[str, CheckDefinition] = {}

    # -- files --------------------------------------------------------------

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
                validate_file_check(check)
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

    # -- life ---------------------------------------------------------------

    async def run(self) -> None:
        """Synchronise and reap until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.sync.run(), name="anti-entropy")
                group.create_task(self._reap(), name="reaper")
        finally:
            self.remote_exec.stop()
            self.stop_checks()

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
        return subscribe(self.event_log.on_change, callback)


def _service_problem(service: ServiceDefinition, error: ConsulError) -> str:
    """Return what a start or reload says of a service it cannot take."""
    text = str(error)
    if text == "Missing service name":
        text = "Service name missing"
    if text.startswith("Invalid check: "):
        reason = text.removeprefix("Invalid check: ")
        return f'Failed to validate checks for service "{service.name}": {reason}'
    return f'Failed to register service "{service.name}": {text}'
