"""What is told to the servers, and when: the local state without I/O."""

from __future__ import annotations

from local_fakes import local_state
from msgspec.structs import replace

from pyconsul.agent.local import LocalState, Step
from pyconsul.types.messages import DeregisterRequest, RegisterRequest
from pyconsul.types.records import HealthCheck, Node, NodeService

WEB = NodeService(id="web", service="web", port=80, tags=["a"])
NODE = Node(id="id1", node="n1", address="10.0.0.1")
BEAT = HealthCheck(node="n1", check_id="beat", name="beat", status="passing")
WEB_CHECK = HealthCheck(
    node="n1", check_id="service:web", service_id="web", status="critical"
)


def local(interval: int = 0) -> LocalState:
    return local_state(check_update_interval=interval)


def drain(state: LocalState) -> list[Step]:
    """Take every step as done; return them."""
    steps: list[Step] = []
    while (step := state.next_step()) is not None:
        assert len(steps) < 50, "a step that does not end"
        state.done(step)
        steps.append(step)
    return steps


def test_the_node_goes_first_and_later_calls_skip_it() -> None:
    state = local()
    state.add_service(WEB)
    first, second = drain(state)
    assert isinstance(first.args, RegisterRequest)
    assert first.args.service is None
    assert not first.args.skip_node_update
    assert isinstance(second.args, RegisterRequest)
    assert second.args.service == WEB
    assert second.args.skip_node_update


def test_a_service_takes_its_checks_along_in_one_call() -> None:
    state = local()
    drain(state)
    state.add_service(WEB)
    state.add_check(WEB_CHECK, 0.0)
    state.add_check(BEAT, 0.0)
    service, check = drain(state)
    assert isinstance(service.args, RegisterRequest)
    assert service.args.check == WEB_CHECK
    assert isinstance(check.args, RegisterRequest)
    assert check.args.check == BEAT
    assert check.args.service is None


def test_a_changed_check_is_one_call_with_its_service() -> None:
    state = local()
    state.add_service(WEB)
    state.add_check(WEB_CHECK, 0.0)
    drain(state)
    assert state.update_check("service:web", "passing", "ok", 1.0)
    (step,) = drain(state)
    assert isinstance(step.args, RegisterRequest)
    assert step.args.check is not None
    assert step.args.check.status == "passing"
    assert step.args.service == WEB


def test_equal_results_and_registrations_cost_nothing() -> None:
    state = local()
    state.add_service(WEB)
    state.add_check(BEAT, 0.0)
    drain(state)
    version = state.version
    state.add_service(replace(WEB, modify_index=9))
    state.add_check(BEAT, 5.0)
    assert not state.update_check("beat", "passing", "", 5.0)
    assert state.next_step() is None
    assert state.version == version


def test_a_change_during_the_call_stays_to_be_told() -> None:
    state = local()
    drain(state)
    state.add_check(BEAT, 0.0)
    step = state.next_step()
    assert step is not None
    state.update_check("beat", "critical", "", 1.0)
    state.done(step)
    again = state.next_step()
    assert again is not None
    assert isinstance(again.args, RegisterRequest)
    assert again.args.check is not None
    assert again.args.check.status == "critical"


def test_removal_is_told_once() -> None:
    state = local()
    state.add_service(WEB)
    state.add_check(WEB_CHECK, 0.0)
    drain(state)
    assert state.remove_service("web")
    assert state.remove_check("service:web")
    assert state.services() == {}
    (step,) = drain(state)
    assert step.args == DeregisterRequest(node="n1", datacenter="dc1", service_id="web")
    assert not state.remove_service("web")


def test_drift_in_the_catalog_is_repaired_and_strangers_removed() -> None:
    state = local()
    state.add_service(WEB)
    state.add_check(BEAT, 0.0)
    drain(state)
    stranger = NodeService(id="old", service="old")
    consul = NodeService(id="consul", service="consul")
    serf = HealthCheck(node="n1", check_id="serfHealth", status="passing")
    lost = HealthCheck(node="n1", check_id="lost", status="passing")
    state.compare(NODE, [replace(WEB, port=81), stranger, consul], [serf, lost])
    told = {
        step.args.service_id or step.args.check_id
        if isinstance(step.args, DeregisterRequest)
        else step.what
        for step in drain(state)
    }
    assert told == {"old", "lost", "service: service=web", "check: check=beat"}


def test_a_catalog_that_agrees_needs_no_call() -> None:
    state = local()
    state.add_service(WEB)
    state.add_check(BEAT, 0.0)
    state.compare(
        NODE,
        [replace(WEB, create_index=3, modify_index=4, meta={})],
        [replace(BEAT, modify_index=8)],
    )
    assert state.next_step() is None


def test_foreign_tags_are_adopted_when_allowed() -> None:
    state = local()
    state.add_service(replace(WEB, enable_tag_override=True))
    remote = replace(WEB, enable_tag_override=True, tags=["z"])
    state.compare(NODE, [remote], [])
    assert state.next_step() is None
    assert state.services()["web"].tags == ["z"]


def test_an_unknown_or_moved_node_is_registered_again() -> None:
    state = local()
    drain(state)
    state.compare(replace(NODE, address="10.9.9.9"), [], [])
    (step,) = drain(state)
    assert step.node


def test_refused_entries_rest_until_the_next_comparison() -> None:
    state = local()
    drain(state)
    state.add_service(WEB)
    step = state.next_step()
    assert step is not None
    state.blocked(step)
    assert state.next_step() is None
    state.compare(NODE, [], [])
    assert state.next_step() is not None


def test_output_alone_is_told_late_and_a_status_at_once() -> None:
    state = local(interval=100 * 1_000_000_000)
    state.add_check(BEAT, 0.0)
    drain(state)
    assert state.update_check("beat", "passing", "1", 1000.0)
    assert state.next_step() is None
    due = state.next_deferred()
    assert due is not None
    assert 1050.0 <= due <= 1150.0
    assert not state.update_check("beat", "passing", "2", 1001.0)
    assert state.next_deferred() == due
    state.compare(NODE, [], [BEAT])
    assert state.next_step() is None
    assert not state.release_deferred(due - 1)
    assert state.release_deferred(due)
    (step,) = drain(state)
    assert isinstance(step.args, RegisterRequest)
    assert step.args.check is not None
    assert step.args.check.output == "2"
    state.update_check("beat", "passing", "3", 2000.0)
    assert state.update_check("beat", "critical", "4", 2001.0)
    assert state.next_deferred() is None


def test_critical_time_runs_from_the_first_critical_result() -> None:
    state = local()
    state.add_check(BEAT, 0.0)
    state.update_check("beat", "critical", "1", 10.0)
    state.update_check("beat", "critical", "2", 20.0)
    assert [seconds for _, seconds in state.critical_for(30.0)] == [20.0]
    state.update_check("beat", "passing", "", 40.0)
    assert list(state.critical_for(50.0)) == []


def test_output_can_be_thrown_away() -> None:
    state = local()
    state.options.discard_check_output = True
    state.add_check(replace(BEAT, output="x"), 0.0)
    drain(state)
    assert not state.update_check("beat", "passing", "y", 1.0)
    assert state.checks()["beat"].output == ""
