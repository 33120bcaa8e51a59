"""``debug``: what is captured, and what is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pyconsul.cli import debug

SELF = {"Config": {"Version": "1.10.11"}}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(debug.time, "sleep", slept.append)
    monkeypatch.chdir(tmp_path)
    return slept


def prepare(agent: Any) -> None:
    agent.answer("GET /v1/agent/self", SELF)
    agent.answer("GET /v1/agent/members", [{"Name": "n1"}])
    agent.answer("GET /v1/agent/host", {"CPU": []})
    agent.answer("GET /v1/agent/metrics", {"Gauges": []})


def test_what_is_chosen_is_captured_each_interval(
    agent: Any, run: Any, short: list[float], tmp_path: Path
) -> None:
    prepare(agent)
    chosen = ["metrics", "agent", "members"]
    status, out, err = run(
        "debug", "-duration=15s", "-interval=5s", "-output=out",
        *(f"-capture={one}" for one in chosen),
    )  # fmt: skip
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:6] == [
        "==> Starting debugger and capturing static information...",
        "     Agent Version: '1.10.11'",
        "          Interval: '5s'",
        "          Duration: '15s'",
        "            Output: 'out.tar.gz'",
        "           Capture: 'metrics, agent, cluster'",
    ]
    assert [line.split(" 2")[0] for line in lines[6:-1]] == [
        "==> Beginning capture interval",
        "==> Capture successful",
    ] * 3
    assert lines[-1] == "    Saved debug archive: out.tar.gz"
    assert len(short) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["out.tar.gz"]
    with tarfile.open("out.tar.gz") as archive:
        names = archive.getnames()
        index = archive.extractfile("out/index.json")
        assert index is not None
        assert json.load(index)["targets"] == ["metrics", "agent", "cluster"]
    files = {name.rpartition("/")[2] for name in names}
    assert {"agent.json", "cluster.json", "index.json", "metrics.json"} <= files
    assert "host.json" not in files


def test_without_an_archive_the_directory_stays(agent: Any, run: Any) -> None:
    prepare(agent)
    command = ("debug", "-duration=10s", "-interval=10s", "-capture=host")
    status, out, _ = run(*command, "-archive=false", "-output=kept")
    assert (status, out.splitlines()[-1]) == (0, "    Saved debug directory: kept")
    assert {one.name for one in Path("kept").iterdir()} >= {"host.json", "index.json"}
    status, _, err = run(*command, "-output=kept")
    assert status == 1
    assert err == (
        "==> Capture validation failed: output directory already exists: kept\n"
    )


def test_profiles_need_an_agent_that_has_them(agent: Any, run: Any) -> None:
    prepare(agent)
    command = ("debug", "-duration=10s", "-interval=10s", "-output=p")
    status, out, err = run(*command, "-capture=pprof")
    assert status == 1
    assert "Set enable_debug to true" in out
    assert "nothing is left" in err
    agent.answer("GET /debug/pprof/", b"heap\n")
    for name in ("heap", "goroutine", "profile?seconds=10", "trace?seconds=10"):
        agent.answer(f"GET /debug/pprof/{name}", name.encode())
    assert run(*command, "-capture=pprof")[0] == 0
    with tarfile.open("p.tar.gz") as archive:
        names = {name.rpartition("/")[2] for name in archive.getnames()}
    assert names >= {"heap.prof", "goroutine.prof", "profile.prof", "trace.out"}


def test_what_fails_is_told_and_the_rest_captured(agent: Any, run: Any) -> None:
    prepare(agent)
    agent.answer("GET /v1/agent/metrics", b"no", 500)
    status, out, _ = run(
        "debug", "-duration=10s", "-interval=10s", "-capture=metrics", "-output=f"
    )
    assert status == 0
    failed = "==> Error capturing: Error capturing metrics.json: "
    assert f"{failed}Unexpected response code: 500 (no)" in out
    assert "Capture successful" not in out


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("-duration=9s", "duration must be longer than 10s"),
        ("-interval=4s", "interval must be longer than 5s"),
        ("-capture=nope", "target not found: nope"),
    ],
)
def test_bad_flags_are_refused(agent: Any, run: Any, flag: str, text: str) -> None:
    error = f"==> Capture validation failed: {text}\n"
    assert run("debug", flag) == (1, "", error)
    assert agent.asked == []


def test_an_agent_that_is_down_is_told(agent: Any, run: Any) -> None:
    agent.down = True
    status, out, err = run("debug")
    assert (status, out) == (1, "")
    assert err.startswith(
        "==> Capture validation failed: error querying target agent: "
    )


def test_durations_are_printed_as_go_does() -> None:
    text = debug._seconds_text  # pyright: ignore[reportPrivateUsage]
    assert [text(one) for one in (5.0, 90.0, 120.0, 3600.0, 0.5)] == [
        "5s", "1m30s", "2m0s", "1h0m0s", "0.5s",
    ]  # fmt: skip
