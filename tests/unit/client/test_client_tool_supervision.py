"""The rules of a supervised child, on a clock of numbers."""

from __future__ import annotations

import signal

import pytest

from pyconsul_client.tool.backoff import Backoff
from pyconsul_client.tool.exits import STOPPED
from pyconsul_client.tool.signals import forwarded, parse_signal
from pyconsul_client.tool.supervision import (
    LEAVE,
    RUN,
    SEND,
    SPAWN,
    SWEEP,
    ChildRules,
    Supervision,
)

INT, TERM, HUP = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP)
KILL = int(signal.SIGKILL)


def running(**rules: float) -> Supervision:
    core = Supervision(ChildRules(**rules))  # type: ignore[arg-type]
    assert core.start() == [(SPAWN, 0)]
    return core


def test_a_change_stops_the_child_and_starts_it_again() -> None:
    core = running()
    assert core.changed(10.0, 0.0) == [(SEND, INT)]
    assert core.deadline == 40.0
    assert core.exited(3) == [(SWEEP, 0), (SPAWN, 0)]
    assert core.restarts == 1
    assert core.deadline is None


def test_changes_while_it_stops_cost_no_further_restart() -> None:
    core = running()
    core.changed(10.0, 0.0)
    assert core.changed(11.0, 0.0) == []
    assert core.exited(0) == [(SWEEP, 0), (SPAWN, 0)]
    assert core.exited(7) == [(LEAVE, 7)]


def test_a_child_that_does_not_end_is_killed() -> None:
    core = running(kill_timeout=5.0)
    core.changed(10.0, 0.0)
    assert core.tick(14.9) == []
    assert core.tick(15.0) == [(SEND, KILL)]
    assert core.tick(99.0) == []
    assert core.exited(-9) == [(SWEEP, 0), (SPAWN, 0)]


def test_splay_waits_before_the_kill_signal() -> None:
    core = running(splay=8.0)
    assert core.changed(100.0, 0.5) == []
    assert core.deadline == 104.0
    assert core.changed(101.0, 0.9) == []
    assert core.deadline == 104.0
    assert core.tick(104.0) == [(SEND, INT)]


def test_our_own_end_has_no_splay() -> None:
    core = running(splay=8.0)
    core.changed(100.0, 0.5)
    assert core.quit(101.0) == [(SEND, INT)]
    assert core.exited(3) == [(SWEEP, 0), (LEAVE, 12)]


def test_a_forced_restart_has_no_splay_and_no_reload_signal() -> None:
    core = running(splay=8.0, reload_signal=HUP)
    assert core.changed(1.0, 0.5, force=True) == [(SEND, INT)]


def test_a_reload_signal_replaces_the_restart() -> None:
    core = running(reload_signal=HUP)
    assert core.changed(1.0, 0.0) == [(SEND, HUP)]
    assert core.exited(4) == [(LEAVE, 4)]


def test_quit_during_a_restart_does_not_start_again() -> None:
    core = running()
    core.changed(1.0, 0.0)
    assert core.quit(2.0) == []
    assert core.exited(0) == [(SWEEP, 0), (LEAVE, 12)]


def test_sigterm_during_a_restart_ends_with_the_childs_status() -> None:
    core = running()
    core.changed(1.0, 0.0)
    assert core.passed(TERM) == [(SEND, TERM)]
    assert core.exited(4) == [(LEAVE, 4)]


def test_no_restart_after_sigterm_was_passed_on() -> None:
    core = running(splay=8.0)
    core.changed(1.0, 0.5)
    core.passed(TERM)
    assert core.deadline is None
    assert core.changed(2.0, 0.5) == []
    assert core.exited(0) == [(LEAVE, 0)]


def test_other_signals_pass_and_change_nothing() -> None:
    core = running()
    assert core.passed(int(signal.SIGUSR1)) == [(SEND, int(signal.SIGUSR1))]
    assert core.changed(1.0, 0.0) == [(SEND, INT)]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (9, 9), (-9, 255), (-15, 255)])
def test_the_end_of_the_child_is_ours(status: int, code: int) -> None:
    assert running().exited(status) == [(LEAVE, code)]


def test_quit_without_a_child_leaves_at_once() -> None:
    core = Supervision(ChildRules())
    assert core.quit(0.0) == [(LEAVE, 12)]
    assert core.passed(TERM) == []


@pytest.mark.parametrize(
    ("name", "number"), [("SIGHUP", HUP), ("hup", HUP), ("TERM", TERM), ("", 0)]
)
def test_signals_by_name(name: str, number: int) -> None:
    assert parse_signal(name) == number


@pytest.mark.parametrize("name", ["SIGFOO", "SIG_IGN", "9", "SIG"])
def test_wrong_signal_names(name: str) -> None:
    with pytest.raises(ValueError, match="invalid signal"):
        parse_signal(name)


def test_what_is_passed_on() -> None:
    numbers = forwarded()
    assert {INT, TERM, HUP, signal.SIGUSR1, signal.SIGWINCH} <= set(numbers)
    assert not {signal.SIGCHLD, signal.SIGKILL, signal.SIGPIPE} & set(numbers)


def test_backoff_doubles_to_its_cap_and_ends() -> None:
    backoff = Backoff(attempts=4, base=0.25, cap=1.0)
    assert [backoff.failed() for _ in range(5)] == [0.25, 0.5, 1.0, 1.0, None]
    backoff.reset()
    assert backoff.failed(0.0) == 0.125


def test_backoff_for_ever_and_never() -> None:
    ever = Backoff(attempts=0)
    assert all(ever.failed() is not None for _ in range(5000))
    assert Backoff(enabled=False).failed() is None


def test_a_child_that_fails_starts_again_after_a_growing_pause() -> None:
    core = Supervision(ChildRules(restart="on-failure"))
    core.start(0.0)
    assert core.exited(1, 0.5) == [(SWEEP, 0)]
    assert core.deadline == 1.5
    # A change has nobody to be told: the next start takes it.
    assert core.changed(1.0, 0.0) == []
    assert core.tick(1.4) == []
    assert core.tick(1.5) == [(SPAWN, 0)]
    assert core.restarts == 1
    assert core.exited(-9, 2.0) == [(SWEEP, 0)]
    assert core.deadline == 4.0
    core.tick(4.0)
    # One that ran long begins with the short pause.
    assert core.exited(1, 64.0) == [(SWEEP, 0)]
    assert core.deadline == 65.0
    core.tick(65.0)
    assert core.exited(0, 66.0) == [(LEAVE, 0)]


def test_a_pause_ends_with_us() -> None:
    core = Supervision(ChildRules(restart="always"))
    core.start(0.0)
    assert core.exited(0, 1.0) == [(SWEEP, 0)]
    assert core.passed(HUP) == []
    assert core.passed(TERM) == [(LEAVE, STOPPED)]
    assert core.quit(1.5, 12) == [(LEAVE, 12)]
    # Told to end by a signal, it is not started again.
    core = Supervision(ChildRules(restart="always"))
    core.start(0.0)
    core.passed(TERM)
    assert core.exited(0, 1.0) == [(LEAVE, 0)]


def test_a_command_tells_of_a_change() -> None:
    core = Supervision(ChildRules(runs_command=True))
    core.start()
    assert core.changed(1.0, 0.0) == [(RUN, 0)]
    assert core.changed(2.0, 0.0, force=True) == [(SEND, INT)]
