"""Commands of checks: what forks, hangs, floods or cannot be run harms nobody."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest

from pyconsul.agent.checks.os_service import OsServiceProbe, judge
from pyconsul.agent.checks.runner import Gate, OverdueError, Probe, TimedRunner
from pyconsul.agent.checks.script import ScriptProbe
from pyconsul.agent.checks.status import Thresholds


def script(folder: Path, text: str, mode: int = 0o700) -> str:
    path = folder / "check.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


def ignore(status: str, output: str) -> None:
    """Take a result nobody looks at."""


def gone(pid: int) -> bool:
    """Say whether a process is no more; a zombie of init counts as gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def eventually_gone(pid: int) -> bool:
    for _ in range(6000):
        if gone(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def test_what_a_script_leaves_behind_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    path = script(tmp_path, f"sleep 60 & echo $! > {pid_file}; echo done")

    async def run() -> tuple[str, str]:
        result = await ScriptProbe([path], 20, 100).run()
        assert await eventually_gone(int(pid_file.read_text()))
        return result

    assert asyncio.run(run()) == ("passing", "done\n")


def test_a_timeout_kills_the_whole_group_and_shows_the_output(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    path = script(tmp_path, f"echo hi; sleep 60 & echo $! > {pid_file}; wait")

    async def run() -> None:
        with pytest.raises(OverdueError) as raised:
            await ScriptProbe([path], 2.5, 100).run()
        assert str(raised.value) == "Timed out (2.5s) running check\n\nhi\n"
        assert await eventually_gone(int(pid_file.read_text()))

    asyncio.run(run())


def test_stopping_a_check_kills_its_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    path = script(tmp_path, f"echo $$ > {pid_file}; exec sleep 60")

    async def run() -> None:
        probe = ScriptProbe([path], 60, 100)
        runner = TimedRunner("s", probe, 0.001, Thresholds(), ignore, Gate(), Random(1))
        runner.start()
        for _ in range(6000):
            if pid_file.exists() and pid_file.read_text().strip():
                break
            await asyncio.sleep(0.01)
        runner.stop()
        assert await eventually_gone(int(pid_file.read_text()))

    asyncio.run(run())


def test_a_flood_is_read_in_bounds_and_the_loop_stays_free() -> None:
    program = "import sys\nwhile 1: sys.stdout.write('y' * 65536)"
    probe = ScriptProbe([sys.executable, "-c", program], 3.0, 64)

    async def run() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticker = asyncio.ensure_future(tick())
        with pytest.raises(OverdueError) as raised:
            await probe.run()
        ticker.cancel()
        text = str(raised.value)
        assert text.startswith("Timed out (3s) running check\n\nCaptured 64 of ")
        assert text.endswith("y" * 64)
        total = int(text.split(" of ")[1].split()[0])
        assert total < 16 << 20
        return ticks

    assert asyncio.run(run()) > 20


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("{folder}/check.sh", "permission denied"),
        ("{folder}/none", "no such file or directory"),
        ("no-such-command", "executable file not found in $PATH"),
        ("{folder}", "permission denied"),
    ],
)
def test_what_cannot_be_run_says_why(tmp_path: Path, program: str, text: str) -> None:
    script(tmp_path, "true", 0o600)
    probe = ScriptProbe([program.format(folder=tmp_path)], 5, 100)
    with pytest.raises(OSError, match="exec") as raised:
        asyncio.run(probe.run())
    assert str(raised.value).endswith(text)


def test_a_script_killed_by_a_signal_is_critical(tmp_path: Path) -> None:
    path = script(tmp_path, "kill -9 $$")
    assert asyncio.run(ScriptProbe([path], 20, 9).run()) == ("critical", "signal: 9")


def test_a_timeout_goes_round_the_thresholds(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def run() -> None:
        runner = TimedRunner(
            "s",
            ScriptProbe(["sleep", "60"], 0.05, 9),
            1.0,
            Thresholds(failures_before_critical=5),
            lambda status, output: seen.append((status, output)),
            Gate(),
            Random(1),
        )
        runner.report("passing", "")
        status, output, at_once = await runner.probe()
        runner.report(status, output, at_once=at_once)

    asyncio.run(run())
    assert seen[1] == ("critical", "Timed out (50ms) running check")


def test_only_so_many_commands_run_at_once() -> None:
    async def run() -> int:
        most = now = 0
        ended = asyncio.Event()
        done = 0

        class Busy(Probe):
            timeout = 5.0
            is_command = True

            async def run(self) -> tuple[str, str]:
                nonlocal most, now, done
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1
                done += 1
                if done == 20:
                    ended.set()
                return "passing", ""

        gate = Gate(commands=3)
        runners = [
            TimedRunner(str(at), Busy(), 0.001, Thresholds(), ignore, gate, Random(at))
            for at in range(20)
        ]
        for runner in runners:
            runner.start()
        await ended.wait()
        for runner in runners:
            runner.stop()
        return most

    assert asyncio.run(run()) == 3


def test_states_of_a_unit() -> None:
    def shown(load: str, active: str, sub: str) -> tuple[str, str]:
        text = f"LoadState={load}\nActiveState={active}\nSubState={sub}\n"
        return judge("web", text)

    assert shown("loaded", "active", "running") == (
        "passing",
        'Service "web" is running: active (running)',
    )
    assert shown("loaded", "activating", "auto-restart")[0] == "warning"
    assert shown("loaded", "failed", "failed") == (
        "critical",
        'Service "web" is not running: failed (failed)',
    )
    assert shown("not-found", "inactive", "dead") == (
        "critical",
        'Service "web" does not exist',
    )


def test_systemctl_is_asked_for_one_unit(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        'test "$4" = "-web" || exit 3\n'
        "echo LoadState=loaded; echo ActiveState=active; echo SubState=running",
    )
    probe = OsServiceProbe("-web", 20, path)
    assert asyncio.run(probe.run())[0] == "passing"
    status, output = asyncio.run(OsServiceProbe("other", 20, path).run())
    assert (status, output) == (
        "critical",
        'Could not ask systemd for service "other": ',
    )
    status, output = asyncio.run(OsServiceProbe("web", 20, "no-systemctl").run())
    assert status == "critical"
    assert "need systemd" in output
