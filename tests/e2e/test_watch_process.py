"""``pyconsul watch`` on a real agent, as users run it; the recorded cases."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from recorded_cases import run_recorded

PYCONSUL = (sys.executable, "-m", "pyconsul.cli.main")
DEADLINE_S = 60.0

Start = Callable[..., "subprocess.Popen[bytes]"]


def until(holds: Callable[[], Any], why: Callable[[], object] = str) -> Any:
    """Wait until something is true; return it."""
    end = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        assert time.monotonic() < end, why()
        time.sleep(0.05)
    return found


@pytest.fixture
def watch(agent: Any, tmp_path: Path) -> Iterator[Start]:
    """Start ``pyconsul watch`` on the agent; what runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []
    errors: list[IO[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        errors.append((tmp_path / "err").open("wb"))
        process = subprocess.Popen(
            [*PYCONSUL, "watch", f"-http-addr=127.0.0.1:{agent.ports['http']}", *words],
            stdout=subprocess.PIPE,
            stderr=errors[-1],
            cwd=tmp_path,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
    for file in errors:
        file.close()


def line(process: subprocess.Popen[bytes]) -> Any:
    """Return the next line of JSON."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_pipe_gets_a_line_for_every_change(agent: Any, watch: Start) -> None:
    agent.put("/v1/kv/app/a", b"1")
    process = watch("-format=jsonl", "-type=keyprefix", "-prefix=app/")
    first = line(process)
    assert (first["type"], first["params"]) == ("keyprefix", {"prefix": "app/"})
    assert [(one["Key"], one["Value"]) for one in first["result"]] == [
        ("app/a", "MQ==")
    ]
    agent.put("/v1/kv/other", b"no news")
    agent.put("/v1/kv/app/b", b"2")
    second = line(process)
    assert [one["Key"] for one in second["result"]] == ["app/a", "app/b"]
    assert second["index"] > first["index"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_stopped_agent_and_its_return(agent: Any, watch: Start) -> None:
    """A watch outlives its agent; a restarted one is asked from the start."""
    agent.put("/v1/kv/app/a", b"1")
    process = watch("-format=jsonl", "-type=key", "-key=app/a")
    assert line(process)["result"]["Value"] == "MQ=="
    agent.stop()
    agent.start()
    # A -dev agent forgets.
    assert line(process)["result"] is None
    agent.put("/v1/kv/app/a", b"2")
    assert line(process)["result"]["Value"] == "Mg=="


def test_many_writes_make_one_call(agent: Any, watch: Start, tmp_path: Path) -> None:
    agent.put("/v1/kv/n", b"0")
    script = 'read -r json; echo "$json" >> calls'
    process = watch("-debounce=6s", "-type=key", "-key=n", script)
    calls = tmp_path / "calls"

    def values() -> list[str]:
        if not calls.exists():
            return []
        return [json.loads(one)["Value"] for one in calls.read_text().splitlines()]

    until(lambda: values() == ["MA=="])
    for number in range(1, 41):
        agent.put("/v1/kv/n", str(number).encode())
    until(lambda: values()[-1] == "NDA=", values)
    assert values() == ["MA==", "NDA="]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_a_file_takes_the_place_of_an_agents_watches(
    agent: Any, watch: Start, tmp_path: Path
) -> None:
    """The same file is good for the agent and for the command."""
    words = json.dumps(["sh", "-c", "cat >> services"])
    path = tmp_path / "watches.hcl"
    path.write_text(
        'data_dir = "data"\n'
        f'watches {{ type = "services", args = {words} }}\n'
        'watches { type = "key", key = "go", handler = "cat >> keys" }\n'
    )
    valid = subprocess.run(
        [*PYCONSUL, "validate", str(path)], capture_output=True, check=False
    )
    assert valid.returncode == 0, valid.stderr
    process = watch("-file=watches.hcl", "-skip-first")
    services, keys = tmp_path / "services", tmp_path / "keys"

    def changed() -> bool:
        # Until the first answers have been skipped nothing is a change.
        agent.put("/v1/kv/go", str(time.monotonic_ns()).encode())
        return keys.exists() and keys.read_bytes().endswith(b"\n")

    until(changed)
    agent.put("/v1/agent/service/register", {"Name": "web", "Tags": ["a"]})
    until(lambda: services.exists() and '"web":["a"]' in services.read_text())
    path.write_text('watches { type = "key", key = "on", args = ["touch", "on"] }')
    process.send_signal(signal.SIGHUP)
    until(lambda: "Reloaded: 1 watches" in (tmp_path / "err").read_text())
    agent.put("/v1/kv/go", b"unseen")

    def touched() -> bool:
        agent.put("/v1/kv/on", str(time.monotonic_ns()).encode())
        return (tmp_path / "on").exists()

    until(touched)
    assert base64.b64encode(b"unseen") not in keys.read_bytes()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_once_in_a_script(agent: Any, watch: Start) -> None:
    agent.put("/v1/kv/app/a", b"1")
    process = watch("-once", "-type=key", "-key=app/a", "cat")
    assert line(process)["Key"] == "app/a"
    assert process.wait(30) == 0
    process = watch("-once", "-type=key", "-key=app/a", "exit 7")
    assert process.wait(30) == 1


def test_a_prepared_query_follows_its_service(agent: Any, watch: Start) -> None:
    web = {"Name": "web", "Port": 80}
    agent.put("/v1/agent/service/register", web)
    body = json.dumps({"Name": "nearest", "Service": {"Service": "web"}})
    assert agent.request("POST", "/v1/query", body.encode())[0] == 200
    words = ("-query=nearest", "-poll-interval=200ms", "-diff", "-output=jsonl")
    process = watch(*words)
    first = line(process)["result"]
    assert (first["event"], first["added"]) == ("added", ["n1/web"])
    agent.put("/v1/agent/service/register", web | {"ID": "web2"})
    second = line(process)["result"]
    assert (second["event"], second["added"]) == ("changed", ["n1/web2"])
    assert second["old"] == first["new"]


def test_events_are_handled_once_over_restarts(agent: Any, watch: Start) -> None:
    words = ("-output=jsonl", "-type=event", "-state-file=seen")

    def ended(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    def names(told: Any) -> list[str]:
        return [one["Name"] for one in told["result"]]

    process = watch(*words)
    assert names(line(process)) == []
    agent.put("/v1/event/fire/one", b"")
    assert names(line(process)) == ["one"]
    ended(process)
    agent.put("/v1/event/fire/two", b"")
    process = watch(*words)
    assert names(line(process)) == ["two"]
    ended(process)


@pytest.mark.timeout(200)
def test_the_recorded_cases() -> None:
    """What the reference did."""
    port = 28900 + os.getpid() % 180 * 20
    run_recorded("watch", port, f"--watch={' '.join(PYCONSUL)} watch")
