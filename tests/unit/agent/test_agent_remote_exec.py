"""Jobs of ``_rexec`` events: what is run, what is written, what ends it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pyconsul.agent import remote_exec
from pyconsul.agent.agent import Agent
from pyconsul.agent.remote_exec import MAX_JOBS, RemoteExec
from pyconsul.config.model import AgentConfig
from pyconsul.types.errors import ConsulError, NoLeaderError, PermissionDeniedError
from pyconsul.types.messages import Reply, Row
from pyconsul.types.records import DirEntry, UserEvent

EVENT = UserEvent(name="_rexec", payload=b'{"Prefix":"_rexec","Session":"s"}')


class Store:
    """A ``Caller`` with keys; ``allow`` says whether a key may be acquired."""

    def __init__(self, job: dict[str, Any] | None, *, late: bool = False) -> None:
        self.job = None if job is None else json.dumps({"Wait": 10**10} | job).encode()
        self.late = late
        self.keys: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.allow: Callable[[str], bool] = lambda key: True
        self.errors: list[ConsulError] = []

    def call(self, method: str, args: Any) -> Reply:
        self.tokens.add(args.token)
        if method == "KVS.Get":
            if args.key == "_rexec/s/n1/ack":
                assert args.require_consistent
                return Reply(Row(DirEntry()) if "ack" in self.keys else None)
            assert args.key == "_rexec/s/job"
            if self.job is None or (self.late and args.allow_stale):
                return Reply(None)
            return Reply(Row(DirEntry(key=args.key, value=self.job)))
        assert (method, args.op, args.dir_ent.session) == ("KVS.Apply", "lock", "s")
        if self.errors:
            raise self.errors.pop()
        name = args.dir_ent.key.removeprefix("_rexec/s/n1/")
        if not self.allow(name):
            return Reply(False)
        self.keys[name] = args.dir_ent.value
        return Reply(True)


def answers(store: Store, event: UserEvent = EVENT) -> dict[str, bytes]:
    """Run the event's job to its end; the keys it wrote."""

    async def main() -> None:
        agent = RemoteExec("n1", store, lambda: "token")
        agent.receive(event)
        async with asyncio.timeout(20):
            while agent.running:  # noqa: ASYNC110 - tasks, not an event
                await asyncio.sleep(0.005)

    asyncio.run(main())
    return store.keys


@pytest.mark.parametrize(
    ("job", "out", "code"),
    [
        ({"Command": "echo a; echo b >&2"}, b"a\nb\n", b"0"),
        ({"Args": ["echo", "$HOME  x"]}, b"$HOME  x\n", b"0"),
        ({"Command": "exit 3"}, None, b"3"),
        ({"Command": "kill -9 $$"}, None, b"-1"),
        ({"Args": ["/no/such/program"]}, None, b"255"),
        ({"Args": ["nul\0byte"]}, None, b"255"),
        ({"Command": "read x; echo got $x"}, b"got\n", b"0"),
        (
            {"Script": base64.b64encode(b"#!/bin/sh\necho $((1 + 1))\n").decode()},
            b"2\n",
            b"0",
        ),
    ],
)
def test_what_is_run(job: dict[str, Any], out: bytes | None, code: bytes) -> None:
    wanted = {"ack": b"", "exit": code}
    if out is not None:
        wanted["out/00000"] = out
    store = Store(job)
    assert answers(store) == wanted
    assert store.tokens == {"token"}


def test_scripts_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_exec.tempfile, "tempdir", str(tmp_path))
    script = base64.b64encode(b'echo "$0"; ls -l "$0"').decode()
    out = answers(Store({"Script": script}))["out/00000"]
    assert out.startswith(f"{tmp_path}/rexec".encode())
    assert b"-rwxr-x---" in out
    assert list(tmp_path.iterdir()) == []


def test_long_output_is_cut_into_chunks() -> None:
    keys = answers(Store({"Command": "head -c 9000 /dev/zero"}))
    sizes = {name: len(value) for name, value in keys.items() if "out" in name}
    assert sizes == {"out/00000": 4096, "out/00001": 4096, "out/00002": 808}


def test_silence_gives_signs_of_life(tmp_path: Path) -> None:
    """The command goes on once the agent has written that it is alive."""
    go = tmp_path / "go"
    store = Store({"Command": f"echo a; while [ ! -e {go} ]; do :; done", "Wait": 1})

    def allow(name: str) -> bool:
        if name == "out/00002":
            go.touch()
        return True

    store.allow = allow
    keys = answers(store)
    assert keys["exit"] == b"0"
    assert [keys[f"out/0000{n}"] for n in range(3)] == [b"a\n", b"", b""]


def test_what_goes_on_in_the_background_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_exec, "QUIET_S", 0.05)
    keys = answers(Store({"Command": "echo a; sleep 5 & exit 2"}))
    assert (keys["out/00000"], keys["exit"]) == (b"a\n", b"2")


def test_the_leader_is_asked_for_what_is_not_here_yet() -> None:
    assert answers(Store({"Command": "true"}, late=True))["exit"] == b"0"
    assert answers(Store(None)) == {}


def test_an_event_heard_again_is_not_obeyed_again() -> None:
    store = Store({"Command": "echo a"})
    store.keys["ack"] = b""
    assert answers(store) == {"ack": b""}


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_exec, "RETRY_S", 0.0)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    "errors",
    [
        [NoLeaderError() for _ in range(remote_exec.WRITES)],
        [PermissionDeniedError()],
        [ConsulError('invalid session "s"')],
    ],
)
def test_without_an_ack_nothing_is_run(
    tmp_path: Path, errors: list[ConsulError]
) -> None:
    store = Store({"Command": f"touch {tmp_path}/ran"})
    store.errors = errors
    assert answers(store) == {}
    store.allow = lambda name: False
    assert answers(store) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_pause")
def test_a_change_of_leaders_is_waited_out() -> None:
    store = Store({"Command": "echo a"})
    store.errors = [NoLeaderError(), NoLeaderError()]
    assert answers(store) == {"ack": b"", "out/00000": b"a\n", "exit": b"0"}


def test_a_session_that_is_gone_ends_the_command(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    store = Store({"Command": f"echo $$ > {pid}; echo a; sleep 60; true", "Wait": 1})
    store.allow = lambda name: not name.startswith("out/")
    assert answers(store) == {"ack": b""}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"[]", b'{"Prefix":1}', b'{"Prefix":"_rexec"}']
)
def test_events_that_make_no_sense(payload: bytes) -> None:
    store = Store({"Command": "true"})
    assert answers(store, UserEvent(name="_rexec", payload=payload)) == {}


@pytest.mark.parametrize("job", [b"", b"[]", b'{"Args":"x"}', b'{"Script":"%"}'])
def test_jobs_that_make_no_sense(job: bytes) -> None:
    store = Store({})
    store.job = job
    assert answers(store) == {}


def test_stopping_kills_and_jobs_are_limited(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def main() -> None:
        agent = RemoteExec(
            "n1", Store({"Command": f"echo $$ > {pid}; sleep 60; true"}), lambda: ""
        )
        agent.receive(EVENT)
        async with asyncio.timeout(20):
            while not pid.exists() or not pid.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        agent.stop()
        async with asyncio.timeout(20):
            while agent.running or _lives(int(pid.read_text())):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        idle = RemoteExec("n1", Store(None), lambda: "")
        for _ in range(MAX_JOBS + 5):
            idle.receive(EVENT)
        assert idle.running == MAX_JOBS
        await asyncio.sleep(0)
        idle.stop()
        await asyncio.sleep(0.01)

    asyncio.run(main())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("disabled", [True, False])
def test_an_agent_obeys_only_when_it_is_told_to(
    disabled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store({"Command": "true"})
    event = replace(EVENT, id="id")

    async def main() -> None:
        config = AgentConfig(node_name="n1", disable_remote_exec=disabled)
        agent = Agent(config, store)
        agent.receive_event(replace(event, node_filter="other"))
        agent.receive_event(event)
        assert agent.events("_rexec") == ([event] if disabled else [])
        assert agent.remote_exec.running == (0 if disabled else 1)
        async with asyncio.timeout(20):
            while agent.remote_exec.running:  # noqa: ASYNC110 - tasks, not an event
                await asyncio.sleep(0.005)

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    refusal = "ignoring remote exec event, disabled.: event_name=_rexec event_id=id"
    assert (refusal in caplog.text) is disabled
    assert ("exit" in store.keys) is not disabled
