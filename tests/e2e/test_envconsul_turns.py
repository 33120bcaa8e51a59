"""Restarts in turns: of many envconsuls only a few restart at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from envconsul_process import Start, put, starter
from template_process import until

SAYS = "trap 'echo HUP' HUP; echo start A=$A; while kill -0 $PPID; do sleep 0.02; done"
LOCK = ("-prefix=app", "-restart-lock=turns/app", "-wait=50ms")


@pytest.fixture
def hosts(tmp_path: Path, agent: Any) -> Iterator[list[Start]]:
    """Three folders, each with a function that starts envconsul in it."""
    put(agent, app__A="1")
    with contextlib.ExitStack() as stack:
        found: list[Start] = []
        for number in range(3):
            (folder := tmp_path / str(number)).mkdir()
            host = contextlib.contextmanager(starter)(folder, agent)
            found.append(stack.enter_context(host))
        yield found


def test_one_after_the_other(agent: Any, hosts: list[Start]) -> None:
    # The first to restart keeps its place for an hour: nobody else may.
    flags = (*LOCK, "-restart-limit=1", "-restart-hold=1h", "sh", "-c", SAYS)
    tools = [host(*flags) for host in hosts]
    for tool in tools:
        tool.until("start A=1")
    put(agent, app__A="2")

    def restarted() -> list[Any]:
        return [tool for tool in tools if "A=2" in tool.text()]

    until("one restarts", lambda: len(restarted()) == 1)
    (first,) = restarted()
    agent.eventually(
        "/v1/kv/turns/app?recurse",
        # The three contenders and the lock with its holder.
        lambda pairs: len(pairs) == 4,
    )
    assert restarted() == [first]
    # Its end gives the place back, and the others' newest environment counts.
    put(agent, app__A="3")
    assert first.end() == 12
    others = [tool for tool in tools if tool is not first]
    until("the next", lambda: any("A=3" in tool.text() for tool in others))
    (second,) = [tool for tool in others if "A=3" in tool.text()]
    assert second.text().count("start") == 2
    assert second.end() == 12
    (third,) = [tool for tool in others if tool is not second]
    third.until("start A=3")
    assert third.end() == 12


def test_as_many_as_the_limit(agent: Any, hosts: list[Start], tmp_path: Path) -> None:
    keys = {
        "restart_lock": "turns/app",
        "restart_limit": 2,
        "restart_hold": "1h",
        "prefix": {"path": "app"},
        "on_change": "signal:HUP",
        "wait": "50ms",
    }
    (tmp_path / "c.json").write_text(json.dumps(keys))
    tools = [host("-config=../c.json", "sh", "-c", SAYS) for host in hosts]
    for tool in tools:
        tool.until("start A=1")
    put(agent, app__A="2")

    def told() -> list[Any]:
        return [tool for tool in tools if "HUP" in tool.text()]

    until("two are told", lambda: len(told()) == 2)
    agent.eventually("/v1/kv/turns/app?recurse", lambda pairs: len(pairs) == 4)
    assert len(told()) == 2
    assert told()[0].end() == 12
    until("the third is told", lambda: len(told()) == 3)
    for tool in tools[:]:
        if tool.process.poll() is None:
            assert tool.end() == 12


def test_without_a_hold_all_come_to_the_newest(agent: Any, hosts: list[Start]) -> None:
    tools = [host(*LOCK, "-restart-hold=0s", "sh", "-c", SAYS) for host in hosts]
    for tool in tools:
        tool.until("start A=1")
    for number in range(2, 5):
        put(agent, app__A=str(number))
    for tool in tools:
        tool.until("start A=4")
    for tool in tools:
        assert tool.end() == 12
    assert hosts[0](*LOCK, "-restart-limit=0", "true").wait() == 15
