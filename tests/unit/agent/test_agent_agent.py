"""Registration, restoring, maintenance, reaping and events of one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace as with_changes
from pathlib import Path
from random import Random
from typing import Any

import pytest
from local_fakes import local_state
from msgspec.structs import replace

from pyconsul.agent.agent import Agent
from pyconsul.agent.antientropy import AntiEntropy
from pyconsul.agent.events import EventLog, is_for, validate_event
from pyconsul.config.definitions import (
    CheckDefinition,
    ConnectDefinition,
    ServiceDefinition,
)
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import MINUTE, SECOND
from pyconsul.types.errors import (
    BadRequestError,
    ConsulError,
    NoLeaderError,
    NotFoundError,
    PermissionDeniedError,
    StartError,
)
from pyconsul.types.messages import RegisterRequest, Reply
from pyconsul.types.records import HealthCheck, NodeService, ServiceAddress, UserEvent


class Catalog:
    """A ``Caller`` that takes everything and remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refusal: ConsulError | None = None

    def call(self, method: str, args: Any) -> Reply:
        self.calls.append((method, args))
        if self.refusal is not None:
            raise self.refusal
        value: Any = {"Catalog.NodeServices": None, "Health.NodeChecks": []}
        return Reply(value.get(method, True), 1)

    def registered(self) -> list[RegisterRequest]:
        return [args for method, args in self.calls if method == "Catalog.Register"]


CONFIG = AgentConfig(node_name="n1", node_id="id1")


def agent_of(config: AgentConfig = CONFIG, clock: Callable[[], float] | None = None):
    catalog = Catalog()
    agent = Agent(config, catalog, random=Random(1), clock=clock or (lambda: 100.0))
    return agent, catalog


def ttl_service(name: str, **fields: Any) -> ServiceDefinition:
    return ServiceDefinition(
        name=name, check=CheckDefinition(ttl=30 * SECOND), **fields
    )


def test_a_service_is_told_with_its_check_before_the_answer() -> None:
    async def run() -> None:
        agent, catalog = agent_of()
        await agent.register_service(ttl_service("web"), "secret", replace_checks=False)
        _, service = catalog.registered()
        assert service.token == "secret"
        assert service.service is not None
        assert service.check is not None
        assert service.check.check_id == "service:web"
        agent.stop_checks()

    asyncio.run(run())


def test_a_failing_sync_does_not_fail_the_registration() -> None:
    async def run() -> None:
        agent, catalog = agent_of()
        catalog.refusal = NoLeaderError()
        await agent.register_service(ttl_service("web"), "", replace_checks=False)
        assert "web" in agent.services()
        catalog.refusal = None
        assert await agent.sync.push()
        assert catalog.registered()[-1].service is not None
        agent.stop_checks()

    asyncio.run(run())


def test_reports_move_a_ttl_check_and_nothing_else() -> None:
    async def run() -> None:
        agent, _ = agent_of()
        await agent.register_service(ttl_service("web"), "", replace_checks=False)
        agent.update_ttl("service:web", "passing", "fine", "")
        check = agent.checks()["service:web"]
        assert (check.status, check.output) == ("passing", "fine")
        with pytest.raises(ConsulError, match="does not have associated TTL"):
            agent.update_ttl("nope", "passing", "", "")
        await agent.register_service(ttl_service("web"), "", replace_checks=False)
        assert agent.checks()["service:web"].status == "passing"
        agent.stop_checks()

    asyncio.run(run())


def test_sidecars_come_and_go_with_their_service() -> None:
    async def run() -> None:
        agent, _ = agent_of()
        parent = ServiceDefinition(
            name="web",
            port=80,
            connect=ConnectDefinition(sidecar_service=ServiceDefinition()),
        )
        await agent.register_service(parent, "", replace_checks=False)
        sidecar = agent.services()["web-sidecar-proxy"]
        assert sidecar.port == 21000
        assert sidecar.proxy is not None
        assert sidecar.proxy["LocalServicePort"] == 80
        await agent.register_service(
            replace(parent, name="api"), "", replace_checks=False
        )
        assert agent.services()["api-sidecar-proxy"].port == 21001
        await agent.register_service(parent, "", replace_checks=False)
        assert agent.services()["web-sidecar-proxy"].port == 21000
        await agent.deregister_service("web", "")
        assert set(agent.services()) == {"api", "api-sidecar-proxy"}
        assert {check.service_id for check in agent.checks().values()} == {
            "api-sidecar-proxy"
        }
        agent.stop_checks()

    asyncio.run(run())


def test_scripts_need_permission_from_the_api() -> None:
    async def run() -> None:
        script = CheckDefinition(name="s", args=["true"], interval=SECOND)
        agent, _ = agent_of()
        with pytest.raises(ConsulError, match="Scripts are disabled"):
            agent.register_check(script, "")
        allowed, _ = agent_of(with_changes(CONFIG, enable_script_checks=True))
        await allowed.register_check(script, "")
        assert allowed.checks()["s"].type == "script"
        allowed.stop_checks()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (ServiceDefinition(), "Missing service name"),
        (ServiceDefinition(name="a", address="::"), "Invalid service address"),
        (
            ServiceDefinition(name="a", checks=[CheckDefinition()]),
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (
            ServiceDefinition(name="a", kind="mesh-gateway"),
            "Port must be non-zero for a mesh-gateway",
        ),
    ],
)
def test_refused_services(definition: ServiceDefinition, text: str) -> None:
    agent, _ = agent_of()
    with pytest.raises(BadRequestError, match=text):
        agent.register_service(definition, "", replace_checks=False)
    assert agent.services() == {}


def test_maintenance_keeps_its_first_reason() -> None:
    async def run() -> None:
        agent, _ = agent_of()
        await agent.node_maintenance(True, "disk", "")
        await agent.node_maintenance(True, "again", "")
        assert agent.checks()["_node_maintenance"].notes == "disk"
        await agent.node_maintenance(False, "", "")
        assert agent.checks() == {}
        with pytest.raises(NotFoundError, match='No service registered with ID "x"'):
            agent.service_maintenance("x", True, "", "")

    asyncio.run(run())


def test_what_was_registered_is_there_after_a_restart(tmp_path: Path) -> None:
    config = with_changes(CONFIG, data_dir=str(tmp_path))

    async def first() -> None:
        agent, _ = agent_of(config)
        await agent.register_service(
            ttl_service("web", tags=["a"]), "tok", replace_checks=False
        )
        silent = CheckDefinition(name="silent", ttl=MINUTE, status="passing")
        await agent.register_check(silent, "")
        await agent.node_maintenance(True, "why", "")
        agent.update_ttl("service:web", "passing", "fine", "")
        await agent.register_service(
            ServiceDefinition(name="gone"), "", replace_checks=False
        )
        await agent.deregister_service("gone", "")
        agent.stop_checks()

    async def second() -> None:
        agent, _ = agent_of(config)
        agent.load(config)
        assert set(agent.services()) == {"web"}
        assert agent.services()["web"].tags == ["a"]
        assert agent.local.service_token("web") == "tok"
        checks = agent.checks()
        assert checks["service:web"].status == "passing"
        assert checks["silent"].status == "critical"
        assert checks["_node_maintenance"].notes == "why"
        agent.update_ttl("service:web", "warning", "", "")
        agent.stop_checks()

    asyncio.run(first())
    asyncio.run(second())
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "services").iterdir()}
    assert modes == {0o600}


def test_files_win_over_what_was_registered(tmp_path: Path) -> None:
    config = with_changes(CONFIG, data_dir=str(tmp_path))

    async def run() -> None:
        agent, _ = agent_of(config)
        await agent.register_service(
            ServiceDefinition(name="web", port=1), "", replace_checks=False
        )
        from_file = ServiceDefinition(name="web", port=2)
        again, _ = agent_of(config)
        again.load(with_changes(config, services=(from_file,)))
        assert again.services()["web"].port == 2
        # Files are written off the loop; any order waits for those before it.
        await again.deregister_check("unknown", "")
        assert list((tmp_path / "services").iterdir()) == []

    asyncio.run(run())


def test_damaged_files_are_skipped(tmp_path: Path) -> None:
    config = with_changes(CONFIG, data_dir=str(tmp_path))
    for kind in ("services", "checks"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "x").write_bytes(b"{")
        (tmp_path / kind / "y.tmp").write_bytes(b"{}")
    agent, _ = agent_of(config)
    agent.load(config)
    assert agent.services() == {}
    assert agent.checks() == {}


def test_a_wrong_check_in_a_file_names_itself() -> None:
    lost = CheckDefinition(name="a", ttl=1, service_id="nope")
    agent, _ = agent_of()
    with pytest.raises(StartError) as caught:
        agent.load(with_changes(CONFIG, checks=(lost,)))
    assert str(caught.value) == (
        "Failed to register check 'a': ServiceID \"nope\" does not exist"
    )


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (CheckDefinition(ttl=1), "Failed to register check '': CheckID missing"),
        (
            CheckDefinition(name="a", ttl=1, status="fine"),
            "Failed to register check 'a': Bad check status",
        ),
    ],
)
def test_checks_of_files_are_looked_at(definition: CheckDefinition, text: str) -> None:
    agent, _ = agent_of()
    with pytest.raises(StartError) as caught:
        agent.load(with_changes(CONFIG, checks=(definition,)))
    assert str(caught.value) == text
    assert agent.checks() == {}


@pytest.mark.parametrize(
    ("name", "address", "version"),
    [
        ("lan_ipv4", "::1", 4),
        ("wan_ipv4", "host", 4),
        ("lan_ipv6", "10.0.0.1", 6),
        ("wan_ipv6", "", 6),
    ],
)
def test_tagged_addresses_are_of_their_family(
    name: str, address: str, version: int
) -> None:
    text = f'Service tagged address "{name}" must be a valid ipv{version} address'
    tagged = {name: ServiceAddress(address=address, port=1)}
    refused = ServiceDefinition(name="a", tagged_addresses=tagged)
    agent, _ = agent_of()
    with pytest.raises(ConsulError) as caught:
        agent.register_service(refused, "", replace_checks=False)
    assert str(caught.value) == text
    assert agent.services() == {}
    with pytest.raises(StartError, match=f'Failed to register service "a": {text}'):
        agent.load(with_changes(CONFIG, services=(refused,)))
    good = {"lan_ipv4": "10.0.0.1", "wan_ipv6": "fd00::1", "lan": "any.host"}
    agent.load(
        with_changes(
            CONFIG,
            services=(
                ServiceDefinition(
                    name="a",
                    tagged_addresses={
                        key: ServiceAddress(address=one) for key, one in good.items()
                    },
                ),
            ),
        )
    )
    assert list(agent.services()) == ["a"]


def test_services_critical_for_too_long_are_removed() -> None:
    now = 0.0

    async def run() -> None:
        nonlocal now
        agent, _ = agent_of(clock=lambda: now)
        check = CheckDefinition(
            ttl=SECOND * 3600, deregister_critical_service_after=SECOND
        )
        await agent.register_service(
            ServiceDefinition(name="web", check=check), "", replace_checks=False
        )
        agent.reap(59.0)
        assert "web" in agent.services()
        now = 61.0
        agent.reap(now)
        assert agent.services() == {}
        assert agent.checks() == {}

    asyncio.run(run())


def test_reload_takes_new_files_and_keeps_states() -> None:
    async def run() -> None:
        old = ttl_service("web")
        agent, _ = agent_of()
        agent.load(with_changes(CONFIG, services=(old, ServiceDefinition(name="x"))))
        agent.update_ttl("service:web", "passing", "fine", "")
        agent.reconfigure(with_changes(CONFIG, services=(old,), node_meta={"a": "b"}))
        assert set(agent.services()) == {"web"}
        assert agent.checks()["service:web"].status == "passing"
        assert agent.local.options.meta["a"] == "b"
        agent.stop_checks()

    asyncio.run(run())


def test_anti_entropy_survives_refusals() -> None:
    async def run() -> None:
        catalog = Catalog()
        state = local_state()
        sync = AntiEntropy(state, catalog, Random(1), lambda: 0.0)
        state.add_service(NodeService(id="web", service="web"))
        catalog.refusal = PermissionDeniedError()
        assert await sync.push()
        assert state.next_step() is None
        state.add_check(HealthCheck(check_id="c"), 0.0)
        catalog.refusal = NoLeaderError()
        assert not await sync.push()
        assert state.next_step() is not None

    asyncio.run(run())


def test_the_sync_task_pushes_what_changes() -> None:
    async def run() -> None:
        agent, catalog = agent_of()
        task = asyncio.ensure_future(agent.run())
        agent.local.add_service(NodeService(id="web", service="web"))
        agent.sync.trigger()
        for _ in range(20):
            await asyncio.sleep(0)
        assert [one.service.id for one in catalog.registered() if one.service] == [
            "web"
        ]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


EVENT = UserEvent(id="a", name="deploy")


@pytest.mark.parametrize(
    ("event", "matches"),
    [
        (EVENT, True),
        (replace(EVENT, node_filter="^n"), True),
        (replace(EVENT, node_filter="^x"), False),
        (replace(EVENT, service_filter="web"), True),
        (replace(EVENT, service_filter="web", tag_filter="v1"), True),
        (replace(EVENT, service_filter="web", tag_filter="v2"), False),
        (replace(EVENT, service_filter="db"), False),
    ],
)
def test_events_reach_those_their_filters_name(event: UserEvent, matches: bool) -> None:
    services = [NodeService(id="web-1", service="web", tags=["v1"])]
    assert is_for(event, "n1", services) is matches


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (replace(EVENT, tag_filter="a"), "Cannot provide tag filter without service"),
        (replace(EVENT, node_filter="["), "Invalid node filter: error parsing regexp"),
    ],
)
def test_refused_events(event: UserEvent, text: str) -> None:
    with pytest.raises(ConsulError, match=text):
        validate_event(event)


def test_the_ring_keeps_the_last_events_and_wakes_waiters() -> None:
    events = EventLog()
    woken: list[int] = []
    events.on_change.append(lambda: woken.append(1))
    for number in range(300):
        events.add(replace(EVENT, name=f"e{number}", l_time=number + 1))
    listed = events.listed()
    assert len(listed) == 256
    assert listed[-1].name == "e299"
    assert listed[-1].l_time == 300
    assert events.listed("e299") == [listed[-1]]
    assert len(woken) == 300
