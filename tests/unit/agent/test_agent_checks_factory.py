"""From definitions to runners; aliases of this node and of others."""

from __future__ import annotations

import asyncio
from asyncio import Future
from random import Random
from typing import Any

import pytest
from local_fakes import local_state

from pyconsul.agent.checks.alias import LocalAlias, RemoteAlias, retry_after
from pyconsul.agent.checks.factory import RunnerFactory, check_tls
from pyconsul.agent.checks.runner import Gate, TimedRunner
from pyconsul.agent.checks.ttl import TtlRunner
from pyconsul.config.definitions import CheckDefinition
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply
from pyconsul.types.records import HealthCheck, NodeService


def ignore(status: str, output: str) -> None:
    """Take a result nobody looks at."""


class Servers:
    """Answers ``Health.NodeChecks`` with what is put in, in turn."""

    def __init__(self) -> None:
        self.answers: list[Reply | ConsulError] = []
        self.asked: list[Any] = []
        self.drained = asyncio.Event()

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        assert method == "Health.NodeChecks"
        self.asked.append(args)
        if not self.answers:
            self.drained.set()
            return asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0)
        if isinstance(answer, ConsulError):
            raise answer
        return answer


def factory(caller: Any = None, output_max: int = 100) -> RunnerFactory:
    local = local_state(node_id="", address="127.0.0.1")
    return RunnerFactory(local, caller, Random(1), Gate(), output_max)


@pytest.mark.parametrize(
    "fields",
    [
        {"http": "http://a/"},
        {"tcp": "a:1", "tcp_use_tls": True},
        {"udp": "a:1"},
        {"args": ["true"]},
        {"args": ["true"], "docker_container_id": "c"},
        {"grpc": "a:1", "grpc_use_tls": True},
        {"h2ping": "a:1"},
        {"os_service": "web"},
    ],
)
def test_every_timed_kind_has_a_runner(fields: dict[str, Any]) -> None:
    definition = CheckDefinition(interval=10 * SECOND, **fields)
    assert isinstance(factory().make("c", definition, ignore), TimedRunner)


def test_kinds_without_an_interval() -> None:
    make = factory().make
    assert isinstance(make("c", CheckDefinition(ttl=SECOND), ignore), TtlRunner)
    local = CheckDefinition(alias_service="web")
    assert isinstance(make("c", local, ignore), LocalAlias)
    own = CheckDefinition(alias_service="web", alias_node="n1")
    assert isinstance(make("c", own, ignore), LocalAlias)
    remote = CheckDefinition(alias_node="n2")
    assert isinstance(make("c", remote, ignore), RemoteAlias)
    assert make("c", CheckDefinition(), ignore) is None


@pytest.mark.parametrize(("asked", "kept"), [(0, 100), (10, 10), (5000, 100)])
def test_a_check_may_lower_the_size_of_its_output(asked: int, kept: int) -> None:
    definition = CheckDefinition(ttl=SECOND, output_max_size=asked)
    runner = factory().make("c", definition, ignore)
    assert isinstance(runner, TtlRunner)
    assert runner.cut("x" * 9999).startswith("x" * kept + " ... (captured")


def test_times_below_the_minimum_are_said(caplog: pytest.LogCaptureFixture) -> None:
    definition = CheckDefinition(
        tcp="a:1", interval=1, deregister_critical_service_after=SECOND
    )
    factory().make("c", definition, ignore)
    assert "check has interval below minimum: check=c minimum_interval=1s" in (
        caplog.text
    )
    assert "deregister interval below minimum" in caplog.text


def test_a_thousand_checks_start_spread_out() -> None:
    class Loop:
        def __init__(self) -> None:
            self.delays: list[float] = []

        def call_later(self, delay: float, _: Any) -> None:
            self.delays.append(delay)

    loop = Loop()
    made = factory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        for at in range(1000):
            definition = CheckDefinition(tcp="a:1", interval=10 * SECOND)
            runner = made.make(f"c{at}", definition, ignore)
            assert isinstance(runner, TimedRunner)
            runner.start()
    seconds = [int(delay) for delay in loop.delays]
    counts = [seconds.count(second) for second in range(10)]
    assert sum(counts) == 1000
    assert min(counts) > 60
    assert max(counts) < 140


def test_the_agents_certificate_is_shown_only_when_asked_for() -> None:
    raw: dict[str, Any] = {"ca_file": "ca", "cert_file": "cert", "key_file": "key"}
    assert check_tls(AgentConfig(node_name="n", raw=raw)).cert_file == ""
    raw["enable_agent_tls_for_checks"] = True
    tls = check_tls(AgentConfig(node_name="n", raw=raw))
    assert (tls.ca_file, tls.cert_file, tls.key_file) == ("ca", "cert", "key")
    nested = {"enable_agent_tls_for_checks": True, "tls": {"defaults": raw}}
    assert check_tls(AgentConfig(node_name="n", raw=nested)).cert_file == "cert"


def test_an_alias_follows_a_local_service() -> None:
    async def run() -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        made = factory()
        runner = made.make(
            "alias",
            CheckDefinition(alias_service="web"),
            lambda status, output: seen.append((status, output)),
        )
        assert isinstance(runner, LocalAlias)
        runner.start()
        made.local.add_service(NodeService(id="web", service="web"))
        await asyncio.sleep(0)
        check = HealthCheck(
            check_id="c", name="c", status="critical", service_id="web", output="no"
        )
        made.local.add_check(check, 0.0)
        await asyncio.sleep(0)
        runner.stop()
        made.local.remove_check("c")
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(run()) == [
        ("critical", "Service web could not be found on node n1"),
        ("passing", "No checks found."),
        ("critical", 'Aliased check "c" failing: no'),
    ]


def test_a_remote_alias_reports_from_the_second_failure_on() -> None:
    async def run() -> tuple[list[tuple[str, str]], Servers]:
        seen: list[tuple[str, str]] = []
        servers = Servers()
        check = HealthCheck(check_id="c", name="c", status="warning", output="meh")
        servers.answers = [
            Reply([check], 7),
            ConsulError("gone"),
            ConsulError("still gone"),
            Reply([check], 9),
        ]
        runner = RemoteAlias(
            "a", "n2", "", servers, lambda status, output: seen.append((status, output))
        )
        with pytest.MonkeyPatch.context() as patch:
            real = asyncio.sleep

            async def at_once(seconds: float) -> None:
                await real(0)

            patch.setattr(asyncio, "sleep", at_once)
            runner.start()
            async with asyncio.timeout(60):
                await servers.drained.wait()
        runner.stop()
        return seen, servers

    seen, servers = asyncio.run(run())
    aliased = ("warning", 'Aliased check "c" failing: meh')
    failed = "Failure checking aliased node or service: still gone"
    assert seen == [aliased, ("critical", failed), aliased]
    assert [args.min_query_index for args in servers.asked] == [0, 7, 0, 0, 9]
    assert servers.asked[0].allow_stale


def test_a_remote_alias_waits_longer_and_longer() -> None:
    assert [retry_after(failures) for failures in (1, 3, 4, 6, 99)] == [
        1.0,
        1.0,
        2.0,
        8.0,
        60.0,
    ]
